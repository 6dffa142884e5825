package adapter

import (
	"github.com/loralab/loralab/core/torch"
)

// probeRows is how many unit vectors go through a layer at once: a program may
// keep dozens of intermediate values for each.
const probeRows = 256

// Affine is the adapted layer of placement i as y = x wᵀ + b, found by asking
// it: b = F(0), w = (F(I) − b)ᵀ; w [out, in] and b [out] in the set's type. It
// means something only where the program is affine in x (Site(i).Mergeable).
func (s *Set) Affine(i int) (w, b *torch.Tensor) {
	in := int64(s.layers[i].typed.Site.In)
	wb := s.dev.YieldAll(func() []*torch.Tensor {
		train := s.train
		s.train = false
		defer func() { s.train = train }()
		var rows []*torch.Tensor
		var zero *torch.Tensor
		s.dev.NoGrad(func() {
			zero = s.Forward(i, s.dev.Zeros(s.dtype, 1, in))
			eye := s.dev.Eye(s.dtype, in)
			for at := int64(0); at < in; at += probeRows {
				rows = append(rows, s.Forward(i, eye.Narrow(0, at, min(probeRows, in-at))).Sub(zero))
			}
		})
		return []*torch.Tensor{torch.Cat(0, rows...).T().Contiguous(), zero.Reshape(-1).Clone()}
	})
	return wb[0], wb[1]
}
