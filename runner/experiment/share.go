package experiment

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/search/space"
)

// Which points of a space can be trained. A value that is wrong at every point is a
// mistake of the file. A combination that is wrong, such as blocks that do not divide
// a layer, is never drawn, and the plan says how much of the space that leaves.

const (
	// countedMost is how many points a space has at most that is counted whole.
	countedMost = 2000
	// drawnPoints estimate the share of a larger one.
	drawnPoints = 1000
	// levels is how many values of a number they have at most.
	levels = 8
)

// A Share is the part of a space that can be drawn.
type Share struct {
	Points int `json:"points"`
	Valid  int `json:"valid"`
	// Whole says that these are all points of the space, and not a sample.
	Whole bool `json:"whole"`
}

// Fraction is the share as a number.
func (s Share) Fraction() float64 { return float64(s.Valid) / float64(max(s.Points, 1)) }

// checkPoints counts the points of a study that can be trained, and reports values
// that none of them has.
func (x *expansion) checkPoints(s *Study) {
	var points []space.Point
	if s.Share.Whole = s.Space.Size() <= countedMost; s.Share.Whole {
		for p := range s.Space.Points() {
			points = append(points, slices.Clone(p))
		}
	} else {
		r := rng.New(0, "share", s.Cell)
		for range drawnPoints {
			points = append(points, s.Space.Draw(func() float64 {
				// Of numbers without a step some are enough. Each that is another costs an
				// evaluation where the file computes from it.
				return math.Floor(r.Float64()*levels) / (levels - 1)
			}))
		}
	}
	valid, first := x.valid(s, points)
	s.Share.Points = len(points)
	for _, ok := range valid {
		if ok {
			s.Share.Valid++
		}
	}
	if s.Share.Valid == len(points) {
		return
	}
	// Values that no valid point has. Of a range, its ends.
	bad := false
	for i, p := range s.params {
		for v := range p.Choices {
			if slices.ContainsFunc(points, func(q space.Point) bool { return q[i] == float64(v) }) &&
				!slices.ContainsFunc(indices(valid), func(j int) bool { return points[j][i] == float64(v) }) {
				bad = true
				x.blame(s, p, points, i, v)
			}
		}
	}
	if s.Share.Valid == 0 && !bad {
		message, hint := "no point of the space can be trained", ""
		if len(first) > 0 {
			message, hint = message+"; the first: "+first[0].Message, first[0].Hint
		}
		at := []string{x.name, searchField, spaceField}
		x.failLabel(strings.Join(at, "."), x.labelAt(at), message, hint)
	}
}

func indices(valid []bool) (all []int) {
	for i, ok := range valid {
		if ok {
			all = append(all, i)
		}
	}
	return all
}

// blame reports a value that no point can have: what is wrong with the cell that has
// it, or with a point that has.
func (x *expansion) blame(s *Study, p *parameter, points []space.Point, i, v int) {
	q := points[slices.IndexFunc(points, func(q space.Point) bool { return q[i] == float64(v) })]
	if whole, _ := x.completed(s, []Setting{{p.Name, p.Choices[v]}}); whole != nil {
		if at, err := s.Encode(whole); err == nil {
			q = at
		}
	}
	text, _ := json.Marshal(p.Choices[v])
	message, hint := fmt.Sprintf("%s of %q cannot be trained at any point", text, p.Name), ""
	if _, found := x.valid(s, []space.Point{q}); len(found) > 0 {
		message, hint = fmt.Sprintf("%s of %q: %s", text, p.Name, found[0].Message), found[0].Hint
	}
	at := append(slices.Clone(p.at), "choice")
	x.failLabel(strings.Join(p.at, "."), x.elementAt(at, v), message, hint)
}

// valid reports which points make a run that can be trained, and what is wrong with
// the first that does not. Points that agree in what is checked are checked once.
func (x *expansion) valid(s *Study, points []space.Point) (valid []bool, first diagnostic.List) {
	y, done := x.apart(x.resolve.ctx, s.Seeds)
	defer done()
	valid = make([]bool, len(points))
	cells := make([]*cell, len(points))
	// One override for each value, so that cells share what follows from it.
	fixed := make([]*override, len(s.fixed))
	for i, o := range s.fixed {
		own := *o
		fixed[i] = &own
	}
	known := map[string]*override{}
	for i, p := range points {
		c := &cell{subject: subject{name: fmt.Sprintf("point %d", i)}}
		for j, v := range p {
			if !space.Active(v) {
				continue
			}
			key := fmt.Sprint(j, " ", v)
			o := known[key]
			if o == nil {
				q := s.Space.Param(j)
				text, err := settingText(q.Decode(v))
				if err != nil {
					continue
				}
				o = newOverride(cuePath(q.Name), y.cue.CompileBytes(text), s.params[j].label)
				o.at, known[key] = s.params[j].label, o
			}
			c.overlay = append(c.overlay, o)
		}
		c.overlay = append(c.overlay, fixed...)
		cells[i] = c
		if len(c.overlay) == 0 {
			c.tree, c.config = y.baseCell.tree, y.baseCell.config
		}
	}
	sound := slices.DeleteFunc(slices.Clone(cells), func(c *cell) bool { return c == nil })
	y.total = len(sound)
	y.evaluate(y.baseCell, sound)
	for i, c := range cells {
		if c == nil || c.config == nil {
			continue
		}
		before := y.errorCount()
		y.prepare([]*cell{c})
		y.check(c)
		if valid[i] = y.errorCount() == before; valid[i] && s.Trainable > 0 {
			run, err := y.run(c, s.Seeds[0])
			if valid[i] = err == nil; valid[i] {
				n, err := Trainable(run.Spec)
				valid[i] = err == nil && n <= s.Trainable
			}
		}
	}
	for _, d := range y.found {
		if !d.Warning {
			first = append(first, d)
		}
	}
	return valid, first
}

// Trainable counts the parameters of adapter and head that train.
func Trainable(s *spec.RunSpec) (int64, error) {
	tensors, err := params.Of(s)
	if err != nil {
		return 0, err
	}
	return params.Trained(tensors, params.Adapter) + params.Trained(tensors, params.Head), nil
}
