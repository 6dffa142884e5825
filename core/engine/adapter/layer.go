package adapter

import (
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
)

// layer is a program at one site.
type layer struct {
	set        *Set
	typed      *program.Typed
	params     map[string]*Param
	pretrained vit.Linear                       // in the set's type
	folded     []*torch.Tensor                  // nodes that never change, by index
	low        *lowRank                         // nil: not of that form
	inside     *inside                          // nil: nor of that
	held       map[*protocol.Node]*torch.Tensor // see Set.Hold
}

// call is one pass through a layer's program.
type call struct {
	*layer
	x      *torch.Tensor // [T, in]
	base   vit.Linear
	values []*torch.Tensor
}

// exec computes a node from its inputs. One entry for each operation of the
// protocol but those without inputs of their own, which are in source.
var exec = map[protocol.Op]func(c *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor{
	protocol.Op_BASE: func(c *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		if c.typed.Site.Kind == protocol.Site_STREAM {
			return in[0]
		}
		return torch.Linear(in[0], c.base.W, c.base.B)
	},
	protocol.Op_ADD: func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].Add(in[1]) },
	protocol.Op_SUB: func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].Sub(in[1]) },
	protocol.Op_MUL: func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].Mul(in[1]) },
	protocol.Op_DIV: func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].Div(in[1]) },
	protocol.Op_NEG: func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].Neg() },
	protocol.Op_SCALE: func(_ *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		return in[0].Scale(n.Number)
	},
	protocol.Op_MATMUL: func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].MatMul(in[1]) },
	protocol.Op_EINSUM: func(_ *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		return torch.Einsum(n.Text, in...)
	},
	protocol.Op_KRON: func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].Kron(in[1]) },
	protocol.Op_RESHAPE: func(_ *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		return in[0].Reshape(n.Ints...)
	},
	protocol.Op_PERMUTE: func(_ *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		if len(n.Ints) == 0 {
			return in[0]
		}
		return in[0].Permute(n.Ints...)
	},
	protocol.Op_SLICE: func(_ *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		return in[0].Narrow(n.Ints[0], n.Ints[1], n.Ints[2])
	},
	protocol.Op_CONCAT: func(_ *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		return torch.Cat(n.Ints[0], in...)
	},
	protocol.Op_REPEAT: func(_ *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		if len(n.Ints) == 0 {
			return in[0]
		}
		return in[0].Repeat(n.Ints...)
	},
	protocol.Op_SUM: func(_ *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		return in[0].SumDims(n.Keepdim, n.Ints...)
	},
	protocol.Op_NORM: func(_ *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		return in[0].Norm(n.Keepdim, n.Ints...)
	},
	protocol.Op_SQRT: func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].Sqrt() },
	protocol.Op_CLAMP: func(_ *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		if len(n.Floats) == 1 {
			return in[0].ClampMin(n.Floats[0])
		}
		return in[0].Clamp(n.Floats[0], n.Floats[1])
	},
	protocol.Op_SOLVE: func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].Solve(in[1]) },
	protocol.Op_SOFTMAX: func(_ *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		return in[0].Softmax(n.Ints[0])
	},
	protocol.Op_RELU: func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].ReLU() },
	protocol.Op_GELU: func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].GELU() },
	protocol.Op_DROPOUT: func(c *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		if !c.set.train || n.Number == 0 {
			return in[0]
		}
		return in[0].Dropout(n.Number)
	},
	protocol.Op_DETACH: func(c *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		if held := c.held[n]; held != nil {
			return held
		}
		return in[0].Detach()
	},
	protocol.Op_GATHER: func(_ *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		return in[0].Rows(n.Ints[0], in[1])
	},
	protocol.Op_SCATTER: func(c *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		size := int64(1)
		for _, d := range n.Ints {
			size *= d
		}
		zeros := c.set.dev.Zeros(in[0].DType(), size)
		return zeros.Scatter(0, in[1].Reshape(-1), in[0].Reshape(-1)).Reshape(n.Ints...)
	},
	protocol.Op_EXP: func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].Exp() },
	protocol.Op_SIN: func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].Sin() },
	protocol.Op_COS: func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].Cos() },
	protocol.Op_TOPK_MASK: func(_ *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		return in[0].TopKMask(n.Ints[1], n.Ints[0])
	},
	protocol.Op_IFFT2:   func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].InverseFFT2() },
	protocol.Op_SIGMOID: func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].Sigmoid() },
	protocol.Op_TANH:    func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].Tanh() },
	protocol.Op_SILU:    func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].SiLU() },
	protocol.Op_LOG:     func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].Log() },
	protocol.Op_ABS:     func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].Abs() },
	protocol.Op_MAXIMUM: func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].Maximum(in[1]) },
	protocol.Op_MINIMUM: func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor { return in[0].Minimum(in[1]) },
	protocol.Op_WHERE: func(_ *call, _ *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		return in[0].Greater(0).Where(in[1], in[2])
	},
	protocol.Op_MAX: func(_ *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		return in[0].Max(n.Keepdim, n.Ints...)
	},
	protocol.Op_MIN: func(_ *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		return in[0].Min(n.Keepdim, n.Ints...)
	},
	protocol.Op_MEAN: func(_ *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		return in[0].MeanDims(n.Keepdim, n.Ints...)
	},
	protocol.Op_LAYER_NORM: func(_ *call, n *protocol.Node, in []*torch.Tensor) *torch.Tensor {
		return torch.LayerNorm(in[0], nil, nil, n.Number)
	},
}

