// Package bench holds the tests of the programs in this directory that are no Go.
package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestShellcheck(t *testing.T) {
	if _, err := exec.LookPath("shellcheck"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("there is no shellcheck")
		}
		t.Skip("there is no shellcheck")
	}
	if out, err := exec.CommandContext(t.Context(), "shellcheck", "gpu.sh", "run.sh", "../.ci/run").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// A Python without torch, or with another one, is named in a sentence.
func TestGPUWithoutTorch(t *testing.T) {
	dir := t.TempDir()
	pythons := 0
	python := func(says string) string {
		pythons++
		path := filepath.Join(dir, fmt.Sprint("python", pythons))
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+says+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		python string
		code   int
		says   string
	}{
		{"/nowhere/python", 3, "there is no /nowhere/python, and loralab runs here on the torch 2.11.0 of a Python: name one that has it with PYTHON="},
		{"../" + filepath.Base(python("echo -")), 3, "has no torch, and loralab runs here on the torch 2.11.0 of a Python"},
		{python("echo -"), 3, "has no torch, and loralab runs here on the torch 2.11.0 of a Python"},
		{python("exit 1"), 3, "has no torch, and loralab runs here on the torch 2.11.0 of a Python"},
		{python("echo 2.11.01 /torch"), 3, "has torch 2.11.01, needed is 2.11.0"},
		{python("echo 2.9.1+cu130 /torch"), 3, "has torch 2.9.1+cu130, needed is 2.11.0"},
		// Of a directory that has no programs.
		{python("echo 2.11.0+cu130 /torch"), 2, "there is no " + dir + "/bin/runner: make gpu-kit packs all that is needed"},
	} {
		script, err := os.ReadFile("gpu.sh")
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(dir, "bench", "gpu.sh")
		if err := errors.Join(os.MkdirAll(filepath.Dir(copied), 0o777), os.WriteFile(copied, script, 0o755)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), copied)
		cmd.Dir = filepath.Dir(copied)
		cmd.Env = append(os.Environ(), "PYTHON="+c.python, "OUT="+filepath.Join(dir, "out"))
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != c.code || !strings.HasPrefix(string(out), "gpu.sh: ") || !strings.Contains(string(out), c.says) {
			t.Errorf("%s: %v\n%swant %d and %q", c.python, err, out, c.code, c.says)
		}
		if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
			t.Error("it wrote results")
		}
	}
}

