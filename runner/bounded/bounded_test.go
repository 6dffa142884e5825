package bounded

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestWorkThatEnds(t *testing.T) {
	done := false
	if err := Do(t.Context(), Limits{CPU: time.Hour, Memory: 1 << 40}, func() { done = true }); err != nil || !done {
		t.Errorf("done %v, error %v", done, err)
	}
	if err := Do(t.Context(), Limits{}, func() {}); err != nil {
		t.Error(err)
	}
}

func TestWorkThatDoesNotEnd(t *testing.T) {
	var stop atomic.Bool
	t.Cleanup(func() { stop.Store(true) })
	spin := func() {
		for !stop.Load() {
			runtime.Gosched()
		}
	}
	var e *Exceeded
	if err := Do(t.Context(), Limits{CPU: 50 * time.Millisecond}, spin); !errors.As(err, &e) || e.Memory || !strings.Contains(err.Error(), "50ms") {
		t.Errorf("error %v", err)
	}
	if err := Do(t.Context(), Limits{Memory: 1}, spin); !errors.As(err, &e) || !e.Memory {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Do(ctx, Limits{}, spin); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	// Work that looks at its context is waited for.
	ended := false
	if err := Do(ctx, Limits{}, func() { <-ctx.Done(); ended = true }); err != nil || !ended {
		t.Errorf("ended %v, error %v", ended, err)
	}
}

// Waiting costs no time.
func TestWorkThatWaits(t *testing.T) {
	wait := make(chan bool)
	go func() { time.Sleep(4 * often); close(wait) }()
	if err := Do(t.Context(), Limits{CPU: time.Minute}, func() { <-wait }); err != nil {
		t.Error(err)
	}
}

func TestPanicsAreThoseOfTheCaller(t *testing.T) {
	defer func() {
		if text := fmt.Sprint(recover()); !strings.Contains(text, "boom") || !strings.Contains(text, "bounded_test.go") {
			t.Errorf("recovered %.100s", text)
		}
	}()
	_ = Do(t.Context(), Limits{}, func() { panic("boom") })
}

func TestMost(t *testing.T) {
	if n := Most(); n < 64<<20 {
		t.Errorf("the machine has %d bytes", n)
	}
	if a, b := Bytes(300<<20), Bytes(3<<30); a != "300 MB" || b != "3.0 GB" {
		t.Error(a, b)
	}
}
