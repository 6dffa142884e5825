// Command hira is the HiRA variant: a low-rank matrix scales the frozen weight
// element by element, which makes an update of high rank,
//
//	y = base(x) + drop(x) (W ⊙ BA)ᵀ
//
// of Huang et al., "HiRA: Parameter-Efficient Hadamard High-Rank Adaptation",
// ICLR 2025. B starts at zero; there is no scale.
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

type hira struct {
	Rank    int
	Dropout float64
	Init    string
}

// Check wants a weight to scale, and a rank at which BA is smaller than it.
func (v hira) Check(s sdk.Site) []sdk.Problem {
	if s.Kind == sdk.Stream {
		return []sdk.Problem{{
			Message: fmt.Sprintf("%s is a stream and has no weight to scale", s.Name),
			Hint:    "target linear layers: query, key, value, output, fc1 or fc2",
		}}
	}
	return lowrank.Check(v.Rank, s)
}

func (v hira) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	start := sdk.KaimingUniform(math.Sqrt(5))
	if v.Init == "gaussian" {
		start = sdk.Normal(1 / float64(v.Rank))
	}
	a := g.Param("hira_A", sdk.Dims(v.Rank, s.In), start)
	b := g.Param("hira_B", sdk.Dims(s.Out, v.Rank), sdk.Zeros)
	g.PEFT("hira_A", a)
	g.PEFT("hira_B", b)
	delta := g.Mul(g.W(), g.MatMul(b, a))
	return g.Add(g.Base(g.X()), g.MatMul(g.Dropout(g.X(), v.Dropout), g.T(delta)))
}

// PEFTConfig is none for the patch embedding, of whose convolution PEFT keeps
// the kernel's shape.
func (v hira) PEFTConfig(sites []sdk.Site) map[string]any {
	if slices.ContainsFunc(sites, func(at sdk.Site) bool { return at.Kind == sdk.Patch }) {
		return nil
	}
	start := any(true)
	if v.Init == "gaussian" {
		start = v.Init
	}
	return map[string]any{
		"peft_type": "HIRA", "r": v.Rank, "hira_dropout": v.Dropout, "init_weights": start, "rank_pattern": map[string]any{},
	}
}

func adopt(config map[string]any, _ []sdk.Site) (hira, []sdk.Problem) {
	s := sdk.ReadSettings(config, "HIRA")
	v := hira{Rank: s.Int("r", 32), Dropout: s.Number("hira_dropout", 0), Init: "kaiming"}
	if config["init_weights"] == "gaussian" {
		v.Init = "gaussian"
	}
	s.Ignore("init_weights")
	s.Refuse("rank_pattern", "all layers have one rank")
	return v, s.Problems()
}

var variant = sdk.Variant[hira]{
	Name: "hira", Version: "1.0.0", Paper: "https://openreview.net/forum?id=TwJrTz9cRS",
	About:   "A low-rank matrix scales the frozen weight element by element",
	Schema:  schema,
	Formula: "y = base(x) + drop(x) (W ⊙ BA)ᵀ", Parameters: "rank*(in+out)", PEFT: "HIRA", Adopt: adopt,
	Examples: []string{"rank: 2", "rank: 3, dropout: 0.25, init: \"gaussian\""},
}

func main() { sdk.Serve(variant) }
