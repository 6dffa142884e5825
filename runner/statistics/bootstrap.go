package statistics

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"github.com/loralab/loralab/core/rng"
)

// resamples is how often numbers are drawn again, as many as scipy.stats.bootstrap does.
const resamples = 9999

// bca is the interval of the mean of one sample, or of the first mean minus the second:
// the bias-corrected and accelerated bootstrap of Efron (1987). The stream is fixed, so
// the same numbers have the same interval.
func bca(samples ...[]float64) Interval {
	mean := meanOf(samples)
	if !slices.ContainsFunc(samples, func(s []float64) bool { return deviation(s) > 0 }) {
		return Interval{finite(mean), finite(mean), BCa}
	}
	return accelerated(resampled(samples), mean, samples)
}

// meanOf is the mean of one sample, or the difference of the means of two.
func meanOf(samples [][]float64) float64 {
	mean := stat.Mean(samples[0], nil)
	if len(samples) > 1 {
		mean -= stat.Mean(samples[1], nil)
	}
	return mean
}

// resampled are the means of samples that are drawn with replacement from the given
// ones, in rising order.
func resampled(samples [][]float64) []float64 {
	stream := rng.New(0, "statistics", "bootstrap")
	means := make([]float64, resamples)
	for i := range means {
		sign := 1.0
		for _, s := range samples {
			sum := 0.0
			for range s {
				sum += s[stream.IntN(len(s))]
			}
			means[i] += sign * sum / float64(len(s))
			sign = -1
		}
	}
	slices.Sort(means)
	return means
}

// accelerated is the interval from the means of resampled samples, in rising order.
func accelerated(means []float64, mean float64, samples [][]float64) Interval {
	below, _ := slices.BinarySearch(means, mean)
	upTo, _ := slices.BinarySearch(means, math.Nextafter(mean, math.Inf(1)))
	bias := distuv.UnitNormal.Quantile(float64(below+upTo) / float64(2*len(means)))

	// Of a mean, the jackknife's deviations are those of the numbers.
	var cubes, squares float64
	sign := 1.0
	for _, s := range samples {
		n, m := float64(len(s)), stat.Mean(s, nil)
		for _, v := range s {
			u := sign * (v - m)
			cubes += u * u * u / (n * n * n)
			squares += u * u / (n * n)
		}
		sign = -1
	}
	acceleration := cubes / (6 * math.Pow(squares, 1.5))

	bound := func(z float64) *float64 {
		z += bias
		p := distuv.UnitNormal.CDF(bias + z/(1-acceleration*z))
		return finite(percentile(means, p))
	}
	z := distuv.UnitNormal.Quantile((1 + Confidence) / 2)
	return Interval{bound(-z), bound(z), BCa}
}

// percentile interpolates linearly in numbers in rising order, as numpy does.
func percentile(sorted []float64, p float64) float64 {
	at := p * float64(len(sorted)-1)
	if !(at >= 0) {
		return math.NaN()
	}
	i := min(int(at), len(sorted)-2)
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}
