package statistics

import (
	"encoding/json"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Too few numbers have no interval, no test and no effect.
func TestTooFew(t *testing.T) {
	if s := Of(nil); s.N != 0 || !math.IsNaN(s.Mean) || s.Interval.Known() {
		t.Errorf("of nothing: %+v", s)
	}
	if s := Of([]float64{0.5}); s.Mean != 0.5 || !math.IsNaN(s.Std) || s.Interval.Known() {
		t.Errorf("of one number: %+v", s)
	}
	for _, d := range []*Difference{Paired([]float64{0.25}), Corrected([]float64{0.25}, 5), Welch([]float64{0.75}, []float64{0.4, 0.6})} {
		if d.Mean != 0.25 || d.Known() || d.P != nil || d.Effect != nil {
			t.Errorf("of one: %+v", d)
		}
	}
	for _, d := range []*Difference{Paired([]float64{0.25, 0.5}), Welch([]float64{0.75, 0.5}, []float64{0.4, 0.5, 0.6})} {
		if !d.Known() || d.P != nil || d.Effect == nil {
			t.Errorf("of two: an interval and an effect, and no test: %+v", d)
		}
	}
}

// Numbers without spread have no effect size; what differs only by rounding is no spread.
func TestNoSpread(t *testing.T) {
	for _, n := range []int{3, 10, 12} {
		d := make([]float64, n)
		for i := range d {
			d[i] = 0.1 * 3 / 3
			if i%2 == 0 {
				d[i] = 0.30000000000000004 - 0.2
			}
		}
		for _, got := range []*Difference{Paired(d), Corrected(d, 3), Welch(d, make([]float64, n))} {
			if got.Effect != nil || got.P == nil || *got.P != 0 || math.Abs(*got.Low-0.1) > 1e-9 || math.Abs(*got.High-0.1) > 1e-9 {
				t.Errorf("%d equal numbers: %+v", n, got)
			}
		}
		if got := Paired(make([]float64, n)); got.P == nil || *got.P != 1 || got.Effect != nil {
			t.Errorf("%d zeros: %+v", n, got)
		}
	}
}

// From ten runs on the interval is a bootstrap interval, the same each time; folds are
// never drawn again.
func TestBootstrap(t *testing.T) {
	x := []float64{0.70, 0.72, 0.69, 0.71, 0.74, 0.70, 0.68, 0.73, 0.71, 0.52}
	for n, want := range map[int]Kind{9: T, 10: BCa} {
		if got := Of(x[:n]).Interval.Kind; got != want {
			t.Errorf("of %d numbers the interval is %q", n, got)
		}
	}
	a, b := Of(x).Interval, Of(x).Interval
	if *a.Low != *b.Low || *a.High != *b.High {
		t.Error("the same numbers have different intervals")
	}
	// One run far below the others: the lower bound is further away than the upper one.
	if mean := Of(x).Mean; mean-*a.Low <= *a.High-mean {
		t.Errorf("%g in %g to %g: the interval does not show the skew", mean, *a.Low, *a.High)
	}
	if got := Corrected(x, 10).Kind; got != T {
		t.Errorf("over folds the interval is %q", got)
	}
	if got := Welch(x, x[:9]).Kind; got != T {
		t.Errorf("with a group of nine the interval is %q", got)
	}
}

// Adjusted p-values of Holm's paper's kind: sorted, times what is left.
func TestHolm(t *testing.T) {
	want := map[float64]float64{0.01: 0.04, 0.03: 0.09, 0.04: 0.09, 0.9: 0.9}
	var all []*Difference
	for p := range want {
		all = append(all, &Difference{P: &p})
	}
	if n := Holm(append(all, nil, &Difference{})); n != len(want) {
		t.Errorf("%d are tested", n)
	}
	for _, d := range all {
		if math.Abs(*d.Adjusted-want[*d.P]) > 1e-12 {
			t.Errorf("%g is adjusted to %g", *d.P, *d.Adjusted)
		}
	}
}

// Whatever the numbers: bounds are around the mean, p-values are probabilities, a group
// minus another is the negative of the other way around, and all of it is JSON.
func TestSound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		numbers := rapid.SliceOfN(rapid.Float64Range(0, 1), 1, 12)
		a, b := numbers.Draw(rt, "a"), numbers.Draw(rt, "b")
		bounded := func(mean float64, i Interval) {
			if i.Known() && (*i.Low > mean+1e-12 || *i.High < mean-1e-12) {
				rt.Fatalf("%g is not in %g to %g (%s)", mean, *i.Low, *i.High, i.Kind)
			}
			if i.Known() != (i.Kind != "") {
				rt.Fatalf("%+v", i)
			}
		}
		s := Of(a)
		bounded(s.Mean, s.Interval)
		all := []*Difference{Paired(a), Corrected(b, 12), Welch(a, b)}
		Holm(all)
		for _, d := range all {
			bounded(d.Mean, d.Interval)
			if d.P != nil && (*d.P < 0 || *d.P > 1 || *d.Adjusted < *d.P || *d.Adjusted > 1) {
				rt.Fatalf("p %g, adjusted %g", *d.P, *d.Adjusted)
			}
			if (d.P != nil) != (d.N >= Testable) {
				rt.Fatalf("tested: %+v", d)
			}
			if _, err := json.Marshal(d); err != nil {
				rt.Fatal(err)
			}
		}
		other := Welch(b, a)
		if d := all[2]; math.Abs(d.Mean+other.Mean) > 1e-12 || d.P != nil && math.Abs(*d.P-*other.P) > 1e-9 {
			rt.Fatalf("%+v the other way around is %+v", d, other)
		}
		shuffled := slices.Clone(a)
		slices.Reverse(shuffled)
		if got := Described(shuffled); math.Abs(got.Mean-s.Mean) > 1e-12 {
			rt.Fatalf("the order of numbers matters: %g and %g", got.Mean, s.Mean)
		}
	})
}
