package adapter

import (
	"fmt"
	"math"
	"testing"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/design"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk"
)

// Three steps of AdamW on LoRA of query and value, against PEFT on the same
// backbone (core/engine/vit/testdata/make_fixtures.py): output, gradients, losses and
// the trained values.
func TestLoRAEqualsPEFT(t *testing.T) {
	file, err := safetensors.Open("testdata/peft_lora/case.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	values := func(name string) []float32 {
		t.Helper()
		x, ok := file.Get(name)
		if !ok {
			t.Fatalf("fixture lacks %s", name)
		}
		v, err := x.Float32()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	near := func(what string, got []float32, want string, tolerance float64) {
		t.Helper()
		for i, w := range values(want) {
			if d := math.Abs(float64(got[i]) - float64(w)); !(d <= tolerance) {
				t.Errorf("%s: |Δ| %.3g, tolerance %.3g", what, d, tolerance)
				return
			}
		}
	}
	const rank, alpha = 4, 8.0
	lora := func(g *sdk.Graph, s sdk.Site) sdk.Node {
		a, b := g.Param("lora_A", sdk.Dims(rank, s.In), sdk.Zeros), g.Param("lora_B", sdk.Dims(s.Out, rank), sdk.Zeros)
		return g.Add(g.Base(g.X()), g.Scale(alpha/rank, g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(b))))
	}
	var sites []*protocol.Site
	for block := range uint32(5) {
		sites = append(sites, site(design.SiteQuery, block), site(design.SiteValue, block))
	}
	a := placed(t, lora, sites...)
	// The backbone frozen, and trainable though not trained here: the two take
	// different paths through the layer.
	for _, kind := range []spec.Freeze_Kind{spec.Freeze_ALL, spec.Freeze_NONE} {
		t.Run(kind.String(), func(t *testing.T) {
			dev, err := torch.CPU(2)
			if err != nil {
				t.Fatal(err)
			}
			defer dev.Close()
			err = dev.Do(func() error {
				m, err := vit.Load(dev, "../vit/testdata/vit/model.safetensors", &spec.Architecture{
					Family: "vit", Dim: 24, Depth: 5, Heads: 3, Mlp: 64, Patch: 8, GridH: 6, GridW: 4, Eps: 1e-12, QkvBias: true,
				}, vit.Options{Freeze: &spec.Freeze{Kind: kind}})
				if err != nil {
					return err
				}
				defer m.Free()
				set, err := Load(dev, m, a, 1)
				if err != nil {
					return err
				}
				defer set.Free()

				params := make([]*torch.Tensor, len(set.Params))
				states := make([]torch.AdamWState, len(set.Params))
				// "blocks.2.query.lora_A" here is "2.query.lora_A" there.
				name := func(i int) string { return set.Params[i].Name[len("blocks."):] }
				for i, p := range set.Params {
					p.T.Assign(torch.Of(dev, values("init."+name(i)), p.T.Shape()...))
					params[i] = p.T
					states[i] = torch.AdamWState{M: p.T.ZerosLike(), V: p.T.ZerosLike(), Step: dev.Zeros(torch.Float32)}
				}
				if len(params) != 20 {
					t.Fatalf("%d parameters, want 20", len(params))
				}
				pixels := torch.Of(dev, values("pixel_values"), 2, 3, 48, 32)
				target := torch.Of(dev, values("target"), 2, 25, 24)
				losses := make([]float32, 0, 4)
				for step := range 4 {
					y := m.Forward(pixels)
					d := y.Sub(target)
					loss := d.Mul(d).Mean()
					losses = append(losses, float32(loss.Item()))
					if step == 0 || step == 3 {
						near(fmt.Sprintf("output after %d steps", step), y.Floats(), fmt.Sprintf("output.%d", step), 1e-4)
					}
					if step == 3 {
						break
					}
					torch.DropGrads(params)
					loss.Backward()
					if step == 0 {
						for i, p := range params {
							near("gradient of "+name(i), p.Grad().Floats(), "grad."+name(i), 1e-5)
						}
					}
					torch.AdamW(params, states, nil, 1e-2, 0.9, 0.999, 1e-2, 1e-8)
				}
				near("losses", losses, "losses", 1e-4)
				for i, p := range params {
					// Adam divides by the gradient's own size: where it is tiny,
					// its rounding error is a visible part of the step of 0.01.
					near("trained "+name(i), p.Floats(), "final."+name(i), 1e-4)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}
