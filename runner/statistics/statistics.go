// Package statistics says what a few runs show: mean and spread over seeds with an
// interval, and the difference of two groups of runs with an interval, a test and the
// size of the effect. It works on numbers and knows no runs; runner/compare finds the
// numbers. docs/statistics.md has all formulas.
//
// The unit is the seed: a number is the score of a run, which comes from pixel counts
// over all images. Numbers of one group are taken as independent. Those of a
// cross-validation are not, and have Corrected and no interval of their mean.
package statistics

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

const (
	// Confidence is that of all intervals.
	Confidence = 0.95
	// Testable is the least number of pairs, or of runs of the smaller group, that are
	// tested.
	Testable = 3
	// Resampled is the least number of pairs, or of runs of the smaller group, whose
	// interval is a bootstrap interval.
	Resampled = 10
)

// Kind is how an interval was computed.
type Kind string

// Kinds of intervals.
const (
	T   Kind = "t"   // Student's t
	BCa Kind = "bca" // bootstrap, bias-corrected and accelerated (Efron 1987)
)

// Interval bounds a value at 95 % confidence. Its zero value is no interval: the bounds
// are nil below two numbers.
type Interval struct {
	Low  *float64 `json:"low"`
	High *float64 `json:"high"`
	Kind Kind     `json:"interval,omitempty"`
}

// Known reports whether there are bounds.
func (i Interval) Known() bool { return i.Low != nil && i.High != nil }

// Sample is numbers of independent runs.
type Sample struct {
	N        int
	Mean     float64 // NaN without numbers
	Std      float64 // n−1 in the denominator; NaN below two numbers
	Min, Max float64 // NaN without numbers
	// Interval is that of the mean: Student's t, from Resampled numbers on BCa.
	Interval Interval
}

// Of is the sample of numbers.
func Of(values []float64) Sample {
	s := Described(values)
	switch {
	case s.N >= Resampled:
		s.Interval = bca(values)
	case s.N >= 2:
		s.Interval = studentT(s.Mean, deviation(values)/math.Sqrt(float64(s.N)), float64(s.N-1))
	}
	return s
}

// Described is Of without an interval, for numbers that are not independent.
func Described(values []float64) Sample {
	nan := math.NaN()
	s := Sample{N: len(values), Mean: nan, Std: nan, Min: nan, Max: nan}
	if s.N > 0 {
		s.Mean, s.Min, s.Max = stat.Mean(values, nil), slices.Min(values), slices.Max(values)
	}
	if s.N > 1 {
		s.Std = stat.StdDev(values, nil)
	}
	return s
}

// deviation is the sample standard deviation, and 0 where it is no more than rounding.
func deviation(values []float64) float64 {
	most := 0.0
	for _, v := range values {
		most = max(most, math.Abs(v))
	}
	if std := stat.StdDev(values, nil); !(std <= 1e-12*most) {
		return std
	}
	return 0
}

// studentT is mean ± t · standard error, with t at 97.5 %.
func studentT(mean, standardError, freedom float64) Interval {
	half := student(freedom).Quantile((1+Confidence)/2) * standardError
	return Interval{finite(mean - half), finite(mean + half), T}
}

func student(freedom float64) distuv.StudentsT {
	return distuv.StudentsT{Mu: 0, Sigma: 1, Nu: freedom}
}

// finite is nil for what JSON cannot hold.
func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}
