package compare

import (
	"maps"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"

	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/spec"
)

// Runs of a cross-validation are in two groups at once: those of a fold have their test
// images in common, and those of a seed what is random in training. docs/statistics.md
// has the formulas.

// Folds tells the spread over folds from the spread over seeds. If every seed divides the
// images by itself, folds of different seeds have nothing in common: the spread over
// folds is then that within a seed, and the spread over seeds that of their means.
type Folds struct {
	Of       uint32   `json:"of"`       // that the data is divided into
	N        int      `json:"n"`        // that have a run
	Std      *float64 `json:"std"`      // n−1; nil below two folds
	Seeds    int      `json:"seeds"`    // that have a run
	SeedStd  *float64 `json:"seed_std"` // n−1; nil below two seeds
	Repeated bool     `json:"repeated"` // every seed divides by itself

	mean float64
	// Means are those of the folds over seeds; of runs if Repeated.
	means []float64
}

// NewFolds is the spread of runs of a cross-validation.
func NewFolds(runs map[name.Repeat]float64, of uint32, repeated bool) *Folds {
	f := &Folds{Of: of, Repeated: repeated}
	byFold, bySeed := map[uint64][]float64{}, map[uint64][]float64{}
	for _, r := range ordered(runs) {
		n, _ := r.Fold.Number()
		byFold[uint64(n)] = append(byFold[uint64(n)], runs[r])
		bySeed[r.Seed] = append(bySeed[r.Seed], runs[r])
	}
	f.N, f.Seeds = len(byFold), len(bySeed)
	if repeated {
		f.mean, f.SeedStd, f.Std, _ = nested(bySeed)
		f.means = list(runs)
	} else {
		f.mean, f.Std, f.SeedStd, f.means = nested(byFold)
	}
	return f
}

// Mean is the mean over folds and seeds: of the means of folds, or of seeds if they
// divide by themselves. NaN without a run.
func (f *Folds) Mean() float64 { return f.mean }

// Means are the means of the folds over their seeds; single runs if seeds divide by
// themselves.
func (f *Folds) Means() []float64 { return f.means }

// nested is the mean of the means of groups, their sample standard deviation, and the
// pooled one within groups.
func nested(groups map[uint64][]float64) (mean float64, outer, inner *float64, means []float64) {
	var squares float64
	freedom := 0
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		values := groups[key]
		m := stat.Mean(values, nil)
		means = append(means, m)
		for _, v := range values {
			squares += (v - m) * (v - m)
		}
		freedom += len(values) - 1
	}
	if len(means) > 1 {
		outer = finite(stat.StdDev(means, nil))
	}
	if freedom > 0 {
		inner = finite(math.Sqrt(squares / float64(freedom)))
	}
	return stat.Mean(means, nil), outer, inner, means
}

// Repeated reports whether the seeds of a cross-validation divide the images by
// themselves: runs of one fold are then trained on different images.
func Repeated(runs []*spec.RunSpec) bool {
	trained := map[name.Fold]string{}
	for _, s := range runs {
		fold, digest := spec.RepeatOf(s).Fold, s.GetData().GetSplits()["train"].GetDigest()
		if other, seen := trained[fold]; !fold.IsZero() && seen && other != digest {
			return true
		}
		trained[fold] = digest
	}
	return false
}
