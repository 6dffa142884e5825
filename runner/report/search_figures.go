package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/runner/figure"
	"github.com/loralab/loralab/runner/search/space"
	"github.com/loralab/loralab/runner/statistics"
	tuned "github.com/loralab/loralab/runner/study"
)

// Looks of trials in all figures of a search.
var (
	lookComplete = figure.Look{Color: figure.Category(0)}
	lookEarly    = figure.Look{Color: figure.Gray}
	lookBest     = figure.Look{Color: figure.Category(1), Mark: 3}
)

// trialMarks are trials as marks at places along X; those without a place are left
// out. The best is last, so that no other hides it.
func (f *found) trialMarks(x func(t *tuned.Trial) (float64, bool)) (marks []figure.Mark) {
	add := func(t *tuned.Trial, name string, look figure.Look, ring bool) {
		if at, ok := x(t); ok {
			marks = append(marks, figure.Mark{Name: name, Look: look, X: at, Y: t.Value, Ring: ring})
		}
	}
	for _, t := range f.early {
		add(t, "ended early, at its last rung", lookEarly, true)
	}
	for _, t := range f.complete {
		if t != f.best {
			add(t, "complete", lookComplete, false)
		}
	}
	if f.best != nil {
		add(f.best, "best", lookBest, false)
	}
	return marks
}

// valueAxis is that of the objective.
func (f *found) valueAxis() figure.Axis {
	return figure.Axis{Title: "validation " + metric.Label(f.Objective), Unit: bounded(f.Objective)}
}

// failedText names how many trials no figure shows.
func (f *found) failedText() string {
	if len(f.failed) == 0 {
		return ""
	}
	return fmt.Sprintf(" %s failed and %s not shown.", plural.Of(len(f.failed), "trial"), plural.Form(len(f.failed), "is", "are"))
}

// historyFigure shows values over trials and over the steps that they cost.
func (f *found) historyFigure(s *study) (drawing, bool) {
	if len(f.complete)+len(f.early) == 0 {
		return drawing{}, false
	}
	ordered := slices.Clone(f.Trials)
	slices.SortFunc(ordered, func(a, b *tuned.Trial) int { return cmp.Compare(a.Number, b.Number) })
	used := map[*tuned.Trial]float64{}
	sum := uint64(0)
	for _, t := range ordered {
		sum += t.Steps
		used[t] = float64(sum)
	}
	places := []struct {
		axis figure.Axis
		at   func(t *tuned.Trial) float64
	}{
		{figure.Axis{Title: "trial", Whole: true}, func(t *tuned.Trial) float64 { return float64(t.Number) }},
		{figure.Axis{Title: "steps of all trials", Whole: true}, func(t *tuned.Trial) float64 { return used[t] }},
	}
	fig := &figure.Scatter{Title: s.exp.Name + ", " + f.Cell, Y: f.valueAxis()}
	for _, p := range places {
		so := figure.Series{Name: "best so far", Look: figure.Look{Color: lookBest.Color}}
		best := math.NaN()
		last := 0.0
		for _, t := range ordered {
			last = p.at(t)
			if t.State != tuned.Complete || !math.IsNaN(best) && !f.better(t.Value, best) {
				continue
			}
			if !math.IsNaN(best) {
				so.Points = append(so.Points, figure.Point{X: last, Y: best})
			}
			best = t.Value
			so.Points = append(so.Points, figure.Point{X: last, Y: best})
		}
		if !math.IsNaN(best) {
			so.Points = append(so.Points, figure.Point{X: last, Y: best})
		}
		plot := figure.Plot{X: p.axis, Marks: f.trialMarks(func(t *tuned.Trial) (float64, bool) { return p.at(t), true })}
		if len(so.Points) > 1 {
			plot.Lines = []figure.Series{so}
		}
		fig.Panels = append(fig.Panels, plot)
	}
	caption := "The trials in the order in which they were drawn, and over the steps of all trials up to each. The line is the best complete trial so far."
	if len(f.early) > 0 {
		caption += " Rings are trials that ended early: they have trained less, so their values are not those of whole trainings."
	}
	return f.drawnSearch(s, "history", "Trials of "+f.Cell, caption+f.failedText(), fig)
}

