package experiment

import (
	"fmt"
	"slices"
	"strings"

	"github.com/loralab/loralab/runner/diagnostic"
)

// An Excerpt is a point as a part of the file of its experiment.
type Excerpt struct {
	// Place is where it belongs: "e", "cases", "lora".
	Place  []string
	Fields []ExcerptField
	// Case says that it is a case in place of a cell of vary, zip or ablate, which has
	// no place of its own in the file.
	Case bool
}

// An ExcerptField is a value of a part.
type ExcerptField struct {
	Labels []string // below the place: "optim", "lr", "adapter"
	Value  any
	// In is where the file has another value for that, which has to go; without a file
	// there is none.
	In diagnostic.Position
}

// Excerpt is a point as a part of the file. With it, and without the search, the cell has
// the runs that the search compares.
func (s *Study) Excerpt(point []Setting) (*Excerpt, error) {
	p := &Excerpt{Place: []string{s.Experiment}}
	from := FromFile
	name := strings.NewReplacer("/", "_", `\`, "_").Replace(s.Cell)
	x := s.of.expansion
	switch {
	case s.cell.values != nil:
		p.Case, from = true, ""
		for _, v := range s.cell.values {
			if !slices.ContainsFunc(point, func(g Setting) bool { return g.Path == v.Path }) {
				p.Fields = append(p.Fields, ExcerptField{Labels: plain(v.Path), Value: v.Value})
			}
		}
		p.Place = append(p.Place, "cases", name)
	case len(x.fields([]string{x.name, "cases", quoteLabel(name)})) > 0:
		p.Place, from = append(p.Place, "cases", name), FromCell
	}
	values, err := s.of.Values(s.Cell)
	if err != nil {
		return nil, fmt.Errorf("finding the values of %s/%s: %w", s.Experiment, s.Cell, err)
	}
	for _, g := range point {
		f := ExcerptField{Labels: plain(g.Path), Value: g.Value}
		for _, v := range values {
			if v.From == from && slices.Equal(plain(v.Path), f.Labels) {
				f.In = v.At
			}
		}
		p.Fields = append(p.Fields, f)
	}
	return p, nil
}

// Starts reports whether the search of the study may start with a point: a path that
// the point leaves out has the value of the cell.
func (s *Study) Starts(point []Setting) bool {
	whole, _ := s.of.expansion.completed(s, point)
	return whole != nil
}

// plain are the names of a path.
func plain(path string) (names []string) {
	for _, name := range cuePath(path) {
		names = append(names, label(name))
	}
	return names
}
