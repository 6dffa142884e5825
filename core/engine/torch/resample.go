package torch

import "math"

// kernel is an interpolation's weight at a distance, and how far it reaches.
type kernel struct {
	weight func(x float64) float64
	reach  int
}

var (
	bilinear = kernel{func(x float64) float64 { return max(0, 1-math.Abs(x)) }, 1}
	// Keys' kernel, a = −0.75 as in PyTorch.
	bicubic = kernel{func(x float64) float64 {
		const a = -0.75
		switch x = math.Abs(x); {
		case x <= 1:
			return ((a+2)*x-(a+3))*x*x + 1
		case x < 2:
			return ((a*x-5*a)*x+8*a)*x - 4*a
		}
		return 0
	}, 2}
)

// matrix [to, from] resizes a line, pixel centers at half-integers, without antialias.
func (k kernel) matrix(from, to int64) []float32 {
	m := make([]float32, to*from)
	for i := range to {
		at := (float64(i)+0.5)*float64(from)/float64(to) - 0.5
		if k.reach == 1 {
			at = max(0, at) // as PyTorch does, for bilinear alone
		}
		first := int64(math.Floor(at)) - int64(k.reach) + 1
		for j := first; j < first+2*int64(k.reach); j++ {
			m[i*from+min(max(j, 0), from-1)] += float32(k.weight(at - float64(j)))
		}
	}
	return m
}

// resampled resizes [N, C, H, W] by two products. The kernels of CUDA add gradients in
// any order; products do not.
func (t *Tensor) resampled(h, w int64, k kernel) *Tensor {
	return t.d.Yield(func() *Tensor {
		rows := Of(t.d, k.matrix(t.Dim(2), h), h, t.Dim(2)).To(t.DType())
		cols := Of(t.d, k.matrix(t.Dim(3), w), w, t.Dim(3)).To(t.DType())
		return rows.MatMul(t).MatMul(cols.T())
	})
}