// along is a parameter as an axis, with the place of a trial on it.
func along(p space.Param, label string) (axis figure.Axis, within figure.Extent) {
	axis = figure.Axis{Title: label, Log: p.Log, Whole: p.Kind == space.Int}
	if p.Kind == space.Choice {
		axis.Whole, axis.Tight = false, true
		within.Add(-0.5, float64(len(p.Choices))-0.5)
		for i, c := range p.Choices {
			axis.Ticks = append(axis.Ticks, figure.Tick{At: float64(i), Label: valueText(c)})
		}
		return axis, within
	}
	within.Add(p.Low, p.High)
	return axis, within
}

// slicesFigure shows values against each parameter.
func (f *found) slicesFigure(s *study) (drawing, bool) {
	if len(f.complete) < 2 {
		return drawing{}, false
	}
	fig := &figure.Scatter{Title: s.exp.Name + ", " + f.Cell, Y: f.valueAxis()}
	for i := range f.Space.Len() {
		p := f.Space.Param(i)
		axis, within := along(p, wordsOf(p.Name))
		plot := figure.Plot{X: axis, Range: within, Marks: f.trialMarks(func(t *tuned.Trial) (float64, bool) {
			at, ok := pointIn(f.Space, t.Point)
			return placeOf(at, i, ok)
		})}
		if len(plot.Marks) > 0 && len(fig.Panels) < mostPanels {
			fig.Panels = append(fig.Panels, plot)
		}
	}
	caption := "The value of each trial against each of its parameters. An axis is as wide as the space."
	if f.Space.Len() > 1 {
		caption += " All parameters move at once, so a panel shows the effect of its own with that of the others."
	}
	return f.drawnSearch(s, "slices", "Values over parameters of "+f.Cell, caption+f.failedText(), fig)
}

// placeOf is where a point is on an axis.
func placeOf(at space.Point, i int, ok bool) (float64, bool) {
	if !ok || !space.Active(at[i]) {
		return 0, false
	}
	return at[i], true
}

// parallelFigure shows all parameters of each trial at once.
func (f *found) parallelFigure(s *study) (drawing, bool) {
	if len(f.complete) < 2 || f.Space.Len() < 2 {
		return drawing{}, false
	}
	fig := &figure.Parallel{Title: s.exp.Name + ", " + f.Cell, Key: "complete trials"}
	for i := range f.Space.Len() {
		p := f.Space.Param(i)
		axis, within := along(p, wordsOf(p.Name))
		fig.Axes = append(fig.Axes, figure.Vertical{Title: axis.Title, Low: within.Low, High: within.High, Log: axis.Log, Ticks: axis.Ticks})
	}
	var values figure.Extent
	for _, t := range f.complete {
		values.Add(t.Value)
	}
	if values.High == values.Low {
		values.Low, values.High = values.Low-0.01, values.High+0.01
	}
	fig.Axes = append(fig.Axes, figure.Vertical{Title: f.valueAxis().Title, Low: values.Low, High: values.High})
	course := func(t *tuned.Trial, value float64) (c figure.Course, ok bool) {
		at, ok := pointIn(f.Space, t.Point)
		if !ok {
			return c, false
		}
		for i := range at {
			x, there := placeOf(at, i, true)
			if !there {
				x = math.NaN()
			}
			c.At = append(c.At, x)
		}
		c.At = append(c.At, value)
		return c, true
	}
	for _, t := range f.early {
		if c, ok := course(t, math.NaN()); ok {
			c.Pale = true
			fig.Courses = append(fig.Courses, c)
		}
	}
	ordered := slices.Clone(f.complete)
	slices.SortStableFunc(ordered, func(a, b *tuned.Trial) int {
		return -cmp.Compare(f.direction().Loss(a.Value), f.direction().Loss(b.Value))
	})
	ordered = slices.DeleteFunc(ordered, func(t *tuned.Trial) bool { return t == f.best })
	for i, t := range ordered {
		c, ok := course(t, t.Value)
		if !ok {
			continue
		}
		c.Look = figure.Look{Color: figure.Ordered(i, len(ordered))}
		switch i {
		case 0:
			c.Name = "the worst"
		case len(ordered) - 1:
			c.Name = "the second best"
		}
		fig.Courses = append(fig.Courses, c)
	}
	if f.best != nil {
		if c, ok := course(f.best, f.best.Value); ok {
			c.Look, c.Bold, c.Name = figure.Look{Color: lookBest.Color}, true, "the best"
			fig.Courses = append(fig.Courses, c)
		}
	}
	caption := "A line for each trial through its parameters to its value. Colors are in the order of the values."
	if len(f.early) > 0 {
		caption += " Pale lines are trials that ended early; they have no value of a whole training."
	}
	if slices.ContainsFunc(f.Trials, func(t *tuned.Trial) bool { return len(t.Point) < f.Space.Len() }) {
		caption += " A parameter that a trial does not have is at \"none\"."
	}
	return f.drawnSearch(s, "parallel", "Parameters of the trials of "+f.Cell, caption+f.failedText(), fig)
}

