package inspect_test

import (
	"testing"

	"github.com/loralab/loralab/runner/inspect"
	"github.com/loralab/loralab/runner/store"
)

// A run of before core/rundir is read whole.
func TestEarlierRunsAreInspected(t *testing.T) {
	const root = "../../core/rundir/testdata/project"
	known, err := store.Read(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	run, err := known.Find("tiny/base/seed=1")
	if err != nil {
		t.Fatal(err)
	}
	r, err := inspect.Look(root, known, run)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Faults) > 0 || len(r.Names) != 1 || len(r.Files) != 15 {
		t.Errorf("faults %q, names %q, files %v", r.Faults, r.Names, r.Files)
	}
	if a := r.Record.Last(); a == nil || a.Engine.Libtorch == "" || a.Variant.Name != "lora" {
		t.Errorf("made by %+v", a)
	}
	var rank string
	for _, s := range r.Settings() {
		if s.Path == "adapter.params.rank" {
			rank = s.Value + " " + s.From
		}
	}
	if rank != "2 experiments/tiny.cue:7" {
		t.Errorf("the rank is %s", rank)
	}
}
