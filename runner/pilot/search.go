package pilot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/claim"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/study"
)

// Searches of an array. Each worker asks the studies on the shared disk for itself, when no
// job of the array is free. Of those that create the file of the next trial one succeeds,
// and a claim decides who trains it, as of any other run. So it does for a trial that paused.

// runs is what a worker knows of the runs of searches.
type runs struct{ *Worker }

func (r runs) Ask(ctx context.Context, run *store.Run, as store.Label) error {
	return r.records.Create(ctx, run, as, r.me.Nonce)
}

// Finish records nothing: a run with a result has its end, or gets it from the submitting
// side.
func (r runs) Finish(context.Context, string, *spec.Summary) error { return nil }

// Get is what the directory of a run of the searches says.
func (w *Worker) Get(ctx context.Context, id string) (*store.Run, error) {
	return w.records.Get(ctx, id)
}

// Search has the worker carry out searches as well, until Close. Job makes the job of a run
// of a cell.
func (w *Worker) Search(ctx context.Context, studies []*experiment.Study, job func(run *experiment.Run, cell string) (*launch.Job, error)) error {
	records, err := store.OpenRecords(w.array.Root)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.records = records
	src, err := study.NewSource(ctx, runs{w}, w.me.Nonce, &store.Snapshot{Root: w.array.Root}, studies, job)
	if err != nil {
		return errors.Join(err, records.Close())
	}
	digests, err := src.Digests()
	for name, digest := range w.array.Asks.Searches {
		if err == nil && digests[name] != digest {
			err = fmt.Errorf("the search of %s is another one than it was when array %s was submitted: its file has changed. Cancel the array, and apply again", name, w.array.Name)
		}
	}
	if err != nil {
		return errors.Join(err, src.Close(), records.Close())
	}
	w.search = src
	return nil
}

// ask is a job of the searches that this worker has claimed; nil where there is none now.
// Over says that there will be none.
func (w *Worker) ask(ctx context.Context) (_ *launch.Job, over bool, err error) {
	// Those that others had come first: they may have given them back.
	for i := 0; i < len(w.waiting); {
		job := w.waiting[i]
		claimed, what, err := w.tryJob(job)
		if err != nil {
			return nil, false, err
		}
		if what == isTaken {
			i++
			continue
		}
		w.waiting = slices.Delete(w.waiting, i, i+1)
		if claimed != nil {
			return claimed, false, nil
		}
	}
	for ctx.Err() == nil {
		job, done, err := w.search.Next(ctx)
		if job == nil || err != nil {
			return nil, done && len(w.waiting) == 0, err
		}
		claimed, what, err := w.tryJob(job)
		if claimed != nil || err != nil {
			return claimed, false, err
		}
		if what == isTaken {
			w.waiting = append(w.waiting, job)
		}
	}
	return nil, false, ctx.Err()
}

// tryJob is try for a job of a search. Where others have ended it, the search hears of it.
func (w *Worker) tryJob(job *launch.Job) (*launch.Job, verdict, error) {
	rel, err := filepath.Rel(w.array.Root, job.Dir)
	if err != nil {
		return nil, isTaken, fmt.Errorf("looking at %s: %w", job.Run.Name(), err)
	}
	claimed, what, err := w.try(saved{ID: job.Run.ID, Dir: filepath.ToSlash(rel), Attempts: job.Attempts}, noNumber, job)
	if err == nil && claimed == nil && (what == isOver || what == isAbsent) {
		err = w.search.Ended(job, &launch.End{Outcome: launch.Elsewhere})
	}
	return claimed, what, err
}

// satisfied reports whether what a job of a search asks for is there, or will not be.
func (w *Worker) satisfied(at *os.Root, job *launch.Job, state claim.State) (bool, error) {
	switch {
	case state.End == nil:
	case state.End.How == claim.Failed && (job.Trial || state.Worker.Array == w.me.Array):
		return true, nil // that a trial fails is its result
	case state.End.How == claim.Done:
		// Its worker may have been killed before it did.
		if err := claim.Publish(at); err != nil {
			return false, err
		}
	}
	run, err := w.records.Get(context.Background(), job.Run.ID)
	return err == nil && has(run, job), err
}

// has reports whether a run has what a job asks for.
func has(run *store.Run, job *launch.Job) bool {
	if run.Summary == nil {
		return job.Pause != nil && slices.ContainsFunc(run.Rungs, func(r store.Rung) bool { return r.Step >= job.Pause.Step })
	}
	return !slices.ContainsFunc(job.Evaluations, func(e experiment.Evaluation) bool { return run.Evaluations[e.ID] == nil })
}
