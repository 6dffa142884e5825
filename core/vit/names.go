package vit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

// names of a family's tensors, as Hugging Face publishes them. Those inside a
// block stand below "encoder.layer.N.".
type names struct {
	norm1, norm2   string
	fc1, fc2       string
	scale1, scale2 string // layer scale; "" where the family has none
	ignored        []string
}

const (
	nameCLS    = "embeddings.cls_token"
	nameDistil = "embeddings.distillation_token"
	nameRegs   = "embeddings.register_tokens"
	namePos    = "embeddings.position_embeddings"
	namePatch  = "embeddings.patch_embeddings.projection"
	nameQuery  = "attention.attention.query"
	nameKey    = "attention.attention.key"
	nameValue  = "attention.attention.value"
	nameOutput = "attention.output.dense"
	nameNorm   = "layernorm"
)

// Parts of published files that segmentation has no use for: the pooler behind
// the CLS token, the classifier, the token of masked pretraining.
var families = map[string]names{
	"vit": {
		norm1: "layernorm_before", norm2: "layernorm_after",
		fc1: "intermediate.dense", fc2: "output.dense",
		ignored: []string{"pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias", "embeddings.mask_token"},
	},
	"deit": {
		norm1: "layernorm_before", norm2: "layernorm_after",
		fc1: "intermediate.dense", fc2: "output.dense",
		ignored: []string{
			"pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias",
			"cls_classifier.weight", "cls_classifier.bias", "distillation_classifier.weight", "distillation_classifier.bias",
			"embeddings.mask_token",
		},
	},
	"dinov2": {
		norm1: "norm1", norm2: "norm2",
		fc1: "mlp.fc1", fc2: "mlp.fc2",
		scale1: "layer_scale1.lambda1", scale2: "layer_scale2.lambda1",
		ignored: []string{"classifier.weight", "classifier.bias", "embeddings.mask_token"},
	},
}

// Families lists the architectures that Load knows.
func Families() []string {
	out := make([]string, 0, len(families))
	for f := range families {
		out = append(out, f)
	}
	slices.Sort(out)
	return out
}

func blockName(i int, rest string) string { return fmt.Sprintf("encoder.layer.%d.%s", i, rest) }

// expected is every tensor of an architecture with its shape.
func expected(a *spec.Architecture, n names) map[string][]int64 {
	d, mlp, p := int64(a.Dim), int64(a.Mlp), int64(a.Patch)
	out := map[string][]int64{
		nameCLS:               {1, 1, d},
		namePos:               {1, a.Placed() + int64(a.GridH)*int64(a.GridW), d},
		namePatch + ".weight": {d, 3, p, p},
		namePatch + ".bias":   {d},
		nameNorm + ".weight":  {d},
		nameNorm + ".bias":    {d},
	}
	if a.Distilled() {
		out[nameDistil] = []int64{1, 1, d}
	}
	if a.Registers > 0 {
		out[nameRegs] = []int64{1, int64(a.Registers), d}
	}
	linear := func(name string, rows, cols int64, bias bool) {
		out[name+".weight"] = []int64{rows, cols}
		if bias {
			out[name+".bias"] = []int64{rows}
		}
	}
	for i := range int(a.Depth) {
		for _, s := range []string{nameQuery, nameKey, nameValue} {
			linear(blockName(i, s), d, d, a.QkvBias)
		}
		linear(blockName(i, nameOutput), d, d, true)
		linear(blockName(i, n.fc1), mlp, d, true)
		linear(blockName(i, n.fc2), d, mlp, true)
		for _, s := range []string{n.norm1, n.norm2} {
			out[blockName(i, s)+".weight"] = []int64{d}
			out[blockName(i, s)+".bias"] = []int64{d}
		}
		if n.scale1 != "" {
			out[blockName(i, n.scale1)] = []int64{d}
			out[blockName(i, n.scale2)] = []int64{d}
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

// match pairs every expected name with its tensor. The file may put all names
// below the model's own, "vit.", as models with a classifier do.
func match(path string, f *safetensors.File, a *spec.Architecture) (map[string]safetensors.Tensor, error) {
	n, ok := families[a.Family]
	if !ok {
		return nil, fmt.Errorf("reading %s: family %q is not one of %s", path, a.Family, strings.Join(Families(), ", "))
	}
	want := expected(a, n)
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
