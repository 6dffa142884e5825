package params_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/spec"
	protocol "github.com/loralab/loralab/plugins/protocol"
)

// The cache has room for all views and for validation, or is off.
func TestCacheOf(t *testing.T) {
	s := vitB()
	s.Data.Height, s.Data.Width = 224, 224
	s.Data.Splits = map[string]*spec.Split{"train": {Count: 10}, "val": {Count: 4}}
	s.Train = &spec.Train{Batch: 4, Epochs: 5}
	tensors, err := params.Of(s)
	if err != nil {
		t.Fatal(err)
	}
	const image = 197 * 768 * 4
	of := func(limit int64) params.Cache {
		t.Helper()
		c, err := params.CacheOf(s, tensors, limit)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := of(10 * image); c.Off != "" || c.Views != 1 || c.Bytes != 10*image || c.Blocks < 1 {
		t.Errorf("whole images: %+v", c)
	}
	if c := of(10*image - 1); c.Off == "" {
		t.Errorf("without room: %+v", c)
	}
	s.Data.Augment = []*spec.Augment{{Kind: "flip", P: 0.5}}
	if c := of(params.CacheBytes); !strings.Contains(c.Off, "data.views") {
		t.Errorf("augmented: %+v", c)
	}
	s.Data.Views = &spec.Views{Count: 3}
	if c := of(34 * image); c.Off != "" || c.Views != 3 {
		t.Errorf("three views: %+v", c)
	}
	if c := of(34*image - 1); c.Off == "" {
		t.Errorf("three views without room: %+v", c)
	}
	s.Data.Views.Count = 100 // there are five epochs
	if c := of(54 * image); c.Off != "" || c.Views != 5 {
		t.Errorf("a hundred views: %+v", c)
	}
	if s.Train.MaxSteps = 4; params.Epochs(s) != 2 || of(params.CacheBytes).Views != 2 {
		t.Errorf("%d epochs, %+v", params.Epochs(s), of(params.CacheBytes))
	}
}

// A budget in steps is what it says, whatever the images; epochs are as many as it
// begins.
func TestStepsOfABudget(t *testing.T) {
	s := &spec.RunSpec{
		Data:  &spec.Data{Splits: map[string]*spec.Split{"train": {Count: 10}}},
		Train: &spec.Train{Batch: 2, Accumulate: 2, Epochs: 5},
	}
	for _, c := range []struct {
		epochs, steps, most uint32
		total, begun        uint64
	}{
		{5, 0, 0, 15, 5},
		{5, 0, 7, 7, 3},
		{0, 20, 0, 20, 7},
		{0, 2, 0, 2, 1},
		{0, 20, 2, 2, 1}, // a smoke test
		{0, 0, 0, 0, 0},
	} {
		s.Train.Epochs, s.Train.Steps, s.Train.MaxSteps = c.epochs, c.steps, c.most
		if total, begun := params.Steps(s), params.Epochs(s); total != c.total || begun != c.begun {
			t.Errorf("%d epochs, %d steps, %d at most: %d steps in %d epochs, want %d in %d", c.epochs, c.steps, c.most, total, begun, c.total, c.begun)
		}
	}
}

// Drop path rises in a line over the blocks in use, and is in none before the first
// with something that trains, nor after the last that the head sees.
func TestDropPath(t *testing.T) {
	s := vitB()
	s.Backbone.Depth, s.Backbone.DropPath = 5, 0.4
	frozen, all := &spec.Freeze{Kind: spec.Freeze_ALL}, &spec.Freeze{Kind: spec.Freeze_NONE}
	for name, c := range map[string]struct {
		freeze *spec.Freeze
		on     []uint32 // blocks with adapters
		taps   []uint32
		want   []float64
	}{
		"all":             {freeze: all, want: []float64{0, 0.1, 0.2, 0.3, 0.4}},
		"head alone":      {freeze: frozen},
		"adapters":        {freeze: frozen, on: []uint32{2, 4}, want: []float64{0, 0, 0.2, 0.3, 0.4}},
		"a block":         {freeze: &spec.Freeze{Kind: spec.Freeze_BLOCKS, Trainable: []uint32{3}}, want: []float64{0, 0, 0, 0.3, 0.4}},
		"taps":            {freeze: all, taps: []uint32{1, 2}, want: []float64{0, 0.1, 0.2, 0, 0}},
		"the first block": {freeze: &spec.Freeze{Kind: spec.Freeze_BLOCKS, Trainable: []uint32{0}}, taps: []uint32{0}},
	} {
		s.Backbone.Freeze, s.Head.Taps, s.Adapter = c.freeze, c.taps, nil
		if c.on != nil {
			s.Adapter = &spec.Adapter{}
			for _, b := range c.on {
				s.Adapter.Placements = append(s.Adapter.Placements, &spec.Placement{Site: &protocol.Site{Block: b, Name: "query"}})
			}
		}
		var tensors []params.Tensor
		if c.on == nil {
			var err error
			if tensors, err = params.Of(s); err != nil {
				t.Fatal(err)
			}
		}
		got := params.DropPath(s, tensors)
		if !slices.EqualFunc(got, c.want, func(a, b float64) bool { return math.Abs(a-b) < 1e-12 }) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	s.Backbone.Freeze, s.Backbone.DropPath, s.Adapter = all, 0, nil
	tensors, err := params.Of(s)
	if err != nil || params.DropPath(s, tensors) != nil {
		t.Errorf("without drop path: %v, %v", params.DropPath(s, tensors), err)
	}
}
