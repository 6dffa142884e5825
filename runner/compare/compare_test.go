package compare

import (
	"encoding/json"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/runner/statistics"
)

// group is runs by seed.
func group(called string, seeds map[uint64]float64) Group {
	runs := map[name.Repeat]float64{}
	for seed, v := range seeds {
		runs[name.Repeat{Seed: seed}] = v
	}
	return Group{Name: called, Runs: map[string]map[name.Repeat]float64{"test": runs}}
}

func near(t *testing.T, what string, got *float64, want float64) {
	t.Helper()
	if got == nil || math.Abs(*got-want) > 1e-9 {
		t.Errorf("%s is %v, want %v", what, show(got), want)
	}
}

func show(x *float64) any {
	if x == nil {
		return nil
	}
	return *x
}

// Values by scipy 1.17: ttest_rel, and its confidence_interval.
func TestPaired(t *testing.T) {
	a := map[uint64]float64{1: 0.71, 2: 0.69, 3: 0.74, 4: 0.70, 9: 0.99}
	b := map[uint64]float64{1: 0.68, 2: 0.67, 3: 0.69, 4: 0.70}
	c := Make("dice/mean", []string{"test"}, []Group{group("b", b), group("a", a)}, 0)
	d := c.Domains[0].Rows[1].Difference
	if !d.Paired || d.N != 4 {
		t.Fatalf("difference %+v", d)
	}
	near(t, "mean", &d.Mean, 0.025)
	near(t, "low", d.Low, -0.00812395134417862)
	near(t, "high", d.High, 0.058123951344178554)
	near(t, "p", d.P, 0.09570892463403013)
	near(t, "adjusted", d.Adjusted, 0.09570892463403013)
	if c.Domains[0].Rows[0].Difference != nil {
		t.Error("the baseline differs from itself")
	}
}

// Values by scipy 1.17: ttest_ind with equal_var=False.
func TestWelch(t *testing.T) {
	a := map[uint64]float64{1: 0.71, 2: 0.69, 3: 0.74, 4: 0.70}
	b := map[uint64]float64{5: 0.68, 6: 0.61, 7: 0.66}
	d := difference(group("a", a), group("b", b), "test")
	if d.Paired || d.N != 3 {
		t.Fatalf("difference %+v", d)
	}
	near(t, "mean", &d.Mean, 0.06)
	near(t, "low", d.Low, -0.013636969357225068)
	near(t, "high", d.High, 0.13363696935722497)
	near(t, "p", d.P, 0.0813460345144786)
}

func TestTooFew(t *testing.T) {
	one, two := map[uint64]float64{1: 0.5}, map[uint64]float64{1: 0.6, 2: 0.7}
	if d := difference(group("a", one), group("b", nil), "test"); d != nil {
		t.Errorf("a difference from nothing: %+v", d)
	}
	if d := difference(group("a", map[uint64]float64{1: 0.75}), group("b", one), "test"); d == nil || !d.Paired || d.Mean != 0.25 || d.Low != nil || d.P != nil {
		t.Errorf("of one pair: %+v", d)
	}
	if d := difference(group("a", two), group("b", map[uint64]float64{1: 0.5, 2: 0.55}), "test"); d.Low == nil || d.P != nil {
		t.Errorf("two pairs have an interval and no test: %+v", d)
	}
	c := Make("loss", []string{"test", "other"}, []Group{group("a", one), group("b", two)}, 0)
	if rows := c.Domains[1].Rows; rows[0].Mean != nil || rows[1].Difference != nil {
		t.Errorf("on a domain without scores: %+v", rows)
	}
}

// Whatever the numbers, intervals hold the mean, p-values are probabilities, and
// the result can be written.
func TestSound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		runs := func(name string) map[uint64]float64 {
			return rapid.MapOfN(rapid.Uint64Range(0, 5), rapid.Float64Range(0, 1), 0, 6).Draw(rt, name)
		}
		groups := []Group{group("a", runs("a")), group("b", runs("b")), group("c", runs("c"))}
		c := Make("dice/mean", []string{"test"}, groups, 1)
		if _, err := json.Marshal(c); err != nil {
			rt.Fatal(err)
		}
		for i, row := range c.Domains[0].Rows {
			if row.N != len(groups[i].Runs["test"]) {
				rt.Fatalf("n is %d", row.N)
			}
			d := row.Difference
			if d == nil {
				continue
			}
			if d.Low != nil && (*d.Low > d.Mean || *d.High < d.Mean) {
				rt.Fatalf("%v is not in %v to %v", d.Mean, *d.Low, *d.High)
			}
			if d.P != nil && (*d.P < 0 || *d.P > 1 || *d.Adjusted < *d.P || *d.Adjusted > 1 || d.N < statistics.Testable) {
				rt.Fatalf("%+v: p %v, adjusted %v", d, *d.P, *d.Adjusted)
			}
		}
	})
}
