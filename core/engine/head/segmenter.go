package head

import (
	"fmt"
	"math"

	"github.com/loralab/loralab/core/engine/torch"
)

const (
	layerNormEps = 1e-5  // PyTorch's default
	shortest     = 1e-12 // what a length is at least, as in torch.nn.functional.normalize
)

// segmenter lets one token for each class read the patches, and the patches the
// classes. A patch's score for a class is how far both point the same way.
func segmenter(h *Head, features *torch.Tensor, gh, gw int64, train bool) *torch.Tensor {
	n, patches := features.Dim(0), gh*gw
	tokens := h.tensors["class_tokens"]
	classes, d := tokens.Dim(0), tokens.Dim(1)
	x := torch.Cat(1, h.product("project", features).To(torch.Float32), tokens.Expand(n, classes, d))
	for i := range h.cfg.Layers {
		name := fmt.Sprintf("layers.%d.", i)
		x = x.Add(h.attended(name, h.normed(name+"norm1", x), train))
		y := h.dropped(h.product(name+"fc1", h.normed(name+"norm2", x)).GELU(), train)
		x = x.Add(h.dropped(h.product(name+"fc2", y), train))
	}
	x = h.normed("norm", x)
	direction := func(name string, first, count int64) *torch.Tensor {
		y := torch.Linear(x.Narrow(1, first, count), h.tensors[name+".weight"], nil)
		return y.Div(y.Norm(true, -1).ClampMin(shortest))
	}
	cosines := direction("patches", 0, patches).MatMul(direction("classes", patches, classes).T())
	return image(h.normed("scores", cosines), gh, gw)
}

// attended is self-attention of x [N, T, d], in the head's precision.
func (h *Head) attended(layer string, x *torch.Tensor, train bool) *torch.Tensor {
	n, t, d, heads := x.Dim(0), x.Dim(1), x.Dim(2), int64(h.cfg.Heads)
	y := h.product(layer+"qkv", x).Reshape(n, t, 3, heads, d/heads).Permute(2, 0, 3, 1, 4)
	q, k, v := y.Select(0, 0), y.Select(0, 1), y.Select(0, 2)
	if train && h.cfg.Dropout > 0 {
		// Of all that a token reads, it misses some. The forms that torch.Attention
		// chooses among have no dropout.
		scores := q.Scale(1 / math.Sqrt(float64(d/heads))).MatMul(k.T())
		y = h.dropped(scores.Softmax(-1), train).MatMul(v)
	} else {
		y = torch.Attention(q, k, v)
	}
	return h.dropped(h.product(layer+"output", y.Transpose(1, 2).Reshape(n, t, d)), train)
}

// product is a linear layer in the head's precision.
func (h *Head) product(name string, x *torch.Tensor) *torch.Tensor {
	w, b := h.pair(name)
	return torch.Linear(x.To(h.Precision), w.To(h.Precision), b.To(h.Precision))
}

// normed is LayerNorm over the last dimension, in fp32.
func (h *Head) normed(name string, x *torch.Tensor) *torch.Tensor {
	w, b := h.pair(name)
	return torch.LayerNorm(x, w, b, layerNormEps)
}

func (h *Head) dropped(x *torch.Tensor, train bool) *torch.Tensor {
	if train && h.cfg.Dropout > 0 {
		return x.Dropout(h.cfg.Dropout)
	}
	return x
}
