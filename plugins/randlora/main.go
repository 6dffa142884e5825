// Command randlora is the RandLoRA variant: frozen random bases of low rank
// add up to an update of full rank, and only their scales are trained,
//
//	y = base(x) + s · drop(x) ΔWᵀ,  ΔW = Σ_j B_j Λ_j A Γ_j,  s = α/r
//
// of Albert et al., arXiv:2502.00987, with n = ⌈min(in, out)/r⌉ bases. A and
// the B_j are drawn once for the model from the key, the same for every seed,
// and cut to the size of a layer; Λ_j and Γ_j are diagonal. A has the smaller
// side of the layer, transposed if that is out. Λ starts at zero.
package main

import (
	_ "embed"
	"fmt"
	"math"
	"slices"

	"github.com/loralab/loralab/plugins/sdk"
)

//go:embed schema.cue
var schema string

type randlora struct {
	Rank           int
	Alpha, Dropout float64
	Key            uint64
}

// Check refuses a rank at which there is less than one basis.
func (v randlora) Check(s sdk.Site) []sdk.Problem {
	if most := min(s.In, s.Out); v.Rank > most {
		return []sdk.Problem{{
			Param:   "rank",
			Message: fmt.Sprintf("%d is more than the layer's smaller side, %d", v.Rank, most),
			Hint:    fmt.Sprintf("use a rank of at most %d; more parameters need a smaller rank", most),
		}}
	}
	return nil
}

// bases is how many bases of the rank fill n dimensions.
func (v randlora) bases(n int) int { return (n + v.Rank - 1) / v.Rank }

func (v randlora) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	// Deviation 1, as PEFT norms them.
	shared := func(name string, dims ...int) sdk.Node {
		return g.Param(name, dims, sdk.Seeded(v.Key, dims, sdk.Uniform(math.Sqrt(3))), sdk.PerModel, sdk.Derived)
	}
	least, most := min(s.MaxIn, s.MaxOut), max(s.MaxIn, s.MaxOut)
	a := shared("randlora_A", v.Rank, 1, least)
	b := shared("randlora_B", most, v.bases(least), v.Rank)

	short, long := min(s.In, s.Out), max(s.In, s.Out)
	n := v.bases(short)
	lambda := g.Param("randlora_lambda", sdk.Dims(v.Rank, n), sdk.Zeros)
	gamma := g.Param("randlora_gamma", sdk.Dims(n, short), sdk.Constant(1/float64(max(n, short))))

	g.PEFT("randlora_lambda", lambda)
	g.PEFT("randlora_gamma", gamma)
	// PEFT's files have the bases of the model, and again at every layer.
	g.PEFTModel("randlora_A", a)
	g.PEFTModel("randlora_B", b)
	g.PEFT("randlora_A", a)
	g.PEFT("randlora_B", b)

	a = g.Mul(g.Mul(g.Reshape(lambda, v.Rank, n, 1), g.Slice(a, 2, 0, short)), gamma) // [r, n, short]
	b = g.Slice(g.Slice(b, 0, 0, long), 1, 0, n)                                      // [long, n, r]
	// PEFT lines up row (k, j) of A with column (j, k) of B as they lie in
	// memory, not by their indices; random bases are as good either way.
	delta := g.MatMul(g.Reshape(b, long, n*v.Rank), g.Reshape(a, v.Rank*n, short)) // [long, short]
	if s.In == short {
		delta = g.T(delta)
	}
	delta = g.Scale(v.Alpha/float64(v.Rank), delta) // [in, out]
	return g.Add(g.Base(g.X()), g.MatMul(g.Dropout(g.X(), v.Dropout), delta))
}

// PEFTConfig stores the bases: PEFT would draw others from the key. It has
// RandLoRA for linear layers only.
func (v randlora) PEFTConfig(sites []sdk.Site) map[string]any {
	if slices.ContainsFunc(sites, func(at sdk.Site) bool { return at.Kind == sdk.Patch }) {
		return nil
	}
	return map[string]any{
		"peft_type": "RANDLORA", "r": v.Rank, "randlora_alpha": v.Alpha, "randlora_dropout": v.Dropout,
		"projection_prng_key": v.Key, "save_projection": true, "sparse": false, "very_sparse": false, "bias": "none",
	}
}

func adopt(config map[string]any, _ []sdk.Site) (randlora, []sdk.Problem) {
	s := sdk.ReadSettings(config, "RANDLORA")
	v := randlora{
		Rank: s.Int("r", 32), Alpha: s.Number("randlora_alpha", 640), Dropout: s.Number("randlora_dropout", 0),
		Key: uint64(max(0, s.Int("projection_prng_key", 0))),
	}
	// sparse and very_sparse say how the bases were drawn; the file has them.
	s.Ignore("init_weights", "sparse", "very_sparse")
	if !s.Bool("save_projection", true) {
		s.Problem("save_projection", "false: the file is without the bases, which only PEFT draws alike", "save the adapter again with save_projection=True")
	}
	return v, s.Problems()
}

var variant = sdk.Variant[randlora]{
	Name: "randlora", Version: "1.0.0", Paper: "arXiv:2502.00987",
	About:      "Trained scales of frozen random bases that add up to full rank",
	Schema:     schema,
	Formula:    "y = base(x) + s · drop(x) (Σ_j B_j Λ_j A Γ_j)ᵀ",
	Parameters: "ceil(min(in, out)/rank) * (rank + min(in, out))", PEFT: "RANDLORA", Adopt: adopt,
	Examples: []string{"rank: 5", "rank: 7, alpha: 14, dropout: 0.25, key: 7"},
}

func main() { sdk.Serve(variant) }
