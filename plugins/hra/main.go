// Command hra is the HRA variant: the input of the layer goes through a chain
// of reflections,
//
//	y = base(x Hᵣ … H₁),  H_k = I − 2 û_k û_kᵀ,  û_k = u_k/‖u_k‖
//
// Householder reflection adaptation of Yuan et al., arXiv:2405.17484. The
// columns u_k start equal in pairs, so that the reflections cancel out.
//
// The chain is drawn in its compact form (Schreiber and Van Loan's WY
// representation): with the unit columns in U and L the part of UᵀU below the
// diagonal, Hᵣ … H₁ = I − U (I/2 + L)⁻¹ Uᵀ. That is two narrow products for
// any number of reflections.
package main

import (
	_ "embed"
	"fmt"
	"math"

	"github.com/loralab/loralab/plugins/sdk"
)

//go:embed schema.cue
var schema string

type hra struct{ Rank int }

// Check wants pairs, and no more reflections than there are dimensions: that
// many make every rotation.
func (v hra) Check(s sdk.Site) []sdk.Problem {
	var found []sdk.Problem
	if v.Rank%2 != 0 {
		found = append(found, sdk.Problem{
			Param:   "rank",
			Message: fmt.Sprintf("%d is odd: reflections have to start in pairs to cancel out", v.Rank),
			Hint:    fmt.Sprintf("use %d or %d", max(2, v.Rank-1), v.Rank+1),
		})
	}
	if v.Rank > s.In {
		found = append(found, sdk.Problem{
			Param:   "rank",
			Message: fmt.Sprintf("%d reflections are more than the layer's %d inputs", v.Rank, s.In),
			Hint:    fmt.Sprintf("use at most %d", s.In/2*2),
		})
	}
	return found
}

func (v hra) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	r := v.Rank
	u := g.Param("hra_u", sdk.Dims(s.In, r), sdk.Repeated(sdk.KaimingUniform(math.Sqrt(5)), 1, 2))
	g.PEFT("hra_u", u)
	unit := g.Div(u, g.NormKeep(u, 0))
	below := make([]float64, r*r)
	for i := range r {
		for j := range i {
			below[i*r+j] = 1
		}
	}
	l := g.Mul(g.Const(sdk.Dims(r, r), below...), g.MatMul(g.T(unit), unit))
	z := g.Solve(g.Add(g.Scale(0.5, g.Eye(r)), l), g.T(unit)) // [r, in]
	return g.Base(g.Sub(g.X(), g.MatMul(g.MatMul(g.X(), unit), z)))
}

// PEFTConfig is the same for the patch embedding, whose convolution PEFT takes
// as a matrix.
func (v hra) PEFTConfig([]sdk.Site) map[string]any {
	return map[string]any{"peft_type": "HRA", "r": v.Rank, "apply_GS": false, "bias": "none"}
}

func adopt(config map[string]any, _ []sdk.Site) (hra, []sdk.Problem) {
	s := sdk.ReadSettings(config, "HRA")
	v := hra{Rank: s.Int("r", 8)}
	s.Ignore("init_weights")
	s.Refuse("apply_GS", "the columns are not made orthogonal here")
	return v, s.Problems()
}

var variant = sdk.Variant[hra]{
	Name: "hra", Version: "1.0.0", Paper: "arXiv:2405.17484",
	About:   "Reflects the input of a layer by a chain of Householder reflections",
	Schema:  schema,
	Formula: "y = base(x Hᵣ … H₁), H = I − 2 û ûᵀ", Parameters: "rank*in", PEFT: "HRA", Adopt: adopt,
	Examples: []string{"rank: 2", "rank: 6"},
}

func main() { sdk.Serve(variant) }
