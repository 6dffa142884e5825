package report

import (
	"fmt"
	"image/color"
	"math"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/loralab/loralab/core/filename"
)

// figures lists what can be drawn from the results there are.
func (s *study) figures() []figure {
	var list []figure
	if f, ok := s.lossFigure(); ok {
		list = append(list, f)
	}
	if f, ok := s.validationFigure(); ok {
		list = append(list, f)
	}
	numeric := false
	for _, a := range s.exp.Axes {
		if f, ok := s.axisFigure(a); ok {
			taken := func(other figure) bool { return other.name == f.name || f.name == "samples" }
			if slices.ContainsFunc(list, taken) {
				f.name = fileName(a)
			}
			list = append(list, f)
			numeric = true
		}
	}
	if !numeric {
		if f, ok := s.cellsFigure(); ok {
			list = append(list, f)
		}
	}
	if f, ok := s.samplesFigure(); ok {
		list = append(list, f)
	}
	return list
}

// look is how a cell is drawn where cells are told apart by colour.
type look struct {
	colour color.NRGBA
	dashes []vg.Length
}

// looks gives cells on one numeric axis colours in its order, others
// categorical ones; named cases, which mostly are baselines, are dashed.
func (s *study) looks() map[*cell]look {
	looks := make(map[*cell]look, len(s.cells))
	var swept, cases []*cell
	scaled := len(s.exp.Axes) == 1
	for _, c := range s.cells {
		if len(c.values) == 0 {
			cases = append(cases, c)
			continue
		}
		swept = append(swept, c)
		if _, ok := c.number(s.exp.Axes[0]); !ok {
			scaled = false
		}
	}
	if len(swept) == 0 { // named cases only: nothing to set them off from
		swept, cases = cases, nil
	}
	for i, c := range swept {
		switch {
		case scaled && len(c.values) > 0:
			looks[c] = look{ordered(i, len(swept)), nil}
		default:
			looks[c] = look{categorical[i%len(categorical)], dashes[i/len(categorical)%len(dashes)]}
		}
	}
	for i, c := range cases {
		if scaled {
			looks[c] = look{[]color.NRGBA{grey, categorical[1], categorical[3], ink}[i%4], dashes[1]}
		} else {
			looks[c] = look{categorical[(len(swept)+i)%len(categorical)], dashes[1]}
		}
	}
	return looks
}

// seedsText is "3 seeds", or the range where cells differ.
func (s *study) seedsText() string {
	low, high := math.MaxInt, 0
	for _, c := range s.cells {
		n := 0
		for _, o := range c.runs {
			if o.done() {
				n++
			}
		}
		if n > 0 {
			low, high = min(low, n), max(high, n)
		}
	}
	switch {
	case high == 0:
		return "no seed yet"
	case low == high && low == 1:
		return "1 seed"
	case low == high:
		return fmt.Sprintf("%d seeds", low)
	default:
		return fmt.Sprintf("%d to %d seeds", low, high)
	}
}

// several reports whether any cell has more than one trained seed.
func (s *study) several() bool {
	for _, c := range s.cells {
		n := 0
		for _, o := range c.runs {
			if o.done() {
				n++
			}
		}
		if n > 1 {
			return true
		}
	}
	return false
}

// lossName is the figure of the training loss.
const lossName = "training_loss"

func (s *study) lossFigure() (figure, bool) {
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
		return figure{}, false
	}
	// Some sixty points read well; more are averaged in bins.
	width := max(1, math.Ceil(longest/60))
	label := "training loss"
	if len(kinds) > 0 {
		label += " (" + strings.Join(kinds, " + ") + ")"
	}
	pick := func(o *outcome) []point { return o.curve.steps }
	caption := "Training loss over optimiser steps: mean over seeds; the band is the range of the seeds."
	if width > 1 {
		caption = fmt.Sprintf("Training loss over optimiser steps, in bins of %.0f steps: mean over seeds; the band is the range within the bin over all seeds.", width)
	}
	return s.curvesFigure(lossName, "Training loss", "step", label, caption, width, pick, false), true
}

