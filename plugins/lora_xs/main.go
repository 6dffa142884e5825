// Command lora_xs is the LoRA-XS variant: an update within the largest singular
// directions of the weight, mixed by a small square matrix,
//
//	y = base(x) + s · x Aᵀ Rᵀ Bᵀ,  W ≈ U_r S_r V_rᵀ,  A = V_rᵀ,  B = U_r S_r,  s = α/r
//
// of Bałazy et al., arXiv:2405.17604. Only R [r, r] is trained: the number of
// parameters does not depend on the layer.
package main

import (
	_ "embed"
	"fmt"

	"github.com/loralab/loralab/plugins/lowrank"
	"github.com/loralab/loralab/plugins/sdk"
)

//go:embed schema.cue
var schema string

type loraXS struct {
	Rank       int
	Alpha, Std float64
}

// Check refuses streams, and a rank that W does not have.
func (v loraXS) Check(s sdk.Site) []sdk.Problem {
	if s.Kind == sdk.Stream {
		return []sdk.Problem{{
			Message: fmt.Sprintf("%s is a stream: it has no weight whose directions lora_xs could mix", s.Name),
			Hint:    "adapt the layers that read it",
		}}
	}
	return lowrank.Check(v.Rank, s)
}

func (v loraXS) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	// Stored, though W gives them: the sign of a singular vector is up to the
	// library that computes it, and R belongs to one choice.
	a := g.Param("xs_A", sdk.Dims(v.Rank, s.In), sdk.SVDRight, sdk.Frozen)
	b := g.Param("xs_B", sdk.Dims(s.Out, v.Rank), sdk.SVDLeft.Power(1), sdk.Frozen)
	start := sdk.Zeros
	if v.Std > 0 {
		start = sdk.Normal(v.Std)
	}
	r := g.Param("xs_R", sdk.Dims(v.Rank, v.Rank), start)
	update := g.MatMul(g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(r)), g.T(b))
	y := g.Add(g.Base(g.X()), g.Scale(v.Alpha/float64(v.Rank), update))
	g.PEFT("lora_A.weight", a)
	g.PEFT("lora_B.weight", g.MatMul(b, r))
	return y
}

// PEFTConfig is that of the LoRA it is equal to.
func (v loraXS) PEFTConfig(sites []sdk.Site) map[string]any {
	return lowrank.PEFTConfig(sites, v.Rank, v.Alpha, 0)
}

var variant = sdk.Variant[loraXS]{
	Name: "lora_xs", Version: "1.0.0", Paper: "arXiv:2405.17604",
	About:  "A small square matrix between frozen singular directions of the weight",
	Schema: schema, Formula: "y = base(x) + s · x Aᵀ Rᵀ Bᵀ, A and B from the svd of W", Parameters: "rank*rank",
	ChangesStart: true, PEFT: "LORA",
	Examples: []string{"rank: 4", "rank: 3, alpha: 6", "rank: 2, std: 0"},
}

func main() { sdk.Serve(variant) }
