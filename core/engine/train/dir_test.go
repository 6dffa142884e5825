package train

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/spec"
)

// A run is written in its directory and nowhere else, whatever links a project
// brought along and whatever domains are called (trial-reliability 8, 12).
func TestNothingIsWrittenThroughLinks(t *testing.T) {
	tr := trainer(t)
	outside := t.TempDir()
	for _, name := range []string{".", "checkpoints", "evaluations", "samples", "metrics.jsonl", "lock"} {
		req := request(t)
		dir := filepath.Join(t.TempDir(), "run")
		req.Places.RunDir = dir
		at := filepath.Join(dir, name)
		target := outside
		if strings.Contains(name, ".j") || name == "lock" {
			target = filepath.Join(outside, "precious")
			if err := os.WriteFile(target, []byte("precious"), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o777), os.Symlink(target, at)); err != nil {
			t.Fatal(err)
		}
		if _, err := run(t, tr, req, 0); err == nil {
			t.Errorf("%s: trained through a link", name)
		}
	}
	if text, err := os.ReadFile(filepath.Join(outside, "precious")); err != nil || string(text) != "precious" {
		t.Errorf("%q, %v", text, err)
	}
	req := request(t, func(r *spec.RunRequest) { r.Evaluations[1].Domain = "../../../escaped" })
	req.Places.RunDir = filepath.Join(t.TempDir(), "a", "b", "run")
	events, err := run(t, tr, req, 0)
	finished(t, events, err)
	if found, _ := filepath.Glob(filepath.Join(req.Places.RunDir, "samples", "*escaped-*.png")); len(found) != 1 {
		t.Errorf("the samples are at %v", found)
	}
	if left, _ := os.ReadDir(outside); len(left) != 1 {
		t.Errorf("outside there are %v", left)
	}
}
