package adapter

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk"
)

// draw is a variant as a function.
type draw func(g *sdk.Graph, s sdk.Site) sdk.Node

func (d draw) Build(g *sdk.Graph, s sdk.Site) sdk.Node { return d(g, s) }

const dim, mlp = 24, 64

func site(name string, block uint32) *protocol.Site {
	s := &protocol.Site{Name: name, Block: block, Kind: protocol.Site_LINEAR, In: dim, Out: dim, Bias: true}
	switch name {
	case "fc1":
		s.Out = mlp
	case "fc2":
		s.In = mlp
	case "attn_in", "mlp_in":
		s.Kind, s.Bias = protocol.Site_STREAM, false
	}
	return s
}

// placed asks a variant for its programs at some sites.
func placed(t *testing.T, v draw, sites ...*protocol.Site) *spec.Adapter {
	t.Helper()
	reply, err := sdk.Programs(t.Context(), v, &protocol.Model{Family: "vit", Dim: dim, Depth: 5, Heads: 3, Mlp: mlp}, sites)
	if err != nil {
		t.Fatal(err)
	}
	a := &spec.Adapter{Programs: reply.Programs}
	for i, s := range sites {
		a.Placements = append(a.Placements, &spec.Placement{Site: s, Program: reply.ProgramOfSite[i]})
	}
	return a
}

