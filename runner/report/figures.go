package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/filename"
	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/figure"
)

// drawing is a named figure that can be drawn.
type drawing struct {
	name    string // of its files
	title   string // heading on the page
	caption string
	section string        // of the page; "" for the comparison
	figure  figure.Figure // nil for samples
	render  func() (*rendered, error)
}

// rendered is the content of a figure's files, by suffix, and what to say below it.
type rendered struct {
	files []file
	notes []string
}

type file struct {
	suffix  string
	content []byte
}

// drawn is a drawing of a figure.
func (s *study) drawn(d drawing, f figure.Figure) drawing {
	d.figure = f
	d.render = func() (*rendered, error) {
		size := figure.Screen
		if s.exp.FigureWidth > 0 {
			size = figure.Paper(s.exp.FigureWidth)
		}
		r, err := figure.Render(f, size)
		if err != nil {
			return nil, fmt.Errorf("drawing %s: %w", d.name, err)
		}
		return &rendered{[]file{{".png", r.PNG}, {".svg", r.SVG}}, r.Notes}, nil
	}
	if s.shared != "" && d.name != lossName && d.name != validationName {
		d.caption += " " + s.sharedText()
	}
	return d
}

// sharedText says what the names of all domains have in common and lack in tables
// and figures.
func (s *study) sharedText() string {
	return fmt.Sprintf("All domains are seen as `%s`.", s.shared)
}

// figures lists what can be drawn from the results there are.
func (s *study) figures() []drawing {
	var list []drawing
	add := func(d drawing, ok bool) {
		if ok {
			list = append(list, d)
		}
	}
	add(s.lossFigure())
	add(s.validationFigure())
	shown := map[*cell]bool{}
	for _, a := range s.axes() {
		d, ok := s.axisFigure(a, shown)
		reserved := slices.Contains([]string{lossName, validationName, ablationName, cellsName, strengthName, severityName, samplesName}, d.name)
		if reserved || slices.ContainsFunc(list, func(other drawing) bool { return other.name == d.name }) {
			d.name = fileName(strings.Join(a.paths, "_"))
		}
		add(d, ok)
	}
	add(s.forestFigure(shown))
	add(s.cellsFigure(shown))
	add(s.strengthFigure())
	add(s.severityFigure())
	add(s.samplesFigure())
	return list
}

// scored reports whether a cell has a score on any domain.
func (s *study) scored(c *cell) bool {
	return slices.ContainsFunc(s.domains(), func(d string) bool { return len(c.scores(d, s.exp.Metric)) > 0 })
}

// leftOut names what a figure does not show, "" for nothing.
func leftOut(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return " Left out: " + diagnostic.Some(names, 12, "; ") + "."
}

