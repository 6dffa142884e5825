package metric

import (
	"math"

	"github.com/loralab/loralab/core/raster"
)

// boundaryWidth is how far from a boundary pixels count, as a fraction of the
// image's diagonal.
const boundaryWidth = 0.02

// Boundary counts, for an image, the pixels of each class that lie within d of its
// boundary, inside of it, in pred and in truth: what is left of the class after d
// erosions with a 3×3 square is taken away. d is 2 % of the diagonal, at least 1;
// the outside of the image counts as another class (Cheng et al., "Boundary IoU",
// arXiv:2103.16562). Ignored pixels belong to no class and are not counted. It
// panics unless both have the same size.
func (c *Counts) Boundary(pred, truth raster.Labels) {
	if pred.Size != truth.Size || len(pred.Pix) != pred.Area() || len(truth.Pix) != truth.Area() {
		panic("metric: boundaries of images of different sizes")
	}
	d := max(1, int(math.Round(boundaryWidth*math.Hypot(float64(pred.H), float64(pred.W)))))
	p, t := bands(pred, d), bands(truth, d)
	for i, label := range truth.Pix {
		guess := pred.Pix[i]
		if label == raster.Ignored {
			continue
		}
		switch {
		case t[i] && p[i] && label == guess:
			c.boundary[label][0]++
			c.boundary[label][1]++
		default:
			if t[i] {
				c.boundary[label][1]++
			}
			if p[i] {
				c.boundary[guess][1]++
			}
		}
	}
}

// bands marks the pixels that have another class, or the edge, within a square
// of d around them.
func bands(l raster.Labels, d int) []bool {
	classes, h, w := l.Pix, l.H, l.W
	// same[i] is how many pixels in a row, up to i, have its class; a square of
	// one class is one of whose rows and columns all are.
	out := make([]bool, h*w)
	rows := make([]bool, h*w) // another class within d to the left or right
	for y := range h {
		line := classes[y*w : (y+1)*w]
		near(line, 1, w, d, rows[y*w:], 1)
	}
	// Within d up or down: another class, or a pixel with one beside it.
	last := make([]int, w) // row of the last pixel that ends a square, by column
	for x := range w {
		last[x] = -1 - d
		start := 0
		for y := range h {
			i := y*w + x
			if y > 0 && classes[i] != classes[i-w] {
				start = y
				last[x] = -1 - d
			}
			if rows[i] {
				last[x] = y
			}
			out[i] = y-start < d || y-last[x] <= d
		}
		start, last[x] = h-1, h+d
		for y := h - 1; y >= 0; y-- {
			i := y*w + x
			if y < h-1 && classes[i] != classes[i+w] {
				start = y
				last[x] = h + d
			}
			if rows[i] {
				last[x] = y
			}
			out[i] = out[i] || start-y < d || last[x]-y <= d
		}
	}
	return out
}

// near marks values of a line with another one, or an end, within d.
func near(line []byte, step, n, d int, out []bool, to int) {
	start := 0
	for i := range n {
		if i > 0 && line[i*step] != line[(i-1)*step] {
			start = i
		}
		out[i*to] = i-start < d
	}
	start = n - 1
	for i := n - 1; i >= 0; i-- {
		if i < n-1 && line[i*step] != line[(i+1)*step] {
			start = i
		}
		out[i*to] = out[i*to] || start-i < d
	}
}
