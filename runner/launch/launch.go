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
	// Stop, once closed, ends this run after a checkpoint, as the context given to Run
	// ends all; nil: nothing does.
	Stop <-chan struct{}
}

// A Source has further jobs, which may depend on how earlier ones ended. One goroutine
// at a time calls its methods.
type Source interface {
	// Next is a job for a free slot; nil where there is none now. It is asked again
	// when a job has ended, and from time to time. Done says that there will be none,
	// however the jobs in progress end. After a stop it is not called. A job whose run
	// is worked on already, by another process or for another job of this one, waits,
	// and Next is called for another meanwhile.
	Next(ctx context.Context) (job *Job, done bool, err error)
	// Ended takes up how a job ended, that it gave or another. A job that still waits
	// when Run ends has no end.
	Ended(job *Job, end *End) error
}

// Outcome is how a job ended.
type Outcome int

const (
	Finished  Outcome = iota
	Stopped           // on request; continues at the next apply
	Failed            //
	Elsewhere         // another process has done it, or another job for the same run
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
type Start struct {
	Attempt int
	// When it began, where that was not now.
	When time.Time
}

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
	// When it ended, where that was not now.
	When   time.Time
	Reason string // of a failed one, one line
	Detail string // of a failed one: stack, last lines of the engine's log
}

// A Launcher executes jobs: Local on this machine, pilot.Cluster with workers on others.
type Launcher interface {
	// Run executes jobs, and returns when all have ended or ctx was cancelled.
	Run(ctx context.Context, jobs []*Job) (Totals, error)
}

// A Recorder is what a worker claims runs from, and where it writes what becomes of them:
// the records of a project (store.Records), or, on a cluster, the generations of each run
// (pilot.Worker). A claim lasts until Unclaim, Finish, Stop, Pause or Fail.
type Recorder interface {
	// Claim takes a run for this process and returns what is known of it then; the
	// worker writes into its Path. Where another works on it the error is a
	// *store.ClaimedError, and where it is not there any more store.ErrRemoved.
	Claim(ctx context.Context, id string) (*store.Run, error)
	// Unclaim gives a run back without a word about it.
	Unclaim(ctx context.Context, id string) error
	// Start records that an attempt begins, Begun at which of its steps.
	Start(ctx context.Context, id string) error
	Begun(ctx context.Context, id string, step, steps uint64) error
	// Finish, Stop, Pause and Fail record how it ended, and after which step.
	Finish(ctx context.Context, id string, summary *spec.Summary) error
	Stop(ctx context.Context, id string, step uint64) error
	Pause(ctx context.Context, id string, step uint64, m *spec.Metrics) error
	Fail(ctx context.Context, id string, step uint64, reason string) error
}

// Local executes jobs on this machine.
type Local struct {
	Engine string // path of the binary
	// Libraries is a directory where the engine finds libtorch first; "" for none.
	Libraries string
	// Records is where a worker writes what becomes of a run.
	Records Recorder
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
	// Elsewhere counts those that other processes did, or other jobs.
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

// Run executes jobs, in order as far as there is one slot, then those of the source.
// Cancelling ctx lets the runs in progress write a checkpoint and end, and starts no
// other. A job that fails is no error; one is returned when nothing can be executed
// at all, or nothing be written down, or the source fails.
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
	q := newQueue(jobs, l.Source, len(slots))
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
	return q.end(), errors.Join(errs...)
}