func (s *study) validationFigure() (figure, bool) {
	drawn := false
	for _, c := range s.cells {
		for _, o := range c.runs {
			drawn = drawn || (o.curve != nil && len(o.curve.epochs) > 0)
		}
	}
	if !drawn {
		return figure{}, false
	}
	label := "validation " + metricLabel(s.exp.Metric)
	return s.curvesFigure("validation", "Validation", "epoch", label,
		"The validation split over epochs: mean over seeds; the band is the range of the seeds.", 1,
		func(o *outcome) []point { return o.curve.epochs }, true), true
}

func (s *study) curvesFigure(name, title, x, y, caption string, width float64, pick func(*outcome) []point, marks bool) figure {
	if text := s.faults(); text != "" {
		caption += " " + text
	}
	return figure{name: name, title: title, caption: caption, render: func() ([]file, error) {
		p := newPlot(s.exp.Name, x, y)
		p.X.Tick.Marker = niceTicks{whole: true}
		p.Y.Tick.Marker = niceTicks{}
		p.Add(horizontal{})
		looks := s.looks()
		var limits extent
		type line struct {
			c    *cell
			band []bandPoint
		}
		var lines []line
		for _, c := range s.cells {
			var curves [][]point
			for _, o := range c.runs {
				if o.curve != nil && len(pick(o)) > 0 {
					curves = append(curves, pick(o))
				}
			}
			if b := band(curves, width); len(b) > 0 {
				lines = append(lines, line{c, b})
			}
		}
		for _, l := range lines { // bands first, so that no band covers a line
			upper, lower := make(plotter.XYs, len(l.band)), make(plotter.XYs, len(l.band))
			for i, b := range l.band {
				upper[i], lower[len(l.band)-1-i] = plotter.XY{X: b.x, Y: b.high}, plotter.XY{X: b.x, Y: b.low}
				limits.add(b.low)
				limits.add(b.high)
			}
			polygon, err := plotter.NewPolygon(append(upper, lower...))
			if err != nil {
				return nil, fmt.Errorf("drawing %s: %w", name, err)
			}
			polygon.Color = faded(looks[l.c].colour, 0x26)
			polygon.LineStyle.Width = 0
			p.Add(polygon)
		}
		for _, l := range lines {
			means := make(plotter.XYs, len(l.band))
			for i, b := range l.band {
				means[i] = plotter.XY{X: b.x, Y: b.mean}
			}
			ln, pts, err := plotter.NewLinePoints(means)
			if err != nil {
				return nil, fmt.Errorf("drawing %s: %w", name, err)
			}
			k := looks[l.c]
			ln.LineStyle = draw.LineStyle{Color: k.colour, Width: vg.Points(1.5), Dashes: k.dashes}
			p.Add(ln)
			if marks {
				pts.GlyphStyle = draw.GlyphStyle{Color: k.colour, Radius: vg.Points(2.2), Shape: draw.CircleGlyph{}}
				p.Add(pts)
				p.Legend.Add(l.c.name, ln, pts)
			} else {
				p.Legend.Add(l.c.name, ln)
			}
		}
		if marks {
			limits.apply(&p.Y, bounded(s.exp.Metric))
			p.X.Min, p.X.Max = p.X.Min-0.15, p.X.Max+0.15
		} else {
			limits.apply(&p.Y, false)
			p.Y.Min = max(p.Y.Min, min(0, limits.low))
			p.X.Min = 0
		}
		return renderPlot(p, figureWidth, figureHeight)
	}}
}

// extent is the range of what is drawn.
type extent struct {
	low, high float64
	filled    bool
}

func (e *extent) add(v float64) {
	if math.IsNaN(v) {
		return
	}
	if !e.filled {
		e.low, e.high, e.filled = v, v, true
		return
	}
	e.low, e.high = min(e.low, v), max(e.high, v)
}

// apply sets the axis to the extent and some room, within 0…1 if unit.
func (e *extent) apply(a *plot.Axis, unit bool) {
	room := max(0.06*(e.high-e.low), 1e-3)
	a.Min, a.Max = e.low-room, e.high+room
	if unit {
		a.Min, a.Max = max(a.Min, -0.01), min(a.Max, 1.01)
	}
}

// bar is a mean with its deviation.
type bar struct {
	x, mean, std float64
}

// bars implements what plotter.NewYErrorBars asks for.
type bars []bar