// unscored names the cells that a figure would show if they had scores.
func (s *study) unscored(of func(c *cell) bool) string {
	var names []string
	for _, c := range s.cells {
		if of(c) && !s.scored(c) {
			names = append(names, c.name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return " Without a score: " + diagnostic.Some(names, 12, "; ") + "."
}

// looks gives cells on one axis with numbers colors in its order, others
// categorical ones; named cases, which mostly are baselines, are dashed.
func (s *study) looks() map[*cell]figure.Look {
	looks := make(map[*cell]figure.Look, len(s.cells))
	var swept, cases []*cell
	for _, c := range s.cells {
		if len(c.values) == 0 {
			cases = append(cases, c)
		} else {
			swept = append(swept, c)
		}
	}
	scaled := false
	if axes := s.axes(); len(axes) == 1 && len(s.exp.Ablated) == 0 {
		_, _, _, scaled = s.places(axes[0])
	}
	if len(swept) == 0 { // named cases only: nothing to set them off from
		swept, cases, scaled = cases, nil, false
	}
	for i, c := range swept {
		if looks[c] = (figure.Look{Color: figure.Category(i)}); scaled {
			looks[c] = figure.Look{Color: figure.Ordered(i, len(swept))}
		}
	}
	for i, c := range cases {
		if looks[c] = (figure.Look{Color: figure.Category(len(swept) + i), Dash: 1}); scaled {
			looks[c] = figure.Look{Color: figure.Category(1), Dash: 1 + i}
		}
	}
	return looks
}

// seedsText is "3 seeds", or the range where cells differ; of folds foldsText.
func (s *study) seedsText() string {
	if s.exp.Folds > 0 {
		return s.foldsText()
	}
	low, high := math.MaxInt, 0
	for _, c := range s.cells {
		if n := c.trained(); n > 0 {
			low, high = min(low, n), max(high, n)
		}
	}
	switch {
	case high == 0:
		return "no seed yet"
	case low == high:
		return plural.Of(low, "seed")
	default:
		return fmt.Sprintf("%d to %d seeds", low, high)
	}
}

// trained is how many seeds of a cell are.
func (c *cell) trained() (n int) {
	for _, o := range c.runs {
		if o.done() {
			n++
		}
	}
	return n
}

// several reports whether any cell has more than one trained seed.
func (s *study) several() bool {
	return slices.ContainsFunc(s.cells, func(c *cell) bool { return c.trained() > 1 })
}

// Names of figures; those over an axis have its name.
const (
	lossName       = "training_loss"
	validationName = "validation"
	ablationName   = "ablation"
	cellsName      = "cells"
	strengthName   = "strength"
	severityName   = "severity"
	samplesName    = "samples"
)

func (s *study) lossFigure() (drawing, bool) {
	var kinds []string
	longest := 0.0
	for _, c := range s.cells {
		for _, o := range c.runs {
			for _, l := range o.Run.Spec.GetLoss() {
				if k := strings.ReplaceAll(l.GetKind(), "_", " "); !slices.Contains(kinds, k) {
					kinds = append(kinds, k)
				}
			}
			if o.curve != nil && len(o.curve.steps) > 0 {
				longest = max(longest, o.curve.steps[len(o.curve.steps)-1].x)
			}
		}
	}
	if longest == 0 {
		return drawing{}, false
	}
	// Some sixty points read well; more are averaged in bins.
	bin := max(1, math.Ceil(longest/60))
	label := "training loss"
	if len(kinds) > 0 {
		label += " (" + strings.Join(kinds, " + ") + ")"
	}
	over, of := s.over()
	caption := fmt.Sprintf("Training loss over optimizer steps: mean over %s; the band is the range of the %s.", over, of)
	if bin > 1 {
		caption = fmt.Sprintf("Training loss over optimizer steps, in bins of %.0f steps: mean over %s; the band is the range within the bin over all %s.", bin, over, of)
	}
	l := &figure.Lines{X: figure.Axis{Title: "step", Whole: true, Tight: true}, Y: figure.Axis{Title: label}}
	return s.curves(drawing{name: lossName, title: "Training loss", caption: caption}, l, bin,
		func(o *outcome) []point { return o.curve.steps })
}

// validationFigure is over epochs, or over steps where any run counts its budget or
// its validations in these: an epoch may have several validations then, and cells
// with other images other epochs.
func (s *study) validationFigure() (drawing, bool) {
	axis, axes := "epoch", "epochs"
	if s.inSteps() {
		axis, axes = "step", "optimizer steps"
	}
	l := &figure.Lines{
		X: figure.Axis{Title: axis, Whole: true},
		Y: figure.Axis{Title: "validation " + metric.Label(s.exp.Metric), Unit: bounded(s.exp.Metric)},
	}
	over, of := s.over()
	caption := fmt.Sprintf("The validation split over %s: mean over %s; the band is the range of the %s.", axes, over, of)
	return s.curves(drawing{name: validationName, title: "Validation", caption: caption}, l, 1,
		func(o *outcome) (points []point) {
			for _, v := range o.curve.scores {
				x := v.epoch
				if axis == "step" {
					x = v.step
				}
				points = append(points, point{x, v.value})
			}
			return points
		})
}

// inSteps reports whether a run counts its budget or its validations in steps.
func (s *study) inSteps() bool {
	for _, c := range s.cells {
		for _, o := range c.runs {
			if t := o.Run.Spec.GetTrain(); t.GetSteps() > 0 || t.GetEvalSteps() > 0 {
				return true
			}
		}
	}
	return false
}

// curves draws a line for each cell; a panel for each where there are more than
// mostLines.
func (s *study) curves(d drawing, l *figure.Lines, bin float64, pick func(*outcome) []point) (drawing, bool) {
	l.Title = s.exp.Name
	looks := s.looks()
	var all []figure.Series
	var without []string
	for _, c := range s.cells {
		var curves [][]point
		for _, o := range c.runs {
			if o.curve != nil && len(pick(o)) > 0 {
				curves = append(curves, pick(o))
			}
		}
		line := figure.Series{Name: c.name, Look: looks[c], Band: true, Marked: d.name == validationName}
		for _, b := range band(curves, bin) {
			line.Points = append(line.Points, figure.Point{X: b.x, Y: b.mean, Low: b.low, High: b.high})
		}
		if len(line.Points) > 0 {
			all = append(all, line)
		} else {
			without = append(without, c.name)
		}
	}
	if len(all) == 0 {
		return drawing{}, false
	}
	if len(all) <= mostLines {
		l.Panels = []figure.Panel{{Series: all}}
	} else {
		d.caption += " A panel for each cell; pale lines are the means of the other panels."
		var left []string
		for _, line := range all[min(len(all), mostPanels):] {
			left = append(left, line.Name)
		}
		all = all[:len(all)-len(left)]
		for i, own := range all {
			panel := figure.Panel{Title: own.Name}
			for j, line := range all {
				line.Name, line.Behind = "", i != j
				line.Look.Dash = 0
				panel.Series = append(panel.Series, line)
			}
			l.Panels = append(l.Panels, panel)
		}
		d.caption += leftOut(left)
	}
	if len(without) > 0 {
		d.caption += " Without a curve: " + diagnostic.Some(without, 12, "; ") + "."
	}
	if text := s.faults(); text != "" {
		d.caption += " " + text
	}
	return s.drawn(d, l), true
}

// cellsFigure shows every cell that no figure shows so far as a row, with a mark
// for each domain.
func (s *study) cellsFigure(shown map[*cell]bool) (drawing, bool) {
	var cells []*cell
	var left []string
	for _, c := range s.cells {
		switch {
		case shown[c] || !s.scored(c):
		case len(cells) == mostRows:
			left = append(left, c.name)
		default:
			cells = append(cells, c)
		}
	}
	if len(cells) == 0 {
		return drawing{}, false
	}
	label := metric.Label(s.exp.Metric)
	caption := fmt.Sprintf("%s of every cell, %s.", capital(label), s.seedsText())
	if len(shown) > 0 {
		caption = fmt.Sprintf("%s of the cells that have no place in the figures above, %s.", capital(label), s.seedsText())
	}
	if s.several() {
		bars, rings := s.spreads()
		caption += fmt.Sprintf(" Filled marks are means, bars %s, rings %s.", bars, rings)
	}
	domains := s.domains()
	ranges := make([]figure.Extent, len(domains))
	dot := func(c *cell, d string) (figure.Dot, bool) {
		st, scores := s.sample(c, d, s.exp.Metric)
		dot := figure.Dot{X: st.Mean, Low: st.Mean - st.deviation(), High: st.Mean + st.deviation()}
		if st.N > 1 {
			dot.Seeds = scores
		}
		return dot, st.N > 0
	}
	for _, c := range cells {
		for k, d := range domains {
			if dot, ok := dot(c, d); ok {
				ranges[k].Add(dot.Low, dot.High)
				ranges[k].Add(dot.Seeds...)
			}
		}
	}
	r := &figure.Rows{Title: s.exp.Name, X: figure.Axis{Title: label, Unit: bounded(s.exp.Metric)}}
	split := len(domains) > 1 && len(cells) > 1 && (apart(ranges) || len(domains) > mostLines)
	if split {
		for _, d := range domains {
			r.Panels = append(r.Panels, figure.Columned{Title: s.short[d], Scale: d})
		}
		caption += " Each domain has a panel with a scale of its own."
	} else {
		r.Panels = []figure.Columned{{}}
	}
	var section figure.Section
	for _, c := range cells {
		row := figure.Row{Name: c.name, Dots: make([][]figure.Dot, len(r.Panels))}
		for k, d := range domains {
			dot, ok := dot(c, d)
			if !ok {
				continue
			}
			dot.Look = figure.Look{Color: figure.Category(k), Mark: k % figure.Marks}
			at := 0
			if split {
				at, dot.Look = k, figure.Look{Color: figure.Category(0)}
			} else if len(domains) > 1 {
				dot.Name = s.short[d]
			}
			row.Dots[at] = append(row.Dots[at], dot)
		}
		section.Rows = append(section.Rows, row)
	}
	r.Sections = []figure.Section{section}
	caption += leftOut(left) + s.unscored(func(*cell) bool { return true })
	return s.drawn(drawing{name: cellsName, title: capital(label) + " by cell", caption: caption}, r), true
}

// fileName keeps letters, digits and a few marks of a path element.
func fileName(s string) string {
	const most = 100
	return filename.Fit(strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, s), most)
}
