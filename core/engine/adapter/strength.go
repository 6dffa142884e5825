package adapter

import (
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
)

// SetStrength puts every adapted layer somewhere between the frozen layer, at 0, and
// what was trained, at 1: for an input x it gives y₀ + t·(y − y₀), where y₀ is the
// output of the frozen layer and y that of the adapted one. Of a program that is
// affine in x that is the layer with the weights W₀ + t·(W − W₀), and the bias in the
// same way. At 1 nothing is computed otherwise than before, and at 0 the backbone is
// that without adapters, to the bit. A block that trained itself keeps its weights.
//
// Merge does not know of it.
func (s *Set) SetStrength(t float64) {
	if s.strength = t; s.model == nil {
		return
	}
	s.uninstall()
	if t != 0 {
		s.install()
	}
}

// between is an adapted layer at the strength of the set.
func (s *Set) between(f vit.Adapter) vit.Adapter {
	if s.strength == 1 {
		return f
	}
	return func(x *torch.Tensor, base vit.Linear) *torch.Tensor {
		return s.dev.Yield(func() *torch.Tensor {
			frozen := x // of a stream
			if base.W != nil {
				frozen = base.Forward(x)
			}
			frozen = frozen.To(s.dtype)
			return frozen.Add(f(x, base).To(s.dtype).Sub(frozen).Scale(s.strength))
		})
	}
}

// Use puts the adapters into their model in place of those that were put there since:
// several sets may share a frozen backbone, one at a time.
func (s *Set) Use() { s.SetStrength(s.strength) }