// onModel loads the small fixture backbone with adapters and calls fn on the
// device's thread.
func onModel(t *testing.T, a *spec.Adapter, opt vit.Options, fn func(dev *torch.Device, m *vit.Model, s *Set)) {
	t.Helper()
	dev, err := torch.CPU(2)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	err = dev.Do(func() error {
		m, err := vit.Load(dev, "../vit/testdata/vit/model.safetensors", &spec.Architecture{
			Family: "vit", Dim: dim, Depth: 5, Heads: 3, Mlp: mlp, Patch: 8, GridH: 6, GridW: 4, Eps: 1e-12, QkvBias: true,
		}, opt)
		if err != nil {
			return err
		}
		defer m.Free()
		s, err := Load(dev, m, a, 7)
		if err != nil {
			return err
		}
		defer s.Free()
		fn(dev, m, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func input(dev *torch.Device, rows, cols int64) *torch.Tensor {
	v := make([]float32, rows*cols)
	for i := range v {
		v[i] = float32(math.Sin(float64(3*i+1)) * 1.3)
	}
	return torch.Of(dev, v, rows, cols)
}

// distance is the largest |a − b|.
func distance(t *testing.T, a, b *torch.Tensor) float64 {
	t.Helper()
	if !slices.Equal(a.Shape(), b.Shape()) {
		t.Fatalf("shapes %v and %v", a.Shape(), b.Shape())
	}
	d := 0.0
	x, y := a.Doubles(), b.Doubles()
	for i := range x {
		if diff := math.Abs(x[i] - y[i]); !(diff <= d) {
			d = diff
		}
	}
	return d
}

func TestEveryOperationHasCode(t *testing.T) {
	for v := range protocol.Op_name {
		op := protocol.Op(v)
		if op == protocol.Op_OP_UNSPECIFIED {
			continue
		}
		if (exec[op] == nil) == (source[op] == nil) {
			t.Errorf("%s: exactly one of exec and source has to have it", program.OpName(op))
		}
	}
}

// TestOperationsCompute runs each operation within y = base(x) + Σ over tokens'
// own values of it, and compares with the same written directly.
func TestOperationsCompute(t *testing.T) {
	ramp := func(n int) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = math.Cos(float64(i)) + 0.2
		}
		return v
	}
	constant := func(dev *torch.Device, shape ...int64) *torch.Tensor {
		n := int64(1)
		for _, s := range shape {
			n *= s
		}
		return torch.Of(dev, ramp(int(n)), shape...).To(torch.Float32)
	}
	// each computes with numbers, one token after another.
	each := func(change func(row []float64)) func(*torch.Device, *torch.Tensor, vit.Linear) *torch.Tensor {
		return func(dev *torch.Device, x *torch.Tensor, _ vit.Linear) *torch.Tensor {
			v := x.Doubles()
			for at := 0; at < len(v); at += dim {
				change(v[at : at+dim])
			}
			return torch.Of(dev, v, x.Shape()...).To(torch.Float32)
		}
	}
	type direct func(dev *torch.Device, x *torch.Tensor, l vit.Linear) *torch.Tensor
	for name, c := range map[string]struct {
		draw draw
		want direct
	}{
		"weight bias": {
			func(g *sdk.Graph, _ sdk.Site) sdk.Node { return g.Add(g.MatMul(g.X(), g.T(g.W())), g.B()) },
			func(_ *torch.Device, x *torch.Tensor, l vit.Linear) *torch.Tensor { return torch.Linear(x, l.W, l.B) },
		},
		"base of something": {
			func(g *sdk.Graph, _ sdk.Site) sdk.Node { return g.Base(g.Scale(0.5, g.ReLU(g.X()))) },
			func(_ *torch.Device, x *torch.Tensor, l vit.Linear) *torch.Tensor {
				return torch.Linear(x.ReLU().Scale(0.5), l.W, l.B)
			},
		},
		"arithmetic": {
			func(g *sdk.Graph, _ sdk.Site) sdk.Node {
				k := g.Const([]int{dim}, ramp(dim)...)
				return g.Sub(g.Mul(g.X(), k), g.Div(g.Neg(g.X()), g.Add(g.Exp(k), k)))
			},
			func(dev *torch.Device, x *torch.Tensor, _ vit.Linear) *torch.Tensor {
				k := constant(dev, dim)
				return x.Mul(k).Sub(x.Neg().Div(k.Exp().Add(k)))
			},
		},
		"einsum kron eye": {
			func(g *sdk.Graph, _ sdk.Site) sdk.Node {
				m := g.Kron(g.Const([]int{2, 3}, ramp(6)...), g.Const([]int{12, 8}, ramp(96)...))
				return g.Einsum("ti,oi->to", g.X(), g.Add(m, g.Eye(dim)))
			},
			func(dev *torch.Device, x *torch.Tensor, _ vit.Linear) *torch.Tensor {
				m := constant(dev, 2, 3).Kron(constant(dev, 12, 8)).Add(dev.Eye(torch.Float32, dim))
				return x.MatMul(m.T())
			},
		},
		"reshape permute slice concat repeat": {
			func(g *sdk.Graph, _ sdk.Site) sdk.Node {
				h := g.Permute(g.Reshape(g.X(), -1, 4, 6), 0, 2, 1)
				return g.Repeat(g.Reshape(g.Concat(1, g.Slice(h, 1, 2, 2), g.Slice(h, 1, 0, 1)), -1, 12), 1, 2)
			},
			func(_ *torch.Device, x *torch.Tensor, _ vit.Linear) *torch.Tensor {
				h := x.Reshape(-1, 4, 6).Permute(0, 2, 1)
				return torch.Cat(1, h.Narrow(1, 2, 2), h.Narrow(1, 0, 1)).Reshape(-1, 12).Repeat(1, 2)
			},
		},
		"sum norm sqrt clamp": {
			func(g *sdk.Graph, _ sdk.Site) sdk.Node {
				n := g.NormKeep(g.X(), 1)
				s := g.SumKeep(g.Mul(g.X(), g.X()), 1)
				return g.Add(g.Clamp(g.Div(g.X(), n), -0.1, 0.2), g.Sqrt(g.ClampMin(s, 0.01)))
			},
			func(_ *torch.Device, x *torch.Tensor, _ vit.Linear) *torch.Tensor {
				s := x.Mul(x).SumDims(true, 1)
				return x.Div(s.Sqrt()).Clamp(-0.1, 0.2).Add(s.ClampMin(0.01).Sqrt())
			},
		},
		"solve": {
			func(g *sdk.Graph, _ sdk.Site) sdk.Node {
				m := g.Add(g.Scale(9, g.Eye(dim)), g.Const([]int{dim, dim}, ramp(dim*dim)...))
				return g.MatMul(g.X(), g.Solve(m, g.W()))
			},
			func(dev *torch.Device, x *torch.Tensor, l vit.Linear) *torch.Tensor {
				m := dev.Eye(torch.Float32, dim).Scale(9).Add(constant(dev, dim, dim))
				return x.MatMul(m.Solve(l.W))
			},
		},
		"softmax gelu detach sin cos dropout": {
			func(g *sdk.Graph, _ sdk.Site) sdk.Node {
				x := g.Dropout(g.Detach(g.X()), 0.4) // not training: nothing is dropped
				return g.Add(g.Softmax(g.Sin(x), 1), g.GELU(g.Cos(x)))
			},
			func(_ *torch.Device, x *torch.Tensor, _ vit.Linear) *torch.Tensor {
				return x.Sin().Softmax(1).Add(x.Cos().GELU())
			},
		},
		"gather scatter": {
			func(g *sdk.Graph, _ sdk.Site) sdk.Node {
				at := g.Param("at", sdk.Dims(3), sdk.Indices(5, 0, 23), sdk.Derived)
				v := g.Const([]int{3}, 2, 3, 4)
				return g.Mul(g.Repeat(g.Gather(g.X(), 1, at), 1, 8), g.Scatter([]int{dim}, v, at))
			},
			func(dev *torch.Device, x *torch.Tensor, _ vit.Linear) *torch.Tensor {
				at := torch.Of(dev, []int64{5, 0, 23}, 3)
				k := make([]float32, dim)
				k[5], k[0], k[23] = 2, 3, 4
				return x.Rows(1, at).Repeat(1, 8).Mul(torch.Of(dev, k, dim))
			},
		},
		"topk mask": {
			func(g *sdk.Graph, _ sdk.Site) sdk.Node { return g.Mul(g.X(), g.TopKMask(g.X(), 1, 5)) },
			func(dev *torch.Device, x *torch.Tensor, _ vit.Linear) *torch.Tensor {
				v := x.Floats()
				for r := range len(v) / dim {
					row := v[r*dim : (r+1)*dim]
					least := slices.Sorted(slices.Values(row))[dim-5]
					for i := range row {
						if row[i] < least {
							row[i] = 0
						}
					}
				}
				return torch.Of(dev, v, x.Shape()...)
			},
		},
		"sigmoid tanh silu log abs": {
			func(g *sdk.Graph, _ sdk.Site) sdk.Node {
				x := g.X()
				return g.Add(g.Mul(g.Sigmoid(x), g.Tanh(x)), g.Sub(g.SiLU(x), g.Log(g.Abs(x))))
			},
			each(func(row []float64) {
				for i, v := range row {
					s := 1 / (1 + math.Exp(-v))
					row[i] = s*math.Tanh(v) + v*s - math.Log(math.Abs(v))
				}
			}),
		},
		"maximum minimum where": {
			func(g *sdk.Graph, _ sdk.Site) sdk.Node {
				k := g.Const([]int{dim}, ramp(dim)...)
				return g.Where(g.X(), g.Maximum(g.X(), k), g.Minimum(g.X(), k))
			},
			each(func(row []float64) {
				for i, k := range ramp(dim) {
					if row[i] > 0 {
						row[i] = max(row[i], k)
					} else {
						row[i] = min(row[i], k)
					}
				}
			}),
		},
		"max min mean": {
			func(g *sdk.Graph, _ sdk.Site) sdk.Node {
				h := g.Reshape(g.X(), sdk.Tokens, 4, 6)
				m := g.Sub(g.Max(h, -1), g.Add(g.Min(h, 2), g.Mean(h, 2)))
				return g.Add(g.Repeat(m, 1, 6), g.Sub(g.MaxKeep(g.X(), 1), g.Mul(g.MinKeep(g.X(), 1), g.MeanKeep(g.X(), 1))))
			},
			each(func(row []float64) {
				mean := func(v []float64) (m float64) {
					for _, x := range v {
						m += x / float64(len(v))
					}
					return m
				}
				in := slices.Clone(row)
				for i := range row {
					part := in[i%4*6 : i%4*6+6]
					row[i] = slices.Max(part) - slices.Min(part) - mean(part) + slices.Max(in) - slices.Min(in)*mean(in)
				}
			}),
		},
		"layer norm": {
			func(g *sdk.Graph, _ sdk.Site) sdk.Node { return g.LayerNorm(g.X(), 0.1) },
			each(func(row []float64) {
				mean, variance := 0.0, 0.0
				for _, v := range row {
					mean += v / dim
				}
				for _, v := range row {
					variance += (v - mean) * (v - mean) / dim
				}
				for i, v := range row {
					row[i] = (v - mean) / math.Sqrt(variance+0.1)
				}
			}),
		},
		"inverse fourier": {
			func(g *sdk.Graph, _ sdk.Site) sdk.Node {
				return g.MatMul(g.X(), g.IFFT2(g.Const([]int{dim, dim}, ramp(dim*dim)...)))
			},
			func(dev *torch.Device, x *torch.Tensor, _ vit.Linear) *torch.Tensor {
				v, out := ramp(dim*dim), make([]float64, dim*dim)
				for i := range dim {
					for j := range dim {
						for p := range dim {
							for q := range dim {
								out[i*dim+j] += v[p*dim+q] * math.Cos(2*math.Pi*float64(i*p+j*q)/dim) / (dim * dim)
							}
						}
					}
				}
				return x.MatMul(torch.Of(dev, out, dim, dim).To(torch.Float32))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			onModel(t, placed(t, c.draw, site("query", 2)), vit.Options{}, func(dev *torch.Device, m *vit.Model, s *Set) {
				x, base := input(dev, 11, dim), m.Blocks[2].Linear("query")
				got := m.Blocks[2].Adapters["query"](x, base)
				if d := distance(t, got, c.want(dev, x, base)); d > 2e-5 {
					t.Errorf("differs by %g", d)
				}
			})
		})
	}
}

const r = 4

var kaiming = sdk.KaimingUniform(math.Sqrt(5))

// variants of the field that must leave the backbone as it is at the start:
// what an initialiser gets wrong shows here.
var silent = map[string]draw{
	"lora": func(g *sdk.Graph, s sdk.Site) sdk.Node {
		a, b := g.Param("A", sdk.Dims(r, s.In), kaiming), g.Param("B", sdk.Dims(s.Out, r), sdk.Zeros)
		return g.Add(g.Base(g.X()), g.Scale(2, g.MatMul(g.MatMul(g.Dropout(g.X(), 0), g.T(a)), g.T(b))))
	},
	"dora: row norms of W": func(g *sdk.Graph, s sdk.Site) sdk.Node {
		a, b := g.Param("A", sdk.Dims(r, s.In), kaiming), g.Param("B", sdk.Dims(s.Out, r), sdk.Zeros)
		m := g.Param("m", sdk.Dims(s.Out), sdk.RowNorm)
		v := g.Add(g.W(), g.MatMul(b, a))
		w := g.Mul(g.Reshape(g.Div(m, g.Detach(g.Norm(v, 1))), s.Out, 1), v)
		return g.Add(g.MatMul(g.X(), g.T(w)), g.B())
	},
	"hra: repeated columns": func(g *sdk.Graph, s sdk.Site) sdk.Node {
		u := g.Param("u", sdk.Dims(s.In, r), sdk.Repeated(kaiming, 1, 2))
		x := g.X()
		for k := range r {
			c := g.Slice(u, 1, k, 1)
			c = g.Div(c, g.NormKeep(c, 0))
			x = g.Sub(x, g.Scale(2, g.MatMul(g.MatMul(x, c), g.T(c))))
		}
		return g.Base(x)
	},
	"vera: one seeded matrix": func(g *sdk.Graph, s sdk.Site) sdk.Node {
		a := g.Param("A", sdk.Dims(r, s.In), sdk.Seeded(5, sdk.Dims(r, mlp), sdk.KaimingUniform(0)), sdk.Derived)
		b := g.Param("B", sdk.Dims(s.Out, r), sdk.Seeded(5, sdk.Dims(mlp, r), sdk.KaimingUniform(0)), sdk.Derived)
		d, l := g.Param("d", sdk.Dims(r), sdk.Constant(0.1)), g.Param("l", sdk.Dims(s.Out), sdk.Zeros)
		return g.Add(g.Base(g.X()), g.Mul(l, g.MatMul(g.Mul(d, g.MatMul(g.X(), g.T(a))), g.T(b))))
	},
	"pissa: svd of W, taken out again": func(g *sdk.Graph, s sdk.Site) sdk.Node {
		left, right := sdk.SVDLeft.Power(0.5), sdk.SVDRight.Power(0.5)
		a, b := g.Param("A", sdk.Dims(r, s.In), right), g.Param("B", sdk.Dims(s.Out, r), left)
		a0, b0 := g.Param("A0", sdk.Dims(r, s.In), right, sdk.Derived), g.Param("B0", sdk.Dims(s.Out, r), left, sdk.Derived)
		w := g.Add(g.Sub(g.W(), g.MatMul(b0, a0)), g.MatMul(b, a))
		return g.Add(g.MatMul(g.X(), g.T(w)), g.B())
	},
	"whole svd is W": func(g *sdk.Graph, s sdk.Site) sdk.Node {
		n := min(s.In, s.Out)
		u := g.Param("u", sdk.Dims(s.Out, n), sdk.SVDLeft)
		v := g.Param("v", sdk.Dims(n, s.In), sdk.SVDRight)
		sv := g.Param("s", sdk.Dims(n), sdk.SVDSingular.Power(1))
		return g.Add(g.MatMul(g.X(), g.T(g.MatMul(g.Mul(u, sv), v))), g.B())
	},
	"whole qr is W": func(g *sdk.Graph, s sdk.Site) sdk.Node {
		n := min(s.In, s.Out)
		w := g.MatMul(g.Param("q", sdk.Dims(s.Out, n), sdk.QRQ), g.Param("rr", sdk.Dims(n, s.In), sdk.QRR))
		return g.Add(g.MatMul(g.X(), g.T(w)), g.B())
	},
	"rotated there and back by an orthogonal matrix": func(g *sdk.Graph, s sdk.Site) sdk.Node {
		q := g.Param("q", sdk.Dims(s.In, s.In), sdk.Orthogonal)
		return g.Base(g.MatMul(g.MatMul(g.X(), q), g.T(q)))
	},
	"localized: blocks by einsum": func(g *sdk.Graph, s sdk.Site) sdk.Node {
		const k = 4
		a := g.Param("A", sdk.Dims(k, k, 2, s.In/k), kaiming)
		b := g.Param("B", sdk.Dims(k, k, s.Out/k, 2), sdk.Zeros)
		h := g.Einsum("tin,ijrn->tijr", g.Reshape(g.X(), sdk.Tokens, k, s.In/k), a)
		return g.Add(g.Base(g.X()), g.Reshape(g.Einsum("tijr,ijor->tjo", h, b), sdk.Tokens, s.Out))
	},
	"serial: one pair for a block": func(g *sdk.Graph, s sdk.Site) sdk.Node {
		a := g.Param("A", sdk.Dims(r, s.In), kaiming, sdk.PerBlock)
		b := g.Param("B", sdk.Dims(s.In, r), sdk.Zeros, sdk.PerBlock)
		return g.Base(g.Add(g.X(), g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(b))))
	},
}

func TestVariantsStartAsTheBackbone(t *testing.T) {
	for name, d := range silent {
		t.Run(name, func(t *testing.T) {
			sites := []*protocol.Site{site("query", 0), site("value", 0)}
			if name != "serial: one pair for a block" {
				sites = append(sites, site("fc1", 2), site("fc2", 4))
			}
			for _, opt := range []vit.Options{{}, {Freeze: &spec.Freeze{Kind: spec.Freeze_NONE}}} {
				onModel(t, placed(t, d, sites...), opt, func(dev *torch.Device, m *vit.Model, s *Set) {
					for _, at := range sites {
						x, base := input(dev, 9, int64(at.In)), m.Blocks[at.Block].Linear(at.Name)
						got := m.Blocks[at.Block].Adapters[at.Name](x, base)
						if d := distance(t, got, base.Forward(x)); d > 2e-5 {
							t.Errorf("%s differs from the backbone by %g", at.Name, d)
						}
					}
				})
			}
		})
	}
}

// The fused forms must be the general one, in value and gradient, alone and with
// query, key and value in one product, in training and outside.
func TestFusedIsTheGeneralForm(t *testing.T) {
	lowRank := func(p float64) draw {
		return func(g *sdk.Graph, s sdk.Site) sdk.Node {
			a, b := g.Param("A", sdk.Dims(r, s.In), kaiming), g.Param("B", sdk.Dims(s.Out, r), kaiming)
			return g.Add(g.Scale(1.5, g.MatMul(g.MatMul(g.Dropout(g.X(), p), g.T(a)), g.T(b))), g.Base(g.X()))
		}
	}
	serial := func(p float64, options ...sdk.Option) draw {
		return func(g *sdk.Graph, s sdk.Site) sdk.Node {
			a, b := g.Param("A", sdk.Dims(r, s.In), kaiming, options...), g.Param("B", sdk.Dims(s.In, r), kaiming, options...)
			return g.Base(g.Add(g.X(), g.MatMul(g.Scale(0.7, g.MatMul(g.Dropout(g.X(), p), g.T(a))), g.T(b))))
		}
	}
	many := func(g *sdk.Graph, s sdk.Site) sdk.Node {
		a, b := g.Param("A", sdk.Dims(2, s.In), kaiming), g.Param("B", sdk.Dims(s.Out, 2), kaiming)
		a0, b0 := g.Param("A0", sdk.Dims(1, s.In), kaiming, sdk.Frozen), g.Param("B0", sdk.Dims(s.Out, 1), kaiming, sdk.Frozen)
		v := g.Param("v", sdk.Dims(2), sdk.Constant(0.5))
		w := g.Param("w", sdk.Dims(s.Out), sdk.Constant(2))
		up := g.Mul(w, g.MatMul(g.Div(g.MatMul(g.X(), g.T(a)), v), g.T(b)))
		return g.Add(g.Sub(g.Base(g.X()), g.Neg(up)), g.Scale(3, g.Sub(up, g.MatMul(g.MatMul(g.X(), g.T(a0)), g.T(b0)))))
	}
	reflected := func(g *sdk.Graph, s sdk.Site) sdk.Node {
		u := g.Param("u", sdk.Dims(s.In, 2), kaiming)
		u = g.Div(u, g.NormKeep(u, 0))
		return g.Base(g.Sub(g.X(), g.MatMul(g.MatMul(g.X(), u), g.Scale(2, g.T(u)))))
	}
	three := func(g *sdk.Graph, s sdk.Site) sdk.Node {
		down := g.Param("down", sdk.Dims(r, s.In), sdk.SVDRight, sdk.Frozen)
		up := g.Param("up", sdk.Dims(s.Out, r), sdk.SVDLeft.Power(1), sdk.Frozen)
		mid := g.Param("mid", sdk.Dims(r, r), kaiming)
		return g.Add(g.Base(g.X()), g.MatMul(g.MatMul(g.MatMul(g.X(), g.T(down)), g.T(mid)), g.T(up)))
	}
	full := func(p float64) draw {
		return func(g *sdk.Graph, s sdk.Site) sdk.Node {
			a, b := g.Param("A", sdk.Dims(r, s.In), kaiming), g.Param("B", sdk.Dims(s.Out, r), kaiming)
			return g.Add(g.Base(g.X()), g.MatMul(g.Dropout(g.X(), p), g.T(g.Mul(g.W(), g.MatMul(b, a)))))
		}
	}
	mixed := []*protocol.Site{site("query", 1), site("value", 1), site("output", 1), site("fc1", 3), site("key", 4)}
	qkv := []*protocol.Site{site("query", 1), site("key", 1), site("value", 1), site("query", 2), site("value", 2)}
	for name, c := range map[string]struct {
		d     draw
		sites []*protocol.Site
	}{
		"low-rank":              {lowRank(0), mixed},
		"low-rank with dropout": {lowRank(0.4), mixed},
		"serial":                {serial(0), mixed},
		"serial, shared":        {serial(0, sdk.PerBlock), qkv},
		"serial with dropout":   {serial(0.4, sdk.PerBlock), qkv},
		"sums and scales":       {many, mixed},
		"reflections":           {reflected, mixed},
		"three factors":         {three, mixed},
		"full rank":             {full(0), mixed},
		"full rank, dropout":    {full(0.4), mixed},
	} {
		for _, freeze := range []spec.Freeze_Kind{spec.Freeze_ALL, spec.Freeze_NONE} {
			for _, train := range []bool{false, true} {
				t.Run(fmt.Sprint(name, freeze, train), func(t *testing.T) {
					opt := vit.Options{Freeze: &spec.Freeze{Kind: freeze}}
					onModel(t, placed(t, c.d, c.sites...), opt, func(dev *torch.Device, m *vit.Model, s *Set) {
						if s.Fused != len(c.sites) || s.FirstBlock() != 1 {
							t.Fatalf("%d fused, first block %d", s.Fused, s.FirstBlock())
						}
						s.Train(train)
						images := input(dev, 2*3*48, 32).Reshape(2, 3, 48, 32)
						var outs, grads []*torch.Tensor
						pass := func() {
							var ps []*torch.Tensor
							for _, p := range s.Params {
								if p.Trainable {
									ps = append(ps, p.T)
								}
							}
							for _, p := range m.Params() {
								ps = append(ps, p.T)
							}
							dev.Seed(5)
							y := m.Forward(images)
							outs = append(outs, y)
							g := torch.GradsOf(y.Mul(input(dev, y.Numel(), 1).Reshape(y.Shape()...)).Sum(), nil, ps...)
							for i := range g {
								g[i] = g[i].Reshape(-1)
							}
							grads = append(grads, torch.Cat(0, g...))
						}
						pass()
						for _, l := range s.layers {
							l.low, l.inside = nil, nil
						}
						s.uninstall()
						s.install()
						pass()
						if d := distance(t, outs[0], outs[1]); d > 2e-5 {
							t.Errorf("outputs differ by %g", d)
						}
						if d := distance(t, grads[0], grads[1]); d > 1e-3*largest(grads[1]) {
							t.Errorf("gradients differ by %g", d)
						}
					})
				})
			}
		}
	}
}

// Integers are drawn with replacement, within their bound, and by the key alone
// if there is one: trial-plugins M6.
func TestIntegers(t *testing.T) {
	const n, bound = 600, 20
	d := draw(func(g *sdk.Graph, s sdk.Site) sdk.Node {
		free := g.Param("free", sdk.Dims(n), sdk.Integers(0, bound), sdk.Frozen)
		keyed := g.Param("keyed", sdk.Dims(n), sdk.Integers(4, bound), sdk.Derived)
		theta := g.Param("theta", sdk.Dims(bound), sdk.Zeros)
		delta := g.Mul(g.Gather(theta, 0, free), g.Gather(theta, 0, keyed))
		return g.Add(g.Base(g.X()), g.Slice(delta, 0, 0, s.Out))
	})
	onModel(t, placed(t, d, site("query", 1), site("value", 1)), vit.Options{}, func(_ *torch.Device, _ *vit.Model, s *Set) {
		count := map[string][]int{}
		for name, p := range s.byName {
			if p.T.DType() != torch.Int64 {
				continue
			}
			count[name] = make([]int, bound)
			for _, at := range p.T.Ints() {
				count[name][at]++ // out of range: panics
			}
			for at, times := range count[name] {
				if times < 10 || times > 60 { // 30 on average
					t.Errorf("%s: %d comes %d times of %d", name, at, times, n)
				}
			}
		}
		if len(count) != 4 || !slices.Equal(count["blocks.1.query.keyed"], count["blocks.1.value.keyed"]) {
			t.Errorf("those with a key differ by site: %v", count)
		}
		if slices.Equal(count["blocks.1.query.free"], count["blocks.1.value.free"]) {
			t.Error("those without a key are the same at two sites")
		}
		for _, p := range s.Stored() {
			if p.Name == "blocks.1.query.keyed" {
				t.Error("a derived one is stored")
			}
		}
	})
}

// The order in which sites are named means nothing, whether the backbone is
// frozen or trains.
func TestOrderOfSitesMeansNothing(t *testing.T) {
	d := func(g *sdk.Graph, s sdk.Site) sdk.Node {
		a, b := g.Param("A", sdk.Dims(r, s.In), kaiming), g.Param("B", sdk.Dims(s.Out, r), kaiming)
		return g.Add(g.Base(g.X()), g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(b)))
	}
	for _, kind := range []spec.Freeze_Kind{spec.Freeze_ALL, spec.Freeze_NONE} {
		var outs [][]float32
		for _, sites := range [][]*protocol.Site{
			{site("query", 1), site("value", 1)},
			{site("value", 1), site("query", 1)},
		} {
			onModel(t, placed(t, d, sites...), vit.Options{Freeze: &spec.Freeze{Kind: kind}}, func(dev *torch.Device, m *vit.Model, _ *Set) {
				outs = append(outs, m.Forward(input(dev, 2*3*48, 32).Reshape(2, 3, 48, 32)).Floats())
			})
		}
		for i := range outs[0] {
			if d := math.Abs(float64(outs[0][i] - outs[1][i])); !(d < 1e-6) {
				t.Fatalf("%v: outputs differ by %g", kind, d)
			}
		}
	}
}

