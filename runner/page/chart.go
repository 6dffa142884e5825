package page

import (
	"fmt"
	"image/color"
	"math"
	"strconv"

	"github.com/loralab/loralab/runner/figure"
)

// Chart is a figure as the script of the page draws it. Kind says which fields count:
// "lines" (lines, bars and marks in panels), "rows" (marks with intervals in rows) or
// "parallel" (a line for each trial over axes side by side).
type Chart struct {
	Kind   string  `json:"kind"`
	X      *Axis   `json:"x,omitempty"`
	Y      *Axis   `json:"y,omitempty"`
	Key    string  `json:"key,omitempty"`
	Zero   bool    `json:"zero,omitempty"`
	Panels []Panel `json:"panels,omitempty"`

	Sections []Section `json:"sections,omitempty"`

	Axes    []Vertical `json:"axes,omitempty"`
	Courses []Course   `json:"courses,omitempty"`
}

// Axis is one of a chart.
type Axis struct {
	Title string `json:"title"`
	Log   bool   `json:"log,omitempty"`
	Unit  bool   `json:"unit,omitempty"` // within 0…1
	Whole bool   `json:"whole,omitempty"`
	Ticks []Tick `json:"ticks,omitempty"` // none: round numbers
}

// Tick is a place on an axis.
type Tick struct {
	At    Num    `json:"at"`
	Label string `json:"label"`
}

// Panel is a part of a chart with axes of its own. Panels of one Scale have one range.
type Panel struct {
	Title  string  `json:"title,omitempty"`
	Scale  string  `json:"scale,omitempty"`
	X      *Axis   `json:"x,omitempty"` // in place of the chart's
	Range  []Num   `json:"range,omitempty"`
	Series []Line  `json:"series,omitempty"`
	Levels []Level `json:"levels,omitempty"`
	Marks  []Mark  `json:"marks,omitempty"`
}

// Look sets things apart.
type Look struct {
	Color string `json:"color"`
	Dash  int    `json:"dash,omitempty"`
	Mark  int    `json:"mark,omitempty"`
}

// Line joins points, each x, y, low, high, and then the seeds.
type Line struct {
	Name string `json:"name,omitempty"`
	Look
	Band   bool    `json:"band,omitempty"`
	Marked bool    `json:"marked,omitempty"`
	Pale   bool    `json:"pale,omitempty"`
	Points [][]Num `json:"points"`
}

// Level is a line at one value, with a band.
type Level struct {
	Name string `json:"name,omitempty"`
	Look
	Y    Num `json:"y"`
	Low  Num `json:"low"`
	High Num `json:"high"`
}

// Mark is a point by itself.
type Mark struct {
	Name string `json:"name,omitempty"`
	// Of is what it is of, for a reader who points at it.
	Of string `json:"of,omitempty"`
	Look
	X    Num   `json:"x"`
	Y    Num   `json:"y"`
	Bars []Num `json:"bars,omitempty"` // low and high
	Wide []Num `json:"wide,omitempty"` // the same along X
	Ring bool  `json:"ring,omitempty"`
}

// Section is a group of rows.
type Section struct {
	Title string `json:"title,omitempty"`
	Rows  []Dots `json:"rows"`
}

// Dots is a row of marks, by panel.
type Dots struct {
	Name string   `json:"name"`
	Dots [][]Mark `json:"dots"`
}

// Vertical is an axis of parallel coordinates.
type Vertical struct {
	Title string `json:"title"`
	Low   Num    `json:"low"`
	High  Num    `json:"high"`
	Log   bool   `json:"log,omitempty"`
	Ticks []Tick `json:"ticks,omitempty"`
}

// Course is a line over all axes; null is no value.
type Course struct {
	Name string `json:"name,omitempty"`
	Look
	At   []Num `json:"at"`
	Pale bool  `json:"pale,omitempty"`
	Bold bool  `json:"bold,omitempty"`
}

// MarshalJSON writes five digits.
func (n Num) MarshalJSON() ([]byte, error) {
	v := float64(n)
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, v, 'g', 5, 64), nil
}

func look(l figure.Look) Look { return Look{Color(l.Color), l.Dash, l.Mark} }

