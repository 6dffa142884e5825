package replacefile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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
