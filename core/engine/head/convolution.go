package head

import (
	"fmt"

	"github.com/loralab/loralab/core/engine/torch"
)

// PyTorch's defaults for BatchNorm.
const (
	momentum     = 0.1
	batchNormEps = 1e-5
)

// linear classifies every patch by itself, normalized over those of the batch where
// the head has BatchNorm.
func linear(h *Head, features *torch.Tensor, gh, gw int64, train bool) *torch.Tensor {
	x := features.To(torch.Float32)
	if h.cfg.Norm {
		s := x.Shape()
		x = h.normalized("norm", x.Reshape(-1, s[2]), train).Reshape(s...)
	}
	w, b := h.pair("classifier")
	return image(torch.Linear(x, w, b), gh, gw)
}

// conv looks at a patch and its neighbours first.
func conv(h *Head, features *torch.Tensor, gh, gw int64, train bool) *torch.Tensor {
	x := h.convolved("conv1", "norm", image(features, gh, gw), train)
	return h.classified("conv2", x, train)
}

// upsampling looks at patches and their neighbours again and again, each time at
// twice the resolution.
func upsampling(h *Head, features *torch.Tensor, gh, gw int64, train bool) *torch.Tensor {
	x := image(features, gh, gw)
	for i := range h.cfg.Stages {
		stage := fmt.Sprintf("stages.%d.", i)
		x = h.convolved(stage+"conv", stage+"norm", x, train)
		x = x.UpsampleBilinear(2*x.Dim(2), 2*x.Dim(3))
	}
	return h.classified("classifier", x, train)
}

// convolved is a 3×3 convolution, BatchNorm where the head has it, and ReLU.
func (h *Head) convolved(name, norm string, x *torch.Tensor, train bool) *torch.Tensor {
	w, b := h.pair(name)
	x = torch.Conv2d(x.To(h.Precision), w.To(h.Precision), b.To(h.Precision), 1, 1).To(torch.Float32)
	if h.cfg.Norm {
		x = h.normalized(norm, x, train)
	}
	return x.ReLU()
}

// normalized is BatchNorm of the channels of x, [N, C] or [N, C, h, w].
func (h *Head) normalized(name string, x *torch.Tensor, train bool) *torch.Tensor {
	w, b := h.pair(name)
	return torch.BatchNorm(x, w, b, h.tensors[name+".running_mean"], h.tensors[name+".running_var"], train, momentum, batchNormEps)
}

// classified is a 1×1 convolution behind dropout of channels.
func (h *Head) classified(name string, x *torch.Tensor, train bool) *torch.Tensor {
	if train && h.cfg.Dropout > 0 {
		x = x.ChannelDropout(h.cfg.Dropout)
	}
	w, b := h.pair(name)
	return torch.Conv2d(x, w, b, 1, 0)
}
