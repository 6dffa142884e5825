package figure

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/loralab/loralab/core/typeface"
	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/foreign"
)

const (
	margin = 8 * vg.Length(1)

	titleSize, labelSize, tickSize = 11, 10, 9
	lineHeight                     = 14 * vg.Length(1)
)

// Size is how large a figure is. Its height follows from what it shows.
type Size struct {
	Width float64 // inches
	DPI   int     // dots an inch, of the PNG
}

// Screen is the size of figures that are read on a screen: 1200 pixels, with type that
// stays readable at half the size.
var Screen = Size{7.5, 160}

// Paper is the size of figures in a paper, of a width in inches.
func Paper(width float64) Size { return Size{width, 300} }

// Figure is Lines, Rows, Scatter or Parallel.
type Figure interface {
	// lay finds the places, and returns the height and how to draw.
	lay(p *Notes) (vg.Length, func(c draw.Canvas))
}

// Rendered is a figure that is drawn.
type Rendered struct {
	PNG, SVG []byte
	// Notes say what is cut or left out, a sentence each.
	Notes []string
}

// Axis is one that values are shown along.
type Axis struct {
	Title string
	Log   bool
	Whole bool // its round numbers are whole
	Unit  bool // values are within 0…1
	Tight bool // it ends where the values do
	// Ticks are those of the axis; nil: round numbers.
	Ticks []Tick
}

// Tick is a place on an axis with what is written there.
type Tick struct {
	At    float64
	Label string
}

// Notes are what a reader must know of the texts in a picture: which are cut, and
// which characters have no form.
type Notes struct {
	width      vg.Length // of the figure
	texts      []string  // that are drawn
	cut        []string  // names that are cut
	unlabelled []string  // ticks without room for their label
}

// Fit is Fit, and notes what it cut.
func (p *Notes) Fit(style draw.TextStyle, name string, room vg.Length) string {
	shown, cut := Fit(style, name, room)
	p.texts = append(p.texts, shown)
	if cut {
		p.cut = appendNew(p.cut, foreign.Line(name))
	}
	return shown
}

func appendNew(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// mostNamed is how many of what is left out are named.
const mostNamed = 12

// Sentences are the notes.
func (p *Notes) Sentences() []string {
	var notes []string
	if len(p.cut) > 0 {
		notes = append(notes, "Cut to fit: "+diagnostic.Some(p.cut, mostNamed, "; ")+".")
	}
	if len(p.unlabelled) > 0 {
		notes = append(notes, "Ticks without a label: "+diagnostic.Some(p.unlabelled, mostNamed, "; ")+".")
	}
	if missing := typeface.Missing(p.texts...); len(missing) > 0 {
		notes = append(notes, unicodeNote(missing))
	}
	return notes
}

// Render draws a figure.
func Render(f Figure, size Size) (*Rendered, error) {
	width := vg.Length(size.Width) * vg.Inch
	p := &Notes{width: width}
	height, paint := f.lay(p)
	raster := vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(size.DPI), vgimg.UseBackgroundColor(color.White))
	paint(draw.New(raster))
	var png bytes.Buffer
	if _, err := (vgimg.PngCanvas{Canvas: raster}).WriteTo(&png); err != nil {
		return nil, fmt.Errorf("drawing a PNG: %w", err)
	}
	vector := vgsvg.New(width, height)
	c := draw.New(vector)
	c.SetColor(color.White)
	c.Fill(c.Rectangle.Path())
	paint(c)
	var svg bytes.Buffer
	if _, err := vector.WriteTo(&svg); err != nil {
		return nil, fmt.Errorf("drawing an SVG: %w", err)
	}
	// The type is free but not everywhere installed: name what looks alike.
	named := bytes.ReplaceAll(svg.Bytes(), []byte("font-family:Liberation Sans;"),
		[]byte("font-family:'Liberation Sans',Arial,Helvetica,sans-serif;"))
	// XML has no place for most control characters, however they are written.
	named = bytes.Map(func(r rune) rune {
		if foreign.Hidden(r) && r != '\n' && r != '\t' {
			return '\uFFFD'
		}
		return r
	}, named)
	return &Rendered{withResolution(png.Bytes(), size.DPI), named, p.Sentences()}, nil
}

// withResolution adds the chunk pHYs to a PNG, by which programs know its size on paper.
func withResolution(png []byte, dpi int) []byte {
	const header = 8 + 12 + 13 // the signature and IHDR, which is first
	chunk := append([]byte{0, 0, 0, 9}, "pHYs"...)
	for range 2 { // along x and y
		chunk = binary.BigEndian.AppendUint32(chunk, uint32(math.Round(float64(dpi)/0.0254)))
	}
	chunk = append(chunk, 1) // a meter
	chunk = binary.BigEndian.AppendUint32(chunk, crc32.ChecksumIEEE(chunk[4:]))
	return slices.Concat(png[:header], chunk, png[header:])
}

// scale maps values of an axis to places between two.
type scale struct {
	low, high float64
	log       bool
	from, to  vg.Length
}

func (s scale) at(v float64) vg.Length {
	low, high := s.low, s.high
	if s.log {
		low, high, v = math.Log(low), math.Log(high), math.Log(v)
	}
	return s.from + vg.Length((v-low)/(high-low))*(s.to-s.from)
}

