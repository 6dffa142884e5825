package raster

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func draw(t *rapid.T) *Float {
	h, w := rapid.IntRange(1, 9).Draw(t, "h"), rapid.IntRange(1, 9).Draw(t, "w")
	bytes := rapid.SliceOfN(rapid.Byte(), 3*h*w, 3*h*w).Draw(t, "image")
	labels := rapid.SliceOfN(rapid.ByteRange(0, 3), h*w, h*w).Draw(t, "labels")
	return Floats(Labelled{Image{Size{h, w}, bytes}, Labels{Size{h, w}, labels}})
}

// Bytes come back as they were, and so does what a warp does not move.
func TestNothingIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := draw(t)
		before, labels := p.Image().RGB, slices.Clone(p.Labels)
		p.Warp(Reflect, func(y, x int) (float64, float64) { return float64(y), float64(x) })
		if !slices.Equal(p.Image().RGB, before) || !slices.Equal(p.Labels, labels) {
			t.Fatal("a warp to the same place changes something")
		}
		p.HSV(func(h, s, v float64) (float64, float64, float64) { return h, s, v })
		if !slices.Equal(p.Image().RGB, before) {
			t.Fatal("a way through HSV changes something")
		}
	})
}

// A shift by whole pixels moves colors and labels alike; what comes from
// outside is black and ignored, or the mirror image.
func TestShift(t *testing.T) {
	row := Size{H: 1, W: 3}
	p := Floats(Labelled{Image{row, []byte{10, 20, 30, 40, 50, 60, 70, 80, 90}}, Labels{row, []byte{0, 1, 2}}})
	q := Floats(Labelled{Image{row, []byte{10, 20, 30, 40, 50, 60, 70, 80, 90}}, Labels{row, []byte{0, 1, 2}}})
	right := func(y, x int) (float64, float64) { return float64(y), float64(x - 1) }
	p.Warp(Nothing, right)
	q.Warp(Reflect, right)
	if got := p.Image().RGB; !slices.Equal(got, []byte{0, 10, 20, 0, 40, 50, 0, 70, 80}) || !slices.Equal(p.Labels, []byte{Ignored, 0, 1}) {
		t.Errorf("got %v %v", got, p.Labels)
	}
	if got := q.Image().RGB; !slices.Equal(got, []byte{10, 10, 20, 40, 40, 50, 70, 70, 80}) || !slices.Equal(q.Labels, []byte{0, 0, 1}) {
		t.Errorf("got %v %v", got, q.Labels)
	}
}

// A blur keeps the mean and the range, and spreads a point as a Gaussian does.
func TestBlur(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := draw(t)
		sigma := rapid.Float64Range(0.1, 3).Draw(t, "sigma")
		low, high := slices.Min(p.RGB), slices.Max(p.RGB)
		before := sum(p.RGB)
		p.Blur(sigma)
		if l, h := slices.Min(p.RGB), slices.Max(p.RGB); l < low-1e-4 || h > high+1e-4 {
			t.Fatalf("from %g…%g to %g…%g", low, high, l, h)
		}
		if after := sum(p.RGB); math.Abs(after-before) > 1e-3*(1+before) {
			t.Fatalf("the sum was %g and is %g", before, after)
		}
	})
	plane := make([]float32, 41*41)
	plane[20*41+20] = 1
	BlurPlane(plane, Size{41, 41}, 2)
	for _, d := range []int{0, 1, 3, 5} {
		want := math.Exp(-float64(d*d)/8) / (2 * math.Pi * 4)
		if got := float64(plane[20*41+20+d]); math.Abs(got-want) > 2e-4 {
			t.Errorf("at %d: %g, want %g", d, got, want)
		}
	}
}

func sum(v []float32) (s float64) {
	for _, x := range v {
		s += float64(x)
	}
	return s
}

func TestHSV(t *testing.T) {
	for _, c := range []struct{ r, g, b, h, s, v float64 }{
		{1, 0, 0, 0, 1, 1}, {0, 1, 0, 1. / 3, 1, 1}, {0, 0, 1, 2. / 3, 1, 1}, {.5, .5, .5, 0, 0, .5}, {.2, .4, .4, .5, .5, .4},
	} {
		h, s, v := toHSV(c.r, c.g, c.b)
		if math.Abs(h-c.h)+math.Abs(s-c.s)+math.Abs(v-c.v) > 1e-12 {
			t.Errorf("%v: %g %g %g", c, h, s, v)
		}
	}
}
