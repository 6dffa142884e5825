package replacefile

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestWriteReplacesWholly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "folder", "file")
	for _, content := range []string{"first, and longer", "second"} {
		if err := Write(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Fatalf("%q, %v", got, err)
		}
	}
	failed := errors.New("half way")
	err := WriteFunc(path, func(w io.Writer) error {
		if _, err := w.Write(make([]byte, 1<<16)); err != nil {
			return err
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Fatalf("got %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "second" {
		t.Errorf("a failed write left %d bytes", len(got))
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestDirAppearsWhole(t *testing.T) {
	parent := t.TempDir()
	path := filepath.Join(parent, "out")
	write := func(content string) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, "file"), []byte(content), 0o666) }
	}
	holds := func(want string) {
		t.Helper()
		if got, err := os.ReadFile(filepath.Join(path, "file")); err != nil || string(got) != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
		if entries, _ := os.ReadDir(parent); len(entries) != 1 {
			t.Errorf("left behind: %v", entries)
		}
	}
	if err := os.Mkdir(path, 0o777); err != nil { // an empty one is free
		t.Fatal(err)
	}
	if err := Dir(path, false, write("first")); err != nil {
		t.Fatal(err)
	}
	holds("first")
	if err := Dir(path, false, write("second")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	holds("first")
	failed := errors.New("half way")
	err := Dir(path, true, func(dir string) error { return errors.Join(write("second")(dir), failed) })
	if !errors.Is(err, failed) {
		t.Errorf("got %v", err)
	}
	holds("first")
	if err := Dir(path, true, write("second")); err != nil {
		t.Fatal(err)
	}
	holds("second")
}

// What a killed writer has left is taken over; what a living one writes is not.
func TestLeftoversAreTakenOver(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, left := range []string{".file.tmp-0", ".file.tmp-1"} {
		if err := os.WriteFile(filepath.Join(dir, left), []byte("left behind by a killed process"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	err := WriteFunc(path, func(w io.Writer) error { // holds .file.tmp-0
		if err := Write(path, []byte("inner")); err != nil { // takes .file.tmp-1
			return err
		}
		_, err := io.WriteString(w, "outer")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "outer" {
		t.Errorf("%q, %v", got, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

// Writers of one file at once: each puts a whole one there.
func TestWritersAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				if err := Write(path, bytes.Repeat([]byte{byte('a' + i)}, 10000)); err != nil {
					t.Error(err)
				}
				got, err := os.ReadFile(path)
				if err != nil || len(got) != 10000 || len(bytes.Trim(got, string(got[:1]))) != 0 {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			}
		})
	}
	wg.Wait()
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestLink(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "logs", "link")
	var wg sync.WaitGroup
	for _, target := range []string{"a", "b", "b", "c"} {
		if err := Link(target, path); err != nil {
			t.Fatal(err)
		}
		if is, err := os.Readlink(path); err != nil || is != target {
			t.Errorf("%s, %v; want %s", is, err, target)
		}
	}
	// One that was killed has left its temporary link.
	if err := os.Symlink("nowhere", filepath.Join(dir, "logs", ".link.tmp-link")); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		wg.Go(func() {
			if err := Link("d", path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if is, err := os.Readlink(path); err != nil || is != "d" {
		t.Errorf("%s, %v; want d", is, err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}
