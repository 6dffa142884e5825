// Command oft is the OFT variant: the input of the layer is rotated, block of
// dimensions by block,
//
//	y = base(x R),  R = blockdiag(R₁ … Rₙ),  R_k = (I − Q_k)(I + Q_k)⁻¹
//
// with skew-symmetric Q_k, which makes R orthogonal (Cayley): orthogonal
// fine-tuning of Qiu et al., arXiv:2306.07280, in the input-centric form of
// arXiv:2506.19847. With cayley "neumann" R_k is PEFT's approximation
// I + 2Q + 2Q² + 2Q³ + Q⁴; as the signs show, it turns the other way for the
// same Q. Q starts at zero.
package main

import (
	_ "embed"
	"fmt"
	"slices"

	"github.com/loralab/loralab/plugins/sdk"
)

//go:embed schema.cue
var schema string

type oft struct {
	BlockSize int
	Share     bool
	Cayley    string
	Terms     int
}

// Check wants blocks that fill the input.
func (v oft) Check(s sdk.Site) []sdk.Problem {
	if v.BlockSize < 2 {
		return []sdk.Problem{{Param: "blockSize", Message: fmt.Sprintf("%d, want at least 2", v.BlockSize)}}
	}
	if s.In%v.BlockSize == 0 {
		return nil
	}
	return []sdk.Problem{{
		Param:   "blockSize",
		Message: fmt.Sprintf("%d does not divide the layer's %d inputs", v.BlockSize, s.In),
		Hint:    "use " + sdk.DivisorsNear(s.In, v.BlockSize),
	}}
}

func (v oft) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	b, n := v.BlockSize, s.In/v.BlockSize
	blocks := n
	if v.Share {
		blocks = 1
	}
	// The parameter holds the upper triangles row by row.
	r := g.Param("oft_R", sdk.Dims(blocks, b*(b-1)/2), sdk.Zeros)
	g.PEFT("oft_R.weight", r)
	rotation := v.rotation(g, skew(g, r, blocks, b)) // [blocks, b, b]

	x := g.Reshape(g.X(), sdk.Tokens, n, b)
	if v.Share {
		x = g.MatMul(x, g.Reshape(rotation, b, b))
	} else {
		x = g.Einsum("tkb,kbc->tkc", x, rotation)
	}
	return g.Base(g.Reshape(x, sdk.Tokens, s.In))
}

// skew makes skew-symmetric matrices [n, b, b] of upper triangles [n, b(b-1)/2].
func skew(g *sdk.Graph, triangles sdk.Node, n, b int) sdk.Node {
	zero := int64(b * (b - 1) / 2) // the position of a zero, behind the triangle
	next := int64(0)
	at := make([]int64, 0, b*b)
	for i := range b {
		for j := range b {
			if j > i {
				at = append(at, next)
				next++
			} else {
				at = append(at, zero)
			}
		}
	}
	padded := g.Concat(1, triangles, g.Const(sdk.Dims(n, 1), make([]float64, n)...))
	places := g.Param("triangle", sdk.Dims(b*b), sdk.Indices(at...), sdk.Derived)
	upper := g.Reshape(g.Gather(padded, 1, places), n, b, b)
	return g.Sub(upper, g.T(upper))
}

// rotation is R of Q, exact or as the first terms of PEFT's Neumann series:
// the last of more than two powers counts once, the others twice, and 3 terms
// are the same as 4.
func (v oft) rotation(g *sdk.Graph, q sdk.Node) sdk.Node {
	eye := g.Eye(v.BlockSize)
	if v.Cayley == "exact" {
		return g.Solve(g.Add(eye, q), g.Sub(eye, q)) // the two commute
	}
	r := g.Add(eye, g.Scale(2, q))
	if v.Terms == 2 {
		return r
	}
	power := g.MatMul(q, q)
	r = g.Add(r, g.Scale(2, power))
	for range v.Terms - 4 {
		power = g.MatMul(power, q)
		r = g.Add(r, g.Scale(2, power))
	}
	return g.Add(r, g.MatMul(power, q))
}

// PEFTConfig is none for the patch embedding: PEFT turns overlapping patches
// of the image there and adds them up.
func (v oft) PEFTConfig(sites []sdk.Site) map[string]any {
	if slices.ContainsFunc(sites, func(at sdk.Site) bool { return at.Kind == sdk.Patch }) {
		return nil
	}
	return map[string]any{
		"peft_type": "OFT", "r": 0, "oft_block_size": v.BlockSize, "block_share": v.Share,
		"use_cayley_neumann": v.Cayley == "neumann", "num_cayley_neumann_terms": v.Terms,
		"coft": false, "module_dropout": 0, "bias": "none",
	}
}

func adopt(config map[string]any, sites []sdk.Site) (oft, []sdk.Problem) {
	s := sdk.ReadSettings(config, "OFT")
	v := oft{
		BlockSize: s.Int("oft_block_size", 32), Share: s.Bool("block_share", false),
		Cayley: "exact", Terms: s.Int("num_cayley_neumann_terms", 5),
	}
	if blocks := s.Int("r", 0); blocks > 0 { // then oft_block_size is 0
		for i, at := range sites {
			size := at.In / blocks
			if size*blocks != at.In || i > 0 && size != v.BlockSize {
				s.Problem("r", fmt.Sprintf("%d blocks in a layer with %d inputs: all blocks of all layers have one size here", blocks, at.In), "")
				break
			}
			v.BlockSize = size
		}
	}
	if s.Bool("use_cayley_neumann", true) {
		v.Cayley = "neumann"
		var major, minor int
		written := s.Text("peft_version", "")
		if _, err := fmt.Sscanf(written, "%d.%d", &major, &minor); err != nil || major == 0 && minor < 18 {
			s.Problem("peft_version", fmt.Sprintf("%q: the series of use_cayley_neumann was another one before 0.18.0", written), "train it again with a later PEFT")
		}
	}
	s.Ignore("init_weights", "eps") // eps belongs to coft
	s.Refuse("coft", "it changes parameters beside the optimiser")
	s.Refuse("module_dropout", "PEFT reads it and drops nothing: set it to 0")
	return v, s.Problems()
}

var variant = sdk.Variant[oft]{
	Name: "oft", Version: "1.0.0", Paper: "arXiv:2306.07280",
	About:      "Rotates the input of a layer block by block",
	Schema:     schema,
	Formula:    "y = base(x R), R = blockdiag((I − Q)(I + Q)⁻¹)",
	Parameters: "(blockSize-1)/2 * (in*(!share) + blockSize*share)", PEFT: "OFT", Adopt: adopt,
	Examples: []string{"blockSize: 4", "blockSize: 3, share: true", "blockSize: 4, cayley: \"neumann\"", "blockSize: 4, cayley: \"neumann\", terms: 7, share: true"},
}

func main() { sdk.Serve(variant) }
