// Package head turns the backbone's patch features into one logit per class and
// pixel.
//
// Two heads are offered. "linear" classifies every patch by itself, a 1×1
// convolution: it measures what the features hold. "conv" looks at a patch and
// its neighbours first:
//
//	conv 3×3, D → hidden · [BatchNorm] · ReLU · [channel dropout] · conv 1×1, hidden → C
//
// Where there are taps, the features of a patch are those of several blocks, one
// behind the other: D is that many times the width of the backbone.
//
// Both then resize their logits to the image, bilinearly with pixel centres at
// halves (align_corners false). A head trains in every run, so its weights are
// fp32; Precision says what the 3×3 convolution, nearly all of its work, is
// computed in.
package head

import (
	"fmt"
	"math"

	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/torch"
)

// PyTorch's defaults for BatchNorm2d.
const (
	momentum = 0.1
	eps      = 1e-5
)

// Head is a segmentation head on one device.
type Head struct {
	// Precision of the 3×3 convolution: Float32, or BFloat16 for products of
	// bf16 copies of features and weights with fp32 sums.
	Precision torch.DType

	kind    string
	dropout float64

	conv1, conv2 layer // conv: [hidden, D, 3, 3] and [C, hidden, 1, 1]; linear: conv2 alone, [C, D]
	norm         layer
	mean         *torch.Tensor // of BatchNorm, moved by training; nil without it
	variance     *torch.Tensor

	params, buffers []Param
}

type layer struct{ w, b *torch.Tensor }

// Param is a named tensor of the head.
type Param struct {
	Name string
	T    *torch.Tensor
}

// New makes a head for features of dim dimensions from each tap. Weights and biases of
// convolutions start as PyTorch starts them, U(±1/√fan_in), each from its own
// stream of seed. To be called inside Device.Do; given back with Free.
func New(dev *torch.Device, cfg *spec.Head, dim, classes int, seed uint64) (*Head, error) {
	if err := Check(cfg, dim, classes); err != nil {
		return nil, err
	}
	h := &Head{Precision: torch.Float32, kind: cfg.Kind, dropout: cfg.Dropout}
	d, c, hidden := int64(dim*levels(cfg)), int64(classes), int64(width(cfg, dim))
	conv := func(name string, out, in int64, kernel ...int64) layer {
		fan := in
		for _, k := range kernel {
			fan *= k
		}
		random := func(name string, shape ...int64) *torch.Tensor {
			n := int64(1)
			for _, s := range shape {
				n *= s
			}
			values := make([]float32, n)
			bound := rng.KaimingBound(math.Sqrt(5), float64(fan))
			rng.New(seed, "head", name).Uniform(values, -bound, bound)
			return h.param(name, torch.Of(dev, values, shape...))
		}
		return layer{random(name+".weight", append([]int64{out, in}, kernel...)...), random(name+".bias", out)}
	}
	switch cfg.Kind {
	case "linear":
		h.conv2 = conv("classifier", c, d)
	case "conv":
		h.conv1 = conv("conv1", hidden, d, 3, 3)
		if cfg.Norm {
			h.norm = layer{
				h.param("norm.weight", dev.Full(1, torch.Float32, hidden)),
				h.param("norm.bias", dev.Zeros(torch.Float32, hidden)),
			}
			h.mean = h.buffer("norm.running_mean", dev.Zeros(torch.Float32, hidden))
			h.variance = h.buffer("norm.running_var", dev.Full(1, torch.Float32, hidden))
		}
		h.conv2 = conv("conv2", c, hidden, 1, 1)
	}
	return h, nil
}

func (h *Head) param(name string, t *torch.Tensor) *torch.Tensor {
	t = t.Keep().RequireGrad(true)
	h.params = append(h.params, Param{name, t})
	return t
}

func (h *Head) buffer(name string, t *torch.Tensor) *torch.Tensor {
	h.buffers = append(h.buffers, Param{name, t.Keep()})
	return t
}

// Check reports what is wrong with a head's configuration.
func Check(cfg *spec.Head, dim, classes int) error {
	switch {
	case cfg.GetKind() != "conv" && cfg.GetKind() != "linear":
		return fmt.Errorf("head %q is not one of conv, linear", cfg.GetKind())
	case classes < 2:
		return fmt.Errorf("head needs at least 2 classes, got %d", classes)
	case width(cfg, dim) < 1:
		return fmt.Errorf("head of dim %d has no channels", dim)
	case !(cfg.Dropout >= 0 && cfg.Dropout < 1):
		return fmt.Errorf("head dropout %v is not in [0, 1)", cfg.Dropout)
	case cfg.Kind == "linear" && (cfg.Norm || cfg.Hidden != 0 || cfg.Dropout != 0):
		return fmt.Errorf("head linear takes no hidden channels, norm or dropout")
	}
	return nil
}

// levels is how many blocks the head sees.
func levels(cfg *spec.Head) int { return max(1, len(cfg.GetTaps())) }

// width is that of what the last convolution sees, given the backbone's.
func width(cfg *spec.Head, dim int) int {
	switch {
	case cfg.Kind == "linear":
		return dim * levels(cfg)
	case cfg.Hidden == 0:
		return dim / 2
	default:
		return int(cfg.Hidden)
	}
}

// Count is the number of weights of a head: conv 9·D·H + H + [2·H] + H·C + C
// with H hidden channels, linear D·C + C.
func Count(cfg *spec.Head, dim, classes int) int64 {
	d, c, w := int64(dim*levels(cfg)), int64(classes), int64(width(cfg, dim))
	n := w*c + c
	if cfg.Kind == "conv" {
		n += 9*d*w + w
		if cfg.Norm {
			n += 2 * w
		}
	}
	return n
}

// Forward makes logits [N, C, height, width] of features [N, gh·gw, D], the
// patches of a gh × gw grid row by row. In training, BatchNorm takes the
// batch's statistics and dropout draws from the device's generator.
func (h *Head) Forward(features *torch.Tensor, gh, gw, height, width int64, train bool) *torch.Tensor {
	return features.Device().Yield(func() *torch.Tensor {
		n, d := features.Dim(0), features.Dim(-1)
		if h.kind == "linear" {
			x := torch.Linear(features.To(torch.Float32), h.conv2.w, h.conv2.b)
			return image(x, n, gh, gw, h.conv2.w.Dim(0)).Contiguous().UpsampleBilinear(height, width)
		}
		x := image(features.To(h.Precision), n, gh, gw, d)
		x = torch.Conv2d(x, h.conv1.w.To(h.Precision), h.conv1.b.To(h.Precision), 1, 1).To(torch.Float32)
		if h.mean != nil {
			x = torch.BatchNorm(x, h.norm.w, h.norm.b, h.mean, h.variance, train, momentum, eps)
		}
		x = x.ReLU()
		if train && h.dropout > 0 {
			x = x.ChannelDropout(h.dropout)
		}
		return torch.Conv2d(x, h.conv2.w, h.conv2.b, 1, 0).Contiguous().UpsampleBilinear(height, width)
	})
}

// image is tokens as [N, C, gh, gw]: a view, for tokens one after another are
// an image with channels last, which convolutions read as it is.
func image(tokens *torch.Tensor, n, gh, gw, c int64) *torch.Tensor {
	return tokens.Reshape(n, gh, gw, c).Permute(0, 3, 1, 2)
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
	h.params, h.buffers = nil, nil
}
