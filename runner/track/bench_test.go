package track

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/runner/experiment"
)

// stepTime is the computing time of a step on a GPU; on processors it is ten times as
// long and more.
const stepTime = 20 * time.Millisecond

// BenchmarkStep makes steps with tracking turned off and on by turns, and prints how much
// more computing time a step costs with it: TensorBoard and W&B, both.
func BenchmarkStep(b *testing.B) {
	const block = 100
	s := script(b, 1)
	sink, err := NewWandB(s.root, experiment.TrackWandB{Mode: "offline"}, func(string) string { return "" }, false, func(string) {})
	if err != nil {
		b.Fatal(err)
	}
	s.begin()
	var with, without time.Duration
	blocks := 0
	for b.Loop() {
		for _, on := range []bool{false, true} {
			began := computing(b)
			t := New(b.Context(), s.root, func(text string) { b.Error(text) })
			if on {
				t.Follow(s.run.ID, []Shown{{s.run, TensorBoard{}}, {s.run, sink}})
			}
			for range block {
				for at := computing(b); computing(b)-at < stepTime; {
				}
				s.update()
			}
			t.Ended(s.run.ID)
			t.Close(time.Minute)
			if on {
				with += computing(b) - began
			} else {
				without += computing(b) - began
			}
		}
		blocks++
	}
	b.ReportMetric(100*(float64(with)/float64(without)-1), "%more")
	b.ReportMetric(float64((with-without).Microseconds())/float64(block*blocks), "µs/step")
}

// computing is the processor time of this process: unlike the time on a clock, it does not
// depend on what else the machine does.
func computing(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
