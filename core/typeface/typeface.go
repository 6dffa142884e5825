// Package typeface is the type of all pictures: Liberation Sans, and for the
// characters that it lacks, Chinese, Japanese and Korean among them, a bitmap
// font. Both are part of the program, so that a picture does not depend on the
// machine that draws it. A character that neither has, an emoji for example, is
// drawn as the number it has in Unicode: "[1F680]".
package typeface

import (
	"fmt"
	"image"
	"slices"
	"strings"
	"sync"
	"unicode"

	"codeberg.org/go-fonts/liberation/liberationsansregular"
	"github.com/hajimehoshi/bitmapfont/v4"
	"golang.org/x/image/font"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
)

// A Run is a part of a text that one font has.
type Run struct {
	Text   string
	Bitmap bool // of the bitmap font, not of Liberation Sans
}

// Runs splits a text by the fonts that its characters are drawn with.
func Runs(text string) []Run {
	var runs []Run
	add := func(text string, bitmap bool) {
		if n := len(runs); n > 0 && runs[n-1].Bitmap == bitmap {
			runs[n-1].Text += text
			return
		}
		runs = append(runs, Run{text, bitmap})
	}
	for _, r := range text {
		switch {
		case joins(r):
		case inLiberation(r):
			add(string(r), false)
		case inBitmap(r):
			add(string(r), true)
		default:
			add(fmt.Sprintf("[%04X]", r), false)
		}
	}
	return runs
}

// Missing are the characters of texts that are drawn as their number, each once,
// in the order of Unicode.
func Missing(texts ...string) []rune {
	var missing []rune
	for _, text := range texts {
		for _, r := range text {
			if !joins(r) && !inLiberation(r) && !inBitmap(r) {
				missing = append(missing, r)
			}
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}

// joins reports whether a character has no form of its own: it joins others, or
// chooses among their forms.
func joins(r rune) bool {
	return unicode.Is(unicode.Variation_Selector, r) || unicode.Is(unicode.Cf, r)
}

var liberation = sync.OnceValue(func() *opentype.Font {
	f, err := opentype.Parse(liberationsansregular.TTF)
	if err != nil {
		panic(err) // it always is the same
	}
	return f
})

// covered has the answers of inLiberation, which takes a buffer each time.
var covered sync.Map

func inLiberation(r rune) bool {
	if r >= ' ' && r <= '~' {
		return true
	}
	if known, ok := covered.Load(r); ok {
		return known.(bool)
	}
	var b sfnt.Buffer
	i, err := liberation().GlyphIndex(&b, r)
	ok := err == nil && i != 0
	covered.Store(r, ok)
	return ok
}

// em is the size of the bitmap font in dots. A Chinese character is 12 dots wide;
// it is drawn a little larger than letters, to be as legible.
const em = 11

func inBitmap(r rune) bool { return r == '\u3000' || len(Dots(r)) > 0 }

// dotted has what Dots found.
var dotted sync.Map

// Advance is the width of a character of the bitmap font in parts of its size.
func Advance(r rune) float64 {
	advance, _ := bitmapfont.Face.GlyphAdvance(r)
	return float64(advance) / 64 / em
}

// Dots are the dots of a character of the bitmap font as lines, in parts of its
// size: x goes to the right, y down from the baseline.
func Dots(r rune) []Dot {
	if known, ok := dotted.Load(r); ok {
		return known.([]Dot)
	}
	dots := dots(r)
	dotted.Store(r, dots)
	return dots
}

func dots(r rune) []Dot {
	bounds, mask, at, _, ok := bitmapfont.Face.Glyph(fixed.Point26_6{}, r)
	if !ok {
		return nil
	}
	var dots []Dot
	for y := range bounds.Dy() {
		begin := -1
		for x := range bounds.Dx() + 1 {
			set := false
			if x < bounds.Dx() {
				_, _, _, alpha := mask.At(at.X+x, at.Y+y).RGBA()
				set = alpha > 0
			}
			switch {
			case set && begin < 0:
				begin = x
			case !set && begin >= 0:
				top := float64(bounds.Min.Y+y) / em
				dots = append(dots, Dot{float64(bounds.Min.X+begin) / em, top, float64(bounds.Min.X+x) / em, top + 1./em})
				begin = -1
			}
		}
	}
	return dots
}

// Dot is a rectangle.
type Dot struct{ X0, Y0, X1, Y1 float64 }

// face is a font.Face of all characters.
type face struct {
	font.Face // Liberation Sans
	size      float64
}

// Face is the type at a size in pixels. One goroutine may use it.
func Face(size float64) font.Face {
	f, err := opentype.NewFace(liberation(), &opentype.FaceOptions{Size: size, DPI: 72, Hinting: font.HintingFull})
	if err != nil {
		panic(err) // which depends on nothing but the size
	}
	return &face{f, size}
}

// Visible is a text as Face draws it: without characters that have no form, and
// with the numbers of those that no font has.
func Visible(text string) string {
	var b strings.Builder
	for _, run := range Runs(text) {
		b.WriteString(run.Text)
	}
	return b.String()
}

func (f *face) Glyph(dot fixed.Point26_6, r rune) (image.Rectangle, image.Image, image.Point, fixed.Int26_6, bool) {
	if inLiberation(r) || !inBitmap(r) {
		return f.Face.Glyph(dot, r)
	}
	left, baseline := dot.X.Round(), dot.Y.Round()
	high := int(1.5*f.size) + 1
	mask := image.NewAlpha(image.Rect(0, -high, high, high))
	const fine = 4 // samples in each direction
	for _, d := range Dots(r) {
		for y := range sampled(d.Y0, d.Y1, f.size*fine) {
			for x := range sampled(d.X0, d.X1, f.size*fine) {
				i := mask.PixOffset(floor(x, fine), floor(y, fine))
				if i >= 0 && i < len(mask.Pix) {
					mask.Pix[i] = byte(min(255, int(mask.Pix[i])+256/(fine*fine)))
				}
			}
		}
	}
	advance, _ := f.GlyphAdvance(r)
	return mask.Rect.Add(image.Pt(left, baseline)), mask, mask.Rect.Min, advance, true
}

// sampled yields the samples between two edges.
func sampled(from, to, scale float64) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for i := int(round(from * scale)); i < int(round(to*scale)); i++ {
			if !yield(i) {
				return
			}
		}
	}
}

func round(v float64) float64 {
	if v < 0 {
		return -float64(int(-v + 0.5))
	}
	return float64(int(v + 0.5))
}

func floor(a, b int) int {
	if a < 0 {
		return -((b - 1 - a) / b)
	}
	return a / b
}

func (f *face) GlyphBounds(r rune) (fixed.Rectangle26_6, fixed.Int26_6, bool) {
	if inLiberation(r) || !inBitmap(r) {
		return f.Face.GlyphBounds(r)
	}
	advance, _ := f.GlyphAdvance(r)
	size := fixed.Int26_6(f.size * 64)
	return fixed.Rectangle26_6{Min: fixed.Point26_6{Y: -size}, Max: fixed.Point26_6{X: advance, Y: size / 4}}, advance, true
}

func (f *face) GlyphAdvance(r rune) (fixed.Int26_6, bool) {
	if inLiberation(r) || !inBitmap(r) {
		return f.Face.GlyphAdvance(r)
	}
	return fixed.Int26_6(Advance(r) * f.size * 64), true
}
