// Package importance estimates which parameters decided how good the trials of a
// study are.
//
// The method is PED-ANOVA, with conditional parameters, as Optuna 5.0 computes
// it by default: the distribution of a parameter among the best tenth of the
// trials is compared with its distribution among all. The same trials give the
// same numbers. It describes the trials that were made and not the space: a
// sampler that went one way early leaves little to compare elsewhere.
//
// Watanabe, Bansal and Hutter, "PED-ANOVA: efficiently quantifying
// hyperparameter importance in arbitrary subspaces", 2023.
package importance

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/loralab/loralab/runner/search"
	"github.com/loralab/loralab/runner/search/space"
)

// Least is how many complete trials an importance needs, so that the best tenth
// is five trials.
const Least = 50

// FewError says that a study has too few complete trials with a finite value.
type FewError struct{ Trials int }

func (e *FewError) Error() string {
	return fmt.Sprintf("importance needs %d complete trials, and there are %d", Least, e.Trials)
}

// Share is the importance of one parameter. Those of a study sum to 1.
type Share struct {
	Param string
	Value float64
}

const (
	top  = 0.1 // the share of trials that is compared with all
	grid = 50  // the most points that a parameter is seen on
)

// Of returns the importance of each parameter, the largest first, and equal ones
// in the order of the space. It fails with a [*FewError] below [Least] trials.
// Only complete trials with a finite value count.
func Of(s *space.Space, d search.Direction, trials []search.Trial) ([]Share, error) {
	var all []search.Trial
	for _, t := range trials {
		if t.State == search.Complete && t.Counts(d) {
			all = append(all, t)
		}
	}
	if len(all) < Least {
		return nil, &FewError{len(all)}
	}
	return of(s, d, all), nil
}

func of(s *space.Space, d search.Direction, all []search.Trial) []Share {
	losses := make([]float64, len(all))
	for i, t := range all {
		losses[i] = t.Loss(d)
	}
	slices.Sort(losses)
	// All that are as good as the last of the tenth belong to it.
	cut := losses[int(math.Ceil(top*float64(len(all))))-1]
	var best []search.Trial
	for _, t := range all {
		if t.Loss(d) <= cut {
			best = append(best, t)
		}
	}
	shares := make([]Share, s.Len())
	var sum float64
	for i := range shares {
		p := s.Param(i)
		shares[i].Param = p.Name
		of := func(trials []search.Trial) (x []float64) {
			for _, t := range trials {
				if space.Active(t.Point[i]) {
					x = append(x, t.Point[i])
				}
			}
			return x
		}
		xAll, xBest := of(all), of(best)
		if len(xAll) < 2 || len(xBest) == 0 {
			continue
		}
		pBest, pAll := density(p, xBest), density(p, xAll)
		var divergence float64
		for k := range pAll {
			ratio := pBest[k]/pAll[k] - 1
			divergence += pAll[k] * ratio * ratio
		}
		a, b := float64(len(xBest))/float64(len(best)), float64(len(xAll))/float64(len(all))
		shares[i].Value = a * a / b * divergence
		sum += shares[i].Value
	}
	for i := range shares {
		if sum > 0 {
			shares[i].Value /= sum
		} else {
			shares[i].Value = 1 / float64(len(shares))
		}
	}
	slices.SortStableFunc(shares, func(a, b Share) int { return cmp.Compare(b.Value, a.Value) })
	return shares
}

// density is a Parzen estimate of a parameter's distribution on a grid.
func density(p space.Param, x []float64) []float64 {
	counts := count(p, x)
	var at, weight []float64 // the points of the grid that occur
	for i, c := range counts {
		if c > 0 {
			at, weight = append(at, float64(i)), append(weight, c)
		}
	}
	density := make([]float64, len(counts))
	total := float64(len(x)) + 1 // with the prior's weight
	if p.Kind == space.Choice {
		n, k := float64(len(counts)), float64(len(at)+1)
		for i := range density {
			density[i] = 1 / n / total
			for j := range at {
				row := 1 / k
				if at[j] == float64(i) {
					row++
				}
				density[i] += weight[j] / total * row / (1 + n/k)
			}
			density[i] += 1e-12
		}
		return density
	}
	low, high := 0.0, float64(len(counts)-1)
	sigma := bandwidth(at, weight, float64(len(x)))
	at, weight = append(at, (low+high)/2), append(weight, 1)
	for j := range at {
		s := sigma
		if j == len(at)-1 {
			s = high - low + 1
		}
		whole := mass((low-0.5-at[j])/s, (high+0.5-at[j])/s)
		for i := range density {
			x := float64(i)
			density[i] += weight[j] / total * mass((x-0.5-at[j])/s, (x+0.5-at[j])/s) / whole
		}
	}
	for i := range density {
		density[i] += 1e-12
	}
	return density
}

// count is a histogram on the grid.
func count(p space.Param, x []float64) []float64 {
	if p.Kind == space.Choice {
		counts := make([]float64, len(p.Choices))
		for _, v := range x {
			counts[int(v)]++
		}
		return counts
	}
	n := grid
	switch {
	case p.Log && p.Kind == space.Int:
		n = min(n, int(math.Ceil(math.Log(p.High-p.Low+1)/math.Log(2)))+1)
	case p.Step > 0:
		n = min(n, p.Steps())
	}
	low, high := p.Low, p.High
	if p.Log {
		low, high = math.Log(low), math.Log(high)
	}
	width := (high - low) / float64(n-1)
	counts := make([]float64, n)
	for _, v := range x {
		if p.Log {
			v = math.Log(v)
		}
		i := math.Ceil((v-low)/width - 0.5)
		counts[int(min(max(i, 0), float64(n-1)))]++
	}
	return counts
}

// bandwidth is Scott's rule for points with whole numbers as weights, w in all.
func bandwidth(at, weight []float64, w float64) float64 {
	var mean, square float64
	for i := range at {
		mean += at[i] * weight[i]
	}
	mean /= w
	for i := range at {
		square += (at[i] - mean) * (at[i] - mean) * weight[i]
	}
	deviation := math.Sqrt(square / max(1, w-1))
	// The quartiles: the first point from which on the sum of the weights is at
	// least a quarter, and above three quarters.
	q1, q3 := len(at)-1, len(at)-1
	var sum float64
	for i := range at {
		sum += weight[i]
		if sum >= math.Floor(w/4) {
			q1 = min(q1, i)
		}
		if sum > math.Floor(3*w/4) {
			q3 = min(q3, i)
		}
	}
	scott := 1.059 * min((at[q3]-at[q1])/1.34, deviation) * math.Pow(w, -0.2)
	return max(scott, 0.5/1.64)
}

// mass is the probability of a standard normal number in [a, b].
func mass(a, b float64) float64 {
	if a > 0 {
		return (math.Erfc(a/math.Sqrt2) - math.Erfc(b/math.Sqrt2)) / 2
	}
	if b < 0 {
		return (math.Erfc(-b/math.Sqrt2) - math.Erfc(-a/math.Sqrt2)) / 2
	}
	return (math.Erf(b/math.Sqrt2) - math.Erf(a/math.Sqrt2)) / 2
}
