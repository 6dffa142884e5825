package design

import (
	"fmt"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

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

// Match pairs the tensors that an architecture has with those of a file, by their
// names. The file may put all names below the model's own, "vit.", as models with a
// task do. A file that does not fit is a *MismatchError.
func Match(path string, f *safetensors.File, a *spec.Architecture) (map[string]safetensors.Tensor, error) {
	r, err := Of(a)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	want, err := Shapes(a)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	found := make(map[string]safetensors.Tensor, len(want))
	diff := &MismatchError{Path: path, Family: a.Family}
	for _, name := range f.Names() {
		t, _ := f.Get(name)
		plain := r.Plain(name)
		shape, ok := want[plain]
		switch {
		case !ok && slices.Contains(r.Unused, plain):
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
