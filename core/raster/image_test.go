package raster

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A flat image stays flat and no resize leaves the range of its input, at
// sizes that no fixture has.
func TestResizeStaysWithinItsInput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 24)
		from, to := Size{size.Draw(t, "h"), size.Draw(t, "w")}, Size{size.Draw(t, "toH"), size.Draw(t, "toW")}
		low := rapid.Byte().Draw(t, "low")
		src := rapid.SliceOfN(rapid.ByteRange(low, 255), from.Area(), from.Area()).Draw(t, "pixels")
		got := bilinear(src, from, to, whole(to))
		if len(got) != to.Area() {
			t.Fatalf("%d pixels, want %d", len(got), to.Area())
		}
		for _, v := range got {
			if v < slices.Min(src) || v > slices.Max(src) {
				t.Fatalf("%d is outside %d…%d", v, slices.Min(src), slices.Max(src))
			}
		}
		for _, v := range Nearest(src, from, to) {
			if !slices.Contains(src, v) {
				t.Fatalf("nearest made %d, which the image does not hold", v)
			}
		}
	})
}

// A window holds what lies at its place, and the fill beyond the image.
func TestCut(t *testing.T) {
	m := NewImage(Size{H: 2, W: 3})
	for i := range m.RGB {
		m.RGB[i] = byte(i)
	}
	into := NewImage(Size{H: 2, W: 2})
	if m.Cut(into, 0, 1, [3]byte{}); !bytes.Equal(into.RGB, []byte{1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16, 17}) {
		t.Errorf("inside: %v", into.RGB)
	}
	if m.Cut(into, 1, 2, [3]byte{91, 92, 93}); !bytes.Equal(into.RGB, []byte{5, 91, 91, 91, 11, 92, 92, 92, 17, 93, 93, 93}) {
		t.Errorf("beyond the corner: %v", into.RGB)
	}
}

// A part of a resized image is what cutting the whole one gives, to the byte.
func TestResizedCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 17)
		from, to, of := Size{size.Draw(t, "h"), size.Draw(t, "w")}, Size{size.Draw(t, "toH"), size.Draw(t, "toW")}, Size{size.Draw(t, "ofH"), size.Draw(t, "ofW")}
		m, l := NewImage(from), NewLabels(from)
		copy(m.RGB, rapid.SliceOfN(rapid.Byte(), len(m.RGB), len(m.RGB)).Draw(t, "pixels"))
		copy(l.Pix, m.RGB)
		top, left := rapid.IntRange(0, max(0, to.H-of.H)).Draw(t, "top"), rapid.IntRange(0, max(0, to.W-of.W)).Draw(t, "left")
		fill := [3]byte{1, 2, 3}
		want := NewImage(of)
		m.Resized(to).Cut(want, top, left, fill)
		got := Labelled{m.ResizedCut(to, top, left, of), l.ResizedCut(to, top, left, of)}.Padded(of, fill)
		if !bytes.Equal(got.Image.RGB, want.RGB) {
			t.Fatalf("%v at %v, window %v at %d, %d: %v, want %v", from, to, of, top, left, got.Image.RGB, want.RGB)
		}
		resized := l.Resized(to)
		for y := range of.H {
			for x := range of.W {
				label := byte(Ignored)
				if top+y < to.H && left+x < to.W {
					label = resized.Pix[(top+y)*to.W+left+x]
				}
				if v := got.Labels.Pix[y*of.W+x]; v != label {
					t.Fatalf("label %d at %d, %d, want %d", v, y, x, label)
				}
			}
		}
	})
}
