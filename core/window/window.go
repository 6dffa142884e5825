// Package window says how windows go over an image that is larger than what a
// model sees: from its corner on at a stride, in both directions, the last one
// at the edge, so that every pixel lies in one at least. It is the slide mode of
// mmsegmentation.
package window

import (
	"math"

	"github.com/loralab/loralab/core/raster"
)

// Grid is the windows over one image, row by row.
type Grid struct {
	// An image that is smaller than a window is seen by one that reaches beyond it.
	Image, Window raster.Size
	// Tops and Lefts are where the rows and columns of windows begin.
	Tops, Lefts []int
}

// Over puts windows over an image. Strides are 1 at least.
func Over(image, window, stride raster.Size) Grid {
	return Grid{image, window, starts(image.H, window.H, stride.H), starts(image.W, window.W, stride.W)}
}

// Whole is one window of the image's size.
func Whole(image raster.Size) Grid { return Over(image, image, image) }

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
func (g Grid) Rows() []int { return cover(g.Tops, g.Image.H, g.Window.H) }

// Columns counts the same for columns: pixel (y, x) lies in Rows()[y]·Columns()[x]
// windows.
func (g Grid) Columns() []int { return cover(g.Lefts, g.Image.W, g.Window.W) }

func cover(starts []int, n, window int) []int {
	in := make([]int, n)
	for _, at := range starts {
		for i := at; i < min(at+window, n); i++ {
			in[i]++
		}
	}
	return in
}

// Scaled is the size at which an image is cut: scaled by a factor, or, with 0, so
// that both sides reach those of a window and one of them exactly.
func Scaled(image, window raster.Size, scale float64) raster.Size {
	least := raster.Size{H: 1, W: 1}
	if scale == 0 {
		scale = max(float64(window.H)/float64(image.H), float64(window.W)/float64(image.W))
		least = window
	}
	return raster.Size{H: max(least.H, round(scale*float64(image.H))), W: max(least.W, round(scale*float64(image.W)))}
}

func round(v float64) int { return int(math.Round(v)) }
