package launch

import "testing"

// Only time in which this process listens is silence of the engine
// (trial-reliability 13 and 23).
func TestSilence(t *testing.T) {
	e := newEar(0)
	ticks := func(n int) (hung bool) {
		for range n {
			hung = hung || e.tick()
		}
		return hung
	}
	if ticks(1000) {
		t.Error("an engine is taken for hung that nobody listens to")
	}
	e.listen(func() {
		// Stopped and continued, this process sees one tick for all that it missed.
		if ticks(ticksOfSilence) {
			t.Error("an engine is taken for hung too early")
		}
	})
	e.listen(func() {
		if ticks(ticksOfSilence) {
			t.Error("what was heard between does not count")
		}
		if !ticks(1) {
			t.Error("a silent engine is not taken for hung")
		}
	})
	if ticks(1000) {
		t.Error("an engine is taken for hung while its words are shown")
	}
}
