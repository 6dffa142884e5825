package program_test

import (
	"math"
	"testing"

	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk"
	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

// draw is a variant as a function.
type draw func(g *sdk.Graph, s sdk.Site) sdk.Node

func (d draw) Build(g *sdk.Graph, s sdk.Site) sdk.Node { return d(g, s) }

const r = 4

var kaiming = sdk.KaimingUniform(math.Sqrt(5))

// pair declares A [r, in] and B [out, r] and returns them.
func pair(g *sdk.Graph, s sdk.Site, o ...sdk.Option) (a, b sdk.Node) {
	return g.Param("lora_A", sdk.Dims(r, s.In), kaiming, o...), g.Param("lora_B", sdk.Dims(s.Out, r), sdk.Zeros, o...)
}

// times is x Aᵀ Bᵀ.
func times(g *sdk.Graph, x, a, b sdk.Node) sdk.Node {
	return g.MatMul(g.MatMul(x, g.T(a)), g.T(b))
}

// plus is base(x) + x ΔWᵀ.
func plus(g *sdk.Graph, delta sdk.Node) sdk.Node {
	return g.Add(g.Base(g.X()), g.MatMul(g.X(), g.T(delta)))
}

// rewritten is x Wᵀ + b with b where the site has one.
func rewritten(g *sdk.Graph, s sdk.Site, w sdk.Node) sdk.Node {
	y := g.MatMul(g.X(), g.T(w))
	if s.Bias {
		y = g.Add(y, g.B())
	}
	return y
}

// skew draws blocks [n, b, b] of skew-symmetric matrices from their upper
// triangles.
func skew(g *sdk.Graph, n, b int) sdk.Node {
	var at []int64
	for k := range n {
		for i := range b {
			for j := i + 1; j < b; j++ {
				at = append(at, int64((k*b+i)*b+j))
			}
		}
	}
	upper := g.Scatter(sdk.Dims(n, b, b),
		g.Param("oft_R", sdk.Dims(len(at)), sdk.Zeros),
		g.Param("at", sdk.Dims(len(at)), sdk.Indices(at...), sdk.Derived))
	return g.Sub(upper, g.T(upper))
}

// The protocol is complete enough if the field's variants are programs. Each
// is drawn for a layer with in = 24, out = 60 and has the number of trainable
// parameters its paper or PEFT gives it.
func TestVariantsOfTheField(t *testing.T) {
	const in, out = 24, 60
	for name, v := range map[string]struct {
		draw      draw
		params    int64
		nonlinear bool
		blockwise bool // parameters are shared by the block
		modelwise bool // or by the model
	}{
		"LoRA": {params: r * (in + out), draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			a, b := pair(g, s)
			return g.Add(g.Base(g.X()), g.Scale(2, times(g, g.Dropout(g.X(), 0.1), a, b)))
		}},
		"rsLoRA": {params: r * (in + out), draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			a, b := pair(g, s)
			return g.Add(g.Base(g.X()), g.Scale(8/math.Sqrt(r), times(g, g.X(), a, b)))
		}},
		"LoRA-FA": {params: r * out, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			a := g.Param("lora_A", sdk.Dims(r, s.In), kaiming, sdk.Frozen)
			b := g.Param("lora_B", sdk.Dims(s.Out, r), sdk.Zeros)
			return g.Add(g.Base(g.X()), times(g, g.X(), a, b))
		}},
		"DoRA": {params: r*(in+out) + out, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			a, b := pair(g, s)
			m := g.Param("lora_magnitude_vector", sdk.Dims(s.Out), sdk.RowNorm)
			v := g.Add(g.W(), g.MatMul(b, a))
			norm := g.Detach(g.Norm(v, 1))
			y := g.Mul(g.Div(m, norm), g.MatMul(g.X(), g.T(v)))
			return g.Add(y, g.B())
		}},
		"Serial": {params: 2 * r * in, blockwise: true, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			a := g.Param("lora_A", sdk.Dims(r, s.In), kaiming, sdk.PerBlock)
			b := g.Param("lora_B", sdk.Dims(s.In, r), sdk.Zeros, sdk.PerBlock)
			return g.Base(g.Add(g.X(), times(g, g.X(), a, b)))
		}},
		// K² blocks of rank r, each with in/K + out/K rows.
		"Localized": {params: 4 * r * (in + out), draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			const k = 4
			a := g.Param("A", sdk.Dims(k, k, r, s.In/k), kaiming)
			b := g.Param("B", sdk.Dims(k, k, s.Out/k, r), sdk.Zeros)
			x := g.Reshape(g.X(), sdk.Tokens, k, s.In/k)
			h := g.Einsum("tin,ijrn->tijr", x, a)
			d := g.Einsum("tijr,ijor->tjo", h, b)
			return g.Add(g.Base(g.X()), g.Scale(2, g.Reshape(d, sdk.Tokens, s.Out)))
		}},
		"GraLoRA": {params: r * (in + out), draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			const k = 2
			a := g.Param("gralora_A", sdk.Dims(k, s.In/k, r), kaiming)
			b := g.Param("gralora_B", sdk.Dims(k, r, s.Out/k), sdk.Zeros)
			h := g.Einsum("tkn,knr->tkr", g.Reshape(g.X(), sdk.Tokens, k, s.In/k), a)
			h = g.Permute(g.Reshape(h, sdk.Tokens, k, k, r/k), 0, 2, 1, 3)
			d := g.Einsum("tkr,kro->tko", g.Reshape(h, sdk.Tokens, k, r), b)
			return g.Add(g.Base(g.X()), g.Reshape(d, sdk.Tokens, s.Out))
		}},
		"LoHa": {params: 2 * r * (in + out), draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			w1 := g.MatMul(g.Param("hada_w1_a", sdk.Dims(s.Out, r), kaiming), g.Param("hada_w1_b", sdk.Dims(r, s.In), kaiming))
			w2 := g.MatMul(g.Param("hada_w2_a", sdk.Dims(s.Out, r), kaiming), g.Param("hada_w2_b", sdk.Dims(r, s.In), sdk.Zeros))
			return plus(g, g.Mul(w1, w2))
		}},
		// 60 = 6·10 and 24 = 4·6.
		"LoKr": {params: 6*4 + 10*2 + 2*6, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			w1 := g.Param("lokr_w1", sdk.Dims(6, 4), sdk.Zeros)
			w2 := g.MatMul(g.Param("lokr_w2_a", sdk.Dims(10, 2), kaiming), g.Param("lokr_w2_b", sdk.Dims(2, 6), kaiming))
			return plus(g, g.Kron(w1, w2))
		}},
		"VeRA": {params: out + r, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			uniform := sdk.KaimingUniform(0)
			a := g.Param("vera_A", sdk.Dims(r, s.MaxIn), sdk.Seeded(7, sdk.Dims(r, s.MaxIn), uniform), sdk.PerModel, sdk.Derived)
			b := g.Param("vera_B", sdk.Dims(s.MaxOut, r), sdk.Seeded(7, sdk.Dims(s.MaxOut, r), uniform), sdk.PerModel, sdk.Derived)
			lb := g.Param("vera_lambda_b", sdk.Dims(s.Out), sdk.Zeros)
			ld := g.Param("vera_lambda_d", sdk.Dims(r), sdk.Constant(0.1))
			h := g.Mul(ld, g.MatMul(g.X(), g.T(g.Slice(a, 1, 0, s.In))))
			return g.Add(g.Base(g.X()), g.Mul(lb, g.MatMul(h, g.T(g.Slice(b, 0, 0, s.Out)))))
		}},
		"RandLoRA": {params: 6*r + 6*in, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			n := (min(s.In, s.Out) + r - 1) / r
			uniform := sdk.KaimingUniform(0)
			b := g.Param("randlora_B", sdk.Dims(s.Out, n, r), sdk.Seeded(1, sdk.Dims(s.MaxOut, n, r), uniform), sdk.Derived)
			a := g.Param("randlora_A", sdk.Dims(r, s.In), sdk.Seeded(2, sdk.Dims(r, s.MaxIn), uniform), sdk.Derived)
			lambda := g.Param("randlora_lambda", sdk.Dims(r, n), sdk.Zeros)
			gamma := g.Param("randlora_gamma", sdk.Dims(n, min(s.In, s.Out)), sdk.Constant(1/float64(max(s.In, s.Out))))
			return plus(g, g.Einsum("onr,rn,ri,ni->oi", b, lambda, a, gamma))
		}},
		"HiRA": {params: r * (in + out), draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			a, b := pair(g, s)
			return plus(g, g.Mul(g.W(), g.MatMul(b, a)))
		}},
		"IA3": {params: out, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			return g.Mul(g.Base(g.X()), g.Param("ia3_l", sdk.Dims(s.Out), sdk.Ones))
		}},
		"OFT": {params: 3 * 8 * 7 / 2, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			const b = 8
			q := skew(g, s.In/b, b)
			rot := g.Solve(g.Add(g.Eye(b), q), g.Sub(g.Eye(b), q)) // Cayley
			x := g.Reshape(g.X(), sdk.Tokens, s.In/b, b)
			return g.Base(g.Reshape(g.Einsum("tkb,kbc->tkc", x, rot), sdk.Tokens, s.In))
		}},
		"HRA": {params: r * in, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			u := g.Param("hra_u", sdk.Dims(s.In, r), sdk.Repeated(kaiming, 1, 2))
			u = g.Div(u, g.NormKeep(u, 0))
			x := g.X()
			for k := range r {
				c := g.Slice(u, 1, k, 1)
				x = g.Sub(x, g.Scale(2, g.MatMul(g.MatMul(x, c), g.T(c))))
			}
			return g.Base(x)
		}},
		"PiSSA": {params: r * (in + out), draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			sa, sb := sdk.SVDRight.Power(0.5), sdk.SVDLeft.Power(0.5)
			a := g.Param("lora_A", sdk.Dims(r, s.In), sa)
			b := g.Param("lora_B", sdk.Dims(s.Out, r), sb)
			a0 := g.Param("A0", sdk.Dims(r, s.In), sa, sdk.Derived)
			b0 := g.Param("B0", sdk.Dims(s.Out, r), sb, sdk.Derived)
			return g.Sub(g.Add(g.Base(g.X()), times(g, g.X(), a, b)), times(g, g.X(), a0, b0))
		}},
		"OLoRA": {params: r * (in + out), draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			a := g.Param("lora_A", sdk.Dims(r, s.In), sdk.QRR)
			b := g.Param("lora_B", sdk.Dims(s.Out, r), sdk.QRQ)
			return g.Add(g.Base(g.X()), times(g, g.X(), a, b))
		}},
		"LoRA-XS": {params: r * r, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			a := g.Param("A", sdk.Dims(r, s.In), sdk.SVDRight, sdk.Derived)
			b := g.Param("B", sdk.Dims(s.Out, r), sdk.SVDLeft.Power(1), sdk.Derived)
			m := g.Param("R", sdk.Dims(r, r), sdk.Normal(1e-5))
			return g.Add(g.Base(g.X()), g.MatMul(g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(m)), g.T(b)))
		}},
		"BitFit": {params: out, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			return g.Add(g.Base(g.X()), g.Param("beta", sdk.Dims(s.Out), sdk.Zeros))
		}},
		"GLoRA": {params: 2*r*(in+out) + in + 2*out, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			low := func(name string) sdk.Node {
				return g.MatMul(g.Param(name+"_b", sdk.Dims(s.Out, r), sdk.Zeros), g.Param(name+"_a", sdk.Dims(r, s.In), kaiming))
			}
			w := g.Add(g.Add(g.W(), g.Mul(g.W(), low("A"))), low("B"))
			c := g.MatMul(g.W(), g.Param("C", sdk.Dims(s.In, 1), sdk.Zeros))
			bias := g.Add(g.Reshape(c, s.Out), g.Param("E", sdk.Dims(s.Out), sdk.Zeros))
			bias = g.Add(bias, g.Add(g.B(), g.Mul(g.B(), g.Param("D", sdk.Dims(s.Out), sdk.Zeros))))
			return g.Add(g.MatMul(g.X(), g.T(w)), bias)
		}},
		"MiSS": {params: r * out, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			x := g.Reshape(g.X(), sdk.Tokens, s.In/r, r)
			return g.Add(g.Base(g.X()), g.MatMul(g.Sum(x, 1), g.Param("miss_block", sdk.Dims(r, s.Out), sdk.Zeros)))
		}},
		"FourierFT": {params: 100, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			c := g.Param("fourierft_spectrum", sdk.Dims(100), sdk.Normal(1))
			at := g.Param("at", sdk.Dims(100), sdk.Permutation(777, s.In*s.Out), sdk.Derived)
			return plus(g, g.Scale(150, g.IFFT2(g.Scatter(sdk.Dims(s.Out, s.In), c, at))))
		}},
		"SHiRA": {params: 100, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			v := g.Param("v", sdk.Dims(100), sdk.Zeros)
			at := g.Param("at", sdk.Dims(100), sdk.TopKAbsW, sdk.Derived)
			return rewritten(g, s, g.Add(g.W(), g.Scatter(sdk.Dims(s.Out, s.In), v, at)))
		}},
		// Kernels of block size 12; circulants by explicit positions.
		"C3A": {params: 5 * 2 * 12, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			const b = 12
			var at []int64
			for i := range b {
				for j := range b {
					at = append(at, int64((i-j+b)%b))
				}
			}
			k := g.Param("c3a_kernel", sdk.Dims(s.Out/b, s.In/b, b), sdk.XavierUniform)
			c := g.Gather(k, -1, g.Param("at", sdk.Dims(b*b), sdk.Indices(at...), sdk.Derived))
			c = g.Permute(g.Reshape(c, s.Out/b, s.In/b, b, b), 0, 2, 1, 3)
			return plus(g, g.Scale(1/float64(s.In), g.Reshape(c, s.Out, s.In)))
		}},
		"DeLoRA": {params: r*(in+out) + 1, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			a, b := pair(g, s)
			lambda := g.Param("delora_lambda", sdk.Dims(), sdk.Constant(15))
			norms := g.ClampMin(g.Mul(g.Norm(a, 1), g.Norm(b, 0)), 1e-4)
			d := g.MatMul(b, g.Mul(g.Reshape(g.Div(lambda, g.Scale(r, norms)), r, 1), a))
			return plus(g, g.Mul(d, g.Param("w_norm", sdk.Dims(s.In), sdk.ColNorm, sdk.Derived)))
		}},
		// The mixture of a vector bank shared by the model; the bank counts once.
		"VB-LoRA": {params: 16*6 + 4*r*16 + 10*r*16, modelwise: true, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			const h, v = 16, 6
			bank := g.Param("vblora_vector_bank", sdk.Dims(h, v), sdk.Uniform(0.02), sdk.PerModel)
			mix := func(name string, rows int) sdk.Node {
				l := g.Param(name, sdk.Dims(rows, h), sdk.Normal(0.1))
				e := g.Mul(g.Softmax(l, -1), g.TopKMask(l, -1, 2))
				return g.MatMul(g.Div(e, g.SumKeep(e, -1)), bank)
			}
			a := g.Reshape(mix("logits_A", r*s.In/v), r, s.In)
			b := g.T(g.Reshape(mix("logits_B", r*s.Out/v), r, s.Out))
			return g.Add(g.Base(g.X()), times(g, g.X(), a, b))
		}},
		// A bottleneck with a bend: legal, but not to be merged.
		"Adapter": {params: r * (in + out), nonlinear: true, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			a, b := pair(g, s)
			return g.Add(g.Base(g.X()), g.MatMul(g.GELU(g.MatMul(g.X(), g.T(a))), g.T(b)))
		}},
		"KaSA": {params: r*(in+out) + r, draw: func(g *sdk.Graph, s sdk.Site) sdk.Node {
			a, b := pair(g, s)
			l := g.Param("lambda", sdk.Dims(r), sdk.Ones)
			g.Aux("spectrum", 1e-4, g.Sum(g.Mul(l, l)))
			gram := g.Sub(g.MatMul(g.T(b), b), g.Eye(r))
			g.Aux("orthogonality", 1e-3, g.Norm(gram))
			return g.Add(g.Base(g.X()), g.MatMul(g.Mul(l, g.MatMul(g.X(), g.T(a))), g.T(b)))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			fc1 := sdktest.Sites()[1]
			other := &protocol.Site{Name: "other", Kind: protocol.Site_LINEAR, In: in, Out: out, Bias: true}
			one := sdktest.Draw(t, v.draw, fc1)
			typed := one.Sites[0]
			if typed.TrainableCount != v.params || one.Trainable != v.params {
				t.Errorf("%d trainable parameters, placed %d, want %d", typed.TrainableCount, one.Trainable, v.params)
			}
			if typed.Mergeable() == v.nonlinear {
				t.Errorf("mergeable is %v: y is %v in x", typed.Mergeable(), typed.Linearity[typed.Program.GetOutput()])
			}
			shared := typed.Trainable(protocol.Param_BLOCK) + typed.Trainable(protocol.Param_MODEL)
			if (shared > 0) != (v.blockwise || v.modelwise) {
				t.Errorf("%d parameters are shared", shared)
			}
			// A second layer of the same block shares what is shared.
			if two := sdktest.Draw(t, v.draw, fc1, other); two.Trainable != 2*v.params-shared {
				t.Errorf("two sites have %d trainable parameters, want %d", two.Trainable, 2*v.params-shared)
			}
			if !typed.Live[typed.Program.GetOutput()] || typed.From[typed.Program.GetOutput()]&program.FromX == 0 {
				t.Error("y does not come from x")
			}
		})
	}
}
