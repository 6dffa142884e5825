package provenance

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/rundir"
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
	text, err := os.ReadFile(filepath.Join(dir, rundir.Environment))
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
	write(t, filepath.Join(dir, rundir.Environment), "{")
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "remove the file") {
		t.Errorf("read a damaged record: %v", err)
	}
}

// repo makes a repository with a function that runs git in it, where there is git.
func repo(t *testing.T) (root string, git func(args ...string)) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("nothing tested: %v", err)
	}
	root = t.TempDir()
	git = func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", root, "-c", "user.name=a", "-c", "user.email=a@b"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	git("init", "-q", "-b", "main")
	return root, git
}

// What was not committed is kept, each state of it once.
func TestPatch(t *testing.T) {
	root, git := repo(t)
	dir := t.TempDir()
	file := filepath.Join(root, "a.cue")
	write(t, file, "one\n")
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
		if err != nil || !strings.Contains(string(patch), "+"+c.text) || !rundir.IsPatch(a.Patch) {
			t.Errorf("patch %s: %v\n%s", a.Patch, err, patch)
		}
	}
}

// Of a repository with more in it than the project, only the project's own files
// are looked at (trial-reliability 11).
func TestPatchOfAPart(t *testing.T) {
	root, git := repo(t)
	dir, project := t.TempDir(), filepath.Join(root, "mono", "proj")
	if err := os.MkdirAll(project, 0o777); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(root, "mono", "secrets.env")
	write(t, filepath.Join(project, "a.cue"), "one\n")
	write(t, secret, "none yet\n")
	git("add", ".")
	git("commit", "-q", "-m", "first")
	write(t, secret, "TOKEN=hidden\n")
	write(t, filepath.Join(root, "other.env"), "TOKEN=hidden\n")
	if a := capture(t, project, dir, nil); a.Git == nil || a.Git.Dirty || a.Patch != "" || len(a.Git.Untracked) > 0 {
		t.Errorf("the project is clean, and captured is %+v %q", a.Git, a.Patch)
	}
	write(t, filepath.Join(project, "a.cue"), "two\n")
	a := capture(t, project, dir, nil)
	patch, err := os.ReadFile(filepath.Join(dir, a.Patch))
	if err != nil || !strings.Contains(string(patch), "+++ b/a.cue\n") || strings.Contains(string(patch), "hidden") {
		t.Errorf("%v\n%s", err, patch)
	}
}

// Looking at a project starts no program that its repository names
// (trial-reliability 10).
func TestNoPrograms(t *testing.T) {
	root, git := repo(t)
	mark := filepath.Join(t.TempDir(), "started")
	program := filepath.Join(root, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$0 $*\" >>"+mark+"\ncat\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "a.cue"), "one\n")
	write(t, filepath.Join(root, "b.bin"), "\x00one\n")
	git("add", ".")
	git("commit", "-q", "-m", "first")
	write(t, filepath.Join(root, ".gitattributes"), "*.cue filter=evil diff=evil\n*.bin filter=evil.dotted diff=evil\n")
	hooks := filepath.Join(root, ".git", "hooks")
	if err := os.MkdirAll(hooks, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, hook := range []string{"post-index-change", "reference-transaction", "fsmonitor-watchman"} {
		if err := os.Symlink(program, filepath.Join(hooks, hook)); err != nil {
			t.Fatal(err)
		}
	}
	for key, value := range map[string]string{
		"core.fsmonitor": program, "core.pager": program, "diff.external": program, "diff.evil.command": program,
		"diff.evil.textconv": program, "filter.evil.clean": program, "filter.evil.required": "true",
		"filter.evil.dotted.process": program, "core.sshCommand": program,
	} {
		git("config", key, value)
	}
	write(t, filepath.Join(root, "a.cue"), "two\n")
	write(t, filepath.Join(root, "b.bin"), "\x00two\n")
	a := capture(t, root, t.TempDir(), nil)
	if a.Git == nil || !a.Git.Dirty || a.Git.PatchNote != "" || a.Patch == "" {
		t.Errorf("captured is %+v %q", a.Git, a.Patch)
	}
	if text, err := os.ReadFile(mark); err == nil {
		t.Errorf("started were:\n%s", text)
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

// Attempts of before core/rundir stay as they are when one is added.
func TestEarlierAttemptsStay(t *testing.T) {
	text, err := os.ReadFile("../../core/rundir/testdata/project/runs/tiny/7a7a03ef9660/" + rundir.Environment)
	if err != nil {
		t.Fatal(err)
	}
	// On a machine with GPUs it had their number as text.
	was := strings.Replace(string(text), `"threads": 2`, `"threads": 2,`+"\n        "+`"cuda": "2 devices"`, 1)
	root, dir := t.TempDir(), t.TempDir()
	write(t, filepath.Join(dir, rundir.Environment), was)
	a := capture(t, root, dir, &spec.EngineInfo{Version: "1", CudaDevices: 2})
	if a.Engine.CUDADevices != 2 || a.Engine.CUDA != "" {
		t.Errorf("recorded %+v", a.Engine)
	}
	is, err := os.ReadFile(filepath.Join(dir, rundir.Environment))
	if begin := strings.TrimSuffix(was, "\n  ]\n}\n"); err != nil || begin == was || !strings.HasPrefix(string(is), begin+",") {
		t.Errorf("%v\n%s\nbecame\n%s", err, was, is)
	}
	if !strings.Contains(string(is), `"cuda_devices": 2`) {
		t.Error("the number of devices is not recorded")
	}
}
