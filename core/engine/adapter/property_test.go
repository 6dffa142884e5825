package adapter

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk"
)

// expression draws a value [T, width] that is linear in x.
func expression(t *rapid.T, g *sdk.Graph, in, width, depth int) sdk.Node {
	name := func() string { return "p" + rapid.StringMatching(`[a-z]{6}`).Draw(t, "name") }
	vector := func() sdk.Node { return g.Param(name(), sdk.Dims(width), sdk.Normal(1)) }
	if depth == 0 {
		w := g.Param(name(), sdk.Dims(in, width), sdk.Normal(0.5))
		return g.MatMul(g.X(), w)
	}
	again := func(width int) sdk.Node { return expression(t, g, in, width, depth-1) }
	switch rapid.IntRange(0, 7).Draw(t, "operation") {
	case 0:
		if width == in {
			return g.X()
		}
		return again(width)
	case 1:
		return g.Scale(rapid.Float64Range(-2, 2).Draw(t, "scale"), again(width))
	case 2:
		return g.Neg(again(width))
	case 3:
		return g.Mul(vector(), again(width))
	case 4:
		v := vector()
		return g.Div(again(width), g.Add(g.Mul(v, v), g.Const([]int{1}, 0.5)))
	case 5:
		return g.Add(again(width), again(width))
	case 6:
		return g.Sub(again(width), again(width))
	default:
		inner := rapid.IntRange(1, 4).Draw(t, "inner")
		return g.MatMul(again(inner), g.Param(name(), sdk.Dims(inner, width), sdk.Normal(0.5)))
	}
}

// Whatever form is found in a linear program, it computes what the nodes do, in
// value and gradient, and so does the merged layer.
func TestEveryFormIsTheProgram(t *testing.T) {
	dev, err := torch.CPU(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	forms := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		const in, out, tokens = 7, 5, 6
		d := draw(func(g *sdk.Graph, _ sdk.Site) sdk.Node {
			depth := rapid.IntRange(0, 4).Draw(t, "depth")
			if rapid.Bool().Draw(t, "serial") {
				return g.Base(g.Add(g.X(), expression(t, g, in, in, depth)))
			}
			return g.Add(g.Base(g.X()), expression(t, g, in, out, depth))
		})
		site := &protocol.Site{Name: "query", Kind: protocol.Site_LINEAR, In: in, Out: out, Bias: true}
		reply, err := sdk.Programs(t.Context(), d, &protocol.Model{Depth: 1}, []*protocol.Site{site})
		if err != nil {
			t.Fatal(err)
		}
		a := &spec.Adapter{Programs: reply.Programs, Placements: []*spec.Placement{{Site: site}}}
		err = dev.Do(func() error {
			random := func(n int64) []float64 {
				v := make([]float64, n)
				for i := range v {
					v[i] = math.Sin(float64(5*i + 2))
				}
				return v
			}
			s, err := New(dev, nil, a, torch.Float64, 3, func(*protocol.Site) vit.Linear {
				return vit.Linear{W: torch.Of(dev, random(in*out), out, in), B: torch.Of(dev, random(out), out)}
			})
			if err != nil {
				return err
			}
			defer s.Free()
			forms[s.Form(0)]++
			x := torch.Of(dev, random(tokens*in), tokens, in).RequireGrad(true)
			g := torch.Of(dev, random(tokens*out), tokens, out)
			leaves := []*torch.Tensor{x}
			for _, p := range s.Params {
				leaves = append(leaves, p.T)
			}
			pass := func() [][]float64 {
				y := s.Forward(0, x)
				all := [][]float64{y.Doubles()}
				for _, d := range torch.GradsOf(y.Mul(g).Sum(), nil, leaves...) {
					var v []float64
					if d != nil {
						v = d.Doubles()
					}
					all = append(all, v)
				}
				return all
			}
			fused := pass()
			w, b := s.Affine(0)
			merged := torch.Linear(x, w, b).Doubles()
			// Between the frozen layer and the program, weights are between theirs.
			strength := rapid.Float64Range(0, 2).Draw(t, "strength")
			s.SetStrength(strength)
			between := s.Forward(0, x).Doubles()
			s.SetStrength(1)
			frozen := s.layers[0].pretrained
			mixed := func(a, b *torch.Tensor) *torch.Tensor { return a.Add(b.Sub(a).Scale(strength)) }
			near(t, between, torch.Linear(x, mixed(frozen.W, w), mixed(frozen.B, b)).Doubles())
			s.layers[0].low, s.layers[0].inside = nil, nil
			nodes := pass()
			for i := range nodes {
				near(t, fused[i], nodes[i])
			}
			near(t, merged, nodes[0])
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	for _, form := range []string{"low-rank", "serial", "inside", "nodes"} {
		if forms[form] == 0 {
			t.Errorf("no program had the form %s: %v", form, forms)
		}
	}
}

func near(t *rapid.T, got, want []float64) {
	t.Helper()
	size := 1e-6
	for _, v := range want {
		size = max(size, math.Abs(v))
	}
	for i := range want {
		v := 0.0 // no gradient at all
		if got != nil {
			v = got[i]
		}
		if d := math.Abs(v - want[i]); !(d <= 1e-10*size) {
			t.Fatalf("%g, want %g", v, want[i])
		}
	}
}
