package train

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/window"
)

// Scoring at the size of the masks. What the network says is the same as at its
// own size, or comes from windows; the logits are resized, image by image, and
// each pixel of a mask counts as it lies in its file. Losses and the original
// project's scores are of batches at the model's size and are not computed here.

// tally counts images at their own size.
type tally struct {
	counts *metric.Counts
	sure   metric.Calibration
	images int
}

// painting is one image while it is scored: the canvas of each of its passes, and what
// was predicted so far.
type painting struct {
	blend     *blend
	canvases  []*canvas
	truth     *data.Truth
	predicted raster.Labels
}

// paint begins an image of a number of passes.
func (t *tally) paint(dev *torch.Device, passes int, truth *data.Truth) *painting {
	p := &painting{truth: truth, predicted: raster.NewLabels(truth.Size)}
	p.blend = &blend{dev: dev, size: truth.Size, passes: passes, emit: func(y int, logits *torch.Tensor) {
		n := int(logits.Dim(2))
		at, to := y*truth.W, (y+n)*truth.W
		labels := truth.Pix[at:to]
		target := torch.Of(dev, labels, 1, int64(n), int64(truth.W)).To(torch.Int64)
		sc := pixels(logits, logits.Softmax(1), target)
		t.sure.Add(sc.predicted, labels, sc.highest, sc.ofTruth, sc.squares)
		copy(p.predicted.Pix[at:], sc.predicted)
	}}
	return p
}

// canvas begins the next pass, in which windows see the image by grid.
func (p *painting) canvas(grid window.Grid, v spec.View) *canvas {
	c := newCanvas(p.blend.dev, grid, p.truth.Size, p.blend.pass(len(p.canvases), v))
	c.name = p.truth.Name
	p.canvases = append(p.canvases, c)
	return c
}

// whole reports whether all passes are done.
func (p *painting) whole() bool {
	return len(p.canvases) == p.blend.passes && !slices.ContainsFunc(p.canvases, func(c *canvas) bool { return c.next < c.grid.Len() })
}

// finish counts an image that is whole.
func (t *tally) finish(p *painting) {
	t.counts.Add(p.predicted.Pix, p.truth.Pix)
	t.counts.Boundary(p.predicted, p.truth.Labels)
	t.images++
}

func (t *tally) metrics() *spec.Metrics {
	m := t.counts.Metrics(math.NaN(), t.images)
	m.Confusion = t.counts.Matrix()
	t.sure.Report(m)
	return m
}