// The patch embedding is in no block: it shares nothing with the layers of block 0.
func TestPatchIsInNoBlock(t *testing.T) {
	d := draw(func(g *sdk.Graph, s sdk.Site) sdk.Node {
		a := g.Param("A", sdk.Dims(s.In, 2), sdk.Normal(1), sdk.PerBlock)
		c := g.Param("c", sdk.Dims(2, s.Out), sdk.Normal(1), sdk.PerBlock)
		return g.Add(g.Base(g.X()), g.MatMul(g.MatMul(g.X(), a), c))
	})
	patch := &protocol.Site{Name: "patch", Kind: protocol.Site_PATCH, In: 3 * 8 * 8, Out: dim, Bias: true}
	onModel(t, placed(t, d, patch, site("query", 0)), vit.Options{}, func(_ *torch.Device, _ *vit.Model, s *Set) {
		if s.FirstBlock() != -1 || s.byName["patch.A"] == nil || s.byName["blocks.0.A"] == nil || len(s.Params) != 4 {
			t.Fatalf("first block %d, parameters %v", s.FirstBlock(), s.byName)
		}
		if slices.Equal(s.byName["patch.c"].T.Floats(), s.byName["blocks.0.c"].T.Floats()) {
			t.Error("they start the same")
		}
	})
}

