package experiment

import (
	"encoding/json"
	"fmt"
	"slices"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/token"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/runner/diagnostic"
)

// A subject is what mistakes of a cell are reported of.
type subject struct {
	name    string
	overlay []*override
}

// A cell is one point of the matrix of an experiment.
type cell struct {
	subject
	values []AxisValue
	label  token.Pos // of a case, or of the entry of include

	value  cue.Value // of the base alone
	tree   *tree     // its resolved value, see resolved
	config *config   // the same, read; nil if it has a mistake
}

// experiment checks and expands one experiment.
func (d *document) experiment(name string) *Experiment {
	before := d.errorCount()
	if d = d.applySettings(name); d == nil {
		return nil
	}
	v := d.value.LookupPath(cue.MakePath(cue.Str(name)))
	if !d.isExperiment(v) { // a setting took the place of what makes it one
		d.report(d.mark(diagnostic.Diagnostic{
			Path: name, Message: fmt.Sprintf("with these settings %q is no experiment", name),
			Hint: "what is set decides which of several values it is: leave the choice to a tag",
		}, d.set[0].label))
		return nil
	}
	x := &expansion{
		document: d, name: name, errorsBefore: before,
		roots: map[string]cue.Value{}, stuck: map[string]cue.Value{}, origins: map[originKey]Value{},
	}
	x.forget()
	if err := d.validate(name, v); err != nil {
		s := scope{prefix: []string{name}, schema: d.schema}
		d.complain(err, s)
		// Take out what is wrong, so that the rest can be looked at. Each time evaluates
		// the file again.
		if d.errorCount() > mostRepaired {
			return nil
		}
		if x.document = d.repair(name, err, s); x.document == nil {
			return nil
		}
	}
	return x.expand()
}

// expand checks the experiment and every cell, and resolves its runs.
func (x *expansion) expand() *Experiment {
	whole, err := x.readBase()
	x.baseCell = whole
	if err != nil {
		x.failLabel(x.name, x.labelAt([]string{x.name}), "cannot be read: "+err.Error(), "")
		return nil
	}
	c := whole.config
	e := &Experiment{
		Name:     x.name,
		File:     x.file,
		About:    c.About,
		Metric:   metric.Canonical(c.Report.Metric),
		Track:    x.track,
		Baseline: c.Report.Baseline, FigureWidth: float64(c.Report.Figure.Width),
	}
	e.Strengths, e.Ensemble = c.Evaluate.strengths(), c.Evaluate.Ensemble
	switch folds := c.Data.Split.Folds > 0; {
	case e.Ensemble == "seeds" && folds:
		x.fail(&whole.subject, "evaluate.ensemble", "the runs of a cell are of several folds", `write ensemble: "folds" for one ensemble of all of them`)
	case e.Ensemble == "folds" && !folds:
		x.fail(&whole.subject, "evaluate.ensemble", "there are no folds", `write ensemble: "seeds", or data: split: folds`)
	}
	scoring := c.Evaluate.scoring()
	e.Domains = []string{scoring.ColumnName("test")}
	for _, d := range c.Evaluate.Domains {
		e.Domains = append(e.Domains, scoring.ColumnName(d.name))
	}
	for _, d := range c.Evaluate.shifted(c.Data) {
		e.Domains = append(e.Domains, scoring.ColumnName(d.name))
	}
	x.about, x.seeds = c.About, c.Seeds
	x.checkSeeds(c.Seeds)
	e.Resources = x.readResources(&whole.subject)
	x.checkReferences(whole.tree)
	cells, axes := x.cells(whole)
	e.Axes, e.Folds = axes, c.Data.Split.Folds
	e.Zipped = fieldNames(x.base().LookupPath(cue.ParsePath("zip")))
	e.Ablated = fieldNames(x.base().LookupPath(cue.ParsePath("ablate")))
	x.total = len(cells)
	x.checkBaseline(whole, cells)
	defer x.sortCells(len(x.found), cells)
	x.prepare([]*cell{whole}) // parameters that the variant does not know are a mistake in any case
	first := len(x.found)
	ofBase := x.recorded(func() { x.check(whole) })
	x.evaluate(whole, cells)
	ofCells := x.recorded(func() {
		x.prepare(cells)
		for _, c := range cells {
			if c.config != nil {
				x.check(c)
			}
		}
	})
	if len(cells) > 0 && !slices.ContainsFunc(cells, func(c *cell) bool { return c == whole || c.config == nil }) {
		x.retract(first, ofBase, ofCells)
	}
	e.Studies = x.searched(e, whole, cells)
	if x.errorCount() > x.errorsBefore {
		return nil
	}
	x.checkIdle(cells)
	e.expansion, e.cells, e.Differences = x, cells, x.differences(cells)
	x.all = cells
	e.Overlaps = x.overlaps(cells)
	if x.document.resolve.partial() {
		return e
	}
	steps := map[*cell]uint64{}
	for _, cl := range cells {
		if x.broken[cl.config.Adapter] {
			e.LeftOut = append(e.LeftOut, cl.name)
			continue
		}
		if x.headStaysRandom(epochsInput{cl.config.adapterOn(), cl.config.Train}) {
			e.RandomHead = append(e.RandomHead, cl.name)
		}
		for i, repeat := range cl.config.Data.repeats(c.Seeds) {
			run, err := x.run(cl, repeat)
			if err != nil {
				x.report(x.mark(diagnostic.Diagnostic{Path: x.name, Message: err.Error(), Cells: []string{cl.name}}, x.labelAt([]string{x.name})))
				return nil
			}
			if i == 0 {
				x.checkSame(cl, run)
				steps[cl] = params.Steps(run.Spec)
			}
			if i == 0 && len(cl.config.Optim.Groups) > 0 && !x.checkTensors(cl, run.Spec) {
				break
			}
			if s := e.study(cl); s != nil {
				s.Untuned = append(s.Untuned, run)
			} else {
				e.Runs = append(e.Runs, run)
			}
		}
	}
	x.checkIdleSteps(cells, steps)
	e.Studies = slices.DeleteFunc(e.Studies, func(s *Study) bool { return len(s.Untuned) == 0 }) // its plug-in fails
	var few []*fewest
	for _, s := range e.Studies {
		x.checkPruner(s)
		if least := x.checkPoints(s); least > 0 {
			few = append(few, &fewest{s, least})
		}
	}
	x.failConstraint(few)
	if len(e.LeftOut) > 0 && len(e.Runs)+len(e.Studies) == 0 {
		x.fail(&whole.subject, "adapter.variant", "no cell is left: all need plug-ins that fail", "")
	}
	if x.errorCount() > x.errorsBefore {
		return nil
	}
	return e
}

