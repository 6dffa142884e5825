package launch

import (
	"testing"

	"github.com/loralab/loralab/runner/experiment"
)

// Where no engine starts for a job, a slot ends if there are others; the last one
// continues with the next job, unless no engine ever started or none does any more
// (trial-reliability 14).
func TestWithoutEngine(t *testing.T) {
	job := &Job{Run: &experiment.Run{ID: "1"}, Attempts: 7}
	q := newQueue([]*Job{{Attempts: 1}}, nil, 2)
	q.busy["1"] = true
	waiting := q.changed
	if v := q.without(1); v != endSlot {
		t.Errorf("with another slot: %v", v)
	}
	if !q.giveBack(job) || q.left[0] != job || q.working != 1 || q.busy["1"] {
		t.Errorf("the queue is %+v", q)
	}
	select {
	case <-waiting:
	default:
		t.Error("slots that wait do not hear of the job")
	}
	if v := q.without(1); v != endAll {
		t.Errorf("no engine ever started: %v", v)
	}
	q.answered()
	if v := q.without(1); v != endRun {
		t.Errorf("one started before: %v", v)
	}
	if v := q.without(2); v != endAll {
		t.Errorf("the second job in a row: %v", v)
	}
	if q.giveBack(job) || len(q.left) != 2 {
		t.Error("the last slot leaves a job to nobody")
	}
}
