// Command serial_lora is the Serial LoRA variant: a low-rank update of the
// input, before the frozen layer instead of beside it,
//
//	y = base(x + x Aᵀ Bᵀ),  A [r, in], B [in, r]
//
// of Zhong et al., arXiv:2503.17750. What the layer learns stays within what W
// can reach, and one pair serves query, key and value of a block, which read
// the same input: a quarter of the parameters of LoRA on all four projections.
// Layers with an input of their own have a pair of their own.
//
// The implementation this project reproduces gives each layer its own pair
// (share "site"). Neither scales the update.
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

type serial struct {
	Rank    int
	Share   string
	LRRatio float64
}

// Check refuses a rank at which AᵀBᵀ is as large as a full matrix.
func (v serial) Check(s sdk.Site) []sdk.Problem {
	if v.Rank <= s.In {
		return nil
	}
	return []sdk.Problem{{
		Param:   "rank",
		Message: fmt.Sprintf("%d is more than the %d inputs of the layer", v.Rank, s.In),
		Hint:    fmt.Sprintf("use a rank of at most %d", s.In),
	}}
}

// sameInput are the layers of a block that read one input.
var sameInput = []string{"query", "key", "value"}

func (v serial) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	options := []sdk.Option{}
	if v.Share == "block" && slices.Contains(sameInput, s.Name) {
		options = append(options, sdk.PerBlock)
	}
	a := g.Param("serial_A", sdk.Dims(v.Rank, s.In), sdk.KaimingUniform(math.Sqrt(5)), options...)
	b := g.Param("serial_B", sdk.Dims(s.In, v.Rank), sdk.Zeros, append(options, sdk.LR(v.LRRatio))...)
	y := g.Base(g.Add(g.X(), g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(b))))

	// W(x + BAx) = Wx + (WB)Ax is a LoRA beside the layer.
	if s.Kind != sdk.Stream {
		g.PEFT("lora_A.weight", a)
		g.PEFT("lora_B.weight", g.MatMul(g.W(), b))
	}
	return y
}

// PEFTConfig is that of the LoRA it is equal to, with scale 1.
func (v serial) PEFTConfig(sites []sdk.Site) map[string]any {
	return lowrank.PEFTConfig(sites, v.Rank, float64(v.Rank), 0)
}

var variant = sdk.Variant[serial]{
	Name: "serial_lora", Version: "1.0.0", Paper: "arXiv:2503.17750",
	About:  "Low-rank update of the input of a frozen layer, one for query, key and value of a block",
	Schema: schema, Formula: "y = base(x + x Aᵀ Bᵀ)", Parameters: "2*rank*in",
	PEFT:     "LORA",
	Examples: []string{"rank: 4", `rank: 2, share: "site", lrRatio: 16`},
}

func main() { sdk.Serve(variant) }
