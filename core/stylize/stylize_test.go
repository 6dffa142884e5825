package stylize

import (
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/rng"
)

// scene is a smooth picture; stripes a coarse, colorful one.
func scene(h, w int) *raster.Float {
	p := &raster.Float{Size: raster.Size{H: h, W: w}, RGB: make([]float32, 3*h*w), Labels: make([]byte, h*w)}
	for i := range h * w {
		p.RGB[i], p.RGB[h*w+i], p.RGB[2*h*w+i] = float32(i%w)/float32(w), .4, float32(i/w)/float32(h)
	}
	return p
}

func stripes(h, w int) *raster.Float {
	p := &raster.Float{Size: raster.Size{H: h, W: w}, RGB: make([]float32, 3*h*w)}
	noise := make([]float32, len(p.RGB))
	rng.New(1).Normal(noise, .05)
	for i := range h * w {
		on := float32(i % w / 3 % 2)
		for c, v := range [3]float32{.8, .2 + .5*on, .1 + .6*on} {
			p.RGB[c*h*w+i] = v + noise[c*h*w+i]
		}
	}
	p.Clamp()
	return p
}

func distance(a, b []float32) float64 {
	var s float64
	for i, v := range a {
		s += float64((v - b[i]) * (v - b[i]))
	}
	return math.Sqrt(s / float64(len(a)))
}

// Nothing at strength 0, more with more; a picture in its own style is itself;
// labels stay; and every kind gives the same twice.
func TestEveryKind(t *testing.T) {
	for _, kind := range Kinds() {
		for _, size := range [][2]int{{32, 32}, {31, 45}} {
			h, w := size[0], size[1]
			before := 0.0
			for _, strength := range []float64{0, .3, 1} {
				p, again := scene(h, w), scene(h, w)
				Apply(p, stripes(h, w), kind, strength)
				Apply(again, stripes(h, w), kind, strength)
				d := distance(p.RGB, scene(h, w).RGB)
				if strength == 0 && d != 0 || strength > 0 && d <= before {
					t.Errorf("%s at %g: moved by %g, before by %g", kind, strength, d, before)
				}
				before = d
				if !slices.Equal(p.RGB, again.RGB) || slices.Max(p.Labels) != 0 {
					t.Errorf("%s at %g: not the same twice, or labels moved", kind, strength)
				}
			}
			p := scene(h, w)
			Apply(p, scene(h, w), kind, 1)
			if d := distance(p.RGB, scene(h, w).RGB); d > 2e-3 {
				t.Errorf("%s: a picture in its own style moves by %g", kind, d)
			}
		}
	}
}

// The transfers do what they are named for.
func TestWhatIsTransferred(t *testing.T) {
	style := stripes(40, 40)
	p := scene(40, 40)
	Apply(p, style, "texture", 1)
	for c := range 3 {
		a, b := slices.Clone(p.Plane(c)), slices.Clone(style.Plane(c))
		slices.Sort(a)
		slices.Sort(b)
		if d := distance(a, b); d > 1e-6 {
			t.Errorf("texture: histogram of channel %d is off by %g", c, d)
		}
	}
	p = scene(40, 40)
	for i, v := range p.RGB { // away from black and white, where colors are cut off
		p.RGB[i] = .4 + .1*v
		style.RGB[i] = .3 + .2*style.RGB[i]
	}
	colorStatistics(p, style, 1)
	mine, theirs := toLAB(p), toLAB(style)
	for c := range 3 {
		mean, spread := moments(mine[c])
		if want, wantSpread := moments(theirs[c]); math.Abs(mean-want) > 1e-3 || math.Abs(spread-wantSpread) > 1e-3 {
			t.Errorf("color: axis %d has mean %g and spread %g, style's are %g and %g", c, mean, spread, want, wantSpread)
		}
	}
	p = scene(40, 40)
	f, s := transform(p.Plane(0), p.Size), transform(style.Plane(0), p.Size)
	fourierAmplitude(p, style, 1)
	g := transform(p.Plane(0), p.Size)
	if d := math.Abs(real(g[0]) - real(s[0])); d > 1e-2 {
		t.Errorf("fourier: the mean is off by %g", d)
	}
	if d := real(g[20]) - real(f[20]); math.Abs(d) > 1e-2 { // a high frequency
		t.Errorf("fourier: a high frequency moved by %g", d)
	}
}

func TestTransformAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, w := rapid.IntRange(1, 12).Draw(t, "h"), rapid.IntRange(1, 12).Draw(t, "w")
		plane := rapid.SliceOfN(rapid.Float32Range(0, 1), h*w, h*w).Draw(t, "plane")
		out := make([]float32, h*w)
		size := raster.Size{H: h, W: w}
		back(transform(plane, size), out, size)
		if d := distance(plane, out); d > 1e-6 {
			t.Fatalf("off by %g", d)
		}
	})
	var one [3][3]float64
	for i := range 3 {
		for j := range 3 {
			for k := range 3 {
				one[i][j] += toLMS[i][k] * fromLMS[k][j]
			}
		}
	}
	if math.Abs(one[0][0]-1)+math.Abs(one[0][1])+math.Abs(one[1][1]-1)+math.Abs(one[2][1]) > 1e-9 {
		t.Errorf("the inverse is none: %v", one)
	}
}

func TestCheck(t *testing.T) {
	for want, err := range map[string]error{"want one of colour, fourier, texture": Check("neural", 1), "want 0 to 1": Check("colour", 1.5)} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v", err)
		}
	}
	if err := Check("texture", 1); err != nil {
		t.Error(err)
	}
}
