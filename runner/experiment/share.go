package experiment

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"cuelang.org/go/cue"

	"github.com/loralab/loralab/core/name"
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
	// resolvedMost is how many combinations they have at most of the parameters that
	// others depend on: each costs an evaluation of the file, or a program of the variant.
	resolvedMost = 48
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
// that none of them has. Where all points train more parameters than the search allows,
// least is how many that with the fewest trains, of those that were looked at.
func (x *expansion) checkPoints(s *Study) (least int64) {
	costly, referred := x.costly(s)
	var points []space.Point
	if s.Share.Whole = s.Space.Size() <= countedMost; s.Share.Whole {
		for p := range s.Space.Points() {
			points = append(points, slices.Clone(p))
		}
		s.Share.Whole = combinations(points, referred) <= resolvedMost
	}
	if !s.Share.Whole {
		points = sampled(s.Space, costly, s.Cell)
	}
	fit, first, trained := x.fits(s, points)
	s.Share.Points = len(points)
	for _, f := range fit {
		if f == fits {
			s.Share.Valid++
		}
	}
	// Values that no valid point has. Of a range, its ends, which few points have.
	bad := x.checkEnds(s, points, fit)
	if s.Share.Valid == len(points) {
		return 0
	}
	for i, p := range s.params {
		for v := range p.Choices {
			if slices.ContainsFunc(points, func(q space.Point) bool { return q[i] == float64(v) }) &&
				!slices.ContainsFunc(soundPoints(fit), func(j int) bool { return points[j][i] == float64(v) }) {
				bad = true
				x.blame(s, p, points, i, v)
			}
		}
	}
	if s.Share.Valid == 0 && !bad && slices.Contains(fit, large) {
		return trained
	}
	if s.Share.Valid == 0 && !bad {
		message, hint := "no point of the space can be trained", ""
		if len(first) > 0 {
			message, hint = message+"; the first: "+first[0].Message, first[0].Hint
		}
		at := []string{x.name, searchField, spaceField}
		x.failLabel(strings.Join(at, "."), x.labelAt(at), message, hint)
	}
	return 0
}

// fewest is the number of parameters that the smallest point of a study trains.
type fewest struct {
	*Study
	parameters int64
}

// failConstraint reports a constraint that no point of some studies meets, once.
func (x *expansion) failConstraint(few []*fewest) {
	if len(few) == 0 {
		return
	}
	d := diagnostic.Diagnostic{Path: x.name + ".search.constraint", Of: x.total}
	needed, least := int64(0), int64(math.MaxInt64)
	for _, f := range few {
		d.Cells = append(d.Cells, f.Cell)
		needed, least = max(needed, f.parameters), min(least, f.parameters)
	}
	d.Message = fmt.Sprintf("no point trains as few as %d parameters: the smallest trains %d", few[0].Trainable, least)
	if least < needed {
		d.Message += fmt.Sprintf(", and that of another cell %d", needed)
	}
	d.Hint = fmt.Sprintf("write trainable: %d, or more; adapter and head count together", needed)
	x.report(x.mark(d, x.valueAt([]string{x.name, searchField, "constraint", "trainable"})))
}

// costly says of each parameter of a study whether a value of its own costs more than
// to read it: what the file computes from it follows, or a variant draws a program for
// it. Those of the first kind are referred to.
func (x *expansion) costly(s *Study) (costly, referred []bool) {
	if x.refs == nil {
		x.refs = x.references(x.name)
	}
	costly, referred = make([]bool, len(s.params)), make([]bool, len(s.params))
	for i, p := range s.params {
		path := cuePath(p.Name)
		isStruct := x.base().LookupPath(selectors(path)).IncompleteKind() == cue.StructKind ||
			slices.ContainsFunc(p.Choices, func(v any) bool { _, is := v.(map[string]any); return is })
		referred[i] = x.refs.touches(path, isStruct)
		costly[i] = referred[i] || s.Space.Opens(i) || slices.Contains([]string{"adapter", "backbone", "head", "data"}, label(path[0]))
	}
	return costly, referred
}

// combinations counts those of some parameters that points have.
func combinations(points []space.Point, of []bool) int {
	known := map[string]bool{}
	for _, p := range points {
		var key []float64
		for i, v := range p {
			if of[i] {
				key = append(key, v)
			}
		}
		known[fmt.Sprint(key)] = true
	}
	return len(known)
}

// sampled are points of a space at random. The costly parameters have few combinations,
// in a Latin hypercube, so that each of them has all of its levels.
func sampled(of *space.Space, costly []bool, cell string) (points []space.Point) {
	r := rng.New(0, "share", cell)
	few := make([][]float64, of.Len())
	for i := range few {
		for _, k := range r.Permutation(resolvedMost) {
			few[i] = append(few[i], (float64(k)+r.Float64())/resolvedMost)
		}
	}
	for n := range drawnPoints {
		i := -1
		points = append(points, of.Draw(func() float64 {
			i++
			u := r.Float64()
			if costly[i] {
				u = few[i][n%resolvedMost]
			}
			// Of numbers without a step some are enough.
			return math.Floor(u*levels) / (levels - 1)
		}))
	}
	return points
}

// A fitness says whether a point can be trained.
type fitness int

const (
	fits    fitness = iota
	large           // it trains more parameters than the search allows
	wrong           // a check of loralab or a plug-in refuses it
	refused         // the schema refuses it
)

