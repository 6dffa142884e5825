// Command lokr is the LoKr variant: the update is a Kronecker product,
//
//	y = base(x) + s · x ΔWᵀ,  ΔW = w1 ⊗ w2,  s = α/r
//
// of LyCORIS (Yeh et al., arXiv:2309.14859) as PEFT has it. out = ol·ok and
// in = im·in' are split into the divisors nearest their square roots, or
// nearest a given factor; w1 is [ol, im], w2 is [ok, in'], each a product of
// two factors of rank r where that is smaller. The Kronecker product is never
// formed: with x as [T, im, in'] the update is w2 on the last dimension, then
// w1 on the one before.
package main

import (
	_ "embed"
	"math"
	"slices"

	"github.com/loralab/loralab/plugins/sdk"
)

//go:embed schema.cue
var schema string

type lokr struct {
	Rank          int
	Alpha         float64
	Factor        int
	DecomposeBoth bool
	Init          string
}

// split writes n as a·b, a ≤ b unless factor says otherwise: factor·(n/factor)
// if factor divides n, else the divisors nearest to each other with a at most
// factor (-1: any). It is PEFT's factorization, which stops at the first
// divisor that brings them no closer.
func split(n, factor int) (a, b int) {
	if factor > 0 && n%factor == 0 {
		return factor, n / factor
	}
	if factor < 0 {
		factor = n
	}
	a, b = 1, n
	for sum := a + b; a < b; {
		next := a + 1
		for n%next != 0 {
			next++
		}
		if next+n/next > sum || next > factor {
			break
		}
		a, b = next, n/next
	}
	return min(a, b), max(a, b)
}

// factor declares a matrix [rows, cols], in two factors of rank r if low. The
// part to start at zero is the left factor of w1 or the right one of w2.
func (v lokr) factor(g *sdk.Graph, name string, rows, cols int, low, zeroLeft, zeroRight bool) sdk.Node {
	kaiming := sdk.KaimingUniform(math.Sqrt(5))
	start := func(zero bool) sdk.Init {
		if zero {
			return sdk.Zeros
		}
		return kaiming
	}
	if !low {
		w := g.Param(name, sdk.Dims(rows, cols), start(zeroLeft || zeroRight))
		g.PEFT(name, w)
		return w
	}
	a := g.Param(name+"_a", sdk.Dims(rows, v.Rank), start(zeroLeft))
	b := g.Param(name+"_b", sdk.Dims(v.Rank, cols), start(zeroRight))
	g.PEFT(name+"_a", a)
	g.PEFT(name+"_b", b)
	return g.MatMul(a, b)
}

func (v lokr) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	ol, ok := split(s.Out, v.Factor)
	im, in := split(s.In, v.Factor)
	low := func(rows, cols int) bool { return 2*v.Rank < max(rows, cols) }
	right := v.Init == "lycoris"
	w1 := v.factor(g, "lokr_w1", ol, im, v.DecomposeBoth && low(ol, im), !right, false)
	w2 := v.factor(g, "lokr_w2", ok, in, low(ok, in), false, right)

	h := g.MatMul(g.Reshape(g.X(), sdk.Tokens, im, in), g.T(w2)) // [T, im, ok]
	h = g.Reshape(g.MatMul(w1, h), sdk.Tokens, s.Out)            // [T, ol, ok]
	return g.Add(g.Base(g.X()), g.Scale(v.Alpha/float64(v.Rank), h))
}

// PEFTConfig is none for the patch embedding: PEFT splits the channels of its
// convolution there and keeps the pixels of a patch apart.
func (v lokr) PEFTConfig(sites []sdk.Site) map[string]any {
	if slices.ContainsFunc(sites, func(at sdk.Site) bool { return at.Kind == sdk.Patch }) {
		return nil
	}
	start := any(true)
	if v.Init == "lycoris" {
		start = "lycoris"
	}
	return map[string]any{
		"peft_type": "LOKR", "r": v.Rank, "alpha": v.Alpha, "init_weights": start,
		"decompose_both": v.DecomposeBoth, "decompose_factor": v.Factor, "use_effective_conv2d": false,
		"rank_dropout": 0, "rank_dropout_scale": false, "module_dropout": 0,
		"rank_pattern": map[string]any{}, "alpha_pattern": map[string]any{},
	}
}

func adopt(config map[string]any, _ []sdk.Site) (lokr, []sdk.Problem) {
	s := sdk.ReadSettings(config, "LOKR")
	v := lokr{
		Rank: s.Int("r", 8), Alpha: s.Number("alpha", 8), Factor: s.Int("decompose_factor", -1),
		DecomposeBoth: s.Bool("decompose_both", false), Init: "default",
	}
	if config["init_weights"] == "lycoris" {
		v.Init = "lycoris"
	}
	s.Ignore("init_weights", "use_effective_conv2d", "rank_dropout_scale")
	s.Refuse("rank_pattern", "all layers have one rank")
	s.Refuse("alpha_pattern", "all layers have one alpha")
	return v, s.Problems()
}

var variant = sdk.Variant[lokr]{
	Name: "lokr", Version: "1.0.0", Paper: "arXiv:2309.14859",
	About:   "Kronecker product of two small matrices, the larger one low-rank",
	Schema:  schema,
	Formula: "y = base(x) + s · x (w1 ⊗ w2)ᵀ", PEFT: "LOKR", Adopt: adopt,
	Examples: []string{"rank: 1", "rank: 64, alpha: 4", "rank: 1, factor: 4, decomposeBoth: true", "rank: 2, init: \"lycoris\""},
}

func main() { sdk.Serve(variant) }