// rungsFigure shows values at the steps where trials paused.
func (f *found) rungsFigure(s *study) (drawing, bool) {
	plot := figure.Plot{X: figure.Axis{Title: "step", Whole: true}}
	last := map[bool]string{true: "complete", false: "ended early"}
	var best figure.Series
	rungs := map[uint64]bool{}
	for _, t := range f.Trials {
		line := figure.Series{Name: last[t.State == tuned.Complete], Look: lookEarly, Marked: true, Thin: true}
		for _, r := range t.Rungs {
			if !math.IsNaN(r.Value) && !math.IsInf(r.Value, 0) {
				rungs[r.Step] = true
				line.Points = append(line.Points, figure.Point{X: float64(r.Step), Y: r.Value})
			}
		}
		if t.State == tuned.Failed || t.State == tuned.Open {
			line.Name = last[false]
		}
		if t.State == tuned.Complete {
			line.Look = figure.Look{Color: lookComplete.Color}
			line.Points = append(line.Points, figure.Point{X: float64(t.Steps) / float64(max(1, len(t.Runs))), Y: t.Value})
		}
		if len(line.Points) == 0 {
			continue
		}
		if t == f.best {
			line.Name, line.Look, line.Thin = "best", figure.Look{Color: lookBest.Color, Mark: 3}, false
			best = line
			continue
		}
		plot.Lines = append(plot.Lines, line)
	}
	if len(rungs) == 0 {
		return drawing{}, false
	}
	for _, line := range append(slices.Clone(plot.Lines), best) {
		for _, pt := range line.Points {
			if !slices.ContainsFunc(plot.X.Ticks, func(t figure.Tick) bool { return t.At == pt.X }) {
				plot.X.Ticks = append(plot.X.Ticks, figure.Tick{At: pt.X, Label: thousands(uint64(pt.X))})
			}
		}
	}
	slices.SortFunc(plot.X.Ticks, func(a, b figure.Tick) int { return cmp.Compare(a.At, b.At) })
	// Those that ended early are behind.
	slices.SortStableFunc(plot.Lines, func(a, b figure.Series) int { return -cmp.Compare(a.Name, b.Name) })
	if best.Name != "" {
		plot.Lines = append(plot.Lines, best)
	}
	fig := &figure.Scatter{Title: s.exp.Name + ", " + f.Cell, Y: f.valueAxis(), Panels: []figure.Plot{plot}}
	caption := fmt.Sprintf("Values at the rungs of the pruner, %s: the last validation up to there. A complete trial ends with the value of its best checkpoint.", f.Pruner)
	return f.drawnSearch(s, "rungs", "Rungs of "+f.Cell, caption+f.failedText(), fig)
}

