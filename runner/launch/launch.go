// Package launch executes runs. The local launcher has slots, one for each
// device unless told otherwise, and in each an engine process that takes one
// run after another, so that weights and caches stay warm. It writes what
// becomes of each run into its record, and reports it to Watch.
//
// A run is claimed in its record before it is begun, so several launchers may
// work on the same runs: none is done twice, and what one leaves because it
// died another takes over.
//
// An engine that dies or hangs takes one run with it: the run is tried again a
// few times, then marked failed with the reason, and a new engine goes on with
// the next.
package launch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/provenance"
	"github.com/loralab/loralab/runner/store"
)

const (
	// startTimeout is generous: loading libtorch from a cold disk takes a while.
	startTimeout = 60 * time.Second
	// lockTimeout covers the moment that an engine needs to notice that its
	// runner was killed.
	lockTimeout = 10 * time.Second
	// claimEvery is how often runs that others work on are looked at.
	claimEvery   = 300 * time.Millisecond
	sampleImages = 4
	tailLines    = 12
)

// Job is one run to execute.
type Job struct {
	Run         *experiment.Run
	Train       bool // false: trained already, evaluate only
	Evaluations []experiment.Evaluation
	Dir         string             // the run directory, absolute
	Source      *provenance.Source // nil: known only by its specification
	// Pause ends the training at a step, where the next job for the run continues;
	// nil: it trains to its end.
	Pause *spec.Pause
	// Attempts is how often the run was begun when the job was made: a failure
	// since then is news.
	Attempts int
	// Trial says that the job is a trial of a search: that it fails is a result.
	Trial bool
}

// A Source has further jobs, which may depend on how earlier ones ended. One goroutine
// at a time calls its methods.
type Source interface {
	// Next is a job for a free slot; nil where there is none now. It is asked again
	// when a job has ended, and from time to time. Done says that there will be none,
	// however the jobs in progress end.
	Next(ctx context.Context) (job *Job, done bool, err error)
	// Ended takes up how a job ended, that it gave or another.
	Ended(job *Job, end *End) error
}

// Outcome is how a job ended.
type Outcome int

const (
	Finished  Outcome = iota
	Stopped           // on request; continues at the next apply
	Failed            //
	Elsewhere         // another process has done it
	Paused            // at Job.Pause; neither done nor failed
)

// Event is what happened. One field is set besides Job.
type Event struct {
	Job    *Job
	Start  *Start
	Engine *spec.EngineInfo // a new engine answers
	Event  *spec.Event      // said by the engine; never its last word
	Retry  *Retry
	Slot   *SlotEnd
	Wait   *store.Holder // all that is left is worked on by others, this is one of them
	End    *End
}

// Start says that an attempt begins.
type Start struct{ Attempt int }

// Retry says that a job is tried once more, and why.
type Retry struct {
	Reason  string
	Attempt int // which begins now, counted from 1
	Of      int // attempts at most
}

// SlotEnd says that a slot has no engine any more, while others go on.
type SlotEnd struct{ Reason string }

// End says how a job ended.
type End struct {
	Outcome Outcome
	Summary *spec.Summary // of a finished one
	Step    uint64        // of a stopped, paused or failed one: its last checkpoint
	// Validation is of a paused one: of the weights of Step, if Job.Pause asked for it.
	Validation *spec.Metrics
	Reason     string // of a failed one, one line
	Detail     string // of a failed one: stack, last lines of the engine's log
}

// Local executes jobs on this machine.
type Local struct {
	Engine string // path of the binary
	// Records is where a worker writes what becomes of a run; it needs no database.
	Records *store.Records
	// Slots are the engines to have; see Divide. None means one that chooses
	// device and threads itself.
	Slots []Slot
	// Retries is how often a run is tried again that crashed, hung or ran out
	// of memory.
	Retries int
	// FailFast stops everything after the first run that failed.
	FailFast bool
	// Silence is how long an engine may say nothing before it is taken for
	// dead; 0 is for ever.
	Silence time.Duration
	// Checkpoint is how much work a kill may cost; 0 is an epoch.
	Checkpoint time.Duration
	// Origin is written into the directory of every run that is begun.
	Origin *provenance.Origin
	// Watch is called with what happens, by one goroutine at a time. It may take
	// its time: once the context given to Run is cancelled, nobody waits for it.
	Watch func(Event)
	// Source has jobs to do after those given to Run; nil for none.
	Source Source
	// Kill ends runs without a checkpoint when it is closed. It matters only
	// after the context given to Run was cancelled, which stops with one.
	Kill <-chan struct{}
}

// Totals counts how jobs ended.
type Totals struct {
	Finished, Failed int
	// Elsewhere counts those that other processes did.
	Elsewhere int
	// Paused counts those that ended at their Job.Pause.
	Paused int
	// Stopped says that not all jobs were tried.
	Stopped bool
}

