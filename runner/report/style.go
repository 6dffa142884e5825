package report

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/loralab/loralab/runner/foreign"
)

// Figures measure 7.5 × 5 inches; at 160 dots an inch that is 1200 × 800
// pixels with type that stays readable at half the size.
const (
	figureWidth  = 7.5 * vg.Inch
	figureHeight = 5 * vg.Inch
	dotsPerInch  = 160
)

// Colours of Okabe and Ito, told apart with every common kind of colour vision,
// in the order in which they are given out.
var categorical = []color.NRGBA{
	{0x00, 0x72, 0xb2, 0xff}, // blue
	{0xd5, 0x5e, 0x00, 0xff}, // vermilion
	{0x00, 0x9e, 0x73, 0xff}, // green
	{0xcc, 0x79, 0xa7, 0xff}, // purple
	{0xe6, 0x9f, 0x00, 0xff}, // orange
	{0x56, 0xb4, 0xe9, 0xff}, // sky blue
	{0x00, 0x00, 0x00, 0xff},
}

// viridis at equal steps, without its pale end: for values in an order.
var sequential = []color.NRGBA{
	{0x44, 0x01, 0x54, 0xff}, {0x3b, 0x52, 0x8b, 0xff}, {0x21, 0x91, 0x8c, 0xff}, {0x5e, 0xc9, 0x62, 0xff}, {0xc8, 0xd4, 0x20, 0xff},
}

var (
	ink  = color.NRGBA{0x22, 0x22, 0x22, 0xff}
	grey = color.NRGBA{0x77, 0x77, 0x77, 0xff}
	rule = color.NRGBA{0xe2, 0xe2, 0xe2, 0xff}
)

// ordered is colour i of n along the sequential scale.
func ordered(i, n int) color.NRGBA {
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

// dashes are given to lines that share a colour; the first is solid.
var dashes = [][]vg.Length{nil, {vg.Points(5), vg.Points(3)}, {vg.Points(1.5), vg.Points(2.5)}, {vg.Points(7), vg.Points(2), vg.Points(1.5), vg.Points(2)}}

// glyphs mark domains beside their colour.
var glyphs = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.TriangleGlyph{}, draw.PyramidGlyph{}}

func sans(size vg.Length) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
}

func text(size vg.Length, c color.Color) draw.TextStyle {
	return draw.TextStyle{Color: c, Font: sans(size), Handler: plot.DefaultTextHandler}
}

// newPlot is an empty plot in the common style.
func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.TextStyle.Font = sans(11)
	p.Title.TextStyle.Color = ink
	p.Title.Padding = vg.Points(8)
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Label.TextStyle.Font = sans(11)
		a.Label.TextStyle.Color = ink
		a.Label.Padding = vg.Points(5)
		a.Tick.Label.Font = sans(9.5)
		a.Tick.Label.Color = ink
		a.LineStyle.Color, a.Tick.LineStyle.Color = grey, grey
		a.LineStyle.Width, a.Tick.LineStyle.Width = vg.Points(0.6), vg.Points(0.6)
		a.Padding = vg.Points(2)
	}
	p.X.Label.Text, p.Y.Label.Text = x, y
	p.Legend.TextStyle.Font = sans(9.5)
	p.Legend.TextStyle.Color = ink
	p.Legend.ThumbnailWidth = vg.Points(24)
	p.Legend.Padding = vg.Points(5)
	p.Legend.Left, p.Legend.Top = true, true
	return p
}

// niceTicks marks round numbers, some six of them.
type niceTicks struct{ whole bool }

func (t niceTicks) Ticks(low, high float64) []plot.Tick {
	span := high - low
	if !(span > 0) || math.IsInf(span, 0) {
		return []plot.Tick{{Value: low, Label: strconv.FormatFloat(low, 'g', 4, 64)}}
	}
	step := math.Pow(10, math.Floor(math.Log10(span/6)))
	for _, m := range []float64{1, 2, 5, 10} {
		if span/(step*m) <= 7 {
			step *= m
			break
		}
	}
	if t.whole {
		step = max(1, step)
	}
	digits := max(0, int(-math.Floor(math.Log10(step)+1e-9)))
	var ticks []plot.Tick
	for k := math.Ceil(low/step - 1e-9); k*step <= high+step*1e-9; k++ {
		v := k * step
		ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v+0, 'f', digits, 64)})
	}
	return ticks
}

// horizontal draws light lines at the ticks of y, behind the data.
type horizontal struct{}

func (horizontal) Plot(c draw.Canvas, p *plot.Plot) {
	_, y := p.Transforms(&c)
	for _, t := range p.Y.Tick.Marker.Ticks(p.Y.Min, p.Y.Max) {
		if t.Label != "" {
			c.StrokeLine2(draw.LineStyle{Color: rule, Width: vg.Points(0.5)}, c.Min.X, y(t.Value), c.Max.X, y(t.Value))
		}
	}
}

// vertical draws light lines at the ticks of x.
type vertical struct{}

func (vertical) Plot(c draw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	for _, t := range p.X.Tick.Marker.Ticks(p.X.Min, p.X.Max) {
		if t.Label != "" {
			c.StrokeLine2(draw.LineStyle{Color: rule, Width: vg.Points(0.5)}, x(t.Value), c.Min.Y, x(t.Value), c.Max.Y)
		}
	}
}

// file is the content of one form of a figure.
type file struct {
	suffix  string
	content []byte
}

// figure is a named picture that can be drawn.
type figure struct {
	name    string // of its files
	title   string // heading on the page
	caption string
	render  func() ([]file, error)
}

// renderPlot draws a plot with its legend to the right of it, as PNG and SVG.
func renderPlot(p *plot.Plot, width, height vg.Length) ([]file, error) {
	paint := func(c draw.Canvas) {
		c.SetColor(color.White)
		c.Fill(c.Rectangle.Path())
		legend := p.Legend
		p.Legend = plot.NewLegend()
		const margin = 8
		box := legend.Rectangle(c)
		side := box.Max.X - box.Min.X
		body := draw.Crop(c, margin, -margin, margin, -margin)
		if side > 0 {
			body = draw.Crop(c, margin, -(side + 3*margin), margin, -margin)
			p.Draw(body)
			// Level with the upper end of the data, not of the title.
			top := p.DataCanvas(body).Max.Y
			legend.Draw(draw.Crop(c, c.Max.X-c.Min.X-side-margin, 0, 0, -(c.Max.Y - top)))
		} else {
			p.Draw(body)
		}
		p.Legend = legend
	}

	raster := vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(dotsPerInch), vgimg.UseBackgroundColor(color.White))
	paint(draw.New(raster))
	var png bytes.Buffer
	if _, err := (vgimg.PngCanvas{Canvas: raster}).WriteTo(&png); err != nil {
		return nil, fmt.Errorf("drawing a PNG: %w", err)
	}

	vector := vgsvg.New(width, height)
	paint(draw.New(vector))
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
	return []file{{".png", png.Bytes()}, {".svg", named}}, nil
}
