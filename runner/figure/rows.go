package figure

import (
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Rows is a figure with a row for each name, and marks with intervals along X:
// what has no place on an axis, and effects.
type Rows struct {
	Title string
	X     Axis
	Key   string // heading of the key
	// Zero draws a line at 0.
	Zero     bool
	Panels   []Columned
	Sections []Section
}

// Columned is a panel: a column of marks.
type Columned struct {
	Title string
	Scale string // panels with the same have the same range
}

// Section is rows under a heading, which may be "".
type Section struct {
	Title string
	Rows  []Row
}

// Row is a name with its marks in each panel.
type Row struct {
	Name string
	Dots [][]Dot // by panel
}

// Dot is a mark.
type Dot struct {
	Name         string // in the key; "" is not in it
	Look         Look
	X, Low, High float64
	Seeds        []float64
}

func (r *Rows) lay(p *Notes) (vg.Length, func(c draw.Canvas)) {
	xs := map[string]*Extent{}
	most, rows := 1, 0
	nameStyle := sized(tickSize, text.XLeft)
	widest := vg.Length(0)
	const indent = 8
	for _, s := range r.Sections {
		for _, row := range s.Rows {
			rows++
			in := nameStyle.Width(row.Name)
			if s.Title != "" {
				in += indent
			}
			widest = max(widest, in)
			for i, dots := range row.Dots {
				x := xs[r.Panels[i].Scale]
				if x == nil {
					x = &Extent{}
					xs[r.Panels[i].Scale] = x
				}
				most = max(most, len(dots))
				for _, d := range dots {
					x.Add(d.X, d.Low, d.High)
					x.Add(d.Seeds...)
				}
				if r.Zero {
					x.Add(0)
				}
			}
		}
		widest = max(widest, nameStyle.Width(s.Title))
	}
	columns := min(len(r.Panels), p.grid(3))
	blocks := (len(r.Panels) + columns - 1) / columns
	gutter := min(widest, 0.4*p.width) + 8
	const gap = 22
	wide := (p.width - 2*margin - 10 - gutter - vg.Length(columns-1)*gap) / vg.Length(columns)

	// From top to bottom.
	pitch := max(19, vg.Length(most)*10+8)
	type placed struct {
		name   string
		y      vg.Length // below the top of a block
		indent vg.Length
		row    *Row // nil: a heading
	}
	var list []placed
	y := vg.Length(0)
	for i, s := range r.Sections {
		inner := vg.Length(0)
		if s.Title != "" {
			if i > 0 {
				y += 5
			}
			list = append(list, placed{p.Fit(nameStyle, s.Title, gutter-8), y + lineHeight/2, 0, nil})
			y += lineHeight
			inner = indent
		}
		for k := range s.Rows {
			list = append(list, placed{p.Fit(nameStyle, s.Rows[k].Name, gutter-8-inner), y + pitch/2, inner, &s.Rows[k]})
			y += pitch
		}
	}
	high := y
	first := margin + gutter
	titleStyle, labelStyle := sized(titleSize, text.XLeft), sized(labelSize, text.XCenter)
	title := p.Fit(titleStyle, r.Title, p.width-2*margin)
	key := p.key(r.Key, r.entries(), p.width-2*margin)
	titles := make([]string, len(r.Panels))
	over := vg.Length(4)
	for i, panel := range r.Panels {
		titles[i] = p.Fit(nameStyle, panel.Title, wide)
		if titles[i] != "" {
			over = lineHeight + 2
		}
	}
	titleX := p.Fit(labelStyle, r.X.Title, p.width-first)
	top := margin + lineHeight + key.height() + 4
	block := over + high + 3 + lineHeight + 8
	height := top + vg.Length(blocks)*block + lineHeight + margin - 4

	return height, func(c draw.Canvas) {
		up := func(y vg.Length) vg.Length { return height - y }
		c.FillText(titleStyle, vg.Point{X: margin, Y: up(margin + lineHeight/2)}, title)
		key.draw(c, vg.Point{X: margin, Y: up(margin + lineHeight)})
		axis := draw.LineStyle{Color: Gray, Width: 0.6}
		for i, panel := range r.Panels {
			above := top + vg.Length(i/columns)*block + over
			from := first + vg.Length(i%columns)*(wide+gap)
			low, highest := xs[panel.Scale].roomy(r.X)
			x := scale{low, highest, r.X.Log, from, from + wide}
			bottom, ceiling := up(above+high), up(above)
			c.FillText(nameStyle, vg.Point{X: from, Y: ceiling + lineHeight/2}, titles[i])
			for _, t := range apartNumbers(x, r.X.Whole, nameStyle) {
				c.StrokeLine2(draw.LineStyle{Color: Rule, Width: 0.5}, x.at(t.At), bottom, x.at(t.At), ceiling)
				c.StrokeLine2(axis, x.at(t.At), bottom, x.at(t.At), bottom-3)
				c.FillText(sized(tickSize, text.XCenter), vg.Point{X: x.at(t.At), Y: bottom - 3 - lineHeight/2}, t.Label)
			}
			c.StrokeLine2(axis, from, bottom, from+wide, bottom)
			if r.Zero {
				c.StrokeLine2(draw.LineStyle{Color: Ink, Width: 0.9}, x.at(0), bottom, x.at(0), ceiling)
			}
			for _, l := range list {
				at := up(above + l.y)
				if i%columns == 0 {
					c.FillText(nameStyle, vg.Point{X: margin + l.indent, Y: at}, l.name)
				}
				if l.row == nil {
					continue
				}
				c.StrokeLine2(draw.LineStyle{Color: Rule, Width: 0.5}, from, at, from+wide, at)
				dots := l.row.Dots[i]
				for k, d := range dots {
					d.draw(c, x, at-10*(vg.Length(k)-vg.Length(len(dots)-1)/2))
				}
			}
		}
		c.FillText(labelStyle, vg.Point{X: (first + first + vg.Length(columns)*(wide+gap) - gap) / 2, Y: up(height - margin - lineHeight/2)}, titleX)
	}
}

func (d Dot) draw(c draw.Canvas, x scale, y vg.Length) {
	if d.High > d.Low {
		bar := draw.LineStyle{Color: d.Look.Color, Width: 1.2}
		c.StrokeLine2(bar, x.at(d.Low), y, x.at(d.High), y)
		c.StrokeLine2(bar, x.at(d.Low), y-3, x.at(d.Low), y+3)
		c.StrokeLine2(bar, x.at(d.High), y-3, x.at(d.High), y+3)
	}
	for _, seed := range d.Seeds {
		c.DrawGlyph(d.Look.ring(), vg.Point{X: x.at(seed), Y: y})
	}
	c.DrawGlyph(d.Look.mark(3.4), vg.Point{X: x.at(d.X), Y: y})
}

// entries are the names of all marks, each once.
func (r *Rows) entries() []entry {
	var entries []entry
	seen := map[string]bool{}
	for _, s := range r.Sections {
		for _, row := range s.Rows {
			for _, dots := range row.Dots {
				for _, d := range dots {
					if d.Name == "" || seen[d.Name] {
						continue
					}
					seen[d.Name] = true
					entries = append(entries, entry{d.Name, func(c draw.Canvas, from, to vg.Point) {
						c.DrawGlyph(d.Look.mark(3.4), vg.Point{X: (from.X + to.X) / 2, Y: from.Y})
					}})
				}
			}
		}
	}
	return entries
}
