// Package tensors knows the tensors that a published backbone holds, by their names
// and shapes, in pure Go: a file that does not fit is found before an engine is
// started.
package tensors

import (
	"fmt"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

// Names of a family's tensors inside a block, which lie below "encoder.layer.N.".
type Names struct {
	Norm1, Norm2   string
	FC1, FC2       string
	Scale1, Scale2 string // layer scale; "" where the family has none
	ignored        []string
}

// Names outside blocks, and of the parts of attention in a block.
const (
	CLS          = "embeddings.cls_token"
	Distillation = "embeddings.distillation_token"
	Registers    = "embeddings.register_tokens"
	Positions    = "embeddings.position_embeddings"
	Patches      = "embeddings.patch_embeddings.projection"
	Query        = "attention.attention.query"
	Key          = "attention.attention.key"
	Value        = "attention.attention.value"
	Output       = "attention.output.dense"
	Norm         = "layernorm"
)

// Parts of published files that segmentation has no use for: the pooler behind
// the CLS token, the classifier, the token and the decoder of masked pretraining.
var families = map[string]Names{
	"vit": {
		Norm1: "layernorm_before", Norm2: "layernorm_after",
		FC1: "intermediate.dense", FC2: "output.dense",
		ignored: []string{"pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias", "embeddings.mask_token", "decoder.0.weight", "decoder.0.bias"},
	},
	"deit": {
		Norm1: "layernorm_before", Norm2: "layernorm_after",
		FC1: "intermediate.dense", FC2: "output.dense",
		ignored: []string{
			"pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias",
			"cls_classifier.weight", "cls_classifier.bias", "distillation_classifier.weight", "distillation_classifier.bias",
			"embeddings.mask_token", "decoder.0.weight", "decoder.0.bias",
		},
	},
	"dinov2": {
		Norm1: "norm1", Norm2: "norm2",
		FC1: "mlp.fc1", FC2: "mlp.fc2",
		Scale1: "layer_scale1.lambda1", Scale2: "layer_scale2.lambda1",
		ignored: []string{"classifier.weight", "classifier.bias", "embeddings.mask_token"},
	},
}

// Of returns the names of a family.
func Of(family string) (Names, bool) {
	n, ok := families[family]
	return n, ok
}

// Families lists those that are known.
func Families() []string {
	out := make([]string, 0, len(families))
	for f := range families {
		out = append(out, f)
	}
	slices.Sort(out)
	return out
}

// Block is the name of a tensor inside a block.
func Block(i int, rest string) string { return fmt.Sprintf("encoder.layer.%d.%s", i, rest) }

// Expected is every tensor of an architecture of a known family, with its shape.
func Expected(a *spec.Architecture) map[string][]int64 {
	n := families[a.Family]
	d, mlp, p := int64(a.Dim), int64(a.Mlp), int64(a.Patch)
	out := map[string][]int64{
		CLS:                 {1, 1, d},
		Positions:           {1, a.Placed() + int64(a.GridH)*int64(a.GridW), d},
		Patches + ".weight": {d, 3, p, p},
		Patches + ".bias":   {d},
		Norm + ".weight":    {d},
		Norm + ".bias":      {d},
	}
	if a.Distilled() {
		out[Distillation] = []int64{1, 1, d}
	}
	if a.Registers > 0 {
		out[Registers] = []int64{1, int64(a.Registers), d}
	}
	linear := func(name string, rows, cols int64, bias bool) {
		out[name+".weight"] = []int64{rows, cols}
		if bias {
			out[name+".bias"] = []int64{rows}
		}
	}
	for i := range int(a.Depth) {
		for _, s := range []string{Query, Key, Value} {
			linear(Block(i, s), d, d, a.QkvBias)
		}
		linear(Block(i, Output), d, d, true)
		linear(Block(i, n.FC1), mlp, d, true)
		linear(Block(i, n.FC2), d, mlp, true)
		for _, s := range []string{n.Norm1, n.Norm2} {
			out[Block(i, s)+".weight"] = []int64{d}
			out[Block(i, s)+".bias"] = []int64{d}
		}
		if n.Scale1 != "" {
			out[Block(i, n.Scale1)] = []int64{d}
			out[Block(i, n.Scale2)] = []int64{d}
		}
	}
	return out
}

// MismatchError is the difference between what an architecture needs and what a
// file holds, all of it.
type MismatchError struct {
	Path       string
	Family     string
	Missing    []string
	Unexpected []string
	Misshapen  []Misshapen
}

// Misshapen is a tensor of another shape, or of a type that is no weight's.
type Misshapen struct {
	Name      string
	Got, Want []int64
	DType     string
}

func (e *MismatchError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s does not fit the %s architecture asked for", e.Path, e.Family)
	part := func(what string, names []string) {
		if len(names) == 0 {
			return
		}
		fmt.Fprintf(&b, "\n  %d %s:", len(names), what)
		// A wrong depth or family brings hundreds; the fields have them all.
		for _, n := range names[:min(len(names), 12)] {
			fmt.Fprintf(&b, "\n    %s", n)
		}
		if more := len(names) - 12; more > 0 {
			fmt.Fprintf(&b, "\n    and %d more", more)
		}
	}
	part("missing", e.Missing)
	part("unexpected", e.Unexpected)
	shapes := make([]string, len(e.Misshapen))
	for i, m := range e.Misshapen {
		shapes[i] = fmt.Sprintf("%s is %s %v, wanted %v", m.Name, m.DType, m.Got, m.Want)
	}
	part("misshapen", shapes)
	return b.String()
}

// Match pairs every expected name with its tensor. The file may put all names
// below the model's own, "vit.", as models with a classifier do.
func Match(path string, f *safetensors.File, a *spec.Architecture) (map[string]safetensors.Tensor, error) {
	n, ok := families[a.Family]
	if !ok {
		return nil, fmt.Errorf("reading %s: family %q is not one of %s", path, a.Family, strings.Join(Families(), ", "))
	}
	want := Expected(a)
	found := make(map[string]safetensors.Tensor, len(want))
	diff := &MismatchError{Path: path, Family: a.Family}
	for _, name := range f.Names() {
		t, _ := f.Get(name)
		plain := strings.TrimPrefix(strings.TrimPrefix(name, a.Family+"."), "dinov2_with_registers.")
		shape, ok := want[plain]
		switch {
		case !ok && slices.Contains(n.ignored, plain):
		case !ok:
			diff.Unexpected = append(diff.Unexpected, name)
		case found[plain].Name != "": // with and without prefix
			diff.Unexpected = append(diff.Unexpected, name)
		case !slices.Equal(t.Shape, shape) || !floating(t.DType):
			diff.Misshapen = append(diff.Misshapen, Misshapen{Name: name, Got: t.Shape, Want: shape, DType: string(t.DType)})
			found[plain] = t
		default:
			found[plain] = t
		}
	}
	for name := range want {
		if found[name].Name == "" {
			diff.Missing = append(diff.Missing, name)
		}
	}
	slices.Sort(diff.Missing)
	if len(diff.Missing)+len(diff.Unexpected)+len(diff.Misshapen) > 0 {
		return nil, diff
	}
	return found, nil
}

func floating(d safetensors.DType) bool {
	switch d {
	case safetensors.F64, safetensors.F32, safetensors.F16, safetensors.BF16:
		return true
	}
	return false
}
