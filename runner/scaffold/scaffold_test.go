package scaffold

import (
	"os"
	"os/exec"
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

// The go.mod of a plug-in requires what the sdk needs and nothing else, and the
// command that completes it changes nothing (trial-plugins F9).
func TestModules(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}", "./plugins/sdk/...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	needed := strings.Fields(string(out))
	slices.Sort(needed)
	if needed = slices.Compact(needed); !slices.Equal(modules, needed) {
		t.Fatalf("the list of modules has to be %q", needed)
	}

	dir := filepath.Join(t.TempDir(), "gain")
	files, first, err := modFiles(dir, "gain", root)
	if err != nil || len(files) != 2 || len(first) > 0 {
		t.Fatalf("%d files, then %q, error %v", len(files), first, err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	all := append(slices.Clone(files), file{"schema.cue", nil})
	for _, name := range []string{"main.go", "main_test.go"} {
		text, err := fill("go/"+name+".txt", "gain")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, file{name, text})
	}
	for _, f := range all {
		if err := os.WriteFile(filepath.Join(dir, f.name), f.text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd = exec.Command("go", "list", "-deps", "-test", "-mod=readonly", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOPROXY=off", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd = exec.Command("go", "mod", "tidy") // adds the sums of what tests of others need
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if string(mod) != string(files[0].text) {
		t.Errorf("go mod tidy makes\n%sof\n%s", mod, files[0].text)
	}
}

// Where runner lies in no sources, go.mod and what follows say how to name them: the
// version of such a runner is on no proxy (trial-plugins F9).
func TestModulesWithoutSources(t *testing.T) {
	files, first, err := modFiles("/home/u/gain", "gain", "")
	if err != nil || len(files) != 1 {
		t.Fatalf("%d files, error %v", len(files), err)
	}
	edit := "go mod edit -replace github.com/loralab/loralab=YOUR-CHECKOUT"
	if want := []string{edit, "go mod tidy"}; !slices.Equal(first, want) {
		t.Errorf("what follows is %q, want %q", first, want)
	}
	for _, want := range []string{edit, "require github.com/loralab/loralab v0.0.0\n"} {
		if !strings.Contains(string(files[0].text), want) {
			t.Errorf("go.mod has no %q:\n%s", want, files[0].text)
		}
	}
}

func TestReplacement(t *testing.T) {
	for _, c := range []struct{ at, root, want string }{
		{"/home/u/project/gain", "/home/u/loralab", "../../loralab"},
		{"/home/u/gain", "/home/u/loralab", "../loralab"},
		{"/tmp/gain", "/home/u/loralab", "/home/u/loralab"},
		{"/home/uv/gain", "/home/u/lora lab", `"/home/u/lora lab"`},
	} {
		if got := replacement(c.at, c.root); got != c.want {
			t.Errorf("from %s: %s, want %s", c.at, got, c.want)
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
