package plan

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/store"
)

func run(name, cell string, seed uint64, epochs uint32, domains ...string) *experiment.Run {
	s := &spec.RunSpec{Seed: seed, Train: &spec.Train{Epochs: epochs}, Head: &spec.Head{Kind: cell}}
	r := &experiment.Run{Experiment: name, Cell: cell, Seed: seed, Spec: s, ID: spec.Identity(s)}
	for _, domain := range domains {
		r.Evaluations = append(r.Evaluations, experiment.Evaluation{ID: r.ID + domain, Spec: &spec.Evaluation{Domain: domain}})
	}
	return r
}

func experiments(runs ...*experiment.Run) []*experiment.Experiment {
	var all []*experiment.Experiment
	for _, r := range runs {
		i := slices.IndexFunc(all, func(e *experiment.Experiment) bool { return e.Name == r.Experiment })
		if i < 0 {
			i = len(all)
			all = append(all, &experiment.Experiment{Name: r.Experiment})
		}
		all[i].Runs = append(all[i].Runs, r)
	}
	return all
}

// stored is a run as far as it has come.
func stored(t interface{ Fatal(...any) }, r *experiment.Run, state store.State, checkpoint uint64, trained bool, domains ...string) *store.Run {
	s := &store.Run{
		ID: r.ID, Experiment: r.Experiment, Cell: r.Cell, Seed: r.Seed, State: state, Attempts: 1,
		Checkpoint: checkpoint, Steps: 100, Reason: "out of luck", Evaluations: map[string]*spec.Evaluated{},
	}
	if err := s.SetSpec(r.Spec); err != nil {
		t.Fatal(err)
	}
	if trained {
		s.Summary = &spec.Summary{Id: r.ID}
	}
	for _, domain := range domains {
		s.Evaluations[r.ID+domain] = &spec.Evaluated{Id: r.ID + domain}
	}
	return s
}

func snapshot(runs ...*store.Run) *store.Snapshot {
	known := &store.Snapshot{Runs: map[string]*store.Run{}}
	for _, r := range runs {
		known.Runs[r.ID] = r
		known.Labels = append(known.Labels, store.Label{Experiment: r.Experiment, Cell: r.Cell, Seed: r.Seed, Run: r.ID})
	}
	return known
}

