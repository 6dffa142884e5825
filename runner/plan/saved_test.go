package plan

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/store"
)

func TestSavedPlan(t *testing.T) {
	a, b := run("e", "a", 1, 3, "test"), run("e", "b", 1, 3, "test")
	longer := run("e", "b", 1, 4, "test")
	longer.Spec.Head = b.Spec.Head
	scored := run("e", "b", 1, 3, "test", "far")
	planned := func(known *store.Snapshot, runs ...*experiment.Run) *Plan {
		t.Helper()
		p, err := Make(experiments(runs...), known, Selection{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	nothing := snapshot()
	ask := Ask{Root: "/p", Files: []string{"/p/e.cue"}, Tags: []string{"scale=smoke"}, Target: []string{"*"}}
	file := filepath.Join(t.TempDir(), "x.plan")
	if err := planned(nothing, a, b).Write(file, ask); err != nil {
		t.Fatal(err)
	}
	if !IsSaved(file) {
		t.Error("it is not recognised")
	}
	saved, err := ReadSaved(file)
	if err != nil {
		t.Fatal(err)
	}
	if saved.Ask.Root != ask.Root || !slices.Equal(saved.Ask.Files, ask.Files) || !slices.Equal(saved.Ask.Tags, ask.Tags) || !slices.Equal(saved.Selection().Target, ask.Target) {
		t.Errorf("%+v", saved.Ask)
	}
	half := snapshot(stored(t, b, store.Stopped, 7, false))
	trained := snapshot(stored(t, b, store.Stopped, 7, true))
	done := snapshot(stored(t, b, store.Done, 7, true, "test"))
	for name, c := range map[string]struct {
		now   *Plan
		moved []string
	}{
		"nothing moved":   {planned(nothing, a, b), nil},
		"another order":   {planned(nothing, b, a), nil},
		"a field":         {planned(nothing, a, longer), []string{"e/b/seed=1: train.epochs moved from 3 to 4"}},
		"a cell is gone":  {planned(nothing, b), []string{"e/a/seed=1: no file asks for it any more"}},
		"a cell is new":   {planned(nothing, a, b, run("e", "c", 1, 3)), []string{"e/c/seed=1: not in the saved plan"}},
		"another domain":  {planned(nothing, a, scored), []string{"e/b/seed=1: was to be scored on 1 domains, now on test, far"}},
		"begun meanwhile": {planned(half, a, b), []string{"e/b/seed=1: stood at step 0, now at step 7"}},
		"trained":         {planned(trained, a, b), []string{"e/b/seed=1: was trained meanwhile"}},
		"done":            {planned(done, a, b), []string{"e/b/seed=1: was done meanwhile"}},
	} {
		err := saved.Holds(c.now)
		var drift *DriftError
		if errors.As(err, &drift) != (c.moved != nil) || drift != nil && !slices.Equal(drift.Moved, c.moved) {
			t.Errorf("%s: %v, want %v", name, err, c.moved)
		}
	}
}

func TestSavedPlanThatIsNone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "e.cue")
	if err := os.WriteFile(file, []byte("package experiments\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if IsSaved(file) || IsSaved(filepath.Join(dir, "missing")) || IsSaved(dir) {
		t.Error("it is taken for a saved plan")
	}
	if _, err := ReadSaved(file); err == nil {
		t.Error("no error")
	}
	newer := filepath.Join(dir, "x.plan")
	if err := (&Plan{}).Write(newer, Ask{}); err != nil {
		t.Fatal(err)
	}
	if s, err := ReadSaved(newer); err != nil || s.Holds(&Plan{}) != nil {
		t.Errorf("an empty plan: %v", err)
	}
}
