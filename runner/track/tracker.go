package track

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// lookEvery is how often directories are read.
const lookEvery = time.Second

// Tracker follows the runs of one command. Its methods return at once, except Close.
type Tracker struct {
	project string
	sinks   []Sink
	warn    func(string)

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	ends   map[string]chan struct{} // by run, closed when it has ended
	warned map[Sink]bool
	behind int
}

// New makes a tracker of runs of the project at a root. Warn is called with one line for
// each sink that fails, from any goroutine. Close has to be called.
func New(ctx context.Context, project string, sinks []Sink, warn func(string)) *Tracker {
	t := &Tracker{project: project, sinks: sinks, warn: warn, ends: map[string]chan struct{}{}, warned: map[Sink]bool{}}
	// A command that is asked to stop still hands over what its runs leave.
	t.ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return t
}

// Follow shows a run, under each of its names given, while it trains.
func (t *Tracker) Follow(names ...Run) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(names) == 0 || t.ends[names[0].ID] != nil {
		return
	}
	ended := make(chan struct{})
	t.ends[names[0].ID] = ended
	for _, run := range names {
		for _, sink := range t.sinks {
			f := newFollower(t.project, run, sink, false)
			t.wg.Go(func() { t.report(f, t.follow(f, ended)) })
		}
	}
}

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
	defer t.mu.Unlock()
	return t.behind
}

// follow follows one run until it has ended.
func (t *Tracker) follow(f *follower, ended <-chan struct{}) error {
	t.count(1)
	defer t.count(-1)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ended:
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
func (t *Tracker) report(f *follower, err error) {
	if err == nil || t.ctx.Err() != nil {
		return
	}
	t.mu.Lock()
	first := !t.warned[f.sink]
	t.warned[f.sink] = true
	t.mu.Unlock()
	if first {
		t.warn(fmt.Sprintf("%s does not show %s: %v; training continues, and \"runner track push\" sends what is missing", f.sink.Name(), f.run.Name(), err))
	}
}

// Push hands runs over that nobody works on. It continues with the next run where one
// fails; Pushed is called after each with what came of it.
func Push(ctx context.Context, project string, sinks []Sink, runs []Run, pushed func(Run, Sink, error)) error {
	for _, run := range runs {
		for _, sink := range sinks {
			if err := ctx.Err(); err != nil {
				return err
			}
			f := newFollower(project, run, sink, true)
			err := f.finish(ctx)
			pushed(run, sink, errors.Join(err, f.close(ctx)))
		}
	}
	return nil
}
