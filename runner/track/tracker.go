package track

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// lookEvery is how often directories are read.
const lookEvery = time.Second

// Tracker follows the runs of one command. Its methods return at once, except Close.
type Tracker struct {
	project string
	warn    func(string)
	// preempted says that the machine is taken from the runs.
	preempted atomic.Bool

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	ends     map[string]chan struct{} // by run, closed when it has ended
	before   map[string]chan struct{} // by run, closed when its sessions are given back
	failures Failures
	reached  []Shown
	behind   int
}

// Shown is a run under one name in one sink.
type Shown struct {
	Run  Run
	Sink Sink
}

// New makes a tracker of runs of the project at a root. Warn is called with one line for
// each sink that fails, from any goroutine. Close has to be called.
func New(ctx context.Context, project string, warn func(string)) *Tracker {
	t := &Tracker{project: project, warn: warn, ends: map[string]chan struct{}{}, before: map[string]chan struct{}{}}
	// A command that is asked to stop still hands over what its runs leave.
	t.ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return t
}

// Follow shows a run in sinks while it trains. All of shown are names of this run.
func (t *Tracker) Follow(id string, shown []Shown) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(shown) == 0 || t.ends[id] != nil {
		return
	}
	ended, back := make(chan struct{}), make(chan struct{})
	before := t.before[id] // a search may continue a run as soon as it has paused
	t.ends[id], t.before[id] = ended, back
	var sessions sync.WaitGroup
	for _, s := range shown {
		f := newFollower(t.project, s.Run, s.Sink, false)
		sessions.Add(1)
		t.wg.Go(func() {
			defer sessions.Done()
			t.report(s, t.follow(f, before, ended), ended)
		})
	}
	t.wg.Go(func() {
		sessions.Wait()
		close(back)
	})
}

// Preempt says that the machine is taken from the runs, which stop.
func (t *Tracker) Preempt() { t.preempted.Store(true) }

// Ended says that nobody works on a run for now.
func (t *Tracker) Ended(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ended := t.ends[id]; ended != nil {
		close(ended)
		delete(t.ends, id)
	}
}

// Close hands over what is left, for at most the time given, and ends all sessions. It
// says how many sessions did not end in time. Push hands over what they lack.
func (t *Tracker) Close(within time.Duration) (behind int) {
	t.mu.Lock()
	for id, ended := range t.ends {
		close(ended)
		delete(t.ends, id)
	}
	t.mu.Unlock()
	done := make(chan struct{})
	go func() { // it ends with the last follower, or with the process
		t.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(within):
	}
	t.cancel()
	t.mu.Lock()
	more, behind := t.failures.More(), t.behind
	t.mu.Unlock()
	for _, line := range more {
		t.warn(line)
	}
	return behind
}

// Reached are the runs that sinks show, once the tracker is closed.
func (t *Tracker) Reached() []Shown {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.reached)
}

// follow follows one run until it has ended, once the sessions that it had before are
// given back.
func (t *Tracker) follow(f *follower, before, ended <-chan struct{}) error {
	t.count(1)
	defer t.count(-1)
	if before != nil {
		select {
		case <-before:
		case <-t.ctx.Done():
			return t.ctx.Err()
		}
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			f.preempted = t.preempted.Load()
			return errors.Join(f.finish(t.ctx), f.close(t.ctx))
		case <-t.ctx.Done():
			return errors.Join(t.ctx.Err(), f.close(t.ctx))
		case <-tick.C:
		}
		if err := f.look(t.ctx); err != nil {
			return errors.Join(err, f.close(t.ctx))
		}
	}
}

func (t *Tracker) count(n int) {
	t.mu.Lock()
	t.behind += n
	t.mu.Unlock()
}

// report warns once of a sink that fails.
func (t *Tracker) report(s Shown, err error, ended <-chan struct{}) {
	if err != nil && t.ctx.Err() != nil {
		return // Close counts it
	}
	t.mu.Lock()
	line := ""
	if err == nil {
		t.reached = append(t.reached, s)
	} else {
		line = t.failures.Add(s, err)
	}
	t.mu.Unlock()
	if line == "" {
		return
	}
	select {
	case <-ended:
	default:
		line += "; training continues"
	}
	t.warn(line + "; \"runner track push\" adds what is missing")
}

// Push hands runs over that nobody works on. It continues with the next run where one
// fails; pushed is called for each with what came of it. A run for W&B is logged on disk;
// then all logs of these runs that its server lacks are sent, unless its mode is offline.
func Push(ctx context.Context, project string, shown []Shown, pushed func(Shown, error)) error {
	logged := map[*WandB][]Shown{}
	var sinks []*WandB
	for _, s := range shown {
		if err := ctx.Err(); err != nil {
			return err
		}
		f := newFollower(project, s.Run, s.Sink, true)
		err := f.finish(ctx)
		err = errors.Join(err, f.close(ctx))
		if w, ok := s.Sink.(*WandB); ok && err == nil && !w.Offline() {
			if logged[w] == nil {
				sinks = append(sinks, w)
			}
			logged[w] = append(logged[w], s)
			continue
		}
		pushed(s, err)
	}
	for _, w := range sinks {
		failed := w.send(ctx, logged[w])
		for i, s := range logged[w] {
			pushed(s, failed[i])
		}
	}
	return ctx.Err()
}