// study is the search of a cell; nil if it has none.
func (e *Experiment) study(c *cell) *Study {
	i := slices.IndexFunc(e.Studies, func(s *Study) bool { return s.cell == c })
	if i < 0 {
		return nil
	}
	return e.Studies[i]
}

// retract drops mistakes of the base, found since first, that no cell has: the base is
// no cell then, and each cell has another value in place of what is wrong.
func (x *expansion) retract(first int, ofBase, ofCells diagnostic.List) {
	drop := map[string]bool{}
	for _, d := range ofBase {
		drop[seenKey(d)] = true
	}
	for _, d := range ofCells {
		delete(drop, seenKey(d))
	}
	kept := x.found[:first]
	for _, d := range x.found[first:] {
		if key := seenKey(d); drop[key] {
			delete(x.seen, key)
		} else {
			x.seen[key] = len(kept)
			kept = append(kept, d)
		}
	}
	x.found = kept
}

// sortCells puts the cells of what was found since then into their order.
func (x *expansion) sortCells(since int, cells []*cell) {
	order := map[string]int{}
	for i, c := range cells {
		order[c.name] = i
	}
	for _, d := range x.found[since:] {
		slices.SortFunc(d.Cells, func(a, b string) int { return order[a] - order[b] })
	}
}

// expansion is the work on one experiment.
type expansion struct {
	*document
	name         string
	errorsBefore int
	total        int // cells
	about        string
	track        Track
	gives        fields // of resources
	seeds        []uint64

	roots  map[string]cue.Value // see without
	stuck  map[string]cue.Value // what stays at a path of the experiment, see stays
	parts  map[partKey]*config
	kept   map[keptKey]*tree       // see intern
	memory map[any]diagnostic.List // of checks, by their inputs

	origins map[originKey]Value                // who gives values of the base, and where
	params  map[*adapterConfig]json.RawMessage // that are sound, see checkVariant
	adapted map[adapterOn]*adaptation
	broken  map[*adapterConfig]bool // their plug-in fails, and Env.KeepGoing is set

	baseCell *cell
	refs     *references // see bind
	// Of a point, the expansion of the matrix, whose answers hold for what a point
	// has in common with the base.
	outer *expansion
	all   []*cell          // of the matrix
	known map[string]*cell // the same by their values, see cellWith
}

// outerHolds reports whether what the matrix has found holds for a point with the
// same sections: unless its data is divided by a seed that the matrix has not, or
// cells are left out, which is a mistake of a point.
func (x *expansion) outerHolds(c *cell) bool {
	return x.outer != nil && len(x.outer.broken) == 0 && (slices.Contains(x.outer.seeds, x.seeds[0]) || !c.config.Data.Split.Seed.run)
}

// forget drops what is known of cells.
func (x *expansion) forget() {
	x.parts, x.kept, x.memory = map[partKey]*config{}, map[keptKey]*tree{}, map[any]diagnostic.List{}
	x.params, x.adapted, x.broken = map[*adapterConfig]json.RawMessage{}, map[adapterOn]*adaptation{}, map[*adapterConfig]bool{}
}

// base is the experiment as a value.
func (x *expansion) base() cue.Value {
	return x.value.LookupPath(cue.MakePath(cue.Str(x.name)))
}

// readBase reads the base as a cell.
func (x *expansion) readBase() (*cell, error) {
	c := &cell{subject: subject{name: "base"}, value: x.base()}
	var err error
	if c.tree, err = treeOf(c.value); err != nil {
		return nil, err
	}
	c.tree = x.intern(c.tree, nil)
	if err := x.assemble(c); err != nil {
		return nil, err
	}
	text := c.tree.append(nil)
	return c, json.Unmarshal(text, &struct {
		About     *string   `json:"about"`
		Seeds     *[]uint64 `json:"seeds"`
		Track     *Track    `json:"track"`
		Resources *fields   `json:"resources"`
	}{&c.config.About, &c.config.Seeds, &x.track, &x.gives})
}

func namesOf(cells []*cell) []string {
	names := make([]string, len(cells))
	for i, c := range cells {
		names[i] = c.name
	}
	return names
}