func TestDecide(t *testing.T) {
	r := run("e", "c", 1, 3, "test", "far")
	older := run("e", "c", 1, 2, "test", "far")
	oldest := run("e", "c", 1, 1, "test", "far")
	for name, c := range map[string]struct {
		known  *store.Snapshot
		symbol Symbol
		reason string
		train  bool
		scores string
		step   uint64
	}{
		"nothing known":        {snapshot(), New, "", true, "test far", 0},
		"asked for before":     {snapshot(&store.Run{ID: r.ID, State: store.Queued}), New, "", true, "test far", 0},
		"ended early":          {snapshot(stored(t, r, store.Stopped, 0, false)), New, "ended before its first checkpoint", true, "test far", 0},
		"stopped":              {snapshot(stored(t, r, store.Stopped, 7, false)), Resume, "resume after step 7 of 100", true, "test far", 7},
		"paused":               {snapshot(stored(t, r, store.Paused, 7, false)), Resume, "resume after step 7 of 100, where a search has paused it", true, "test far", 7},
		"paused at once":       {snapshot(stored(t, r, store.Paused, 0, false)), New, "a search has paused it", true, "test far", 0},
		"paused, then trained": {snapshot(stored(t, r, store.Paused, 7, true)), Resume, "evaluate on test, far", false, "test far", 0},
		"killed":               {snapshot(stored(t, r, store.Running, 7, false)), Resume, "resume after step 7 of 100", true, "test far", 7},
		"failed at once":       {snapshot(stored(t, r, store.Failed, 0, false)), Retry, "failed: out of luck", true, "test far", 0},
		"failed later":         {snapshot(stored(t, r, store.Failed, 7, false)), Retry, "failed: out of luck; goes on after step 7", true, "test far", 7},
		"failed scoring":       {snapshot(stored(t, r, store.Failed, 7, true, "test")), Retry, "failed: out of luck", false, "far", 7},
		"killed while scoring": {snapshot(stored(t, r, store.Running, 7, true, "test")), Resume, "evaluate on far", false, "far", 0},
		"trained":              {snapshot(stored(t, r, store.Done, 7, true)), Resume, "evaluate on test, far", false, "test far", 0},
		"done":                 {snapshot(stored(t, r, store.Done, 7, true, "test", "far")), Done, "", false, "", 0},
		"done, though failed":  {snapshot(stored(t, r, store.Failed, 7, true, "test", "far")), Done, "", false, "", 0},
		"stale":                {snapshot(stored(t, oldest, store.Done, 7, true), stored(t, older, store.Stopped, 7, false)), Stale, "train.epochs moved from 2 to 3", true, "test far", 0},
		"never begun before":   {snapshot(stored(t, older, store.Stopped, 0, false)), New, "", true, "test far", 0},
	} {
		p, err := Make(experiments(r), c.known, Selection{})
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Actions) != 1 {
			t.Errorf("%s: %d actions", name, len(p.Actions))
			continue
		}
		a := p.Actions[0]
		var scores []string
		for _, e := range a.Evaluations {
			scores = append(scores, e.Spec.GetDomain())
		}
		if a.Symbol != c.symbol || a.Reason != c.reason || a.Train != c.train || a.Step != c.step || strings.Join(scores, " ") != c.scores {
			t.Errorf("%s: %c %q train=%v step=%d scores=%v, want %c %q train=%v step=%d scores=%s",
				name, a.Symbol, a.Reason, a.Train, a.Step, scores, c.symbol, c.reason, c.train, c.step, c.scores)
		}
		if a.Works() != (c.symbol != Done) {
			t.Errorf("%s: works=%v", name, a.Works())
		}
	}
}

func TestOrphans(t *testing.T) {
	kept, gone, other := run("e", "kept", 1, 3), run("e", "gone", 1, 3), run("other", "gone", 1, 3)
	old := run("e", "gone", 1, 2)
	p, err := Make(experiments(kept), snapshot(
		stored(t, kept, store.Done, 7, true), stored(t, old, store.Done, 7, true),
		stored(t, gone, store.Done, 7, true), stored(t, other, store.Done, 7, true)), Selection{})
	if err != nil {
		t.Fatal(err)
	}
	// A cell is orphaned once, and what belongs to no file at hand is not.
	if got := p.Counts().String(); got != "Plan: 1 done, 1 orphaned." {
		t.Errorf("%s", got)
	}
	if a := p.Actions[1]; a.Symbol != Orphan || a.Name != "e/gone/seed=1" || a.Stored.ID != gone.ID || a.Works() {
		t.Errorf("%+v", a)
	}
}

// Two cells that are one run are worked on once, and scored on what either asks
// for.
func TestShared(t *testing.T) {
	a, b := run("e", "c", 1, 3, "test"), run("f", "c", 1, 3, "test", "far")
	for name, c := range map[string]struct {
		known *store.Snapshot
		line  string
		work  string
	}{
		"new":       {snapshot(), "Plan: 1 new, 1 shared.", "e/c/seed=1 train test far"},
		"half done": {snapshot(stored(t, a, store.Done, 7, true, "test")), "Plan: 1 to resume, 1 shared.", "e/c/seed=1 far"},
		"done":      {snapshot(stored(t, a, store.Done, 7, true, "test", "far")), "Plan: 2 done.", ""},
	} {
		p, err := Make(experiments(a, b), c.known, Selection{})
		if err != nil {
			t.Fatal(err)
		}
		var work []string
		for _, action := range p.Work() {
			work = append(work, action.Name)
			if action.Train {
				work = append(work, "train")
			}
			for _, e := range action.Evaluations {
				work = append(work, e.Spec.GetDomain())
			}
		}
		if got := strings.Join(work, " "); got != c.work || p.Counts().String() != c.line {
			t.Errorf("%s: %q, %s; want %q, %s", name, got, p.Counts(), c.work, c.line)
		}
	}
}

