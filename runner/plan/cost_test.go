package plan

import (
	"math"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/store"
)

// whole is a run that has all an engine needs.
func whole(cell string, seed uint64, rank int64, lr float64, batch uint32) *experiment.Run {
	s := &spec.RunSpec{
		Seed: seed,
		Backbone: &spec.Backbone{Digest: "d", Freeze: &spec.Freeze{Kind: spec.Freeze_ALL}, Arch: &spec.Architecture{
			Family: "vit", Dim: 16, Depth: 2, Heads: 2, Mlp: 32, Patch: 8, GridH: 4, GridW: 4, QkvBias: true,
		}},
		Head: &spec.Head{Kind: "linear"},
		Data: &spec.Data{Classes: []string{"a", "b"}, Height: 32, Width: 32, Splits: map[string]*spec.Split{"train": {Count: 20}}},
		Loss: []*spec.Loss{{Kind: "dice", Weight: lr}},
		Optim: &spec.Optim{
			LrAdapter: lr, LrHead: lr,
		},
		Train: &spec.Train{Epochs: 5, Batch: batch},
		Adapter: &spec.Adapter{
			Programs: []*protocol.Program{{Params: []*protocol.Param{{Name: "A", Shape: []int64{rank, 16}, Trainable: true, Scope: protocol.Param_SITE}}}},
			Placements: []*spec.Placement{
				{Site: &protocol.Site{Name: "query", Block: 0, Kind: protocol.Site_LINEAR}},
				{Site: &protocol.Site{Name: "query", Block: 1, Kind: protocol.Site_LINEAR}},
			},
		},
	}
	return &experiment.Run{Experiment: "e", Cell: cell, Seed: seed, Spec: s, ID: spec.Identity(s)}
}

// Adapters larger than the memory are named before they are allocated, derived
// parameters too (trial-plugins F9).
func TestTooLarge(t *testing.T) {
	large := func(cell string, rank int64) *experiment.Run {
		r := whole(cell, 1, rank, 1, 4)
		r.Spec.Adapter.Programs[0].Params = append(r.Spec.Adapter.Programs[0].Params,
			&protocol.Param{Name: "P", Shape: []int64{rank, 1_000_000}, Derived: true, Scope: protocol.Param_SITE})
		r.ID = spec.Identity(r.Spec)
		return r
	}
	p, err := Make(experiments(large("rank=1", 1), large("rank=50", 50), large("rank=100", 100)), &store.Snapshot{}, Selection{})
	if err != nil {
		t.Fatal(err)
	}
	for memory, want := range map[uint64]string{
		1e9: "",
		5e8: "the adapters of e/rank=100 take at least 0.8 GB (4 tensors; adapter.blocks.0.query.P alone takes 0.40 GB), and the memory of this machine is 0.5 GB: ",
		1e8: " 0.1 GB; other cells with too large adapters: 1: ",
	} {
		if got := p.TooLarge(memory); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("in %d bytes: %q, want %q", memory, got, want)
		}
	}
}

func TestCost(t *testing.T) {
	trained := func(r *experiment.Run, seconds float64, steps, memory uint64) *store.Run {
		s := stored(t, r, store.Done, steps, true)
		s.Summary = &spec.Summary{Id: r.ID, Seconds: seconds, Steps: steps, PeakMemory: memory}
		return s
	}
	asked := []*experiment.Run{whole("rank=4", 1, 4, 1, 4), whole("rank=4", 2, 4, 1, 4)}
	cells := func(known *store.Snapshot) Cell {
		t.Helper()
		p, err := Make(experiments(asked...), known, Selection{})
		if err != nil {
			t.Fatal(err)
		}
		all, err := p.Cells(known)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != 1 {
			t.Fatalf("%d cells", len(all))
		}
		return all[0]
	}

	// Nothing is known at first, and another batch size says nothing.
	c := cells(snapshot(trained(whole("x", 9, 4, 1, 2), 100, 10, 1<<30)))
	if c.Cost != (Cost{}) {
		t.Errorf("from nothing: %+v", c.Cost)
	}
	// 2 × [4, 16] and a head of 16·2 + 2; 5 epochs of 5 batches, twice.
	if c.Trainable != 2*4*16+34 || c.Steps != 25 || c.Runs != 2 || c.Left != 50 || len(c.Groups) != 3 {
		t.Errorf("%+v", c)
	}

	// Runs with other seeds, rates and images are of this shape.
	one, two := whole("x", 9, 4, 7, 4), whole("y", 8, 4, 3, 4)
	two.Spec.Data.Splits["train"] = &spec.Split{Count: 999, Digest: "other"}
	two.ID = spec.Identity(two.Spec)
	c = cells(snapshot(trained(one, 10, 10, 1<<30)))
	if c.Cost != (Cost{From: 1, Alike: true, Seconds: 50, Memory: 1 << 30}) {
		t.Errorf("from one: %+v", c.Cost)
	}
	c = cells(snapshot(trained(one, 10, 10, 1<<30), trained(two, 60, 20, 1<<20)))
	// 1 and 3 s a step: 2 ± √2; over 50 steps in 2 runs times √(1/2 + 1/2).
	if want := 50 * math.Sqrt2; c.Cost.From != 2 || math.Abs(c.Cost.Seconds-100) > 1e-9 || math.Abs(c.Cost.SD-want) > 1e-9 || c.Cost.Memory != 1<<30 {
		t.Errorf("from two: %+v, want 100 ± %v", c.Cost, want)
	}

	// Another rank is near, and taken only where nothing nearer is.
	near := trained(whole("z", 7, 64, 1, 4), 80, 10, 1<<31)
	if c = cells(snapshot(near)); c.Cost.Alike || c.Cost.Seconds != 400 {
		t.Errorf("near: %+v", c.Cost)
	}
	if c = cells(snapshot(near, trained(one, 10, 10, 1<<30))); !c.Cost.Alike || c.Cost.Seconds != 50 {
		t.Errorf("alike beside near: %+v", c.Cost)
	}

	// What is trained already costs nothing; what is half trained, the rest.
	half := stored(t, asked[0], store.Stopped, 20, false)
	if c = cells(snapshot(trained(asked[1], 25, 25, 5), half)); c.Runs != 1 || c.Left != 5 || c.Cost.Seconds != 5 {
		t.Errorf("the rest: %+v", c)
	}

	// One unknown cell makes the sum unknown.
	if total, steps, runs := Total([]Cell{c, {Runs: 1, Left: 7}}); total.From != 0 || steps != 12 || runs != 2 {
		t.Errorf("total %+v of %d steps in %d runs", total, steps, runs)
	}
	if total, _, _ := Total([]Cell{c, c, {}}); total.Seconds != 10 || total.From != 1 {
		t.Errorf("total %+v", total)
	}
}
