package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/environ"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/store"
)

// worker is a slot at work; it holds the engine between jobs.
type worker struct {
	*Local
	slot   Slot
	queue  *queue
	engine *spec.EngineProcess
	end    context.CancelFunc // ends the engine by force
	info   *spec.EngineInfo   // of the engine
	failed int                // jobs in a row for which no engine could be started
	parts  uint32             // of a batch, in the attempts to come at the job
}

func (w *worker) close() {
	if w.engine != nil {
		w.engine.Close()
		w.end()
		w.engine = nil
	}
}

// work takes jobs until there will be none or ctx ends. It calls stop after a failure
// if nothing is to follow one.
func (w *worker) work(ctx context.Context, stop func()) error {
	// Writing down what happened must not fail because the user asked to stop.
	keep := context.WithoutCancel(ctx)
	var waiting store.Holder
	for ctx.Err() == nil {
		t, err := w.queue.next(ctx, w.Records)
		switch {
		case err != nil && ctx.Err() != nil:
			w.queue.stopped()
			return nil
		case t.job == nil && err != nil:
			return err
		case err != nil && !ofRun(err):
			return fmt.Errorf("running %s: %w", t.job.Run.Name(), err)
		case t.job == nil && t.changed == nil:
			return nil
		case t.job == nil:
			if t.holder != nil && *t.holder != waiting {
				waiting = *t.holder
				w.Watch(Event{Job: t.held, Wait: t.holder})
			}
			select {
			case <-ctx.Done():
			case <-t.changed:
			case <-time.After(claimEvery):
			}
			continue
		}
		job := t.job
		var end *End
		if err == nil {
			end, err = w.settled(keep, job, t.run)
		}
		if err == nil && end == nil {
			end, err = w.execute(ctx, job)
		}
		if ofRun(err) {
			end, err = &End{Outcome: Failed, Reason: inOneLine(err)}, nil
		}
		if err != nil {
			return fmt.Errorf("running %s: %w", job.Run.Name(), err)
		}
		if end == nil {
			return nil // the slot has no engine, and another has the job
		}
		err = w.queue.ended(job, end)
		w.Watch(Event{Job: job, End: end})
		if err != nil {
			return err
		}
		if end.Outcome == Failed && !job.Trial && w.FailFast {
			stop()
		}
	}
	return nil
}

// ofRun reports whether an error is of one run and no reason to stop others: its
// directory or its record was removed or damaged while this process worked.
func ofRun(err error) bool {
	return errors.Is(err, store.ErrRemoved) || errors.Is(err, store.ErrDamaged)
}

// settled is how a claimed job has ended already, because another process has
// worked on it since it was made, or nil. What is done is taken out of the job.
func (w *worker) settled(ctx context.Context, job *Job, run *store.Run) (*End, error) {
	id := job.Run.ID
	job.Train = run.Summary == nil
	var missing []experiment.Evaluation
	for _, e := range job.Evaluations {
		if job.Train || run.Evaluations[e.ID] == nil {
			missing = append(missing, e)
		}
	}
	summary := run.Summary
	if summary != nil {
		summary = proto.CloneOf(summary)
		summary.Evaluations = nil
		for _, e := range job.Evaluations {
			if known := run.Evaluations[e.ID]; known != nil {
				known = proto.CloneOf(known)
				known.Metrics = metric.Named(known.Metrics, job.Run.Spec.GetData().GetClasses())
				summary.Evaluations = append(summary.Evaluations, known)
			}
		}
	}
	job.Evaluations = missing
	switch {
	case !job.Train && len(missing) == 0:
		return &End{Outcome: Elsewhere, Summary: summary}, w.Records.Finish(ctx, id, summary)
	case run.State == store.Failed && (run.Attempts > job.Attempts || job.Trial):
		// That a trial fails is its result, also that of another process.
		return &End{Outcome: Failed, Step: run.Checkpoint, Reason: run.Reason}, w.Records.Unclaim(ctx, id)
	case job.Pause != nil:
		// It paused there, or has been continued from there.
		i := slices.IndexFunc(run.Rungs, func(r store.Rung) bool { return r.Step >= job.Pause.Step })
		if i < 0 {
			return nil, nil
		}
		end := &End{Outcome: Paused, Step: run.Rungs[i].Step, Validation: metric.Named(run.Rungs[i].Metrics, job.Run.Spec.GetData().GetClasses())}
		return end, w.Records.Unclaim(ctx, id)
	}
	return nil, nil
}

