// Command miss is the MiSS variant: one small matrix is shared by all shards
// of r inputs of the layer,
//
//	balance  y = base(x) + (Σ_g drop(x)_g) D            D [r, out]
//	mini     the same with D [r, m] repeated over the outputs
//	bat      y = base(x) + x ΔWᵀ, ΔW_jg = W_jg D_j + D_j   D [out/r, r, r]
//
// with x in shards x_g of r inputs and W in blocks W_jg [r, r]: matrix shard
// sharing of Kang and Yin, arXiv:2409.15371 (first called Bone), in the three
// modes PEFT has. D starts at zero.
package main

import (
	_ "embed"
	"fmt"
	"slices"

	"github.com/loralab/loralab/plugins/sdk"
)

//go:embed schema.cue
var schema string

type miss struct {
	Rank     int
	Mode     string
	MiniRank int
	Dropout  float64
}

func (v miss) Check(s sdk.Site) []sdk.Problem {
	var found []sdk.Problem
	problem := func(param, hint, format string, args ...any) {
		found = append(found, sdk.Problem{Param: param, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
	if v.Rank < 1 || v.MiniRank < 1 {
		problem("rank", "", "%d and miniRank %d, want at least 1", v.Rank, v.MiniRank)
		return found
	}
	if v.Rank > s.In {
		problem("rank", fmt.Sprintf("use at most %d", s.In), "%d is more than the layer's %d inputs", v.Rank, s.In)
		return found
	}
	switch v.Mode {
	case "mini":
		if s.Out%v.MiniRank != 0 {
			problem("miniRank", "use "+sdk.DivisorsNear(s.Out, v.MiniRank), "%d does not divide the layer's %d outputs", v.MiniRank, s.Out)
		}
	case "bat":
		if s.Kind == sdk.Stream {
			problem("mode", `use "balance" or "mini" there`, "bat multiplies the weight, and %s is a stream without one", s.Name)
			return found
		}
		if common := gcd(s.In, s.Out); common%v.Rank != 0 {
			problem("rank", "use "+sdk.DivisorsNear(common, v.Rank),
				"bat needs blocks of %d by %d, which do not fill the layer's weight, %d by %d", v.Rank, v.Rank, s.Out, s.In)
		}
		if v.Dropout > 0 {
			problem("dropout", `leave it out, or use mode "balance" or "mini"`, "bat multiplies the weight and has no dropout")
		}
	}
	return found
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func (v miss) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	base := g.Base(g.X())
	if v.Mode == "bat" {
		return g.Add(base, g.MatMul(g.X(), g.T(v.bat(g, s))))
	}
	outputs := s.Out
	if v.Mode == "mini" {
		outputs = v.MiniRank
	}
	d := g.Param("miss_block", sdk.Dims(v.Rank, outputs), sdk.Zeros)
	g.PEFT("miss_block", d)
	return g.Add(base, g.Repeat(v.shards(g, s, d), 1, s.Out/outputs))
}

// shards is (Σ_g drop(x)_g) D; the last shard may be short.
func (v miss) shards(g *sdk.Graph, s sdk.Site, d sdk.Node) sdk.Node {
	x := g.Dropout(g.X(), v.Dropout)
	n, rest := s.In/v.Rank, s.In%v.Rank
	whole := g.Reshape(g.Slice(x, 1, 0, n*v.Rank), sdk.Tokens, n, v.Rank)
	y := g.MatMul(g.Sum(whole, 1), d)
	if rest > 0 {
		y = g.Add(y, g.MatMul(g.Slice(x, 1, n*v.Rank, rest), g.Slice(d, 0, 0, rest)))
	}
	return y
}

// bat is ΔW in mode bat.
func (v miss) bat(g *sdk.Graph, s sdk.Site) sdk.Node {
	r, rows, cols := v.Rank, s.Out/v.Rank, s.In/v.Rank
	d := g.Param("miss_block", sdk.Dims(rows, r, r), sdk.Zeros)
	g.PEFT("miss_block", d)
	w := g.Permute(g.Reshape(g.W(), rows, r, cols, r), 2, 0, 1, 3) // [cols, rows, r, r]
	delta := g.Add(g.MatMul(w, d), d)
	return g.Reshape(g.Permute(delta, 1, 2, 0, 3), s.Out, s.In)
}

// PEFTConfig says the mode by init_weights, as PEFT does. PEFT has MiSS for
// linear layers only.
func (v miss) PEFTConfig(sites []sdk.Site) map[string]any {
	if slices.ContainsFunc(sites, func(at sdk.Site) bool { return at.Kind == sdk.Patch }) {
		return nil
	}
	mode := any(v.Mode)
	if v.Mode == "balance" {
		mode = true
	}
	return map[string]any{
		"peft_type": "MISS", "r": v.Rank, "init_weights": mode, "mini_r": v.MiniRank,
		"miss_dropout": v.Dropout, "bias": "none",
	}
}

func adopt(config map[string]any, _ []sdk.Site) (miss, []sdk.Problem) {
	s := sdk.ReadSettings(config, "MISS")
	v := miss{Rank: s.Int("r", 64), Mode: "balance", MiniRank: s.Int("mini_r", 1), Dropout: s.Number("miss_dropout", 0)}
	switch mode := config["init_weights"].(type) {
	case nil, bool: // false starts at random, but computes the same
	case string:
		v.Mode = mode
		if mode != "bat" && mode != "mini" {
			s.Problem("init_weights", fmt.Sprintf("%q, want true, \"bat\" or \"mini\"", mode), "")
		}
	default:
		s.Problem("init_weights", fmt.Sprintf("%v, want true, \"bat\" or \"mini\"", mode), "")
	}
	if v.Mode == "bat" {
		v.Dropout = 0 // PEFT drops nothing then
	}
	s.Ignore("init_weights")
	return v, s.Problems()
}

var variant = sdk.Variant[miss]{
	Name: "miss", Version: "1.0.0", Paper: "arXiv:2409.15371",
	About:      "One small matrix is shared by all shards of a layer's inputs",
	Schema:     schema,
	Formula:    "y = base(x) + (Σ_g drop(x)_g) D",
	Parameters: `rank*(out*(mode != "mini") + miniRank*(mode == "mini"))`, PEFT: "MISS", Adopt: adopt,
	Examples: []string{"rank: 4", "rank: 5, dropout: 0.25", "rank: 5, mode: \"mini\", miniRank: 3", "rank: 3, mode: \"bat\""},
}

func main() { sdk.Serve(variant) }
