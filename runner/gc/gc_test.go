package gc

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/store"
)

func check(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// project makes a project with one done run for each name, "experiment/cell".
// A smoke run has the steps of one.
func project(t *testing.T, root string, smoke bool, names ...string) map[string]*store.Run {
	t.Helper()
	s, err := store.Open(t.Context(), root)
	check(t, err)
	defer s.Close()
	runs := map[string]*store.Run{}
	for i, name := range names {
		e, cell, _ := strings.Cut(name, "/")
		sp := &spec.RunSpec{Seed: uint64(i), Head: &spec.Head{Kind: name}, Train: &spec.Train{Epochs: 3}}
		if smoke {
			sp.Train.MaxSteps = 2
		}
		run := &store.Run{ID: spec.Identity(sp), Experiment: e, Cell: cell, Seed: uint64(i)}
		run.Dir = store.DirOf(e, run.ID)
		check(t, run.SetSpec(sp))
		label := store.Label{Experiment: e, Cell: cell, Seed: uint64(i), Run: run.ID}
		check(t, s.Enqueue(t.Context(), nil, []*store.Run{run}, []store.Label{label}))
		summary := &spec.Summary{Id: run.ID, Steps: 2}
		text, err := protojson.Marshal(summary)
		check(t, err, os.WriteFile(filepath.Join(root, run.Dir, "result.json"), text, 0o666), s.Finish(t.Context(), run.ID, summary))
		runs[name] = run
	}
	return runs
}

func known(t *testing.T, root string) *store.Snapshot {
	t.Helper()
	s, err := store.Read(t.Context(), root)
	check(t, err)
	return s
}

func names(items []Item) string {
	var list []string
	for _, i := range items {
		list = append(list, i.Name)
	}
	return strings.Join(list, " ")
}

func remove(t *testing.T, root string, items []Item) []string {
	t.Helper()
	s, err := store.Open(t.Context(), root)
	check(t, err)
	defer s.Close()
	left, err := Remove(t.Context(), root, s, items)
	check(t, err)
	return left
}

// age makes everything in a project old enough to be nobody's work.
func age(t *testing.T, root string) {
	t.Helper()
	then := unix.NsecToTimeval(time.Now().Add(-time.Hour).UnixNano())
	for _, top := range tops {
		check(t, filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return errors.Join(err, unix.Lutimes(path, []unix.Timeval{then, then}))
		}))
	}
}

// Runs of an experiment whose name ends like those of smoke runs are none, and
// neither is a smoke run that another experiment asks for (trial-reliability 7).
func TestSmokes(t *testing.T) {
	root := t.TempDir()
	project(t, root, false, "night.smoke/base")
	smokes := project(t, root, true, "day.smoke/base", "day.smoke/shared")
	s, err := store.Open(t.Context(), root)
	check(t, err)
	shared := store.Label{Experiment: "fast", Cell: "c", Seed: 1, Run: smokes["day.smoke/shared"].ID}
	check(t, s.Enqueue(t.Context(), known(t, root), nil, []store.Label{shared}), s.Close())
	// Reports go with the last run of their experiment.
	project(t, root, true, "one.smoke/base")
	for _, name := range []string{"report/night.smoke", "report/day.smoke", "report/one.smoke", "plots/one.smoke", "report/one"} {
		check(t, os.MkdirAll(filepath.Join(root, name), 0o777), os.WriteFile(filepath.Join(root, name, "file"), []byte("x"), 0o666))
	}
	items := Smokes(known(t, root))
	if got := names(items); got != "day.smoke/base/seed=0 one.smoke/base/seed=0 plots/one.smoke report/one.smoke" {
		t.Errorf("found %s", got)
	}
	remove(t, root, items)
	left, err := filepath.Glob(filepath.Join(root, "report", "*"))
	check(t, err)
	if len(left) != 3 {
		t.Errorf("left are %v", left)
	}
}

// A run that another experiment asks for is kept, with the database and without
// it (trial-reliability 9).
func TestRuns(t *testing.T) {
	root := t.TempDir()
	runs := project(t, root, false, "a/kept", "a/gone", "a/shared", "b/other")
	s, err := store.Open(t.Context(), root)
	check(t, err)
	shared := store.Label{Experiment: "b", Cell: "c", Seed: 2, Run: runs["a/shared"].ID}
	check(t, s.Enqueue(t.Context(), known(t, root), nil, []store.Label{shared}), s.Close())
	kept := runs["a/kept"]
	sp, err := kept.Spec()
	check(t, err)
	experiments := []*experiment.Experiment{{Name: "a", Runs: []*experiment.Run{{Experiment: "a", Cell: "kept", ID: kept.ID, Spec: sp}}}}
	for _, lost := range []bool{false, true} {
		if lost {
			check(t, os.Remove(filepath.Join(root, "runs", "loralab.db")))
		}
		items, err := Runs(known(t, root), experiments)
		check(t, err)
		if got := names(items); got != "a/gone/seed=1" {
			t.Errorf("database lost %v: found %s", lost, got)
		}
	}
	// What somebody asks for since it was looked at is left.
	items, err := Runs(known(t, root), experiments)
	check(t, err)
	s, err = store.Open(t.Context(), root)
	check(t, err)
	late := store.Label{Experiment: "late", Cell: "c", Seed: 1, Run: runs["a/gone"].ID}
	check(t, s.Enqueue(t.Context(), known(t, root), nil, []store.Label{late}), s.Close())
	if left := remove(t, root, items); len(left) != 1 || known(t, root).Runs[runs["a/gone"].ID] == nil {
		t.Errorf("left %v", left)
	}
}

