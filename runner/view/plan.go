package view

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/plan"
	"github.com/loralab/loralab/runner/study"
)

// PlanOptions are what is shown of a plan beside the work and the counts.
type PlanOptions struct {
	All          bool // runs that are done, too
	Groups, Cost bool // of the cells
	Cells        []plan.Cell
	Saved        string // the file it was written to
	Searches     []study.Progress
}

// repeatOf is the end of the name of a run that tells it from others of its cell.
var repeatOf = regexp.MustCompile(`(/fold=\d+)?/seed=\d+$`)

// Plan shows what would be done: a line for each run that has something to
// do, and the counts.
func (v *View) Plan(p *plan.Plan, o PlanOptions) {
	experiment, shown := "", false
	for _, a := range p.Actions {
		if a.Symbol == plan.Done && !o.All {
			continue
		}
		name, cell, _ := strings.Cut(a.Name, "/")
		if name != experiment {
			printf(v.out, "%s\n", v.bold.Render(name))
			experiment = name
		}
		// The values of a cell may have slashes of their own.
		cell = repeatOf.ReplaceAllStringFunc(cell, func(end string) string { return strings.ReplaceAll(end, "/", " ") })
		line := fmt.Sprintf("  %s %s", v.symbol(a.Symbol), cell)
		if a.Reason != "" {
			line += v.dim.Render("  " + a.Reason)
		}
		printLine(v.out, clip(line, v.width))
		shown = true
	}
	for _, e := range p.Ensembles {
		if e.Experiment != experiment {
			printf(v.out, "%s\n", v.bold.Render(e.Experiment))
			experiment = e.Experiment
		}
		line := fmt.Sprintf("  %s %s ensemble of %s", v.symbol(plan.Resume), e.Cell, count(len(e.Members), "run"))
		printLine(v.out, clip(line+v.dim.Render("  evaluate on "+e.Domains()), v.width))
		shown = true
	}
	for _, s := range o.Searches {
		if s.Over && s.Best == nil && !o.All {
			continue
		}
		if s.Experiment != experiment {
			printf(v.out, "%s\n", v.bold.Render(s.Experiment))
			experiment = s.Experiment
		}
		printLine(v.out, clip("  "+v.search(s), v.width))
		shown = true
	}
	if shown {
		printLine(v.out, "")
	}
	if o.Groups {
		v.groups(o.Cells)
	}
	if o.Cost {
		v.cost(o.Cells)
	}
	if !o.Cost {
		for _, why := range p.Uncached() {
			v.note("frozen blocks are not cached: " + why)
		}
	}
	line := v.bold.Render(p.Counts().String())
	var left []string
	if n := p.Unselected; n > 0 {
		left = append(left, count(n, "other run"))
	}
	if n := p.UnselectedSearches; n == 1 {
		left = append(left, "1 other search")
	} else if n > 1 {
		left = append(left, fmt.Sprintf("%d other searches", n))
	}
	if len(left) > 0 {
		line += v.dim.Render(fmt.Sprintf("  (%s left out)", strings.Join(left, " and ")))
	}
	printLine(v.out, line)
	if o.Saved != "" {
		printf(v.out, "Saved to %s. To do just this: runner apply %s\n", o.Saved, o.Saved)
	}
}

// groups shows, cell by cell, how tensors are trained. Cells that are trained
// alike share a table.
func (v *View) groups(cells []plan.Cell) {
	type alike struct {
		names  []string
		groups []params.Group
	}
	var tables []alike
	for _, c := range cells {
		i := slices.IndexFunc(tables, func(a alike) bool { return slices.Equal(a.groups, c.Groups) })
		if i < 0 {
			i = len(tables)
			tables = append(tables, alike{groups: c.Groups})
		}
		tables[i].names = append(tables[i].names, cellName(cells, c))
	}
	for _, of := range tables {
		printLine(v.out, clip(v.bold.Render(strings.Join(of.names, ", ")), v.width))
		t := table{columns: append(texts("TENSORS"), numbers("N", "WEIGHTS", "RATE", "DECAY")...), indent: 2, stack: true}
		for _, g := range of.groups {
			row := []string{g.Pattern, fmt.Sprint(g.Tensors), amount(uint64(g.Parameters)), "frozen", ""}
			if !g.Frozen {
				row[3], row[4] = fmt.Sprintf("%.4g", g.LR), fmt.Sprintf("%.4g", g.Decay)
			}
			if g.Until > 0 {
				row[3] += fmt.Sprintf(" from epoch %d", g.Until)
			}
			t.add(row...)
		}
		v.table(t)
		printLine(v.out, "")
	}
}

// cellName leaves the experiment out where there is only one.
func cellName(cells []plan.Cell, c plan.Cell) string {
	if slices.ContainsFunc(cells, func(o plan.Cell) bool { return o.Experiment != c.Experiment }) {
		return c.Experiment + "/" + c.Cell
	}
	return c.Cell
}

