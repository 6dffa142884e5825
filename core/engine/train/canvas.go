package train

import (
	"math"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/window"
)

// canvas puts the logits of one image together from those of its windows, and
// gives them on at another size, some rows at a time. It holds a row of windows
// and what the next rows are interpolated from, never the whole image, so that
// what a picture takes grows with its width and not with its height.
//
// Where windows overlap, logits are averaged. Then they are resized bilinearly,
// as those of the patches are before. It is used on the device's thread, without
// gradients.
type canvas struct {
	name string // of the image, for errors
	dev  *torch.Device
	grid window.Grid
	next int // window
	// strip is sums over the windows of the row in progress, [C, Height, columns].
	strip         *torch.Tensor
	rows, columns []int // windows over each
	out           resizer
}

// newCanvas gives rows of logits at a size, [1, C, n, W], to emit, from row y on.
func newCanvas(dev *torch.Device, grid window.Grid, out raster.Size, emit func(y int, logits *torch.Tensor)) *canvas {
	return &canvas{
		dev: dev, grid: grid, rows: grid.Rows(), columns: grid.Columns(),
		out: resizer{dev: dev, in: grid.Image, to: out, emit: emit},
	}
}

// add takes the logits [C, Height, Width] of the next window.
func (c *canvas) add(logits *torch.Tensor) {
	g := c.grid
	top, left := g.At(c.next)
	c.next++
	width := int64(min(g.Window.W, g.Image.W-left)) // what is beyond the image is dropped
	logits = logits.Narrow(2, 0, width)
	if len(g.Lefts) == 1 && len(g.Tops) == 1 {
		c.out.push(logits.Narrow(1, 0, int64(g.Image.H)))
		return
	}
	if c.strip == nil {
		c.strip = c.dev.Zeros(torch.Float32, logits.Dim(0), int64(g.Window.H), int64(g.Image.W)).Keep()
	}
	place := c.strip.Narrow(2, int64(left), width)
	place.Assign(place.Add(logits))
	if c.next%len(g.Lefts) != 0 {
		return
	}
	// No window to come reaches above the next row of them.
	end := g.Image.H
	if c.next < g.Len() {
		end, _ = g.At(c.next)
	}
	n := end - top
	over := make([]float32, n*g.Image.W)
	for y := range n {
		for x := range g.Image.W {
			over[y*g.Image.W+x] = float32(c.rows[top+y] * c.columns[x])
		}
	}
	c.out.push(c.strip.Narrow(1, 0, int64(n)).Div(torch.Of(c.dev, over, int64(n), int64(g.Image.W))))
	if end == g.Image.H {
		c.free()
		return
	}
	below := c.dev.Zeros(torch.Float32, c.strip.Shape()...).Keep()
	kept := int64(g.Window.H - n)
	below.Narrow(1, 0, kept).Assign(c.strip.Narrow(1, int64(n), kept))
	c.strip.Free()
	c.strip = below
}

// free gives back what is held.
func (c *canvas) free() {
	if c.strip != nil {
		c.strip.Free()
		c.strip = nil
	}
	c.out.free()
}

// bandElements is how many logits are resized at a time, or those of one row.
const bandElements = 4 << 20

// resizer resizes rows bilinearly as they come, with the centres of pixels at
// halves, as torch.nn.functional.interpolate does without align_corners.
type resizer struct {
	dev    *torch.Device
	in, to raster.Size
	emit   func(y int, logits *torch.Tensor)
	held   *torch.Tensor // [C, n, inW]
	first  int           // row of held's first
	next   int           // row to emit
}

// push takes the next rows [C, n, inW].
func (r *resizer) push(rows *torch.Tensor) {
	if r.held != nil {
		rows = torch.Cat(1, r.held, rows)
	}
	end := r.first + int(rows.Dim(1))
	band := max(1, bandElements/(int(rows.Dim(0))*r.to.W))
	for r.next < r.to.H {
		var above, below []int64
		var share []float32
		for y := r.next; y < min(r.next+band, r.to.H); y++ {
			a, b, s := r.between(y)
			if b >= end {
				break
			}
			above, below, share = append(above, int64(a-r.first)), append(below, int64(b-r.first)), append(share, s)
		}
		n := int64(len(above))
		if n == 0 {
			break
		}
		r.dev.Scope(func() {
			x := rows.Rows(1, torch.Of(r.dev, above, n))
			if r.in.H != r.to.H {
				x = x.Add(rows.Rows(1, torch.Of(r.dev, below, n)).Sub(x).Mul(torch.Of(r.dev, share, n, 1)))
			}
			x = x.Unsqueeze(0)
			if r.in.W != r.to.W {
				x = x.UpsampleBilinear(n, int64(r.to.W))
			}
			r.emit(r.next, x)
		})
		r.next += int(n)
	}
	r.free()
	if r.next < r.to.H {
		from, _, _ := r.between(r.next)
		from = min(from, end-1) // rows to come may be passed over, too
		r.held = rows.Narrow(1, int64(from-r.first), int64(end-from)).Clone().Keep()
		r.first = from
	}
}

// between are the rows that row y lies between, and how far it is below the
// first, 0 to 1.
func (r *resizer) between(y int) (above, below int, share float32) {
	at := max(0, (float64(y)+0.5)*float64(r.in.H)/float64(r.to.H)-0.5)
	above = min(int(at), r.in.H-1)
	return above, min(above+1, r.in.H-1), float32(at - math.Floor(at))
}

func (r *resizer) free() {
	if r.held != nil {
		r.held.Free()
		r.held = nil
	}
}
