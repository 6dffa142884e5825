// Command localized_lora is the Localized LoRA variant: the weight is cut into
// K × K blocks, and each has a low-rank update of its own,
//
//	y_j = base(x)_j + s · Σ_i x_i A_ijᵀ B_ijᵀ,  s = α/r
//
// with x_i the i-th of K parts of the input, y_j the j-th of the output,
// A_ij [r, in/K] and B_ij [out/K, r] (Barazandeh et al., arXiv:2506.00236). It
// has as many parameters as a LoRA of rank K·r, and its update may have rank
// K²·r. K = 1 is LoRA.
package main

import (
	_ "embed"
	"fmt"
	"math"
	"slices"

	"github.com/loralab/loralab/plugins/lowrank"
	"github.com/loralab/loralab/plugins/sdk"
)

//go:embed schema.cue
var schema string

type localized struct {
	K     int
	Rank  int // of a block
	Alpha float64
}

// Check refuses a K that leaves a remainder and a rank at which the update of a
// block is as large as the block.
func (v localized) Check(s sdk.Site) []sdk.Problem {
	if found := lowrank.CheckBlocks(v.K, s); found != nil {
		return found
	}
	if most := min(s.In, s.Out) / v.K; v.Rank > most {
		return []sdk.Problem{{
			Param:   "rank",
			Message: fmt.Sprintf("%d is more than the smaller side of a block, %d", v.Rank, most),
			Hint:    fmt.Sprintf("use a rank of at most %d, or a smaller k", most),
		}}
	}
	return nil
}

func (v localized) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	k, r, in, out := v.K, v.Rank, s.In/v.K, s.Out/v.K
	// The bound of A is 1/√(in/K): √K times that of a LoRA on the layer.
	a := g.Param("localized_A", sdk.Dims(k, k, r, in), sdk.KaimingUniform(math.Sqrt(5)))
	b := g.Param("localized_B", sdk.Dims(k, k, out, r), sdk.Zeros)
	h := g.Einsum("tin,ijrn->tijr", g.Reshape(g.X(), sdk.Tokens, k, in), a)
	update := g.Reshape(g.Einsum("tijr,ijor->tjo", h, b), sdk.Tokens, s.Out)
	y := g.Add(g.Base(g.X()), g.Scale(v.Alpha/float64(r), update))

	// GraLoRA of rank K·r stores, for each part of the input, the A of all
	// parts of the output side by side, and the other way round for B.
	g.PEFT("gralora_A", g.Reshape(g.Permute(a, 0, 3, 1, 2), k, in, k*r))
	g.PEFT("gralora_B", g.Reshape(g.Permute(b, 1, 0, 3, 2), k, k*r, out))
	return y
}

// PEFTConfig is that of the GraLoRA it is equal to, which PEFT has for linear layers.
func (v localized) PEFTConfig(sites []sdk.Site) map[string]any {
	if slices.ContainsFunc(sites, func(s sdk.Site) bool { return s.Kind == sdk.Patch }) {
		return nil
	}
	k := float64(v.K)
	return map[string]any{
		"peft_type": "GRALORA", "r": v.K * v.Rank, "gralora_k": v.K, "hybrid_r": 0,
		"alpha": k * v.Alpha, "gralora_dropout": 0, "init_weights": true,
		"bias": "none", "fan_in_fan_out": false,
	}
}

// adopt reads a GraLoRA without a hybrid part.
func adopt(config map[string]any, _ []sdk.Site) (localized, []sdk.Problem) {
	s := sdk.ReadSettings(config, "GRALORA")
	v := localized{K: s.Int("gralora_k", 2)}
	r, alpha := s.Int("r", 32), s.Number("alpha", 64)
	if v.K < 1 || r%v.K != 0 {
		s.Problem("r", fmt.Sprintf("%d is not a multiple of gralora_k, %d", r, v.K), "")
		v.K = 1
	}
	v.Rank, v.Alpha = r/v.K, alpha/float64(v.K)
	s.Ignore("init_weights")
	s.Refuse("bias", "biases of the backbone that were trained with the adapter are not read")
	s.Refuse("gralora_dropout", `use the variant "gralora"`)
	s.Refuse("hybrid_r", `use the variant "gralora"`)
	return v, s.Problems()
}

var variant = sdk.Variant[localized]{
	Name: "localized_lora", Version: "1.0.0", Paper: "arXiv:2506.00236",
	About:  "A low-rank update for each of K × K blocks of the weight",
	Schema: schema, Formula: "y_j = base(x)_j + s · Σ_i x_i A_ijᵀ B_ijᵀ", Parameters: "k*rank*(in+out)",
	PEFT: "GRALORA", Adopt: adopt,
	Examples: []string{"k: 2, rank: 2", "k: 1, rank: 3", "k: 2, rank: 3, alpha: 5", "k: 4, rank: 1"},
}

func main() { sdk.Serve(variant) }
