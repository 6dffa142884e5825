package scratch

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o777)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, scratch string) *Dir {
	t.Helper()
	d, err := Open(scratch)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Many workers of a node have one copy, which is made again when the file was replaced or the
// copy was damaged.
func TestOneCopy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "runner-engine")
	write(t, file, strings.Repeat("first", 100_000))
	scratch := filepath.Join(t.TempDir(), "of", "a job")
	copies := func() string {
		t.Helper()
		var wg sync.WaitGroup
		var paths [8]string
		for i := range paths {
			wg.Go(func() {
				d, err := Open(scratch)
				if err == nil {
					paths[i], err = d.File(context.Background(), "engine", file)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, path := range paths {
			if path != paths[0] {
				t.Errorf("%s and %s", path, paths[0])
			}
		}
		got, err := os.ReadFile(paths[0])
		want, _ := os.ReadFile(file)
		if err != nil || string(got) != string(want) {
			t.Errorf("the copy differs: %v", err)
		}
		return paths[0]
	}
	first := copies()
	if info, err := os.Stat(first); err != nil || info.Mode().Perm()&0o100 == 0 {
		t.Errorf("it cannot be executed: %v, %v", info, err)
	}
	made, _ := os.Stat(first)
	if again := copies(); again != first {
		t.Errorf("another copy: %s", again)
	}
	if now, err := os.Stat(first); err != nil || !os.SameFile(now, made) {
		t.Errorf("it was copied again: %v", err)
	}
	if err := os.Truncate(first, 7); err != nil {
		t.Fatal(err)
	}
	copies()
	write(t, file, "second")
	if err := os.Chtimes(file, time.Now(), time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if second := copies(); second == first {
		t.Error("the copy of what the file was")
	}
	// What is there already is not copied once more.
	if own, err := open(t, scratch).File(t.Context(), "engine", first); own != first || err != nil {
		t.Errorf("%s, %v", own, err)
	}
}

// A scratch that is full, or that somebody else has, is an error that names it, and leaves
// nothing behind.
func TestFullScratch(t *testing.T) {
	file := filepath.Join(t.TempDir(), "model.safetensors")
	write(t, file, strings.Repeat("x", 1<<20))
	full := t.TempDir()
	if err := unix.Mount("tmpfs", full, "tmpfs", 0, "size=256k"); err != nil {
		t.Skip("this user mounts nothing: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(full, 0); err != nil {
			t.Error(err)
		}
	})
	d := open(t, full)
	_, err := d.File(t.Context(), "backbone", file)
	if err == nil || !strings.Contains(err.Error(), "copying the backbone to the scratch of the node: it takes 1.0 MB, and ") {
		t.Errorf("%v", err)
	}
	left, err := filepath.Glob(d.path + "/*")
	if err != nil || len(left) != 1 || filepath.Ext(left[0]) != ".lock" {
		t.Errorf("%v is left, %v", left, err)
	}
}

func TestScratchOfOthers(t *testing.T) {
	scratch := t.TempDir()
	d := open(t, scratch)
	if err := os.Chmod(d.path, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(scratch); err == nil || !strings.Contains(err.Error(), "this user alone") {
		t.Errorf("%v", err)
	}
	if err := os.Remove(d.path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(t.TempDir(), d.path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(scratch); err == nil {
		t.Error("it follows a link of others")
	}
}
