// Package head turns the backbone's patch features into one logit per class and
// pixel. docs/heads.md has the heads with formulas, shapes and sizes;
// core/head/design has their tensors. What is here is what they compute.
//
// Where there are taps, the features of a patch are those of several blocks, one
// behind the other: D is that many times the width of the backbone.
//
// All resize their logits to the image at the end, bilinearly with pixel centres
// at halves (align_corners false). A head trains in every run, so its weights are
// fp32; Precision says what its large products are computed in.
package head

import (
	"fmt"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/head/design"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/spec"
)

// Head is a segmentation head on one device.
type Head struct {
	// Precision of 3×3 convolutions and of a transformer's layers: Float32, or
	// BFloat16 for products of bf16 copies of features and weights with fp32 sums.
	Precision torch.DType

	cfg     *spec.Head // settled
	forward forward
	tensors map[string]*torch.Tensor // by name

	params, buffers []Param
}

// Param is a named tensor of the head.
type Param struct {
	Name string
	T    *torch.Tensor
}

// forward makes logits [N, C, h, w] of features [N, gh·gw, D], h and w being gh
// and gw or multiples of them.
type forward func(h *Head, features *torch.Tensor, gh, gw int64, train bool) *torch.Tensor

// forwards are the heads of core/head/design.
var forwards = map[string]forward{
	"conv":      conv,
	"linear":    linear,
	"segmenter": segmenter,
	"setr_pup":  upsampling,
}

// New makes a head for features of dim dimensions from each tap. What it starts
// with is drawn from a stream for each tensor of seed. To be called inside
// Device.Do; given back with Free.
func New(dev *torch.Device, cfg *spec.Head, dim, classes int, seed uint64) (*Head, error) {
	tensors, err := design.Of(cfg, dim, classes)
	if err != nil {
		return nil, fmt.Errorf("making the head: %w", err)
	}
	h := &Head{
		Precision: torch.Float32, cfg: design.Settle(cfg, dim), forward: forwards[cfg.Kind],
		tensors: make(map[string]*torch.Tensor, len(tensors)),
	}
	for _, t := range tensors {
		values := make([]float32, t.Elements())
		switch stream := rng.New(seed, "head", t.Name); {
		case t.Start.Uniform > 0:
			stream.Uniform(values, -t.Start.Uniform, t.Start.Uniform)
		case t.Start.Normal > 0:
			stream.Normal(values, t.Start.Normal)
		default:
			for i := range values {
				values[i] = float32(t.Start.Constant)
			}
		}
		x := torch.Of(dev, values, t.Shape...).Keep()
		h.tensors[t.Name] = x
		if t.Buffer {
			h.buffers = append(h.buffers, Param{t.Name, x})
		} else {
			h.params = append(h.params, Param{t.Name, x.RequireGrad(true)})
		}
	}
	return h, nil
}

// Forward makes logits [N, C, height, width] of features [N, gh·gw, D], the
// patches of a gh × gw grid row by row. In training, BatchNorm takes the
// batch's statistics and dropout draws from the device's generator.
func (h *Head) Forward(features *torch.Tensor, gh, gw, height, width int64, train bool) *torch.Tensor {
	return features.Device().Yield(func() *torch.Tensor {
		return h.forward(h, features, gh, gw, train).Contiguous().UpsampleBilinear(height, width)
	})
}

// Params are the trainable tensors, in a fixed order.
func (h *Head) Params() []Param { return append([]Param(nil), h.params...) }

// Buffers are what training moves without a gradient: BatchNorm's statistics.
// Params and Buffers together are the head's state.
func (h *Head) Buffers() []Param { return append([]Param(nil), h.buffers...) }

// Free gives all tensors back.
func (h *Head) Free() {
	for _, p := range append(h.params, h.buffers...) {
		p.T.Free()
	}
	h.params, h.buffers, h.tensors = nil, nil, nil
}

// pair is weight and bias of a layer, nil where it has none.
func (h *Head) pair(name string) (weight, bias *torch.Tensor) {
	return h.tensors[name+".weight"], h.tensors[name+".bias"]
}

// image is tokens as [N, C, gh, gw]: a view, for tokens one after another are
// an image with channels last, which convolutions read as it is.
func image(tokens *torch.Tensor, gh, gw int64) *torch.Tensor {
	return tokens.Reshape(tokens.Dim(0), gh, gw, tokens.Dim(-1)).Permute(0, 3, 1, 2)
}
