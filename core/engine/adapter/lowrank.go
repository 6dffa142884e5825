package adapter

import (
	"slices"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/vit/design"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
)

// qkvSites are the layers of a block that are computed as one product, in the
// order of its outputs.
var qkvSites = []string{design.SiteQuery, design.SiteKey, design.SiteValue}

// lowRank is a layer of one of two forms,
//
//	base(x) + Σ (x A_kᵀ) B_kᵀ     low-rank; A_k [r, in], B_k [out, r]
//	base(x + Σ (x A_kᵀ) B_kᵀ)     serial;   A_k [r, in], B_k [in, r]
//
// where A and B are whatever the program makes of its parameters, without x, and
// x may pass a dropout. The second is the first with W B for B. So the frozen
// product stays the one of x, which q, k and v share and which bf16 computes
// fast: x plus a small update, rounded to bf16, would be x.
//
// Without an A the update is of full rank, base(x) + x B₁ᵀ.
type lowRank struct {
	l      *layer
	serial bool
	terms  []term
	rank   int64 // of all terms together
	// shared lists the parameters that A of a single term is made of, if they
	// are all that it depends on.
	shared []*Param
}

// term is an update as a chain of factors that x is multiplied by.
type term struct {
	dropout float64 // of x
	factors []factor
	scale   float64
}

// factor is a node that does not depend on x: a matrix to multiply by, or a
// vector that scales (or divides) the columns.
type factor struct {
	node   uint32
	matrix bool
	divide bool
}

// matchLowRank finds the forms in the graph of a layer; nil: it has another.
func matchLowRank(l *layer) *lowRank {
	p, in := l.typed.Program, int64(l.typed.Site.In)
	if l.typed.Site.Kind != protocol.Site_LINEAR || len(p.Aux) > 0 {
		return nil
	}
	f, out := &lowRank{l: l}, p.Output
	is := l.isBase
	if n := p.Nodes[out]; n.Op == protocol.Op_BASE && !l.isX(n.Inputs[0]) {
		f.serial, out, is = true, n.Inputs[0], l.isX
	}
	deltas, ok := l.beside(out, 1, is, 0)
	if !ok || len(deltas) == 0 {
		return nil
	}
	for _, d := range deltas {
		if !l.expand(d.node, term{scale: d.sign}, &f.terms) {
			return nil
		}
	}
	full := 0
	for _, t := range f.terms {
		if t.split() < 0 {
			full++
			f.rank += in
		} else {
			f.rank += l.typed.Shapes[t.factors[0].node][1]
		}
	}
	// Differences of updates of full rank would lose in bf16 what they are of W.
	if full > 0 && (len(f.terms) > 1 || f.serial) || full == 0 && f.rank > in {
		return nil
	}
	if len(f.terms) == 1 && full == 0 {
		f.shared = f.terms[0].reads(l)
	}
	return f
}

// reads lists the parameters that A is made of, nil if it is made of more.
func (t term) reads(l *layer) []*Param {
	var out []*Param
	seen := map[uint32]bool{}
	pure := true
	var visit func(i uint32)
	visit = func(i uint32) {
		if seen[i] {
			return
		}
		seen[i] = true
		n := l.typed.Program.Nodes[i]
		if n.Op == protocol.Op_PARAM {
			out = append(out, l.params[n.Param])
		}
		pure = pure && l.typed.From[i]&(program.FromBase|program.FromRandom) == 0
		for _, j := range n.Inputs {
			visit(j)
		}
	}
	for _, f := range t.factors[:t.split()] {
		visit(f.node)
	}
	if !pure {
		return nil
	}
	return out
}

func (l *layer) isX(i uint32) bool { return l.typed.Program.Nodes[i].Op == protocol.Op_X }

func (l *layer) isBase(i uint32) bool {
	n := l.typed.Program.Nodes[i]
	return n.Op == protocol.Op_BASE && l.isX(n.Inputs[0])
}

// delta is a node that is added to (sign 1) or taken from (-1) the base.
type delta struct {
	node uint32
	sign float64
}

