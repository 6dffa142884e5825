package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

// One file that cannot be read is one damaged run: everything else works, and
// the run can be removed (trial-reliability 15).
func TestDamage(t *testing.T) {
	garbage := func(path string) error { return os.WriteFile(path, []byte(`{"id": "`), 0o666) }
	edit := func(old, now string) func(path string) error {
		return func(path string) error {
			text, err := os.ReadFile(path)
			if err == nil && bytes.Count(text, []byte(old)) != 1 {
				err = fmt.Errorf("%s has not one %s", path, old)
			}
			return errors.Join(err, os.WriteFile(path, bytes.Replace(text, []byte(old), []byte(now), 1), 0o666))
		}
	}
	for name, c := range map[string]struct {
		run, file string
		damage    func(path string) error
		again     bool // the next apply makes it again
	}{
		"result":                {"done", "result.json", garbage, false},
		"result of another run": {"done", "result.json", func(path string) error { return os.WriteFile(path, []byte(`{"id": "00"}`), 0o666) }, false},
		"result is a directory": {"done", "result.json", func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o777)) }, false},
		"result is a pipe":      {"done", "result.json", func(path string) error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o666)) }, false},
		"result is a link":      {"done", "result.json", func(path string) error { return errors.Join(os.Remove(path), os.Symlink("/etc/passwd", path)) }, false},
		"evaluation":            {"done", "evaluations/aaaaaaaaaaaa.json", garbage, true},
		"evaluation of a run":   {"done", "evaluations/aaaaaaaaaaaa.json", edit(`"id":`, `"run": "0123456789ab", "id":`), true},
		"another's evaluation":  {"done", "evaluations/aaaaaaaaaaaa.json", func(path string) error { return os.WriteFile(path, []byte(`{"id": "bb"}`), 0o666) }, true},
		"checkpoint":            {"stopped", "checkpoints/last.safetensors", garbage, true},
		"checkpoint is a pipe":  {"stopped", "checkpoints/last.safetensors", func(path string) error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o666)) }, true},
		"result is lost":        {"done", "result.json", os.Remove, true},
		"checkpoint is lost":    {"stopped", "checkpoints/last.safetensors", os.Remove, true},
		"checkpoints elsewhere": {"stopped", "checkpoints", func(path string) error {
			return errors.Join(os.RemoveAll(path), os.Symlink("../elsewhere/checkpoints", path))
		}, false},
		"samples are a file":        {"done", "samples", garbage, false},
		"seed of a name":            {"done", "record.json", edit(`"seed": 3,`, `"seed": 2,`), true},
		"specification of a record": {"done", "record.json", edit(`"kind":"done"`, `"kind":"other"`), true},
		"record":                    {"done", "record.json", garbage, true},
		"record of a queued run":    {"queued", "record.json", garbage, true},
		"record and request": {"done", "record.json", func(path string) error {
			return errors.Join(garbage(path), garbage(filepath.Join(filepath.Dir(path), "request.json")))
		}, false},
	} {
		for _, lost := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				root := awkward(t)
				ctx := t.Context()
				runs := ofAllKinds(t, root)
				run := runs[c.run]
				if lost {
					check(t, os.Remove(databasePath(root)))
				}
				// The index knows what the record said.
				again := c.again || !lost && name == "record and request"
				check(t, c.damage(filepath.Join(root, filepath.FromSlash(run.Dir), filepath.FromSlash(c.file))))
				known := must[*Snapshot](t)(Read(ctx, root))
				if len(known.Runs) != 6 {
					t.Fatalf("there are %d runs", len(known.Runs))
				}
				if r := known.Run(run.ID); r.State == Done && r.Summary == nil {
					t.Error("a run without a result is done")
				}
				for _, other := range runs {
					if r := known.Runs[other.ID]; other != run && (r == nil || r.Damage != nil) {
						t.Errorf("another run: %+v", r)
					}
				}
				got := known.Run(run.ID)
				if got == nil || got.Damage == nil || got.Damage.File != run.Dir+"/"+c.file || got.Damage.Again != again {
					t.Fatalf("the damaged run: %+v, %+v", got, got.Damage)
				}
				if !strings.Contains(got.Cure(), "runner rm "+run.ID[:12]) {
					t.Errorf("the cure is %q", got.Cure())
				}
				if found, err := known.Find(run.ID[:12]); err != nil || found.ID != got.ID {
					t.Errorf("it is not found by its identity: %v", err)
				}
				s := open1(t, root)
				known = must[*Snapshot](t)(s.Reconcile(ctx))
				check(t, s.Remove(ctx, []*Run{known.Run(run.ID)}))
				known = must[*Snapshot](t)(s.Reconcile(ctx))
				if len(known.Runs) != 5 || known.Run(run.ID) != nil {
					t.Errorf("after it was removed there are %d runs", len(known.Runs))
				}
			})
		}
	}
}

