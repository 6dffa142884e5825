package store

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/loralab/loralab/core/spec"
)

// What lay in a project is found where the project is now (trial-data F8), and
// what lay elsewhere is looked for there.
func TestHere(t *testing.T) {
	before, after := filepath.Join(t.TempDir(), "before"), filepath.Join(t.TempDir(), "after")
	for _, dir := range []string{"data/d", "vit"} {
		check(t, os.MkdirAll(filepath.Join(after, dir), 0o777))
	}
	check(t, os.WriteFile(filepath.Join(after, "vit", "model.safetensors"), nil, 0o666))
	run, _ := newRun(t, "e", "c", 1)
	places := &spec.Places{
		RunDir: filepath.Join(before, filepath.FromSlash(run.Dir)), Backbone: filepath.Join(before, "vit", "model.safetensors"),
		Start: filepath.Join(before, "not", "there"),
		Files: map[string]*spec.Files{"a": {Root: filepath.Join(before, "data", "d")}, "b": {Root: "/elsewhere"}, "c": {Root: before + "-too/data/d"}},
	}
	check(t, run.Here(after, places))
	for what, c := range map[string][2]string{
		"run":              {places.RunDir, filepath.Join(after, filepath.FromSlash(run.Dir))},
		"backbone":         {places.Backbone, filepath.Join(after, "vit", "model.safetensors")},
		"start":            {places.Start, filepath.Join(before, "not", "there")},
		"data":             {places.Files["a"].Root, filepath.Join(after, "data", "d")},
		"data elsewhere":   {places.Files["b"].Root, "/elsewhere"},
		"a like-named one": {places.Files["c"].Root, before + "-too/data/d"},
	} {
		if c[0] != c[1] {
			t.Errorf("%s is at %s, want %s", what, c[0], c[1])
		}
	}
}