// A paused run continues some day: it and its checkpoint are kept as long as an
// experiment asks for it.
func TestPausedRuns(t *testing.T) {
	root := t.TempDir()
	runs := project(t, root, false, "a/kept", "a/gone")
	s, err := store.Open(t.Context(), root)
	check(t, err)
	for _, run := range runs {
		last := filepath.Join(root, run.Dir, rundir.Last)
		check(t, os.Remove(filepath.Join(root, run.Dir, rundir.Result)), os.MkdirAll(filepath.Dir(last), 0o777),
			safetensors.Write(last, []safetensors.Tensor{safetensors.FromFloat32("w", []float32{1}, 1)}, map[string]string{"step": "9"}))
		check(t, s.Pause(t.Context(), run.ID, 9, &spec.Metrics{Dice: 0.5}))
	}
	check(t, s.Close())
	age(t, root)
	now := known(t, root)
	if run := now.Runs[runs["a/kept"].ID]; run.State != store.Paused || run.Checkpoint != 9 {
		t.Fatalf("%+v", run)
	}
	sp, err := runs["a/kept"].Spec()
	check(t, err)
	items, err := Runs(now, []*experiment.Experiment{{Name: "a", Runs: []*experiment.Run{{Experiment: "a", Cell: "kept", ID: runs["a/kept"].ID, Spec: sp}}}})
	check(t, err)
	left, err := Leftovers(now)
	check(t, err)
	if got := names(append(append(items, left...), Checkpoints(now, items)...)); got != "a/gone/seed=1" {
		t.Errorf("found %s", got)
	}
}

// Only what killed processes left is found, whatever directories there are
// (trial-reliability 7, 25), and nothing outside of the project is removed
// (trial-reliability 12).
func TestLeftovers(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	run := project(t, root, false, "e/c")["e/c"]
	mkdir := func(names ...string) {
		t.Helper()
		for _, name := range names {
			check(t, os.MkdirAll(filepath.Join(root, name), 0o777), os.WriteFile(filepath.Join(root, name, "file"), []byte("content"), 0o666))
		}
	}
	write := func(names ...string) {
		t.Helper()
		for _, name := range names {
			check(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o777), os.WriteFile(filepath.Join(root, name), []byte("content"), 0o666))
		}
	}
	link := func(to, name string) {
		t.Helper()
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o777), os.Symlink(to, filepath.Join(root, name)))
	}
	check(t, os.WriteFile(filepath.Join(outside, "file"), nil, 0o666))
	// Not ours, or in use.
	mkdir("runs/vit/rank/0123456789ab", "runs/vit/rank", "runs/0123456789ab/checkpoints", "runs/e/notes", "runs/e/"+strings.Repeat("z", 12), "report/e")
	write("runs/notes.txt", "report/e/report.md", "exports/run.tar.zst")
	mkdir("runs/.slurm/20990101-000000-aaaaaa/log")
	write("runs/.slurm/20990101-000000-aaaaaa/array.json", run.Dir+"/.notes.0123456789")
	link(outside, "runs/e/aaaaaaaaaaaa")
	link(outside, "runs/away")
	link("../../"+run.Dir+"/metrics.jsonl", "logs/e/c-seed0-00000000.jsonl")
	link("/nowhere/file", "logs/e/mine")
	write("report/e/.table.md.tmp-0", "exports/.in-use.tmp-0/lock")
	held := func(name string) {
		f, err := os.Open(filepath.Join(root, name))
		check(t, err, unix.Flock(int(f.Fd()), unix.LOCK_EX))
		t.Cleanup(func() { f.Close() })
	}
	held("report/e/.table.md.tmp-0")
	held("exports/.in-use.tmp-0/lock")
	// Left behind.
	mkdir("runs/e/0123456789ab", "runs/.trash-0123456789ab-0/checkpoints", "runs/.import-0123456789ab/0123456789ab")
	write(run.Dir+"/.result.json.tmp-0", "report/e/.report.md.tmp-0", "plots/e/.figure.png.tmp-1", "exports/.out.tmp-0/lock", "exports/.out.tmp-0/new/model.safetensors")
	link("../../runs/e/ffffffffffff/metrics.jsonl", "logs/e/gone-seed0-ffffffff.jsonl")
	link(outside, "report/e/.link.tmp-2")
	write("runs/.slurm/20990101-000000-bbbbbb/ended", run.Dir+"/generations/.0001.claim.0123456789abcdef", run.Dir+"/checkpoints/.last.safetensors.0123456789abcdef")
	age(t, root)
	want := strings.Fields(`exports/.out.tmp-0 logs/e/gone-seed0-ffffffff.jsonl plots/e/.figure.png.tmp-1
		report/e/.link.tmp-2 report/e/.report.md.tmp-0 runs/.import-0123456789ab runs/.trash-0123456789ab-0
		` + run.Dir + `/.result.json.tmp-0 runs/e/0123456789ab runs/.slurm/20990101-000000-bbbbbb
		` + run.Dir + `/generations/.0001.claim.0123456789abcdef ` + run.Dir + `/checkpoints/.last.safetensors.0123456789abcdef`)
	items, err := Leftovers(known(t, root))
	check(t, err)
	got := map[string]bool{}
	for _, i := range items {
		got[i.Name] = true
	}
	for _, name := range want {
		if !got[name] {
			t.Errorf("%s is not found", name)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s is found", name)
	}
	remove(t, root, items)
	if items, err = Leftovers(known(t, root)); err != nil || len(items) > 0 {
		t.Errorf("after removing there are %s, %v", names(items), err)
	}
	for _, name := range []string{"runs/vit/rank/0123456789ab/file", "runs/0123456789ab/checkpoints/file", run.Dir + "/result.json", "report/e/.table.md.tmp-0"} {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(outside, "file")); err != nil {
		t.Error(err)
	}
}
