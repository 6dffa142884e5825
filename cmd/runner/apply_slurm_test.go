package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/loralab/loralab/runner/experiment"
)

// Workers run elsewhere than this command: they get places as they are, and an image sees
// those outside the project.
func TestPlacesOfWorkers(t *testing.T) {
	for _, name := range placesOfWorkers {
		t.Setenv(name, "")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "project")
	for _, name := range []string{"project/experiments", "project/data", "hf/hub", "disk/runs", "other"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../disk/runs", filepath.Join(root, "runs")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "other", "site.cue"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(root, "experiments"))
	t.Setenv("LORALAB_RESOURCES", "../../other/site.cue")
	t.Setenv("LORALAB_DATA", "../data")
	t.Setenv("HF_HOME", filepath.Join(dir, "hf"))
	t.Setenv("HF_HUB_CACHE", filepath.Join(dir, "hf", "hub"))
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "none"))
	t.Setenv("LORALAB_LOOK", "1s")
	job, err := slurmJob(root, &experiment.Resources{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"LORALAB_RESOURCES": filepath.Join(dir, "other", "site.cue"), "LORALAB_DATA": filepath.Join(root, "data"), "LORALAB_LOOK": "1s", "LORALAB_ENGINE": "",
	} {
		if got := job.Env[name]; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	slices.Sort(job.Bind)
	if want := []string{filepath.Join(dir, "disk", "runs"), filepath.Join(dir, "hf"), filepath.Join(dir, "other")}; !slices.Equal(job.Bind, want) {
		t.Errorf("an image sees %q, want %q", job.Bind, want)
	}
}
