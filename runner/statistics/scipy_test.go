package statistics

import (
	"bytes"
	"encoding/json"
	"math"
	"os/exec"
	"testing"

	"gonum.org/v1/gonum/stat"

	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/internal/python"
)

// theirs is what testdata/theirs.py says of a case.
type theirs struct {
	Of struct {
		Mean, Std float64
		Interval  [2]float64
	}
	Paired, Welch, Corrected struct {
		Interval  [2]float64
		P, Effect float64
	}
	// Of the distributions that it was given, and of one that scipy drew.
	BCa       [2]float64 `json:"bca"`
	BCaOfBoth [2]float64 `json:"bcaOfBoth"`
	Redrawn   [2]float64
}

// Every formula is compared with scipy, on scores as runs have them: few, close to each
// other, some skewed.
func TestAgreesWithSciPy(t *testing.T) {
	type pair struct {
		A []float64 `json:"a"`
		B []float64 `json:"b"`
		// Means of resampled numbers, of A, and of A minus B.
		OfA    []float64 `json:"ofA"`
		OfBoth []float64 `json:"ofBoth"`
	}
	scores := func(n int, center, width float64, skewed bool) []float64 {
		x := make([]float64, n)
		stream := rng.New(uint64(n), "test", "scores")
		for i := range x {
			if x[i] = center + width*(stream.Float64()-0.5); skewed {
				x[i] = center - width*stream.ExpFloat64()
			}
		}
		return x
	}
	var cases []pair
	for _, of := range []struct{ a, b int }{{2, 2}, {3, 3}, {5, 5}, {3, 7}, {10, 10}, {12, 25}, {40, 11}} {
		for _, skewed := range []bool{false, true} {
			c := pair{A: scores(of.a, 0.7, 0.02, skewed), B: scores(of.b+1, 0.69, 0.05, skewed)[:of.b]}
			c.OfA, c.OfBoth = resampled([][]float64{c.A}), resampled([][]float64{c.A, c.B})
			cases = append(cases, c)
		}
	}
	in, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python.Find(t), "-B", "testdata/theirs.py")
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	var want []theirs
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	if len(want) != len(cases) {
		t.Fatalf("%d answers to %d cases", len(want), len(cases))
	}
	for i, c := range cases {
		same := func(what string, got, want float64) {
			t.Helper()
			if !(math.Abs(got-want) <= 1e-9*max(1, math.Abs(want))) {
				t.Errorf("%d and %d numbers, %s: %.12g, scipy has %.12g", len(c.A), len(c.B), what, got, want)
			}
		}
		within := func(what string, got Interval, kind Kind, want [2]float64) {
			t.Helper()
			if got.Kind != kind || !got.Known() {
				t.Errorf("%d and %d numbers, %s: the interval is %+v", len(c.A), len(c.B), what, got)
				return
			}
			same(what+", low", *got.Low, want[0])
			same(what+", high", *got.High, want[1])
		}
		kindOf := func(n int) Kind {
			if n >= Resampled {
				return BCa
			}
			return T
		}
		w := want[i]
		of := Of(c.A)
		same("mean", of.Mean, w.Of.Mean)
		same("deviation", of.Std, w.Of.Std)
		if of.Interval.Kind == T {
			within("mean", of.Interval, T, w.Of.Interval)
		} else {
			within("mean", of.Interval, BCa, w.BCa)
		}
		if n := min(len(c.A), len(c.B)); kindOf(n) == T {
			within("Welch", Welch(c.A, c.B).Interval, T, w.Welch.Interval)
		} else {
			within("Welch", Welch(c.A, c.B).Interval, BCa, w.BCaOfBoth)
		}
		welch := Welch(c.A, c.B)
		same("Hedges' g", *welch.Effect, w.Welch.Effect)
		n := min(len(c.A), len(c.B))
		d := make([]float64, n)
		for k := range d {
			d[k] = c.A[k] - c.B[k]
		}
		paired := Paired(d)
		same("d_z", *paired.Effect, w.Paired.Effect)
		corrected := Corrected(c.A, uint32(len(c.A)))
		within("corrected", corrected.Interval, T, w.Corrected.Interval)
		if n < Resampled {
			within("paired", paired.Interval, T, w.Paired.Interval)
		}
		if n >= Testable {
			same("p of Welch", *welch.P, w.Welch.P)
			same("p of pairs", *paired.P, w.Paired.P)
			same("p over folds", *corrected.P, w.Corrected.P)
		}

		// Another stream of resamples has nearly the same interval.
		if len(c.A) >= Resampled {
			near := 0.05 * (w.Redrawn[1] - w.Redrawn[0])
			for k, got := range []float64{*of.Interval.Low, *of.Interval.High} {
				if math.Abs(got-w.Redrawn[k]) > near {
					t.Errorf("%d numbers: a bound is %g, and %g by resamples of scipy", len(c.A), got, w.Redrawn[k])
				}
			}
		}
		if err := stat.StdDev(c.OfA, nil) / (stat.StdDev(c.A, nil) * math.Sqrt(float64(len(c.A)-1)) / float64(len(c.A))); err < 0.97 || err > 1.03 {
			t.Errorf("the means of resampled numbers spread %g times as they should", err)
		}
	}
}
