package safetensors

import (
	"fmt"
	"slices"
	"strings"
)

// DiffError lists all in which tensors differ from those wanted.
type DiffError struct {
	Missing []string // "blocks.0.query.lora_A [8 384]"
	Extra   []string
	Shapes  []string // "blocks.0.query.lora_B is [384 4], want [384 8]"
}

func (e *DiffError) Error() string {
	const most = 10 // of a kind: more of the same says no more
	var lines []string
	for _, p := range []struct {
		what string
		of   []string
	}{{"missing", e.Missing}, {"not wanted", e.Extra}, {"of another shape", e.Shapes}} {
		if len(p.of) == 0 {
			continue
		}
		lines = append(lines, fmt.Sprintf("%d %s:", len(p.of), p.what))
		for _, s := range p.of[:min(len(p.of), most)] {
			lines = append(lines, "  "+s)
		}
		if n := len(p.of) - most; n > 0 {
			lines = append(lines, fmt.Sprintf("  and %d more", n))
		}
	}
	return "the tensors are not those wanted\n" + strings.Join(lines, "\n")
}

// Match compares names and shapes; the types of the elements and the data do
// not matter. The error is a *DiffError.
func Match(want, got []Tensor) error {
	of := make(map[string]Tensor, len(got))
	for _, t := range got {
		of[t.Name] = t
	}
	text := func(t Tensor) string { return fmt.Sprintf("%s %v", t.Name, t.Shape) }
	var diff DiffError
	for _, w := range want {
		t, ok := of[w.Name]
		switch {
		case !ok:
			diff.Missing = append(diff.Missing, text(w))
		case !slices.Equal(t.Shape, w.Shape):
			diff.Shapes = append(diff.Shapes, fmt.Sprintf("%s is %v, want %v", w.Name, t.Shape, w.Shape))
		}
		delete(of, w.Name)
	}
	for _, t := range of {
		diff.Extra = append(diff.Extra, text(t))
	}
	slices.Sort(diff.Extra)
	if len(diff.Missing)+len(diff.Extra)+len(diff.Shapes) > 0 {
		return &diff
	}
	return nil
}
