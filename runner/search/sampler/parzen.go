package sampler

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/loralab/loralab/runner/search/space"
)

// parzen is the density of a group of parameters that exist together: a mixture
// of one kernel for each observed point and one, the prior, for the whole space.
// A kernel is a product over the parameters.
type parzen struct {
	logWeight  []float64 // of the kernels, the prior's last, with all that does not depend on the point
	cumulative []float64 // of the weights
	dims       []dimension
	scratch    []float64
}

// dimension is what the kernels are in one parameter.
type dimension struct {
	param     space.Param
	low, high float64 // what kernels are truncated to, in the logarithm for log
	mu, sigma []float64
	inverse   []float64 // 1 / sigma
	// Of a choice: the logarithms of the two values that a row has, and the
	// choice of each kernel. The prior has the choice -1.
	hit, miss, uniform float64
	choice             []int
}

// weights are those of n observations in the order of their numbers, as in
// Optuna: equal for the newest 25, then falling towards the first.
func weights(n int) []float64 {
	w := make([]float64, n)
	for i := range w {
		w[i] = 1
		if old := n - 25; i < old {
			w[i] = 1 / float64(n)
			if old > 1 {
				w[i] += (1 - w[i]) * float64(i) / float64(old-1)
			}
		}
	}
	return w
}

// newParzen makes the density of points, which are in the order of their numbers.
func newParzen(s *space.Space, group []int, points []space.Point) *parzen {
	n := len(points)
	w := append(weights(n), 1)
	var sum float64
	for _, x := range w {
		sum += x
	}
	p := &parzen{logWeight: make([]float64, n+1), cumulative: make([]float64, n+1), dims: make([]dimension, len(group)), scratch: make([]float64, n+1)}
	var c float64
	for i, x := range w {
		p.logWeight[i] = math.Log(x / sum)
		c += x / sum
		p.cumulative[i] = c
	}
	for d, i := range group {
		p.dims[d] = newDimension(s.Param(i), i, points)
		p.dims[d].normalize(p.logWeight)
	}
	return p
}

func newDimension(param space.Param, index int, points []space.Point) dimension {
	d := dimension{param: param}
	n := len(points)
	if param.Kind == space.Choice {
		c, k := float64(len(param.Choices)), float64(n+1)
		d.hit = math.Log((1 + 1/k) / (1 + c/k))
		d.miss = math.Log(1 / k / (1 + c/k))
		d.uniform = -math.Log(c)
		d.choice = make([]int, n+1)
		for i, p := range points {
			d.choice[i] = int(p[index])
		}
		d.choice[n] = -1
		return d
	}
	switch {
	case param.Log:
		d.low, d.high = param.LogBounds()
	default:
		d.low, d.high = param.Low-param.Step/2, param.High+param.Step/2
	}
	d.mu = make([]float64, n+1)
	d.sigma = make([]float64, n+1)
	for i, p := range points {
		d.mu[i] = p[index]
		if param.Log {
			d.mu[i] = math.Log(p[index])
		}
	}
	width := d.high - d.low
	d.mu[n], d.sigma[n] = (d.low+d.high)/2, width
	d.bandwidths(width / min(100, float64(n+2)))
	d.inverse = make([]float64, n+1)
	for i, s := range d.sigma {
		d.inverse[i] = 1 / s
	}
	return d
}

// bandwidths sets the width of each kernel to the larger of the gaps to its
// neighbors.
func (d *dimension) bandwidths(least float64) {
	n := len(d.mu) - 1
	if n == 0 {
		return
	}
	type place struct {
		mu float64
		i  int
	}
	sorted := make([]place, n)
	for i := range sorted {
		sorted[i] = place{d.mu[i], i}
	}
	slices.SortFunc(sorted, func(a, b place) int {
		switch { // faster than cmp.Compare, which looks for NaN
		case a.mu < b.mu:
			return -1
		case a.mu > b.mu:
			return 1
		}
		return a.i - b.i
	})
	for k, at := range sorted {
		var left, right float64
		switch {
		case k > 0:
			left = at.mu - sorted[k-1].mu
		case n == 1:
			left = at.mu - d.low
		}
		switch {
		case k < n-1:
			right = sorted[k+1].mu - at.mu
		case n == 1:
			right = d.high - at.mu
		}
		d.sigma[at.i] = min(max(left, right, least), d.high-d.low)
	}
}

