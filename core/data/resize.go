package data

// Resampling as Pillow up to 12 does it for 8-bit pictures (libImaging/Resample.c): a
// separable triangle filter, widened by the ratio when the picture shrinks
// (antialias), with weights in fixed point and a rounding to bytes between the
// two passes. Following it to the bit keeps pictures equal to those of the
// Python tools that the field compares with.

// precision is the number of fractional bits of a weight: 32 less 8 for the
// byte and 2 for the overshoot that other filters have.
const precision = 32 - 8 - 2

// kernel holds, for every output position, the first input position and the
// weights from there on.
type kernel struct {
	first   []int
	weights [][]int32
}

// triangle computes the weights for resizing a line of `in` pixels to `out`.
func triangle(in, out int) kernel {
	k := kernel{first: make([]int, out), weights: make([][]int32, out)}
	scale := float64(in) / float64(out)
	filterScale := max(scale, 1)
	support := filterScale // of the triangle, 1 at scale 1
	for i := range out {
		center := (float64(i) + 0.5) * scale
		from := max(int(center-support+0.5), 0)
		to := min(int(center+support+0.5), in)
		w := make([]float64, to-from)
		var sum float64
		for j := range w {
			d := (float64(j+from) - center + 0.5) / filterScale
			if d < 0 {
				d = -d
			}
			if d < 1 {
				w[j] = 1 - d
			}
			sum += w[j]
		}
		fixed := make([]int32, len(w))
		for j := range w {
			fixed[j] = int32(0.5 + w[j]/sum*(1<<precision))
		}
		k.first[i], k.weights[i] = from, fixed
	}
	return k
}

// resizeBilinear resizes one plane of h×w bytes to toH×toW.
func resizeBilinear(src []byte, h, w, toH, toW int) []byte {
	if w != toW {
		k := triangle(w, toW)
		dst := make([]byte, h*toW)
		for y := range h {
			row, out := src[y*w:(y+1)*w], dst[y*toW:(y+1)*toW]
			for x := range out {
				sum := int32(1) << (precision - 1)
				in := row[k.first[x]:]
				for j, weight := range k.weights[x] {
					sum += int32(in[j]) * weight
				}
				out[x] = clip(sum)
			}
		}
		src = dst
	}
	if h != toH {
		k := triangle(h, toH)
		dst := make([]byte, toH*toW)
		sums := make([]int32, toW)
		for y := range toH {
			for x := range sums {
				sums[x] = 1 << (precision - 1)
			}
			for j, weight := range k.weights[y] {
				row := src[(k.first[y]+j)*toW:][:toW]
				for x, v := range row {
					sums[x] += int32(v) * weight
				}
			}
			out := dst[y*toW:][:toW]
			for x, s := range sums {
				out[x] = clip(s)
			}
		}
		src = dst
	}
	return src
}

// clip drops the fraction. Weights are positive and add up to 1 within their
// rounding, so only the upper end can be passed.
func clip(sum int32) byte {
	return byte(min(sum>>precision, 255))
}

// resizeNearest resizes a plane of labels: output pixel i shows input pixel
// floor((i + ½)·in/out).
func resizeNearest[T any](src []T, h, w, toH, toW int) []T {
	if h == toH && w == toW {
		return src
	}
	rows, columns := nearest(h, toH), nearest(w, toW)
	dst := make([]T, toH*toW)
	for y, r := range rows {
		row, out := src[r*w:][:w], dst[y*toW:][:toW]
		for x, c := range columns {
			out[x] = row[c]
		}
	}
	return dst
}

// nearest lists the input position for every output position. The position is
// summed up, as Pillow does, so that where it falls on the border of two pixels
// rounding decides the same way.
func nearest(in, out int) []int {
	positions := make([]int, out)
	scale := float64(in) / float64(out)
	at := scale * 0.5
	for i := range positions {
		positions[i] = min(int(at), in-1)
		at += scale
	}
	return positions
}