func (b bars) Len() int                        { return len(b) }
func (b bars) XY(i int) (float64, float64)     { return b[i].x, b[i].mean }
func (b bars) YError(i int) (float64, float64) { return b[i].std, b[i].std }

// axisFigure shows the metric over a numeric axis: a line for each domain (and
// each place on the other axes), seeds as rings, cases without a place on the
// axis as level bands.
func (s *study) axisFigure(axis string) (figure, bool) {
	var xs []float64
	for _, c := range s.cells {
		x, ok := c.number(axis)
		if !ok {
			for _, v := range c.values {
				if v.Path == axis {
					return figure{}, false // the axis holds other values too
				}
			}
			continue
		}
		scored := false
		for _, d := range s.domains() {
			scored = scored || len(c.scores(d, s.exp.Metric)) > 0
		}
		if scored && !slices.Contains(xs, x) {
			xs = append(xs, x)
		}
	}
	if len(xs) < 2 {
		return figure{}, false
	}
	slices.Sort(xs)
	short := lastElement(axis)
	logarithmic := xs[0] > 0 && xs[len(xs)-1]/xs[0] >= 4
	label := metricLabel(s.exp.Metric)
	caption := fmt.Sprintf("%s over %s (`%s`), %s.", capital(label), short, axis, s.seedsText())
	if s.several() {
		caption += " Lines join the means, bars are the sample standard deviation, rings beside them the seeds."
	}
	for _, c := range s.cells {
		if len(c.values) == 0 {
			caption += " Dashed lines are cases without a place on the axis; their band is the sample standard deviation."
			break
		}
	}
	return figure{name: fileName(short), title: capital(label) + " over " + short, caption: caption, render: func() ([]file, error) {
		xLabel := short
		if logarithmic {
			xLabel += " (log scale)"
		}
		p := newPlot(s.exp.Name, xLabel, label)
		p.Y.Tick.Marker = niceTicks{}
		var ticks plot.ConstantTicks
		for _, x := range xs {
			ticks = append(ticks, plot.Tick{Value: x, Label: strconv.FormatFloat(x, 'g', -1, 64)})
		}
		p.X.Tick.Marker = ticks
		p.Add(horizontal{})

		low, high := xs[0], xs[len(xs)-1]
		// shift moves x by a part of the axis, whatever its scale.
		shift := func(x, part float64) float64 { return x + part*(high-low) }
		if logarithmic {
			p.X.Scale = plot.LogScale{}
			shift = func(x, part float64) float64 { return x * math.Pow(high/low, part) }
		}

		var limits extent
		// Baselines lie behind everything.
		dash := 1
		type entry struct {
			name  string
			thumb []plot.Thumbnailer
		}
		var legend []entry
		for _, c := range s.cells {
			if len(c.values) > 0 {
				continue
			}
			drawn := false
			for k, d := range s.domains() {
				st := newStat(c.scores(d, s.exp.Metric))
				if st.N == 0 {
					continue
				}
				colour := categorical[k%len(categorical)]
				spread := st.Std
				if st.N < 2 {
					spread = 0
				}
				limits.add(st.Mean - spread)
				limits.add(st.Mean + spread)
				level := &level{st.Mean, spread, draw.LineStyle{Color: colour, Width: vg.Points(1.2), Dashes: dashes[dash%len(dashes)]}, faded(colour, 0x1c)}
				p.Add(level)
				legend = append(legend, entry{fmt.Sprintf("%s, %s", d, c.name), []plot.Thumbnailer{level}})
				drawn = true
			}
			if drawn {
				dash = dash%(len(dashes)-1) + 1
			}
		}

		// Lines: a colour and mark for each domain; the places on other axes are
		// told apart by dashes, or, with one domain, by colour.
		var groups []string
		for _, c := range s.cells {
			if _, ok := c.number(axis); ok && !slices.Contains(groups, c.others(axis)) {
				groups = append(groups, c.others(axis))
			}
		}
		var front []entry
		total := len(s.domains()) * len(groups)
		index := 0
		for k, d := range s.domains() {
			for g, group := range groups {
				colour, pattern := categorical[k%len(categorical)], dashes[g%len(dashes)]
				if len(s.domains()) == 1 || len(groups) > len(dashes) {
					colour, pattern = categorical[g%len(categorical)], dashes[k%len(dashes)]
				}
				// Neighbouring series are set apart a little, so that their bars
				// do not hide each other.
				offset := 0.012 * (float64(index) - float64(total-1)/2)
				index++
				var data bars
				var seeds plotter.XYs
				for _, c := range s.cells {
					x, ok := c.number(axis)
					if !ok || c.others(axis) != group {
						continue
					}
					scores := c.scores(d, s.exp.Metric)
					st := newStat(scores)
					if st.N == 0 {
						continue
					}
					for _, v := range scores {
						limits.add(v)
						if st.N > 1 {
							seeds = append(seeds, plotter.XY{X: shift(x, offset+0.018), Y: v})
						}
					}
					spread := st.Std
					if st.N < 2 {
						spread = 0
					}
					limits.add(st.Mean - spread)
					limits.add(st.Mean + spread)
					data = append(data, bar{shift(x, offset), st.Mean, spread})
				}
				if len(data) == 0 {
					continue
				}
				slices.SortFunc(data, func(a, b bar) int { return int(math.Copysign(1, a.x-b.x)) })
				thumbs, err := addSeries(p, data, seeds, colour, pattern, glyphs[k%len(glyphs)])
				if err != nil {
					return nil, fmt.Errorf("drawing the figure over %s: %w", axis, err)
				}
				name := d
				if group != "" {
					name += ", " + group
				}
				front = append(front, entry{name, thumbs})
			}
		}
		for _, e := range append(front, legend...) {
			p.Legend.Add(e.name, e.thumb...)
		}
		limits.apply(&p.Y, bounded(s.exp.Metric))
		p.X.Min, p.X.Max = shift(low, -0.08), shift(high, 0.08)
		return renderPlot(p, figureWidth, figureHeight)
	}}, true
}

