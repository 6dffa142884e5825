package store

import (
	"strings"
	"testing"
)

func order(s *Snapshot) string {
	var cells []string
	for _, l := range s.Newest() {
		cells = append(cells, l.Cell)
	}
	return strings.Join(cells, " ")
}

// Names are in the order of the file as the newest apply read it, whatever was
// run first, and a name means the run that this apply asked for
// (trial-language W3).
func TestNewestFollowsTheFile(t *testing.T) {
	root := awkward(t)
	ctx := t.Context()
	s := open1(t, root)
	a, la := newRun(t, "e", "a", 1)
	b, lb := newRun(t, "e", "b", 1)
	c, lc := newRun(t, "e", "c", 1)
	file := func(labels ...Label) *Asked {
		asked := &Asked{Experiment: "e"}
		for _, l := range labels {
			asked.Runs = append(asked.Runs, Wanted{Label: l})
		}
		return asked
	}
	apply := func(asked *Asked, runs []*Run, selected ...Label) *Snapshot {
		t.Helper()
		check(t, s.Enqueue(ctx, must[*Snapshot](t)(s.Reconcile(ctx)), runs, selected, asked))
		return must[*Snapshot](t)(Read(ctx, root))
	}
	// One cell first, then all.
	apply(file(la, lb, lc), []*Run{c}, lc)
	known := apply(file(la, lb, lc), []*Run{a, b, c}, la, lb, lc)
	if got := order(known); got != "a b c" {
		t.Errorf("the order is %s", got)
	}
	// Another order, and a cell that is no longer asked for.
	known = apply(file(lc, la), nil, lc, la)
	if got := order(known); got != "c a b" {
		t.Errorf("the order is %s", got)
	}
	if current := known.Current(); !current(la) || current(lb) {
		t.Errorf("current are a: %v, b: %v", current(la), current(lb))
	}
	// The cell becomes another run, and the one before again.
	other, lo := newRun(t, "e", "other", 1)
	lo.Cell = "a"
	apply(file(lc, lo), []*Run{other}, lc, lo)
	if run := must[*Run](t)(must[*Snapshot](t)(Read(ctx, root)).Find("e/a/seed=1")); run.ID != other.ID {
		t.Errorf("the cell is run %s", run.ID)
	}
	known = apply(file(lc, la), nil, lc, la)
	if run := must[*Run](t)(known.Find("e/a/seed=1")); run.ID != a.ID {
		t.Errorf("the cell is run %s again", run.ID)
	}
	// And so it stays when the cell is not asked for any more.
	known = apply(file(lc), nil, lc)
	if run := must[*Run](t)(known.Find("e/a/seed=1")); run.ID != a.ID {
		t.Errorf("the cell was run %s", run.ID)
	}
}

// A name that is taken off a shared run leaves the run and its other names
// (trial-language D3); one that is the beginning of an identity is a name.
func TestNamesOfSharedRuns(t *testing.T) {
	root := awkward(t)
	ctx := t.Context()
	runs := ofAllKinds(t, root)
	s := open1(t, root)
	known := must[*Snapshot](t)(s.Reconcile(ctx))
	shared := runs["shared"]
	labels, meant, err := known.Select("second")
	if err != nil || meant != Several || len(labels) != 1 || labels[0].Run != shared.ID {
		t.Fatalf("second means %v (%v), %v", labels, meant, err)
	}
	if _, meant, _ := known.Select(shared.ID[:8]); meant != ByID {
		t.Errorf("an identity is meant as %v", meant)
	}
	if _, meant, _ := known.Select("same/seed=4"); meant != Named {
		t.Errorf("a name is meant as %v", meant)
	}
	check(t, s.Unname(ctx, shared.ID, known.Names(shared.ID)[:2]))
	known = must[*Snapshot](t)(Read(ctx, root))
	if r := known.Runs[shared.ID]; r.State != Done || r.Name() != "second/same/seed=4" || len(known.Names(r.ID)) != 1 {
		t.Errorf("%+v, names %v", r, known.Names(shared.ID))
	}
	if err := s.Unname(ctx, shared.ID, known.Names(shared.ID)); err == nil {
		t.Error("a run has lost its last name")
	}
}

// What is an experiment is no run that is missing (trial-language M22).
func TestFindNamesOfExperiments(t *testing.T) {
	root := awkward(t)
	ofAllKinds(t, root)
	_, err := must[*Snapshot](t)(Read(t.Context(), root)).Find("second")
	if err == nil || !strings.Contains(err.Error(), "\"second\" is no single run; its runs are:\nsecond/same/seed=4") {
		t.Errorf("got %v", err)
	}
}
