package launch

import (
	"context"
	"time"
)

// relay passes events on to a watcher that may be slow, or never come back: its
// output may be a pipe that nobody reads, or a terminal held with Ctrl-S. Work
// continues meanwhile, as far as there is room for events; then it waits. It waits no
// longer once it is asked to stop, or a run could not even be stopped.
type relay struct {
	events chan Event
	done   chan struct{} // closed when the watcher has seen all
}

const (
	relayRoom = 1024
	// relayPatience is how long a stop waits for the watcher. Without
	// blocked output the watcher needs no time.
	relayPatience = time.Second
)

func newRelay(watch func(Event)) *relay {
	r := &relay{events: make(chan Event, relayRoom), done: make(chan struct{})}
	go func() {
		defer close(r.done)
		for e := range r.events {
			watch(e)
		}
	}()
	return r
}

func (r *relay) send(stop context.Context, e Event) {
	select {
	case r.events <- e:
		return
	default:
	}
	select {
	case r.events <- e:
	case <-stop.Done(): // and the event is lost
	}
}

// end waits until the watcher has seen all events. No event may follow.
func (r *relay) end(stop context.Context) {
	close(r.events)
	select {
	case <-r.done:
		return
	case <-stop.Done():
	}
	select {
	case <-r.done:
	case <-time.After(relayPatience):
	}
}
