package space

import (
	"iter"
	"math"
)

// FromUnit makes a point of numbers in [0, 1), one for each parameter: see
// [Param.FromUnit]. Those of parameters that do not exist have no effect.
func (s *Space) FromUnit(u []float64) Point {
	p := make(Point, len(s.params))
	for _, i := range s.order {
		p[i] = Inactive
		if s.Exists(p, i) {
			p[i] = s.params[i].FromUnit(u[i])
		}
	}
	return p
}

// Draw makes a random point. It takes one number for each parameter from the
// source, also for those that do not exist.
func (s *Space) Draw(uniform func() float64) Point {
	u := make([]float64, len(s.params))
	for i := range u {
		u[i] = uniform()
	}
	return s.FromUnit(u)
}

// Endless is the first parameter that has no end of values, or -1. A space
// without one has a grid.
func (s *Space) Endless() int {
	for i, p := range s.params {
		if p.Steps() == 0 {
			return i
		}
	}
	return -1
}

// Size is the number of points of a space, and +Inf when a parameter has no end
// of values. It is a float64 since it may be larger than any integer, and it
// walks through the combinations of parameters that open others.
func (s *Space) Size() float64 {
	if s.Endless() >= 0 {
		return math.Inf(1)
	}
	opens := make([]bool, len(s.params))
	for i := range opens {
		opens[i] = s.Opens(i)
	}
	p := make(Point, len(s.params))
	var count func(k int) float64
	count = func(k int) float64 {
		if k == len(s.order) {
			return 1
		}
		i := s.order[k]
		p[i] = Inactive
		if !s.Exists(p, i) {
			return count(k + 1)
		}
		n := s.params[i].Steps()
		if !opens[i] {
			p[i] = s.params[i].At(0)
			return float64(n) * count(k+1)
		}
		var sum float64
		for v := range n {
			p[i] = s.params[i].At(v)
			sum += count(k + 1)
		}
		return sum
	}
	return count(0)
}

// Points goes through all points of a space that has an end, each once, the
// last parameter first. The point must not be changed, nor kept without a copy.
func (s *Space) Points() iter.Seq[Point] {
	return func(yield func(Point) bool) {
		p := make(Point, len(s.params))
		var walk func(k int) bool
		walk = func(k int) bool {
			if k == len(s.order) {
				return yield(p)
			}
			i := s.order[k]
			p[i] = Inactive
			if !s.Exists(p, i) {
				return walk(k + 1)
			}
			for v := range s.params[i].Steps() {
				p[i] = s.params[i].At(v)
				if !walk(k + 1) {
					return false
				}
			}
			return true
		}
		if s.Endless() < 0 {
			walk(0)
		}
	}
}
