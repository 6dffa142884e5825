package provenance

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/spec"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

// capture records an attempt at a run of the project at root.
func capture(t *testing.T, root, dir string, engine *spec.EngineInfo) *Attempt {
	t.Helper()
	program := filepath.Join(t.TempDir(), "engine")
	write(t, program, "program")
	o, err := Capture(context.Background(), root, program, []string{"runner", "apply"})
	if err != nil {
		t.Fatal(err)
	}
	label := &spec.Label{Variant: "lora", VariantVersion: "1.2.3", VariantParams: `{"rank":8}`}
	if err := o.Record(dir, &Source{File: "a.cue", Text: "text"}, label, engine); err != nil {
		t.Fatal(err)
	}
	r, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r.Last()
}

// Only what is known to matter is taken from the environment, by name.
func TestNoSecrets(t *testing.T) {
	for _, name := range []string{"WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "OMP_PASSWORD", "SLURM_JWT", "CUDA_TOKEN"} {
		t.Setenv(name, "very-secret")
	}
	t.Setenv("OMP_PLACES", "cores")
	root, dir := t.TempDir(), t.TempDir()
	a := capture(t, root, dir, &spec.EngineInfo{Device: "cpu"})
	if a.Environment["OMP_PLACES"] != "cores" {
		t.Errorf("environment %v", a.Environment)
	}
	text, err := os.ReadFile(filepath.Join(dir, File))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "very-secret") {
		t.Errorf("a secret was recorded:\n%s", text)
	}
}

func TestRecord(t *testing.T) {
	root, dir := t.TempDir(), t.TempDir()
	write(t, filepath.Join(root, "runner.lock"), "pinned")
	if r, err := Read(dir); err != nil || r.Last() != nil {
		t.Errorf("nothing was recorded yet: %v, %v", r, err)
	}
	engine := &spec.EngineInfo{Version: "1", Libtorch: "2", Device: "cuda:0", DeviceName: "H", Threads: 4, Probes: map[string]string{"attention": "bmm"}}
	capture(t, root, dir, engine)
	a := capture(t, root, dir, engine)
	if a.Git != nil || a.Patch != "" || a.Lock != "pinned" || a.Variant.Params != `{"rank":8}` || a.Source.Text != "text" ||
		a.Engine.DeviceName != "H" || a.Machine.CPUs == 0 || len(a.EngineSHA256) != 64 || a.Loralab.Go == "" {
		t.Errorf("recorded %+v", a)
	}
	r, err := Read(dir)
	if err != nil || len(r.Attempts) != 2 {
		t.Errorf("there are %d attempts, %v", len(r.Attempts), err)
	}
	write(t, filepath.Join(dir, File), "{")
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "remove the file") {
		t.Errorf("read a damaged record: %v", err)
	}
}

// What was not committed is kept, each state of it once.
func TestPatch(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Logf("nothing tested: %v", err)
		return
	}
	root, dir := t.TempDir(), t.TempDir()
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", root, "-c", "user.name=a", "-c", "user.email=a@b"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	file := filepath.Join(root, "a.cue")
	write(t, file, "one\n")
	git("init", "-q", "-b", "main")
	git("add", ".")
	git("commit", "-q", "-m", "first")
	a := capture(t, root, dir, nil)
	if a.Git == nil || a.Git.Dirty || a.Patch != "" || a.Git.Branch != "main" || len(a.Git.Commit) != 40 {
		t.Errorf("clean: %+v %q", a.Git, a.Patch)
	}
	write(t, filepath.Join(root, "new name.cue"), "")
	for _, c := range []struct{ text, patch string }{{"two\n", "dirty.patch"}, {"three\n", "dirty-2.patch"}, {"two\n", "dirty.patch"}} {
		write(t, file, c.text)
		a := capture(t, root, dir, nil)
		if !a.Git.Dirty || a.Patch != c.patch || len(a.Git.Untracked) != 1 || a.Git.Untracked[0] != "new name.cue" {
			t.Errorf("dirty: %+v %q, want %q", a.Git, a.Patch, c.patch)
		}
		patch, err := os.ReadFile(filepath.Join(dir, a.Patch))
		if err != nil || !strings.Contains(string(patch), "+"+c.text) {
			t.Errorf("patch %s: %v\n%s", a.Patch, err, patch)
		}
	}
}

func TestSame(t *testing.T) {
	e := Engine{Version: "1", Libtorch: "2", Device: "cuda:0", DeviceName: "H", Threads: 4, Probes: map[string]string{"a": "x", "b": "y"}}
	other := e
	other.Device, other.Probes = "cuda:1", map[string]string{"a": "x"}
	if !e.Same(other) {
		t.Error("another device of the same kind computes other bits")
	}
	for what, change := range map[string]func(*Engine){
		"threads": func(e *Engine) { e.Threads = 2 },
		"device":  func(e *Engine) { e.Device = "cpu" },
		"probes":  func(e *Engine) { e.Probes = map[string]string{"b": "z"} },
		"version": func(e *Engine) { e.Libtorch = "3" },
	} {
		other := e
		change(&other)
		if e.Same(other) {
			t.Errorf("another %s, and the same bits are expected", what)
		}
	}
}