// Extent is the range of values, without those that are no number.
type Extent struct {
	Low, High float64
	Filled    bool
}

// Add widens it to hold values.
func (e *Extent) Add(values ...float64) {
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			continue
		}
		if !e.Filled {
			e.Low, e.High, e.Filled = v, v, true
		}
		e.Low, e.High = min(e.Low, v), max(e.High, v)
	}
}

// roomy is the extent with some room, within 0…1 if the axis is.
func (e Extent) roomy(a Axis) (low, high float64) {
	if !e.Filled {
		return 0, 1
	}
	if a.Log {
		f := math.Pow(e.High/e.Low, 0.06)
		return e.Low / f, e.High * f
	}
	if a.Tight && e.High > e.Low {
		return e.Low, e.High
	}
	room := 0.06 * (e.High - e.Low)
	if size := max(math.Abs(e.High), math.Abs(e.Low)); room < 1e-3*size || room == 0 {
		room = max(1e-3*size, 1e-6)
	}
	low, high = e.Low-room, e.High+room
	if a.Unit {
		low, high = max(low, -0.01), min(high, 1.01)
	}
	return low, high
}

func always([]Tick) bool { return true }

// apartNumbers are round numbers along a horizontal axis whose labels do not touch.
func apartNumbers(s scale, whole bool, style draw.TextStyle) []Tick {
	return roundNumbers(s.low, s.high, whole, float64((s.to-s.from)/(0.35*vg.Inch)), func(ticks []Tick) bool {
		for i := range len(ticks) - 1 {
			room := s.at(ticks[i+1].At) - s.at(ticks[i].At)
			if (style.Width(ticks[i].Label)+style.Width(ticks[i+1].Label))/2+8 > room {
				return false
			}
		}
		return true
	})
}

// labels are the ticks that have room for their label along a horizontal axis;
// the others stay ticks, and are noted.
func (p *Notes) labels(ticks []Tick, s scale, style draw.TextStyle, own bool) []Tick {
	out := make([]Tick, len(ticks))
	last := s.from - 100*vg.Inch
	for i, t := range ticks {
		shown, _ := Fit(style, t.Label, 1.4*vg.Inch)
		half := style.Width(shown) / 2
		at := s.within(t.At, half)
		out[i] = Tick{t.At, ""}
		if at-half < last+4 {
			if own {
				p.unlabelled = appendNew(p.unlabelled, t.Label)
			}
			continue
		}
		out[i].Label = p.Fit(style, t.Label, 1.4*vg.Inch)
		last = at + half
	}
	return out
}

// within is the place of the middle of a label, which does not reach into the next
// panel.
func (s scale) within(v float64, half vg.Length) vg.Length {
	return max(s.from+half-2, min(s.at(v), s.to-half+2))
}

// entry is one of a key.
type entry struct {
	name string
	draw func(c draw.Canvas, from, to vg.Point)
}

// key lays entries out in lines of a width: a heading, then swatches with names.
type key struct {
	heading string
	entries []entry
	at      []vg.Point // below the upper left corner
	lines   int
}

const swatch = 22 * vg.Length(1)

func (p *Notes) key(heading string, entries []entry, room vg.Length) *key {
	k := &key{entries: entries}
	style := sized(tickSize, text.XLeft)
	if len(entries) == 0 {
		if k.heading = p.Fit(style, heading, room); heading != "" {
			k.lines = 1
		}
		return k
	}
	x := vg.Length(0)
	if heading != "" {
		k.heading = p.Fit(style, heading+":", room)
		x = style.Width(k.heading) + 8
	}
	line := 0
	for i := range k.entries {
		k.entries[i].name = p.Fit(style, k.entries[i].name, room-swatch-5)
		wide := swatch + 5 + style.Width(k.entries[i].name)
		if x > 0 && x+wide > room {
			x = 0
			line++
		}
		k.at = append(k.at, vg.Point{X: x, Y: -(vg.Length(line) + 0.5) * lineHeight})
		x += wide + 14
	}
	k.lines = line + 1
	return k
}

func (k *key) height() vg.Length { return vg.Length(k.lines) * lineHeight }

func (k *key) draw(c draw.Canvas, corner vg.Point) {
	style := sized(tickSize, text.XLeft)
	if k.heading != "" {
		c.FillText(style, corner.Add(vg.Point{Y: -lineHeight / 2}), k.heading)
	}
	for i, e := range k.entries {
		at := corner.Add(k.at[i])
		e.draw(c, at, at.Add(vg.Point{X: swatch}))
		c.FillText(style, at.Add(vg.Point{X: swatch + 5}), e.name)
	}
}

// narrow is the width below which up to five panels are below each other, and more have
// two columns, so that eight fit a page.
const narrow = 5 * vg.Inch

// grid is how many columns n panels have.
func (p *Notes) grid(n int) int {
	switch {
	case p.width < narrow && n <= 5:
		return 1
	case p.width < narrow:
		return 2
	case n <= 3:
		return max(n, 1)
	case n == 4:
		return 2
	case n <= 12:
		return 3
	}
	return 4
}
