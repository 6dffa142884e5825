// Package launch executes runs. The local launcher starts one engine process
// and hands it one run after another, so that weights and caches stay warm. It
// writes down in the store what becomes of each run and tells whoever watches.
//
// An engine that dies takes one run with it: the run is tried once more if it
// had made progress, then marked failed with the reason, and a new engine goes
// on with the next.
package launch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/store"
)

const (
	// startTimeout is generous: loading libtorch from a cold disk takes a while.
	startTimeout = 60 * time.Second
	// lockTimeout covers the moment that an engine needs to notice that its
	// runner was killed.
	lockTimeout = 10 * time.Second
	// progressEvery bounds how often the step of a run is written to the store.
	progressEvery = time.Second
	// checkpointSeconds is the most work that a kill costs.
	checkpointSeconds = 60
	sampleImages      = 4
	tailLines         = 12
)

// Job is one run to execute.
type Job struct {
	Run         *experiment.Run
	Train       bool // false: trained already, evaluate only
	Evaluations []experiment.Evaluation
	Dir         string // the run directory, absolute
}

// Outcome is how a job ended.
type Outcome int

const (
	Finished Outcome = iota
	Stopped          // on request; goes on at the next apply
	Failed
)

// Event is what happened. One field is set besides Job.
type Event struct {
	Job    *Job
	Start  *Start
	Engine *spec.EngineInfo // a new engine answers
	Event  *spec.Event      // said by the engine; never its last word
	Retry  *Retry
	End    *End
}

// Start says that an attempt begins.
type Start struct{ Attempt int }

// Retry says that a job is tried once more, and why.
type Retry struct{ Reason string }

// End says how a job ended.
type End struct {
	Outcome Outcome
	Summary *spec.Summary // of a finished one
	Step    uint64        // of a stopped or failed one: its last checkpoint
	Reason  string        // of a failed one, one line
	Detail  string        // of a failed one: stack, last lines of the engine's log
}

// Local executes jobs on this machine.
type Local struct {
	Engine string // path of the binary
	Store  *store.Store
	// Watch is told what happens, from the goroutine that called Run.
	Watch func(Event)
	// Kill ends a run without a checkpoint when it is closed. It matters only
	// after the context given to Run was cancelled, which stops with one.
	Kill <-chan struct{}
}