// execute makes an attempt at a job, and another few if it crashes. Without an end
// and an error the slot is at its end: the job is in the queue again.
func (w *worker) execute(ctx context.Context, job *Job) (*End, error) {
	keep := context.WithoutCancel(ctx)
	w.parts = 0
	for attempt := 1; ; attempt++ {
		w.Watch(Event{Job: job, Start: &Start{Attempt: attempt}})
		if err := w.Records.Start(keep, job.Run.ID); err != nil {
			return nil, err
		}
		a, err := w.attempt(ctx, job)
		var none *noEngineError
		if errors.As(err, &none) {
			w.failed++
			switch w.queue.without(w.failed) {
			case endRun:
				a, err = failure(none), nil
			case endSlot:
				if err := w.Records.Stop(keep, job.Run.ID, 0); err != nil {
					return nil, err
				}
				if !w.queue.giveBack(job) {
					return nil, none
				}
				w.Watch(Event{Job: job, Slot: &SlotEnd{Reason: inOneLine(none)}})
				return nil, nil
			}
		}
		if err != nil {
			return nil, errors.Join(err, w.Records.Stop(keep, job.Run.ID, 0))
		}
		end := a.end
		if end.Outcome == Failed && a.retryable && attempt <= w.Retries && ctx.Err() == nil {
			w.Watch(Event{Job: job, Retry: &Retry{Reason: end.Reason, Attempt: attempt + 1, Of: w.Retries + 1}})
			continue
		}
		switch end.Outcome {
		case Finished:
			err = w.Records.Finish(keep, job.Run.ID, end.Summary)
		case Stopped:
			err = w.Records.Stop(keep, job.Run.ID, end.Step)
		case Paused:
			err = w.Records.Pause(keep, job.Run.ID, end.Step, end.Validation)
		case Failed:
			err = w.Records.Fail(keep, job.Run.ID, end.Step, end.Reason)
		}
		return end, err
	}
}

// attempted is one try at a job, as far as it has come.
type attempted struct {
	end       *End
	retryable bool
	step      uint64 // of the last checkpoint
}

// failure is a try that came to nothing because of the run's own files.
func failure(err error) *attempted {
	return &attempted{end: &End{Outcome: Failed, Reason: inOneLine(err), Detail: err.Error()}}
}

// attempt tries a job. What is wrong in its directory ends this job alone; the
// error is of the engine or the store.
func (w *worker) attempt(ctx context.Context, job *Job) (*attempted, error) {
	if err := os.MkdirAll(job.Dir, 0o777); err != nil {
		return failure(fmt.Errorf("making the run directory: %w", err)), nil
	}
	if err := store.AwaitEngine(job.Dir, lockTimeout); err != nil {
		return failure(err), nil
	}
	file, err := os.OpenFile(rundir.Dir(job.Dir).Path(rundir.Log), os.O_CREATE|os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW, 0o666)
	if err != nil {
		return failure(fmt.Errorf("opening the log of the run: %w", err)), nil
	}
	defer file.Close() // what is lost of it does not end a run
	log := &tailWriter{w: file}
	if err := w.begin(ctx, job, log); err != nil {
		if ctx.Err() != nil {
			return &attempted{end: &End{Outcome: Stopped}}, nil
		}
		return nil, &noEngineError{err}
	}
	defer func() {
		if w.engine != nil {
			w.engine.SetLog(io.Discard)
		}
	}()
	if w.Origin != nil {
		if err := w.Origin.Record(job.Dir, job.Source, job.Run.Label, w.info); err != nil {
			return failure(err), nil
		}
	}
	return w.converse(ctx, job, log)
}

// noEngineError says that no engine could be started for a job.
type noEngineError struct{ err error }

func (e *noEngineError) Error() string { return e.err.Error() }

func (e *noEngineError) Unwrap() error { return e.err }

