// Package bounded runs work that may never end, or need all memory, within limits.
package bounded

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Limits of a piece of work; 0 is none.
type Limits struct {
	// CPU is the time that the process may compute meanwhile. A process that
	// waits, or that is stopped, uses none.
	CPU time.Duration
	// Memory is how many bytes its heap may have.
	Memory uint64
}

// Exceeded is work that was given up.
type Exceeded struct {
	Limits Limits
	// Memory says that it was memory that ran out, and not time.
	Memory bool
}

func (e *Exceeded) Error() string {
	if e.Memory {
		return fmt.Sprintf("it takes more than %s of memory", Bytes(e.Limits.Memory))
	}
	return fmt.Sprintf("it takes more than %v of computing", e.Limits.CPU)
}

const (
	often = 20 * time.Millisecond
	grace = 500 * time.Millisecond // for work that looks at its context itself
)

// Do runs work. It returns before work does if a limit is exceeded, with an
// *Exceeded, or soon after the context ends. Work then continues until the process
// ends: nothing that it uses may be used again. A panic of work is one of Do.
func Do(ctx context.Context, l Limits, work func()) error {
	done := make(chan *failure, 1)
	go func() {
		var f *failure
		defer func() {
			if value := recover(); value != nil {
				f = &failure{value, debug.Stack()}
			}
			done <- f
		}()
		work()
	}()
	start := computed()
	tick := time.NewTicker(often)
	defer tick.Stop()
	ended := ctx.Done()
	var patience <-chan time.Time
	for {
		select {
		case f := <-done:
			if f != nil {
				panic(f)
			}
			return nil
		case <-ended:
			ended, patience = nil, time.After(grace)
		case <-patience:
			return ctx.Err()
		case <-tick.C:
			switch {
			case l.Memory > 0 && heap() > l.Memory:
				return &Exceeded{l, true}
			case l.CPU > 0 && computed()-start > l.CPU:
				return &Exceeded{l, false}
			}
		}
	}
}

// failure is a panic of work, with the stack that it had there.
type failure struct {
	value any
	stack []byte
}

func (f *failure) String() string { return fmt.Sprintf("%v\n\n%s", f.value, f.stack) }

// computed is how long the process has computed.
func computed() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// heap is how many bytes there are on the heap.
func heap() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

// Most is three quarters of the memory that the process can have: that of the
// machine or of its control group. Of a limit of its address space (ulimit -v) it is
// less, because the heap is only a part of it.
func Most() uint64 {
	all := Memory()
	var space syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_AS, &space) == nil {
		all = min(all, space.Cur/2)
	}
	return all / 4 * 3
}

// Memory is that of the machine or of the process's control group, in bytes; 0 if it
// is not known.
func Memory() uint64 {
	all := machineMemory()
	if text, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil {
			all = min(all, n)
		}
	}
	return all
}

// Bytes is a number of bytes for people.
func Bytes(n uint64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%d MB", n>>20)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/(1<<30))
}
