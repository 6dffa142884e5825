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

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/environ"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/store"
)

// worker is a slot at work; it holds the engine between jobs.
type worker struct {
	*Local
	slot   Slot
	engine *spec.EngineProcess
	info   *spec.EngineInfo // of the engine
}

func (w *worker) close() {
	if w.engine != nil {
		w.engine.Close()
		w.engine = nil
	}
}

// work takes jobs until none is left or ctx ends. It calls stop after a failure
// if nothing is to follow one.
func (w *worker) work(ctx context.Context, q *queue, stop func()) error {
	// Writing down what happened must not fail because the user asked to stop.
	keep := context.WithoutCancel(ctx)
	var waiting store.Holder
	for ctx.Err() == nil {
		job, run, other, err := q.next(keep, w.Store)
		if err != nil {
			return fmt.Errorf("running %s: %w", job.Run.Name(), err)
		}
		if job == nil {
			return nil
		}
		if other != nil {
			if *other != waiting {
				waiting = *other
				w.Watch(Event{Job: job, Wait: other})
			}
			select {
			case <-ctx.Done():
			case <-time.After(claimEvery):
			}
			continue
		}
		end, err := w.settled(keep, job, run)
		if err == nil && end == nil {
			end, err = w.execute(ctx, job)
		}
		if err != nil {
			return fmt.Errorf("running %s: %w", job.Run.Name(), err)
		}
		q.ended(end.Outcome)
		w.Watch(Event{Job: job, End: end})
		if end.Outcome == Failed && w.FailFast {
			stop()
		}
	}
	return nil
}

// settled is how a claimed job has ended already, because another process has
// worked on it since it was made, or nil. What is done is taken out of the job.
func (w *worker) settled(ctx context.Context, job *Job, run *store.Run) (*End, error) {
	id := job.Run.ID
	job.Train = run.Summary == nil
	var missing []experiment.Evaluation
	for _, e := range job.Evaluations {
		if run.Evaluations[e.ID] == nil {
			missing = append(missing, e)
		}
	}
	summary := run.Summary
	if summary != nil {
		summary = proto.CloneOf(summary)
		summary.Evaluations = nil
		for _, e := range job.Evaluations {
			if known := run.Evaluations[e.ID]; known != nil {
				summary.Evaluations = append(summary.Evaluations, known)
			}
		}
	}
	job.Evaluations = missing
	switch {
	case !job.Train && len(missing) == 0:
		return &End{Outcome: Elsewhere, Summary: summary}, w.Store.Finish(ctx, id, summary)
	case run.State == store.Failed && run.Attempts > job.Attempts:
		return &End{Outcome: Failed, Step: run.Checkpoint, Reason: run.Reason}, w.Store.Unclaim(ctx, id)
	}
	return nil, nil
}

// execute makes an attempt at a job, and another few if it crashes.
func (w *worker) execute(ctx context.Context, job *Job) (*End, error) {
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
		if end.Outcome == Failed && a.retryable && attempt <= w.Retries && ctx.Err() == nil {
			w.Watch(Event{Job: job, Retry: &Retry{Reason: end.Reason, Attempt: attempt + 1, Of: w.Retries + 1}})
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
	cmd.Env = w.slot.environment(environ.ForEngine(os.Environ()))
	var engine *spec.EngineProcess
	err := w.slot.bound(func() (err error) {
		engine, err = spec.StartEngine(cmd, log, startTimeout)
		return err
	})
	if err != nil {
		return nil, withTail(err, log)
	}
	w.engine = engine
	info, err := engine.Info(ctx, &spec.InfoRequest{})
	if err != nil {
		gone := status.Code(err) == codes.Unavailable
		w.close()
		err = fmt.Errorf("asking engine %s what it is: %s", w.Engine, status.Convert(err).Message())
		if gone {
			err = fmt.Errorf("starting engine %s: %w", w.Engine, spec.ErrDied)
		}
		return nil, withTail(err, log)
	}
	return info, nil
}

// stopAgain is how long after an engine was told to stop it is told again.
const stopAgain = 250 * time.Millisecond

// converse sends a job to the engine and listens until its end.
func (w *worker) converse(ctx context.Context, job *Job, log *tailWriter) (*attempt, error) {
	if w.engine != nil && w.engine.Exited() {
		w.close()
	}
	if w.engine == nil {
		info, err := w.start(ctx, log)
		for try := 2; errors.Is(err, spec.ErrDied) && try <= w.Retries+1 && ctx.Err() == nil; try++ {
			w.Watch(Event{Job: job, Retry: &Retry{Reason: oneLine(err.Error()), Attempt: try, Of: w.Retries + 1}})
			info, err = w.start(ctx, log)
		}
		if err != nil && ctx.Err() != nil {
			return &attempt{end: &End{Outcome: Stopped}}, nil
		}
		if err != nil {
			return nil, err
		}
		w.info = info
		w.Watch(Event{Job: job, Engine: info})
	} else {
		w.engine.SetLog(log)
	}

	if w.Origin != nil {
		if err := w.Origin.Record(job.Dir, job.Source, job.Run.Label, w.info); err != nil {
			return nil, err
		}
	}

	// The call outlives ctx: stopping takes as long as a checkpoint takes.
	call, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	engine, killed, hung := w.engine, false, false
	heard := make(chan struct{}, 1)
	var asides sync.WaitGroup
	asides.Go(func() {
		select {
		case <-ctx.Done():
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
			silence := time.NewTimer(w.Silence)
			for {
				select {
				case <-heard:
					silence.Reset(w.Silence)
				case <-silence.C:
					hung = true
					engine.Kill()
					return
				case <-call.Done():
					return
				}
			}
		})
	}
	a := &attempt{}
	stream, err := engine.Run(call, w.request(job))
	var fatal error
	if err == nil {
		fatal = w.listen(ctx, job, a, func() (*spec.Event, error) {
			event, err := stream.Recv()
			select {
			case heard <- struct{}{}:
			default: // not yet taken notice of
			}
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
	w.engine = nil
	if killed {
		a.end = &End{Outcome: Stopped, Step: a.step}
		return a, nil
	}
	reason := "the engine ended: " + how
	if hung {
		reason = fmt.Sprintf("the engine was silent for %v and was killed", w.Silence)
	} else if how == "signal: killed" {
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
			a.step = e.Checkpoint.GetStep()
		case *spec.Event_Evaluated:
			err = w.Store.Evaluate(keep, id, e.Evaluated)
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
	}
	for _, e := range job.Evaluations {
		r.Evaluations = append(r.Evaluations, e.Spec)
	}
	return r
}
