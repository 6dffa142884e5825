// Command lora_fa is the LoRA-FA variant: LoRA with A frozen as it was drawn,
//
//	y = base(x) + s · dropout(x) Aᵀ Bᵀ,  s = α/r,  only B is trained
//
// of Zhang et al., arXiv:2308.03303. What has to be kept for the gradient is
// x Aᵀ instead of x.
package main

import (
	_ "embed"
	"math"

	"github.com/loralab/loralab/plugins/lowrank"
	"github.com/loralab/loralab/plugins/sdk"
)

//go:embed schema.cue
var schema string

type loraFA struct {
	Rank           int
	Alpha, Dropout float64
}

// Check refuses a rank at which BA is as large as W and no longer low.
func (v loraFA) Check(s sdk.Site) []sdk.Problem {
	return lowrank.Check(v.Rank, s)
}

func (v loraFA) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	a := g.Param("lora_A", sdk.Dims(v.Rank, s.In), sdk.KaimingUniform(math.Sqrt(5)), sdk.Frozen)
	b := g.Param("lora_B", sdk.Dims(s.Out, v.Rank), sdk.Zeros)
	x := g.Dropout(g.X(), v.Dropout)
	update := g.MatMul(g.MatMul(x, g.T(a)), g.T(b))
	y := g.Add(g.Base(g.X()), g.Scale(v.Alpha/float64(v.Rank), update))
	g.PEFT("lora_A.weight", a)
	g.PEFT("lora_B.weight", b)
	return y
}

// PEFTConfig is that of a plain LoRA: in PEFT it is the optimiser that leaves
// A alone.
func (v loraFA) PEFTConfig(sites []sdk.Site) map[string]any {
	return lowrank.PEFTConfig(sites, v.Rank, v.Alpha, v.Dropout)
}

func adopt(config map[string]any, _ []sdk.Site) (loraFA, []sdk.Problem) {
	a, problems := lowrank.Adopt(config, false)
	return loraFA{Rank: a.Rank, Alpha: a.PlainAlpha(), Dropout: a.Dropout}, problems
}

var variant = sdk.Variant[loraFA]{
	Name: "lora_fa", Version: "1.0.0", Paper: "arXiv:2308.03303",
	About:  "LoRA with A frozen: half the parameters, less to keep for the gradient",
	Schema: schema, Formula: "y = base(x) + s · drop(x) Aᵀ Bᵀ, A frozen", Parameters: "rank*out",
	PEFT: "LORA", Adopt: adopt,
	Examples: []string{"rank: 4", "rank: 3, alpha: 6", "rank: 2, dropout: 0.25"},
}

func main() { sdk.Serve(variant) }