// begin sees to it that there is an engine, which writes to log. One that dies
// while it starts is tried again as one that dies later.
func (w *worker) begin(ctx context.Context, job *Job, log *tailWriter) error {
	if w.engine != nil && w.engine.Exited() {
		w.close()
	}
	if w.engine != nil {
		w.engine.SetLog(log)
		return nil
	}
	info, err := w.start(ctx, log)
	for try := 2; errors.Is(err, spec.ErrDied) && try <= w.Retries+1 && ctx.Err() == nil; try++ {
		w.Watch(Event{Job: job, Retry: &Retry{Reason: inOneLine(err), Attempt: try, Of: w.Retries + 1}})
		info, err = w.start(ctx, log)
	}
	if err != nil {
		return err
	}
	w.info, w.failed = info, 0
	w.queue.answered()
	w.Watch(Event{Job: job, Engine: info})
	return nil
}

// start starts an engine and asks what it is. While it starts it has nothing to
// lose, and ends with ctx.
func (w *worker) start(ctx context.Context, log *tailWriter) (*spec.EngineInfo, error) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	started := context.AfterFunc(ctx, end)
	defer started()
	cmd := exec.CommandContext(life, w.Engine)
	cmd.Env = w.slot.environment(environ.ForEngine(os.Environ()))
	if w.Libraries != "" {
		const name = "LD_LIBRARY_PATH"
		cmd.Env = append(cmd.Env, name+"="+strings.TrimSuffix(w.Libraries+":"+os.Getenv(name), ":"))
	}
	log.forget()
	var engine *spec.EngineProcess
	err := w.slot.bound(func() (err error) {
		engine, err = spec.StartEngine(cmd, log, startTimeout)
		return err
	})
	if err != nil {
		end()
		return nil, withTail(err, log)
	}
	w.engine, w.end = engine, end
	info, err := engine.Info(ctx, &spec.InfoRequest{})
	if err == nil {
		return info, nil
	}
	ended := engine.Close()
	w.close()
	if misunderstood(err) {
		err = fmt.Errorf("asking engine %s what it is: %s", w.Engine, misunderstanding(err))
	} else {
		err = fmt.Errorf("starting engine %s: %w: %s", w.Engine, spec.ErrDied, spec.InWords(ended))
	}
	return nil, withTail(err, log)
}

// misunderstood reports whether a call failed for what was to be sent, while the
// engine was well: another try ends the same.
func misunderstood(err error) bool {
	if text := (*spec.TextError)(nil); errors.As(err, &text) {
		return true
	}
	s := status.Convert(err)
	switch s.Code() {
	case codes.ResourceExhausted, codes.Unimplemented, codes.InvalidArgument, codes.OutOfRange:
		return true
	case codes.Internal: // also of a connection that breaks
		return strings.Contains(s.Message(), "marshal") || strings.Contains(s.Message(), "compress")
	}
	return false
}

// misunderstanding says what was wrong with the call.
func misunderstanding(err error) string {
	if text := (*spec.TextError)(nil); errors.As(err, &text) {
		return text.Error()
	}
	text := oneLine(status.Convert(err).Message())
	if status.Code(err) == codes.ResourceExhausted {
		return fmt.Sprintf("a message between runner and engine is larger than %d MiB, the most allowed: %s; "+
			"the largest is the list of the files of a data set", spec.MessageLimit>>20, text)
	}
	return "runner and engine do not understand each other: " + text + "; run `make build`, which builds both"
}

// stopAgain is how long after an engine was told to stop it is told again.
const stopAgain = 250 * time.Millisecond