// EnginePath is where the engine is: $LORALAB_ENGINE, or runner-engine next to
// this program. It is returned also with the error that it cannot be run.
func EnginePath() (string, error) {
	if path := os.Getenv("LORALAB_ENGINE"); path != "" {
		found, err := exec.LookPath(path)
		if err != nil {
			return path, fmt.Errorf("finding the engine that $LORALAB_ENGINE names: %w", err)
		}
		return filepath.Abs(found)
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding the engine: %w", err)
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	path := filepath.Join(filepath.Dir(self), "runner-engine")
	if _, err := exec.LookPath(path); err != nil {
		return path, fmt.Errorf("finding the engine: %w; build it with `make build` or name one in $LORALAB_ENGINE", err)
	}
	return path, nil
}

// Probe starts an engine, asks what it is and ends it. The path is returned
// also with an error.
func Probe(ctx context.Context) (path string, info *spec.EngineInfo, err error) {
	if path, err = EnginePath(); err != nil {
		return path, nil, err
	}
	w := worker{Local: &Local{Engine: path}}
	defer w.close()
	log := &tailWriter{w: io.Discard}
	info, err = w.start(ctx, log)
	return path, info, err
}

// Run executes jobs, in order as far as there is one slot. Cancelling ctx lets
// the runs in progress write a checkpoint and end, and starts no other. A job
// that fails is no error; one is returned when nothing can be executed at all,
// or nothing be written down.
func (l *Local) Run(ctx context.Context, jobs []*Job) (Totals, error) {
	asked := ctx // to stop
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	relay := newRelay(l.Watch)
	serial := *l
	serial.Watch = func(e Event) { relay.send(asked, e) }
	slots := l.Slots
	if len(slots) == 0 {
		slots = []Slot{{}}
	}
	if l.Source == nil {
		slots = slots[:min(len(slots), max(len(jobs), 1))]
	}
	q := &queue{left: jobs, working: len(slots), source: l.Source, done: l.Source == nil, changed: make(chan struct{})}
	errs := make([]error, len(slots))
	var wg sync.WaitGroup
	for i, slot := range slots {
		wg.Go(func() {
			w := worker{Local: &serial, slot: slot, queue: q}
			defer w.close()
			if errs[i] = w.work(ctx, cancel); errs[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	relay.end(asked)
	q.totals.Stopped = q.totals.Stopped || len(q.left) > 0 || !q.done
	return q.totals, errors.Join(errs...)
}

// queue is the jobs that no slot has taken yet, and what became of the others.
type queue struct {
	mu      sync.Mutex
	left    []*Job
	totals  Totals
	working int  // slots that take further jobs
	engines bool // one has answered
	source  Source
	done    bool            // the source has no further job
	busy    map[string]bool // runs that slots of this process work on
	changed chan struct{}   // closed when a job ends
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
	delete(q.busy, job.Run.ID)
	q.left = append([]*Job{job}, q.left...)
	return true
}

// answered records that an engine works.
func (q *queue) answered() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.engines = true
}

// taken is what a slot has to do next.
type taken struct {
	job  *Job
	run  *store.Run    // what is known of it
	wait *store.Holder // has the job now
	// ended is closed when another job has ended: there may be one then.
	ended <-chan struct{}
}

// next takes the first job that no other process works on, of those that are left or
// of the source. With none, it returns one of theirs and who has it; or with a source
// that has none now, what to wait for; with no job at all, nil.
func (q *queue) next(ctx context.Context, s *store.Records) (*taken, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var other *store.ClaimedError
	var theirs *Job // which another process works on
	for i, job := range q.left {
		if q.busy[job.Run.ID] { // a run of the plan can be that of a trial
			continue
		}
		run, err := s.Claim(ctx, job.Run.ID)
		if err == nil {
			q.left = append(q.left[:i:i], q.left[i+1:]...)
			return q.take(job, run), nil
		}
		if !errors.As(err, &other) {
			q.left = append(q.left[:i:i], q.left[i+1:]...)
			return &taken{job: job}, err
		}
		theirs = cmp.Or(theirs, job)
	}
	for !q.done && ctx.Err() == nil {
		job, done, err := q.source.Next(ctx)
		if err != nil {
			return nil, fmt.Errorf("looking for what to run next: %w", err)
		}
		if job == nil {
			if !done {
				break
			}
			q.done = true
			close(q.changed) // for the slots that wait
			q.changed = make(chan struct{})
			break
		}
		if q.busy[job.Run.ID] {
			q.left = append(q.left, job)
			continue
		}
		run, err := s.Claim(ctx, job.Run.ID)
		if errors.As(err, &other) {
			q.left, theirs = append(q.left, job), cmp.Or(theirs, job)
			continue
		}
		if err != nil {
			return &taken{job: job}, err
		}
		return q.take(job, run), nil
	}
	switch {
	case theirs != nil:
		return &taken{job: theirs, wait: &other.Holder, ended: q.changed}, nil
	case !q.done || len(q.left) > 0:
		return &taken{ended: q.changed}, nil
	}
	q.working--
	return nil, nil
}

// take gives a slot a job that is claimed.
func (q *queue) take(job *Job, run *store.Run) *taken {
	if q.busy == nil {
		q.busy = map[string]bool{}
	}
	q.busy[job.Run.ID] = true
	return &taken{job: job, run: run}
}

// ended takes up how a job has ended.
func (q *queue) ended(job *Job, end *End) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.busy, job.Run.ID)
	close(q.changed)
	q.changed = make(chan struct{})
	var err error
	if q.source != nil {
		err = q.source.Ended(job, end)
	}
	if o := end.Outcome; o != Failed || !job.Trial {
		q.count(o)
	}
	return err
}

func (q *queue) count(o Outcome) {
	switch o {
	case Finished:
		q.totals.Finished++
	case Failed:
		q.totals.Failed++
	case Elsewhere:
		q.totals.Elsewhere++
	case Paused:
		q.totals.Paused++
	case Stopped:
		q.totals.Stopped = true
	}
}
