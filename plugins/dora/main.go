// Command dora is the DoRA variant: the weight is taken apart into the length
// of its rows and their direction, which a low-rank update turns,
//
//	y = (m/n) ⊙ (x Vᵀ) + b,  V = W + s·BA,  n = ‖V‖ by row,  s = α/r
//
// of Liu et al., arXiv:2402.09353. m starts as the row lengths of W. As in
// section 4.3 of the paper and in PEFT, no gradient passes through n. With
// dropout, only what training adds to the frozen layer sees the dropped input,
// as in PEFT:
//
//	y = base(x) − x̃ Wᵀ + (m/n) ⊙ (x̃ Vᵀ),  x̃ = dropout(x)
package main

import (
	_ "embed"
	"fmt"
	"math"

	"github.com/loralab/loralab/plugins/lowrank"
	"github.com/loralab/loralab/plugins/sdk"
)

//go:embed schema.cue
var schema string

type dora struct {
	Rank           int
	Alpha, Dropout float64
}

// Check refuses streams, and a rank at which BA is as large as W and no longer
// low.
func (v dora) Check(s sdk.Site) []sdk.Problem {
	if s.Kind == sdk.Stream {
		return []sdk.Problem{{
			Message: fmt.Sprintf("%s is a stream: it has no weight whose rows dora could scale", s.Name),
			Hint:    "adapt the layers that read it",
		}}
	}
	return lowrank.Check(v.Rank, s)
}

func (v dora) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	a := g.Param("lora_A", sdk.Dims(v.Rank, s.In), sdk.KaimingUniform(math.Sqrt(5)))
	b := g.Param("lora_B", sdk.Dims(s.Out, v.Rank), sdk.Zeros)
	m := g.Param("lora_magnitude_vector", sdk.Dims(s.Out), sdk.RowNorm)
	scale := v.Alpha / float64(v.Rank)

	x := g.Dropout(g.X(), v.Dropout)
	frozen := g.MatMul(x, g.T(g.W()))
	// x Vᵀ by its parts: the gradient of B and A is then low-rank work.
	turned := g.Add(frozen, g.Scale(scale, g.MatMul(g.MatMul(x, g.T(a)), g.T(b))))
	n := g.Detach(g.Norm(g.Add(g.W(), g.Scale(scale, g.MatMul(b, a))), 1))
	y := g.Mul(g.Div(m, n), turned)
	switch {
	case v.Dropout > 0:
		y = g.Add(g.Sub(g.Base(g.X()), frozen), y)
	case s.Bias:
		y = g.Add(y, g.B())
	}
	g.PEFT("lora_A.weight", a)
	g.PEFT("lora_B.weight", b)
	g.PEFT("lora_magnitude_vector", m)
	return y
}

// PEFTConfig is that of a LoRA with use_dora.
func (v dora) PEFTConfig(sites []sdk.Site) map[string]any {
	config := lowrank.PEFTConfig(sites, v.Rank, v.Alpha, v.Dropout)
	if config != nil {
		config["use_dora"] = true
	}
	return config
}

func adopt(config map[string]any, _ []sdk.Site) (dora, []sdk.Problem) {
	a, problems := lowrank.Adopt(config, true)
	return dora{Rank: a.Rank, Alpha: a.PlainAlpha(), Dropout: a.Dropout}, problems
}

var variant = sdk.Variant[dora]{
	Name: "dora", Version: "1.0.0", Paper: "arXiv:2402.09353",
	About:  "Low-rank update of the direction of the weight's rows, and their lengths",
	Schema: schema, Formula: "y = (m/n) ⊙ (x Vᵀ) + b, V = W + s·BA, n = ‖V‖ by row", Parameters: "rank*(in+out)+out",
	PEFT: "LORA", Adopt: adopt,
	Examples: []string{"rank: 4", "rank: 3, alpha: 6", "rank: 2, dropout: 0.25"},
}

func main() { sdk.Serve(variant) }