// importanceFigure shows which parameters decided how good the trials are.
func (f *found) importanceFigure(s *study) (drawing, bool) {
	if len(f.Importance) < 2 {
		return drawing{}, false
	}
	section := figure.Section{}
	for _, share := range f.Importance {
		section.Rows = append(section.Rows, figure.Row{
			Name: wordsOf(share.Path), Dots: [][]figure.Dot{{{Look: lookComplete, X: share.Value, Low: share.Value, High: share.Value}}},
		})
	}
	fig := &figure.Rows{
		Title: s.exp.Name + ", " + f.Cell, X: figure.Axis{Title: "importance", Unit: true}, Zero: true,
		Panels: []figure.Columned{{}}, Sections: []figure.Section{section},
	}
	caption := fmt.Sprintf("Importance of the parameters, estimated by PED-ANOVA from %s: how far the values of the best tenth of the trials lie from those of all. The shares sum to 1. It describes the trials that were made: what the sampler left early has little to say.",
		plural.Of(len(f.complete), "complete trial"))
	return f.drawnSearch(s, "importance", "Importance of parameters of "+f.Cell, caption, fig)
}

// tunedSection is the part of the page with cells at their best.
const tunedSection = "tuned"

// A contender is a cell at its best, or as it is where it is not searched.
type contender struct {
	name           string
	tuned, untuned *cell // nil: not known
	search         *found
	trained        uint64
	head           uint64  // of these, in the head
	seconds        float64 // of a run; 0: not known
}

// contenders are the cells that are compared at their best, if any was searched.
func (s *study) contenders() (all []contender) {
	for _, f := range s.searches {
		all = append(all, contender{name: f.Cell, tuned: f.retest, untuned: f.untuned, search: f})
	}
	for _, c := range s.cells {
		of := func(f *found) bool {
			return c.name == f.Search.Retest || strings.HasPrefix(c.name, f.Search.Retest+",top=")
		}
		if len(s.searches) > 0 && !slices.ContainsFunc(s.searches, of) {
			all = append(all, contender{name: c.name, untuned: c})
		}
	}
	for i := range all {
		c := &all[i]
		of := c.tuned
		if of == nil || of.first() == nil {
			of = c.untuned
		}
		if of == nil || of.first() == nil {
			continue
		}
		sum := of.first().Summary
		c.trained, c.head = sum.BackboneParams+sum.AdapterParams+sum.HeadParams, sum.HeadParams
		var times []float64
		for _, o := range of.runs {
			if o.done() {
				times = append(times, o.Summary.Seconds)
			}
		}
		c.seconds = statistics.Described(times).Mean
	}
	return slices.DeleteFunc(all, func(c contender) bool { return c.trained == 0 })
}

// at is the better known of what a contender scores: tuned where that is known.
func (c contender) at(domain, name string) (Stat, bool) {
	for _, of := range []*cell{c.tuned, c.untuned} {
		if of != nil {
			if st := newStat(of.scores(domain, name)); st.N > 0 {
				return st, true
			}
		}
	}
	return Stat{}, false
}

// front marks the contenders that none beats in both: less of something, and a better
// score.
func (s *study) front(all []contender, domain string, cost func(c contender) float64) []bool {
	on := make([]bool, len(all))
	better := func(a, b float64) bool { return metric.Better(s.exp.Metric, a, b) }
	for i, c := range all {
		mine, ok := c.at(domain, s.exp.Metric)
		on[i] = ok && !slices.ContainsFunc(all, func(o contender) bool {
			score, ok := o.at(domain, s.exp.Metric)
			if !ok || better(mine.Mean, score.Mean) || cost(o) > cost(c) {
				return false
			}
			return better(score.Mean, mine.Mean) || cost(o) < cost(c)
		})
	}
	return on
}

// What contenders are compared against.
func byTrained(c contender) float64 { return float64(c.trained) }
func byTime(c contender) float64    { return c.seconds }

// withoutHead is what a contender trains in adapter and backbone.
func withoutHead(c contender) float64 { return float64(c.trained - c.head) }