// What an adapter adds to a stream is far below the resolution of bf16, and reaches
// the layers that read it all the same.
func TestStreamKeepsSmallUpdatesInBF16(t *testing.T) {
	effect := func(precision torch.DType, scale float64) (v []float64) {
		d := draw(func(g *sdk.Graph, s sdk.Site) sdk.Node {
			return g.Add(g.Base(g.X()), g.Param("add", sdk.Dims(s.In), sdk.Constant(scale)))
		})
		onModel(t, placed(t, d, site("attn_in", 4), site("mlp_in", 4)), vit.Options{Precision: precision}, func(dev *torch.Device, m *vit.Model, _ *Set) {
			v = m.Forward(input(dev, 8*3*48, 32).Reshape(8, 3, 48, 32)).Doubles()
		})
		return v
	}
	// Of all outputs together, the part along the true difference.
	along := func(precision torch.DType) float64 {
		plain, exact := effect(torch.Float32, 0), effect(torch.Float32, 1e-3)
		from, to := effect(precision, 0), effect(precision, 1e-3)
		dot, size := 0.0, 0.0
		for i := range plain {
			d := exact[i] - plain[i]
			dot, size = dot+d*(to[i]-from[i]), size+d*d
		}
		return dot / size
	}
	if got := along(torch.BFloat16); !(got > 0.7 && got < 1.3) {
		t.Errorf("of the update %g is left", got)
	}
}

