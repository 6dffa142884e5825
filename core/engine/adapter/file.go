package adapter

import (
	"fmt"
	"slices"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/safetensors"
)

// Stored lists the parameters that a file of these adapters holds: all but
// those that come again from their initialiser. Frozen ones are among them,
// because what an initialiser draws must not have to stay the same for ever.
func (s *Set) Stored() []*Param {
	return slices.DeleteFunc(slices.Clone(s.Params), func(p *Param) bool { return p.Derived })
}

// Assign gives every stored parameter the value of its name among values. With
// anything missing, left over or of another shape it changes nothing and
// returns a *safetensors.DiffError.
func (s *Set) Assign(values []safetensors.Tensor) error {
	var want []safetensors.Tensor
	for _, p := range s.Stored() {
		want = append(want, safetensors.Tensor{Name: p.Name, Shape: p.T.Shape()})
	}
	if err := safetensors.Match(want, values); err != nil {
		return err
	}
	for _, v := range values {
		if err := assign(s.byName[v.Name].T, v); err != nil {
			return fmt.Errorf("%s: %w", v.Name, err)
		}
	}
	s.Changed()
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
