package cache

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func ls(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Many at once fill an entry once, and all of them find it whole.
func TestEnsureFillsOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "entry")
	var fills atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			err := Ensure(t.Context(), Entry{Dir: dir, Fill: func(_ context.Context, temp string) error {
				fills.Add(1)
				time.Sleep(20 * time.Millisecond)
				return os.WriteFile(filepath.Join(temp, "file"), []byte("whole"), 0o666)
			}})
			if err != nil {
				t.Error(err)
			}
			if b, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(b) != "whole" {
				t.Errorf("found %q, %v", b, err)
			}
		})
	}
	wg.Wait()
	if fills.Load() != 1 {
		t.Errorf("filled %d times", fills.Load())
	}
	if got := ls(t, filepath.Dir(dir)); len(got) != 2 || got[0] != ".entry.lock" || got[1] != "entry" {
		t.Errorf("left %q", got)
	}
}

// A failure leaves nothing behind, not even what an earlier kill left.
func TestEnsureFailureLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "entry")
	if err := os.Mkdir(filepath.Join(filepath.Dir(dir), ".entry.tmp-1"), 0o777); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("half way")
	err := Ensure(t.Context(), Entry{Dir: dir, Fill: func(_ context.Context, temp string) error {
		return errors.Join(os.WriteFile(filepath.Join(temp, "file"), nil, 0o666), cause)
	}})
	if !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	if got := ls(t, filepath.Dir(dir)); len(got) != 1 || got[0] != ".entry.lock" {
		t.Errorf("left %q", got)
	}
}

// A damaged entry is replaced.
func TestEnsureRepairs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "entry")
	file := filepath.Join(dir, "file")
	if err := errors.Join(os.Mkdir(dir, 0o777), os.WriteFile(file, []byte("ha"), 0o666)); err != nil {
		t.Fatal(err)
	}
	complete := func() bool {
		b, err := os.ReadFile(file)
		return err == nil && string(b) == "whole"
	}
	for range 2 { // the second time Fill must not be called
		filled := false
		err := Ensure(t.Context(), Entry{Dir: dir, Complete: complete, Fill: func(_ context.Context, temp string) error {
			if filled = true; complete() {
				t.Error("filled although complete")
			}
			return os.WriteFile(filepath.Join(temp, "file"), []byte("whole"), 0o666)
		}})
		if err != nil || !complete() {
			t.Errorf("filled %v: %v", filled, err)
		}
	}
	if got := ls(t, filepath.Dir(dir)); len(got) != 2 {
		t.Errorf("left %q", got)
	}
}

// Who waits for the lock is told so, and can give up.
func TestEnsureWaits(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "entry")
	unlock, err := Lock(t.Context(), filepath.Join(filepath.Dir(dir), ".entry.lock"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	err = Ensure(ctx, Entry{Dir: dir, Waiting: cancel, Fill: func(context.Context, string) error {
		t.Error("filled without the lock")
		return nil
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestRequire(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there")
	if err := Require(dir, "x", 1); err != nil {
		t.Error(err)
	}
	var lack *NoSpaceError
	if err := Require(dir, "x", 1<<62); !errors.As(err, &lack) || lack.Free == 0 {
		t.Errorf("got %v", err)
	}
}

func TestSize(t *testing.T) {
	dir := t.TempDir()
	sub := filepath.Join(dir, "sub")
	err := errors.Join(os.Mkdir(sub, 0o777),
		os.WriteFile(filepath.Join(dir, "a"), make([]byte, 3), 0o666),
		os.WriteFile(filepath.Join(sub, "b"), make([]byte, 4), 0o666),
		os.Symlink(filepath.Join(dir, "a"), filepath.Join(sub, "c")))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := Size(dir); n != 7 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	if n, err := Size(filepath.Join(dir, "none")); n != 0 || err != nil {
		t.Errorf("got %d, %v for a directory that is not there", n, err)
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 9949: "9.9 kB", 9950: "10 kB", 530604548: "531 MB",
		999_600_000: "1.0 GB", 3e9: "3.0 GB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
