package figure

import (
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Scatter is a figure of marks in panels, each with an X of its own.
type Scatter struct {
	Title   string
	Y       Axis
	Key     string // heading of the key
	Columns int    // of panels; 0: as many as look well
	Panels  []Plot
}

// Plot is a panel of a Scatter.
type Plot struct {
	Title string
	// Scale names the range of Y: panels with the same have the same range.
	Scale string
	X     Axis
	Range Extent   // X shows at least this
	Lines []Series // behind the marks; Band has no effect
	Marks []Mark
}

// Mark is a mark at a point, with an interval along Y.
type Mark struct {
	Name      string // in the key, where each name is once; "" is not in it
	Look      Look
	X, Y      float64
	Low, High float64 // both 0: no interval
	Ring      bool    // a ring in place of the mark
	Around    bool    // a wide ring, around another mark
}

func (s *Scatter) lay(p *Notes) (vg.Length, func(c draw.Canvas)) {
	xs := make([]Extent, len(s.Panels))
	ys := map[string]*Extent{}
	for i, panel := range s.Panels {
		y := ys[panel.Scale]
		if y == nil {
			y = &Extent{}
			ys[panel.Scale] = y
		}
		xs[i] = panel.Range
		for _, line := range panel.Lines {
			for _, pt := range line.Points {
				xs[i].Add(pt.X)
				y.Add(pt.Y)
			}
		}
		for _, m := range panel.Marks {
			xs[i].Add(m.X)
			y.Add(m.Y)
			if m.High > m.Low {
				y.Add(m.Low, m.High)
			}
		}
	}
	columns := s.Columns
	if columns == 0 {
		columns = p.grid(len(s.Panels))
	}
	if p.width < narrow {
		columns = 1
	}
	columns = max(1, min(columns, len(s.Panels)))
	rows := (len(s.Panels) + columns - 1) / columns
	high := 2.0 * vg.Inch
	if rows == 1 {
		high = min(2.6*vg.Inch, 0.62*p.width)
	}
	tickStyle, labelStyle := sized(tickSize, text.XCenter), sized(labelSize, text.XCenter)
	ticksOf := func(scale string) (low, most float64, ticks []Tick) {
		low, most = ys[scale].roomy(s.Y)
		return low, most, roundNumbers(low, most, s.Y.Whole, float64(high/(0.31*vg.Inch)), always)
	}
	numbered := func(i int) bool { return i%columns == 0 || s.Panels[i].Scale != s.Panels[i-1].Scale }
	gutters := make([]vg.Length, columns)
	for i, panel := range s.Panels {
		if !numbered(i) {
			continue
		}
		_, _, ticks := ticksOf(panel.Scale)
		for _, t := range ticks {
			gutters[i%columns] = max(gutters[i%columns], tickStyle.Width(t.Label)+6)
		}
	}
	left := margin + lineHeight + 4 // with the title of Y, turned
	const gap = 14
	wide := p.width - left - margin - 6
	for _, g := range gutters {
		wide -= g + gap
	}
	wide = (wide + gap) / vg.Length(columns)
	froms := make([]vg.Length, columns)
	at := left
	for i := range froms {
		at += gutters[i]
		froms[i] = at
		at += wide + gap
	}
	scales, ticks := make([]scale, len(s.Panels)), make([][]Tick, len(s.Panels))
	titles, below := make([]string, len(s.Panels)), make([]string, len(s.Panels))
	over := vg.Length(4)
	for i, panel := range s.Panels {
		from := froms[i%columns]
		low, most := xs[i].roomy(panel.X)
		scales[i] = scale{low, most, panel.X.Log, from, from + wide}
		ticks[i] = panel.X.Ticks
		if ticks[i] == nil {
			ticks[i] = numbersAlong(scales[i], panel.X.Whole, tickStyle)
		}
		ticks[i] = p.labels(ticks[i], scales[i], tickStyle, panel.X.Ticks != nil)
		titles[i] = p.Fit(sized(tickSize, text.XLeft), panel.Title, wide)
		below[i] = p.Fit(labelStyle, panel.X.Title, wide)
		if titles[i] != "" {
			over = lineHeight + 2
		}
	}

	// From top to bottom.
	first := froms[0]
	room := p.width - first - margin
	titleStyle := sized(titleSize, text.XLeft)
	title := p.Fit(titleStyle, s.Title, room)
	key := p.key(s.Key, s.entries(), room)
	top := margin + lineHeight + key.height() + 4
	pitch := over + high + 2*lineHeight + 12
	height := top + vg.Length(rows)*pitch + margin - 6
	titleY := p.Fit(labelStyle, s.Y.Title, vg.Length(rows)*pitch)

	return height, func(c draw.Canvas) {
		up := func(y vg.Length) vg.Length { return height - y }
		c.FillText(titleStyle, vg.Point{X: first, Y: up(margin + lineHeight/2)}, title)
		key.draw(c, vg.Point{X: first, Y: up(margin + lineHeight)})
		for i, panel := range s.Panels {
			x := scales[i]
			bottom := up(top + vg.Length(i/columns)*pitch + over + high)
			low, most, ticksY := ticksOf(panel.Scale)
			y := scale{low, most, s.Y.Log, bottom, bottom + high}
			c.FillText(sized(tickSize, text.XLeft), vg.Point{X: x.from, Y: y.to + lineHeight/2}, titles[i])
			for _, t := range ticksY {
				c.StrokeLine2(draw.LineStyle{Color: Rule, Width: 0.5}, x.from, y.at(t.At), x.to, y.at(t.At))
				if numbered(i) {
					c.FillText(sized(tickSize, text.XRight), vg.Point{X: x.from - 5, Y: y.at(t.At)}, t.Label)
				}
			}
			axis := draw.LineStyle{Color: Gray, Width: 0.6}
			c.StrokeLine2(axis, x.from, y.from, x.to, y.from)
			c.StrokeLine2(axis, x.from, y.from, x.from, y.to)
			for _, t := range ticks[i] {
				c.StrokeLine2(axis, x.at(t.At), y.from, x.at(t.At), y.from-3)
				c.FillText(tickStyle, vg.Point{X: x.within(t.At, tickStyle.Width(t.Label)/2), Y: y.from - 3 - lineHeight/2}, t.Label)
			}
			c.FillText(labelStyle, vg.Point{X: (x.from + x.to) / 2, Y: y.from - 6 - 1.5*lineHeight}, below[i])
			panel.draw(c, x, y)
		}
		turned := labelStyle
		turned.Rotation = math.Pi / 2
		c.FillText(turned, vg.Point{X: margin + lineHeight/2, Y: up(top + (vg.Length(rows)*pitch)/2)}, titleY)
	}
}

func (p Plot) draw(c draw.Canvas, x, y scale) {
	for _, s := range p.Lines {
		line := make([]vg.Point, len(s.Points))
		for i, pt := range s.Points {
			line[i] = vg.Point{X: x.at(pt.X), Y: y.at(pt.Y)}
		}
		if len(line) > 1 {
			c.StrokeLines(s.line(), line)
		}
		if s.Marked {
			for _, at := range line {
				c.DrawGlyph(s.Look.mark(2.4), at)
			}
		}
	}
	for _, m := range p.Marks {
		at := vg.Point{X: x.at(m.X), Y: y.at(m.Y)}
		if m.High > m.Low {
			bar := draw.LineStyle{Color: m.Look.Color, Width: 1.2}
			c.StrokeLine2(bar, at.X, y.at(m.Low), at.X, y.at(m.High))
			c.StrokeLine2(bar, at.X-3, y.at(m.Low), at.X+3, y.at(m.Low))
			c.StrokeLine2(bar, at.X-3, y.at(m.High), at.X+3, y.at(m.High))
		}
		c.DrawGlyph(m.glyph(), at)
	}
}

func (m Mark) glyph() draw.GlyphStyle {
	if m.Around {
		ring := m.Look.ring()
		ring.Radius = vg.Points(6)
		return ring
	}
	if m.Ring {
		ring := m.Look.ring()
		ring.Radius = vg.Points(2.8)
		return ring
	}
	return m.Look.mark(3.2)
}

// entries are the names of all panels, each once: marks, then rings, then lines.
func (s *Scatter) entries() []entry {
	var entries []entry
	seen := map[string]bool{}
	for _, rings := range []bool{false, true} {
		for _, panel := range s.Panels {
			for _, m := range panel.Marks {
				if m.Name == "" || seen[m.Name] || rings != (m.Ring || m.Around) {
					continue
				}
				seen[m.Name] = true
				entries = append(entries, entry{m.Name, func(c draw.Canvas, from, to vg.Point) {
					c.DrawGlyph(m.glyph(), vg.Point{X: (from.X + to.X) / 2, Y: from.Y})
				}})
			}
		}
	}
	for _, panel := range s.Panels {
		for _, l := range panel.Lines {
			if l.Name == "" || seen[l.Name] {
				continue
			}
			seen[l.Name] = true
			entries = append(entries, entry{l.Name, func(c draw.Canvas, from, to vg.Point) {
				c.StrokeLine2(l.line(), from.X, from.Y, to.X, to.Y)
			}})
		}
	}
	return entries
}

// numbersAlong are round numbers along a horizontal axis: powers of ten, and twice and
// five times these, on a logarithmic one.
func numbersAlong(s scale, whole bool, style draw.TextStyle) []Tick {
	if !s.log {
		ticks := apartNumbers(s, whole, style)
		for i := range ticks {
			ticks[i].Label = grouped(ticks[i].Label)
		}
		return ticks
	}
	for _, factors := range [][]float64{{1, 2, 5}, {1}} {
		var ticks []Tick
		for k := math.Floor(math.Log10(s.low)); k <= math.Log10(s.high); k++ {
			for _, f := range factors {
				if v := f * math.Pow(10, k); v >= s.low*(1-1e-9) && v <= s.high*(1+1e-9) {
					ticks = append(ticks, Tick{v, Short(v)})
				}
			}
		}
		fits := len(ticks) > 1
		for i := range len(ticks) - 1 {
			room := s.at(ticks[i+1].At) - s.at(ticks[i].At)
			fits = fits && (style.Width(ticks[i].Label)+style.Width(ticks[i+1].Label))/2+8 <= room
		}
		if fits || len(factors) == 1 && len(ticks) > 1 {
			return ticks
		}
	}
	return []Tick{{s.low, Short(s.low)}, {s.high, Short(s.high)}}
}

// Short is a number with three digits at most: "1e-5", "0.002", "12,300".
func Short(v float64) string {
	if a := math.Abs(v); a >= 1e4 && a < 1e15 {
		digits := math.Pow(10, math.Floor(math.Log10(a))-2)
		sign := ""
		if v < 0 {
			sign = "\u2212"
		}
		return sign + grouped(strconv.FormatFloat(math.Round(a/digits)*digits, 'f', 0, 64))
	}
	text := strconv.FormatFloat(v, 'g', 3, 64)
	if mantissa, exponent, ok := strings.Cut(text, "e"); ok {
		e, _ := strconv.Atoi(exponent)
		text = mantissa + "e" + strconv.Itoa(e)
	}
	return text
}

// grouped puts commas between the thousands of a whole number of five digits or more.
func grouped(text string) string {
	if len(text) < 5 || strings.Trim(text, "0123456789") != "" {
		return text
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
