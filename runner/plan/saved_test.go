package plan

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/store"
)

func TestSavedPlan(t *testing.T) {
	a, b := run("e", "a", 1, 3, "test"), run("e", "b", 1, 3, "test")
	longer := run("e", "b", 1, 4, "test")
	longer.Spec.Head = b.Spec.Head
	scored := run("e", "b", 1, 3, "test", "far")
	planned := func(known *store.Snapshot, runs ...*experiment.Run) *Plan {
		t.Helper()
		p, err := Make(experiments(runs...), known, Selection{})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	nothing := snapshot()
	ask := Ask{Root: "/p", Files: []string{"/p/e.cue"}, Tags: []string{"scale=smoke"}, Target: []string{"*"}}
	file := filepath.Join(t.TempDir(), "x.plan")
	if err := planned(nothing, a, b).Write(file, ask); err != nil {
		t.Fatal(err)
	}
	if !IsSaved(file) {
		t.Error("it is not recognised")
	}
	saved, err := ReadSaved(file)
	if err != nil {
		t.Fatal(err)
	}
	if saved.Ask.Root != ask.Root || !slices.Equal(saved.Ask.Files, ask.Files) || !slices.Equal(saved.Ask.Tags, ask.Tags) || !slices.Equal(saved.Selection().Target, ask.Target) {
		t.Errorf("%+v", saved.Ask)
	}
	half := snapshot(stored(t, b, store.Stopped, 7, false))
	trained := snapshot(stored(t, b, store.Stopped, 7, true))
	done := snapshot(stored(t, b, store.Done, 7, true, "test"))
	for name, c := range map[string]struct {
		now   *Plan
		moved []string
	}{
		"nothing moved":   {planned(nothing, a, b), nil},
		"another order":   {planned(nothing, b, a), nil},
		"a field":         {planned(nothing, a, longer), []string{"e/b/seed=1: train.epochs moved from 3 to 4"}},
		"a cell is gone":  {planned(nothing, b), []string{"e/a/seed=1: no file asks for it any more"}},
		"a cell is new":   {planned(nothing, a, b, run("e", "c", 1, 3)), []string{"e/c/seed=1: not in the saved plan"}},
		"another domain":  {planned(nothing, a, scored), []string{"e/b/seed=1: was to be scored on 1 domain, now on test, far"}},
		"begun meanwhile": {planned(half, a, b), []string{"e/b/seed=1: stood at step 0, now at step 7"}},
		"trained":         {planned(trained, a, b), []string{"e/b/seed=1: was trained meanwhile"}},
		"done":            {planned(done, a, b), []string{"e/b/seed=1: was done meanwhile"}},
	} {
		err := saved.Holds(c.now)
		var drift *DriftError
		if errors.As(err, &drift) != (c.moved != nil) || drift != nil && !slices.Equal(drift.Moved, c.moved) {
			t.Errorf("%s: %v, want %v", name, err, c.moved)
		}
	}
}

func TestSavedPlanThatIsNone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "e.cue")
	if err := os.WriteFile(file, []byte("package experiments\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if IsSaved(file) || IsSaved(filepath.Join(dir, "missing")) || IsSaved(dir) {
		t.Error("it is taken for a saved plan")
	}
	if _, err := ReadSaved(file); err == nil {
		t.Error("no error")
	}
	newer := filepath.Join(dir, "x.plan")
	if err := (&Plan{}).Write(newer, Ask{Root: "/p", Files: []string{"/p/e.cue"}}); err != nil {
		t.Fatal(err)
	}
	if s, err := ReadSaved(newer); err != nil || s.Holds(&Plan{}) != nil {
		t.Errorf("an empty plan: %v", err)
	}
}

// A plan with any bit flipped, cut, or with more behind it is refused
// (trial-reliability 30), and so is one that holds more than it may.
func TestDamagedPlan(t *testing.T) {
	p, err := Make(experiments(run("e", "a", 1, 3, "test")), snapshot(), Selection{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "x.plan")
	if err := p.Write(file, Ask{Root: "/p", Files: []string{"/p/e.cue"}}); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseSaved(whole); err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		for bit := range 8 {
			damaged := bytes.Clone(whole)
			damaged[i] ^= 1 << bit
			if _, err := parseSaved(damaged); err == nil {
				t.Fatalf("bit %d of byte %d of %d is flipped, and the plan is read", bit, i, len(whole))
			}
		}
		if _, err := parseSaved(whole[:i]); err == nil {
			t.Fatalf("it is cut to %d bytes of %d, and read", i, len(whole))
		}
	}
	if _, err := parseSaved(append(bytes.Clone(whole), 0)); err == nil {
		t.Error("it has a byte more, and is read")
	}
	if err := os.WriteFile(file, whole[:len(whole)-1], 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSaved(file); err == nil || !strings.Contains(err.Error(), "x.plan: the file is damaged, or was written by another version of runner: plan again") {
		t.Errorf("error %v", err)
	}
	for text, want := range map[string]string{
		`{"format": 1}`:                                            "format 1",
		`{"format": 2, "ask": {"root": "/p"}}`:                     "names no file",
		`{"format": 2, "ask": {"root": "/p", "files": ["e.cue"]}}`: "no absolute path",
		`{"format": 2, "ask": {"root": "/p", "files": ["/e.cue"]}, "actions": [{"name": "a"}, {"name": "a"}]}`:            "two actions",
		`{"format": 2, "ask": {"root": "/p", "files": ["/e.cue"]}, "actions": [{"name": "a", "spec": {}}]} {"format": 2}`: "after top-level value",
	} {
		if _, err := parseSaved(pack(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if fifo := filepath.Join(t.TempDir(), "fifo"); unix.Mkfifo(fifo, 0o666) == nil && IsSaved(fifo) {
		t.Error("a pipe is taken for a plan")
	}
}

// pack makes a saved plan of a text.
func pack(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return seal(b.Bytes())
}

// Whatever a saved plan says, reading it and holding it against another plan is an
// error or an answer.
func FuzzSaved(f *testing.F) {
	p, err := Make(experiments(run("e", "a", 1, 3, "test"), run("e", "b", 1, 3)), snapshot(), Selection{})
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{
		`{"format": 2, "ask": {"root": "/p", "files": ["/p/e.cue"]}, "actions": []}`,
		`{"format": 2, "ask": {"root": "/p", "files": ["/p/e.cue"], "dev_plugins": ["lora=x"]}, "actions": [{"name": "e/a/seed=1", "id": "0", "symbol": 43, "train": true, "spec": {"seed": "1"}}]}`,
		`{"format": 2, "ask": {"root": "/p", "files": ["/p/e.cue"]}, "actions": [{"name": "e/b/seed=1", "id": "0", "symbol": -1, "step": 7, "evaluations": ["x"], "spec": {"head": {"kind": "conv"}, "train": null}}]}`,
		`{"format": 2, "ask": {"root": "/p", "files": ["/p/e.cue"]}, "actions": [{"name": "e/b/seed=1", "spec": "no object"}]}`,
	} {
		f.Add([]byte(text), false)
	}
	f.Add(pack(f, `{"format": 2}`), true)
	f.Fuzz(func(t *testing.T, b []byte, raw bool) {
		if !raw {
			b = pack(t, string(b))
		}
		s, err := parseSaved(b)
		if err != nil {
			return
		}
		_, _ = s.Holds(p), s.Selection()
	})
}
