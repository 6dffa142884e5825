package adapter

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/design"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk"
)

// jog moves the trainable parameters away from their start.
func jog(s *Set) {
	for _, p := range s.Params {
		if !p.Trainable {
			continue
		}
		v := make([]float32, p.T.Numel())
		for i := range v {
			v[i] = float32(0.1 * math.Sin(float64(7*i+len(p.Name))))
		}
		p.T.Assign(p.T.Detach().Add(torch.Of(s.dev, v, p.T.Shape()...)))
	}
}

var onStreams draw = func(g *sdk.Graph, s sdk.Site) sdk.Node {
	a, b := g.Param("A", sdk.Dims(r, s.In), kaiming), g.Param("B", sdk.Dims(s.Out, r), sdk.Zeros)
	beta := g.Param("beta", sdk.Dims(s.Out), sdk.Zeros)
	return g.Add(g.Add(g.Base(g.X()), g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(b))), beta)
}

var scaled draw = func(g *sdk.Graph, s sdk.Site) sdk.Node {
	return g.Mul(g.Base(g.X()), g.Param("l", sdk.Dims(s.Out), sdk.Ones))
}

// The merged backbone computes what the adapted one does, for every variant,
// on linear layers, streams and the patch embedding.
func TestMergedIsAdapted(t *testing.T) {
	variants := map[string]draw{"streams": onStreams, "scaled with its bias": scaled}
	for name, d := range silent {
		variants[name] = d
	}
	patch := &protocol.Site{Name: design.SitePatch, Kind: protocol.Site_PATCH, In: 3 * 8 * 8, Out: dim, Bias: true}
	for name, d := range variants {
		sites := []*protocol.Site{site("query", 0), site("value", 0), site("output", 1)}
		switch name {
		case "streams":
			sites = []*protocol.Site{site("attn_in", 1), site("key", 1), site("mlp_in", 2), site("fc1", 3), patch}
		case "serial: one pair for a block":
		default:
			sites = append(sites, site("fc1", 2), site("fc2", 4))
		}
		for _, freeze := range []spec.Freeze_Kind{spec.Freeze_ALL, spec.Freeze_NONE} {
			t.Run(name+" "+freeze.String(), func(t *testing.T) {
				onModel(t, placed(t, d, sites...), vit.Options{Freeze: &spec.Freeze{Kind: freeze}}, func(dev *torch.Device, m *vit.Model, s *Set) {
					jog(s)
					for _, p := range m.Params() { // a backbone that trained is not the file's
						p.T.Assign(p.T.Detach().Scale(1.01))
					}
					images := input(dev, 2*3*48, 32).Reshape(2, 3, 48, 32)
					live := dev.Live()
					merged, err := s.Merge(1e-5)
					if err != nil {
						t.Fatal(err)
					}
					for _, l := range merged {
						if !(l.Difference < 1e-6) {
							t.Errorf("%s of block %d differs by %g", l.Site.Name, l.Site.Block, l.Difference)
						}
					}
					forward := func() (v []float32) {
						dev.NoGrad(func() { dev.Scope(func() { v = m.Forward(images).Floats() }) })
						return v
					}
					adapted := forward()
					restore := s.UseMerged(merged)
					got := forward()
					restore()
					for i := range got {
						if d := math.Abs(float64(got[i] - adapted[i])); !(d < 5e-5) {
							t.Fatalf("outputs differ by %g", d)
						}
					}
					if !slices.Equal(forward(), adapted) {
						t.Error("the adapters did not come back")
					}
					FreeMerged(merged)
					if n := dev.Live() - live; n != 0 {
						t.Errorf("%d tensors were left behind", n)
					}
				})
			})
		}
	}
}

// A layer is merged for its stream even if it has no adapter of its own.
func TestStreamsMergeIntoTheLayersBehind(t *testing.T) {
	onModel(t, placed(t, onStreams, site("attn_in", 1), site("key", 1), site("mlp_in", 2)), vit.Options{}, func(_ *torch.Device, _ *vit.Model, s *Set) {
		merged, err := s.Merge(1e-5)
		if err != nil {
			t.Fatal(err)
		}
		defer FreeMerged(merged)
		var names []string
		for _, m := range merged {
			names = append(names, m.Site.Name)
			if int(m.W.Dim(0)) != int(m.Site.Out) || m.B == nil || !m.Site.Bias {
				t.Errorf("%v: %v, %v", m.Site, m.W, m.B)
			}
		}
		slices.Sort(names)
		if want := []string{"fc1", "key", "query", "value"}; !slices.Equal(names, want) {
			t.Errorf("merged %v, want %v", names, want)
		}
	})
}

func TestMergeRefuses(t *testing.T) {
	bent := func(g *sdk.Graph, s sdk.Site) sdk.Node {
		return g.Base(g.Add(g.X(), g.Mul(g.Param("l", sdk.Dims(s.In), sdk.Zeros), g.ReLU(g.X()))))
	}
	for name, c := range map[string]struct {
		d         draw
		tolerance float64
		want      []string
	}{
		"not affine":      {bent, 1, []string{"query of block 1, fc1 of block 2", "relu"}},
		"above tolerance": {silent["lora"], 1e-12, []string{"query of block 1", "more than 1e-12"}},
	} {
		t.Run(name, func(t *testing.T) {
			onModel(t, placed(t, c.d, site("query", 1), site("fc1", 2)), vit.Options{}, func(dev *torch.Device, _ *vit.Model, s *Set) {
				jog(s)
				live := dev.Live()
				merged, err := s.Merge(c.tolerance)
				if err == nil || merged != nil {
					t.Fatal("merged")
				}
				for _, w := range c.want {
					if !strings.Contains(err.Error(), w) {
						t.Errorf("%q is not in: %v", w, err)
					}
				}
				if n := dev.Live() - live; n != 0 {
					t.Errorf("%d tensors were left behind", n)
				}
			})
		})
	}
}
