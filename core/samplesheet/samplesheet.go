// Package samplesheet draws images with their masks for people: rows of panels side by
// side (image, truth, prediction, errors), a caption below each row, and a legend
// of the classes in the colors that every picture of masks has (data.ClassColor).
//
// The form of a sheet follows from what it shows, the classes and the size of
// the pictures, and from nothing else. A program that knows these finds a panel in a
// sheet that was drawn before.
package samplesheet

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"slices"
	"strings"
	"sync"

	scaling "golang.org/x/image/draw"
	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/typeface"
)

// Panels of a sheet of samples, from left to right.
const (
	Image = iota
	Truth
	Prediction
	Errors
)

// Row is one image, all of whose parts have the size of the sheet's images.
type Row struct {
	raster.Labelled               // with the truth
	Predicted       raster.Labels // for samples
	Caption         string
}

// Sheet is the form of a sheet.
type Sheet struct {
	size   raster.Size // of the images
	scale  int         // of panels: small images are shown larger
	em     int         // size of type in pixels
	panels []panel
	legend [][]entry // lines
}

// panel is a column. paint gives the color of pixel i of a row, whose own color
// is c.
type panel struct {
	name  string
	paint func(r *Row, i, w int, c color.RGBA) color.RGBA
}

// entry of the legend.
type entry struct {
	name  string
	color color.RGBA
	hatch bool
	x     int
}

// The colors of errors: what is right is the image without its colors, pale.
// Wrong is a color that no class has.
var (
	Wrong = color.RGBA{0xff, 0x00, 0x66, 0xff}
	right = color.RGBA{0xd8, 0xd8, 0xd8, 0xff} // in the legend
	ink   = color.RGBA{0x22, 0x22, 0x22, 0xff}
)

// Samples is the form of sheets with the prediction of a model: image, truth,
// prediction, errors.
func Samples(classes []string, size raster.Size) *Sheet {
	return form(classes, size,
		panel{"image", picture}, panel{"truth", labels}, panel{"prediction", predicted}, panel{"errors", errorsOf})
}

// Masks is the form of sheets of data: image, mask, both over each other.
func Masks(classes []string, size raster.Size) *Sheet {
	return form(classes, size, panel{"image", picture}, panel{"mask", labels}, panel{"both", both})
}

func picture(_ *Row, _, _ int, c color.RGBA) color.RGBA { return c }

func labels(r *Row, i, w int, _ color.RGBA) color.RGBA { return colorOf(r.Labels.Pix[i], i, w) }

func predicted(r *Row, i, w int, _ color.RGBA) color.RGBA { return colorOf(r.Predicted.Pix[i], i, w) }

func both(r *Row, i, w int, c color.RGBA) color.RGBA {
	over := colorOf(r.Labels.Pix[i], i, w)
	half := func(a, b byte) byte { return byte((int(a) + int(b)) / 2) }
	return color.RGBA{half(over.R, c.R), half(over.G, c.G), half(over.B, c.B), 0xff}
}

func errorsOf(r *Row, i, w int, c color.RGBA) color.RGBA {
	switch r.Labels.Pix[i] {
	case raster.Ignored:
		return hatched(i%w, i/w)
	case r.Predicted.Pix[i]:
		// Luma of BT.601, in the upper half of the greys.
		grey := byte((299*int(c.R)+587*int(c.G)+114*int(c.B))/2000 + 120)
		return color.RGBA{grey, grey, grey, 0xff}
	}
	return Wrong
}

// colorOf is a class's; what is ignored is hatched, so that it is taken for no
// class.
func colorOf(class byte, i, w int) color.RGBA {
	if class == raster.Ignored {
		return hatched(i%w, i/w)
	}
	return data.ClassColor(class)
}

// hatched is white and grey in diagonal stripes.
func hatched(x, y int) color.RGBA {
	if (x+y)/3%2 == 0 {
		return data.ClassColor(raster.Ignored)
	}
	return color.RGBA{0xff, 0xff, 0xff, 0xff}
}

// least is how wide panels are at least, for words to fit below them.
const least = 224

func form(classes []string, size raster.Size, panels ...panel) *Sheet {
	s := &Sheet{size: size, panels: panels, scale: max(1, (least+size.W-1)/size.W)}
	s.em = min(max(15, s.scale*size.W/18), 40)
	var entries []entry
	for i, name := range classes[:min(len(classes), raster.Ignored)] {
		entries = append(entries, entry{name: name, color: data.ClassColor(byte(i))})
	}
	entries = append(entries, entry{name: "ignored", hatch: true})
	if len(panels) > Errors {
		entries = append(entries, entry{name: "right", color: right}, entry{name: "wrong", color: Wrong})
	}
	s.legend = s.lines(entries)
	return s
}

// lines fills lines of the legend one after another.
func (s *Sheet) lines(entries []entry) (lines [][]entry) {
	letters := measure{s.em}
	room := s.width() - 2*s.em
	x := 0
	for _, e := range entries {
		e.name = fit(letters.width, e.name, room-2*s.em)
		width := letters.width(e.name) + 5*s.em/2
		if len(lines) == 0 || x+width > room {
			lines, x = append(lines, nil), 0
		}
		e.x = s.em + x
		lines[len(lines)-1] = append(lines[len(lines)-1], e)
		x += width
	}
	return lines
}

// shown is the legend without what does not occur. The form has room for all.
func (s *Sheet) shown(rows []Row) [][]entry {
	ignored := slices.ContainsFunc(rows, func(r Row) bool { return slices.Contains(r.Labels.Pix, raster.Ignored) })
	var entries []entry
	for _, e := range slices.Concat(s.legend...) {
		if !e.hatch || ignored {
			entries = append(entries, e)
		}
	}
	return s.lines(entries)
}