func addSeries(p *plot.Plot, data bars, seeds plotter.XYs, colour color.NRGBA, pattern []vg.Length, glyph draw.GlyphDrawer) ([]plot.Thumbnailer, error) {
	line, points, err := plotter.NewLinePoints(plotter.XYs(xys(data)))
	if err != nil {
		return nil, err
	}
	line.LineStyle = draw.LineStyle{Color: colour, Width: vg.Points(1.6), Dashes: pattern}
	points.GlyphStyle = draw.GlyphStyle{Color: colour, Radius: vg.Points(3.6), Shape: glyph}
	errorBars, err := plotter.NewYErrorBars(data)
	if err != nil {
		return nil, err
	}
	errorBars.LineStyle = draw.LineStyle{Color: colour, Width: vg.Points(1.2)}
	errorBars.CapWidth = vg.Points(7)
	p.Add(line)
	if len(seeds) > 0 {
		p.Add(errorBars)
		rings, err := plotter.NewScatter(seeds)
		if err != nil {
			return nil, err
		}
		rings.GlyphStyle = draw.GlyphStyle{Color: faded(colour, 0xd0), Radius: vg.Points(2.4), Shape: draw.RingGlyph{}}
		p.Add(rings)
	}
	p.Add(points)
	return []plot.Thumbnailer{line, points}, nil
}

func xys(data bars) []plotter.XY {
	out := make([]plotter.XY, len(data))
	for i, b := range data {
		out[i] = plotter.XY{X: b.x, Y: b.mean}
	}
	return out
}

// level is a mean and its spread across the whole plot.
type level struct {
	mean, spread float64
	line         draw.LineStyle
	fill         color.Color
}

func (l *level) Plot(c draw.Canvas, p *plot.Plot) {
	_, y := p.Transforms(&c)
	if l.spread > 0 {
		low, high := max(y(l.mean-l.spread), c.Min.Y), min(y(l.mean+l.spread), c.Max.Y)
		c.FillPolygon(l.fill, []vg.Point{{X: c.Min.X, Y: low}, {X: c.Max.X, Y: low}, {X: c.Max.X, Y: high}, {X: c.Min.X, Y: high}})
	}
	c.StrokeLine2(l.line, c.Min.X, y(l.mean), c.Max.X, y(l.mean))
}

func (l *level) Thumbnail(c *draw.Canvas) {
	if l.spread > 0 {
		c.FillPolygon(l.fill, []vg.Point{c.Min, {X: c.Max.X, Y: c.Min.Y}, c.Max, {X: c.Min.X, Y: c.Max.Y}})
	}
	y := c.Center().Y
	c.StrokeLine2(l.line, c.Min.X, y, c.Max.X, y)
}

