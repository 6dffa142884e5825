package loss

import (
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

func onDevice(t *testing.T, fn func(dev *torch.Device) error) {
	t.Helper()
	dev, err := torch.CPU(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if err := dev.Do(func() error { return fn(dev) }); err != nil {
		t.Fatal(err)
	}
}

// Logits of 4 classes, one of them absent, some pixels ignored; values and
// gradients by PyTorch in fp64 (core/engine/vit/testdata/make_fixtures.py).
func TestLossesEqualPyTorch(t *testing.T) {
	file, err := safetensors.Open("testdata/losses.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	onDevice(t, func(dev *torch.Device) error {
		floats := func(name string) []float32 {
			x, ok := file.Get(name)
			if !ok {
				t.Fatalf("fixture lacks %s", name)
			}
			v, err := x.Float32()
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		labels, _ := file.Get("labels")
		target := torch.Of(dev, labels.Data, 2, 8, 6).To(torch.Int64)
		counted := make([]uint64, 4)
		for _, c := range labels.Data {
			if c != raster.Ignored {
				counted[c]++
			}
		}
		weights := []float64{0.5, 2, 1.25, 3}
		for name, term := range map[string]*spec.Loss{
			"cross_entropy":          {Kind: "cross_entropy"},
			"cross_entropy_weighted": {Kind: "cross_entropy", ClassWeights: weights, Smoothing: 0.1},
			"dice_present":           {Kind: "dice"},
			"log_cosh_dice":          {Kind: "log_cosh_dice"},
			"focal":                  {Kind: "focal", ClassWeights: weights, Gamma: 2},
			"lovasz":                 {Kind: "lovasz"},
		} {
			kind := name
			term.Weight = 1
			x := torch.Of(dev, floats("logits"), 2, 4, 8, 6).RequireGrad(true)
			terms := []*spec.Loss{term}
			masses := Masses(terms, 2, counted)
			l := Compute(terms, masses, masses, x, target)
			if got, want := l.Item(), float64(floats(name)[0]); math.Abs(got-want) > 1e-6 {
				t.Errorf("%s is %v, want %v", kind, got, want)
			}
			var mean Mean
			mean.Add(terms, masses, x, x.Softmax(1), target)
			if again := mean.Of(terms); math.Abs(again-l.Item()) > 1e-6 {
				t.Errorf("%s is %v of a split, %v of a batch", kind, again, l.Item())
			}
			l.Backward()
			want := floats("grad." + name)
			for i, g := range x.Grad().Floats() {
				if d := math.Abs(float64(g - want[i])); !(d <= 1e-7) {
					t.Errorf("gradient of %s: |Δ| %.3g at %d", kind, d, i)
					break
				}
			}
		}
		return nil
	})
}

func TestSumIsWeighted(t *testing.T) {
	onDevice(t, func(dev *torch.Device) error {
		x := torch.Of(dev, []float32{2, -1, 0.5, 0, 1, 3, -2, 0.1}, 1, 2, 2, 2)
		y := torch.Of(dev, []int64{0, 1, 1, 255}, 1, 2, 2)
		of := func(terms ...*spec.Loss) float64 {
			masses := Masses(terms, 1, []uint64{1, 2})
			return Compute(terms, masses, masses, x, y).Item()
		}
		one := func(kind string) float64 { return of(&spec.Loss{Kind: kind, Weight: 1}) }
		got := of(&spec.Loss{Kind: "cross_entropy", Weight: 0.5}, &spec.Loss{Kind: "dice", Weight: 2})
		if want := 0.5*one("cross_entropy") + 2*one("dice"); math.Abs(got-want) > 1e-6 {
			t.Errorf("sum is %v, want %v", got, want)
		}
		return nil
	})
}

// A perfect prediction costs nothing, soft Dice lies in [0, 1], and what is
// predicted on ignored pixels counts for nothing.
func TestSoftDiceBounds(t *testing.T) {
	onDevice(t, func(dev *torch.Device) error {
		rapid.Check(t, func(t *rapid.T) {
			classes := rapid.Int64Range(2, 4).Draw(t, "classes")
			labels := rapid.SliceOfN(rapid.SampledFrom([]int64{0, 1, raster.Ignored}), 12, 12).Draw(t, "labels")
			scores := func(name string) []float32 {
				return rapid.SliceOfN(rapid.Float32Range(-20, 20), int(classes)*12, int(classes)*12).Draw(t, name)
			}
			dev.Scope(func() {
				y := torch.Of(dev, labels, 1, 3, 4)
				dice := func(v []float32) float64 { return softDice(torch.Of(dev, v, 1, classes, 3, 4).Softmax(1), y).Item() }

				a, b := scores("logits"), scores("other logits")
				if d := dice(a); !(d >= -1e-6 && d <= 1+1e-6) {
					t.Fatalf("soft Dice loss %v", d)
				}
				counted := false
				perfect := make([]float32, len(a))
				for i, l := range labels {
					for c := range int(classes) {
						if l == raster.Ignored {
							b[c*12+i] += 1
							continue
						}
						counted = true
						b[c*12+i] = a[c*12+i]
						if l == int64(c) {
							perfect[c*12+i] = 100
						}
					}
				}
				if x, y := dice(a), dice(b); math.Abs(x-y) > 1e-6 {
					t.Fatalf("ignored pixels move the loss from %v to %v", x, y)
				}
				if d := dice(perfect); counted && math.Abs(d) > 1e-5 {
					t.Fatalf("a perfect prediction costs %v", d)
				}
			})
		})
		return nil
	})
}

func TestBadLossesAreRefused(t *testing.T) {
	for want, terms := range map[string][]*spec.Loss{
		"no loss given":              nil,
		`"hinge", want one of cross`: {{Kind: "hinge", Weight: 1}},
		"3 class weights for 2":      {{Kind: "focal", Weight: 1, ClassWeights: []float64{1, 2, 3}}},
		"label smoothing":            {{Kind: "cross_entropy", Weight: 1, Smoothing: 1}},
		"gamma of focal":             {{Kind: "focal", Weight: 1, Gamma: -1}},
		`unknown weighting "square"`: {{Kind: "focal", Weight: 1, Weighting: "square"}},
		"want a positive number":     {{Kind: "dice"}},
		"weight of dice is NaN":      {{Kind: "dice", Weight: math.NaN()}},
	} {
		if err := Check(terms, 2); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", terms, err, want)
		}
	}
}

// Rarer classes weigh more, the mean is 1 over what occurs, nothing weighs more
// than a hundred times another, and what does not occur weighs nothing.
func TestWeights(t *testing.T) {
	for _, kind := range Weightings() {
		w, err := Weights(kind, []uint64{900, 90, 0, 10})
		if err != nil {
			t.Fatal(err)
		}
		if !(w[0] < w[1] && w[1] < w[3] && w[2] == 0) || math.Abs(w[0]+w[1]+w[3]-3) > 1e-12 {
			t.Errorf("%s: %v", kind, w)
		}
		rapid.Check(t, func(t *rapid.T) {
			n := rapid.SliceOfN(rapid.Uint64Range(0, 1e9), 2, 6).Draw(t, "pixels")
			n[0]++
			w, err := Weights(kind, n)
			if err != nil {
				t.Fatal(err)
			}
			low, high := math.Inf(1), 0.0
			for i, v := range w {
				if n[i] > 0 {
					low, high = min(low, v), max(high, v)
				}
			}
			if !(low > 0 && high <= 100*low*(1+1e-9)) {
				t.Fatalf("%v", w)
			}
		})
	}
	if w, _ := Weights("inverse", []uint64{3, 1}); math.Abs(w[1]/w[0]-3) > 1e-12 {
		t.Errorf("inverse: %v", w)
	}
	if _, err := Weights("inverse", []uint64{0, 0}); err == nil {
		t.Error("no pixels, and weights all the same")
	}
}

// Focal loss is cross entropy at γ = 0, and falls as γ grows.
func TestFocal(t *testing.T) {
	onDevice(t, func(dev *torch.Device) error {
		x := torch.Of(dev, []float32{2, -1, 0.5, 0, 1, 3, -2, 0.1}, 1, 2, 2, 2)
		y := torch.Of(dev, []int64{0, 1, 1, 255}, 1, 2, 2)
		ce := torch.CrossEntropySum(x, y, nil, raster.Ignored, 0).Item()
		if f := focal(x, y, nil, 0).Item(); math.Abs(f-ce) > 1e-6 {
			t.Errorf("%v at γ = 0, cross entropy is %v", f, ce)
		}
		if a, b := focal(x, y, nil, 1).Item(), focal(x, y, nil, 3).Item(); !(b < a && a < ce) {
			t.Errorf("γ = 1: %v, γ = 3: %v, cross entropy %v", a, b, ce)
		}
		return nil
	})
}

// drawn is a set of images of 3 classes and 4 pixels each, of which any number is
// ignored, cut into batches.
func drawn(t *rapid.T) (logits []float32, labels []int64, batches []int) {
	n := rapid.IntRange(1, 6).Draw(t, "images")
	logits = rapid.SliceOfN(rapid.Float32Range(-5, 5), 12*n, 12*n).Draw(t, "logits")
	for range n {
		known := rapid.IntRange(0, 4).Draw(t, "pixels that count")
		for i := range 4 {
			label := int64(raster.Ignored)
			if i < known {
				label = rapid.Int64Range(0, 2).Draw(t, "label")
			}
			labels = append(labels, label)
		}
	}
	for left := n; left > 0; left -= batches[len(batches)-1] {
		batches = append(batches, rapid.IntRange(1, left).Draw(t, "batch"))
	}
	return logits, labels, batches
}

func pixelsOf(labels []int64) []uint64 {
	counts := make([]uint64, 3)
	for _, l := range labels {
		if l != raster.Ignored {
			counts[l]++
		}
	}
	return counts
}

var meansOverPixels = []*spec.Loss{
	{Kind: "cross_entropy", Weight: 1},
	{Kind: "cross_entropy", Weight: 0.5, ClassWeights: []float64{0.2, 3, 0}, Smoothing: 0.1},
	{Kind: "focal", Weight: 2, Gamma: 2, ClassWeights: []float64{0, 1, 5}},
}

// reference is the mean over pixels by its definition, in float64: PyTorch's
// cross_entropy with weights and smoothing, and the focal loss.
func reference(t *spec.Loss, logits []float32, labels []int64) (sum, mass float64) {
	weight := func(c int) float64 {
		if t.ClassWeights == nil {
			return 1
		}
		return t.ClassWeights[c]
	}
	for i, l := range labels {
		if l == raster.Ignored {
			continue
		}
		var logp [3]float64
		total := 0.0
		for c := range logp {
			logp[c] = float64(logits[i/4*12+4*c+i%4])
			total += math.Exp(logp[c])
		}
		for c := range logp {
			logp[c] -= math.Log(total)
		}
		mass += weight(int(l))
		switch t.Kind {
		case "focal":
			sum -= weight(int(l)) * math.Pow(1-math.Exp(logp[l]), t.Gamma) * logp[l]
		default:
			sum -= (1 - t.Smoothing) * weight(int(l)) * logp[l]
			for c := range logp {
				sum -= t.Smoothing / 3 * weight(c) * logp[c]
			}
		}
	}
	return sum, mass
}

// withDevice is for rapid, whose failures must not end the device's goroutine.
func withDevice(t *testing.T) func(*rapid.T, func(dev *torch.Device)) {
	t.Helper()
	dev, err := torch.CPU(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dev.Close)
	return func(t *rapid.T, fn func(*torch.Device)) {
		if err := dev.Do(func() error { fn(dev); return nil }); err != nil {
			t.Fatal(err)
		}
	}
}

// The loss of a split is the mean over the pixels that count, whatever the
// batches: trial-data F4. Batches and splits of which none counts have none:
// trial-data F12.
func TestMeanDoesNotDependOnBatches(t *testing.T) {
	do := withDevice(t)
	rapid.Check(t, func(t *rapid.T) {
		logits, labels, batches := drawn(t)
		var mean Mean
		at := 0
		for _, n := range batches {
			masses := Masses(meansOverPixels, n, pixelsOf(labels[4*at:4*(at+n)]))
			do(t, func(dev *torch.Device) {
				x := torch.Of(dev, logits[12*at:12*(at+n)], int64(n), 3, 2, 2)
				mean.Add(meansOverPixels, masses, x, x.Softmax(1), torch.Of(dev, labels[4*at:4*(at+n)], int64(n), 2, 2))
			})
			at += n
		}
		want, counted := 0.0, false
		for _, term := range meansOverPixels {
			if sum, mass := reference(term, logits, labels); mass > 0 {
				want, counted = want+term.Weight*sum/mass, true
			}
		}
		if got := mean.Of(meansOverPixels); math.IsNaN(got) == counted || counted && math.Abs(got-want) > 1e-4 {
			t.Fatalf("in batches of %v the loss is %v, want %v", batches, got, want)
		}
	})
}

// The gradients of batches add up to those of one large batch:
// trial-data F7. Where no pixel counts there are none: trial-data F12.
func TestSharesAddUp(t *testing.T) {
	do := withDevice(t)
	rapid.Check(t, func(t *rapid.T) {
		logits, labels, batches := drawn(t)
		n := len(labels) / 4
		total := Masses(meansOverPixels, n, pixelsOf(labels))
		gradient := func(cuts []int) (value float64, grad []float32) {
			grad = make([]float32, len(logits))
			do(t, func(dev *torch.Device) {
				x := torch.Of(dev, logits, int64(n), 3, 2, 2).RequireGrad(true)
				at := 0
				for _, k := range cuts {
					own := Masses(meansOverPixels, k, pixelsOf(labels[4*at:4*(at+k)]))
					l := Compute(meansOverPixels, own, total, x.Narrow(0, int64(at), int64(k)), torch.Of(dev, labels[4*at:4*(at+k)], int64(k), 2, 2))
					if l != nil {
						value += l.Item()
						l.Backward()
					}
					at += k
				}
				if g := x.Grad(); g != nil {
					grad = g.Floats()
				}
			})
			return value, grad
		}
		whole, want := gradient([]int{n})
		parts, got := gradient(batches)
		if !(math.Abs(whole-parts) <= 1e-5*max(1, math.Abs(whole))) {
			t.Fatalf("%v of the whole, %v of batches %v", whole, parts, batches)
		}
		for i := range want {
			if !(math.Abs(float64(want[i]-got[i])) <= 1e-5) {
				t.Fatalf("gradient %v of the whole, %v of batches %v", want[i], got[i], batches)
			}
		}
	})
}

// Terms of which a batch has one value weigh by images, where any pixel counts.
func TestMassesOfBatches(t *testing.T) {
	terms := []*spec.Loss{{Kind: "dice", Weight: 1}, {Kind: "lovasz", Weight: 1}, {Kind: "log_cosh_dice", Weight: 1}, {Kind: "focal", Weight: 1, ClassWeights: []float64{2, 0, 1}}}
	if got := Masses(terms, 5, []uint64{3, 4, 0}); !slices.Equal(got, []float64{5, 5, 5, 6}) {
		t.Errorf("got %v", got)
	}
	if got := Masses(terms, 5, []uint64{0, 0, 0}); !slices.Equal(got, []float64{0, 0, 0, 0}) {
		t.Errorf("got %v", got)
	}
}
