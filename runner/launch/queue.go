package launch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/loralab/loralab/runner/store"
)

// queue is the jobs that no slot has taken yet, with the source of further ones, and
// what became of the others.
type queue struct {
	mu      sync.Mutex
	left    []*Job
	source  Source          // nil: all jobs are in left
	done    bool            // the source has no further job
	busy    map[string]bool // runs that slots work on, by identity
	changed chan struct{}   // closed when a job has ended or was given back
	totals  Totals
	working int  // slots that take further jobs
	engines bool // one has answered
}

func newQueue(jobs []*Job, source Source, slots int) *queue {
	return &queue{
		left: slices.Clone(jobs), source: source, done: source == nil,
		busy: map[string]bool{}, changed: make(chan struct{}), working: slots,
	}
}

// verdict is what ends where no engine can be started for a job.
type verdict int

const (
	endRun  verdict = iota // the job fails; the next may fare better
	endSlot                // the job is in the queue again, for the other slots
	endAll                 // nothing can be run
)

// without says what follows where no engine could be started for a job, after as
// many tries as a run has: times says for how many jobs in a row.
func (q *queue) without(times int) verdict {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.working > 1:
		return endSlot
	case !q.engines || times > 1:
		return endAll
	}
	return endRun
}

// giveBack ends a slot and leaves its job to the others. It reports whether there
// are any.
func (q *queue) giveBack(job *Job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.working == 1 {
		return false
	}
	q.working--
	q.left = slices.Insert(q.left, 0, job)
	q.free(job)
	return true
}

// free lets others work on the run of a job, and wakes slots that wait.
func (q *queue) free(job *Job) {
	delete(q.busy, job.Run.ID)
	q.wake()
}

func (q *queue) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// answered records that an engine works.
func (q *queue) answered() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.engines = true
}

// task is what a slot does next.
type task struct {
	job *Job // nil: nothing now, or nothing at all
	run *store.Run
	// changed is closed when there may be a job; nil: there will be none.
	changed <-chan struct{}
	held    *Job          // nil: no job waits for another process
	holder  *store.Holder // of held
}

// next takes the first job whose run nobody works on: of those that are left, then of
// the source. The error is of the job, or, without one, of the source.
func (q *queue) next(ctx context.Context, s Recorder) (task, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := task{changed: q.changed}
	for i := 0; ; i++ {
		if i == len(q.left) {
			if err := q.ask(ctx); err != nil {
				return task{}, err
			}
			if i == len(q.left) {
				break
			}
		}
		job := q.left[i]
		if q.busy[job.Run.ID] {
			continue // it may be done then
		}
		run, err := s.Claim(ctx, job.Run.ID)
		var other *store.ClaimedError
		if errors.As(err, &other) {
			t.held, t.holder = job, &other.Holder
			continue
		}
		q.left = slices.Delete(q.left, i, i+1)
		q.busy[job.Run.ID] = true
		if err == nil {
			job.Dir = run.Path()
		}
		return task{job: job, run: run}, err
	}
	if len(q.left) == 0 && q.done {
		q.working--
		return task{}, nil
	}
	return t, nil
}

// ask adds a job of the source to those that are left, if it has one now.
func (q *queue) ask(ctx context.Context) error {
	if q.done {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err // no further job after a stop
	}
	job, done, err := q.source.Next(ctx)
	if err != nil {
		return fmt.Errorf("looking for what to run next: %w", err)
	}
	if job != nil {
		q.left = append(q.left, job)
	} else if done {
		q.done = true
		q.wake() // slots that wait for nothing end
	}
	return nil
}

// stopped records that not all jobs were tried.
func (q *queue) stopped() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.totals.Stopped = true
}

// ended records how a job ended, and reports it to the source.
func (q *queue) ended(job *Job, end *End) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case end.Outcome == Finished:
		q.totals.Finished++
	case end.Outcome == Failed && !job.Trial:
		q.totals.Failed++
	case end.Outcome == Elsewhere:
		q.totals.Elsewhere++
	case end.Outcome == Paused:
		q.totals.Paused++
	case end.Outcome == Stopped:
		q.totals.Stopped = true
	}
	q.free(job)
	if q.source == nil {
		return nil
	}
	return q.source.Ended(job, end)
}

// end is the totals when all slots have ended.
func (q *queue) end() Totals {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.totals.Stopped = q.totals.Stopped || len(q.left) > 0 || !q.done
	return q.totals
}