// Color is a color in CSS.
func Color(c color.NRGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

func axis(a figure.Axis) *Axis {
	return &Axis{Title: a.Title, Log: a.Log, Unit: a.Unit, Whole: a.Whole, Ticks: ticks(a.Ticks)}
}

func ticks(of []figure.Tick) (all []Tick) {
	for _, t := range of {
		all = append(all, Tick{Num(t.At), t.Label})
	}
	return all
}

func line(s figure.Series) Line {
	l := Line{Name: s.Name, Look: look(s.Look), Band: s.Band, Marked: s.Marked, Pale: s.Behind || s.Thin, Points: [][]Num{}}
	for _, p := range s.Points {
		pt := []Num{Num(p.X), Num(p.Y), Num(p.Low), Num(p.High)}
		for _, v := range p.Seeds {
			pt = append(pt, Num(v))
		}
		l.Points = append(l.Points, pt)
	}
	return l
}

// ChartOf is a figure as a chart of a page.
func ChartOf(f figure.Figure) *Chart {
	switch f := f.(type) {
	case *figure.Lines:
		c := &Chart{Kind: "lines", X: axis(f.X), Y: axis(f.Y), Key: f.Key}
		for _, p := range f.Panels {
			panel := Panel{Title: p.Title, Scale: p.Scale}
			for _, s := range p.Series {
				panel.Series = append(panel.Series, line(s))
			}
			for _, l := range p.Levels {
				panel.Levels = append(panel.Levels, Level{l.Name, look(l.Look), Num(l.Y), Num(l.Low), Num(l.High)})
			}
			c.Panels = append(c.Panels, panel)
		}
		return c
	case *figure.Scatter:
		c := &Chart{Kind: "lines", Y: axis(f.Y), Key: f.Key}
		for _, p := range f.Panels {
			panel := Panel{Title: p.Title, Scale: p.Scale, X: axis(p.X)}
			if p.Range.Filled {
				panel.Range = []Num{Num(p.Range.Low), Num(p.Range.High)}
			}
			for _, s := range p.Lines {
				s.Band, s.Marked = false, false
				drawn := line(s)
				for i := range drawn.Points { // without bars
					drawn.Points[i] = drawn.Points[i][:2]
				}
				panel.Series = append(panel.Series, drawn)
			}
			for _, m := range p.Marks {
				panel.Marks = append(panel.Marks, mark(m.Name, m.Look, m.X, m.Y, m.Low, m.High, m.Ring || m.Around))
			}
			c.Panels = append(c.Panels, panel)
		}
		return c
	case *figure.Rows:
		c := &Chart{Kind: "rows", X: axis(f.X), Key: f.Key, Zero: f.Zero}
		for _, p := range f.Panels {
			c.Panels = append(c.Panels, Panel{Title: p.Title, Scale: p.Scale})
		}
		for _, s := range f.Sections {
			section := Section{Title: s.Title, Rows: []Dots{}}
			for _, r := range s.Rows {
				row := Dots{Name: r.Name}
				for _, dots := range r.Dots {
					list := []Mark{}
					for _, d := range dots {
						m := mark(d.Name, d.Look, d.X, 0, d.Low, d.High, false)
						list = append(list, m)
						for _, seed := range d.Seeds {
							list = append(list, mark("", d.Look, seed, 0, 0, 0, true))
						}
					}
					row.Dots = append(row.Dots, list)
				}
				section.Rows = append(section.Rows, row)
			}
			c.Sections = append(c.Sections, section)
		}
		return c
	case *figure.Parallel:
		c := &Chart{Kind: "parallel", Key: f.Key}
		for _, a := range f.Axes {
			c.Axes = append(c.Axes, Vertical{a.Title, Num(a.Low), Num(a.High), a.Log, ticks(a.Ticks)})
		}
		for _, course := range f.Courses {
			at := make([]Num, len(course.At))
			for i, v := range course.At {
				at[i] = Num(v)
			}
			c.Courses = append(c.Courses, Course{course.Name, look(course.Look), at, course.Pale, course.Bold})
		}
		return c
	}
	return nil
}

func mark(name string, l figure.Look, x, y, low, high float64, ring bool) Mark {
	m := Mark{Name: name, Look: look(l), X: Num(x), Y: Num(y), Ring: ring}
	if low != 0 || high != 0 {
		m.Bars = []Num{Num(low), Num(high)}
	}
	return m
}