// normalize adds the logarithm of the part of each kernel that does not depend
// on the point.
func (d *dimension) normalize(logWeight []float64) {
	if d.choice != nil {
		return
	}
	for i, mu := range d.mu {
		s := d.sigma[i]
		if a, b := (d.low-mu)/s, (d.high-mu)/s; a > -8 || b < 8 {
			logWeight[i] -= math.Log(mass(a, b))
		}
		if d.param.Step == 0 {
			logWeight[i] -= math.Log(s)
		}
	}
}

// mass is the probability of a standard normal number in [a, b].
func mass(a, b float64) float64 {
	if a > 0 {
		return (math.Erfc(a/math.Sqrt2) - math.Erfc(b/math.Sqrt2)) / 2
	}
	return (math.Erf(b/math.Sqrt2) - math.Erf(a/math.Sqrt2)) / 2
}

// draw takes a point from the density and writes the parameters of the group
// into p.
func (g *parzen) draw(r *rand.Rand, group []int, p space.Point) {
	k, _ := slices.BinarySearch(g.cumulative, r.Float64())
	k = min(k, len(g.cumulative)-1)
	for d, i := range group {
		p[i] = g.dims[d].draw(r.Float64(), k)
	}
}

func (d *dimension) draw(u float64, k int) float64 {
	if d.choice != nil {
		// The row of a kernel puts almost all on its choice.
		n := len(d.param.Choices)
		if c := d.choice[k]; c >= 0 {
			extra := math.Exp(d.hit) - math.Exp(d.miss)
			if u < extra {
				return float64(c)
			}
			u = (u - extra) / (1 - extra)
		}
		return float64(min(int(u*float64(n)), n-1))
	}
	mu, s := d.mu[k], d.sigma[k]
	a, b := math.Erf((d.low-mu)/s/math.Sqrt2), math.Erf((d.high-mu)/s/math.Sqrt2)
	x := mu + s*math.Sqrt2*math.Erfinv(a+u*(b-a))
	x = min(max(x, d.low), d.high)
	if d.param.Log {
		x = math.Exp(x)
	}
	return d.param.Round(x)
}

// logDensity is the logarithm of the density at a point.
func (g *parzen) logDensity(group []int, p space.Point) float64 {
	copy(g.scratch, g.logWeight)
	for d, i := range group {
		g.dims[d].add(p[i], g.scratch)
	}
	return logSum(g.scratch)
}

// add adds the logarithm of each kernel in one dimension.
func (d *dimension) add(x float64, sum []float64) {
	switch {
	case d.choice != nil:
		n := len(sum) - 1
		for k, c := range d.choice[:n] {
			if c == int(x) {
				sum[k] += d.hit
			} else {
				sum[k] += d.miss
			}
		}
		sum[n] += d.uniform
	case d.param.Step > 0:
		left, right := x-d.param.Step/2, x+d.param.Step/2
		if d.param.Log {
			left, right = math.Log(x-0.5), math.Log(x+0.5)
		}
		for k, mu := range d.mu {
			sum[k] += math.Log(mass((left-mu)*d.inverse[k], (right-mu)*d.inverse[k]))
		}
	default:
		if d.param.Log {
			x = math.Log(x)
		}
		inverse, sum := d.inverse[:len(d.mu)], sum[:len(d.mu)]
		for k, mu := range d.mu {
			z := (x - mu) * inverse[k]
			sum[k] -= 0.5 * z * z
		}
	}
}

// logSum is ln Σ eˣ.
func logSum(x []float64) float64 {
	m := math.Inf(-1)
	for _, v := range x {
		m = max(m, v)
	}
	if math.IsInf(m, -1) {
		return m
	}
	var sum float64
	for _, v := range x {
		if v > m-40 { // the rest are below the last digit
			sum += math.Exp(v - m)
		}
	}
	return m + math.Log(sum)
}
