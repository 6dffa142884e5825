// Package figure draws scores: lines over an axis, rows of marks with
// intervals, marks in panels, and parallel coordinates. A figure is data, such as
// Lines, which says nothing of places on a canvas; Render makes a PNG and an SVG of it,
// and notes of what did not fit.
//
// All figures keep some rules. A mark is at its true value. Colors have a contrast
// of at least 3:1 on white. A name that is too long is cut in its middle, and the
// notes have it whole. Names in any script are drawn, see core/typeface.
package figure

import (
	"fmt"
	"image/color"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	_ "gonum.org/v1/plot" // it loads the fonts into font.DefaultCache

	"github.com/loralab/loralab/core/typeface"
	"github.com/loralab/loralab/runner/foreign"
)

// categorical are colors that every common kind of color vision tells apart, in the
// order in which they are given out: those of Okabe and Ito, the paler ones darkened
// to a contrast of 3:1 on white.
var categorical = []color.NRGBA{
	{0x00, 0x72, 0xb2, 0xff}, // blue
	{0xd5, 0x5e, 0x00, 0xff}, // vermilion
	{0x00, 0x8f, 0x68, 0xff}, // green
	{0xb5, 0x60, 0x9a, 0xff}, // purple
	{0x9a, 0x6a, 0x00, 0xff}, // ocher
	{0x00, 0x00, 0x00, 0xff},
}

// sequential is the dark part of viridis at equal steps: for values in an order.
var sequential = []color.NRGBA{{0x44, 0x01, 0x54, 0xff}, {0x3b, 0x52, 0x8b, 0xff}, {0x1f, 0x9e, 0x89, 0xff}}

// Ink is the color of text, Gray that of axes and of what is less important, Rule
// that of lines behind the data.
var (
	Ink   = color.NRGBA{0x22, 0x22, 0x22, 0xff}
	Gray  = color.NRGBA{0x6e, 0x6e, 0x6e, 0xff}
	pale  = color.NRGBA{0x94, 0x94, 0x94, 0xff} // of lines for comparison
	Rule  = color.NRGBA{0xe2, 0xe2, 0xe2, 0xff}
	white = color.NRGBA{0xff, 0xff, 0xff, 0xff}
)

// Category is color i of those without an order.
func Category(i int) color.NRGBA { return categorical[i%len(categorical)] }

// Ordered is color i of n along the sequential scale.
func Ordered(i, n int) color.NRGBA {
	if n < 2 {
		return sequential[1]
	}
	at := float64(i) / float64(n-1) * float64(len(sequential)-1)
	k := min(int(at), len(sequential)-2)
	f := at - float64(k)
	mix := func(a, b uint8) uint8 { return uint8(math.Round(float64(a)*(1-f) + float64(b)*f)) }
	a, b := sequential[k], sequential[k+1]
	return color.NRGBA{mix(a.R, b.R), mix(a.G, b.G), mix(a.B, b.B), 0xff}
}

func faded(c color.NRGBA, alpha uint8) color.NRGBA {
	c.A = alpha
	return c
}

// Look is what sets a series apart from others.
type Look struct {
	Color color.NRGBA
	Dash  int // 0 is a solid line
	Mark  int // shape of its marks
}

var (
	dashes = [][]vg.Length{nil, {vg.Points(5), vg.Points(3)}, {vg.Points(1.5), vg.Points(2.5)}, {vg.Points(7), vg.Points(2), vg.Points(1.5), vg.Points(2)}}
	marks  = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.PyramidGlyph{}, diamond{}}
)

// diamond is a filled mark.
type diamond struct{}

func (diamond) DrawGlyph(c *draw.Canvas, sty draw.GlyphStyle, at vg.Point) {
	r := sty.Radius * 1.2
	c.FillPolygon(sty.Color, []vg.Point{{X: at.X - r, Y: at.Y}, {X: at.X, Y: at.Y + r}, {X: at.X + r, Y: at.Y}, {X: at.X, Y: at.Y - r}})
}

// Dashes and Marks are how many there are.
var (
	Dashes = len(dashes)
	Marks  = len(marks)
)

func (l Look) line(width float64) draw.LineStyle {
	return draw.LineStyle{Color: l.Color, Width: vg.Points(width), Dashes: dashes[l.Dash%len(dashes)]}
}

func (l Look) mark(radius float64) draw.GlyphStyle {
	return draw.GlyphStyle{Color: l.Color, Radius: vg.Points(radius), Shape: marks[l.Mark%len(marks)]}
}

func (l Look) ring() draw.GlyphStyle {
	return draw.GlyphStyle{Color: l.Color, Radius: vg.Points(2.2), Shape: draw.RingGlyph{}}
}

// Text is the style of text at a size, aligned at its left and its middle.
func Text(size vg.Length, c color.Color) draw.TextStyle {
	return draw.TextStyle{
		Color: c, Font: font.Font{Typeface: "Liberation", Variant: "Sans", Size: size},
		YAlign: text.YCenter, Handler: hand{text.Plain{Fonts: font.DefaultCache}},
	}
}

func sized(points float64, x text.XAlignment) draw.TextStyle {
	s := Text(vg.Points(points), Ink)
	s.XAlign = x
	return s
}

// hand writes text in all fonts of the typeface.
type hand struct{ text.Plain }

func (h hand) Box(txt string, f font.Font) (width, height, depth vg.Length) {
	face := h.Fonts.Lookup(f, f.Size)
	for _, run := range typeface.Runs(foreign.Line(txt)) {
		width += runWidth(face, run)
	}
	e := face.Extents()
	return width, e.Ascent, e.Descent
}

