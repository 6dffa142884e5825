// Command ia3 is the (IA)³ variant: outputs of a layer are scaled one by one,
//
//	y = base(x) ⊙ l,  or y = base(x ⊙ l) for layers of the feed-forward form
//
// of Liu et al., arXiv:2205.05638. l starts as ones. The paper scales keys,
// values and the inner activations of the MLP: targets key, value and fc2, the
// last in the feed-forward form.
package main

import (
	_ "embed"
	"slices"

	"github.com/loralab/loralab/plugins/sdk"
)

//go:embed schema.cue
var schema string

type ia3 struct {
	Feedforward []string // sites
}

func (v ia3) scalesInput(s sdk.Site) bool { return slices.Contains(v.Feedforward, s.Name) }

func (v ia3) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	if v.scalesInput(s) {
		l := g.Param("ia3_l", sdk.Dims(s.In), sdk.Ones)
		y := g.Base(g.Mul(g.X(), l))
		g.PEFT("ia3_l", g.Reshape(l, 1, s.In))
		return y
	}
	l := g.Param("ia3_l", sdk.Dims(s.Out), sdk.Ones)
	y := g.Mul(g.Base(g.X()), l)
	g.PEFT("ia3_l", g.Reshape(l, s.Out, 1))
	return y
}

// PEFTConfig names the layers of the feed-forward form. It is none for the
// patch embedding, of whose convolution PEFT keeps the kernel's shape.
func (v ia3) PEFTConfig(sites []sdk.Site) map[string]any {
	if slices.ContainsFunc(sites, func(s sdk.Site) bool { return s.Kind == sdk.Patch }) {
		return nil
	}
	modules := []string{}
	for _, s := range sites {
		if name := "{" + s.Name + "}"; v.scalesInput(s) && !slices.Contains(modules, name) {
			modules = append(modules, name)
		}
	}
	return map[string]any{
		"peft_type": "IA3", "feedforward_modules": modules, "init_ia3_weights": true, "fan_in_fan_out": false,
	}
}

func adopt(config map[string]any, _ []sdk.Site) (ia3, []sdk.Problem) {
	s := sdk.ReadSettings(config, "IA3")
	v := ia3{Feedforward: s.Sites("feedforward_modules")}
	s.Ignore("init_ia3_weights")
	return v, s.Problems()
}

var variant = sdk.Variant[ia3]{
	Name: "ia3", Version: "1.0.0", Paper: "arXiv:2205.05638",
	About:  "Scales the outputs of a layer, or its inputs in the feed-forward form",
	Schema: schema, Formula: "y = base(x) ⊙ l, feed-forward y = base(x ⊙ l)",
	PEFT: "IA3", Adopt: adopt,
	Examples: []string{"", "feedforward: []", `feedforward: ["query", "fc1", "fc2"]`},
}

func main() { sdk.Serve(variant) }
