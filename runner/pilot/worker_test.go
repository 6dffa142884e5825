package pilot

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/claim"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/store"
)

// jobOf is the job of the run with a number in a project.
func jobOf(root string, i int) *launch.Job {
	s := &spec.RunSpec{Revision: spec.Revision, Seed: uint64(i + 1), Backbone: &spec.Backbone{}, Data: &spec.Data{}, Train: &spec.Train{}}
	id := spec.Identity(s)
	run := &experiment.Run{
		Experiment: "e", Cell: "c", Seed: s.Seed, ID: id, Spec: s, Label: &spec.Label{Experiment: "e", Cell: "c"}, Places: &spec.Places{Backbone: "somewhere"},
	}
	return &launch.Job{Run: run, Train: true, Dir: filepath.Join(root, filepath.FromSlash(store.DirOf("e", id)))}
}

// arrayOf writes an array with n runs for workers.
func arrayOf(t testing.TB, n, workers int) (*Array, []*launch.Job) {
	t.Helper()
	root := t.TempDir()
	var jobs []*launch.Job
	for i := range n {
		job := jobOf(root, i)
		if err := os.MkdirAll(job.Dir, 0o777); err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, job)
	}
	a := &Array{Name: newName(), Root: root, Made: now(), Workers: workers, Limit: time.Hour}
	if err := a.write(jobs); err != nil {
		t.Fatal(err)
	}
	return a, jobs
}