// beside splits a sum into its one term that is the base and all others.
func (l *layer) beside(i uint32, sign float64, is func(uint32) bool, depth int) ([]delta, bool) {
	const deepest = 8 // sums within sums: each of them is looked at from both sides
	if is(i) {
		return nil, sign == 1
	}
	n := l.typed.Program.Nodes[i]
	if n.Op != protocol.Op_ADD && n.Op != protocol.Op_SUB || depth == deepest {
		return nil, false
	}
	other := sign
	if n.Op == protocol.Op_SUB {
		other = -sign
	}
	if rest, ok := l.beside(n.Inputs[0], sign, is, depth+1); ok {
		return append(rest, delta{n.Inputs[1], other}), true
	}
	rest, ok := l.beside(n.Inputs[1], other, is, depth+1)
	return append(rest, delta{n.Inputs[0], sign}), ok
}

// expand follows node i back to x and appends its terms; t is what comes after
// node i. It reports whether nothing else is on the way.
func (l *layer) expand(i uint32, t term, out *[]term) bool {
	const most = 16 // terms
	n := l.typed.Program.Nodes[i]
	before := func(fs ...factor) term {
		t := t
		t.factors = append(fs, t.factors...)
		return t
	}
	switch n.Op {
	case protocol.Op_X:
		*out = append(*out, t)
		return len(t.factors) > 0 && t.factors[0].matrix && len(*out) <= most
	case protocol.Op_DROPOUT:
		if n.Number > 0 && !l.isX(n.Inputs[0]) {
			return false
		}
		t.dropout = n.Number
		return l.expand(n.Inputs[0], t, out)
	case protocol.Op_ADD, protocol.Op_SUB:
		if !l.fromX(n.Inputs[0]) || !l.fromX(n.Inputs[1]) || !l.expand(n.Inputs[0], t, out) {
			return false
		}
		if n.Op == protocol.Op_SUB {
			t.scale = -t.scale
		}
		return l.expand(n.Inputs[1], t, out)
	case protocol.Op_NEG, protocol.Op_SCALE:
		by := -1.0
		if n.Op == protocol.Op_SCALE {
			by = n.Number
		}
		t.scale *= by
		return l.expand(n.Inputs[0], t, out)
	case protocol.Op_MATMUL:
		x, m := n.Inputs[0], n.Inputs[1]
		if l.fromX(m) || len(l.typed.Shapes[m]) != 2 || len(l.typed.Shapes[x]) != 2 {
			return false
		}
		return l.expand(x, before(factor{node: m, matrix: true}), out)
	case protocol.Op_MUL, protocol.Op_DIV:
		x, v := n.Inputs[0], n.Inputs[1]
		if n.Op == protocol.Op_MUL && l.fromX(v) {
			x, v = v, x
		}
		shape := l.typed.Shapes[v]
		if l.fromX(v) || len(shape) > 1 || len(l.typed.Shapes[x]) != 2 {
			return false
		}
		return l.expand(x, before(factor{node: v, divide: n.Op == protocol.Op_DIV}), out)
	}
	return false
}

func (l *layer) fromX(i uint32) bool { return l.typed.From[i]&program.FromX != 0 }

// split is where the second matrix stands, -1 if there is one alone.
func (t term) split() int {
	i := slices.IndexFunc(t.factors[1:], func(f factor) bool { return f.matrix })
	if i < 0 {
		return -1
	}
	return i + 1
}

// down is A [r, in], nil at full rank.
func (t term) down(c *call) *torch.Tensor {
	if t.split() < 0 {
		return nil
	}
	return product(c, t.factors[:t.split()]).T()
}

// up is B [out, r] but for the scale.
func (t term) up(c *call) *torch.Tensor { return product(c, t.factors[max(0, t.split()):]).T() }

// product multiplies a matrix by what comes after it.
func product(c *call, fs []factor) *torch.Tensor {
	m := c.node(fs[0].node)
	for _, f := range fs[1:] {
		switch v := c.node(f.node); {
		case f.matrix:
			m = m.MatMul(v)
		case f.divide:
			m = m.Div(v)
		default:
			m = m.Mul(v)
		}
	}
	return m
}