// soundPoints are the points of which nothing is wrong, those included that are too large.
func soundPoints(fit []fitness) (all []int) {
	for i, f := range fit {
		if f <= large {
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
	if _, found, _ := x.fits(s, []space.Point{q}); len(found) > 0 {
		message, hint = fmt.Sprintf("%s of %q: %s", text, p.Name, found[0].Message), found[0].Hint
	}
	at := append(slices.Clone(p.at), "choice")
	x.failLabel(strings.Join(p.at, "."), x.elementAt(at, v), message, hint)
}

// endPoints is how many points an end of a range is looked at in.
const endPoints = 16

// checkEnds reports ends of ranges that the schema refuses wherever a point has them.
// What a plug-in refuses is a value as any other: a rank that does not divide a layer
// is never drawn.
func (x *expansion) checkEnds(s *Study, points []space.Point, fit []fitness) (bad bool) {
	for i, p := range s.params {
		if p.Kind == space.Choice {
			continue
		}
		for _, end := range []struct {
			field string
			value float64
		}{{"low", p.Low}, {"high", p.High}} {
			var at []space.Point
			for j, q := range points {
				if space.Active(q[i]) && (fit[j] <= large || s.Share.Valid == 0) && len(at) < endPoints {
					q = slices.Clone(q)
					q[i] = end.value
					at = append(at, q)
				}
			}
			if len(at) == 0 {
				continue
			}
			if fit, _, _ := x.fits(s, at[:1]); fit[0] != refused && !x.parameterRefuses(s, p, end.value) {
				continue
			}
			fit, found, _ := x.fits(s, at)
			if slices.ContainsFunc(fit, func(f fitness) bool { return f != refused }) && !x.parameterRefuses(s, p, end.value) || len(found) == 0 {
				continue
			}
			bad = true
			x.failLabel(strings.Join(p.at, "."), x.valueAt(append(slices.Clone(p.at), end.field)),
				fmt.Sprintf("%v of %q: %s", end.value, p.Name, found[0].Message), found[0].Hint)
			break
		}
	}
	return bad
}

// parameterRefuses reports whether the schema of the variant refuses a value of one of
// its parameters.
func (x *expansion) parameterRefuses(s *Study, p *parameter, value float64) bool {
	path := cuePath(p.Name)
	if len(path) != 3 || path[0] != "adapter" || path[1] != "params" {
		return false
	}
	of := lookup(x.paramSchema(s.cell.config.Adapter.Variant), path[2:])
	text, err := settingText(p.Decode(value))
	return err == nil && of.Exists() && of.Unify(x.cue.CompileBytes(text)).Validate(cue.Concrete(true)) != nil
}

// fits reports which points can be trained, and what is wrong with the first that
// cannot. Points that agree in what is checked are checked once. Where the search has a
// constraint, least is the number of parameters that the smallest of the points trains.
func (x *expansion) fits(s *Study, points []space.Point) (fit []fitness, first diagnostic.List, least int64) {
	y, done := x.apart(x.resolve.ctx, s.Seeds)
	defer done()
	fit = make([]fitness, len(points))
	counted := map[trainableOn]fitness{}
	for i, c := range y.cellsAt(s, points) {
		if c.config == nil {
			fit[i] = refused
			continue
		}
		before := y.errorCount()
		y.prepare([]*cell{c})
		if y.check(c); y.errorCount() > before {
			fit[i] = wrong
			continue
		}
		if s.Trainable == 0 {
			continue
		}
		key := trainableOn{on: c.config.adapterOn(), head: c.config.Head, data: c.config.Data}
		if len(c.config.Optim.Groups) > 0 {
			key.groups = c.config.Optim
		}
		found, done := counted[key]
		if !done {
			var n int64
			if found, n = y.withinConstraint(s, c); n > 0 && (least == 0 || n < least) {
				least = n
			}
			counted[key] = found
		}
		fit[i] = found
	}
	for _, d := range y.found {
		if !d.Warning {
			first = append(first, d)
		}
	}
	return fit, first, least
}

// cellsAt are the cells of a study at some points, evaluated together.
func (x *expansion) cellsAt(s *Study, points []space.Point) []*cell {
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
				o = newOverride(cuePath(q.Name), x.cue.CompileBytes(text), s.params[j].label)
				o.at, known[key] = s.params[j].label, o
			}
			c.overlay = append(c.overlay, o)
		}
		c.overlay = append(c.overlay, fixed...)
		cells[i] = c
		if len(c.overlay) == 0 {
			c.tree, c.config = x.baseCell.tree, x.baseCell.config
		}
	}
	x.total = len(cells)
	x.evaluate(x.baseCell, cells)
	return cells
}

// trainableOn is what the number of parameters that train depends on.
type trainableOn struct {
	on     adapterOn
	head   *headConfig
	data   *dataConfig  // the classes
	groups *optimConfig // nil where it has no groups, which may freeze
}

// withinConstraint says whether a sound cell trains as few parameters as a study allows,
// and how many it trains; 0 where that is not known.
func (x *expansion) withinConstraint(s *Study, c *cell) (fitness, int64) {
	run, err := x.run(c, name.Repeat{Seed: s.Seeds[0]})
	if err != nil {
		return wrong, 0
	}
	switch n, err := Trainable(run.Spec); {
	case err != nil:
		return wrong, 0
	case n > s.Trainable:
		return large, n
	default:
		return fits, n
	}
}

// Trainable counts the parameters of adapter and head that train.
func Trainable(s *spec.RunSpec) (int64, error) {
	tensors, err := params.Of(s)
	if err != nil {
		return 0, err
	}
	return params.Trained(tensors, params.Adapter) + params.Trained(tensors, params.Head), nil
}
