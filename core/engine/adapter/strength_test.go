package adapter

import (
	"slices"
	"testing"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk"
)

// A backbone at strength t is the one whose weights are W₀ + t·(W − W₀), for every
// variant that can be merged; at 1 it is the adapted one, and at 0 the frozen one, to
// the bit.
func TestStrengthIsBetweenTheWeights(t *testing.T) {
	variants := map[string]draw{"streams": onStreams, "scaled with its bias": scaled}
	for name, d := range silent {
		variants[name] = d
	}
	for name, d := range variants {
		sites := []*protocol.Site{site("query", 0), site("value", 0), site("output", 1)}
		switch name {
		case "streams":
			sites = []*protocol.Site{site("attn_in", 1), site("mlp_in", 2)}
		case "serial: one pair for a block":
		default:
			sites = append(sites, site("fc1", 2), site("fc2", 4))
		}
		for _, freeze := range []spec.Freeze_Kind{spec.Freeze_ALL, spec.Freeze_NONE} {
			t.Run(name+" "+freeze.String(), func(t *testing.T) {
				onModel(t, placed(t, d, sites...), vit.Options{Freeze: &spec.Freeze{Kind: freeze}}, func(dev *torch.Device, m *vit.Model, s *Set) {
					jog(s)
					for _, p := range m.Params() { // blocks that trained keep what they have
						p.T.Assign(p.T.Detach().Scale(1.01))
					}
					images := input(dev, 2*3*48, 32).Reshape(2, 3, 48, 32)
					forward := func() (v []float32) {
						dev.NoGrad(func() { dev.Scope(func() { v = m.Forward(images).Floats() }) })
						return v
					}
					adapted := forward()
					s.uninstall()
					plain := forward()
					s.install()
					merged, err := s.Merge(1e-5)
					if err != nil {
						t.Fatal(err)
					}
					defer FreeMerged(merged)
					const strength = 0.3
					var between []Merged
					for _, l := range merged {
						frozen := s.current(l.Site)
						b := l.B
						if b != nil {
							from := frozen.B
							if from == nil {
								from = dev.Zeros(torch.Float32, b.Shape()...)
							}
							b = from.Add(b.Sub(from).Scale(strength))
						}
						between = append(between, Merged{Site: l.Site, W: frozen.W.Add(l.W.Sub(frozen.W).Scale(strength)), B: b})
					}
					restore := s.UseMerged(between)
					want := forward()
					restore()
					s.SetStrength(strength)
					got := forward()
					moved := 0.0
					for i := range want {
						if d := float64(got[i] - want[i]); !(d < 1e-4 && d > -1e-4) {
							t.Fatalf("output %d is %v, want %v", i, got[i], want[i])
						}
						moved = max(moved, float64(got[i]-plain[i]))
					}
					if moved < 1e-3 {
						t.Error("the adapter moves nothing")
					}
					if s.SetStrength(0); !slices.Equal(forward(), plain) {
						t.Error("at 0 it is not the frozen backbone")
					}
					if s.SetStrength(1); !slices.Equal(forward(), adapted) {
						t.Error("at 1 it is not the adapted backbone")
					}
				})
			})
		}
	}
}

// What is not affine in its input has no weights: outputs are between the outputs.
func TestStrengthOfAnActivation(t *testing.T) {
	var bent draw = func(g *sdk.Graph, s sdk.Site) sdk.Node {
		return g.Base(g.Add(g.X(), g.Mul(g.Param("l", sdk.Dims(s.In), sdk.Zeros), g.ReLU(g.X()))))
	}
	onModel(t, placed(t, bent, site("fc2", 3)), vit.Options{}, func(dev *torch.Device, _ *vit.Model, s *Set) {
		jog(s)
		x := input(dev, 5, mlp)
		full, frozen := s.Forward(0, x).Floats(), s.layers[0].pretrained.Forward(x).Floats()
		s.SetStrength(0.25)
		for i, v := range s.Forward(0, x).Floats() {
			if d := float64(v - (frozen[i] + 0.25*(full[i]-frozen[i]))); !(d < 1e-5 && d > -1e-5) {
				t.Fatalf("output %d is off by %g", i, d)
			}
		}
	})
}