func TestSharedParametersAreOne(t *testing.T) {
	onModel(t, placed(t, silent["serial: one pair for a block"], site("query", 2), site("key", 2), site("value", 2), site("query", 3)), vit.Options{},
		func(_ *torch.Device, _ *vit.Model, s *Set) {
			var names []string
			for _, p := range s.Params {
				names = append(names, p.Name)
			}
			if want := []string{"blocks.2.A", "blocks.2.B", "blocks.3.A", "blocks.3.B"}; !slices.Equal(names, want) {
				t.Errorf("parameters %v, want %v", names, want)
			}
			if s.Trainable() != 2*2*r*dim {
				t.Errorf("%d trainable", s.Trainable())
			}
		})
}

// A parameter's start depends on seed and place alone, not on what else there is.
func TestStartDoesNotDependOnOthers(t *testing.T) {
	value := func(sites ...*protocol.Site) (out []float32) {
		onModel(t, placed(t, silent["lora"], sites...), vit.Options{}, func(_ *torch.Device, _ *vit.Model, s *Set) {
			for _, p := range s.Params {
				if p.Name == "blocks.3.value.A" {
					out = p.T.Floats()
				}
			}
		})
		return out
	}
	alone := value(site("value", 3))
	if !slices.Equal(alone, value(site("query", 0), site("query", 3), site("value", 3))) {
		t.Error("the start moved with the other sites")
	}
	bound := 1 / math.Sqrt(dim)
	for _, v := range alone {
		if math.Abs(float64(v)) > bound {
			t.Fatalf("%g is outside ±1/√in = %g", v, bound)
		}
	}
}

