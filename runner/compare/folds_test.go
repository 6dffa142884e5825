package compare

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/spec"
)

// crossValidated is runs by fold, one value for each seed from 1 on.
func crossValidated(called string, of uint32, folds ...[]float64) Group {
	runs := map[name.Repeat]float64{}
	for n, seeds := range folds {
		for i, v := range seeds {
			runs[name.Repeat{Fold: name.NewFold(uint32(n)), Seed: uint64(i + 1)}] = v
		}
	}
	return Group{Name: called, Folds: of, Runs: map[string]map[name.Repeat]float64{"test": runs}}
}

// The means of the folds are 0.6, 0.7 and 0.8; seeds are 0.01 or 0.02 from them.
func TestSpreadOverFoldsAndSeeds(t *testing.T) {
	g := crossValidated("a", 3, []float64{0.59, 0.61}, []float64{0.68, 0.72}, []float64{0.79, 0.81})
	f := NewFolds(g.Runs["test"], 3, false)
	if f.N != 3 || f.Seeds != 2 || f.Of != 3 {
		t.Errorf("%d of %d folds, %d seeds", f.N, f.Of, f.Seeds)
	}
	mean := f.Mean()
	near(t, "mean", &mean, 0.7)
	near(t, "over folds", f.Std, 0.1)
	near(t, "over seeds", f.SeedStd, math.Sqrt((2*0.0001+2*0.0004+2*0.0001)/3))

	// Divided by the seeds, the means 0.68667 and 0.71333 are those of repetitions.
	f = NewFolds(g.Runs["test"], 3, true)
	near(t, "over repetitions", f.SeedStd, (0.59+0.68+0.79-0.61-0.72-0.81)/-3/math.Sqrt2)
	within := 0.0
	for _, v := range []float64{0.59, 0.68, 0.79} {
		within += (v - 2.06/3) * (v - 2.06/3)
	}
	for _, v := range []float64{0.61, 0.72, 0.81} {
		within += (v - 2.14/3) * (v - 2.14/3)
	}
	near(t, "over folds of a repetition", f.Std, math.Sqrt(within/4))

	// A fold that lacks a seed counts as much as another.
	mean = NewFolds(crossValidated("b", 2, []float64{0.5}, []float64{0.6, 0.8}).Runs["test"], 2, false).Mean()
	near(t, "mean of unequal folds", &mean, 0.6)
	one := NewFolds(crossValidated("c", 2, []float64{0.5}).Runs["test"], 2, false)
	if one.Std != nil || one.SeedStd != nil {
		t.Errorf("a single run has the spreads %v and %v", show(one.Std), show(one.SeedStd))
	}
}

// The differences of the folds are 0.02, 0.04 and 0.06: their standard deviation is
// 0.02, and its factor √(1/3 + 1/2). Student's t for 2 degrees of freedom is 4.302653 at
// 97.5 %.
func TestPairedOverFolds(t *testing.T) {
	a := crossValidated("a", 3, []float64{0.62, 0.62}, []float64{0.72, 0.76}, []float64{0.88, 0.84})
	b := crossValidated("b", 3, []float64{0.61, 0.59}, []float64{0.68, 0.72}, []float64{0.79, 0.81})
	c := Make("dice/mean", []string{"test"}, []Group{b, a}, 0)
	row := c.Domains[0].Rows[1]
	d := row.Difference
	if !d.Paired || !d.Corrected || d.N != 3 || row.Folds == nil || row.N != 6 {
		t.Fatalf("%+v of %+v", d, row)
	}
	near(t, "mean", &d.Mean, 0.04)
	half := 4.302652729911275 * 0.02 * math.Sqrt(1.0/3+1.0/2)
	near(t, "low", d.Low, 0.04-half)
	near(t, "high", d.High, 0.04+half)
	if d.P == nil || *d.P < 0.05 {
		t.Errorf("p is %v, and the interval holds 0", show(d.P))
	}
	// By chance of the seeds alone, repetitions are tested over all pairs.
	a.Repeated, b.Repeated = true, true
	if d = difference(a, b, "test"); d.N != 6 || !d.Corrected {
		t.Errorf("of repetitions: %+v", d)
	}
	// What has other folds, or none, has a difference without an interval.
	for _, other := range []Group{
		crossValidated("c", 5, []float64{0.5, 0.5}, []float64{0.5, 0.5}, []float64{0.5, 0.5}),
		group("d", map[uint64]float64{1: 0.5, 2: 0.5, 3: 0.5}),
	} {
		if d := difference(a, other, "test"); d.Low != nil || d.P != nil || d.Paired || math.Abs(d.Mean-0.24) > 1e-9 {
			t.Errorf("from %s: %+v", other.Name, d)
		}
	}
}

// Cross-validation without a difference in seeds is over folds alone, whatever they are.
func TestFoldsAreSound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		runs := map[name.Repeat]float64{}
		for n := range rapid.IntRange(1, 5).Draw(rt, "folds") {
			for s := range rapid.IntRange(1, 3).Draw(rt, "seeds") {
				runs[name.Repeat{Fold: name.NewFold(uint32(n)), Seed: uint64(s)}] = rapid.Float64Range(0, 1).Draw(rt, "value")
			}
		}
		low, high := 1.0, 0.0
		for _, v := range runs {
			low, high = min(low, v), max(high, v)
		}
		for _, repeated := range []bool{false, true} {
			f := NewFolds(runs, 5, repeated)
			if m := f.Mean(); m < low-1e-12 || m > high+1e-12 {
				rt.Fatalf("the mean %g is outside of %g to %g", m, low, high)
			}
			for _, std := range []*float64{f.Std, f.SeedStd} {
				if std != nil && (*std < 0 || *std > high-low+1e-12) {
					rt.Fatalf("a deviation of %g in %g to %g", *std, low, high)
				}
			}
		}
	})
}

func TestRepeated(t *testing.T) {
	of := func(fold uint32, seed uint64, digest string) *spec.RunSpec {
		return &spec.RunSpec{Seed: seed, Folds: &spec.Folds{Count: 2, Fold: fold}, Data: &spec.Data{Splits: map[string]*spec.Split{"train": {Digest: digest}}}}
	}
	if Repeated([]*spec.RunSpec{of(0, 1, "a"), of(0, 2, "a"), of(1, 1, "b")}) {
		t.Error("seeds with the same images divide by themselves")
	}
	if !Repeated([]*spec.RunSpec{of(0, 1, "a"), of(1, 1, "b"), of(0, 2, "c")}) {
		t.Error("seeds with other images do not divide by themselves")
	}
	if Repeated([]*spec.RunSpec{{Seed: 1}, {Seed: 2, Data: of(0, 1, "a").Data}}) {
		t.Error("runs without folds divide into folds")
	}
}
