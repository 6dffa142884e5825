// Package window says how windows go over an image that is larger than what a
// model sees: from its corner on at a stride, in both directions, the last one
// at the edge, so that every pixel lies in one at least. It is the slide mode of
// mmsegmentation.
package window

import "math"

// Grid is the windows over one image, row by row.
type Grid struct {
	// H and W are the image's size, Height and Width a window's. An image that is
	// smaller than a window is seen by one that goes beyond it.
	H, W, Height, Width int
	// Tops and Lefts are where the rows and columns of windows begin.
	Tops, Lefts []int
}

// Over puts windows over an image. Strides are 1 at least.
func Over(h, w, height, width, strideH, strideW int) Grid {
	return Grid{h, w, height, width, starts(h, height, strideH), starts(w, width, strideW)}
}

func starts(n, window, stride int) []int {
	at := []int{0}
	for last := n - window; at[len(at)-1] < last; {
		at = append(at, min(at[len(at)-1]+stride, last))
	}
	return at
}

// Len is the number of windows.
func (g Grid) Len() int { return len(g.Tops) * len(g.Lefts) }

// At is the corner of window i.
func (g Grid) At(i int) (top, left int) {
	return g.Tops[i/len(g.Lefts)], g.Lefts[i%len(g.Lefts)]
}

// Rows counts, for every row of the image, the rows of windows that it lies in.
func (g Grid) Rows() []int { return cover(g.Tops, g.H, g.Height) }

// Columns counts the same for columns: pixel (y, x) lies in Rows()[y]·Columns()[x]
// windows.
func (g Grid) Columns() []int { return cover(g.Lefts, g.W, g.Width) }

func cover(starts []int, n, window int) []int {
	in := make([]int, n)
	for _, at := range starts {
		for i := at; i < min(at+window, n); i++ {
			in[i]++
		}
	}
	return in
}

// Size is the size at which an image of h×w pixels is cut: scaled by a factor,
// or, with 0, so that both sides reach those of a window and one of them exactly.
func Size(h, w, height, width int, scale float64) (int, int) {
	if scale == 0 {
		scale = max(float64(height)/float64(h), float64(width)/float64(w))
		return max(height, round(scale*float64(h))), max(width, round(scale*float64(w)))
	}
	return max(1, round(scale*float64(h))), max(1, round(scale*float64(w)))
}

func round(v float64) int { return int(math.Round(v)) }