// So must those of the serial form, whose update is of x.
func TestSerialKeepsSmallUpdatesInBF16(t *testing.T) {
	d := func(g *sdk.Graph, s sdk.Site) sdk.Node {
		a := g.Param("A", sdk.Dims(r, s.In), kaiming, sdk.PerBlock)
		b := g.Param("B", sdk.Dims(s.In, r), sdk.Normal(1e-3), sdk.PerBlock)
		return g.Base(g.Add(g.X(), g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(b))))
	}
	sites := []*protocol.Site{site("query", 1), site("key", 1), site("value", 1)}
	onModel(t, placed(t, d, sites...), vit.Options{Precision: torch.BFloat16}, func(dev *torch.Device, m *vit.Model, s *Set) {
		x := input(dev, 2000, dim).To(torch.BFloat16)
		base := m.Blocks[1].Linear(vit.SiteQKV)
		got := m.Blocks[1].Adapters[vit.SiteQKV](x, base).To(torch.Float64).Sub(base.Forward(x).To(torch.Float64))
		l := s.layers[0]
		w := make([]*torch.Tensor, 3)
		for i := range w {
			w[i] = s.layers[i].pretrained.W
		}
		want := torch.Linear(torch.Linear(torch.Linear(x.To(torch.Float32), l.params["A"].T, nil), l.params["B"].T, nil), torch.Cat(0, w...), nil).To(torch.Float64)
		// Each output is rounded; over many the update has to come through.
		ratio := got.Mul(want).Sum().Item() / want.Mul(want).Sum().Item()
		if !(math.Abs(ratio-1) < 0.1) {
			t.Errorf("%.2f of the update arrives", ratio)
		}
	})
}