// costAxis is an axis of costs with the place of each: logarithmic where they are far
// apart. 0, which has no logarithm, is at its left end, a step below the lowest other.
func costAxis(x figure.Axis, values []float64) (figure.Axis, func(cost float64) float64) {
	var above figure.Extent
	for _, v := range values {
		if v > 0 {
			above.Add(v)
		}
	}
	if !above.Filled || above.High <= 4*above.Low {
		return x, func(cost float64) float64 { return cost }
	}
	x.Log = true
	x.Title += " (log scale)"
	if !slices.Contains(values, 0) {
		return x, func(cost float64) float64 { return cost }
	}
	zero := above.Low / math.Pow(above.High/above.Low, 0.2)
	x.Ticks = []figure.Tick{{At: zero, Label: "0"}}
	factors := []float64{1}
	if above.High < 100*above.Low {
		factors = []float64{1, 2, 5}
	}
	for k := math.Floor(math.Log10(above.Low)); k <= math.Log10(above.High); k++ {
		for _, f := range factors {
			if v := f * math.Pow(10, k); v > above.Low*0.7 && v < above.High*1.4 {
				x.Ticks = append(x.Ticks, figure.Tick{At: v, Label: figure.Short(v)})
			}
		}
	}
	return x, func(cost float64) float64 { return max(cost, zero) }
}

// tunedFigure shows all cells at their best against what they cost.
func (s *study) tunedFigure() (drawing, bool) {
	all := s.contenders()
	if len(all) < 2 || !slices.ContainsFunc(all, func(c contender) bool { return c.tuned != nil && s.scored(c.tuned) }) {
		return drawing{}, false
	}
	type against struct {
		title string
		of    func(c contender) float64
	}
	costs := []against{{"number of trained parameters", byTrained}}
	heads := ""
	if equal := slices.IndexFunc(all, func(c contender) bool { return c.head != all[0].head }) < 0; equal && slices.ContainsFunc(all, func(c contender) bool { return c.trained > c.head }) {
		costs[0] = against{"trained parameters without the head", withoutHead}
		heads = fmt.Sprintf(" The heads train %s parameters each, which are not counted here.", thousands(all[0].head))
	}
	if !slices.ContainsFunc(all, func(c contender) bool { return !(c.seconds > 0) }) {
		costs = append(costs, against{"time of one training in seconds", byTime})
	}
	label := metric.Label(s.exp.Metric)
	fig := &figure.Scatter{Title: s.exp.Name, Y: figure.Axis{Title: label, Unit: bounded(s.exp.Metric)}, Columns: len(costs)}
	rings, several := false, false
	for _, d := range s.domains() {
		for _, cost := range costs {
			plot := figure.Plot{Title: s.short[d], Scale: d, X: figure.Axis{Title: cost.title}}
			var values []float64
			for _, c := range all {
				values = append(values, cost.of(c))
			}
			axis, place := costAxis(plot.X, values)
			plot.X = axis
			front := s.front(all, d, cost.of)
			var line []figure.Point
			var untuned, around []figure.Mark // behind the marks, and before them
			for i, c := range all {
				st, ok := c.at(d, s.exp.Metric)
				if !ok {
					continue
				}
				look := figure.Look{Color: figure.Category(i), Mark: i % figure.Marks}
				x := place(cost.of(c))
				if c.tuned != nil && c.untuned != nil {
					if was := newStat(c.untuned.scores(d, s.exp.Metric)); was.N > 0 {
						rings = true
						untuned = append(untuned, figure.Mark{Name: "untuned", Look: figure.Look{Color: look.Color}, X: x, Y: was.Mean, Ring: true})
					}
				}
				mark := figure.Mark{Name: c.name, Look: look, X: x, Y: st.Mean}
				if st.N > 1 {
					several = true
					mark.Low, mark.High = st.Mean-st.deviation(), st.Mean+st.deviation()
				}
				plot.Marks = append(plot.Marks, mark)
				if front[i] {
					around = append(around, figure.Mark{Look: figure.Look{Color: figure.Ink}, X: x, Y: st.Mean, Around: true})
					line = append(line, figure.Point{X: x, Y: st.Mean})
				}
			}
			plot.Marks = slices.Concat(untuned, plot.Marks, around)
			slices.SortFunc(line, func(a, b figure.Point) int { return cmp.Compare(a.X, b.X) })
			steps := figure.Series{Name: "Pareto front", Look: figure.Look{Color: figure.Gray, Dash: 1}}
			for i, pt := range line {
				if i > 0 {
					steps.Points = append(steps.Points, figure.Point{X: pt.X, Y: line[i-1].Y})
				}
				steps.Points = append(steps.Points, pt)
			}
			if len(line) > 1 {
				plot.Lines = append(plot.Lines, steps)
			}
			if len(plot.Marks) > 0 && len(fig.Panels) < mostPanels {
				fig.Panels = append(fig.Panels, plot)
			}
		}
	}
	caption := fmt.Sprintf("%s of every cell at its best, against what is trained and the time of one training.", capital(label))
	if len(costs) == 1 {
		caption = fmt.Sprintf("%s of every cell at its best, against what is trained.", capital(label))
	}
	caption += heads
	if several {
		caption += " Marks are means over seeds, bars the sample standard deviation."
	}
	if rings {
		caption += " Rings are the same cells as the file has them, untuned, at the same place along the axis."
	}
	caption += " A wide ring is around cells on the Pareto front: none scores better and costs no more. Time is that of the machines that trained them."
	return s.drawn(drawing{name: "tuned", title: "Cells at their best", caption: caption}, fig), true
}

