package params

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/spec"
)

func ruled(rules ...*spec.Rule) *spec.RunSpec {
	return &spec.RunSpec{
		Backbone: &spec.Backbone{Arch: &spec.Architecture{
			Family: "deit", Dim: 8, Depth: 2, Heads: 2, Mlp: 16, Patch: 4, GridH: 2, GridW: 2, QkvBias: true,
		}, Freeze: &spec.Freeze{Kind: spec.Freeze_ALL}},
		Head:  &spec.Head{Kind: "linear"},
		Data:  &spec.Data{Classes: []string{"a", "b"}},
		Optim: &spec.Optim{LrHead: 1e-2, LrBackbone: 1e-4, WeightDecay: 0.1, Rules: rules},
	}
}

func find(t *testing.T, tensors []Tensor, name string) Tensor {
	t.Helper()
	i := slices.IndexFunc(tensors, func(x Tensor) bool { return x.Name == name })
	if i < 0 {
		t.Fatalf("no tensor %s", name)
	}
	return tensors[i]
}

// The first pattern that matches settles a tensor, whatever its part.
func TestTheFirstRuleCounts(t *testing.T) {
	none := 0.0
	tensors, err := Of(ruled(
		&spec.Rule{Pattern: "*.layer.1.*", Lr: 3e-4, WeightDecay: &none},
		&spec.Rule{Pattern: "backbone.*fc*", Frozen: true, Lr: 1}, // no such name: see below
		&spec.Rule{Pattern: "*", Lr: 1e-3, Frozen: true, UntilEpoch: 4},
	))
	var e *RuleError
	if !errors.As(err, &e) || !slices.Equal(e.Idle, []int{1}) || len(e.Untaken) > 0 {
		t.Fatalf("got %v, %v", tensors, err)
	}
	tensors, err = Of(ruled(
		&spec.Rule{Pattern: "*.layer.1.*", Lr: 3e-4, WeightDecay: &none},
		&spec.Rule{Pattern: "backbone.*", Frozen: true, Lr: 1},
		&spec.Rule{Pattern: "*", Lr: 1e-3, Frozen: true, UntilEpoch: 4},
	))
	if err != nil {
		t.Fatal(err)
	}
	if x := find(t, tensors, "backbone.encoder.layer.1.attention.output.dense.weight"); !x.Trains || x.LR != 3e-4 || x.Decay != 0 || x.Until != 0 {
		t.Errorf("%+v", x)
	}
	if x := find(t, tensors, "backbone.encoder.layer.0.attention.output.dense.weight"); x.Trains || x.LR != 0 {
		t.Errorf("%+v", x)
	}
	if x := find(t, tensors, "head.classifier.weight"); !x.Trains || x.LR != 1e-3 || x.Decay != 0.1 || x.Until != 4 {
		t.Errorf("%+v", x)
	}
	if x := find(t, tensors, "head.classifier.bias"); x.Decay != 0 {
		t.Errorf("a bias decays: %+v", x)
	}
	all := ruled()
	all.Optim.DecayVectors = true
	if tensors, err = Of(all); err != nil {
		t.Fatal(err)
	}
	if x := find(t, tensors, "head.classifier.bias"); x.Decay != 0.1 {
		t.Errorf("decay of vectors was asked for: %+v", x)
	}
}

// Everything that is wrong with the rules is told at once.
func TestRulesThatDoNotFit(t *testing.T) {
	_, err := Of(ruled(
		&spec.Rule{Pattern: "backbone.*", Frozen: true},
		&spec.Rule{Pattern: "backbone.embeddings.*", Lr: 1}, // the rule before has them
		&spec.Rule{Pattern: "head.[", Lr: 1},
	))
	var e *RuleError
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	if !slices.Equal(e.Malformed, []int{2}) || !slices.Equal(e.Idle, []int{1}) ||
		!slices.Equal(e.Untaken, []string{"head.classifier.weight", "head.classifier.bias"}) {
		t.Errorf("got %+v", e)
	}
	for _, want := range []string{`"head.[" is malformed`, `"backbone.embeddings.*" takes no tensor`, "no pattern takes head.classifier.weight"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}
