package main

import (
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/vit/design"
)

// variantCase is a variant with parameters, and its maths by hand.
type variantCase struct {
	variant, params string
	sites           []string
	// hand makes the adapters from the parameters, by name.
	hand func(params map[string]*torch.Tensor) map[string]vit.Adapter
}

var qv = []string{design.SiteQuery, design.SiteValue}

// each makes one adapter for query and one for value.
func each(f func(x *torch.Tensor, base vit.Linear, p func(string) *torch.Tensor) *torch.Tensor) func(map[string]*torch.Tensor) map[string]vit.Adapter {
	return func(params map[string]*torch.Tensor) map[string]vit.Adapter {
		out := map[string]vit.Adapter{}
		for _, site := range qv {
			out[site] = func(x *torch.Tensor, base vit.Linear) *torch.Tensor {
				return x.Device().Yield(func() *torch.Tensor {
					return f(x, base, func(name string) *torch.Tensor {
						if t := params["blocks.0."+site+"."+name]; t != nil {
							return t
						}
						return params[name] // of the model
					})
				})
			}
		}
		return out
	}
}

func lora(dropout float64) func(x *torch.Tensor, base vit.Linear, p func(string) *torch.Tensor) *torch.Tensor {
	return func(x *torch.Tensor, base vit.Linear, p func(string) *torch.Tensor) *torch.Tensor {
		y, d := base.Forward(x), x
		if dropout > 0 {
			d = x.Dropout(dropout)
		}
		return y.Add(d.MatMul(p("lora_A").T()).MatMul(p("lora_B").T()))
	}
}

const k, blockRank = 8, 16

var cases = []variantCase{
	{"lora", "rank: 16", qv, each(lora(0))},
	{"lora", "rank: 16, dropout: 0.1", qv, each(lora(0.1))},
	{"serial_lora", "rank: 32", []string{design.SiteQuery, design.SiteKey, design.SiteValue}, func(p map[string]*torch.Tensor) map[string]vit.Adapter {
		a, b := p["blocks.0.serial_A"], p["blocks.0.serial_B"]
		return map[string]vit.Adapter{vit.SiteQKV: func(x *torch.Tensor, base vit.Linear) *torch.Tensor {
			return x.Device().Yield(func() *torch.Tensor { return base.Forward(x.Add(x.MatMul(a.T()).MatMul(b.T()))) })
		}}
	}},
	{"localized_lora", "k: 8, rank: 16", qv, each(func(x *torch.Tensor, base vit.Linear, p func(string) *torch.Tensor) *torch.Tensor {
		// A batched product over the parts of the input, one over those of the
		// output.
		t, n := x.Dim(0), int64(dim/k)
		a := p("localized_A").Permute(0, 3, 1, 2).Reshape(k, n, k*blockRank) // [i, n, (j r)]
		b := p("localized_B").Permute(1, 0, 3, 2).Reshape(k, k*blockRank, n) // [j, (i r), o]
		h := x.Reshape(t, k, n).Transpose(0, 1).MatMul(a)                    // [i, t, (j r)]
		h = h.Reshape(k, t, k, blockRank).Permute(2, 1, 0, 3).Reshape(k, t, k*blockRank)
		return base.Forward(x).Add(h.MatMul(b).Transpose(0, 1).Reshape(t, dim))
	})},
	{"gralora", "rank: 32, k: 2, alpha: 32", qv, each(func(x *torch.Tensor, base vit.Linear, p func(string) *torch.Tensor) *torch.Tensor {
		t, n := x.Dim(0), int64(dim/2)
		h := x.Reshape(t, 2, n).Transpose(0, 1).MatMul(p("gralora_A")) // [i, t, (j r)]
		h = h.Reshape(2, t, 2, 16).Permute(2, 1, 0, 3).Reshape(2, t, 32)
		return base.Forward(x).Add(h.MatMul(p("gralora_B")).Transpose(0, 1).Reshape(t, dim))
	})},
	{"dora", "rank: 16", qv, each(func(x *torch.Tensor, base vit.Linear, p func(string) *torch.Tensor) *torch.Tensor {
		a, b := p("lora_A"), p("lora_B")
		n := base.W.Add(b.MatMul(a)).Norm(false, 1).Detach()
		y := torch.Linear(x, base.W, nil).Add(x.MatMul(a.T()).MatMul(b.T()))
		return p("lora_magnitude_vector").Div(n).Mul(y).Add(base.B)
	})},
	{"loha", "rank: 8", qv, each(func(x *torch.Tensor, base vit.Linear, p func(string) *torch.Tensor) *torch.Tensor {
		d := p("hada_w1_a").MatMul(p("hada_w1_b")).Mul(p("hada_w2_a").MatMul(p("hada_w2_b")))
		return base.Forward(x).Add(x.MatMul(d.T()))
	})},
	{"hira", "rank: 32", qv, each(func(x *torch.Tensor, base vit.Linear, p func(string) *torch.Tensor) *torch.Tensor {
		return base.Forward(x).Add(x.MatMul(base.W.Mul(p("hira_B").MatMul(p("hira_A"))).T()))
	})},
	{"vera", "rank: 256", qv, each(func(x *torch.Tensor, base vit.Linear, p func(string) *torch.Tensor) *torch.Tensor {
		a, b := p("vera_A").Narrow(1, 0, dim), p("vera_B").Narrow(0, 0, dim)
		h := p("vera_lambda_d").Mul(x.MatMul(a.T()))
		return base.Forward(x).Add(p("vera_lambda_b").Mul(h.MatMul(b.T())))
	})},
	{"ia3", "", qv, each(func(x *torch.Tensor, base vit.Linear, p func(string) *torch.Tensor) *torch.Tensor {
		return base.Forward(x).Mul(p("ia3_l"))
	})},
	{"oft", "blockSize: 32", qv, each(func(x *torch.Tensor, base vit.Linear, p func(string) *torch.Tensor) *torch.Tensor {
		const n, b = dim / 32, 32
		dev := x.Device()
		at := make([]int64, 0, b*(b-1)/2)
		for i := range int64(b) {
			for j := i + 1; j < b; j++ {
				at = append(at, i*b+j)
			}
		}
		index := torch.Of(dev, at, 1, int64(len(at))).Expand(n, int64(len(at)))
		upper := dev.Zeros(torch.Float32, n, b*b).Scatter(1, index, p("oft_R")).Reshape(n, b, b)
		q := upper.Sub(upper.T())
		eye := dev.Eye(torch.Float32, b)
		r := eye.Add(q).Solve(eye.Sub(q))
		y := x.Reshape(-1, n, b).Transpose(0, 1).MatMul(r).Transpose(0, 1).Reshape(-1, dim)
		return base.Forward(y)
	})},
	{"hra", "rank: 8", qv, each(func(x *torch.Tensor, base vit.Linear, p func(string) *torch.Tensor) *torch.Tensor {
		u := p("hra_u")
		u = u.Div(u.Norm(true, 0))
		for i := range int64(8) {
			c := u.Narrow(1, 7-i, 1) // W comes first in W H₀ … H₇
			x = x.Sub(x.MatMul(c).MatMul(c.T()).Scale(2))
		}
		return base.Forward(x)
	})},
}