// The work of a shared run finds the files of every cell that it serves, and no
// cell's own run is changed by it.
func TestSharedFiles(t *testing.T) {
	a, b := run("e", "c", 1, 3, "test"), run("f", "c", 1, 3, "far")
	a.Places = &spec.Places{Backbone: "/w", Files: map[string]*spec.Files{"train": {Root: "/a"}, "few": {Root: "/a"}}}
	b.Places = &spec.Places{Files: map[string]*spec.Files{"train": {Root: "/b"}, "all": {Root: "/b"}}, Networks: map[string]string{"n": "/n"}}
	p, err := Make(experiments(a, b), snapshot(), Selection{})
	if err != nil {
		t.Fatal(err)
	}
	want := &spec.Places{
		Backbone: "/w", Networks: map[string]string{"n": "/n"},
		Files: map[string]*spec.Files{"train": {Root: "/a"}, "few": {Root: "/a"}, "all": {Root: "/b"}},
	}
	if got := p.Work()[0].Run.Places; !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if len(a.Places.Files) != 2 || a.Places.Networks != nil {
		t.Errorf("the run of the experiment was changed: %v", a.Places)
	}
}

// Whatever is known: every identity is worked on at most once, every run that
// is not wholly done is worked on by someone, and doing what the plan says
// leaves nothing to do.
func TestPlanIsCompleteAndIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		domains := []string{"test", "a", "b"}
		known := snapshot()
		var runs []*experiment.Run
		taken := map[string]bool{}
		for range rapid.IntRange(0, 12).Draw(t, "runs") {
			r := run(rapid.SampledFrom([]string{"e", "f"}).Draw(t, "experiment"), rapid.SampledFrom([]string{"x", "y"}).Draw(t, "cell"),
				rapid.Uint64Range(1, 2).Draw(t, "seed"), rapid.Uint32Range(1, 2).Draw(t, "epochs"),
				domains[:rapid.IntRange(0, 3).Draw(t, "domains")]...)
			if rapid.Bool().Draw(t, "known") {
				s := stored(t, r, rapid.SampledFrom([]store.State{store.Queued, store.Running, store.Done, store.Failed, store.Stopped, store.Paused}).Draw(t, "state"),
					rapid.Uint64Range(0, 3).Draw(t, "checkpoint"), rapid.Bool().Draw(t, "trained"), domains[:rapid.IntRange(0, 3).Draw(t, "scored")]...)
				if s.Summary == nil {
					s.Evaluations = map[string]*spec.Evaluated{}
				}
				known.Runs[r.ID] = s
				known.Labels = append(known.Labels, store.Label{Experiment: r.Experiment, Cell: r.Cell, Seed: r.Seed, Run: r.ID})
			}
			if !taken[r.Name()] {
				taken[r.Name()] = true
				runs = append(runs, r)
			}
		}
		all := experiments(runs...)
		p, err := Make(all, known, Selection{})
		if err != nil {
			t.Fatal(err)
		}
		done := map[string]bool{}
		for _, a := range p.Work() {
			if done[a.Run.ID] {
				t.Fatalf("%s is worked on twice", a.Run.ID)
			}
			done[a.Run.ID] = true
			s := known.Runs[a.Run.ID]
			if s == nil {
				s = stored(t, a.Run, store.Queued, 0, false)
				known.Runs[a.Run.ID] = s
			}
			if !a.Train && s.Summary == nil {
				t.Fatalf("%s is scored and was never trained", a.Name)
			}
			s.State, s.Summary = store.Done, &spec.Summary{}
			for _, e := range a.Evaluations {
				s.Evaluations[e.ID] = &spec.Evaluated{}
			}
		}
		p, err = Make(all, known, Selection{})
		if err != nil {
			t.Fatal(err)
		}
		if work := p.Work(); len(work) > 0 {
			t.Fatalf("after all was done there is still %s: %s", work[0].Name, work[0].Reason)
		}
	})
}
