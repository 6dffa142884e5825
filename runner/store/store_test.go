package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

// awkward is a project whose path means something to URLs and to patterns.
func awkward(t *testing.T) string {
	root := filepath.Join(t.TempDir(), "my [pro]ject?x=1&%41#*")
	if err := os.MkdirAll(root, 0o777); err != nil {
		t.Fatal(err)
	}
	return root
}

func open1(t *testing.T, root string) *Store {
	t.Helper()
	s, err := Open(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newRun(t *testing.T, experiment, cell string, seed uint64) (*Run, Label) {
	t.Helper()
	// A revision that is compared with its identity and whose results have no digests.
	s := &spec.RunSpec{Revision: 2, Seed: seed, Head: &spec.Head{Kind: cell}}
	id := spec.Identity(s)
	run := &Run{ID: id, Experiment: experiment, Cell: cell, Seed: seed, Dir: DirOf(experiment, id)}
	if err := run.SetSpec(s); err != nil {
		t.Fatal(err)
	}
	return run, Label{Experiment: experiment, Cell: cell, Seed: seed, Run: id}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// leave writes what an engine leaves in a run directory.
func leave(t *testing.T, root string, run *Run, name string, m proto.Message) {
	t.Helper()
	path := filepath.Join(root, filepath.FromSlash(run.Dir), name)
	check(t, os.MkdirAll(filepath.Dir(path), 0o777))
	check(t, os.WriteFile(path, must[[]byte](t)(protojson.Marshal(m)), 0o666))
}

func leaveCheckpoint(t *testing.T, root string, run *Run, step string) {
	t.Helper()
	path := filepath.Join(root, filepath.FromSlash(run.Dir), "checkpoints", "last.safetensors")
	check(t, os.MkdirAll(filepath.Dir(path), 0o777))
	tensor := safetensors.FromFloat32("w", []float32{1, 2}, 2)
	check(t, safetensors.Write(path, []safetensors.Tensor{tensor}, map[string]string{"step": step}))
}

func request(t *testing.T, run *Run) *spec.RunRequest {
	return &spec.RunRequest{
		Id: run.ID, Spec: must[*spec.RunSpec](t)(run.Spec()),
		Label: &spec.Label{Experiment: run.Experiment, Cell: run.Cell},
	}
}

func TestReadingAnEmptyProjectMakesNoFile(t *testing.T) {
	root := awkward(t)
	known := must[*Snapshot](t)(Read(t.Context(), root))
	if len(known.Runs) != 0 || len(known.Labels) != 0 {
		t.Errorf("an empty project has runs: %v", known)
	}
	if holders, err := Holders(root); holders != nil || err != nil {
		t.Errorf("an empty project is held by %v, %v", holders, err)
	}
	if working, err := EngineAt(root); working || err != nil {
		t.Errorf("an engine works in an empty project: %v", err)
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) > 0 {
		t.Errorf("reading left %v, %v", entries, err)
	}
}

// What goes in comes out, whatever the seed and the names.
func TestRoundTrip(t *testing.T) {
	root := awkward(t)
	s := open1(t, root)
	ctx := t.Context()
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.OneOf(rapid.Uint64(), rapid.Just(uint64(math.MaxUint64))).Draw(rt, "seed")
		cell := rapid.StringMatching(`[a-z.=,'"\\ é☃]{1,12}`).Draw(rt, "cell")
		run, label := newRun(t, "e", cell, seed)
		check(t, s.Enqueue(ctx, nil, []*Run{run}, []Label{label, label}))
		check(t, s.Start(ctx, run.ID), s.Begun(ctx, run.ID, 3, 10))
		reason := rapid.String().Draw(rt, "reason")
		check(t, s.Fail(ctx, run.ID, 2, reason))
		known := must[*Snapshot](t)(Read(ctx, root))
		got := known.Runs[run.ID]
		if got.Cell != cell || got.Seed != seed || got.State != Failed || got.Reason != reason ||
			got.Steps != 10 || got.Attempts == 0 || got.Started.IsZero() || got.Ended.IsZero() {
			rt.Fatalf("stored %v, got %v", run, got)
		}
		if !proto.Equal(must[*spec.RunSpec](t)(got.Spec()), must[*spec.RunSpec](t)(run.Spec())) {
			rt.Fatalf("the specification has changed")
		}
		n := 0
		for _, l := range known.Labels {
			if l.Name() == label.Name() && l.Run == label.Run {
				n++
			}
		}
		if n != 1 {
			rt.Fatalf("label %v is there %d times", label, n)
		}
		// Asked for again, it stays as it is.
		check(t, s.Enqueue(ctx, nil, []*Run{run}, nil))
		if again := must[*Snapshot](t)(Read(ctx, root)).Runs[run.ID]; again.State != Failed {
			rt.Fatalf("asking again made a failed run %s", again.State)
		}
	})
}

func TestFinish(t *testing.T) {
	root := awkward(t)
	s := open1(t, root)
	ctx := t.Context()
	run, label := newRun(t, "e", "rank=8", 1)
	check(t, s.Enqueue(ctx, nil, []*Run{run}, []Label{label}), s.Start(ctx, run.ID))
	summary := &spec.Summary{
		Id: run.ID, Steps: 72, WeightsDigest: "d",
		Evaluations: []*spec.Evaluated{{Id: "aa", Domain: "test", Metrics: &spec.Metrics{Dice: 0.5}}, {Id: "bb", Domain: "x"}},
	}
	leave(t, root, run, "result.json", summary)
	for _, e := range summary.Evaluations {
		leave(t, root, run, "evaluations/"+e.Id+".json", e)
	}
	check(t, s.Finish(ctx, run.ID, summary))
	got := must[*Snapshot](t)(s.Reconcile(ctx)).Runs[run.ID]
	if got.State != Done || got.Step != 72 || !proto.Equal(got.Summary, summary) {
		t.Errorf("after finishing: %v", got)
	}
	if len(got.Evaluations) != 2 || got.Evaluations["aa"].GetMetrics().GetDice() != 0.5 {
		t.Errorf("evaluations: %v", got.Evaluations)
	}
}

// A process may be killed between any two writes of the engine and of the
// store: what the engine has written counts.
func TestDirectoriesAreTheTruth(t *testing.T) {
	evaluated := &spec.Evaluated{Id: strings.Repeat("e", 64), Domain: "test", Metrics: &spec.Metrics{Dice: 0.7}}
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("database lost=%v", lost), func(t *testing.T) {
			root := awkward(t)
			s := open1(t, root)
			ctx := t.Context()
			begun, l1 := newRun(t, "e", "begun", 1)
			halfway, l2 := newRun(t, "e", "halfway", 1)
			trained, l3 := newRun(t, "e", "trained", 1)
			scored, l4 := newRun(t, "other", "scored", 1)
			all := []*Run{begun, halfway, trained, scored}
			check(t, s.Enqueue(ctx, nil, all, []Label{l1, l2, l3, l4}))
			for _, run := range all {
				check(t, s.Start(ctx, run.ID))
				leave(t, root, run, "request.json", request(t, run))
			}
			check(t, s.Begun(ctx, halfway.ID, 0, 72))
			leaveCheckpoint(t, root, halfway, "48")
			leaveCheckpoint(t, root, trained, "72")
			for _, run := range []*Run{trained, scored} {
				leave(t, root, run, "result.json", &spec.Summary{Id: run.ID, Steps: 72})
			}
			leave(t, root, scored, "evaluations/eeeeeeeeeeee.json", evaluated)
			if lost {
				check(t, s.Close())
				check(t, os.Remove(databasePath(root)))
				s = open1(t, root)
			}
			for range 2 { // reading twice makes no difference
				known := must[*Snapshot](t)(Read(ctx, root))
				if known.Runs[halfway.ID].Checkpoint != 48 || known.Runs[trained.ID].Summary.GetSteps() != 72 {
					t.Errorf("read without writing: %v", known.Runs)
				}
			}
			for range 2 {
				known := must[*Snapshot](t)(s.Reconcile(ctx))
				if len(known.Runs) != 4 || len(known.Labels) != 4 {
					t.Fatalf("there are %d runs and %d labels", len(known.Runs), len(known.Labels))
				}
				if r := known.Runs[begun.ID]; r.Checkpoint != 0 || r.Summary != nil || r.State != Stopped || r.Attempts != 1 {
					t.Errorf("begun: %+v", r)
				}
				if r := known.Runs[halfway.ID]; r.Checkpoint != 48 || r.Step != 48 || r.Summary != nil || r.State != Stopped {
					t.Errorf("halfway: %+v", r)
				}
				if r := known.Runs[trained.ID]; r.Summary.GetSteps() != 72 || len(r.Evaluations) != 0 {
					t.Errorf("trained: %+v", r)
				}
				if r := known.Runs[scored.ID]; !proto.Equal(r.Evaluations[evaluated.Id], evaluated) || r.Experiment != "other" || r.Cell != "scored" {
					t.Errorf("scored: %+v", r)
				}
			}
		})
	}
}