// cellsFigure shows every cell as a line of the figure, with its domains beside
// each other: for matrices without a numeric axis.
func (s *study) cellsFigure() (figure, bool) {
	var shown []*cell
	for _, c := range s.cells {
		for _, d := range s.domains() {
			if len(c.scores(d, s.exp.Metric)) > 0 {
				shown = append(shown, c)
				break
			}
		}
	}
	if len(shown) == 0 {
		return figure{}, false
	}
	label := metricLabel(s.exp.Metric)
	caption := fmt.Sprintf("%s of every cell, %s.", capital(label), s.seedsText())
	if s.several() {
		caption += " Filled marks are means, bars the sample standard deviation, rings beside them the seeds."
	}
	return figure{name: "cells", title: capital(label) + " by cell", caption: caption, render: func() ([]file, error) {
		p := newPlot(s.exp.Name, label, "")
		p.X.Tick.Marker = niceTicks{}
		p.Add(vertical{})
		var ticks plot.ConstantTicks
		var limits extent
		// The first cell of the file stands on top.
		for i, c := range shown {
			ticks = append(ticks, plot.Tick{Value: float64(len(shown) - 1 - i), Label: c.name})
		}
		p.Y.Tick.Marker = ticks
		p.Y.Tick.Length = 0
		apart := min(0.22, 0.6/float64(len(s.domains())))
		for k, d := range s.domains() {
			colour := categorical[k%len(categorical)]
			var means, seeds plotter.XYs
			var spreads []float64
			for i, c := range shown {
				scores := c.scores(d, s.exp.Metric)
				st := newStat(scores)
				if st.N == 0 {
					continue
				}
				y := float64(len(shown)-1-i) - apart*(float64(k)-float64(len(s.domains())-1)/2)
				for _, v := range scores {
					limits.add(v)
					if st.N > 1 {
						seeds = append(seeds, plotter.XY{X: v, Y: y - 0.09})
					}
				}
				spread := 0.0
				if st.N > 1 {
					spread = st.Std
				}
				limits.add(st.Mean - spread)
				limits.add(st.Mean + spread)
				means, spreads = append(means, plotter.XY{X: st.Mean, Y: y}), append(spreads, spread)
			}
			if len(means) == 0 {
				continue
			}
			if len(seeds) > 0 {
				errorBars, err := plotter.NewXErrorBars(spans{means, spreads})
				if err != nil {
					return nil, fmt.Errorf("drawing the cells: %w", err)
				}
				errorBars.LineStyle = draw.LineStyle{Color: colour, Width: vg.Points(1.3)}
				errorBars.CapWidth = vg.Points(7)
				rings, err := plotter.NewScatter(seeds)
				if err != nil {
					return nil, fmt.Errorf("drawing the cells: %w", err)
				}
				rings.GlyphStyle = draw.GlyphStyle{Color: faded(colour, 0xd0), Radius: vg.Points(2.6), Shape: draw.RingGlyph{}}
				p.Add(errorBars, rings)
			}
			points, err := plotter.NewScatter(means)
			if err != nil {
				return nil, fmt.Errorf("drawing the cells: %w", err)
			}
			points.GlyphStyle = draw.GlyphStyle{Color: colour, Radius: vg.Points(4), Shape: glyphs[k%len(glyphs)]}
			p.Add(points)
			p.Legend.Add(d, points)
		}
		limits.apply(&p.X, bounded(s.exp.Metric))
		p.Y.Min, p.Y.Max = -0.6, float64(len(shown))-0.4
		height := max(3*vg.Inch, 1.3*vg.Inch+vg.Length(len(shown))*0.42*vg.Inch)
		return renderPlot(p, figureWidth, height)
	}}, true
}

// spans implements what plotter.NewXErrorBars asks for.
type spans struct {
	means   plotter.XYs
	spreads []float64
}

func (s spans) Len() int                        { return len(s.means) }
func (s spans) XY(i int) (float64, float64)     { return s.means[i].X, s.means[i].Y }
func (s spans) XError(i int) (float64, float64) { return s.spreads[i], s.spreads[i] }

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

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
