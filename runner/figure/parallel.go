package figure

import (
	"math"

	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/loralab/loralab/runner/foreign"
)

// Parallel is a figure of parallel coordinates: an axis for each number of what is
// shown, and a line through all of them.
type Parallel struct {
	Title   string
	Key     string // heading of the key
	Axes    []Vertical
	Courses []Course // the last is in front
}

// Vertical is one of the axes.
type Vertical struct {
	Title     string
	Low, High float64
	Log       bool
	// Ticks are those of the axis; nil: its ends, and numbers between them.
	Ticks []Tick
}

// Course is a line through the axes.
type Course struct {
	Name string // in the key; "" is not in it
	Look Look
	// At are the places on the axes. NaN is below the axis, where what has no value is;
	// at the end of the line it ends the line.
	At   []float64
	Pale bool
	Bold bool
}

func (c Course) line() draw.LineStyle {
	switch {
	case c.Pale:
		return draw.LineStyle{Color: faded(pale, 0x90), Width: 0.5}
	case c.Bold:
		return c.Look.line(2.2)
	}
	return c.Look.line(0.9)
}

func (f *Parallel) lay(p *Notes) (vg.Length, func(c draw.Canvas)) {
	const high = 3.2 * vg.Inch
	tickStyle := sized(tickSize, text.XRight)
	n := len(f.Axes)
	without := make([]bool, n) // has courses without a value
	for _, c := range f.Courses {
		last := len(c.At) - 1
		for last >= 0 && math.IsNaN(c.At[last]) {
			last--
		}
		for i := range last {
			without[i] = without[i] || math.IsNaN(c.At[i])
		}
	}
	widest := 0.9 * vg.Inch // of a label
	if n > 2 {
		widest = min(widest, p.width/vg.Length(n)-10)
	}
	// Where there is no room between the axes, only the first and the last are labeled,
	// on their outer sides.
	outer := n > 1 && widest < vg.Inch/3
	if outer {
		widest = vg.Inch / 2
	}
	unlabeled := func(i int) bool { return outer && i > 0 && i < n-1 }
	ticks := make([][]Tick, n)
	gutter := vg.Length(0)
	for i, a := range f.Axes {
		ticks[i] = a.ticks(high)
		if unlabeled(i) {
			p.unlabelled = appendNew(p.unlabelled, foreign.Line(a.Title))
		}
		for k, t := range ticks[i] {
			if unlabeled(i) {
				ticks[i][k].Label = ""
				continue
			}
			ticks[i][k].Label = p.Fit(tickStyle, t.Label, widest)
			if i == 0 {
				gutter = max(gutter, tickStyle.Width(ticks[i][k].Label))
			}
		}
	}
	left := margin + max(gutter, 0.5*vg.Inch) + 8
	step := vg.Length(0)
	right := margin + 0.55*vg.Inch
	if n > 1 {
		step = (p.width - left - right) / vg.Length(n-1)
	}
	titleStyle, head := sized(titleSize, text.XLeft), sized(tickSize, text.XCenter)
	title := p.Fit(titleStyle, f.Title, p.width-2*margin)
	var entries []entry
	for _, c := range f.Courses {
		if c.Name != "" {
			entries = append(entries, entry{c.Name, func(canvas draw.Canvas, from, to vg.Point) { canvas.StrokeLine2(c.line(), from.X, from.Y, to.X, to.Y) }})
		}
	}
	key := p.key(f.Key, entries, p.width-2*margin)
	heads := make([][]string, n)
	above := vg.Length(2 * lineHeight)
	upright := step < 0.9*vg.Inch && n > 2 // headings that have no room side by side
	if upright {
		for _, a := range f.Axes {
			above = max(above, head.Width(a.Title)+5)
		}
		above = min(above, 1.9*vg.Inch)
	}
	for i, a := range f.Axes {
		if upright {
			heads[i] = []string{p.Fit(head, a.Title, above-4)}
			continue
		}
		room := max(step, 0.8*vg.Inch) - 14
		for _, line := range Wrap(head, a.Title, room) {
			heads[i] = append(heads[i], p.Fit(head, line, room))
		}
	}
	top := margin + lineHeight + key.height() + 8 + above
	const none = 16 // below the axis
	height := top + high + none + lineHeight + margin

	return height, func(c draw.Canvas) {
		c.FillText(titleStyle, vg.Point{X: margin, Y: height - margin - lineHeight/2}, title)
		key.draw(c, vg.Point{X: margin, Y: height - margin - lineHeight})
		bottom := height - top - high
		at := func(i int, v float64) vg.Point {
			y := bottom - none
			if !math.IsNaN(v) {
				a := f.Axes[i]
				y = scale{a.Low, a.High, a.Log, bottom, bottom + high}.at(v)
			}
			return vg.Point{X: left + vg.Length(i)*step, Y: y}
		}
		axis := draw.LineStyle{Color: Gray, Width: 0.8}
		for i := range f.Axes {
			x := left + vg.Length(i)*step
			c.StrokeLine2(axis, x, bottom, x, bottom+high)
		}
		for _, course := range f.Courses {
			values := course.At
			for len(values) > 0 && math.IsNaN(values[len(values)-1]) {
				values = values[:len(values)-1]
			}
			var line []vg.Point
			for i, v := range values {
				line = append(line, at(i, v))
			}
			if len(line) > 1 {
				c.StrokeLines(course.line(), line)
			}
			if course.Bold {
				for _, pt := range line {
					c.DrawGlyph(course.Look.mark(2.6), pt)
				}
			}
		}
		// In front of the lines, on white, so that they can be read.
		for i := range f.Axes {
			x := left + vg.Length(i)*step
			label := func(y vg.Length, shown string) {
				if shown == "" {
					return
				}
				if outer && i > 0 {
					c.FillText(sized(tickSize, text.XLeft), vg.Point{X: x + 5, Y: y}, shown)
					return
				}
				wide := tickStyle.Width(shown)
				fill(c, faded(white, 0xc8), x-6-wide, y-5, x-4, y+5)
				c.FillText(tickStyle, vg.Point{X: x - 5, Y: y}, shown)
			}
			for _, t := range ticks[i] {
				y := at(i, t.At).Y
				c.StrokeLine2(axis, x-3, y, x, y)
				label(y, t.Label)
			}
			if without[i] && !unlabeled(i) {
				label(bottom-none, "none")
			}
			for k, line := range heads[i] {
				if upright {
					turned := sized(tickSize, text.XLeft)
					turned.Rotation = math.Pi / 2
					c.FillText(turned, vg.Point{X: x, Y: bottom + high + 6}, line)
					continue
				}
				half := head.Width(line) / 2
				x := max(margin+half, min(x, p.width-margin-half))
				c.FillText(head, vg.Point{X: x, Y: bottom + high + 6 + (vg.Length(len(heads[i])-1-k)+0.5)*(lineHeight-2)}, line)
			}
		}
	}
}

// ticks are those of an axis of a height.
func (a Vertical) ticks(high vg.Length) []Tick {
	switch {
	case a.Ticks != nil:
		return append([]Tick(nil), a.Ticks...)
	case !a.Log:
		return roundNumbers(a.Low, a.High, false, float64(high/(0.45*vg.Inch)), always)
	}
	ticks := []Tick{}
	for k := math.Ceil(math.Log10(a.Low) - 1e-9); k <= math.Log10(a.High)+1e-9; k++ {
		ticks = append(ticks, Tick{math.Pow(10, k), Short(math.Pow(10, k))})
	}
	if len(ticks) < 2 {
		return []Tick{{a.Low, Short(a.Low)}, {a.High, Short(a.High)}}
	}
	return ticks
}