// Totals counts how jobs ended.
type Totals struct {
	Finished, Failed int
	// Stopped says that not all jobs were tried: the context was cancelled.
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

// Run executes jobs in order. Cancelling ctx lets the run in progress write a
// checkpoint and end, and starts no other. A job that fails is no error; one
// is returned when nothing can be executed at all, or nothing be written down.
func (l *Local) Run(ctx context.Context, jobs []*Job) (Totals, error) {
	w := worker{Local: l}
	defer w.close()
	var totals Totals
	for _, job := range jobs {
		if ctx.Err() != nil {
			totals.Stopped = true
			break
		}
		end, err := w.execute(ctx, job)
		if err != nil {
			return totals, fmt.Errorf("running %s: %w", job.Run.Name(), err)
		}
		switch end.Outcome {
		case Finished:
			totals.Finished++
		case Failed:
			totals.Failed++
		case Stopped:
			totals.Stopped = true
		}
		l.Watch(Event{Job: job, End: end})
		if end.Outcome == Stopped {
			break
		}
	}
	return totals, nil
}

// worker holds the engine between jobs.
type worker struct {
	*Local
	engine *spec.EngineProcess
}

func (w *worker) close() {
	if w.engine != nil {
		w.engine.Close()
		w.engine = nil
	}
}

// execute makes one attempt at a job, or two.
func (w *worker) execute(ctx context.Context, job *Job) (*End, error) {
	// Writing down what happened must not fail because the user asked to stop.
	keep := context.WithoutCancel(ctx)
	for attempt := 1; ; attempt++ {
		w.Watch(Event{Job: job, Start: &Start{Attempt: attempt}})
		if err := w.Store.Start(keep, job.Run.ID); err != nil {
			return nil, err
		}
		a, err := w.attempt(ctx, job)
		if err != nil {
			return nil, errors.Join(err, w.Store.Stop(keep, job.Run.ID, 0))
		}
		end := a.end
		if end.Outcome == Failed && a.retryable && a.progress && attempt == 1 && ctx.Err() == nil {
			w.Watch(Event{Job: job, Retry: &Retry{Reason: end.Reason}})
			continue
		}
		switch end.Outcome {
		case Finished:
			err = w.Store.Finish(keep, job.Run.ID, end.Summary)
		case Stopped:
			err = w.Store.Stop(keep, job.Run.ID, end.Step)
		case Failed:
			err = w.Store.Fail(keep, job.Run.ID, end.Step, end.Reason)
		}
		return end, err
	}
}

// attempt is one try at a job, as far as it has come.
type attempt struct {
	end       *End
	retryable bool
	progress  bool   // a checkpoint was written, or an evaluation done
	step      uint64 // of the last checkpoint
}

func (w *worker) attempt(ctx context.Context, job *Job) (*attempt, error) {
	if err := os.MkdirAll(job.Dir, 0o777); err != nil {
		return nil, fmt.Errorf("making the run directory: %w", err)
	}
	if err := store.AwaitEngine(job.Dir, lockTimeout); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(job.Dir, "log.txt"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return nil, fmt.Errorf("opening the log of the run: %w", err)
	}
	log := &tailWriter{w: file}
	a, err := w.converse(ctx, job, log)
	if w.engine != nil {
		w.engine.SetLog(io.Discard)
	}
	return a, errors.Join(err, file.Close())
}

// start starts an engine and asks what it is.
func (w *worker) start(ctx context.Context, log *tailWriter) (*spec.EngineInfo, error) {
	cmd := exec.Command(w.Engine)
	// Threads of OpenMP spin while they wait for each other, which on a machine
	// with anything else to do costs three quarters of the speed. They read
	// this before the engine's first line runs. The user's own setting wins.
	cmd.Env = []string{"OMP_WAIT_POLICY=PASSIVE"}
	engine, err := spec.StartEngine(cmd, log, startTimeout)
	if err != nil {
		return nil, withTail(err, log)
	}
	w.engine = engine
	info, err := engine.Info(ctx, &spec.InfoRequest{})
	if err != nil {
		w.close()
		return nil, withTail(fmt.Errorf("asking engine %s what it is: %s", w.Engine, status.Convert(err).Message()), log)
	}
	return info, nil
}

// converse sends a job to the engine and listens until its end.
func (w *worker) converse(ctx context.Context, job *Job, log *tailWriter) (*attempt, error) {
	if w.engine != nil && w.engine.Exited() {
		w.close()
	}
	if w.engine == nil {
		info, err := w.start(ctx, log)
		if err != nil && ctx.Err() != nil {
			return &attempt{end: &End{Outcome: Stopped}}, nil
		}
		if err != nil {
			return nil, err
		}
		w.Watch(Event{Job: job, Engine: info})
	} else {
		w.engine.SetLog(log)
	}

	// The call outlives ctx: stopping takes as long as a checkpoint takes.
	call, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	engine, killed := w.engine, false
	var asides sync.WaitGroup
	asides.Go(func() {
		select {
		case <-ctx.Done():
			// An engine that is gone need not be told; the stream reports it.
			_, _ = engine.Stop(call, &spec.StopRequest{})
		case <-call.Done():
		}
	})
	asides.Go(func() {
		select {
		case <-w.Kill:
			killed = true
			engine.Kill()
		case <-call.Done():
		}
	})
	a := &attempt{}
	stream, err := engine.Run(call, request(job))
	var fatal error
	if err == nil {
		fatal = w.listen(ctx, job, a, stream.Recv)
	}
	cancel()
	asides.Wait()
	if fatal != nil || a.end != nil {
		if fatal != nil || a.retryable {
			// Memory is the usual reason to try again; a new process has it back.
			w.close()
		}
		return a, fatal
	}
	// No last word: the engine is gone, or will not be heard any more.
	how := engine.Kill()
	w.engine = nil
	if killed {
		a.end = &End{Outcome: Stopped, Step: a.step}
		return a, nil
	}
	reason := "the engine ended: " + how
	if how == "signal: killed" {
		reason += " (by the system for lack of memory, or by hand)"
	}
	if last := log.reason(); last != "" {
		reason += "; it said: " + last
	}
	a.retryable = true
	a.end = &End{Outcome: Failed, Step: a.step, Reason: reason, Detail: log.tail()}
	return a, nil
}

// listen passes on what the engine says until its last word, which it puts
// into a.end; that stays nil where the engine went without one. The error is
// of the store.
func (w *worker) listen(ctx context.Context, job *Job, a *attempt, next func() (*spec.Event, error)) error {
	keep := context.WithoutCancel(ctx)
	id := job.Run.ID
	var steps uint64
	var written time.Time
	for {
		event, err := next()
		if err != nil {
			return nil // a.end says that there was no last word
		}
		switch e := event.GetEvent().(type) {
		case *spec.Event_Finished:
			a.end = &End{Outcome: Finished, Summary: e.Finished.GetSummary()}
			return nil
		case *spec.Event_Stopped:
			a.end = &End{Outcome: Stopped, Step: e.Stopped.GetStep()}
			return nil
		case *spec.Event_Failed:
			a.retryable = e.Failed.GetRetryable()
			a.end = &End{Outcome: Failed, Step: a.step, Reason: oneLine(e.Failed.GetReason()), Detail: e.Failed.GetDetail()}
			return nil
		case *spec.Event_Started:
			steps, a.step = e.Started.GetSteps(), e.Started.GetStep()
			err = w.Store.Progress(keep, id, a.step, steps)
		case *spec.Event_Step:
			if time.Since(written) >= progressEvery {
				written = time.Now()
				err = w.Store.Progress(keep, id, e.Step.GetStep(), steps)
			}
		case *spec.Event_Checkpoint:
			a.step, a.progress = e.Checkpoint.GetStep(), true
		case *spec.Event_Evaluated:
			a.progress = true
			err = w.Store.Evaluate(keep, id, e.Evaluated)
		}
		if err != nil {
			return err
		}
		w.Watch(Event{Job: job, Event: event})
	}
}

func request(job *Job) *spec.RunRequest {
	places := &spec.Places{}
	if job.Run.Places != nil {
		places = proto.CloneOf(job.Run.Places)
	}
	places.RunDir = job.Dir
	r := &spec.RunRequest{
		Id: job.Run.ID, Spec: job.Run.Spec, Train: job.Train, Label: job.Run.Label, Places: places,
		CheckpointSeconds: checkpointSeconds, SampleImages: sampleImages,
	}
	for _, e := range job.Evaluations {
		r.Evaluations = append(r.Evaluations, e.Spec)
	}
	return r
}

// tailWriter passes on what an engine writes and remembers what tells why it
// ended: the message of a panic or of a C++ exception with the lines behind it,
// or else the last lines.
type tailWriter struct {
	mu    sync.Mutex
	w     io.Writer
	cause string   // the message
	lines []string // from the message on, or the last
	part  []byte   // of a line
}

var signs = []string{"panic: ", "fatal error: ", "what(): ", "terminate called"}

func (t *tailWriter) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.part = append(t.part, p...)
	for {
		line, rest, found := bytes.Cut(t.part, []byte("\n"))
		if !found {
			return t.w.Write(p)
		}
		t.line(string(line))
		t.part = rest
	}
}

func (t *tailWriter) line(line string) {
	switch {
	case strings.TrimSpace(line) == "":
	case t.cause != "":
		if len(t.lines) < tailLines {
			t.lines = append(t.lines, line)
		}
	default:
		if slices.ContainsFunc(signs, func(sign string) bool { return strings.Contains(line, sign) }) {
			t.cause = line
			t.lines = t.lines[max(0, len(t.lines)-tailLines/4):]
		}
		t.lines = append(t.lines, line)
		t.lines = t.lines[max(0, len(t.lines)-tailLines):]
	}
}

func (t *tailWriter) tail() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(append(t.lines[:len(t.lines):len(t.lines)], string(t.part)), "\n")
}

// reason is the line that says most.
func (t *tailWriter) reason() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cause != "" || len(t.lines) == 0 {
		return oneLine(t.cause)
	}
	return oneLine(t.lines[len(t.lines)-1])
}

func withTail(err error, log *tailWriter) error {
	if tail := strings.TrimSpace(log.tail()); tail != "" {
		return fmt.Errorf("%w; it said:\n%s", err, tail)
	}
	return err
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	const most = 300
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