// cost shows what is left to train.
func (v *View) cost(cells []plan.Cell) {
	t := table{columns: append(texts("TO TRAIN"), numbers("RUNS", "WEIGHTS", "CACHED", "STEPS", "MEMORY", "TIME", "FROM")...), indent: 2, stack: true}
	for _, c := range cells {
		if c.Runs == 0 {
			continue
		}
		cached := "no"
		if c.Cached > 0 {
			cached = count(c.Cached, "block")
		}
		name, most := cellName(cells, c), ""
		if c.Search {
			name = "search of " + name
		}
		if c.AtMost {
			most = "≤ "
		}
		t.add(name, fmt.Sprint(c.Runs), amount(uint64(c.Trainable)), cached, most+fmt.Sprint(c.Left),
			memory(c.Cost), bound(most, duration(c.Cost)), origin(c.Cost))
	}
	if len(t.rows) == 0 {
		return
	}
	total, steps, runs := plan.Total(cells)
	if len(t.rows) > 1 {
		most := ""
		if slices.ContainsFunc(cells, func(c plan.Cell) bool { return c.AtMost && c.Runs > 0 }) {
			most = "≤ "
		}
		t.add("all", fmt.Sprint(runs), "", "", most+fmt.Sprint(steps), memory(total), bound(most, duration(total)), "")
	}
	printLine(v.out, v.bold.Render("Cost"))
	v.table(t)
	any := func(is func(plan.Cost) bool) bool {
		return slices.ContainsFunc(cells, func(c plan.Cell) bool { return c.Runs > 0 && is(c.Cost) })
	}
	for _, why := range uncached(cells) {
		v.note("not cached: " + why)
	}
	if slices.ContainsFunc(cells, func(c plan.Cell) bool { return c.Search && c.Runs > 0 }) {
		v.note("a search: its trials and the training of its best, as long as the cell trains as the file has it; ≤ where trials may end early")
	}
	if any(func(c plan.Cost) bool { return c.From > 0 }) {
		v.note("time of training, one run after another, ± its standard deviation")
	}
	if any(func(c plan.Cost) bool { return c.From > 0 && !c.Alike }) {
		v.note("similar: runs with adapters of another form at the same places")
	}
	if any(func(c plan.Cost) bool { return c.From == 0 }) {
		v.note("unknown: no run of that shape was trained in this project yet")
	}
	printLine(v.out, "")
}

// uncached are the reasons why cells that are to train keep no tokens.
func uncached(cells []plan.Cell) (reasons []string) {
	for _, c := range cells {
		if c.Runs > 0 && c.Uncached != "" && !slices.Contains(reasons, c.Uncached) {
			reasons = append(reasons, c.Uncached)
		}
	}
	return reasons
}

func (v *View) note(text string) {
	printLine(v.out, clip(v.dim.Render("  "+text), v.width))
}

func origin(c plan.Cost) string {
	switch {
	case c.From == 0:
		return ""
	case !c.Alike:
		return fmt.Sprintf("%d similar", c.From)
	}
	return count(c.From, "run")
}

// bound puts what a bound begins with before what is known.
func bound(most, text string) string {
	if text == "unknown" {
		return text
	}
	return most + text
}

func memory(c plan.Cost) string {
	if c.From == 0 || c.Memory == 0 {
		return "unknown"
	}
	return humanize.IBytes(c.Memory)
}

func duration(c plan.Cost) string {
	if c.From == 0 {
		return "unknown"
	}
	text := span(time.Duration(c.Seconds * float64(time.Second)))
	if c.SD > 0 {
		text += " ± " + span(time.Duration(c.SD*float64(time.Second)))
	}
	return text
}

func (v *View) symbol(s plan.Symbol) string {
	look := style{}
	switch s {
	case plan.New:
		look = v.good
	case plan.Resume:
		look = v.accent
	case plan.Retry:
		look = v.bad
	case plan.Stale:
		look = v.warn
	case plan.Done, plan.Orphan:
		look = v.dim
	}
	return look.Render(s.String())
}

// PlanJSON writes the same for programs.
func (v *View) PlanJSON(p *plan.Plan, o PlanOptions) error {
	type action struct {
		Action      string        `json:"action"`
		Name        string        `json:"name"`
		ID          string        `json:"id"`
		Reason      string        `json:"reason,omitempty"`
		Step        uint64        `json:"step,omitempty"`
		Train       bool          `json:"train"`
		Evaluations []string      `json:"evaluations,omitempty"`
		Changes     []spec.Change `json:"changes,omitempty"`
	}
	words := map[plan.Symbol]string{
		plan.New: "new", plan.Resume: "resume", plan.Retry: "retry",
		plan.Stale: "stale", plan.Done: "done", plan.Orphan: "orphan", plan.Broken: "damaged",
	}
	actions := []action{}
	for _, a := range p.Actions {
		item := action{
			Action: words[a.Symbol], Name: a.Name, Reason: a.Reason, Step: a.Step,
			Train: a.Train, Changes: a.Changes,
		}
		if a.Shared != nil {
			item.Action = "shared"
		}
		if a.Run != nil {
			item.ID = a.Run.ID
		} else {
			item.ID = a.Stored.ID
		}
		for _, e := range a.Evaluations {
			item.Evaluations = append(item.Evaluations, e.Spec.GetDomain())
		}
		actions = append(actions, item)
	}
	type ensemble struct {
		Name        string   `json:"name"`
		ID          string   `json:"id"`
		Members     []string `json:"members"` // ids
		Evaluations []string `json:"evaluations"`
	}
	var ensembles []ensemble
	for _, e := range p.Ensembles {
		item := ensemble{Name: e.Name(), ID: e.ID}
		for _, m := range e.Members {
			item.Members = append(item.Members, m.ID)
		}
		for _, x := range e.Missing {
			item.Evaluations = append(item.Evaluations, x.Spec.GetDomain())
		}
		ensembles = append(ensembles, item)
	}
	return v.JSON(struct {
		Counts    plan.Counts      `json:"counts"`
		Actions   []action         `json:"actions"`
		Ensembles []ensemble       `json:"ensembles,omitempty"`
		Searches  []study.Progress `json:"searches,omitempty"`
		Cells     []plan.Cell      `json:"cells,omitempty"` // with --groups or --cost
		Saved     string           `json:"saved,omitempty"`
	}{p.Counts(), actions, ensembles, o.Searches, o.Cells, o.Saved})
}
