package adapter

import (
	"slices"

	"github.com/loralab/loralab/core/torch"
	"github.com/loralab/loralab/core/vit"
	"github.com/loralab/loralab/plugins/protocol"
)

// qkvSites are the layers of a block that are computed as one product, in the
// order of its outputs.
var qkvSites = []string{vit.SiteQuery, vit.SiteKey, vit.SiteValue}

// lowRank is a layer of the form base(x) + s · (x Aᵀ) Bᵀ.
type lowRank struct {
	a, b  *Param // [r, in], [out, r]
	scale float64
}

// matchLowRank finds the form in the graph of a layer, with the scale anywhere
// along the update and dropout of probability 0 as nothing. nil: another form.
func matchLowRank(l *layer) *lowRank {
	p := l.typed.Program
	if l.typed.Site.Kind != protocol.Site_LINEAR || len(p.Aux) > 0 {
		return nil
	}
	node := func(i uint32) *protocol.Node { return p.Nodes[i] }
	isX := func(i uint32) bool { return node(i).Op == protocol.Op_X }
	isBase := func(i uint32) bool { return node(i).Op == protocol.Op_BASE && isX(node(i).Inputs[0]) }

	scale := 1.0
	// through follows i past scales and empty dropouts.
	through := func(i uint32) uint32 {
		for {
			switch n := node(i); {
			case n.Op == protocol.Op_SCALE:
				scale *= n.Number
				i = n.Inputs[0]
			case n.Op == protocol.Op_DROPOUT && n.Number == 0:
				i = n.Inputs[0]
			default:
				return i
			}
		}
	}
	transposed := func(i uint32) *Param {
		n := node(through(i))
		if n.Op != protocol.Op_PERMUTE || !slices.Equal(n.Ints, []int64{1, 0}) {
			return nil
		}
		if n = node(through(n.Inputs[0])); n.Op != protocol.Op_PARAM {
			return nil
		}
		return l.params[n.Param]
	}

	out := node(p.Output)
	if out.Op != protocol.Op_ADD {
		return nil
	}
	delta := out.Inputs[1]
	if !isBase(out.Inputs[0]) {
		if delta = out.Inputs[0]; !isBase(out.Inputs[1]) {
			return nil
		}
	}
	outer := node(through(delta))
	if outer.Op != protocol.Op_MATMUL {
		return nil
	}
	b := transposed(outer.Inputs[1])
	inner := node(through(outer.Inputs[0]))
	if b == nil || inner.Op != protocol.Op_MATMUL || !isX(through(inner.Inputs[0])) {
		return nil
	}
	a := transposed(inner.Inputs[1])
	if a == nil {
		return nil
	}
	return &lowRank{a: a, b: b, scale: scale}
}

func (l *lowRank) part(offset int64) torch.LowRankPart {
	return torch.LowRankPart{A: l.a.T, B: l.b.T, Offset: offset, Scale: l.scale}
}

func (l *lowRank) forward(x *torch.Tensor, base vit.Linear) *torch.Tensor {
	return torch.LowRankLinear(x, base.W, base.B, []torch.LowRankPart{l.part(0)})
}

// group is query, key and value of a block as one low-rank layer, its parts in
// the order of the product's outputs.
type group struct {
	parts  []*lowRank
	offset []int64
}

func newGroup(ls []*layer, dim int64) *group {
	g := &group{}
	for i, site := range qkvSites {
		for _, l := range ls {
			if l.typed.Site.Name == site {
				g.parts = append(g.parts, l.low)
				g.offset = append(g.offset, int64(i)*dim)
			}
		}
	}
	return g
}

func (g *group) forward(x *torch.Tensor, base vit.Linear) *torch.Tensor {
	parts := make([]torch.LowRankPart, len(g.parts))
	for i, l := range g.parts {
		parts[i] = l.part(g.offset[i])
	}
	if !base.Trains {
		return torch.LowRankLinear(x, base.W, base.B, parts)
	}
	// A backbone that trains takes gradients in W, which the fused form lacks.
	return x.Device().Yield(func() *torch.Tensor {
		out := []*torch.Tensor{}
		f := x.To(torch.Float32)
		y := torch.Linear(f, base.W, base.B)
		at := int64(0)
		for i := range parts {
			p := parts[i]
			if p.Offset > at {
				out = append(out, y.Narrow(1, at, p.Offset-at))
			}
			n := p.B.Dim(0)
			delta := f.MatMul(p.A.T()).MatMul(p.B.T()).Scale(p.Scale)
			out = append(out, y.Narrow(1, p.Offset, n).Add(delta))
			at = p.Offset + n
		}
		if rest := y.Dim(1) - at; rest > 0 {
			out = append(out, y.Narrow(1, at, rest))
		}
		return torch.Cat(1, out...)
	})
}
