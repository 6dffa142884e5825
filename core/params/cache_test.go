package params_test

import (
	"strings"
	"testing"

	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/spec"
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
