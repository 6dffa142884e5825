package launch

import (
	"context"
	"testing"
)

// Events are told in their order, and all of them.
func TestTeller(t *testing.T) {
	var steps []int
	told := newTeller(func(e Event) { steps = append(steps, e.Start.Attempt) })
	for i := range 3 * tellerRoom {
		told.tell(t.Context(), Event{Start: &Start{Attempt: i}})
	}
	told.end(t.Context())
	for i, step := range steps {
		if i != step {
			t.Fatalf("event %d is %d", i, step)
		}
	}
	if len(steps) != 3*tellerRoom {
		t.Errorf("%d events were told", len(steps))
	}
}

// A watcher that never comes back keeps nobody from stopping
// (trial-reliability 13).
func TestBlockedTeller(t *testing.T) {
	blocked := make(chan struct{})
	defer close(blocked)
	told := newTeller(func(Event) { <-blocked })
	stop, cancel := context.WithCancel(t.Context())
	cancel()
	for range 3 * tellerRoom {
		told.tell(stop, Event{})
	}
	told.end(stop)
}
