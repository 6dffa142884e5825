package train

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/sdk"
)

// shared has parameters of every scope, one of them frozen, with rates of
// their own.
type shared struct{}

func (shared) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	a := g.Param("A", sdk.Dims(2, s.In), sdk.Normal(0.02), sdk.PerModel, sdk.Frozen)
	b := g.Param("B", sdk.Dims(s.Out, 2), sdk.Zeros, sdk.PerBlock, sdk.LR(16))
	d := g.Param("d", sdk.Dims(2), sdk.Ones, sdk.Decay(0))
	return g.Add(g.Base(g.X()), g.MatMul(g.Mul(g.MatMul(g.X(), g.T(a)), d), g.T(b)))
}

// What a plan says of a run, from the specification alone, is what the engine
// gives to its optimiser.
func TestInventoryIsTheEngines(t *testing.T) {
	dinov2 := func(r *spec.RunRequest) {
		r.Places.Backbone = "../vit/testdata/registers/model.safetensors"
		sum, err := filehash.Of(r.Places.Backbone)
		if err != nil {
			t.Fatal(err)
		}
		r.Spec.Backbone = &spec.Backbone{Digest: sum, Freeze: &spec.Freeze{Kind: spec.Freeze_BLOCKS, Trainable: []uint32{0}}, Arch: &spec.Architecture{
			Family: "dinov2", Dim: 24, Depth: 2, Heads: 3, Mlp: 48, Patch: 8, GridH: 5, GridW: 5, Eps: 1e-6, QkvBias: true, Registers: 4,
		}}
		r.Spec.Adapter = adapted(t, lora{}, 1)
	}
	for name, edit := range map[string]func(*spec.RunRequest){
		"adapter and head": func(*spec.RunRequest) {},
		"no adapter":       func(r *spec.RunRequest) { r.Spec.Adapter = nil },
		"linear head": func(r *spec.RunRequest) {
			r.Spec.Head = &spec.Head{Kind: "linear"}
		},
		"taps": func(r *spec.RunRequest) {
			r.Spec.Head = &spec.Head{Kind: "conv", Taps: []uint32{1, 3, 4}}
		},
		"linear head of taps": func(r *spec.RunRequest) {
			r.Spec.Head = &spec.Head{Kind: "linear", Taps: []uint32{0, 4}}
		},
		"norm and width": func(r *spec.RunRequest) {
			r.Spec.Head = &spec.Head{Kind: "conv", Norm: true, Hidden: 7}
		},
		"segmenter": func(r *spec.RunRequest) {
			r.Spec.Head = &spec.Head{Kind: "segmenter", Layers: 2, Dropout: 0.1}
		},
		"segmenter of taps": func(r *spec.RunRequest) {
			r.Spec.Head = &spec.Head{Kind: "segmenter", Layers: 1, Width: 16, Heads: 2, Taps: []uint32{0, 4}}
		},
		"setr_pup": func(r *spec.RunRequest) {
			r.Spec.Head = &spec.Head{Kind: "setr_pup", Stages: 2, Norm: true}
		},
		"setr_pup of taps": func(r *spec.RunRequest) {
			r.Spec.Head = &spec.Head{Kind: "setr_pup", Stages: 1, Hidden: 7, Taps: []uint32{0, 4}}
		},
		"all trains": func(r *spec.RunRequest) {
			r.Spec.Backbone.Freeze = &spec.Freeze{Kind: spec.Freeze_NONE}
		},
		"some blocks train": func(r *spec.RunRequest) {
			r.Spec.Backbone.Freeze = &spec.Freeze{Kind: spec.Freeze_BLOCKS, Trainable: []uint32{1, 4}}
		},
		"fewer blocks": func(r *spec.RunRequest) {
			r.Spec.Backbone.Depth, r.Spec.Adapter = 3, adapted(t, lora{}, 0, 2)
		},
		"parameters of block and model": func(r *spec.RunRequest) {
			r.Spec.Adapter = adapted(t, shared{}, 1, 2, 4)
		},
		"layer scale and registers": dinov2,
		"rules": func(r *spec.RunRequest) {
			r.Spec.Optim.Rules = []*spec.Rule{
				{Pattern: "backbone.*layernorm*", Lr: 1e-5},
				{Pattern: "backbone.encoder.layer.4.*.bias", Lr: 2e-5},
				{Pattern: "backbone.*", Frozen: true},
				{Pattern: "head.conv1.*", Lr: 1e-3, Frozen: true, UntilEpoch: 2},
				{Pattern: "head.*", Frozen: true},
				{Pattern: "adapter.*.B", Lr: 1e-2, WeightDecay: ptr(0.0)},
				{Pattern: "adapter.*", Lr: 1e-3},
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			req := request(t, edit)
			tensors, err := params.Of(req.Spec)
			if err != nil {
				t.Fatal(err)
			}
			var planned []string
			for i := range tensors {
				if x := &tensors[i]; x.Trains {
					planned = append(planned, fmt.Sprintf("%s %d lr %g decay %g", x.Name, x.Elements(), x.LR, x.Decay))
				}
			}
			s := &session{t: trainer(t), req: req, spec: req.Spec}
			if err := s.open(); err != nil {
				t.Fatal(err)
			}
			if err := s.compute(s.spec.Train.Precision); err != nil {
				t.Fatal(err)
			}
			defer s.close()
			var engines []string
			var frozen int64
			err = cpu.Do(func() error {
				for _, g := range s.groups() {
					for _, p := range g.Params {
						engines = append(engines, fmt.Sprintf("%s %d lr %g decay %g", p.Name, p.T.Numel(), g.LR, g.Decay))
					}
				}
				frozen = s.net.model.Frozen()
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			cache, err := params.CacheOf(req.Spec, tensors, params.CacheBytes)
			if err != nil {
				t.Fatal(err)
			}
			if cache.Blocks != s.net.prefix || !slices.Equal(cache.Stops, s.net.stops) {
				t.Errorf("%d blocks are planned to be frozen, stops %v; in the engine %d, %v", cache.Blocks, cache.Stops, s.net.prefix, s.net.stops)
			}
			slices.Sort(planned)
			slices.Sort(engines)
			if !slices.Equal(planned, engines) {
				t.Errorf("planned\n  %q\nthe engine trains\n  %q", planned, engines)
			}
			var rest int64
			for i := range tensors {
				if x := &tensors[i]; x.Part == params.Backbone && !x.Trains {
					rest += x.Elements()
				}
			}
			if rest != frozen {
				t.Errorf("%d weights of the backbone are frozen, planned are %d", frozen, rest)
			}
		})
	}
}

func TestStepsAreTheEngines(t *testing.T) {
	for _, most := range []uint32{0, 5} {
		req := request(t, func(r *spec.RunRequest) { r.Spec.Train.MaxSteps = most })
		events, err := run(t, trainer(t), req, 1)
		if !errors.Is(err, ErrStopped) {
			t.Fatal(err)
		}
		for _, e := range events {
			if s := e.GetStarted(); s != nil && s.Steps != params.Steps(req.Spec) {
				t.Errorf("with a limit of %d the engine makes %d steps, planned are %d", most, s.Steps, params.Steps(req.Spec))
			}
		}
	}
}