// Checkpoints that do not belong together are not continued from, and a pair that a
// process was about to put in place is.
func TestCheckpointsBelongTogether(t *testing.T) {
	write := func(dir, name, best string) string {
		path := rundir.Dir(dir).Path(name)
		check(t, os.MkdirAll(filepath.Dir(path), 0o777))
		meta := map[string]string{"step": "48", "best_metrics": "{}"}
		if best != "" {
			meta["best_metrics"], meta["best_sha256"] = `{"loss":1}`, best
		}
		return must[string](t)(safetensors.WriteSealed(path, []safetensors.Tensor{safetensors.FromFloat32(name+best, []float32{1}, 1)}, meta))
	}
	for name, c := range map[string]struct {
		leave func(dir string)
		begun bool
		file  string // "": it continues
	}{
		"none":                {func(string) {}, false, ""},
		"none of a run begun": {func(string) {}, true, rundir.Last},
		"before a validation": {func(dir string) { write(dir, rundir.Last, "") }, true, ""},
		"both":                {func(dir string) { write(dir, rundir.Last, write(dir, rundir.Best, "")) }, true, ""},
		"best waits": {func(dir string) {
			write(dir, rundir.Best, "")
			write(dir, rundir.Last, write(dir, rundir.NextBest, ""))
		}, true, ""},
		"best alone":           {func(dir string) { write(dir, rundir.Best, "") }, false, rundir.Last},
		"best is lost":         {func(dir string) { write(dir, rundir.Last, "00") }, true, rundir.Best},
		"best is another":      {func(dir string) { write(dir, rundir.Best, ""); write(dir, rundir.Last, "00") }, true, rundir.Best},
		"best is no such file": {func(dir string) { write(dir, rundir.Last, "00"); write(dir, rundir.Best+"/x", "") }, true, rundir.Best},
	} {
		dir := t.TempDir()
		c.leave(dir)
		at := must[*os.Root](t)(os.OpenRoot(dir))
		last, file, err := resumable(at, c.begun)
		_, there := os.Stat(rundir.Dir(dir).Path(rundir.Last))
		if file != c.file || (err != nil) != (c.file != "") || (last.step == 48) != (err == nil && there == nil) {
			t.Errorf("%s: step %d, %s: %v", name, last.step, file, err)
		}
		check(t, at.Close())
	}
}

// A runner that is killed before it records how many steps a run takes leaves them in
// the checkpoint.
func TestStepsOfACheckpoint(t *testing.T) {
	root, ctx := t.TempDir(), t.Context()
	run, label := newRun(t, "e", "c", 1)
	s := open1(t, root)
	check(t, s.Enqueue(ctx, nil, []*Run{run}, []Label{label}, &Asked{Experiment: "e", Runs: []Wanted{{Label: label}}}))
	check(t, s.Start(ctx, run.ID))
	path := filepath.Join(root, filepath.FromSlash(run.Dir), rundir.Last)
	check(t, os.MkdirAll(filepath.Dir(path), 0o777))
	check(t, safetensors.Write(path, []safetensors.Tensor{safetensors.FromFloat32("w", []float32{1}, 1)}, map[string]string{"step": "2", "steps": "6"}))
	if r := must[*Snapshot](t)(Read(ctx, root)).Runs[run.ID]; r.Checkpoint != 2 || r.Steps != 6 {
		t.Errorf("checkpoint after step %d of %d; want 2 of 6", r.Checkpoint, r.Steps)
	}
}

