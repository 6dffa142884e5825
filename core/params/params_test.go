package params_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/head/design"
	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
)

func vitB() *spec.RunSpec {
	double := 16.0
	s := &spec.RunSpec{
		Backbone: &spec.Backbone{Arch: &spec.Architecture{
			Family: "vit", Dim: 768, Depth: 12, Heads: 12, Mlp: 3072, Patch: 16, GridH: 14, GridW: 14, QkvBias: true,
		}, Freeze: &spec.Freeze{Kind: spec.Freeze_ALL}},
		Head: &spec.Head{Kind: "linear"},
		Data: &spec.Data{Classes: []string{"background", "nucleus"}},
		Optim: &spec.Optim{
			LrAdapter: 1e-3, LrHead: 2e-3, WeightDecay: 0.01,
		},
		Adapter: &spec.Adapter{Programs: []*protocol.Program{{Params: []*protocol.Param{
			{Name: "lora_A", Shape: []int64{8, 768}, Trainable: true, Scope: protocol.Param_SITE},
			{Name: "lora_B", Shape: []int64{768, 8}, Trainable: true, Scope: protocol.Param_SITE, LrMult: &double},
			{Name: "mask", Shape: []int64{8}, Scope: protocol.Param_MODEL},
		}}}},
	}
	for _, block := range []uint32{6, 8, 9, 10, 11} {
		for _, site := range []string{"query", "value"} {
			s.Adapter.Placements = append(s.Adapter.Placements, &spec.Placement{Site: &protocol.Site{Name: site, Block: block, Kind: protocol.Site_LINEAR}})
		}
	}
	return s
}

func groups(t *testing.T, s *spec.RunSpec) string {
	t.Helper()
	tensors, err := params.Of(s)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, g := range params.Groups(tensors) {
		fmt.Fprintf(&b, "%s: %d tensors, %d weights, ", g.Pattern, g.Tensors, g.Parameters)
		if g.Frozen {
			b.WriteString("frozen\n")
		} else {
			fmt.Fprintf(&b, "lr %g, decay %g\n", g.LR, g.Decay)
		}
	}
	return b.String()
}

func TestGroups(t *testing.T) {
	// 85,798,656 is ViT-B/16 without pooler and classifier.
	const frozen = `backbone.*: 150 tensors, 85798656 weights, frozen
adapter.blocks.{6,8..11}.{query,value}.lora_A: 10 tensors, 61440 weights, lr 0.001, decay 0.01
adapter.blocks.{6,8..11}.{query,value}.lora_B: 10 tensors, 61440 weights, lr 0.016, decay 0.01
adapter.mask: 1 tensors, 8 weights, frozen
head.*: 1 tensors, 1536 weights, lr 0.002, decay 0.01
head.* (vectors): 1 tensors, 2 weights, lr 0.002, decay 0
`
	if got := groups(t, vitB()); got != frozen {
		t.Errorf("got\n%s\nwant\n%s", got, frozen)
	}

	s := vitB()
	s.Adapter, s.Optim.LrBackbone = nil, 1e-5
	s.Backbone.Freeze = &spec.Freeze{Kind: spec.Freeze_BLOCKS, Trainable: []uint32{10, 11}}
	const partly = `backbone.embeddings.*: 4 tensors, 742656 weights, frozen
backbone.encoder.layer.{0..9}.*: 120 tensors, 70878720 weights, frozen
backbone.encoder.layer.{10,11}.*: 8 tensors, 14155776 weights, lr 1e-05, decay 0.01
backbone.encoder.layer.{10,11}.* (vectors): 16 tensors, 19968 weights, lr 1e-05, decay 0
backbone.layernorm.* (vectors): 2 tensors, 1536 weights, lr 1e-05, decay 0
head.*: 1 tensors, 1536 weights, lr 0.002, decay 0.01
head.* (vectors): 1 tensors, 2 weights, lr 0.002, decay 0
`
	if got := groups(t, s); got != partly {
		t.Errorf("got\n%s\nwant\n%s", got, partly)
	}
}

// Decay is for matrices: neither norms nor the tokens of the classes are any.
func TestTokensOfAHeadDoNotDecay(t *testing.T) {
	s := vitB()
	s.Adapter, s.Head = nil, &spec.Head{Kind: "segmenter", Layers: 2}
	tensors, err := params.Of(s)
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for i := range tensors {
		if x := &tensors[i]; x.Trains && x.Decay == 0 && len(x.Shape) > 1 {
			kept = append(kept, x.Name)
		}
	}
	if !slices.Equal(kept, []string{"head.class_tokens"}) {
		t.Errorf("besides vectors %q do not decay", kept)
	}
}

// No tensor is in two groups or in none.
func TestGroupsAreAPartition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := vitB()
		s.Backbone.Depth = uint32(rapid.IntRange(1, 12).Draw(t, "depth"))
		s.Backbone.Freeze.Kind = spec.Freeze_Kind(rapid.IntRange(1, 3).Draw(t, "freeze"))
		s.Backbone.Freeze.Trainable = rapid.SliceOfDistinct(rapid.Uint32Range(0, s.Backbone.Depth-1), func(b uint32) uint32 { return b }).Draw(t, "trainable")
		s.Head = &spec.Head{Kind: rapid.SampledFrom(design.Kinds()).Draw(t, "head"), Norm: true, Layers: 1, Stages: 2}
		design.Prune(s.Head)
		if rapid.Bool().Draw(t, "taps") {
			s.Head.Taps = slices.Compact([]uint32{0, s.Backbone.Depth - 1})
		}
		tensors, err := params.Of(s)
		if err != nil {
			t.Fatal(err)
		}
		var weights, grouped int64
		names := map[string]bool{}
		for i := range tensors {
			weights += tensors[i].Elements()
			names[tensors[i].Name] = true
		}
		if len(names) != len(tensors) {
			t.Fatalf("%d tensors have %d names", len(tensors), len(names))
		}
		count := 0
		patterns := map[string]bool{}
		for _, g := range params.Groups(tensors) {
			grouped += g.Parameters
			count += g.Tensors
			patterns[g.Pattern] = true
		}
		if grouped != weights || count != len(tensors) || len(patterns) != len(params.Groups(tensors)) {
			t.Fatalf("%d tensors with %d weights are in groups of %d with %d; patterns %v", len(tensors), weights, count, grouped, patterns)
		}
	})
}

func TestUnknownIsAnError(t *testing.T) {
	for _, edit := range []func(*spec.RunSpec){
		func(s *spec.RunSpec) { s.Backbone.Arch.Family = "swin" },
		func(s *spec.RunSpec) { s.Head.Kind = "unet" },
		func(s *spec.RunSpec) { s.Head.Taps = []uint32{3, 3} },
		func(s *spec.RunSpec) { s.Head.Taps = []uint32{s.Backbone.Depth} },
		func(s *spec.RunSpec) { s.Adapter.Placements[3].Program = 7 },
	} {
		s := vitB()
		edit(s)
		if _, err := params.Of(s); err == nil {
			t.Errorf("no error for %v", s)
		}
	}
}