func runWidth(face font.Face, run typeface.Run) (width vg.Length) {
	if !run.Bitmap {
		return face.Width(run.Text)
	}
	for _, r := range run.Text {
		width += vg.Length(typeface.Advance(r)) * face.Font.Size
	}
	return width
}

func (h hand) Lines(txt string) []string { return []string{txt} }

func (h hand) Draw(c vg.Canvas, txt string, sty text.Style, pt vg.Point) {
	face := h.Fonts.Lookup(sty.Font, sty.Font.Size)
	c.SetColor(sty.Color)
	sin64, cos64 := math.Sincos(sty.Rotation)
	sin, cos := vg.Length(sin64), vg.Length(cos64)
	if sty.Rotation != 0 {
		c.Push()
		defer c.Pop()
		c.Rotate(sty.Rotation)
	}
	pt.X, pt.Y = pt.Y*sin+pt.X*cos, pt.Y*cos-pt.X*sin
	width, height, _ := h.Box(txt, sty.Font)
	pt.X += vg.Length(sty.XAlign) * width
	pt.Y += vg.Length(sty.YAlign)*height + sty.Font.Size - face.Extents().Ascent
	under := c
	if d, ok := c.(*draw.Canvas); ok {
		under = d.Canvas
	}
	if _, ok := under.(*vgsvg.Canvas); ok {
		// Programs that show an SVG take other fonts for what one lacks.
		c.FillString(face, pt, foreign.Line(txt))
		return
	}
	for _, run := range typeface.Runs(foreign.Line(txt)) {
		if !run.Bitmap {
			c.FillString(face, pt, run.Text)
			pt.X += face.Width(run.Text)
			continue
		}
		for _, r := range run.Text {
			for _, d := range typeface.Dots(r) {
				at := func(x, y float64) vg.Point {
					return vg.Point{X: pt.X + vg.Length(x)*face.Font.Size, Y: pt.Y - vg.Length(y)*face.Font.Size}
				}
				var p vg.Path
				p.Move(at(d.X0, d.Y0))
				p.Line(at(d.X1, d.Y0))
				p.Line(at(d.X1, d.Y1))
				p.Line(at(d.X0, d.Y1))
				p.Close()
				c.Fill(p)
			}
			pt.X += vg.Length(typeface.Advance(r)) * face.Font.Size
		}
	}
}

// Fit cuts a name in its middle until it is no wider than the room: the ends of
// names tell them apart. It reports whether it did.
func Fit(style draw.TextStyle, name string, room vg.Length) (string, bool) {
	name = foreign.Line(name)
	if style.Width(name) <= room {
		return name, false
	}
	letters := []rune(name)
	cut := name
	for n := len(letters) - 1; n > 0; n-- {
		cut = strings.TrimSpace(string(letters[:n/2])) + "…" + strings.TrimSpace(string(letters[len(letters)-(n-n/2):]))
		if style.Width(cut) <= room {
			break
		}
	}
	return cut, true
}

// Wrap breaks a name into two lines where one has no room for it: after a space, a
// comma or another sign if both lines fit then, else in its middle.
func Wrap(style draw.TextStyle, name string, room vg.Length) []string {
	name = foreign.Line(name)
	if style.Width(name) <= room {
		return []string{name}
	}
	letters := []rune(name)
	at := func(i int) []string {
		return []string{strings.TrimSpace(string(letters[:i])), strings.TrimSpace(string(letters[i:]))}
	}
	best := at(len(letters) / 2)
	away := math.Inf(1)
	for i := 1; i < len(letters); i++ {
		if !strings.ContainsRune(" ,;_-=/", letters[i-1]) {
			continue
		}
		lines := at(i)
		if d := math.Abs(float64(i) - float64(len(letters))/2); d < away && style.Width(lines[0]) <= room && style.Width(lines[1]) <= room {
			best, away = lines, d
		}
	}
	return best
}

// roundNumbers are the round numbers of an axis that have a room each: as many as
// there are places for.
func roundNumbers(low, high float64, whole bool, places float64, fits func(ticks []Tick) bool) []Tick {
	span := high - low
	if !(span > 0) || math.IsInf(span, 0) {
		return []Tick{{low, strconv.FormatFloat(low, 'g', 4, 64)}}
	}
	step := math.Pow(10, math.Floor(math.Log10(span/max(places, 2))))
	for {
		for _, m := range []float64{1, 2, 2.5, 5} {
			by := step * m
			if m == 2.5 && span/(2*by) >= 4 {
				continue // there are enough numbers that are rounder
			}
			if whole && by != math.Floor(by) || span/by > max(places, 2) {
				continue
			}
			digits := max(0, int(-math.Floor(math.Log10(by)+1e-9)))
			if m == 2.5 && by < 10 {
				digits++
			}
			var ticks []Tick
			for k := math.Ceil(low/by - 1e-9); k*by <= high+by*1e-9; k++ {
				ticks = append(ticks, Tick{k * by, Number(k*by+0, digits)})
			}
			if len(ticks) < 2 || fits(ticks) {
				return ticks
			}
		}
		step *= 10
	}
}

// Number is a number with a true minus sign.
func Number(v float64, digits int) string {
	return strings.Replace(strconv.FormatFloat(v, 'f', digits, 64), "-", "\u2212", 1)
}

// unicodeNote says which characters are drawn as numbers.
func unicodeNote(missing []rune) string {
	var list []string
	for _, r := range missing {
		list = append(list, fmt.Sprintf("[%04X] is %c", r, r))
	}
	return "No font has some characters: " + strings.Join(list, ", ") + "."
}
