package vit

import "math"

// antialiased is the matrix [to, from] that resizes a line of from values to to
// values by bicubic interpolation with a = −0.5, widened when it shrinks: what
// torch.nn.functional.interpolate does with antialias=True, and Pillow before it.
func antialiased(from, to int) []float32 {
	scale := float64(from) / float64(to)
	stretch := max(scale, 1)
	support := 2 * stretch
	m := make([]float32, to*from)
	for i := range to {
		centre := scale * (float64(i) + 0.5)
		first := max(int(centre-support+0.5), 0)
		last := min(int(centre+support+0.5), from)
		var sum float64
		w := make([]float64, last-first)
		for j := range w {
			w[j] = cubic((float64(first+j) - centre + 0.5) / stretch)
			sum += w[j]
		}
		for j := range w {
			m[i*from+first+j] = float32(w[j] / sum)
		}
	}
	return m
}

// cubic is Keys' convolution kernel with a = −0.5.
func cubic(x float64) float64 {
	const a = -0.5
	switch x = math.Abs(x); {
	case x < 1:
		return ((a+2)*x-(a+3))*x*x + 1
	case x < 2:
		return a * (((x-5)*x+8)*x - 4)
	}
	return 0
}
