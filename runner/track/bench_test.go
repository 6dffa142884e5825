package track

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/internal/wandbserver"
	"github.com/loralab/loralab/runner/experiment"
)

// stepTime is about the time of a step on a GPU; on processors it is ten times as long and
// more.
const stepTime = 20 * time.Millisecond

// BenchmarkStep makes steps with tracking turned off and on by turns: TensorBoard and W&B,
// both. W&B is offline, or has a server that answers at once, after five seconds or not at
// all, in a process of its own. It prints
//
//   - µs/step: the processor time of all threads but that of the step. An engine that
//     uses all processors loses at most this, divided by their number.
//   - %longer: how much longer the median step takes, on a thread of its own.
//   - ms/run: the processor time of beginning and ending a run.
func BenchmarkStep(b *testing.B) {
	for _, test := range []struct {
		name string
		wait time.Duration // of the server; negative: it is away
	}{{"offline", 0}, {"online", 0}, {"slow", 5 * time.Second}, {"away", -1}} {
		b.Run(test.name, func(b *testing.B) {
			getenv := func(string) string { return "" }
			if test.name != "offline" {
				settings := map[string]string{"WANDB_MODE": "online", "WANDB_API_KEY": serverKey, "WANDB_BASE_URL": serve(b, test.wait)}
				getenv = func(name string) string { return settings[name] }
			}
			benchmarkSteps(b, getenv)
		})
	}
}

func benchmarkSteps(b *testing.B, getenv func(string) string) {
	const block = 250
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	work := calibrate()
	var tracking, runs time.Duration // processor time while steps go, and before and after
	var with, without []time.Duration
	for seed := uint64(0); b.Loop(); seed++ {
		for _, on := range []bool{false, true} {
			// Each has a run of its own, since a tracker reads a run from its first step.
			s := script(b, seed)
			sink, err := NewWandB(s.root, experiment.TrackWandB{Mode: "offline"}, getenv, false, func(string) {})
			if err != nil {
				b.Fatal(err)
			}
			s.begin()
			before := others(b)
			t := New(b.Context(), s.root, func(text string) { b.Log(text) })
			if on {
				t.Follow(s.run.ID, []Shown{{s.run, TensorBoard{}}, {s.run, sink}})
			}
			// The second look has opened both sinks.
			s.update()
			time.Sleep(2*lookEvery + lookEvery/10)
			began := others(b)
			for range block {
				at := time.Now()
				compute(work)
				s.update()
				if took := time.Since(at); on {
					with = append(with, took)
				} else {
					without = append(without, took)
				}
			}
			time.Sleep(2*lookEvery + lookEvery/10) // the last rows are handed over
			ended := others(b)
			t.Ended(s.run.ID)
			t.Close(30 * time.Second)
			if on {
				tracking += ended - began
				runs += began - before + others(b) - ended
			} else { // what the runtime of Go needs anyway
				tracking -= ended - began
				runs -= began - before + others(b) - ended
			}
		}
	}
	n := len(with) / block
	b.ReportMetric(float64(tracking.Microseconds())/float64(len(with)), "µs/step")
	b.ReportMetric(float64(runs.Microseconds())/1000/float64(n), "ms/run")
	b.ReportMetric(100*(float64(median(with))/float64(median(without))-1), "%longer")
	b.ReportMetric(float64(median(without).Microseconds())/1000, "ms/untracked-step")
}

const (
	serverKey  = "0123456789012345678901234567890123456789"
	serverWait = "LORALAB_TEST_SERVER_WAIT"
)

// TestMain is the server of a benchmark where its environment says so.
func TestMain(m *testing.M) {
	text, is := os.LookupEnv(serverWait)
	if !is {
		os.Exit(m.Run())
	}
	server := wandbserver.New(serverKey)
	wait, err := time.ParseDuration(text)
	if err != nil {
		panic(err)
	}
	server.Down.Store(wait < 0)
	if wait > 0 {
		server.Fail(func(string) wandbserver.Answer { return wandbserver.Answer{Fault: wandbserver.Slow, Wait: wait} })
	}
	fmt.Println(server.URL)
	io.Copy(io.Discard, os.Stdin) // it ends with the benchmark
}

// serve starts a server in a process of its own, and returns its address.
func serve(b *testing.B, wait time.Duration) string {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverWait+"="+wait.String())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); cmd.Wait() })
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(url)
}

var computed uint64

// compute is the work of a step.
func compute(n int) {
	for i := range n {
		computed = computed*6364136223846793005 + uint64(i)
	}
}

// calibrate returns how much to compute in stepTime.
func calibrate() int {
	best := time.Duration(1 << 62)
	const n = 1 << 20
	for range 20 {
		at := time.Now()
		compute(n)
		best = min(best, time.Since(at))
	}
	return int(n * stepTime / best)
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// others is the processor time of all threads of this process but this one.
func others(b *testing.B) time.Duration {
	return computing(b, unix.RUSAGE_SELF) - computing(b, unix.RUSAGE_THREAD)
}

func computing(b *testing.B, of int) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(of, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