// Any linear update goes inside the frozen product in bf16: output and gradients
// are those of fp32 but for rounding, and small updates arrive.
func TestLinearUpdatesGoInside(t *testing.T) {
	blocks := func(size float64) draw {
		return func(g *sdk.Graph, s sdk.Site) sdk.Node {
			const k = 4
			a := g.Param("A", sdk.Dims(k, k, 2, s.In/k), kaiming)
			b := g.Param("B", sdk.Dims(k, k, s.Out/k, 2), sdk.Normal(size))
			h := g.Einsum("tin,ijrn->tijr", g.Reshape(g.X(), sdk.Tokens, k, s.In/k), a)
			return g.Sub(g.Base(g.X()), g.Scale(3, g.Reshape(g.Einsum("tijr,ijor->tjo", h, b), sdk.Tokens, s.Out)))
		}
	}
	for _, size := range []float64{1, 1e-3} {
		onModel(t, placed(t, blocks(size), site("fc1", 1)), vit.Options{Precision: torch.BFloat16}, func(dev *torch.Device, m *vit.Model, s *Set) {
			if s.Form(0) != "inside" {
				t.Fatalf("form %s", s.Form(0))
			}
			l, base := s.layers[0], m.Blocks[1].Linear("fc1")
			x := input(dev, 2000, dim).To(torch.BFloat16)
			g := input(dev, 2000, mlp)
			a, b := l.params["A"].T, l.params["B"].T
			pass := func(x *torch.Tensor) (update, da, db []float64) {
				y := l.forward(x, base)
				if (y.DType() == torch.BFloat16) != (l.inside != nil) {
					t.Errorf("computed in %v", y.DType())
				}
				d := torch.GradsOf(y.To(torch.Float32).Mul(g).Sum(), nil, a, b)
				plain := base.Forward(x).To(torch.Float64)
				if l.inside == nil {
					plain = torch.Linear(x.To(torch.Float32), l.pretrained.W, l.pretrained.B).To(torch.Float64)
				}
				return y.To(torch.Float64).Sub(plain).Doubles(), d[0].Doubles(), d[1].Doubles()
			}
			u1, a1, b1 := pass(x)
			l.inside = nil
			u2, a2, b2 := pass(x)
			along := func(what string, u, v []float64, tolerance float64) {
				uv, vv := 0.0, 0.0
				for i := range u {
					uv, vv = uv+u[i]*v[i], vv+v[i]*v[i]
				}
				if r := uv / vv; !(math.Abs(r-1) < tolerance) {
					t.Errorf("updates of size %g: %.3f of %s arrives", size, r, what)
				}
			}
			along("the update", u1, u2, 0.1)
			along("the gradient of A", a1, a2, 0.02)
			along("the gradient of B", b1, b2, 0.02)
		})
	}
}

