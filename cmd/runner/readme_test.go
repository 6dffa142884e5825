package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is a fenced block of the README that begins with the name of a file.
var block = regexp.MustCompile("(?s)```(cue|go)\n// ([^\n]+)\n.*?```")

// TestReadme does what the README says to do: its experiment is valid and
// plans the runs it promises, its plug-in builds and shows its program.
func TestReadme(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	runner := filepath.Join(root, "bin/runner")
	if _, err := os.Stat(runner); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("make build first: %v", err)
		}
		t.Skipf("make build first: %v", err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	dir := t.TempDir()
	files := map[string]bool{}
	for _, m := range block.FindAllSubmatch(readme, -1) {
		name := string(m[2])
		files[name] = true
		body := bytes.TrimSuffix(bytes.TrimPrefix(m[0], []byte("```"+string(m[1])+"\n")), []byte("```"))
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !files["experiments/alpha.cue"] || !files["plugins/gain/main.go"] {
		t.Fatalf("the README's files are %v", files)
	}
	run := func(name string, args ...string) (string, error) {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}

	if out, err := run(runner, "init", "."); err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "bin/gain"), filepath.Join(dir, "plugins/gain/main.go"))
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the plug-in: %v\n%s", err, out)
	}
	if engine := realEngine(t); engine != "" {
		if out, err := run(filepath.Join(filepath.Dir(engine), "runner"), "plugins", "test", "bin/gain"); err != nil {
			t.Errorf("plugins test: %v\n%s", err, out)
		}
	}
	if out, err := run(runner, "plugins", "install", "--project", "bin/gain"); err != nil {
		t.Fatalf("installing the plug-in: %v\n%s", err, out)
	}
	out, err := run(runner, "plugins", "show", "gain", "-params", `{"start": 1}`)
	if err != nil || !strings.Contains(out, "mul") || !strings.Contains(out, "[T, 384]") {
		t.Errorf("plugins show: %v\n%s", err, out)
	}
	if out, err = run(runner, "validate", "experiments/alpha.cue"); err != nil {
		t.Errorf("validate: %v\n%s", err, out)
	}
	out, err = run(runner, "plan", "experiments/alpha.cue")
	if err != nil || !strings.Contains(out, fmt.Sprintf("Plan: %d new.", (3+1)*2)) {
		t.Errorf("plan: %v\n%s", err, out)
	}

	// The typo that the README promises to catch.
	path := filepath.Join(dir, "experiments/alpha.cue")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	typo := strings.Replace(string(b), `variant: "lora", targets: ["query", "value"], blocks: "8..9", params: {rank: 8, alpha: 8}`,
		`variant: "gain", targets: ["query", "value"], blocks: "8..9", params: strat: 2`, 1)
	typo = regexp.MustCompile(`\tvary: [^\n]*\n`).ReplaceAllString(typo, "")
	if err := os.WriteFile(path, []byte(typo), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err = run(runner, "validate", "experiments/alpha.cue")
	if err == nil || !strings.Contains(out, "alpha.cue:9:") || !strings.Contains(out, `did you mean "start"?`) {
		t.Errorf("the typo: %v\n%s", err, out)
	}
}
