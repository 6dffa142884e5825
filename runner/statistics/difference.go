package statistics

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
)

// Difference is a group minus another.
type Difference struct {
	Mean float64 `json:"mean"`
	// Interval is Student's t, from Resampled pairs or runs on BCa; none below two
	// pairs, or two runs of either group.
	Interval
	// P is two-sided, of Student's t, and unadjusted; Adjusted is set by Holm. Both are
	// nil below Testable.
	P        *float64 `json:"p"`
	Adjusted *float64 `json:"p_holm"`
	Paired   bool     `json:"paired"`
	N        int      `json:"n"` // pairs, or runs of the smaller group; of folds, those that have pairs
	// Corrected says that interval and test allow for training images that folds share.
	Corrected bool `json:"corrected,omitempty"`
	// Effect is the size of the effect in standard deviations; nil below two pairs, or
	// two runs of either group, and where there is no spread.
	Effect     *float64 `json:"effect"`
	EffectKind Measure  `json:"effect_kind,omitempty"`
}

// Measure is what the size of an effect is.
type Measure string

// Measures of effects.
const (
	// DZ is Cohen's d_z, the mean of paired differences over their standard deviation.
	DZ Measure = "d_z"
	// HedgesG is the difference of two means over the pooled standard deviation, with
	// the exact correction for small samples (Hedges 1981).
	HedgesG Measure = "hedges_g"
)

// Paired is the difference from those of pairs of runs: Student's t.
func Paired(d []float64) *Difference {
	r := &Difference{Mean: stat.Mean(d, nil), Paired: true, N: len(d)}
	if r.N < 2 {
		return r
	}
	std := deviation(d)
	r.infer(std/math.Sqrt(float64(r.N)), float64(r.N-1))
	if r.N >= Resampled {
		r.Interval = bca(d)
	}
	r.effect(DZ, r.Mean/std)
	return r
}

// Corrected is Paired for the differences d of a cross-validation in folds, one for each
// fold, or for each run if every repetition divides the images by itself. The standard
// error has the correction of Nadeau and Bengio (2003) for training images that folds
// share. The differences are not independent, so they are never drawn again.
func Corrected(d []float64, folds uint32) *Difference {
	r := &Difference{Mean: stat.Mean(d, nil), Paired: true, N: len(d), Corrected: true}
	if r.N < 2 {
		return r
	}
	std := deviation(d)
	r.infer(std*math.Sqrt(1/float64(r.N)+1/float64(folds-1)), float64(r.N-1))
	r.effect(DZ, r.Mean/std)
	return r
}

// Welch is the mean of a minus the mean of b, groups without pairs: Welch's t, with the
// degrees of freedom of Welch and Satterthwaite.
func Welch(a, b []float64) *Difference {
	r := &Difference{Mean: stat.Mean(a, nil) - stat.Mean(b, nil), N: min(len(a), len(b))}
	if r.N < 2 {
		return r
	}
	na, nb := float64(len(a)), float64(len(b))
	va, vb := deviation(a)*deviation(a), deviation(b)*deviation(b)
	ea, eb := va/na, vb/nb
	freedom := (ea + eb) * (ea + eb) / (ea*ea/(na-1) + eb*eb/(nb-1))
	if math.IsNaN(freedom) { // no spread at all
		freedom = na + nb - 2
	}
	r.infer(math.Sqrt(ea+eb), freedom)
	if r.N >= Resampled {
		r.Interval = bca(a, b)
	}
	m := na + nb - 2
	r.effect(HedgesG, small(m)*r.Mean/math.Sqrt(((na-1)*va+(nb-1)*vb)/m))
	return r
}

// small is Hedges' correction of a standardized difference with m degrees of freedom,
// Γ(m/2) / (√(m/2) · Γ((m−1)/2)).
func small(m float64) float64 {
	a, _ := math.Lgamma(m / 2)
	b, _ := math.Lgamma((m - 1) / 2)
	return math.Exp(a-b) / math.Sqrt(m/2)
}

// infer sets interval and p-value for a standard error.
func (d *Difference) infer(standardError, freedom float64) {
	d.Interval = studentT(d.Mean, standardError, freedom)
	if d.N < Testable {
		return
	}
	switch {
	case standardError > 0:
		d.P = finite(2 * student(freedom).Survival(math.Abs(d.Mean)/standardError))
	case d.Mean == 0:
		d.P = finite(1)
	default: // the same difference every time
		d.P = finite(0)
	}
}

func (d *Difference) effect(kind Measure, size float64) {
	if d.Effect = finite(size); d.Effect != nil {
		d.EffectKind = kind
	}
}

// Holm adjusts the p-values of differences that are tested together, so that the chance
// of one false finding among all of them is what each promises (Holm 1979). Differences
// without a p-value do not count. It returns the number of those that do.
func Holm(differences []*Difference) int {
	tested := slices.DeleteFunc(slices.Clone(differences), func(d *Difference) bool { return d == nil || d.P == nil })
	slices.SortStableFunc(tested, func(a, b *Difference) int { return cmp.Compare(*a.P, *b.P) })
	least := 0.0
	for i, d := range tested {
		least = max(least, min(1, *d.P*float64(len(tested)-i)))
		d.Adjusted = finite(least)
	}
	return len(tested)
}
