package scaffold

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// That what is written builds, passes its test and the suite is shown by the
// test of docs/plugins.md.

func TestNew(t *testing.T) {
	for _, c := range []struct {
		python bool
		files  []string
		next   string
	}{
		{false, []string{"go.mod", "main.go", "main_test.go", "schema.cue"}, "go mod tidy"},
		{true, []string{"loralab_plugin", "main.py", "requirements.txt", "schema.cue", "test_main.py"}, "python3 loralab_plugin/pack.py . gain"},
	} {
		dir := t.TempDir()
		w, err := New(dir, "gain", c.python)
		if err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(filepath.Join(dir, "gain"))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if !slices.Equal(names, c.files) {
			t.Errorf("files are %v, want %v", names, c.files)
		}
		if !slices.Contains(w.Next, c.next) || !slices.Contains(w.Next, "runner plugins test ./gain") {
			t.Errorf("what follows is %q", w.Next)
		}
		for _, file := range w.Files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "{{.}}") {
				t.Errorf("%s has a place for the name", file)
			}
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
			t.Errorf("left are %v, error %v", left, err)
		}
	}
}

// Inside of the sources there is a go.mod already.
func TestInsideTheSources(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module "+module+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w, err := New(dir, "gain", false)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(w.Files, filepath.Join(dir, "gain", "go.mod")) || slices.Contains(w.Next, "go mod tidy") {
		t.Errorf("wrote %q, then %q", w.Files, w.Next)
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "gain"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"gain": "is there already; nothing was written", "Gain": "a variant cannot be called", "../x": "a variant cannot be called"} {
		if _, err := New(dir, name, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", name, err, want)
		}
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "gain")); err != nil || len(entries) > 0 {
		t.Errorf("left are %v, error %v", entries, err)
	}
}