// hidden is whether x Aᵀ has to be given to the fused operation: there is no A,
// or it does not act on x itself.
func (f *lowRank) hidden() bool {
	return slices.ContainsFunc(f.terms, func(t term) bool { return t.split() < 0 || t.dropout > 0 && f.l.set.train })
}

// part is the layer's part of the fused operation. base is the layer in fp32.
func (f *lowRank) part(x *torch.Tensor, base vit.Linear, offset int64, hidden bool) torch.LowRankPart {
	c := f.l.call(nil, base)
	p := torch.LowRankPart{Offset: offset, Scale: 1}
	var as, hs, bs []*torch.Tensor
	for _, t := range f.terms {
		a, b := t.down(c), t.up(c)
		if len(f.terms) == 1 {
			p.Scale = t.scale
		} else if t.scale != 1 {
			b = b.Scale(t.scale)
		}
		if f.serial {
			b = base.W.MatMul(b)
		}
		as, bs = append(as, a), append(bs, b)
		if hidden {
			h := x
			if t.dropout > 0 && f.l.set.train {
				h = h.Dropout(t.dropout)
			}
			if a != nil {
				h = torch.Linear(h, a.To(h.DType()), nil)
			}
			hs = append(hs, h)
		}
	}
	p.B = join(1, bs)
	if hidden {
		p.H = join(1, hs)
	} else {
		p.A = join(0, as)
	}
	return p
}

func join(dim int64, ts []*torch.Tensor) *torch.Tensor {
	if len(ts) == 1 {
		return ts[0]
	}
	return torch.Cat(dim, ts...)
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

// newGroup is nil where the layers are better left apart: in bf16 the fused
// operation is one product that is wider by all ranks together.
func newGroup(ls []*layer, dim int64) *group {
	g := &group{}
	rank := int64(0)
	for i, site := range qkvSites {
		for _, l := range ls {
			if l.typed.Site.Name != site {
				continue
			}
			if l.low == nil {
				return nil
			}
			rank += l.low.rank
			g.parts = append(g.parts, l.low)
			g.offset = append(g.offset, int64(i)*dim)
		}
	}
	if rank > dim/2 && len(ls) > 1 {
		return nil
	}
	return g
}

// fp32 is the layer of part i in fp32: as it trains, or as the file has it.
func (g *group) fp32(i int, base vit.Linear) vit.Linear {
	l := g.parts[i].l
	if base.W.DType() != l.set.dtype {
		return l.pretrained
	}
	n := int64(l.typed.Site.Out)
	out := vit.Linear{W: base.W.Narrow(0, g.offset[i], n)}
	if base.B != nil {
		out.B = base.B.Narrow(0, g.offset[i], n)
	}
	return out
}

// joined lists the parts as the fused operation takes them. Neighbours that
// share A, as those of a serial pair do, become one.
func (g *group) joined(x *torch.Tensor, base vit.Linear) []torch.LowRankPart {
	hidden := slices.ContainsFunc(g.parts, (*lowRank).hidden)
	var out []torch.LowRankPart
	for i, f := range g.parts {
		p := f.part(x, g.fp32(i, base), g.offset[i], hidden)
		if n := len(out) - 1; n >= 0 && !hidden && g.parts[i-1].sharesWith(f) && out[n].Offset+out[n].B.Dim(0) == p.Offset {
			out[n].B = torch.Cat(0, out[n].B, p.B)
			continue
		}
		out = append(out, p)
	}
	return out
}

// sharesWith reports whether A and the scale of two layers are the same.
func (f *lowRank) sharesWith(o *lowRank) bool {
	return f.shared != nil && f.l.typed.Program == o.l.typed.Program && slices.Equal(f.shared, o.shared)
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
			p := part.part(f, g.fp32(i, base), offset, true)
			out = append(out, y.Narrow(1, offset, n).Add(p.H.MatMul(p.B.T()).Scale(p.Scale)))
			at = offset + n
		}
		if rest := y.Dim(1) - at; rest > 0 {
			out = append(out, y.Narrow(1, at, rest))
		}
		return torch.Cat(1, out...)
	})
}
