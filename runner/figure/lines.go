package figure

import (
	"image/color"
	"math"
	"slices"
	"sort"

	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Lines is a figure of lines over an axis, in one panel or several. All panels
// have the same X.
type Lines struct {
	Title  string
	X, Y   Axis
	Key    string // heading of the key
	Panels []Panel
}

// Panel is a part of a figure with axes of its own.
type Panel struct {
	Title string
	// Scale names the range of Y: panels with the same have the same range.
	Scale  string
	Series []Series
	Levels []Level
}

// Series is a line.
type Series struct {
	Name   string // in the key, where each name is once; "" is not in it
	Look   Look
	Points []Point // ascending
	Band   bool    // Low and High bound a band; else they end bars
	Marked bool    // points have marks
	Behind bool    // pale and thin, for comparison
	Thin   bool    // one of many
}

// Point is one of a line.
type Point struct {
	X, Y, Low, High float64
	Seeds           []float64
}

// Level is a line at one value, with a band.
type Level struct {
	Name         string
	Look         Look
	Y, Low, High float64
}

func (l *Lines) lay(p *Notes) (vg.Length, func(c draw.Canvas)) {
	var x Extent
	ys := map[string]*Extent{}
	for _, panel := range l.Panels {
		y := ys[panel.Scale]
		if y == nil {
			y = &Extent{}
			ys[panel.Scale] = y
		}
		for _, s := range panel.Series {
			for _, pt := range s.Points {
				x.Add(pt.X)
				y.Add(pt.Y, pt.Low, pt.High)
				y.Add(pt.Seeds...)
			}
		}
		for _, level := range panel.Levels {
			y.Add(level.Y, level.Low, level.High)
		}
	}
	for _, t := range l.X.Ticks {
		x.Add(t.At)
	}
	columns := p.grid(len(l.Panels))
	rows := (len(l.Panels) + columns - 1) / columns
	high := [...]vg.Length{0, 3.6 * vg.Inch, 2.6 * vg.Inch, 2.1 * vg.Inch}[min(columns, 3)]
	high = min(high, 0.62*p.width)
	switch {
	case rows > 4: // six rows fit a page
		high = 1.2 * vg.Inch
	case rows > 1:
		high = 1.5 * vg.Inch
	}

	// From left to right.
	tickStyle := sized(tickSize, text.XCenter)
	ticksOf := func(scale string) (low, high2 float64, ticks []Tick) {
		low, high2 = ys[scale].roomy(l.Y)
		return low, high2, roundNumbers(low, high2, l.Y.Whole, float64(high/(0.31*vg.Inch)), always)
	}
	// numbered reports whether a panel has numbers along Y: its neighbor's may do.
	numbered := func(i int) bool {
		return i%columns == 0 || l.Panels[i].Scale != l.Panels[i-1].Scale
	}
	gutters := make([]vg.Length, columns)
	for i, panel := range l.Panels {
		if !numbered(i) {
			continue
		}
		_, _, ticks := ticksOf(panel.Scale)
		for _, t := range ticks {
			gutters[i%columns] = max(gutters[i%columns], tickStyle.Width(t.Label)+6)
		}
	}
	labelStyle := sized(labelSize, text.XCenter)
	left := margin + lineHeight + 4 // with the title of Y, turned
	const gap = 14
	wide := p.width - left - margin - 6
	for _, g := range gutters {
		wide -= g + gap
	}
	wide = (wide + gap) / vg.Length(columns)
	xs := make([]scale, columns)
	lowX, highX := x.roomy(l.X)
	at := left
	for i := range xs {
		at += gutters[i]
		xs[i] = scale{lowX, highX, l.X.Log, at, at + wide}
		at += wide + gap
	}
	ticksX := l.X.Ticks
	if ticksX == nil {
		ticksX = apartNumbers(xs[0], l.X.Whole, tickStyle)
	}
	ticksX = slices.DeleteFunc(slices.Clone(ticksX), func(t Tick) bool { return t.At < x.Low-1e-9 || t.At > x.High+1e-9 })
	sort.SliceStable(ticksX, func(i, j int) bool { return ticksX[i].At < ticksX[j].At })
	ticksX = p.labels(ticksX, xs[0], tickStyle, l.X.Ticks != nil)

	// From top to bottom.
	first := xs[0].from
	room := p.width - first - margin
	titleStyle := sized(titleSize, text.XLeft)
	title := p.Fit(titleStyle, l.Title, room)
	key := p.key(l.Key, l.entries(), room)
	titles := make([]string, len(l.Panels))
	over := vg.Length(4)
	for i, panel := range l.Panels {
		titles[i] = p.Fit(sized(tickSize, text.XLeft), panel.Title, wide)
		if titles[i] != "" {
			over = lineHeight + 2
		}
	}
	top := margin + lineHeight + key.height() + 4
	pitch := over + high + 10
	if over == 4 {
		pitch = high + 6
	}
	bottom := top + vg.Length(rows)*pitch - (pitch - over - high)
	height := bottom + lineHeight + lineHeight + 6 + margin
	titleX, titleY := p.Fit(labelStyle, l.X.Title, p.width-first), p.Fit(labelStyle, l.Y.Title, bottom-top+lineHeight)

	return height, func(c draw.Canvas) {
		up := func(y vg.Length) vg.Length { return height - y }
		c.FillText(titleStyle, vg.Point{X: first, Y: up(margin + lineHeight/2)}, title)
		key.draw(c, vg.Point{X: first, Y: up(margin + lineHeight)})
		for i, panel := range l.Panels {
			x := xs[i%columns]
			bottom := up(top + vg.Length(i/columns)*pitch + over + high)
			low, most, ticks := ticksOf(panel.Scale)
			y := scale{low, most, l.Y.Log, bottom, bottom + high}
			c.FillText(sized(tickSize, text.XLeft), vg.Point{X: x.from, Y: y.to + lineHeight/2}, titles[i])
			for _, t := range ticks {
				c.StrokeLine2(draw.LineStyle{Color: Rule, Width: 0.5}, x.from, y.at(t.At), x.to, y.at(t.At))
				if numbered(i) {
					c.FillText(sized(tickSize, text.XRight), vg.Point{X: x.from - 5, Y: y.at(t.At)}, t.Label)
				}
			}
			axis := draw.LineStyle{Color: Gray, Width: 0.6}
			c.StrokeLine2(axis, x.from, y.from, x.to, y.from)
			c.StrokeLine2(axis, x.from, y.from, x.from, y.to)
			for _, t := range ticksX {
				c.StrokeLine2(axis, x.at(t.At), y.from, x.at(t.At), y.from-3)
				if i+columns >= len(l.Panels) {
					c.FillText(tickStyle, vg.Point{X: x.within(t.At, tickStyle.Width(t.Label)/2), Y: y.from - 3 - lineHeight/2}, t.Label)
				}
			}
			panel.draw(c, x, y)
		}
		middle := (xs[0].from + xs[columns-1].to) / 2
		c.FillText(labelStyle, vg.Point{X: middle, Y: up(height - margin - lineHeight/2)}, titleX)
		turned := labelStyle
		turned.Rotation = math.Pi / 2
		c.FillText(turned, vg.Point{X: margin + lineHeight/2, Y: up((top + over + bottom) / 2)}, titleY)
	}
}

// entries are the names of all panels, each once.
func (l *Lines) entries() []entry {
	var entries []entry
	seen := map[string]bool{}
	for _, panel := range l.Panels {
		for _, s := range panel.Series {
			if s.Name == "" || seen[s.Name] {
				continue
			}
			seen[s.Name] = true
			entries = append(entries, entry{s.Name, func(c draw.Canvas, from, to vg.Point) {
				c.StrokeLine2(s.line(), from.X, from.Y, to.X, to.Y)
				if s.Marked {
					c.DrawGlyph(s.Look.mark(3), vg.Point{X: (from.X + to.X) / 2, Y: from.Y})
				}
			}})
		}
	}
	for _, panel := range l.Panels {
		for _, level := range panel.Levels {
			if level.Name == "" || seen[level.Name] {
				continue
			}
			seen[level.Name] = true
			entries = append(entries, entry{level.Name, func(c draw.Canvas, from, to vg.Point) {
				if level.High > level.Low {
					fill(c, faded(level.Look.Color, 0x1c), from.X, from.Y-4, to.X, from.Y+4)
				}
				c.StrokeLine2(level.Look.line(1.2), from.X, from.Y, to.X, to.Y)
			}})
		}
	}
	return entries
}

func (s Series) line() draw.LineStyle {
	if s.Behind {
		return draw.LineStyle{Color: pale, Width: 0.5}
	}
	if s.Thin {
		return s.Look.line(0.8)
	}
	return s.Look.line(1.5)
}

func fill(c draw.Canvas, color color.Color, x0, y0, x1, y1 vg.Length) {
	c.FillPolygon(color, []vg.Point{{X: x0, Y: y0}, {X: x1, Y: y0}, {X: x1, Y: y1}, {X: x0, Y: y1}})
}

// draw draws what a panel shows: what is behind first, marks last, so that none is
// hidden by a line.
func (p Panel) draw(c draw.Canvas, x, y scale) {
	for _, level := range p.Levels {
		if level.High > level.Low {
			fill(c, faded(level.Look.Color, 0x1c), x.from, y.at(max(level.Low, y.low)), x.to, y.at(min(level.High, y.high)))
		}
		c.StrokeLine2(level.Look.line(1.2), x.from, y.at(level.Y), x.to, y.at(level.Y))
	}
	for _, s := range p.Series {
		if !s.Band || s.Behind {
			continue
		}
		var band []vg.Point
		for _, pt := range s.Points {
			band = append(band, vg.Point{X: x.at(pt.X), Y: y.at(pt.High)})
		}
		for _, pt := range slices.Backward(s.Points) {
			band = append(band, vg.Point{X: x.at(pt.X), Y: y.at(pt.Low)})
		}
		c.FillPolygon(faded(s.Look.Color, 0x26), band)
	}
	for _, behind := range []bool{true, false} {
		for _, s := range p.Series {
			if s.Behind != behind {
				continue
			}
			line := make([]vg.Point, len(s.Points))
			for i, pt := range s.Points {
				line[i] = vg.Point{X: x.at(pt.X), Y: y.at(pt.Y)}
			}
			if len(line) > 1 {
				c.StrokeLines(s.line(), line)
			}
			for i, pt := range s.Points {
				at := line[i]
				if s.Behind {
					continue
				}
				if !s.Band && pt.High > pt.Low {
					bar := draw.LineStyle{Color: s.Look.Color, Width: 1.2}
					c.StrokeLine2(bar, at.X, y.at(pt.Low), at.X, y.at(pt.High))
					c.StrokeLine2(bar, at.X-3, y.at(pt.Low), at.X+3, y.at(pt.Low))
					c.StrokeLine2(bar, at.X-3, y.at(pt.High), at.X+3, y.at(pt.High))
				}
				for _, seed := range pt.Seeds {
					c.DrawGlyph(s.Look.ring(), vg.Point{X: at.X, Y: y.at(seed)})
				}
				if s.Marked || len(line) == 1 {
					c.DrawGlyph(s.Look.mark(3), at)
				}
			}
		}
	}
}
