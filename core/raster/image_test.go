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
		got := bilinear(src, from, to)
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
