// Command bitfit is the BitFit variant: only the biases are trained,
//
//	y = base(x) + β
//
// of Ben Zaken et al., arXiv:2106.10199. The bias itself stays frozen and β
// starts as zero, so that a layer without a bias gains one.
package main

import (
	_ "embed"
	"slices"

	"github.com/loralab/loralab/plugins/sdk"
)

//go:embed schema.cue
var schema string

type bitfit struct{}

func (bitfit) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	beta := g.Param("beta", sdk.Dims(s.Out), sdk.Zeros)
	y := g.Add(g.Base(g.X()), beta)
	g.PEFT("beft_bias", g.Reshape(beta, 1, s.Out))
	return y
}

// PEFTConfig is that of BEFT, PEFT's name for trained biases of linear layers.
func (bitfit) PEFTConfig(sites []sdk.Site) map[string]any {
	if slices.ContainsFunc(sites, func(s sdk.Site) bool { return s.Kind == sdk.Patch }) {
		return nil
	}
	return map[string]any{"peft_type": "BEFT", "init_weights": true}
}

func adopt(config map[string]any, _ []sdk.Site) (bitfit, []sdk.Problem) {
	s := sdk.ReadSettings(config, "BEFT")
	s.Ignore("init_weights")
	return bitfit{}, s.Problems()
}

var variant = sdk.Variant[bitfit]{
	Name: "bitfit", Version: "1.0.0", Paper: "arXiv:2106.10199",
	About:  "Biases only",
	Schema: schema, Formula: "y = base(x) + β", Parameters: "out",
	PEFT: "BEFT", Adopt: adopt,
}

func main() { sdk.Serve(variant) }
