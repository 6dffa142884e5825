package report

import (
	"fmt"
	"image/color"
	"math"
	"slices"
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

func (e *extent) around(mean, spread float64) {
	e.add(mean - spread)
	e.add(mean + spread)
}

// apply sets the axis to the extent and some room, within 0…1 if unit.
func (e *extent) apply(a *plot.Axis, unit bool) {
	room := max(0.06*(e.high-e.low), 1e-3)
	a.Min, a.Max = e.low-room, e.high+room
	if unit {
		a.Min, a.Max = max(a.Min, -0.01), min(a.Max, 1.01)
	}
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
		caption += " Filled marks are means, bars the sample standard deviation, rings next to them the seeds."
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
				limits.around(st.Mean, st.deviation())
				means, spreads = append(means, plotter.XY{X: st.Mean, Y: y}), append(spreads, st.deviation())
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
