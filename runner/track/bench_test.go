package track

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/internal/wandbserver"
	"github.com/loralab/loralab/runner/experiment"
)

// stepTime is the computing time of a step on a GPU; on processors it is ten times as
// long and more.
const stepTime = 20 * time.Millisecond

// BenchmarkStep makes steps with tracking turned off and on by turns, and prints how much
// more computing time a step costs with it: TensorBoard and W&B, both. W&B is offline, or
// has a server that answers at once, after five seconds or not at all. What the server
// computes counts as well, since it is in this process.
func BenchmarkStep(b *testing.B) {
	for _, test := range []struct {
		name string
		wait time.Duration // of the server; negative: it is away
	}{{"offline", 0}, {"online", 0}, {"slow", 5 * time.Second}, {"away", -1}} {
		b.Run(test.name, func(b *testing.B) {
			getenv := func(string) string { return "" }
			if test.name != "offline" {
				server := wandbserver.New(strings.Repeat("0123456789", 4))
				defer server.Close()
				server.Down.Store(test.wait < 0)
				if test.wait > 0 {
					server.Fail(func(string) wandbserver.Answer { return wandbserver.Answer{Fault: wandbserver.Slow, Wait: test.wait} })
				}
				settings := map[string]string{"WANDB_MODE": "online", "WANDB_API_KEY": server.Key, "WANDB_BASE_URL": server.URL}
				getenv = func(name string) string { return settings[name] }
			}
			benchmarkSteps(b, getenv)
		})
	}
}

func benchmarkSteps(b *testing.B, getenv func(string) string) {
	const block = 200
	// The step has a thread of its own, so that its time is not that of the tracker.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var with, without time.Duration
	blocks := 0
	for b.Loop() {
		for _, on := range []bool{false, true} {
			// Each has a run of its own, since a tracker reads a run from its first step.
			s := script(b, uint64(blocks))
			sink, err := NewWandB(s.root, experiment.TrackWandB{Mode: "offline"}, getenv, false, func(string) {})
			if err != nil {
				b.Fatal(err)
			}
			s.begin()
			began := computing(b, unix.RUSAGE_SELF)
			t := New(b.Context(), s.root, func(text string) { b.Log(text) })
			if on {
				t.Follow(s.run.ID, []Shown{{s.run, TensorBoard{}}, {s.run, sink}})
			}
			for range block {
				for at := computing(b, unix.RUSAGE_THREAD); computing(b, unix.RUSAGE_THREAD)-at < stepTime; {
				}
				s.update()
			}
			t.Ended(s.run.ID)
			t.Close(30 * time.Second)
			if on {
				with += computing(b, unix.RUSAGE_SELF) - began
			} else {
				without += computing(b, unix.RUSAGE_SELF) - began
			}
		}
		blocks++
	}
	b.ReportMetric(100*(float64(with)/float64(without)-1), "%more")
	b.ReportMetric(float64((with-without).Microseconds())/float64(block*blocks), "µs/step")
}

// computing is the processor time of this process, or of this thread: unlike the time on a
// clock, it does not depend on what else the machine does.
func computing(b *testing.B, of int) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(of, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