func (s *Sheet) gap() int     { return s.em / 2 }
func (s *Sheet) header() int  { return 2 * s.em }
func (s *Sheet) caption() int { return 9 * s.em / 4 }
func (s *Sheet) line() int    { return 7 * s.em / 4 }
func (s *Sheet) pitch() int   { return s.scale*s.size.H + s.caption() }
func (s *Sheet) footer() int  { return len(s.legend)*s.line() + s.em }

func (s *Sheet) width() int {
	return len(s.panels)*(s.scale*s.size.W+s.gap()) - s.gap() + 2*s.em
}

// Rows is how many rows a sheet of this form has, 0 for a picture of another
// form.
func (s *Sheet) Rows(m image.Image) int {
	size := m.Bounds().Size()
	rows := size.Y - s.header() - s.footer()
	if size.X != s.width() || rows < 0 || rows%s.pitch() != 0 {
		return 0
	}
	return rows / s.pitch()
}

// Panel is the place of a panel in a sheet whose bounds begin at 0, 0.
func (s *Sheet) Panel(row, column int) image.Rectangle {
	at := image.Pt(s.em+column*(s.scale*s.size.W+s.gap()), s.header()+row*s.pitch())
	return image.Rectangle{Min: at, Max: at.Add(image.Pt(s.scale*s.size.W, s.scale*s.size.H))}
}

// Draw draws a sheet with a line at its end that says of what it is. It panics where
// a row is not of the form's size.
func (s *Sheet) Draw(of string, rows []Row) *image.RGBA {
	sheet := image.NewRGBA(image.Rect(0, 0, s.width(), s.header()+len(rows)*s.pitch()+s.footer()))
	draw.Draw(sheet, sheet.Bounds(), image.White, image.Point{}, draw.Src)
	face := typeface.Face(float64(s.em))
	write := func(text string, x, baseline int) {
		d := font.Drawer{Dst: sheet, Src: image.NewUniform(ink), Face: face, Dot: fixed.P(x, baseline)}
		d.DrawString(typeface.Visible(text))
	}
	width := func(text string) int { return font.MeasureString(face, typeface.Visible(text)).Ceil() }
	for k, p := range s.panels {
		write(p.name, s.Panel(0, k).Min.X, s.header()-s.em/2)
	}
	for n := range rows {
		r := &rows[n]
		if r.Image.Size != s.size || r.Labels.Size != s.size || len(s.panels) > Errors && r.Predicted.Size != s.size {
			panic(fmt.Sprintf("sheet: an image of %v from parts of %v, %v and %v", s.size, r.Image.Size, r.Labels.Size, r.Predicted.Size))
		}
		red, green, blue := r.Image.Plane(0), r.Image.Plane(1), r.Image.Plane(2)
		for k, p := range s.panels {
			panel := image.NewRGBA(image.Rect(0, 0, s.size.W, s.size.H))
			for i := range s.size.Area() {
				c := p.paint(r, i, s.size.W, color.RGBA{red[i], green[i], blue[i], 0xff})
				panel.SetRGBA(i%s.size.W, i/s.size.W, c)
			}
			// Colors of classes do not mix.
			scaling.NearestNeighbor.Scale(sheet, s.Panel(n, k), panel, panel.Bounds(), scaling.Src, nil)
		}
		write(fit(width, r.Caption, s.width()-2*s.em), s.em, s.Panel(n, 0).Max.Y+5*s.em/4)
	}
	write(fit(width, of, s.width()-2*s.em), s.em, sheet.Bounds().Max.Y-s.em/2)
	for i, line := range s.shown(rows) {
		y := s.header() + len(rows)*s.pitch() + i*s.line()
		for _, e := range line {
			for dy := range s.em {
				for dx := range s.em {
					c := e.color
					if e.hatch {
						c = hatched(dx, dy)
					}
					if dx == 0 || dy == 0 || dx == s.em-1 || dy == s.em-1 {
						c = ink
					}
					sheet.SetRGBA(e.x+dx, y+dy, c)
				}
			}
			write(e.name, e.x+3*s.em/2, y+s.em-s.em/8)
		}
	}
	return sheet
}

// regular is Go Regular, which sheets were drawn in once: it sets the places of the
// legend, so that these sheets keep their form.
var regular = sync.OnceValue(func() *opentype.Font {
	f, err := opentype.Parse(goregular.TTF)
	if err != nil {
		panic(err) // it always is the same
	}
	return f
})

// measure is the width of text that forms follow from: that of Go Regular, and of
// core/typeface for what it lacks.
type measure struct{ em int }

func (m measure) width(text string) int {
	old, err := opentype.NewFace(regular(), &opentype.FaceOptions{Size: float64(m.em), DPI: 72, Hinting: font.HintingFull})
	if err != nil {
		panic(err) // which depends on nothing but the size
	}
	var b sfnt.Buffer
	lacks := strings.IndexFunc(text, func(r rune) bool { i, err := regular().GlyphIndex(&b, r); return err != nil || i == 0 }) >= 0
	if !lacks {
		return font.MeasureString(old, text).Ceil()
	}
	return font.MeasureString(typeface.Face(float64(m.em)), typeface.Visible(text)).Ceil()
}

// fit shortens a text in its middle until it is no wider than the room: the
// ends of names tell files apart.
func fit(width func(string) int, text string, room int) string {
	letters := []rune(text)
	for n := len(letters); n > 0 && width(text) > room; n-- {
		text = strings.TrimSpace(string(letters[:n/3])) + "…" + strings.TrimSpace(string(letters[len(letters)-(n-n/3-1):]))
	}
	return text
}