// tunedMarkdown is the table of cells at their best, "" where none is.
func (s *study) tunedMarkdown() string {
	all := s.contenders()
	if !slices.ContainsFunc(all, func(c contender) bool { return c.tuned != nil && s.scored(c.tuned) }) {
		return ""
	}
	domains := s.domains()
	untuned := slices.ContainsFunc(all, func(c contender) bool { return c.tuned != nil && c.untuned != nil && s.scored(c.untuned) })
	if len(all) < 2 && !untuned {
		return ""
	}
	header := []string{"cell", "trained", "seconds"}
	for _, d := range domains {
		header = append(header, s.short[d]+" tuned")
		if untuned {
			header = append(header, s.short[d]+" untuned")
		}
	}
	fronts := make([][]bool, len(domains))
	for k, d := range domains {
		fronts[k] = s.front(all, d, byTrained)
	}
	lines := [][]string{header}
	for i, c := range all {
		line := []string{c.name, thousands(c.trained), "–"}
		if c.seconds > 0 {
			line[2] = fmt.Sprintf("%.3g", c.seconds)
		}
		score := func(of *cell, domain string) string {
			if of == nil {
				return "–"
			}
			return newStat(of.scores(domain, s.exp.Metric)).String()
		}
		for k, d := range domains {
			text := score(c.tuned, d)
			if c.search == nil {
				text = score(c.untuned, d)
			}
			if fronts[k][i] && len(all) > 1 {
				text += " *"
			}
			line = append(line, text)
			if untuned {
				if text = score(c.untuned, d); c.search == nil {
					text = "not searched"
				}
				line = append(line, text)
			}
		}
		lines = append(lines, line)
	}
	widths := make([]int, len(header))
	for _, l := range lines {
		for i, text := range l {
			widths[i] = max(widths[i], runes(text), 4)
		}
	}
	// Domains that have no room are in further tables.
	each := (len(header) - 3) / max(1, len(domains))
	blocks, wide := [][]int{{0, 1, 2}}, widths[0]+widths[1]+widths[2]+10
	for k := range domains {
		var columns []int
		more := 0
		for i := 3 + k*each; i < 3+(k+1)*each; i++ {
			columns, more = append(columns, i), more+widths[i]+3
		}
		if k > 0 && wide+more > mostWide {
			blocks, wide = append(blocks, []int{0}), widths[0]+4
		}
		blocks[len(blocks)-1], wide = append(blocks[len(blocks)-1], columns...), wide+more
	}
	var b strings.Builder
	b.WriteString("\n## Each cell at its best\n")
	for _, columns := range blocks {
		b.WriteByte('\n')
		markdownTable(&b, lines, columns, widths)
	}
	fmt.Fprintf(&b, "\n- %s, mean ± sample standard deviation over the seeds of the experiment, at the best values that a search of the same budget found for each cell. The searches saw validation alone, and other seeds.\n", capital(metric.Label(s.exp.Metric)))
	b.WriteString("- Column trained counts all trained parameters, seconds is the mean time of one training.\n")
	if len(all) > 1 {
		b.WriteString("- \\* is on the Pareto front: no other cell scores better and trains no more parameters.\n")
	}
	if untuned {
		b.WriteString("- Untuned is the same cell with the values that the file gives, where those runs are there.\n")
	}
	return b.String()
}
