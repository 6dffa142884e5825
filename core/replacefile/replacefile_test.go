package replacefile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
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

// Of writers that create a file one succeeds, and nothing is left of the others.
func TestCreateIn(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := os.WriteFile(filepath.Join(root.Name(), ".file.tmp-0"), []byte("a longer text that a killed process has left"), 0o666); err != nil {
		t.Fatal(err)
	}
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = CreateIn(root, "file", fmt.Append(nil, i)) })
	}
	wg.Wait()
	created := -1
	for i, err := range errs {
		switch {
		case err == nil && created < 0:
			created = i
		case !errors.Is(err, fs.ErrExist):
			t.Errorf("writer %d: %v", i, err)
		}
	}
	if got, err := root.ReadFile("file"); err != nil || string(got) != fmt.Sprint(created) {
		t.Errorf("%q, %v, and writer %d has created it", got, err, created)
	}
	if entries, _ := os.ReadDir(root.Name()); len(entries) != 1 {
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

// What is private does not become what a killed writer of less private content
// has left.
func TestPrivateFilesStayPrivate(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".file.tmp-0"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "file")
	if err := WritePrivate(path, bytesTo([]byte("private"))); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
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

// A project that somebody else made may hold links at the names of temporary
// files (trial-reliability 12): what they lead to is not written, and what is
// written is no link.
func TestLinksAtPredictableNamesAreNotFollowed(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(t.TempDir(), "precious")
	for _, name := range []string{precious, filepath.Join(dir, "hard")} {
		if err := os.WriteFile(name, []byte("precious"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "file")
	for i, target := range []string{precious, filepath.Join(dir, "nowhere"), "hard"} {
		if err := os.Symlink(target, filepath.Join(dir, fmt.Sprintf(".file.tmp-%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(dir, "hard"), filepath.Join(dir, ".file.tmp-3")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, ".file.tmp-4"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(precious, path); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for content, write := range map[string]func([]byte) error{
		"by path":      func(b []byte) error { return Write(path, b) },
		"below a root": func(b []byte) error { return WriteIn(root, "file", b) },
	} {
		if err := write([]byte(content)); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s: the file is %v, %v", content, info, err)
		}
		if got, _ := os.ReadFile(path); string(got) != content {
			t.Errorf("%s: the file holds %q", content, got)
		}
	}
	for _, name := range []string{precious, filepath.Join(dir, "hard")} {
		if got, err := os.ReadFile(name); err != nil || string(got) != "precious" {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "nowhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link made a file: %v", err)
	}
}

// Below a root nothing leads out of it (trial-reliability 8, 12), while the root
// itself may be a link, to a scratch disk for example.
func TestNothingLeadsOutOfARoot(t *testing.T) {
	outside, inside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(inside, "away")); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "runs")
	if err := os.Symlink(inside, link); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(link)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, name := range []string{"away/file", "../file", "a/../../file", filepath.Join(outside, "file")} {
		if err := WriteIn(root, name, nil); err == nil {
			t.Errorf("%s was written", name)
		}
		if err := LinkIn(root, "target", name); err == nil {
			t.Errorf("%s was linked", name)
		}
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("outside there are %v", left)
	}
	if err := errors.Join(WriteIn(root, "a/b/file", []byte("content")), LinkIn(root, "../b/file", "a/c/link")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(inside, "a/c/link")); err != nil || string(got) != "content" {
		t.Errorf("%q, %v", got, err)
	}
}

// A name as long as file systems take leaves room for that of its temporary file
// (trial-data F26).
func TestLongNames(t *testing.T) {
	dir := t.TempDir()
	name := strings.Repeat("é", 127)
	for what, err := range map[string]error{
		"file":      Write(filepath.Join(dir, name), []byte("content")),
		"link":      Link("target", filepath.Join(dir, "a"+name[2:])),
		"directory": Dir(filepath.Join(dir, "b"+name[2:]), false, func(string) error { return nil }),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 3 {
		t.Errorf("there are %v", entries)
	}
}

// What a killed writer of a directory has left goes with the next one
// (trial-reliability 25), and the directory that it was about to replace is back.
func TestLeftDirectoriesAreTakenOver(t *testing.T) {
	parent := t.TempDir()
	path := filepath.Join(parent, "out")
	mkdir := func(name string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(parent, name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(parent, name, "file"), []byte(name), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	mkdir(".out.tmp-0/new/deep")
	mkdir(".out.tmp-0/before")
	err := Dir(path, true, func(string) error {
		if got, err := os.ReadFile(filepath.Join(path, "file")); err != nil || string(got) != ".out.tmp-0/before" {
			t.Errorf("what was to be replaced is %q, %v", got, err)
		}
		// Meanwhile another one does the same.
		return Dir(path, true, func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "inner"), nil, 0o666)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(parent); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	victim := t.TempDir()
	if err := os.WriteFile(filepath.Join(victim, "before"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(parent, ".out.tmp-0")); err != nil {
		t.Fatal(err)
	}
	if err := Dir(path, true, func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(victim); len(left) != 1 {
		t.Errorf("behind a link there are %v", left)
	}
}
