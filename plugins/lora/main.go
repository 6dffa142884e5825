// Command lora is the LoRA variant: a low-rank update beside a frozen layer,
//
//	y = base(x) + s · dropout(x) Aᵀ Bᵀ,  s = α/r
//
// of Hu et al., arXiv:2106.09685; with scaling "rslora" s = α/√r (Kalajdzievski,
// arXiv:2312.03732) and with lrRatio B learns faster than A (LoRA+, Hayou et
// al., arXiv:2402.12354).
package main

import (
	_ "embed"
	"fmt"
	"math"

	"github.com/loralab/loralab/plugins/sdk"
)

//go:embed schema.cue
var schema string

type lora struct {
	Rank           int
	Alpha, Dropout float64
	Scaling        string
	LRRatio        float64
}

// Check refuses a rank at which BA is as large as W and no longer low.
func (v lora) Check(s sdk.Site) []sdk.Problem {
	if most := min(s.In, s.Out); v.Rank > most {
		return []sdk.Problem{{
			Param:   "rank",
			Message: fmt.Sprintf("%d is more than the layer's smaller side, %d", v.Rank, most),
			Hint:    fmt.Sprintf("use a rank of at most %d", most),
		}}
	}
	return nil
}

func (v lora) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	a := g.Param("lora_A", sdk.Dims(v.Rank, s.In), sdk.KaimingUniform(math.Sqrt(5)))
	b := g.Param("lora_B", sdk.Dims(s.Out, v.Rank), sdk.Zeros, sdk.LR(v.LRRatio))
	scale := v.Alpha / float64(v.Rank)
	if v.Scaling == "rslora" {
		scale = v.Alpha / math.Sqrt(float64(v.Rank))
	}
	x := g.Dropout(g.X(), v.Dropout)
	return g.Add(g.Base(g.X()), g.Scale(scale, g.MatMul(g.MatMul(x, g.T(a)), g.T(b))))
}

var variant = sdk.Variant[lora]{
	Name: "lora", Version: "1.0.0", Paper: "arXiv:2106.09685",
	About:  "Low-rank update beside a frozen layer, with rsLoRA scaling and LoRA+ rates",
	Schema: schema, Formula: "y = base(x) + s · drop(x) Aᵀ Bᵀ", Parameters: "rank*(in+out)", PEFT: "LORA",
}

func main() { sdk.Serve(variant) }
