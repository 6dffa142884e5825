// Command vera is the VeRA variant: two frozen random matrices are shared by
// the whole model, and only two vectors are trained at each site,
//
//	y = base(x) + λb ⊙ (B (λd ⊙ (A drop(x)))),
//
// of Kopiczko et al., arXiv:2310.11454. A [r, max in] and B [max out, r] are
// drawn once from the key, the same for every seed, and cut to the size of a
// layer. λb starts at zero.
package main

import (
	_ "embed"
	"slices"

	"github.com/loralab/loralab/plugins/sdk"
)

//go:embed schema.cue
var schema string

type vera struct {
	Rank     int
	Dropout  float64
	DInitial float64
	Key      uint64
}

func (v vera) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	// √(6/fan), as PEFT draws them.
	shared := func(name string, dims ...int) sdk.Node {
		return g.Param(name, dims, sdk.Seeded(v.Key, dims, sdk.KaimingUniform(0)), sdk.PerModel, sdk.Derived)
	}
	a, b := shared("vera_A", v.Rank, s.MaxIn), shared("vera_B", s.MaxOut, v.Rank)
	d := g.Param("vera_lambda_d", sdk.Dims(v.Rank), sdk.Constant(v.DInitial))
	l := g.Param("vera_lambda_b", sdk.Dims(s.Out), sdk.Zeros)

	g.PEFT("vera_lambda_d", d)
	g.PEFT("vera_lambda_b", l)
	g.PEFTModel("vera_A", a)
	g.PEFTModel("vera_B", b)

	x := g.Dropout(g.X(), v.Dropout)
	h := g.Mul(d, g.MatMul(x, g.T(g.Slice(a, 1, 0, s.In))))
	h = g.Mul(l, g.MatMul(h, g.T(g.Slice(b, 0, 0, s.Out))))
	return g.Add(g.Base(g.X()), h)
}

// PEFTConfig stores the matrices: PEFT would draw others from the key. It has
// VeRA for linear layers only.
func (v vera) PEFTConfig(sites []sdk.Site) map[string]any {
	if slices.ContainsFunc(sites, func(at sdk.Site) bool { return at.Kind == sdk.Patch }) {
		return nil
	}
	return map[string]any{
		"peft_type": "VERA", "r": v.Rank, "vera_dropout": v.Dropout, "d_initial": v.DInitial,
		"projection_prng_key": v.Key, "save_projection": true, "bias": "none",
	}
}

func adopt(config map[string]any, _ []sdk.Site) (vera, []sdk.Problem) {
	s := sdk.ReadSettings(config, "VERA")
	v := vera{
		Rank: s.Int("r", 256), Dropout: s.Number("vera_dropout", 0), DInitial: s.Number("d_initial", 0.1),
		Key: uint64(max(0, s.Int("projection_prng_key", 0))),
	}
	s.Ignore("init_weights")
	if !s.Bool("save_projection", true) {
		s.Problem("save_projection", "false: the file is without the shared matrices, which only PEFT draws alike", "save the adapter again with save_projection=True")
	}
	return v, s.Problems()
}

var variant = sdk.Variant[vera]{
	Name: "vera", Version: "1.0.0", Paper: "arXiv:2310.11454",
	About:   "Two vectors for each layer scale frozen random matrices that the model shares",
	Schema:  schema,
	Formula: "y = base(x) + λb ⊙ (B (λd ⊙ (A drop(x))))", Parameters: "rank+out", PEFT: "VERA", Adopt: adopt,
	Examples: []string{"rank: 5", "rank: 40, dropout: 0.25, key: 7"},
}

func main() { sdk.Serve(variant) }
