package store

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
)

// newFold is a run of a cross-validation.
func newFold(t *testing.T, cell string, fold uint32, seed uint64) (*Run, Label) {
	t.Helper()
	s := &spec.RunSpec{Revision: 2, Seed: seed, Head: &spec.Head{Kind: cell}, Folds: &spec.Folds{Count: 3, Fold: fold}}
	id := spec.Identity(s)
	run := &Run{ID: id, Experiment: "e", Cell: cell, Fold: name.NewFold(fold), Seed: seed, Dir: DirOf("e", id)}
	check(t, run.SetSpec(s))
	return run, Label{Experiment: "e", Cell: cell, Fold: run.Fold, Seed: seed, Run: id}
}

// Folds are a part of names, of records and of what was asked for; runs without are
// as they were.
func TestFoldsHaveNames(t *testing.T) {
	ctx, root := t.Context(), t.TempDir()
	s := must[*Store](t)(Open(ctx, root))
	var runs []*Run
	var labels []Label
	asked := &Asked{Experiment: "e"}
	for _, at := range []name.Repeat{{Fold: name.NewFold(0), Seed: 1}, {Fold: name.NewFold(0), Seed: 2}, {Fold: name.NewFold(2), Seed: 1}} {
		n, _ := at.Fold.Number()
		run, label := newFold(t, "a", n, at.Seed)
		runs, labels = append(runs, run), append(labels, label)
		asked.Runs = append(asked.Runs, Wanted{Label: label})
	}
	plain, label := newRun(t, "e", "b", 1)
	runs, labels = append(runs, plain), append(labels, label)
	check(t, s.Enqueue(ctx, nil, runs, labels, asked), s.Close(), os.Remove(databasePath(root)))

	known := must[*Snapshot](t)(Read(ctx, root))
	for ref, want := range map[string][]string{
		"e/a":            {"e/a/fold=0/seed=1", "e/a/fold=0/seed=2", "e/a/fold=2/seed=1"},
		"a/fold=0":       {"e/a/fold=0/seed=1", "e/a/fold=0/seed=2"},
		"fold=2/seed=1":  {"e/a/fold=2/seed=1"},
		"e/b/seed=1":     {"e/b/seed=1"},
		runs[2].ID[:12]:  {"e/a/fold=2/seed=1"},
		"e/a/fold=2":     {"e/a/fold=2/seed=1"},
		"fold=0/seed=2":  {"e/a/fold=0/seed=2"},
		"a/fold=0/seed=": nil,
	} {
		found, _, err := known.Select(ref)
		var names []string
		for _, l := range found {
			names = append(names, l.Name())
		}
		if slices.Sort(names); !slices.Equal(names, want) {
			t.Errorf("%s means %v, %v; want %v", ref, names, err, want)
		}
	}
	if a := known.Asked["e"].Runs; len(a) != 3 || a[2].Label.Repeat() != labels[2].Repeat() {
		t.Errorf("asked for %+v", a)
	}
	for i, want := range map[int]string{2: "a-fold2-seed1-", 3: "b-seed1-"} {
		if got := LogName(labels[i]); got[:len(want)] != want {
			t.Errorf("the log of %s is called %s", labels[i].Name(), got)
		}
	}
	// Without its record, a run has its fold from its specification.
	dir := filepath.Join(root, filepath.FromSlash(runs[2].Dir))
	request := &spec.RunRequest{Id: runs[2].ID, Spec: must[*spec.RunSpec](t)(runs[2].Spec()), Label: &spec.Label{Experiment: "e", Cell: "a"}}
	check(t, os.WriteFile(filepath.Join(dir, rundir.Request), must[[]byte](t)(rundir.MarshalFile(request)), 0o644), os.Remove(filepath.Join(dir, rundir.Record)))
	known = must[*Snapshot](t)(Read(ctx, root))
	if run, err := known.Find("fold=2/seed=1"); err != nil || run.ID != runs[2].ID {
		t.Errorf("without its record, the run is found as %+v, %v", run, err)
	}
}