func worker(t testing.TB, a *Array, element, restart int) *Worker {
	t.Helper()
	w, err := Open(ArrayDir(a.Root, a.Name), claim.Worker{Element: element, Restart: restart, Nonce: claim.Nonce()}, Timing{Beat: time.Hour, Idle: 200 * time.Millisecond, Look: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// train writes what an engine would: a checkpoint after a step, and the end.
func train(t testing.TB, dir string, id string, step int, done bool) {
	t.Helper()
	meta, err := rundir.Progress{ID: id, Step: step}.Metadata()
	if err == nil {
		err = safetensors.Write(filepath.Join(dir, rundir.Last), nil, meta)
	}
	if err == nil && done {
		// Who wrote it is seen.
		err = os.WriteFile(filepath.Join(dir, rundir.Result), []byte(dir), 0o666)
	}
	if err != nil {
		t.Error(err)
	}
}

// Many workers, some of which give runs back and some of which die, do every run once.
func TestWorkersShareAnArray(t *testing.T) {
	const runs, workers = 120, 12
	a, jobs := arrayOf(t, runs, workers)
	ctx := context.Background()
	var mu sync.Mutex
	finished := map[string]int{}
	var wg sync.WaitGroup
	for e := range workers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(e)))
			w, restarts := worker(t, a, e, 0), 0
			for {
				job, done, err := w.Next(ctx)
				if err != nil {
					t.Error(err)
				}
				if done || err != nil {
					break
				}
				if job == nil {
					time.Sleep(time.Millisecond)
					continue
				}
				run, err := w.Claim(ctx, job.Run.ID)
				if err != nil {
					t.Error(err)
					break
				}
				step := int(run.Checkpoint)
				train(t, run.Path(), run.ID, step+1, step >= 2)
				switch {
				case step >= 2:
					err = w.Finish(ctx, run.ID, &spec.Summary{Id: run.ID, Steps: 3})
					mu.Lock()
					finished[run.ID]++
					mu.Unlock()
				case random.IntN(8) == 0: // it dies, and Slurm starts it again
					restarts++
					w = worker(t, a, e, restarts)
				default:
					err = w.Stop(ctx, run.ID, uint64(step+1))
				}
				if err != nil {
					t.Error(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// What died last in some element is free when that starts again.
	for e := range workers {
		w := worker(t, a, e, 1000)
		takeAll(t, w, func(run *store.Run) error {
			train(t, run.Path(), run.ID, 3, true)
			finished[run.ID]++
			return w.Finish(ctx, run.ID, &spec.Summary{Id: run.ID, Steps: 3})
		})
	}
	for _, job := range jobs {
		if n := finished[job.Run.ID]; n != 1 {
			t.Errorf("run %.12s was finished %d times", job.Run.ID, n)
		}
		if _, err := os.Stat(filepath.Join(job.Dir, rundir.Result)); err != nil {
			t.Errorf("run %.12s: %v", job.Run.ID, err)
		}
	}
}

// A worker whose element was started elsewhere has lost its run, whatever it computes, and
// claims nothing else.
func TestLostWorker(t *testing.T) {
	a, jobs := arrayOf(t, 2, 1)
	ctx := context.Background()
	old := worker(t, a, 0, 0)
	job, _, err := old.Next(ctx)
	if err != nil || job == nil {
		t.Fatal(job, err)
	}
	was, err := old.Claim(ctx, job.Run.ID)
	if err != nil {
		t.Fatal(err)
	}
	train(t, was.Path(), was.ID, 5, false)
	next := worker(t, a, 0, 1)
	again, _, err := next.Next(ctx)
	if err != nil || again == nil || again.Run.ID != job.Run.ID {
		t.Fatalf("after its restart the element has %v, %v", again, err)
	}
	run, err := next.Claim(ctx, job.Run.ID)
	if err != nil || run.Checkpoint != 5 {
		t.Fatalf("it continues at step %d, %v", run.Checkpoint, err)
	}
	train(t, run.Path(), run.ID, 9, true)
	if err := next.Finish(ctx, run.ID, &spec.Summary{Id: run.ID, Steps: 9}); err != nil {
		t.Fatal(err)
	}
	train(t, was.Path(), was.ID, 9, true)
	if err := old.Finish(ctx, was.ID, &spec.Summary{Id: was.ID, Steps: 9}); !errors.Is(err, ErrLost) {
		t.Errorf("the old worker finishes with %v", err)
	}
	if _, done, err := old.Next(ctx); !done || !errors.Is(err, ErrLost) {
		t.Errorf("the old worker continues: %v, %v", done, err)
	}
	text, err := os.ReadFile(filepath.Join(jobs[0].Dir, rundir.Result))
	if err != nil || string(text) != run.Path() {
		t.Errorf("the result is of %s, %v", text, err)
	}
}

// A run that costs one worker after another without a step fails, with the last reason.
func TestRunThatKillsWorkers(t *testing.T) {
	a, jobs := arrayOf(t, 1, 1)
	ctx := context.Background()
	for death := range deaths {
		w := worker(t, a, 0, death)
		job, done, err := w.Next(ctx)
		if err != nil || job == nil {
			t.Fatalf("worker %d: %v %v %v", death, job, done, err)
		}
	}
	if n := finishAll(t, worker(t, a, 0, deaths)); n > 0 {
		t.Fatal("it is given out again")
	}
	at, err := store.OpenRun(a.Root, "runs/e/"+rundir.Short(jobs[0].Run.ID))
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	s, err := claim.Read(at)
	if err != nil || s.End == nil || s.End.How != claim.Failed {
		t.Fatalf("the run ended as %+v, %v", s.End, err)
	}
	t.Log(s.End.Reason)
}

// takeAll has a worker do something with each run that it gets, until there are none, and
// returns how many it got.
func takeAll(t *testing.T, w *Worker, do func(*store.Run) error) (n int) {
	for {
		job, done, err := w.Next(t.Context())
		if err != nil {
			t.Error(err)
		}
		if done || err != nil {
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			return n
		}
		if job == nil {
			time.Sleep(time.Millisecond)
			continue
		}
		run, err := w.Claim(t.Context(), job.Run.ID)
		if err == nil {
			err = do(run)
		}
		if err != nil {
			t.Error(err)
		}
		n++
	}
}

// finishAll is takeAll where each run is done at once.
func finishAll(t *testing.T, w *Worker) int {
	return takeAll(t, w, func(run *store.Run) error { return w.Finish(t.Context(), run.ID, &spec.Summary{Id: run.ID}) })
}

// TestManyWorkers counts what many workers ask of the disk: claims, ends, looks at who has a
// run, and files that say what there is. $LORALAB_MANY is of how many runs; 10000 has 200
// workers.
func TestManyWorkers(t *testing.T) {
	runs, workers := 400, 20
	if n, err := strconv.Atoi(os.Getenv("LORALAB_MANY")); err == nil {
		runs, workers = n, n/50
	}
	a, _ := arrayOf(t, runs, workers)
	var mu sync.Mutex
	var claims, looks, reads, notes, finished int
	var wg sync.WaitGroup
	for e := range workers {
		wg.Go(func() {
			w := worker(t, a, e, 0)
			n := finishAll(t, w)
			mu.Lock()
			defer mu.Unlock()
			claims, looks, reads, finished = claims+w.Claims, looks+w.Looks, reads+w.Reads, finished+n
			notes += w.notes.Files
		})
	}
	wg.Wait()
	all := claims + finished + looks + reads + notes
	t.Logf("%d runs, %d workers: %d claims, %d looks, %d slices, %d notes: %.2f operations a run",
		runs, workers, claims, looks, reads, notes, float64(all)/float64(runs))
	if finished != runs {
		t.Errorf("%d of %d runs were done", finished, runs)
	}
	if all > 10*runs {
		t.Errorf("%d operations for %d runs", all, runs)
	}
}

// Notes that are out of date hide no job: a worker without work looks where somebody is said
// to be at work.
func TestNotesDecideNothing(t *testing.T) {
	const runs = 90
	a, jobs := arrayOf(t, runs, 3)
	removed := jobs[runs-1].Dir
	if err := os.Rename(removed, removed+".later"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(ArrayDir(a.Root, a.Name), notesFile), bytes.Repeat([]byte{noteTaken}, runs), 0o666); err != nil {
		t.Fatal(err)
	}
	w := worker(t, a, 1, 0)
	w.timing.Idle = time.Minute
	if n := finishAll(t, w); n != runs-1 {
		t.Errorf("%d of %d runs were done", n, runs-1)
	}
	// What one has seen saves the next one its looks; but that a run is not there it sees for
	// itself.
	if err := os.Rename(removed+".later", removed); err != nil {
		t.Fatal(err)
	}
	next := worker(t, a, 2, 0)
	if n := finishAll(t, next); n != 1 || next.Looks > 1 {
		t.Errorf("%d runs were done, want 1; %d looks", n, next.Looks)
	}
}

// While no apply asks the scheduler, a worker without work does, and takes over what a worker
// has that was over twice.
func TestIdleWorkersTakeTurns(t *testing.T) {
	a, _ := arrayOf(t, 4, 2)
	f := &fake{t: t, elements: map[string][]*element{a.Name: {
		{Element: Element{Array: a.Name, Index: 0, Life: Running}},
		{Element: Element{Array: a.Name, Index: 1, Life: Running}},
	}}}
	dead := worker(t, a, 0, 0)
	job, _, err := dead.Next(t.Context())
	if err != nil || job == nil {
		t.Fatal(job, err)
	}
	w := worker(t, a, 1, 0)
	w.Scheduler, w.timing.Turn, w.timing.Idle = f, time.Hour, time.Hour // it ends when all is done
	if err := writeTurn(ArrayDir(a.Root, a.Name), turn{}); err != nil {
		t.Fatal(err)
	}
	// An apply has asked just now; and then nobody does, and the worker lives.
	for range 2 {
		for n := 0; n < 3; {
			job, done, err := w.Next(t.Context())
			if err != nil || done {
				t.Fatal(done, err)
			}
			if job != nil {
				if err := w.Finish(t.Context(), job.Run.ID, &spec.Summary{Id: job.Run.ID}); err != nil {
					t.Fatal(err)
				}
			}
			if w.rested.IsZero() {
				continue
			}
			n++
			w.looked = time.Time{}
			w.rested = time.Now()
		}
		if f.polls > 0 && w.timing.Turn == time.Hour {
			t.Fatal("it asks though an apply does")
		}
		w.timing.Turn = time.Nanosecond
	}
	asked := f.polls
	if asked == 0 {
		t.Fatal("nobody asks")
	}
	f.elements[a.Name][0].forget = true
	if n := finishAll(t, w); n != 1 {
		t.Errorf("%d runs were taken over", n)
	}
	if f.polls < asked+2 {
		t.Errorf("it was over in one answer alone: %d", f.polls-asked)
	}
	at, err := store.OpenRun(a.Root, "runs/e/"+rundir.Short(job.Run.ID))
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	if e, err := claim.EndOf(at, 1); err != nil || e.How != claim.Broken {
		t.Errorf("%+v, %v", e, err)
	}
	if err := dead.Finish(t.Context(), job.Run.ID, &spec.Summary{Id: job.Run.ID}); !errors.Is(err, ErrLost) {
		t.Errorf("the worker that was over finishes with %v", err)
	}
}

func TestScatter(t *testing.T) {
	for n := range 70 {
		seen := map[int]bool{}
		for _, i := range scatter(n) {
			seen[i] = true
		}
		if len(seen) != n || len(scatter(n)) != n {
			t.Errorf("of %d: %v", n, scatter(n))
		}
	}
}
