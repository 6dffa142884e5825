package launch

import (
	"context"
	"testing"
)

// The watcher sees all events in their order.
func TestRelay(t *testing.T) {
	var steps []int
	relayed := newRelay(func(e Event) { steps = append(steps, e.Start.Attempt) })
	for i := range 3 * relayRoom {
		relayed.send(t.Context(), Event{Start: &Start{Attempt: i}})
	}
	relayed.end(t.Context())
	for i, step := range steps {
		if i != step {
			t.Fatalf("event %d is %d", i, step)
		}
	}
	if len(steps) != 3*relayRoom {
		t.Errorf("the watcher saw %d events", len(steps))
	}
}

// A watcher that never comes back keeps nobody from stopping
// (trial-reliability 13).
func TestBlockedRelay(t *testing.T) {
	blocked := make(chan struct{})
	defer close(blocked)
	relayed := newRelay(func(Event) { <-blocked })
	stop, cancel := context.WithCancel(t.Context())
	cancel()
	for range 3 * relayRoom {
		relayed.send(stop, Event{})
	}
	relayed.end(stop)
}