// source are the operations without inputs.
var source = map[protocol.Op]func(c *call, n *protocol.Node) *torch.Tensor{
	protocol.Op_X:      func(c *call, _ *protocol.Node) *torch.Tensor { return c.x },
	protocol.Op_WEIGHT: func(c *call, _ *protocol.Node) *torch.Tensor { return c.base.W },
	protocol.Op_BIAS:   func(c *call, _ *protocol.Node) *torch.Tensor { return c.base.B },
	protocol.Op_PARAM:  func(c *call, n *protocol.Node) *torch.Tensor { return c.params[n.Param].T },
	protocol.Op_CONST: func(c *call, n *protocol.Node) *torch.Tensor {
		return torch.Of(c.set.dev, n.Floats, n.Ints...).To(c.set.dtype)
	},
	protocol.Op_EYE: func(c *call, n *protocol.Node) *torch.Tensor { return c.set.dev.Eye(c.set.dtype, n.Ints[0]) },
}

// node computes node i, and before it what it needs.
func (c *call) node(i uint32) *torch.Tensor {
	if c.values[i] != nil {
		return c.values[i]
	}
	n := c.typed.Program.Nodes[i]
	if c.folded[i] != nil {
		c.values[i] = c.folded[i]
	} else if make := source[n.Op]; make != nil {
		c.values[i] = make(c, n)
	} else {
		in := tensors(len(n.Inputs))
		for j, k := range n.Inputs {
			in[j] = c.node(k)
		}
		c.values[i] = exec[n.Op](c, n, in)
	}
	return c.values[i]
}

// place, deferred, puts the site into the error of an operation that fails in the
// layer.
func (l *layer) place() {
	v := recover()
	if e, ok := v.(*torch.Error); ok && e.At == "" {
		e.At = program.SiteName(l.typed.Site)
	}
	if v != nil {
		panic(v)
	}
}

func tensors(n int) []*torch.Tensor { return make([]*torch.Tensor, n) }

func (l *layer) call(x *torch.Tensor, base vit.Linear) *call {
	return &call{layer: l, x: x, base: base, values: tensors(len(l.typed.Program.Nodes))}
}

// forward is the adapted layer, for vit.
func (l *layer) forward(x *torch.Tensor, base vit.Linear) *torch.Tensor {
	if l.low != nil && !base.Trains {
		return l.low.forward(x, base)
	}
	if l.inside != nil && !base.Trains && l.inside.pays(x) {
		return l.inside.forward(x, base)
	}
	// Node by node means the set's type, fp32, from end to end, whatever the branch computes
	// in: a base rounded to bf16 before the update is added would swallow
	// small updates. The fp32 base is the mapped file, so it costs no copy.
	if l.typed.Site.Kind != protocol.Site_STREAM && !base.Trains {
		base = l.pretrained
	}
	return l.set.dev.Yield(func() *torch.Tensor {
		defer l.place()
		return l.call(x.To(l.set.dtype), base).node(l.typed.Program.Output)
	})
}

// compile folds what never changes and finds the form of the program.
func (l *layer) compile() {
	l.fold()
	if l.low = matchLowRank(l); l.low == nil {
		l.inside = matchInside(l)
	}
}

// fold computes, once, what depends on nothing that moves, and keeps of it what
// the rest of the program reads.
func (l *layer) fold() {
	defer l.place()
	p := l.typed.Program
	fixed := func(i uint32) bool {
		// A parameter is there already.
		return l.typed.From[i] == 0 && p.Nodes[i].Op != protocol.Op_PARAM
	}
	read := map[uint32]bool{p.Output: true}
	for _, a := range p.Aux {
		read[a.Node] = true
	}
	for i, n := range p.Nodes {
		if l.typed.Live[i] && !fixed(uint32(i)) {
			for _, in := range n.Inputs {
				read[in] = true
			}
		}
	}
	l.set.dev.NoGrad(func() {
		l.set.dev.Scope(func() {
			c := l.call(nil, vit.Linear{})
			for i := range uint32(len(p.Nodes)) {
				if read[i] && fixed(i) {
					// A handle of its own: a node may be a parameter in
					// another shape.
					l.folded[i] = c.node(i).Detach().Keep()
				}
			}
		})
	})
}

func (l *layer) unfold() {
	for i, t := range l.folded {
		t.Free()
		l.folded[i] = nil
	}
}

// aux is the weighted sum of the program's auxiliary scalars.
func (l *layer) aux() *torch.Tensor {
	return l.set.dev.Yield(func() *torch.Tensor {
		defer l.place()
		c := l.call(nil, l.pretrained)
		var total *torch.Tensor
		for _, a := range l.typed.Program.Aux {
			t := c.node(a.Node).Reshape().Scale(a.Weight)
			if total != nil {
				t = total.Add(t)
			}
			total = t
		}
		return total
	})
}