// A project that is moved while a process works in it keeps its runs: what that
// process could not find is no damage.
func TestMovedProject(t *testing.T) {
	parent := awkward(t)
	root, moved := filepath.Join(parent, "project"), filepath.Join(parent, "moved")
	ctx := t.Context()
	check(t, os.MkdirAll(root, 0o777))
	run := ofAllKinds(t, root)["stopped"]
	s := open1(t, root)
	check(t, s.Start(ctx, run.ID))
	check(t, os.Rename(root, moved))
	check(t, s.Fail(ctx, run.ID, 48, "the directory was removed"))
	if r := must[*Snapshot](t)(Read(ctx, moved)).Runs[run.ID]; r.Damage != nil || r.Checkpoint != 48 || r.State != Failed {
		t.Errorf("it is at step %d, %s, %v", r.Checkpoint, r.State, r.Damage)
	}
}

// Without its request a run is what its record says.
func TestWorkFromTheRecord(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"lost":    os.Remove,
		"garbage": func(path string) error { return os.WriteFile(path, []byte("{"), 0o666) },
		"edited": func(path string) error {
			return os.WriteFile(path, []byte(`{"id": "`+strings.Repeat("00", 32)+`"}`), 0o666)
		},
	} {
		root := awkward(t)
		run := ofAllKinds(t, root)["done"]
		want := request(t, run)
		check(t, damage(filepath.Join(root, filepath.FromSlash(run.Dir), rundir.Request)))
		known := must[*Snapshot](t)(Read(t.Context(), root)).Runs[run.ID]
		if got, err := known.Request(root); err == nil || strings.Contains(err.Error(), "statat") {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if got, err := known.Work(root); err != nil || !proto.Equal(got, want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if name != "lost" {
			check(t, os.Remove(filepath.Join(root, filepath.FromSlash(run.Dir), rundir.Request)))
		}
		check(t, known.Repair(root))
		if got, err := known.Request(root); err != nil || !proto.Equal(got, want) {
			t.Errorf("%s, repaired: %v, %v", name, got, err)
		}
		check(t, damage(filepath.Join(root, filepath.FromSlash(run.Dir), rundir.Request)))
		check(t, os.Remove(filepath.Join(root, filepath.FromSlash(run.Dir), rundir.Record)))
		if got, err := known.Work(root); err == nil || !strings.Contains(err.Error(), "runner rm") {
			t.Errorf("%s, without a record: %v, %v", name, got, err)
		}
	}
}

// A record that was damaged is written again with all names that are known.
func TestRecordIsWrittenAgain(t *testing.T) {
	root := awkward(t)
	ctx := t.Context()
	run := ofAllKinds(t, root)["shared"]
	path := filepath.Join(root, filepath.FromSlash(run.Dir), rundir.Record)
	check(t, os.Truncate(path, 20))
	s := open1(t, root)
	known := must[*Snapshot](t)(s.Reconcile(ctx))
	if len(known.Notes) != 1 || !strings.Contains(known.Notes[0], run.Dir+"/record.json was written again") {
		t.Errorf("nothing is said of it: %v", known.Notes)
	}
	known = must[*Snapshot](t)(Read(ctx, root))
	if r := known.Runs[run.ID]; r.Damage != nil || len(known.Names(run.ID)) != 3 || r.State != Done || len(known.Notes) != 0 {
		t.Errorf("%+v, names %v, notes %v", r, known.Names(run.ID), known.Notes)
	}
}

// A run whose directory is removed while it is worked on ends by itself, and a
// record that is damaged then stops nothing else.
func TestRunRemovedMeanwhile(t *testing.T) {
	root := awkward(t)
	ctx := t.Context()
	s := open1(t, root)
	runs := ofAllKinds(t, root)
	known := must[*Snapshot](t)(s.Reconcile(ctx))
	gone, damaged := known.Runs[runs["queued"].ID], known.Runs[runs["stopped"].ID]
	check(t, os.RemoveAll(filepath.Join(root, filepath.FromSlash(gone.Dir))))
	check(t, os.WriteFile(filepath.Join(root, filepath.FromSlash(damaged.Dir), rundir.Record), nil, 0o666))
	if _, err := s.Claim(ctx, gone.ID); !errors.Is(err, ErrRemoved) {
		t.Errorf("claiming a run that was removed: %v", err)
	}
	if err := s.Fail(ctx, damaged.ID, 0, "no luck"); !errors.Is(err, ErrDamaged) {
		t.Errorf("recording in a damaged record: %v", err)
	}
}

// Links below runs/ lead nowhere, while runs/ itself may be one
// (trial-reliability 8, 12).
func TestLinksBelowRuns(t *testing.T) {
	root, elsewhere, scratch := awkward(t), awkward(t), t.TempDir()
	ctx := t.Context()
	check(t, os.Symlink(scratch, filepath.Join(root, "runs")))
	runs := ofAllKinds(t, root)
	want := said(t, must[*Snapshot](t)(Read(ctx, root)))
	if _, err := os.Stat(filepath.Join(scratch, "first")); err != nil {
		t.Errorf("runs/ does not lead to the scratch disk: %v", err)
	}
	ofAllKinds(t, elsewhere)
	check(t, os.Symlink(filepath.Join(elsewhere, "runs", "first"), filepath.Join(scratch, "linked")))
	check(t, os.Symlink(filepath.Join(elsewhere, "runs", "first", rundir.Short(runs["done"].ID)), filepath.Join(scratch, "first", "0123456789ab")))
	known := must[*Snapshot](t)(Read(ctx, root))
	if len(known.Notes) != 1 || !strings.Contains(known.Notes[0], "runs/linked is a link and is left out") {
		t.Errorf("notes: %v", known.Notes)
	}
	linked := known.Run("0123456789ab")
	if linked == nil || linked.Damage == nil || linked.Damage.Again {
		t.Fatalf("a run that is a link: %+v", linked)
	}
	check(t, open1(t, root).Remove(ctx, []*Run{linked}))
	known = must[*Snapshot](t)(Read(ctx, root))
	known.Notes = nil
	if got := said(t, known); got != want {
		t.Errorf("with links it says:\n%s\nbefore:\n%s", got, want)
	}
	// The database is not written through a link.
	foreign := filepath.Join(elsewhere, "foreign.db")
	oldDatabase(t, elsewhere+"-2", oldRow{run: runs["done"], dir: runs["done"].Dir})
	check(t, os.Rename(databasePath(elsewhere+"-2"), foreign), os.Remove(databasePath(root)), os.Symlink(foreign, databasePath(root)))
	before := must[[]byte](t)(os.ReadFile(foreign))
	known = must[*Snapshot](t)(open1(t, root).Reconcile(ctx))
	known.Notes = nil
	if got := said(t, known); got != want {
		t.Errorf("with a database that is a link it says:\n%s\nbefore:\n%s", got, want)
	}
	if after := must[[]byte](t)(os.ReadFile(foreign)); !bytes.Equal(after, before) {
		t.Error("a database was written through a link")
	}
	// A directory of workers that leads elsewhere is not written.
	check(t, os.RemoveAll(filepath.Join(scratch, workers)), os.Symlink(elsewhere, filepath.Join(scratch, workers)))
	if _, err := LockProject(root, "test"); err == nil {
		t.Error("a lock was written through a link")
	}
	// A run directory that becomes a link is not removed with what it leads to.
	run := known.Runs[runs["done"].ID]
	dir := filepath.Join(root, filepath.FromSlash(run.Dir))
	target := filepath.Join(elsewhere, "runs", "first", rundir.Short(run.ID))
	check(t, os.Remove(filepath.Join(scratch, workers)), os.RemoveAll(dir), os.Symlink(target, dir))
	check(t, open1(t, root).Remove(ctx, []*Run{run}))
	if _, err := os.Stat(filepath.Join(target, "result.json")); err != nil {
		t.Errorf("what a link led to was removed: %v", err)
	}
}

// Links to logs lie below logs/ and nowhere else, whatever the names are.
func TestLinkLogs(t *testing.T) {
	root, outside := awkward(t), t.TempDir()
	run, _ := newRun(t, "e", "c", 1)
	dirs := map[string]string{run.ID: run.Dir}
	long := Label{Experiment: "e", Cell: strings.Repeat(`augment=[{"kind":"flip"}],`, 20), Seed: 1, Run: run.ID}
	twin := long
	twin.Cell += "x"
	check(t, LinkLogs(root, []Label{long, twin}, dirs)) // trial-language C3
	check(t, os.MkdirAll(filepath.Join(root, filepath.FromSlash(run.Dir)), 0o777))
	check(t, os.WriteFile(filepath.Join(root, filepath.FromSlash(run.Dir), rundir.Journal), []byte("steps"), 0o666))
	links := must[[]os.DirEntry](t)(os.ReadDir(filepath.Join(root, "logs", "e")))
	if len(links) != 2 {
		t.Errorf("there are %v", links)
	}
	for _, l := range links {
		if text, err := os.ReadFile(filepath.Join(root, "logs", "e", l.Name())); string(text) != "steps" {
			t.Errorf("%s leads to %q, %v", l.Name(), text, err)
		}
	}
	check(t, unlinkLogs(root, run.ID, []Label{long}), unlinkLogs(root, run.ID, nil))
	if _, err := os.Stat(filepath.Join(root, "logs", "e")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("links are left")
	}
	check(t, os.Symlink(outside, filepath.Join(root, "logs", "away")))
	for _, experiment := range []string{"away", "../away", "../../x"} {
		if err := LinkLogs(root, []Label{{Experiment: experiment, Cell: "c", Run: run.ID}}, dirs); err == nil {
			t.Errorf("a link was made in %s", experiment)
		}
	}
	if left := must[[]os.DirEntry](t)(os.ReadDir(outside)); len(left) > 0 {
		t.Errorf("outside there are %v", left)
	}
	// logs/ itself may lead elsewhere; the links still find the journals.
	check(t, os.RemoveAll(filepath.Join(root, "logs")), os.Symlink(outside, filepath.Join(root, "logs")))
	check(t, LinkLogs(root, []Label{{Experiment: "e", Cell: "c", Run: run.ID}}, dirs))
	found, _ := filepath.Glob(filepath.Join(outside, "e", "*"))
	if len(found) != 1 {
		t.Fatalf("there are %v", found)
	}
	if text, err := os.ReadFile(found[0]); string(text) != "steps" {
		t.Errorf("it leads to %q, %v", text, err)
	}
}

// readOnly is the environment variable that makes TestReadOnlyProject look at a
// project as another user.
const readOnly = "LORALAB_TEST_READ_ONLY"

// A project that may not be written says what it says to its owner
// (trial-language C5, trial-reliability 22): with and without what a killed
// process has written ahead, of this version and of an older one.
func TestReadOnlyProject(t *testing.T) {
	if root := os.Getenv(readOnly); root != "" {
		if err := os.WriteFile(filepath.Join(root, "runs", "file"), nil, 0o666); err == nil {
			t.Fatal("the project can be written")
		}
		t.Log("said: " + said(t, must[*Snapshot](t)(Read(t.Context(), root))))
		return
	}
	for name, make := range map[string]func(root string){
		"closed": func(root string) { ofAllKinds(t, root) },
		"killed": func(root string) {
			s := open1(t, root) // keeps what is written ahead from being written back
			ofAllKinds(t, root)
			must[*Snapshot](t)(s.Reconcile(t.Context()))
		},
		"without a database": func(root string) {
			ofAllKinds(t, root)
			check(t, os.Remove(databasePath(root)))
		},
		"of an older version": func(root string) {
			done, label := newRun(t, "first", "done", 1)
			shared := label
			shared.Experiment = "second"
			leave(t, root, done, "request.json", request(t, done))
			leave(t, root, done, "result.json", &spec.Summary{Id: done.ID, Steps: 72})
			oldDatabase(t, root, oldRow{done, Done, done.Dir, 3, "", 1000, 2000, []Label{label, shared}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := must[string](t)(os.MkdirTemp("", "loralab-read-only-"))
			t.Cleanup(func() {
				_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, _ error) error { return os.Chmod(path, 0o755) })
				_ = os.RemoveAll(root)
			})
			make(root)
			want := said(t, must[*Snapshot](t)(Read(t.Context(), root)))
			check(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				mode := fs.FileMode(0o444)
				if err == nil && d.IsDir() {
					mode = 0o555
				}
				return errors.Join(err, os.Chmod(path, mode))
			}))
			// Modes do not keep the superuser off, so another user looks. This
			// binary may lie where only its owner finds it.
			c := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestReadOnlyProject$", "-test.v")
			c.Env = append(os.Environ(), readOnly+"="+root, "TMPDIR="+os.TempDir())
			c.Dir = "/"
			if os.Geteuid() == 0 {
				c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			}
			out, err := c.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			_, got, _ := strings.Cut(string(out), "said: ")
			got = strings.ReplaceAll(got, "\n        ", "\n")
			got, _, _ = strings.Cut(got, "--- PASS")
			if strings.TrimSpace(got) != strings.TrimSpace(want) {
				t.Errorf("another user reads:\n%s\nthe owner:\n%s", got, want)
			}
		})
	}
}
