// Command loha is the LoHa variant: the update is the element-wise product of
// two low-rank matrices, so that its rank reaches r²,
//
//	y = base(x) + s · x ΔWᵀ,  ΔW = (w1a w1b) ⊙ (w2a w2b),  s = α/r
//
// the low-rank Hadamard product of FedPara (Hyeon-Woo et al., arXiv:2108.06098)
// as LyCORIS and PEFT use it for adapters. w2b starts at zero.
package main

import (
	_ "embed"
	"math"
	"slices"

	"github.com/loralab/loralab/plugins/lowrank"
	"github.com/loralab/loralab/plugins/sdk"
)

//go:embed schema.cue
var schema string

type loha struct {
	Rank  int
	Alpha float64
}

// Check refuses a rank at which one factor alone is as large as W.
func (v loha) Check(s sdk.Site) []sdk.Problem { return lowrank.Check(v.Rank, s) }

func (v loha) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	kaiming := sdk.KaimingUniform(math.Sqrt(5))
	w1a := g.Param("hada_w1_a", sdk.Dims(s.Out, v.Rank), kaiming)
	w1b := g.Param("hada_w1_b", sdk.Dims(v.Rank, s.In), kaiming)
	w2a := g.Param("hada_w2_a", sdk.Dims(s.Out, v.Rank), kaiming)
	w2b := g.Param("hada_w2_b", sdk.Dims(v.Rank, s.In), sdk.Zeros)
	g.PEFT("hada_w1_a", w1a)
	g.PEFT("hada_w1_b", w1b)
	g.PEFT("hada_w2_a", w2a)
	g.PEFT("hada_w2_b", w2b)
	delta := g.Mul(g.MatMul(w1a, w1b), g.MatMul(w2a, w2b))
	delta = g.Scale(v.Alpha/float64(v.Rank), delta)
	return g.Add(g.Base(g.X()), g.MatMul(g.X(), g.T(delta)))
}

// PEFTConfig is the same for the patch embedding, whose convolution PEFT takes
// as a matrix unless use_effective_conv2d is set.
func (v loha) PEFTConfig([]sdk.Site) map[string]any {
	return map[string]any{
		"peft_type": "LOHA", "r": v.Rank, "alpha": v.Alpha, "use_effective_conv2d": false,
		"rank_dropout": 0, "module_dropout": 0, "rank_pattern": map[string]any{}, "alpha_pattern": map[string]any{},
	}
}

func adopt(config map[string]any, sites []sdk.Site) (loha, []sdk.Problem) {
	s := sdk.ReadSettings(config, "LOHA")
	v := loha{Rank: s.Int("r", 8), Alpha: s.Number("alpha", 8)}
	s.Ignore("init_weights")
	if !slices.ContainsFunc(sites, func(at sdk.Site) bool { return at.Kind == sdk.Patch }) {
		s.Ignore("use_effective_conv2d") // about convolutions
	}
	s.Refuse("rank_pattern", "all layers have one rank")
	s.Refuse("alpha_pattern", "all layers have one alpha")
	return v, s.Problems()
}

var variant = sdk.Variant[loha]{
	Name: "loha", Version: "1.0.0", Paper: "arXiv:2108.06098",
	About:   "Element-wise product of two low-rank updates; rank up to rank²",
	Schema:  schema,
	Formula: "y = base(x) + s · x ((w1a w1b) ⊙ (w2a w2b))ᵀ", Parameters: "2*rank*(in+out)", PEFT: "LOHA", Adopt: adopt,
	Examples: []string{"rank: 2", "rank: 3, alpha: 1.5"},
}

func main() { sdk.Serve(variant) }
