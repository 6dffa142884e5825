package raster

// Resampling as Pillow up to 12 does it for 8-bit images (libImaging/Resample.c): a
// separable triangle filter, widened by the ratio when the image shrinks
// (antialias), with weights in fixed point and a rounding to bytes between the
// two passes. Following it to the bit keeps images equal to those of the
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

// triangle computes the weights for resizing a line of `in` pixels to `out`, for n
// of these from at on.
func triangle(in, out, at, n int) kernel {
	k := kernel{first: make([]int, n), weights: make([][]int32, n)}
	scale := float64(in) / float64(out)
	filterScale := max(scale, 1)
	support := filterScale // of the triangle, 1 at scale 1
	for i := range n {
		center := (float64(at+i) + 0.5) * scale
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

// bilinear resizes one plane and gives the part of it that is at a place.
func bilinear(src []byte, from, to Size, at rect) []byte {
	// Rows of src that the part is made of.
	top, end := at.Top, at.Top+at.H
	var down kernel
	if from.H != to.H {
		down = triangle(from.H, to.H, at.Top, at.H)
		last := at.H - 1
		top, end = down.first[0], down.first[last]+len(down.weights[last])
	}
	src = src[top*from.W : end*from.W]
	switch {
	case from.W != to.W:
		k := triangle(from.W, to.W, at.Left, at.W)
		dst := make([]byte, (end-top)*at.W)
		for y := range end - top {
			row, out := src[y*from.W:(y+1)*from.W], dst[y*at.W:(y+1)*at.W]
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
	case at.W != from.W:
		dst := make([]byte, (end-top)*at.W)
		for y := range end - top {
			copy(dst[y*at.W:(y+1)*at.W], src[y*from.W+at.Left:])
		}
		src = dst
	}
	if from.H != to.H {
		dst := make([]byte, at.Area())
		sums := make([]int32, at.W)
		for y := range at.H {
			for x := range sums {
				sums[x] = 1 << (precision - 1)
			}
			for j, weight := range down.weights[y] {
				row := src[(down.first[y]-top+j)*at.W:][:at.W]
				for x, v := range row {
					sums[x] += int32(v) * weight
				}
			}
			out := dst[y*at.W:][:at.W]
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

// Nearest resizes a plane of values that do not mix: output pixel i shows input
// pixel floor((i + ½)·in/out). At the same size it is src itself.
func Nearest[T any](src []T, from, to Size) []T {
	if from == to {
		return src
	}
	return nearestPart(src, from, to, whole(to))
}

// nearestPart is the part of Nearest at a place.
func nearestPart[T any](src []T, from, to Size, at rect) []T {
	rows, columns := nearest(from.H, to.H)[at.Top:][:at.H], nearest(from.W, to.W)[at.Left:][:at.W]
	dst := make([]T, at.Area())
	for y, r := range rows {
		row, out := src[r*from.W:][:from.W], dst[y*at.W:][:at.W]
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
