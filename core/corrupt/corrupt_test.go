package corrupt

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/raster"
)

// scene is a picture with a gradient, an edge and a disk, and its labels.
func scene(h, w int) *raster.Float {
	size := raster.Size{H: h, W: w}
	of := raster.Labelled{Image: raster.NewImage(size), Labels: raster.NewLabels(size)}
	image, labels := of.Image.RGB, of.Labels.Pix
	for y := range h {
		for x := range w {
			i := y*w + x
			image[i], image[h*w+i], image[2*h*w+i] = byte(40+150*x/w), byte(200*y/h), 90
			if dy, dx := y-h/2, x-w/2; dy*dy+dx*dx < h*w/16 {
				labels[i] = 1
				image[i], image[h*w+i] = 220, 60
			}
		}
	}
	return raster.Floats(of)
}

func distance(a, b *raster.Float) float64 {
	var sum float64
	for i, v := range a.RGB {
		d := float64(v - b.RGB[i])
		sum += d * d
	}
	return math.Sqrt(sum / float64(len(a.RGB)))
}

// Every corruption changes a picture of any shape, never leaves 0 to 1, is the
// same for the same name and another for another where it is random, and moves
// labels only if it says so.
func TestEveryCorruption(t *testing.T) {
	random := []string{
		"gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "glass_blur", "motion_blur",
		"snow", "frost", "fog", "spatter", "elastic_transform",
	}
	for _, kind := range Kinds() {
		clean := scene(61, 84)
		for severity := 1; severity <= Severities; severity++ {
			a, again, other := scene(61, 84), scene(61, 84), scene(61, 84)
			Apply(a, kind, severity, 7, "a")
			Apply(again, kind, severity, 7, "a")
			Apply(other, kind, severity, 7, "b")
			d := distance(clean, a)
			if !(d > 0.004 && d < 0.8) {
				t.Errorf("%s %d: at a distance of %.4f", kind, severity, d)
			}
			if low, high := slices.Min(a.RGB), slices.Max(a.RGB); low < 0 || high > 1 {
				t.Errorf("%s %d: values from %g to %g", kind, severity, low, high)
			}
			if !slices.Equal(a.RGB, again.RGB) || !slices.Equal(a.Labels, again.Labels) {
				t.Errorf("%s %d: not the same twice", kind, severity)
			}
			if differs := !slices.Equal(a.RGB, other.RGB); differs != slices.Contains(random, kind) {
				t.Errorf("%s %d: depends on the name: %v", kind, severity, differs)
			}
			if moved := !slices.Equal(clean.Labels, a.Labels); moved && kind != "elastic_transform" {
				t.Errorf("%s %d: moves labels", kind, severity)
			}
		}
	}
}

// More severe is further away, for all whose constants grow in one way.
func TestSeverityGrows(t *testing.T) {
	for _, kind := range Kinds() {
		if slices.Contains([]string{"saturate", "elastic_transform", "snow", "frost", "fog", "glass_blur", "spatter"}, kind) {
			continue // the paper's constants change in several ways at once
		}
		clean, before, first := scene(64, 64), 0.0, 0.0
		for severity := 1; severity <= Severities; severity++ {
			p := scene(64, 64)
			Apply(p, kind, severity, 1, "x")
			d := distance(clean, p)
			if severity == 1 {
				first = d
			}
			// Boxes of pixelate may happen to fit an edge of the scene.
			if d <= before*0.9 || severity == Severities && d < 1.3*first {
				t.Errorf("%s: %.4f at severity %d, %.4f before", kind, d, severity, before)
			}
			before = d
		}
	}
}

// The noises have the spread that their constants say.
func TestNoiseHasItsSpread(t *testing.T) {
	grey := func() *raster.Float {
		image := raster.NewImage(raster.Size{H: 100, W: 100})
		for i := range image.RGB {
			image.RGB[i] = 128
		}
		return raster.Floats(raster.Labelled{Image: image})
	}
	v := 128. / 255
	for kind, want := range map[string]float64{
		"gaussian_noise": .08, "speckle_noise": .15 * v, "shot_noise": math.Sqrt(v / 60),
		"impulse_noise": math.Sqrt(.03 * (v*v + (1-v)*(1-v)) / 2),
	} {
		p := grey()
		Apply(p, kind, 1, 3, "x")
		if got := distance(p, grey()); math.Abs(got-want) > .05*want {
			t.Errorf("%s: spread %.4f, want %.4f", kind, got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	if err := Check("gaussian_noise", 5); err != nil {
		t.Error(err)
	}
	for want, err := range map[string]error{"want one of brightness, contrast": Check("rain", 1), "want 1 to 5": Check("fog", 6), "severity 0": Check("fog", 0)} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	var all []string
	for _, f := range Families() {
		all = append(all, Family(f)...)
	}
	slices.Sort(all)
	if !slices.Equal(all, Kinds()) {
		t.Errorf("the families hold %v", all)
	}
}

// Labels that are moved by themselves go where those of the picture go, at other
// sizes to the same place; other corruptions move none.
func TestMoveLabels(t *testing.T) {
	const h, w = 40, 60
	size := raster.Size{H: h, W: w}
	labels := raster.NewLabels(size)
	for i := range labels.Pix {
		labels.Pix[i] = byte(i/w/4*16 + i%w/4)
	}
	for _, kind := range Kinds() {
		p := raster.Floats(raster.Labelled{Image: raster.NewImage(size), Labels: raster.Labels{Size: size, Pix: slices.Clone(labels.Pix)}})
		Apply(p, kind, 3, 5, "a")
		if got := MoveLabels(labels, size, kind, 3, 5, "a"); !slices.Equal(got.Pix, p.Labels) {
			t.Errorf("%s moves labels by themselves otherwise than in a picture", kind)
		}
		double := raster.NewLabels(raster.Size{H: 2 * h, W: 2 * w})
		for i := range double.Pix {
			double.Pix[i] = labels.Pix[i/(2*w)/2*w+i%(2*w)/2]
		}
		double = MoveLabels(double, size, kind, 3, 5, "a")
		alike := 0
		for i, l := range double.Pix {
			if l == p.Labels[i/(2*w)/2*w+i%(2*w)/2] {
				alike++
			}
		}
		if share := float64(alike) / float64(len(double.Pix)); share < 0.8 {
			t.Errorf("%s at twice the size: %.0f%% of the labels are where they belong", kind, 100*share)
		}
	}
}