// converse sends a job to the engine and listens until its end.
func (w *worker) converse(ctx context.Context, job *Job, log *tailWriter) (*attempted, error) {
	// The call outlives ctx: stopping takes as long as a checkpoint takes.
	call, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	engine, killed, hung := w.engine, false, false
	ear := newEar(w.Silence)
	var asides sync.WaitGroup
	asides.Go(func() {
		select {
		case <-ctx.Done():
		case <-job.Stop:
		case <-call.Done():
			return
		}
		// Again and again: an engine that has not taken up the run yet has
		// nothing to stop. One that is gone need not be told; the stream
		// reports it.
		for call.Err() == nil {
			_, _ = engine.Stop(call, &spec.StopRequest{})
			select {
			case <-time.After(stopAgain):
			case <-call.Done():
			}
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
	if w.Silence > 0 {
		asides.Go(func() {
			if ear.wait(call.Done()) {
				hung = true
				engine.Kill()
			}
		})
	}
	a := &attempted{}
	stream, err := engine.Run(call, w.request(job))
	var fatal error
	if err == nil {
		fatal = w.listen(ctx, job, a, func() (event *spec.Event, _ error) {
			ear.listen(func() { event, err = stream.Recv() })
			return event, err
		})
	}
	cancel()
	asides.Wait()
	if fatal != nil || a.end != nil {
		if a.end != nil && a.end.Outcome == Failed {
			fmt.Fprintln(log, a.end.Detail)
		}
		if fatal != nil || a.retryable {
			// Memory is the usual reason to try again; a new process has it back.
			w.close()
		}
		return a, fatal
	}
	// No last word: the engine is gone, or will not be heard any more.
	how := engine.Kill()
	w.close()
	a.end = &End{Outcome: Failed, Step: a.step, Detail: log.tail()}
	switch {
	case killed:
		a.end = &End{Outcome: Stopped, Step: a.step}
		return a, nil
	case hung:
		a.end.Reason = fmt.Sprintf("the engine was silent for %v and was killed", w.Silence)
	case misunderstood(err):
		a.end.Reason = misunderstanding(err)
		return a, nil
	default:
		a.end.Reason = "the engine ended: " + spec.InWords(how)
	}
	if last := log.reason(); last != "" {
		a.end.Reason += "; it said: " + last
	}
	a.retryable = true
	return a, nil
}

// listen passes on what the engine says until its last word, which it puts
// into a.end; that stays nil where the engine went without one. The error is
// of the store.
func (w *worker) listen(ctx context.Context, job *Job, a *attempted, next func() (*spec.Event, error)) error {
	keep := context.WithoutCancel(ctx)
	id := job.Run.ID
	for {
		event, err := next()
		if err != nil {
			return nil // a.end says that there was no last word
		}
		switch e := event.GetEvent().(type) {
		case *spec.Event_Finished:
			a.end = &End{Outcome: Finished, Summary: e.Finished.GetSummary()}
			return nil
		case *spec.Event_Paused:
			a.end = &End{Outcome: Paused, Step: e.Paused.GetStep(), Validation: e.Paused.GetValidation()}
			return nil
		case *spec.Event_Stopped:
			a.end = &End{Outcome: Stopped, Step: e.Stopped.GetStep()}
			return nil
		case *spec.Event_Failed:
			a.retryable = e.Failed.GetRetryable()
			w.parts = max(w.parts, e.Failed.GetParts())
			a.end = &End{Outcome: Failed, Step: a.step, Reason: oneLine(e.Failed.GetReason()), Detail: e.Failed.GetDetail()}
			return nil
		case *spec.Event_Started:
			a.step = e.Started.GetStep()
			// For those who look on; what counts is written at the end.
			_ = w.Records.Begun(keep, id, a.step, e.Started.GetSteps())
		case *spec.Event_Checkpoint:
			a.step = e.Checkpoint.GetStep()
		}
		if err != nil {
			return err
		}
		w.Watch(Event{Job: job, Event: event})
	}
}

func (w *worker) request(job *Job) *spec.RunRequest {
	places := &spec.Places{}
	if job.Run.Places != nil {
		places = proto.CloneOf(job.Run.Places)
	}
	places.RunDir = job.Dir
	r := &spec.RunRequest{
		Id: job.Run.ID, Spec: job.Run.Spec, Train: job.Train, Label: job.Run.Label, Places: places,
		CheckpointSeconds: w.Checkpoint.Seconds(), SampleImages: sampleImages, Peft: job.Run.PEFT,
		Pause: job.Pause, Parts: w.parts,
	}
	for _, e := range job.Evaluations {
		r.Evaluations = append(r.Evaluations, e.Spec)
	}
	return r
}
