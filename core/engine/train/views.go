package train

import (
	"context"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/spec"
)

// Scoring an image that is seen in several ways: the probabilities of all views are
// averaged at the size at which pixels are compared, as mmsegmentation averages
// them, and the logarithm of the mean takes the place of the logits. One plain view
// keeps its logits as they are.

// least is the smallest probability whose logarithm is taken: the smallest normal
// float32.
const least = 0x1p-126

// mirrored exchanges left and right of [..., W].
func mirrored(t *torch.Tensor) *torch.Tensor {
	last := len(t.Shape()) - 1
	n := t.Dim(last)
	at := make([]int64, n)
	for i := range at {
		at[i] = n - 1 - int64(i)
	}
	return t.Rows(int64(last), torch.Of(t.Device(), at, n))
}

// blend averages the probabilities of one image over a number of passes. Each pass
// gives rows of logits, [1, C, n, W], from the top to the bottom, and the last
// pass gives the mean on, as logits. It holds the probabilities of the whole
// image meanwhile, unless there is one pass alone. It is used on the device's
// thread, without gradients.
type blend struct {
	dev    *torch.Device
	size   raster.Size
	passes int
	sum    *torch.Tensor // [1, C, H, W]; nil before the first rows
	emit   func(y int, logits *torch.Tensor)
}

// pass receives the rows of pass i.
func (b *blend) pass(i int, v spec.View) func(y int, logits *torch.Tensor) {
	if b.passes == 1 && v == spec.Plain {
		return b.emit
	}
	return func(y int, logits *torch.Tensor) {
		p := logits.Softmax(1)
		if v.Flip {
			p = mirrored(p)
		}
		n := p.Dim(2)
		if b.sum == nil {
			b.sum = b.dev.Zeros(torch.Float32, 1, p.Dim(1), int64(b.size.H), int64(b.size.W)).Keep()
		}
		rows := b.sum.Narrow(2, int64(y), n)
		if p = rows.Add(p); i < b.passes-1 {
			rows.Assign(p)
			return
		}
		b.emit(y, asLogits(p, b.passes))
		if y+int(n) == b.size.H {
			b.free()
		}
	}
}

// asLogits are logits whose softmax is the mean of n probabilities with a sum.
func asLogits(sum *torch.Tensor, n int) *torch.Tensor {
	return sum.Scale(1 / float64(n)).ClampMin(least).Log()
}

func (b *blend) free() {
	if b.sum != nil {
		b.sum.Free()
		b.sum = nil
	}
}

// seen is a batch of images as the views see them.
type seen struct {
	*data.Batch
	truths []*data.Truth               // at the size of the masks, where that is what counts
	scaled map[raster.Size]*data.Batch // at the sizes of other views
}

// reader reads what the views of a split need of a batch; truths as well if masks
// are compared at their own size. set has the images at scale 1, which are shown.
func reader(set *data.Set, sources []*source, truths bool) func(context.Context, []int) (*seen, error) {
	return func(ctx context.Context, indices []int) (*seen, error) {
		b, err := set.Batch(ctx, indices)
		if err != nil {
			return nil, err
		}
		out := &seen{Batch: b, scaled: map[raster.Size]*data.Batch{b.Size: b}}
		for _, src := range sources {
			if size := src.size(); out.scaled[size] == nil && src.cached == nil {
				if out.scaled[size], err = src.set.Batch(ctx, indices); err != nil {
					return nil, err
				}
			}
		}
		for _, index := range indices {
			if !truths {
				break
			}
			truth, err := set.Truth(index)
			if err != nil {
				return nil, err
			}
			out.truths = append(out.truths, truth)
		}
		return out, nil
	}
}

// each gives the logits of a batch in a view to fn, those of one network after the
// other. What comes out of the frozen blocks is computed once for all of them. It is
// called on the device's thread, without gradients.
func (s *session) each(src *source, b *seen, indices []int, fn func(logits *torch.Tensor)) error {
	size := src.size()
	tokens := src.tokens(b.scaled[size], indices)
	return s.eachNet(tokens, src.as, b.scaled[size], src.d, func(i int) string { return b.Names[i] }, fn)
}

// eachNet continues from the tokens of a batch in a view. Members of an ensemble that
// train the embeddings share no tokens.
func (s *session) eachNet(tokens *torch.Tensor, v spec.View, b *data.Batch, d *spec.Data, name func(i int) string, fn func(logits *torch.Tensor)) (err error) {
	for i, n := range s.nets() {
		s.t.dev.Scope(func() {
			if len(s.members) > 0 {
				n.adapters.Use()
			}
			t := tokens
			if i > 0 && n.prefix < 0 {
				of := b
				if v.Flip {
					of = b.Mirrored()
				}
				t = n.tokens(n.input(of, d))
			}
			logits := n.logits(t, data.SizeOf(d), false)
			if k := nonFinite(logits); k >= 0 {
				err = &nonFiniteError{name(k), s.step}
				return
			}
			fn(logits)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// plain reports whether logits are what is scored, and not probabilities.
func (s *session) plain(sources []*source) bool {
	return len(s.members) == 0 && len(sources) == 1 && sources[0].as == spec.Plain
}

// together is the logits [N, C, H, W] of a batch at the size of its images, over
// all views and networks. It is called on the device's thread, without gradients.
func (s *session) together(sources []*source, b *seen, indices []int) (*torch.Tensor, error) {
	var sum *torch.Tensor // kept over scopes
	free := func() {
		if sum != nil {
			sum.Free()
		}
	}
	defer func() { free() }()
	n := 0
	for _, src := range sources {
		var err error
		s.t.dev.Scope(func() {
			err = s.each(src, b, indices, func(logits *torch.Tensor) {
				p := logits
				if !s.plain(sources) {
					if src.size() != b.Size {
						p = p.UpsampleBilinear(int64(b.H), int64(b.W))
					}
					if p = p.Softmax(1); src.as.Flip {
						p = mirrored(p)
					}
				}
				if sum != nil {
					p = sum.Add(p)
				}
				free()
				sum = p.Keep()
				n++
			})
		})
		if err != nil {
			return nil, err
		}
	}
	if s.plain(sources) {
		return sum.Clone(), nil
	}
	return asLogits(sum, n), nil
}
