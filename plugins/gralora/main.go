// Command gralora is the GraLoRA variant: input and output are cut into K parts,
// and each of the K × K blocks of the weight has a low-rank update of its own,
//
//	y_j = base(x)_j + s · Σ_i x_i A_i[j] B_j[i] + s · (x Aᵀ Bᵀ)_j,  s = α/(r + h)
//
// of Jung et al., arXiv:2505.20355. A_i [in/K, r] and B_j [r, out/K] have K
// slices of r/K columns and rows: A_i[j] leads from input part i to output part
// j and B_j[i] takes it from there. It has as many parameters as a LoRA of rank
// r. The last term, with h = hybridRank, is the paper's hybrid: a LoRA across
// all blocks, against outliers.
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

type gralora struct {
	Rank, K, HybridRank int
	Alpha, Dropout      float64
}

// Check refuses a K that does not divide, and ranks at which an update is as
// large as what it updates.
func (v gralora) Check(s sdk.Site) []sdk.Problem {
	if found := lowrank.CheckBlocks(v.K, s); found != nil {
		return found
	}
	found := lowrank.Check(v.Rank, s)
	if v.Rank%v.K != 0 {
		found = append(found, sdk.Problem{
			Param:   "rank",
			Message: fmt.Sprintf("%d is not a multiple of k, %d", v.Rank, v.K),
			Hint:    fmt.Sprintf("use %d", (v.Rank+v.K-1)/v.K*v.K),
		})
	}
	for _, p := range lowrank.Check(v.HybridRank, s) {
		p.Param = "hybridRank"
		found = append(found, p)
	}
	return found
}

func (v gralora) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	k, r, in, out := v.K, v.Rank, s.In/v.K, s.Out/v.K
	kaiming := sdk.KaimingUniform(math.Sqrt(5))
	a := g.Param("gralora_A", sdk.Dims(k, in, r), kaiming.Fan(float64(in)))
	b := g.Param("gralora_B", sdk.Dims(k, r, out), sdk.Zeros)
	// By block: A_ij [r/K, in/K] and B_ij [out/K, r/K].
	aij := g.Permute(g.Reshape(a, k, in, k, r/k), 0, 2, 3, 1)
	bij := g.Permute(g.Reshape(b, k, k, r/k, out), 1, 0, 3, 2)
	x := g.Dropout(g.X(), v.Dropout)
	h := g.Einsum("tin,ijrn->tijr", g.Reshape(x, sdk.Tokens, k, in), aij)
	update := g.Reshape(g.Einsum("tijr,ijor->tjo", h, bij), sdk.Tokens, s.Out)
	if v.HybridRank > 0 {
		ha := g.Param("gralora_A_general", sdk.Dims(v.HybridRank, s.In), kaiming)
		hb := g.Param("gralora_B_general", sdk.Dims(s.Out, v.HybridRank), sdk.Zeros)
		// PEFT draws a dropout of its own for this term.
		x := g.Dropout(g.X(), v.Dropout)
		update = g.Add(update, g.MatMul(g.MatMul(x, g.T(ha)), g.T(hb)))
		g.PEFT("gralora_A_general.weight", ha)
		g.PEFT("gralora_B_general.weight", hb)
	}
	y := g.Add(g.Base(g.X()), g.Scale(v.Alpha/float64(v.Rank+v.HybridRank), update))
	g.PEFT("gralora_A", a)
	g.PEFT("gralora_B", b)
	return y
}

// PEFTConfig is that of GraLoRA, which PEFT has for linear layers.
func (v gralora) PEFTConfig(sites []sdk.Site) map[string]any {
	if slices.ContainsFunc(sites, func(s sdk.Site) bool { return s.Kind == sdk.Patch }) {
		return nil
	}
	return map[string]any{
		"peft_type": "GRALORA", "r": v.Rank, "gralora_k": v.K, "hybrid_r": v.HybridRank,
		"alpha": v.Alpha, "gralora_dropout": v.Dropout, "init_weights": true,
		"bias": "none", "fan_in_fan_out": false,
	}
}

func adopt(config map[string]any, _ []sdk.Site) (gralora, []sdk.Problem) {
	s := sdk.ReadSettings(config, "GRALORA")
	v := gralora{
		Rank: s.Int("r", 32), K: s.Int("gralora_k", 2), HybridRank: s.Int("hybrid_r", 0),
		Alpha: s.Number("alpha", 64), Dropout: s.Number("gralora_dropout", 0),
	}
	s.Ignore("init_weights")
	s.Refuse("bias", "biases of the backbone that were trained with the adapter are not read")
	return v, s.Problems()
}

var variant = sdk.Variant[gralora]{
	Name: "gralora", Version: "1.0.0", Paper: "arXiv:2505.20355",
	About:  "Low-rank updates of K × K blocks of the weight, with the parameters of one LoRA",
	Schema: schema, Formula: "y_j = base(x)_j + s · Σ_i x_i A_i[j] B_j[i]", Parameters: "(rank+hybridRank)*(in+out)",
	PEFT: "GRALORA", Adopt: adopt,
	Examples: []string{"rank: 4", "rank: 6, alpha: 3", "rank: 4, k: 4, dropout: 0.25", "rank: 4, hybridRank: 3", "rank: 3, k: 1"},
}

func main() { sdk.Serve(variant) }