// scoreOriginal is score at the size of each mask. sources give the tokens of images
// as the model sees them.
func (s *session) scoreOriginal(ctx context.Context, set *data.Set, sources []*source, shots shots) (*spec.Metrics, error) {
	t := &tally{counts: metric.NewCounts(s.spec.Data.Classes)}
	batches := inOrder(set.Len(), int(s.spec.Train.Batch))
	i := 0
	err := each(ctx, reader(set, sources, true), batches, func(b *seen) error {
		indices := batches[i]
		i++
		var paintings []*painting
		for _, truth := range b.truths {
			paintings = append(paintings, t.paint(s.t.dev, len(sources)*len(s.nets()), truth))
		}
		err := s.t.dev.Do(func() error {
			var err error
			s.t.dev.NoGrad(func() {
				for _, src := range sources {
					if err == nil {
						s.t.dev.Scope(func() { err = s.paintWhole(src, b, indices, paintings) })
					}
				}
			})
			for _, p := range paintings {
				p.blend.free()
			}
			return err
		})
		if err != nil {
			return err
		}
		for k, p := range paintings {
			t.finish(p)
			if shots != nil {
				shots(b.Names[k], b.At(k), p.predicted)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t.metrics(), nil
}

// paintWhole runs one view of whole images through the network. It is called on the
// device's thread, without gradients.
func (s *session) paintWhole(src *source, b *seen, indices []int, paintings []*painting) error {
	return s.each(src, b, indices, func(logits *torch.Tensor) {
		for k, p := range paintings {
			s.t.dev.Scope(func() { p.canvas(window.Whole(src.size()), src.as).add(logits.Select(0, int64(k))) })
		}
	})
}

// scoreWindows is scoreOriginal of images that are seen by windows. Windows of
// several images share a batch.
func (s *session) scoreWindows(ctx context.Context, set *data.Set, sources []*source, w *spec.Window, shots shots) (*spec.Metrics, error) {
	t := &tally{counts: metric.NewCounts(s.spec.Data.Classes)}
	src := sources[0]
	for _, other := range sources[1:] {
		src.key.of += fmt.Sprint(" and ", other.as)
	}
	panes := s.panes(src.d, w)
	defer panes.free()
	var open []*painting
	var scenes []*data.Scene
	defer func() {
		// If the device failed, scoring did too and says so.
		_ = s.t.dev.Do(func() error {
			for _, p := range open {
				p.blend.free()
			}
			return nil
		})
	}()
	finish := func() {
		for len(open) > 0 && open[0].whole() {
			p, scene := open[0], scenes[0]
			open, scenes = open[1:], scenes[1:]
			t.finish(p)
			if shots != nil {
				shots(scene.Name, scene.Labelled, p.predicted)
			}
		}
	}
	err := each(ctx, func(_ context.Context, indices []int) (*data.Scene, error) {
		return set.Scene(indices[0], panes.scaled)
	}, inOrder(set.Len(), 1), func(scene *data.Scene) error {
		p := t.paint(s.t.dev, len(sources)*len(s.nets()), scene.Truth())
		if panes.remembers == nil {
			windows := 0
			for _, src := range sources {
				windows += panes.over(scene.Image.Times(src.as.Scale, 1)).Len()
			}
			panes.remembers = s.t.recall(src, windows*set.Len())
		}
		open, scenes = append(open, p), append(scenes, scene)
		for _, src := range sources {
			image := scene.At(scene.Image.Times(src.as.Scale, 1))
			var canvases []*canvas
			for range s.nets() {
				canvases = append(canvases, p.canvas(panes.over(image.Size), src.as))
			}
			if err := panes.add(ctx, canvases, image, src.as); err != nil {
				return err
			}
		}
		finish()
		return nil
	})
	if err == nil {
		err = panes.flush()
	}
	if err != nil {
		return nil, err
	}
	finish()
	return t.metrics(), panes.remembers.keep()
}

// panes sends windows through the network, batch by batch, and each window's
// logits to the canvas of its image.
type panes struct {
	s        *session
	data     *spec.Data
	window   *spec.Window
	size     raster.Size // of a window
	batch    int
	fill     [3]byte
	images   []byte      // planes of each of
	waiting  [][]*canvas // in the order of their windows: of each one for every network
	canvases []*canvas   // all that may hold something

	remembers *recall // nil: tokens are computed and not kept
}

func (s *session) panes(d *spec.Data, w *spec.Window) *panes {
	p := &panes{s: s, data: d, window: w, size: data.SizeOf(d), batch: int(s.spec.Train.Batch)}
	for c := range p.fill { // the mean, which is 0 to the network
		p.fill[c] = byte(math.Round(min(max(d.Mean[c], 0), 1) * 255))
	}
	return p
}

// scaled is the size at which an image is cut.
func (p *panes) scaled(image raster.Size) raster.Size {
	return window.Scaled(image, p.size, p.window.Scale)
}

func (p *panes) over(image raster.Size) window.Grid {
	return window.Over(image, p.size, raster.Size{H: int(p.window.StrideH), W: int(p.window.StrideW)})
}

// add cuts an image, of the size of its canvases, of which there is one for every
// network, in a view and runs as many windows as make batches.
func (p *panes) add(ctx context.Context, of []*canvas, image raster.Image, v spec.View) error {
	if v.Flip {
		image = image.Mirrored()
	}
	p.canvases = append(p.canvases, of...)
	grid := of[0].grid
	for i := range grid.Len() {
		top, left := grid.At(i)
		at := len(p.images)
		p.images = append(p.images, make([]byte, 3*p.size.Area())...)
		image.Cut(raster.Image{Size: p.size, RGB: p.images[at:]}, top, left, p.fill)
		if p.waiting = append(p.waiting, of); len(p.waiting) == p.batch {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush runs the windows that wait.
func (p *panes) flush() error {
	if len(p.waiting) == 0 {
		return nil
	}
	dev, net := p.s.t.dev, p.s.net
	b := &data.Batch{Size: p.size, N: len(p.waiting), Images: p.images}
	err := dev.Do(func() error {
		var err error
		dev.NoGrad(func() {
			tokens := p.remembers.tokens(func() *torch.Tensor { return net.tokens(net.input(b, p.data)) })
			at := 0 // network
			err = p.s.eachNet(tokens, spec.Plain, b, p.data, func(i int) string { return p.waiting[i][0].name }, func(logits *torch.Tensor) {
				for k, of := range p.waiting {
					dev.Scope(func() { of[at].add(logits.Select(0, int64(k))) })
				}
				at++
			})
		})
		return err
	})
	p.canvases = slices.DeleteFunc(p.canvases, func(c *canvas) bool { return c.next == c.grid.Len() })
	p.images, p.waiting = p.images[:0], p.waiting[:0]
	return err
}

// free gives back what canvases hold that were not finished.
func (p *panes) free() {
	// If the device failed, what was done with it did too and says so.
	_ = p.s.t.dev.Do(func() error {
		for _, c := range p.canvases {
			c.free()
		}
		p.remembers.free()
		return nil
	})
}
