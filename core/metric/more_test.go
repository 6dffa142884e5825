package metric_test

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/spec"
)

// Boundary IoU by its definition: erode d times with a 3×3 square, the outside
// being another class; take what is left away.
func boundaries(classes []byte, h, w int, class byte, d int) []bool {
	inside := make([]bool, h*w)
	for i, c := range classes {
		inside[i] = c == class
	}
	eroded := append([]bool{}, inside...)
	for range d {
		next := make([]bool, h*w)
		for y := range h {
			for x := range w {
				all := true
				for dy := -1; dy <= 1; dy++ {
					for dx := -1; dx <= 1; dx++ {
						yy, xx := y+dy, x+dx
						all = all && yy >= 0 && yy < h && xx >= 0 && xx < w && eroded[yy*w+xx]
					}
				}
				next[y*w+x] = all
			}
		}
		eroded = next
	}
	for i := range inside {
		inside[i] = inside[i] && !eroded[i]
	}
	return inside
}

func TestBoundaryIsItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, w := rapid.IntRange(1, 80).Draw(t, "h"), rapid.IntRange(1, 80).Draw(t, "w")
		// Rectangles on a ground: boundaries of all sorts, few of them.
		draw := func(name string) []byte {
			out := make([]byte, h*w)
			for range rapid.IntRange(0, 4).Draw(t, name) {
				y, x := rapid.IntRange(0, h-1).Draw(t, "y"), rapid.IntRange(0, w-1).Draw(t, "x")
				y2, x2 := rapid.IntRange(y, h-1).Draw(t, "y2"), rapid.IntRange(x, w-1).Draw(t, "x2")
				c := rapid.ByteRange(0, 2).Draw(t, "class")
				for i := y; i <= y2; i++ {
					for j := x; j <= x2; j++ {
						out[i*w+j] = c
					}
				}
			}
			return out
		}
		pred, truth := draw("predicted"), draw("labelled")
		c := metric.NewCounts([]string{"a", "b", "c"})
		c.Add(pred, truth)
		size := raster.Size{H: h, W: w}
		c.Boundary(raster.Labels{Size: size, Pix: pred}, raster.Labels{Size: size, Pix: truth})
		m := c.Metrics(0, 1)
		d := max(1, int(math.Round(0.02*math.Hypot(float64(h), float64(w)))))
		for k, cm := range m.Classes {
			p, g := boundaries(pred, h, w, byte(k), d), boundaries(truth, h, w, byte(k), d)
			var both, either uint64
			for i := range p {
				if p[i] && g[i] {
					both++
				}
				if p[i] || g[i] {
					either++
				}
			}
			if cm.BoundaryIntersection != both || cm.BoundaryUnion != either {
				t.Fatalf("class %d at d = %d: %d of %d, want %d of %d", k, d, cm.BoundaryIntersection, cm.BoundaryUnion, both, either)
			}
		}
	})
}

func TestIgnoredPixelsHaveNoBoundary(t *testing.T) {
	c := metric.NewCounts([]string{"a", "b"})
	pred, truth := []byte{0, 0, 1, 1}, []byte{0, raster.Ignored, raster.Ignored, 1}
	c.Add(pred, truth)
	row := raster.Size{H: 1, W: 4}
	c.Boundary(raster.Labels{Size: row, Pix: pred}, raster.Labels{Size: row, Pix: truth})
	m := c.Metrics(0, 1)
	if v, ok := metric.Value(m, "boundary/mean"); !ok || v != 1 {
		t.Errorf("boundary IoU %g, %v", v, ok)
	}
	if v, ok := metric.Value(m, "accuracy/a"); !ok || v != 1 {
		t.Errorf("accuracy %g, %v", v, ok)
	}
}

func TestCalibration(t *testing.T) {
	// Four pixels: sure and right, sure and wrong, unsure and right, ignored.
	var c metric.Calibration
	c.Add([]byte{0, 0, 1, 1}, []byte{0, 1, 1, raster.Ignored},
		[]float32{0.9, 0.9, 0.6, 1}, []float32{0.9, 0.1, 0.6, 0}, []float32{0.82, 0.82, 0.52, 1})
	m := &spec.Metrics{}
	c.Report(m)
	near := func(name string, want float64) {
		t.Helper()
		if got, ok := metric.Value(m, name); !ok || math.Abs(got-want) > 1e-6 {
			t.Errorf("%s is %g, want %g", name, got, want)
		}
	}
	near("ece", (math.Abs(1-1.8)+math.Abs(1-0.6))/3)
	near("nll", -(math.Log(0.9)+math.Log(0.1)+math.Log(0.6))/3)
	near("brier", (0.02+1.62+0.32)/3)
	if !metric.Better("ece", 0.1, 0.2) || !metric.Better("boundary/mean", 0.2, 0.1) {
		t.Error("the wrong way is better")
	}
	empty := &spec.Metrics{}
	(&metric.Calibration{}).Report(empty)
	if _, ok := metric.Value(empty, "ece"); ok {
		t.Error("nothing was counted, and it is calibrated")
	}
}

// Probabilities that are no numbers have no calibration, and do not panic:
// trial-reliability 19, trial-data F13.
func TestCalibrationOfNaN(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		var c metric.Calibration
		p := float32(v)
		c.Add([]byte{0, 1}, []byte{0, 1}, []float32{0.5, p}, []float32{0.5, p}, []float32{0.5, p})
		m := &spec.Metrics{}
		c.Report(m)
		if m.Ece != nil || m.Nll != nil || m.Brier != nil {
			t.Errorf("%v: %v", v, m)
		}
	}
	if _, ok := metric.Value(&spec.Metrics{Loss: math.Inf(1)}, "loss"); ok {
		t.Error("an infinite loss is a value")
	}
}
