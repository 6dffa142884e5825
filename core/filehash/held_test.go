package filehash

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// made is a new file. Tests that need one of long ago say so in the Held: no tool
// sets a change time.
func made(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func hold(t *testing.T, path string, known *Sums) *Held {
	t.Helper()
	h, err := Hold(path, known)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// What happens to a file while it is in use: trial-reliability 2.
func TestCheck(t *testing.T) {
	write := func(content string) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		do      func(t *testing.T, path string)
		changed bool
		touched bool
	}{
		"nothing":  {do: func(*testing.T, string) {}},
		"in place": {do: write("new content"), changed: true},
		"in place, its times put back": {do: func(t *testing.T, path string) {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			write("old kontent")(t, path)
			if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
				t.Fatal(err)
			}
		}, changed: true},
		"cut":                   {do: func(t *testing.T, path string) { _ = os.Truncate(path, 4) }, changed: true},
		"written as it was":     {do: write("old content"), touched: true},
		"changed and back":      {do: func(t *testing.T, path string) { write("new content")(t, path); write("old content")(t, path) }, touched: true},
		"another renamed to it": {do: func(t *testing.T, path string) { write("new content")(t, path+"2"); _ = os.Rename(path+"2", path) }},
		"removed":               {do: func(t *testing.T, path string) { _ = os.Remove(path) }},
		"linked":                {do: func(t *testing.T, path string) { _ = os.Link(path, path+"2") }},
	} {
		t.Run(name, func(t *testing.T) {
			path := made(t, "old content")
			h := hold(t, path, nil)
			h.settled = true
			time.Sleep(20 * time.Millisecond) // the clock of the file system is coarse
			c.do(t, path)
			err := h.Check()
			var changed *ChangedError
			if errors.As(err, &changed) != c.changed || errors.Is(err, ErrTouched) != c.touched || err != nil && !c.changed && !c.touched {
				t.Fatalf("got %v", err)
			}
			if err := h.Check(); (err != nil) != c.changed {
				t.Errorf("the second time: %v", err)
			}
		})
	}
}

// A file that changes within a tick of the clock keeps its stamp: one that was
// written just before it was read is read again.
func TestCheckDoesNotTrustFreshFiles(t *testing.T) {
	path := made(t, "abc")
	h := hold(t, path, nil)
	h.settled = h.state.stamp.Settled(time.Unix(0, h.state.stamp.Changed)) // read at once
	if err := os.WriteFile(path, []byte("abd"), 0o666); err != nil {
		t.Fatal(err)
	}
	now, err := stateOf(h.file)
	if err != nil {
		t.Fatal(err)
	}
	h.state = now // as if the stamp had not moved
	var changed *ChangedError
	if err := h.Check(); !errors.As(err, &changed) {
		t.Errorf("got %v", err)
	}
}

func TestSumsKnowFilesNotPaths(t *testing.T) {
	path := made(t, "abc")
	var known Sums
	h := hold(t, path, &known)
	if len(known.known) != 0 {
		t.Error("a fresh file is trusted")
	}
	h.settled = true
	known.remember(h)
	h.sum = "as if it was not read again"
	known.known[h.state] = h.sum
	if again := hold(t, path, &known); again.Sum() != h.sum {
		t.Error("read again")
	}
	// Fault: the sum was kept by path for the life of the process.
	if err := os.WriteFile(path+"2", []byte("abd"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+"2", path); err != nil {
		t.Fatal(err)
	}
	if other := hold(t, path, &known); other.Sum() == h.sum {
		t.Error("another file has the sum of the one that was there")
	}
	if _, err := Hold(filepath.Dir(path), &known); err == nil {
		t.Error("a directory was opened")
	}
}