// python runs a program with gpu.py imported, which needs no package.
func python(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "python3", append([]string{"-B", "-c", "import gpu, json, sys\n" + program}, args...)...)
	cmd.Env, cmd.Stderr = append(os.Environ(), "TMPDIR="+t.TempDir()), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestGPUSummary(t *testing.T) {
	file := filepath.Join("testdata", "gpu.json")
	out, err := exec.CommandContext(t.Context(), "python3", "-B", "gpu.py", "--summary", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	golden := filepath.Join("testdata", "summary.txt")
	if os.Getenv("LORALAB_UPDATE") == "1" {
		if err := os.WriteFile(golden, out, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(out) != string(want) {
		t.Errorf("the summary is\n%swant\n%s", out, want)
	}
}

// What a benchmark has printed before it was ended counts.
func TestGPULines(t *testing.T) {
	text := "a warning\n{\"side\": \"peft\", \"batch\": 8}\n{\"batch\": 32}\n{\"batch\": 12"
	var got []map[string]any
	if err := json.Unmarshal([]byte(python(t, "print(json.dumps(gpu.lines(sys.argv[1])))", text)), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0]["side"] != "peft" || got[1]["batch"] != 32.0 {
		t.Errorf("%v", got)
	}
}

func TestGPUTests(t *testing.T) {
	text := `=== RUN   TestDevice
    cuda_test.go:307: losses differ by 0.3
--- FAIL: TestDevice (5.78s)
    --- FAIL: TestDevice/trains_as_a_CPU (0.10s)
        --- FAIL: TestDevice/trains_as_a_CPU/fp32 (0.57s)
        --- PASS: TestDevice/trains_as_a_CPU/bf16 (0.49s)
    --- PASS: TestDevice/continues (0.32s)
FAIL
`
	var got []struct {
		Name    string
		Passed  bool
		Seconds float64
	}
	if err := json.Unmarshal([]byte(python(t, "print(json.dumps(gpu.go_tests(sys.argv[1])))", text)), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got[0].Name != "TestDevice/trains_as_a_CPU/fp32" || got[0].Passed || !got[1].Passed || got[2].Seconds != 0.32 {
		t.Errorf("%v", got)
	}
}

// A part that fails, hangs or cannot begin ends no other, and all of it is in gpu.json.
func TestGPUParts(t *testing.T) {
	dir := t.TempDir()
	program := `
import argparse, pathlib
gpu.LIMITS |= {"fails": 600, "hangs": 600, "late": 600, "needs": 600, "works": 600}
gpu.NEEDS["needs"] = "fails"
out = pathlib.Path(sys.argv[1])
b = gpu.Bench(argparse.Namespace(root=out, out=out / "out", device="cpu", limit=3600))
b.part("fails", lambda limit: b.run("fails", ["sh", "-c", "echo why; exit 7"], limit))
b.part("hangs", lambda limit: b.run("hangs", ["sh", "-c", "sleep 3600 & wait"], 2))
b.part("needs", lambda limit: 1 / 0)
b.part("works", lambda limit: {"note": b.run("works", ["echo", "fine"], limit).out})
b.part("doctor", lambda limit: {}["memory"])
b.end = 0
b.part("late", lambda limit: b.run("late", ["echo"], limit))
print(json.dumps(json.loads((out / "out/gpu.json").read_text())["parts"]))
`
	var got []struct {
		Name, State, Reason, Note string
		Tail                      []string
	}
	if err := json.Unmarshal([]byte(python(t, program, dir)), &got); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"fails failed exit status 7", "hangs failed it took longer than 2 s", "needs skipped it needs the part fails",
		"works passed ", "doctor failed KeyError: 'memory'", "late skipped no time is left",
	}
	var said []string
	for _, p := range got {
		said = append(said, p.Name+" "+p.State+" "+p.Reason)
	}
	if !slices.Equal(said, want) {
		t.Fatalf("parts are\n%s\nwant\n%s", strings.Join(said, "\n"), strings.Join(want, "\n"))
	}
	if !slices.Contains(got[0].Tail, "why") || got[3].Note != "fine\n" {
		t.Errorf("%+v", got)
	}
}

// The largest batch is worked out from the memory of two smaller ones.
func TestGPULargest(t *testing.T) {
	program := `
import peft_step
tried = []
def fits(n):
    def attempt(batch):
        tried.append(batch)
        return {"batch": batch} if batch <= n else None
    return attempt
out = [peft_step.largest({8: 1800, 32: 4200}, 100000, fits(n)) for n in (990, 850, 5)]
print(json.dumps([out, tried, peft_step.largest({}, 1, None)]))
`
	// 100 MB an image and 1000 MB for the model: (94,000 - 1,000) / 100 = 930.
	const want = `[[{"batch": 928, "largest": true}, {"batch": 848, "largest": true}, {"batch": 648, "exhausted": true}], ` +
		`[928, 928, 848, 928, 848, 776, 712, 648], {"exhausted": true}]`
	if got := strings.TrimSpace(python(t, program)); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// Losses are compared with those of the peer, and peaks are those of known devices alone.
func TestGPUFigures(t *testing.T) {
	program := `
ours = {"side": "loralab", "lever": "", "model": "b", "size": 224, "batch": 32, "precision": "bf16", "losses": [1.0, 0.5], "ms_median": 20.0}
peer = ours | {"side": "eager", "losses": [1.0, 0.6]}
for r, name in (ours, "NVIDIA H200"), (peer, "NVIDIA L40"):
    gpu.rate(r, {"name": name})
print(gpu.compare([ours, peer])[0]["difference"] > gpu.LOSSES["bf16"], ours["images_per_second"], "share_of_peak" in peer)
# The forward pass of a ViT-B/16 takes 35 GFLOP; frozen layers need as much again.
print(round(gpu.flops("b", 224, 1) / 1e9), round(ours["share_of_peak"], 3))
`
	if got, want := python(t, program), "True 1600.0 False\n73 0.117\n"; got != want {
		t.Errorf("%swant\n%s", got, want)
	}
}
