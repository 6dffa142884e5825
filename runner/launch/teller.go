package launch

import (
	"context"
	"time"
)

// teller passes events on to a watcher that may be slow, or never come back: its
// output may be a pipe that nobody reads, or a terminal held with Ctrl-S. Work goes
// on meanwhile, as far as the room for events goes; then it waits. It waits no
// longer once it is asked to stop, or a run could not even be stopped.
type teller struct {
	events chan Event
	done   chan struct{} // closed when all is told
}

const (
	tellerRoom = 1024
	// tellerPatience is how long a stop waits for the watcher. Events are told in
	// no time unless the output is blocked.
	tellerPatience = time.Second
)

func newTeller(watch func(Event)) *teller {
	t := &teller{events: make(chan Event, tellerRoom), done: make(chan struct{})}
	go func() {
		defer close(t.done)
		for e := range t.events {
			watch(e)
		}
	}()
	return t
}

func (t *teller) tell(stop context.Context, e Event) {
	select {
	case t.events <- e:
		return
	default:
	}
	select {
	case t.events <- e:
	case <-stop.Done(): // and the event is lost
	}
}

// end waits until all is told. No event may follow.
func (t *teller) end(stop context.Context) {
	close(t.events)
	select {
	case <-t.done:
		return
	case <-stop.Done():
	}
	select {
	case <-t.done:
	case <-time.After(tellerPatience):
	}
}
