package adapter

import (
	"fmt"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/torch"
)

// Stored lists the parameters that a file of these adapters holds: all but
// those that come again from their initialiser. Frozen ones are among them,
// because what an initialiser draws must not have to stay the same for ever.
func (s *Set) Stored() []*Param {
	return slices.DeleteFunc(slices.Clone(s.Params), func(p *Param) bool { return p.Derived })
}

// DiffError lists all in which a file of adapters is not what a run needs.
type DiffError struct {
	Missing, Extra []string
	Shapes         []string // "blocks.0.query.lora_A is [4 384], want [8 384]"
}

func (e *DiffError) Error() string {
	var parts []string
	for _, p := range []struct {
		what string
		of   []string
	}{{"missing", e.Missing}, {"not part of the adapter", e.Extra}, {"of another shape", e.Shapes}} {
		if len(p.of) > 0 {
			parts = append(parts, fmt.Sprintf("%d %s:\n  %s", len(p.of), p.what, strings.Join(p.of, "\n  ")))
		}
	}
	return "the tensors are not those of the adapter\n" + strings.Join(parts, "\n")
}

// Assign gives every stored parameter the value of its name among values; with
// anything missing, left over or of another shape it changes nothing and
// returns a *DiffError.
func (s *Set) Assign(values []safetensors.Tensor) error {
	of := make(map[string]safetensors.Tensor, len(values))
	for _, v := range values {
		of[v.Name] = v
	}
	var diff DiffError
	stored := s.Stored()
	for _, p := range stored {
		v, ok := of[p.Name]
		switch {
		case !ok:
			diff.Missing = append(diff.Missing, fmt.Sprintf("%s %v", p.Name, p.T.Shape()))
		case !slices.Equal(v.Shape, p.T.Shape()):
			diff.Shapes = append(diff.Shapes, fmt.Sprintf("%s is %v, want %v", p.Name, v.Shape, p.T.Shape()))
		}
		delete(of, p.Name)
	}
	for name, v := range of {
		diff.Extra = append(diff.Extra, fmt.Sprintf("%s %v", name, v.Shape))
	}
	slices.Sort(diff.Extra)
	if len(diff.Missing)+len(diff.Extra)+len(diff.Shapes) > 0 {
		return &diff
	}
	for _, v := range values {
		p := s.byName[v.Name]
		if err := assign(p.T, v); err != nil {
			return fmt.Errorf("%s: %w", v.Name, err)
		}
	}
	return nil
}

// assign copies a value of any number type; positions have to be int64.
func assign(to *torch.Tensor, v safetensors.Tensor) error {
	if (to.DType() == torch.Int64) != (v.DType == safetensors.I64) {
		return fmt.Errorf("is %s, want %s", v.DType, to.DType())
	}
	dt, ok := map[safetensors.DType]torch.DType{
		safetensors.F32: torch.Float32, safetensors.F64: torch.Float64, safetensors.BF16: torch.BFloat16, safetensors.I64: torch.Int64,
	}[v.DType]
	var floats []float32
	if !ok {
		var err error
		if floats, err = v.Float32(); err != nil {
			return err
		}
	}
	dev := to.Device()
	dev.Scope(func() {
		if ok {
			to.Assign(dev.View(v.Data, dt, v.Shape...))
		} else {
			to.Assign(torch.Of(dev, floats, v.Shape...))
		}
	})
	return nil
}

// Tensors copies the stored parameters off the device, for a file.
func (s *Set) Tensors() []safetensors.Tensor {
	var out []safetensors.Tensor
	for _, p := range s.Stored() {
		dt := map[torch.DType]safetensors.DType{
			torch.Float32: safetensors.F32, torch.Float64: safetensors.F64, torch.Int64: safetensors.I64,
		}[p.T.DType()]
		out = append(out, safetensors.Tensor{Name: p.Name, DType: dt, Shape: p.T.Shape(), Data: p.T.Bytes()})
	}
	return out
}