func TestRemovedDirectoryIsForgotten(t *testing.T) {
	root := awkward(t)
	s := open1(t, root)
	ctx := t.Context()
	run, label := newRun(t, "e", "c", 1)
	check(t, s.Enqueue(ctx, nil, []*Run{run}, []Label{label}))
	leave(t, root, run, "request.json", request(t, run))
	leave(t, root, run, "result.json", &spec.Summary{Id: run.ID})
	check(t, s.Finish(ctx, run.ID, &spec.Summary{Id: run.ID, Evaluations: []*spec.Evaluated{{Id: "a"}}}))
	check(t, os.RemoveAll(filepath.Join(root, "runs", "e")))
	for range 2 {
		if known := must[*Snapshot](t)(s.Reconcile(ctx)); len(known.Runs) != 0 {
			t.Errorf("a run without a directory is still known: %v", known.Runs)
		}
	}
}

// A result of another specification in the same directory is not this run's.
func TestForeignResult(t *testing.T) {
	root := awkward(t)
	s := open1(t, root)
	run, label := newRun(t, "e", "c", 1)
	check(t, s.Enqueue(t.Context(), nil, []*Run{run}, []Label{label}))
	leave(t, root, run, "result.json", &spec.Summary{Id: strings.Repeat("0", 64)})
	if r := must[*Snapshot](t)(s.Reconcile(t.Context())).Runs[run.ID]; r.Summary != nil {
		t.Errorf("took the result of %s for that of %s", r.Summary.GetId(), r.ID)
	}
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	root := awkward(t)
	s := open1(t, root)
	if _, err := s.index.db.Exec("PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	check(t, s.Close())
	_, err := Open(t.Context(), root)
	if err == nil || !strings.Contains(err.Error(), "newer loralab") {
		t.Errorf("opened a database of format 99: %v", err)
	}
}

// Several processes may open a new project at once, and write to it.
func TestConcurrentUse(t *testing.T) {
	root := awkward(t)
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for i := range cap(errs) {
		run, label := newRun(t, "e", "c", uint64(i))
		wg.Go(func() {
			ctx := context.Background()
			s, err := Open(ctx, root)
			if err != nil {
				errs <- err
				return
			}
			err = s.Enqueue(ctx, nil, []*Run{run}, []Label{label})
			for step := range uint64(20) {
				err = errors.Join(err, s.Begun(ctx, run.ID, step, 20))
			}
			errs <- errors.Join(err, s.Close())
		})
	}
	wg.Wait()
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if known := must[*Snapshot](t)(Read(t.Context(), root)); len(known.Runs) != cap(errs) {
		t.Errorf("%d of %d runs are there", len(known.Runs), cap(errs))
	}
}

func TestLock(t *testing.T) {
	root := awkward(t)
	lock := must[*Lock](t)(LockProject(root, "runner apply x.cue"))
	_, err := LockProject(root, "runner apply y.cue")
	var held *HeldError
	if !errors.As(err, &held) || len(held.Holders) != 1 || held.Holders[0].PID != os.Getpid() ||
		held.Holders[0].Command != "runner apply x.cue" || time.Since(held.Holders[0].Since) > time.Minute {
		t.Errorf("the second lock: %v", err)
	}
	holders := must[[]Holder](t)(Holders(root))
	if len(holders) != 1 || holders[0].Command != "runner apply x.cue" {
		t.Errorf("holders: %v", holders)
	}
	// Those who share let others join, and still nobody have it alone.
	check(t, lock.Share())
	joined := must[*Lock](t)(JoinProject(t.Context(), root, "runner apply --join"))
	if _, err := LockProject(root, "runner gc"); !errors.As(err, &held) || len(held.Holders) != 2 {
		t.Errorf("the third lock: %v", err)
	}
	check(t, lock.Release())
	if _, err := LockProject(root, "runner gc"); !errors.As(err, &held) || len(held.Holders) != 1 {
		t.Errorf("the lock of one who joined: %v", err)
	}
	check(t, joined.Release())
	if holders := must[[]Holder](t)(Holders(root)); len(holders) != 0 {
		t.Errorf("holders after release: %v", holders)
	}
	check(t, must[*Lock](t)(LockProject(root, "short")).Release())
	if left := must[[]os.DirEntry](t)(os.ReadDir(workersDir(root))); len(left) != 0 {
		t.Errorf("workers that are gone left %v", left)
	}
}

// A claim keeps others off until it is given back or its process is gone.
func TestClaim(t *testing.T) {
	root := awkward(t)
	ctx := t.Context()
	lock := must[*Lock](t)(LockProject(root, "first"))
	check(t, lock.Share())
	a, b := open1(t, root), open1(t, root)
	a.As(lock)
	joined := must[*Lock](t)(JoinProject(ctx, root, "second"))
	b.As(joined)
	run, label := newRun(t, "e", "c", 1)
	check(t, a.Enqueue(ctx, nil, []*Run{run}, []Label{label}))

	claimed := must[*Run](t)(a.Claim(ctx, run.ID))
	if claimed.State != Queued || claimed.Cell != "c" {
		t.Errorf("claimed %+v", claimed)
	}
	check(t, a.Start(ctx, run.ID))
	_, err := b.Claim(ctx, run.ID)
	var other *ClaimedError
	if !errors.As(err, &other) || other.Holder.Command != "first" {
		t.Errorf("a second claim: %v", err)
	}
	if err := b.Fail(ctx, run.ID, 0, "no"); !errors.As(err, &other) {
		t.Errorf("a write about the run of another: %v", err)
	}
	// A look from outside does not take it for interrupted.
	if got := must[*Snapshot](t)(b.Reconcile(ctx)).Runs[run.ID]; got.State != Running || got.Holder == nil || got.Holder.Command != "first" {
		t.Errorf("while it is claimed: %+v", got)
	}
	check(t, a.Fail(ctx, run.ID, 0, "no luck"))
	claimed = must[*Run](t)(b.Claim(ctx, run.ID))
	if claimed.State != Failed || claimed.Attempts != 1 {
		t.Errorf("after the first gave it back: %+v", claimed)
	}
	// The process of the second goes without a word.
	check(t, b.Start(ctx, run.ID), joined.worker.Close())
	if _, err := a.Claim(ctx, run.ID); err != nil {
		t.Errorf("a claim of one that is gone keeps others off: %v", err)
	}
	check(t, a.Unclaim(ctx, run.ID))
	if got := must[*Snapshot](t)(a.Reconcile(ctx)).Runs[run.ID]; got.State != Stopped || got.Holder != nil {
		t.Errorf("after its process went: %+v", got)
	}
	run.Holder = nil
	check(t, a.Remove(ctx, []*Run{run}), lock.Release())
	known := must[*Snapshot](t)(a.Reconcile(ctx))
	if len(known.Runs)+len(known.Labels) != 0 {
		t.Errorf("a forgotten run is still known: %v", known)
	}
	if _, err := a.Claim(ctx, run.ID); err == nil {
		t.Error("claimed a run that is not there")
	}
}

// Many processes that take runs from one list take each once.
func TestClaimOnce(t *testing.T) {
	root := awkward(t)
	ctx := t.Context()
	s := open1(t, root)
	var ids []string
	for i := range 12 {
		run, label := newRun(t, "e", "c", uint64(i))
		check(t, s.Enqueue(ctx, nil, []*Run{run}, []Label{label}))
		ids = append(ids, run.ID)
	}
	taken := make(chan string, len(ids)*4)
	var wg sync.WaitGroup
	for range 4 {
		lock := must[*Lock](t)(JoinProject(ctx, root, "one of many"))
		mine := open1(t, root)
		mine.As(lock)
		wg.Go(func() {
			defer lock.Release()
			for _, id := range ids {
				run, err := mine.Claim(ctx, id)
				var other *ClaimedError
				if errors.As(err, &other) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if run.State != Queued {
					err = mine.Unclaim(ctx, id)
				} else {
					taken <- id
					err = errors.Join(mine.Start(ctx, id), mine.Fail(ctx, id, 0, "tried"))
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	close(taken)
	times := map[string]int{}
	for id := range taken {
		times[id]++
	}
	for _, id := range ids {
		if times[id] != 1 {
			t.Errorf("run %s was taken %d times", id[:8], times[id])
		}
	}
}

func TestAwaitEngine(t *testing.T) {
	dir := t.TempDir()
	check(t, AwaitEngine(dir, 0))
	file := must[*os.File](t)(os.Open(filepath.Join(dir, "lock")))
	check(t, unix.Flock(int(file.Fd()), unix.LOCK_EX))
	if working := must[bool](t)(EngineAt(dir)); !working {
		t.Error("an engine that holds the lock is not seen")
	}
	if err := AwaitEngine(dir, 0); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("waited for a lock that is held: %v", err)
	}
	go func() {
		time.Sleep(20 * time.Millisecond)
		file.Close()
	}()
	check(t, AwaitEngine(dir, time.Minute))
}

func TestFind(t *testing.T) {
	a := &Run{ID: "aaaa1111", Experiment: "e"}
	b := &Run{ID: "aaaa2222", Experiment: "e"}
	c := &Run{ID: "beef0000", Experiment: "f"}
	old := &Run{ID: "0ld00000", Experiment: "f"}
	s := &Snapshot{
		Runs: map[string]*Run{a.ID: a, b.ID: b, c.ID: c, old.ID: old},
		Labels: []Label{
			{Experiment: "e", Cell: "rank=8", Seed: 1, Run: a.ID},
			{Experiment: "e", Cell: "rank=8", Seed: 2, Run: b.ID},
			{Experiment: "f", Cell: "rank=8", Seed: 2, Run: old.ID},
			{Experiment: "f", Cell: "rank=8", Seed: 2, Run: c.ID},
			{Experiment: "g", Cell: "gone", Seed: 1, Run: "dddd"},
		},
	}
	for ref, want := range map[string]*Run{
		"aaaa1": a, "beef": c, "e/rank=8/seed=2": b, "f/rank=8/seed=2": c, "rank=8/seed=1": a,
	} {
		if got, err := s.Find(ref); err != nil || got.ID != want.ID {
			t.Errorf("Find(%q) = %v, %v", ref, got, err)
		}
	}
	for ref, want := range map[string]string{
		"aaaa":          "2 runs:\naaaa1111\naaaa2222",
		"rank=8/seed=2": "2 names:\ne/rank=8/seed=2\nf/rank=8/seed=2",
		"seed=3":        `there is no run "seed=3"; there are:`,
		"dead":          `there is no run "dead"`,
		"gone/seed=1":   "there is no run",
		"":              "there is no run",
	} {
		if got, err := s.Find(ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Find(%q) = %v, %v; want an error with %q", ref, got, err, want)
		}
	}
}

// globEscape makes a path stand for itself in a pattern.
func globEscape(path string) string {
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(path)
}

// A result that somebody changed is an error, and a score that was changed is not
// believed: trial-reliability 3.
func TestChangedResults(t *testing.T) {
	root := awkward(t)
	s := open1(t, root)
	run, label := newRun(t, "e", "c", 1)
	of := must[*spec.RunSpec](t)(run.Spec())
	of.Revision = spec.Revision
	run.ID = spec.Identity(of)
	run.Dir, label.Run = DirOf("e", run.ID), run.ID
	check(t, run.SetSpec(of), s.Enqueue(t.Context(), nil, []*Run{run}, []Label{label}))
	leave(t, root, run, "request.json", request(t, run))
	sum := &spec.Summary{Id: run.ID, Steps: 5}
	sum.Digest = spec.SealedDigest(sum)
	e := &spec.Evaluated{Id: "e1", Domain: "test", Metrics: &spec.Metrics{Dice: 0.5}}
	e.Digest = spec.SealedDigest(e)
	leave(t, root, run, "result.json", sum)
	leave(t, root, run, "evaluations/e1.json", e)
	known := must[*Snapshot](t)(s.Reconcile(t.Context())).Runs[run.ID]
	if known.Summary.GetSteps() != 5 || len(known.Evaluations) != 1 {
		t.Fatalf("%v, %v", known.Summary, known.Evaluations)
	}
	e.Metrics.Dice = 0.9
	leave(t, root, run, "evaluations/e1.json", e)
	if known := must[*Snapshot](t)(s.Reconcile(t.Context())).Runs[run.ID]; len(known.Evaluations) != 0 || known.Damage == nil || !known.Damage.Again {
		t.Errorf("a changed score was believed: %v, %v", known.Evaluations, known.Damage)
	}
	sum.Steps = 6
	leave(t, root, run, "result.json", sum)
	known = must[*Snapshot](t)(s.Reconcile(t.Context())).Runs[run.ID]
	if d := known.Damage; d == nil || d.Again || !strings.Contains(d.Why, "was changed after it was written") || known.Summary != nil {
		t.Errorf("a changed result: %v, %v", known.Summary, d)
	}
}

// Names of classes are no part of an identity: what was recorded under old ones is
// shown under those of now.
func TestRename(t *testing.T) {
	s := open1(t, awkward(t))
	was := &spec.RunSpec{Revision: spec.Revision, Data: &spec.Data{Classes: []string{"a", "b"}}, Train: &spec.Train{Monitor: "dice/b"}}
	now := proto.CloneOf(was)
	now.Data.Classes, now.Train.Monitor = []string{"x", "y"}, "dice/y"
	id := spec.Identity(was)
	run := &Run{ID: id, Experiment: "e", Cell: "c", Dir: DirOf("e", id)}
	check(t, run.SetSpec(was), s.Enqueue(t.Context(), nil, []*Run{run}, nil))
	m := &spec.Metrics{Classes: []*spec.ClassMetrics{{Name: "a"}, {Name: "b"}}}
	stored := must[*Snapshot](t)(s.Reconcile(t.Context())).Runs[id]
	if got := stored.Named(m); got.Classes[1].Name != "b" {
		t.Errorf("got %v", got)
	}
	check(t, s.Rename(t.Context(), stored, now))
	for _, run := range []*Run{stored, must[*Snapshot](t)(s.Reconcile(t.Context())).Runs[id]} {
		if got := run.Named(m); got.Classes[1].Name != "y" || m.Classes[1].Name != "b" {
			t.Errorf("got %v", got)
		}
	}
	other := proto.CloneOf(now)
	other.Seed, other.Data.Classes = 9, []string{"p", "q"}
	check(t, s.Rename(t.Context(), stored, other)) // of another run
	if got := must[*Snapshot](t)(s.Reconcile(t.Context())).Runs[id].Named(m); got.Classes[1].Name != "y" {
		t.Errorf("got %v", got)
	}
}

// A project of before core/rundir: it is read, and what is written again has the
// same bytes.
func TestEarlierProjectsAreRead(t *testing.T) {
	root := t.TempDir()
	check(t, os.CopyFS(root, os.DirFS("../../core/rundir/testdata/project")))
	const at = "runs/tiny/7a7a03ef9660"
	files := map[string][]byte{}
	for _, name := range []string{at + "/" + rundir.Record, "runs/tiny/" + askedFile} {
		files[name] = must[[]byte](t)(os.ReadFile(filepath.Join(root, name)))
	}
	s := open1(t, root)
	known := must[*Snapshot](t)(s.Reconcile(t.Context()))
	run, err := known.Find("tiny/base/seed=1")
	check(t, err)
	if run.State != Done || run.Damage != nil || run.Step != 4 || run.Steps != 4 || len(run.Evaluations) != 2 || run.Dir != at || len(known.Notes) != 0 {
		t.Errorf("%+v, notes %q", run, known.Notes)
	}
	if spec.Identity(must[*spec.RunSpec](t)(run.Spec())) != run.ID {
		t.Error("its specification is of another run")
	}
	must[*spec.RunRequest](t)(run.Request(root))
	dir := must[*os.Root](t)(os.OpenRoot(filepath.Join(root, at)))
	defer dir.Close()
	check(t, writeRecord(dir, must[*record](t)(readRecord(dir))))
	parent := must[*os.Root](t)(os.OpenRoot(filepath.Join(root, "runs/tiny")))
	defer parent.Close()
	a := must[*Asked](t)(readAsked(parent))
	check(t, s.writeAsked(a, a.When))
	for name, want := range files {
		if got := must[[]byte](t)(os.ReadFile(filepath.Join(root, name))); !bytes.Equal(got, want) {
			t.Errorf("%s was\n%s\nand is\n%s", name, want, got)
		}
	}
}
