package launch

import (
	"sync/atomic"
	"time"
)

// ear tells how long an engine has been silent. Silence is what this process
// listened to: time in which it was stopped, or waited for somebody to read its
// own output, says nothing about the engine. So silence is counted in ticks that
// arrive while it listens, and never taken from a clock.
type ear struct {
	most      time.Duration
	listening atomic.Bool
	quiet     atomic.Int32 // ticks since the engine was heard
}

// ticksOfSilence make up the longest silence.
const ticksOfSilence = 20

func newEar(most time.Duration) *ear { return &ear{most: most} }

// listen waits for what the engine says next.
func (e *ear) listen(wait func()) {
	e.quiet.Store(0)
	e.listening.Store(true)
	wait()
	e.listening.Store(false)
	e.quiet.Store(0)
}

// tick reports whether the engine has been silent for too long.
func (e *ear) tick() bool {
	// The first tick may come at once, and one may come late: it takes one more.
	return e.listening.Load() && e.quiet.Add(1) > ticksOfSilence
}

// wait waits until the engine has been silent for too long, and reports that, or
// until done is closed.
func (e *ear) wait(done <-chan struct{}) bool {
	t := time.NewTicker(max(e.most/ticksOfSilence, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-t.C: // those that this process misses are dropped
			if e.tick() {
				return true
			}
		case <-done:
			return false
		}
	}
}