// What only looks like the form has to be left to the nodes.
func TestWhatIsNotInside(t *testing.T) {
	beta := func(g *sdk.Graph, s sdk.Site) sdk.Node {
		return g.Param("beta", sdk.Dims(s.Out), sdk.Ones)
	}
	for name, d := range map[string]draw{
		"a constant":            func(g *sdk.Graph, s sdk.Site) sdk.Node { return g.Add(g.Base(g.X()), beta(g, s)) },
		"the base scaled":       func(g *sdk.Graph, s sdk.Site) sdk.Node { return g.Mul(g.Base(g.X()), beta(g, s)) },
		"the base once more":    func(g *sdk.Graph, s sdk.Site) sdk.Node { return g.Add(g.Base(g.X()), g.Mul(beta(g, s), g.Base(g.X()))) },
		"the base of another x": func(g *sdk.Graph, s sdk.Site) sdk.Node { return g.Add(g.Base(g.X()), g.Base(g.Scale(2, g.X()))) },
		"nothing linear":        func(g *sdk.Graph, s sdk.Site) sdk.Node { return g.Add(g.Base(g.X()), g.ReLU(g.Mul(beta(g, s), g.X()))) },
		"the base taken away":   func(g *sdk.Graph, s sdk.Site) sdk.Node { return g.Sub(g.Mul(beta(g, s), g.X()), g.Base(g.X())) },
		"sums within sums": func(g *sdk.Graph, s sdk.Site) sdk.Node {
			x := g.Base(g.X())
			for range 60 {
				x = g.Add(x, x)
			}
			return g.Mul(x, beta(g, s))
		},
		"dropout on the way out": func(g *sdk.Graph, s sdk.Site) sdk.Node {
			return g.Add(g.Base(g.X()), g.Dropout(g.Mul(beta(g, s), g.X()), 0.5))
		},
	} {
		t.Run(name, func(t *testing.T) {
			onModel(t, placed(t, d, site("query", 1)), vit.Options{}, func(_ *torch.Device, _ *vit.Model, s *Set) {
				if form := s.Form(0); form != "nodes" {
					t.Errorf("form %s", form)
				}
			})
		})
	}
}

// Small updates must reach the output in bf16 on the general path too.
func TestGeneralFormKeepsSmallUpdatesInBF16(t *testing.T) {
	d := func(g *sdk.Graph, s sdk.Site) sdk.Node {
		b := g.Param("b", sdk.Dims(s.Out), sdk.Constant(1e-4))
		return g.Add(g.Base(g.X()), b)
	}
	onModel(t, placed(t, d, site("fc2", 1)), vit.Options{Precision: torch.BFloat16}, func(dev *torch.Device, m *vit.Model, s *Set) {
		x := input(dev, 50, mlp).To(torch.BFloat16)
		base := s.layers[0].pretrained
		got := m.Blocks[1].Adapters["fc2"](x, m.Blocks[1].Linear("fc2"))
		want := torch.Linear(x.To(torch.Float32), base.W, base.B).AddScalar(1e-4)
		if d := distance(t, got, want); d > 1e-6 {
			t.Errorf("off by %g", d)
		}
	})
}

// What never changes is computed once and kept where the rest reads it; what
// nothing needs is not computed at all.
func TestConstantsAreFolded(t *testing.T) {
	d := func(g *sdk.Graph, s sdk.Site) sdk.Node {
		f := g.Param("frozen", sdk.Dims(s.Out), sdk.Ones, sdk.Frozen)
		k := g.Exp(g.Neg(g.Mul(f, g.Const([]int{1}, 2))))
		g.Exp(g.Const([]int{1}, 1)) // for nobody
		return g.Add(g.Mul(g.Base(g.X()), k), g.Param("beta", sdk.Dims(s.Out), sdk.Zeros))
	}
	onModel(t, placed(t, d, site("query", 0)), vit.Options{}, func(dev *torch.Device, m *vit.Model, s *Set) {
		var kept []protocol.Op
		for i, f := range s.layers[0].folded {
			if f != nil {
				kept = append(kept, s.layers[0].typed.Program.Nodes[i].Op)
			}
		}
		if !slices.Equal(kept, []protocol.Op{protocol.Op_EXP}) {
			t.Errorf("kept %v, want the outer exp alone", kept)
		}
		x, base := input(dev, 3, dim), m.Blocks[0].Linear("query")
		if d := distance(t, m.Blocks[0].Adapters["query"](x, base), base.Forward(x).Scale(math.Exp(-2))); d > 1e-6 {
			t.Errorf("differs by %g", d)
		}
	})
}

func TestAuxiliaryLoss(t *testing.T) {
	d := func(g *sdk.Graph, s sdk.Site) sdk.Node {
		b := g.Param("b", sdk.Dims(s.Out), sdk.Constant(2))
		g.Aux("size", 0.5, g.Sum(g.Mul(b, b), 0))
		return g.Add(g.Base(g.X()), b)
	}
	onModel(t, placed(t, d, site("query", 0), site("query", 1)), vit.Options{}, func(_ *torch.Device, _ *vit.Model, s *Set) {
		if got := s.Aux().Item(); got != 2*0.5*4*dim {
			t.Errorf("auxiliary loss %g", got)
		}
	})
}

func TestWrongProgramsAreRefused(t *testing.T) {
	good := placed(t, silent["lora"], site("query", 0))
	for name, edit := range map[string]func(a *spec.Adapter){
		"block out of range": func(a *spec.Adapter) { a.Placements[0].Site.Block = 9 },
		"wrong size":         func(a *spec.Adapter) { a.Placements[0].Site.Out = 7 },
		"forward reference": func(a *spec.Adapter) {
			nodes := a.Programs[0].Nodes
			nodes[len(nodes)-1].Inputs[0] = uint32(len(nodes))
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := placed(t, silent["lora"], site("query", 0))
			edit(a)
			if err := tryLoad(t, a); err == nil {
				t.Error("accepted")
			}
		})
	}
	if err := tryLoad(t, good); err != nil {
		t.Error(err)
	}
}

func tryLoad(t *testing.T, a *spec.Adapter) error {
	t.Helper()
	dev, err := torch.CPU(2)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	return dev.Do(func() error {
		m, err := vit.Load(dev, "../vit/testdata/vit/model.safetensors", &spec.Architecture{
			Family: "vit", Dim: dim, Depth: 5, Heads: 3, Mlp: mlp, Patch: 8, GridH: 6, GridW: 4, Eps: 1e-12, QkvBias: true,
		}, vit.Options{})
		if err != nil {
			return err
		}
		defer m.Free()
		s, err := Load(dev, m, a, 1)
		if err == nil {
			s.Free()
		}
		return err
	})
}
