package typeface

import (
	"fmt"
	"image"
	"math"
	"slices"
	"testing"

	"golang.org/x/image/font"
	"golang.org/x/image/math/fixed"
)

// Chinese, Japanese and Korean names are drawn, and what no font has is named
// (trial-language F5).
func TestEveryCharacterIsSeen(t *testing.T) {
	for text, want := range map[string]string{
		"rank=8":   "[{rank=8 false}]",
		"学习率=0.1":  "[{学习率 true} {=0.1 false}]",
		"ランク日本語":   "[{ランク日本語 true}]",
		"한국어":      "[{한국어 true}]",
		"Größe Ωж": "[{Größe Ωж false}]",
		"go 🚀":     "[{go [1F680] false}]",
		"❤️":       "[{❤ true}]",
		"":         "[]",
	} {
		if got := fmt.Sprint(Runs(text)); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	if got := Missing("b 🚀 a", "🚀 学 😀"); !slices.Equal(got, []rune{0x1f600, 0x1f680}) {
		t.Errorf("%q are missing", got)
	}
}

// A face draws dots where the bitmap font has them, and nowhere else.
func TestFace(t *testing.T) {
	f := Face(22)
	defer f.Close()
	m := image.NewRGBA(image.Rect(0, 0, 30, 40))
	d := font.Drawer{Dst: m, Src: image.Black, Face: f, Dot: fixed.P(0, 30)}
	d.DrawString("一") // one bar
	if d.Dot.X != fixed.I(24) {
		t.Errorf("it is %v wide, want 24", d.Dot.X)
	}
	drawn := 0
	for _, dot := range Dots('一') {
		for y := int(math.Round(dot.Y0 * 22)); y < int(math.Round(dot.Y1*22)); y++ {
			for x := int(math.Round(dot.X0 * 22)); x < int(math.Round(dot.X1*22)); x++ {
				drawn++
				if m.RGBAAt(x, 30+y).A != 255 {
					t.Errorf("there is no dot at %d, %d", x, y)
				}
			}
		}
	}
	inked := 0
	for i := 3; i < len(m.Pix); i += 4 {
		if m.Pix[i] > 0 {
			inked++
		}
	}
	if drawn == 0 || inked != drawn {
		t.Errorf("%d pixels are drawn, want %d", inked, drawn)
	}
}
