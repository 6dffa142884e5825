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

// lowRank is a layer of one of two forms, with dropout on the x of the update:
//
//	base(x) + s · (x Aᵀ) Bᵀ     low-rank; A [r, in], B [out, r]
//	base(x + s · (x Aᵀ) Bᵀ)     serial;   A [r, in], B [in, r]
//
// The second is the first with W B for B. So the frozen product stays the one
// of x, which q, k and v share and which bf16 computes fast: x plus a small
// update, rounded to bf16, would be x.
type lowRank struct {
	l       *layer
	a, b    *Param
	scale   float64
	dropout float64
	serial  bool
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

	f := &lowRank{l: l, scale: 1}
	// through follows i past scales and empty dropouts.
	through := func(i uint32) uint32 {
		for {
			switch n := node(i); {
			case n.Op == protocol.Op_SCALE:
				f.scale *= n.Number
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

	sum, is := node(p.Output), isBase
	if sum.Op == protocol.Op_BASE {
		f.serial = true
		sum, is = node(sum.Inputs[0]), isX
	}
	if sum.Op != protocol.Op_ADD {
		return nil
	}
	delta := sum.Inputs[1]
	if !is(sum.Inputs[0]) {
		if delta = sum.Inputs[0]; !is(sum.Inputs[1]) {
			return nil
		}
	}
	outer := node(through(delta))
	if outer.Op != protocol.Op_MATMUL {
		return nil
	}
	f.b = transposed(outer.Inputs[1])
	inner := node(through(outer.Inputs[0]))
	if f.b == nil || inner.Op != protocol.Op_MATMUL {
		return nil
	}
	x := through(inner.Inputs[0])
	if n := node(x); n.Op == protocol.Op_DROPOUT {
		f.dropout = n.Number
		x = through(n.Inputs[0])
	}
	if f.a = transposed(inner.Inputs[1]); f.a == nil || !isX(x) {
		return nil
	}
	return f
}

// drops reports whether x is not the same for the update as for the layer.
func (f *lowRank) drops() bool { return f.dropout > 0 && f.l.set.train }

// up is B of the low-rank form; w is the fp32 weight of the layer.
func (f *lowRank) up(w *torch.Tensor) *torch.Tensor {
	if f.serial {
		return w.MatMul(f.b.T)
	}
	return f.b.T
}

// hidden is x Aᵀ, after dropout.
func (f *lowRank) hidden(x *torch.Tensor) *torch.Tensor {
	if f.drops() {
		x = x.Dropout(f.dropout)
	}
	return torch.Linear(x, f.a.T.To(x.DType()), nil)
}

func (f *lowRank) forward(x *torch.Tensor, base vit.Linear) *torch.Tensor {
	return (&group{parts: []*lowRank{f}, offset: []int64{0}}).forward(x, base)
}

// group is layers that read the same x, query, key and value of a block, as one
// low-rank layer, its parts in the order of the product's outputs.
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

// joined lists the parts as the fused operation takes them. Neighbours that
// share A, as those of a serial pair do, become one.
func (g *group) joined(x *torch.Tensor, base vit.Linear) []torch.LowRankPart {
	drops := slices.ContainsFunc(g.parts, (*lowRank).drops)
	var out []torch.LowRankPart
	for i, f := range g.parts {
		w := f.l.pretrained.W
		if base.W.DType() == w.DType() {
			w = base.W.Narrow(0, g.offset[i], w.Dim(0))
		}
		p := torch.LowRankPart{A: f.a.T, B: f.up(w), Offset: g.offset[i], Scale: f.scale}
		if drops {
			p.A, p.H = nil, f.hidden(x)
		} else if n := len(out) - 1; n >= 0 && out[n].A == p.A && out[n].Scale == p.Scale && out[n].Offset+out[n].B.Dim(0) == p.Offset {
			out[n].B = torch.Cat(0, out[n].B, p.B)
			continue
		}
		out = append(out, p)
	}
	return out
}

func (g *group) forward(x *torch.Tensor, base vit.Linear) *torch.Tensor {
	return x.Device().Yield(func() *torch.Tensor {
		if !base.Trains {
			return torch.LowRankLinear(x, base.W, base.B, g.joined(x, base))
		}
		// A backbone that trains takes gradients in W, which the fused form lacks.
		out := []*torch.Tensor{}
		f := x.To(torch.Float32)
		y := torch.Linear(f, base.W, base.B)
		at := int64(0)
		for i, part := range g.parts {
			offset, n := g.offset[i], int64(part.l.typed.Site.Out)
			if offset > at {
				out = append(out, y.Narrow(1, at, offset-at))
			}
			up := part.up(base.W.Narrow(0, offset, n))
			delta := part.hidden(f).MatMul(up.T()).Scale(part.scale)
			out = append(out, y.Narrow(1, offset, n).Add(delta))
			at = offset + n
		}
		if rest := y.Dim(1) - at; rest > 0 {
			out = append(out, y.Narrow(1, at, rest))
		}
		return torch.Cat(1, out...)
	})
}
