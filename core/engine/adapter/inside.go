package adapter

import (
	"slices"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
)

// inside is a layer base(x) + δ(x), δ linear in x and of any form. In bf16, δ
// added to the rounded output of the frozen layer would be lost, and the frozen
// product in fp32 takes twice the time or more. So δ is asked for its matrix,
// once a pass, and goes inside the product: [x | x] · [W | δ(I)ᵀ]ᵀ.
type inside struct {
	l      *layer
	deltas []delta
}

// matchInside finds the form in the graph of a layer; nil: it has another.
func matchInside(l *layer) *inside {
	p := l.typed.Program
	if l.typed.Site.Kind != protocol.Site_LINEAR || len(p.Aux) > 0 || !l.typed.Mergeable() ||
		l.typed.From[p.Output]&program.FromRandom != 0 {
		return nil
	}
	deltas, ok := l.beside(p.Output, 1, l.isBase, 0)
	if !ok || len(deltas) == 0 {
		return nil
	}
	for i, n := range p.Nodes {
		if !l.typed.Live[i] || !l.fromX(uint32(i)) {
			continue
		}
		switch n.Op {
		case protocol.Op_ADD, protocol.Op_SUB, protocol.Op_CONCAT: // of a constant: δ(0) is not 0
			if slices.ContainsFunc(n.Inputs, func(j uint32) bool { return !l.fromX(j) }) {
				return nil
			}
		case protocol.Op_BASE:
			if !l.isX(n.Inputs[0]) {
				return nil
			}
		}
	}
	// Nor may the base be part of δ.
	for _, d := range deltas {
		if l.needs(d.node, l.isBase) {
			return nil
		}
	}
	return &inside{l, deltas}
}

// needs reports whether node i is computed from one of a kind.
func (l *layer) needs(i uint32, is func(uint32) bool) bool {
	needed := make([]bool, i+1)
	needed[i] = true
	for j := i; ; j-- {
		if needed[j] {
			if is(j) {
				return true
			}
			for _, k := range l.typed.Program.Nodes[j].Inputs {
				needed[k] = true
			}
		}
		if j == 0 {
			return false
		}
	}
}

// pays reports whether the form is worth taking for x: asking for the matrix
// costs as much as δ of as many tokens as x is wide.
func (f *inside) pays(x *torch.Tensor) bool {
	return x.DType() == torch.BFloat16 && x.Dim(0) >= x.Dim(1)
}

func (f *inside) forward(x *torch.Tensor, base vit.Linear) *torch.Tensor {
	dev := x.Device()
	return dev.Yield(func() *torch.Tensor {
		matrix := dev.Yield(func() *torch.Tensor {
			c := f.l.call(dev.Eye(f.l.set.dtype, x.Dim(1)), f.l.pretrained)
			var sum *torch.Tensor
			for _, d := range f.deltas {
				v := c.node(d.node)
				switch {
				case sum != nil && d.sign < 0:
					sum = sum.Sub(v)
				case sum != nil:
					sum = sum.Add(v)
				case d.sign < 0:
					sum = v.Neg()
				default:
					sum = v
				}
			}
			return sum.T()
		})
		return torch.LowRankLinear(x, base.W, base.B, []torch.LowRankPart{{H: x, B: matrix, Scale: 1}})
	})
}
