package claim

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
)

func runAt(t testing.TB) (*os.Root, string) {
	t.Helper()
	dir := t.TempDir()
	run, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { run.Close() })
	return run, dir
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Of many that claim one generation, or end it, one wins, and all see the same one.
func TestOneWins(t *testing.T) {
	run, _ := runAt(t)
	for g := 1; g <= 20; g++ {
		before := must(Read(run))(t)
		if before.Generation != g-1 || before.Open() {
			t.Fatalf("before generation %d: %+v", g, before)
		}
		var claims, ends atomic.Int32
		var winner, ender atomic.Value
		var wg sync.WaitGroup
		for w := range 32 {
			wg.Go(func() {
				nonce := fmt.Sprint(g, "-", w)
				_, won, err := Take(run, before, Worker{Array: "a", Element: w, Nonce: nonce})
				if err != nil {
					t.Error(err)
				}
				if won {
					claims.Add(1)
					winner.Store(nonce)
				}
			})
		}
		wg.Wait()
		s := must(Read(run))(t)
		if claims.Load() != 1 || s.Worker.Nonce != winner.Load() || !s.Open() || !s.Cluster() {
			t.Fatalf("%d won generation %d, %v; it is %+v", claims.Load(), g, winner.Load(), s)
		}
		for w := range 32 {
			wg.Go(func() {
				by := fmt.Sprint(w)
				e, won, err := Finish(run, g, End{How: Stopped, By: by})
				if err != nil || !won && e.By == by {
					t.Error(e, won, err)
				}
				if won {
					ends.Add(1)
					ender.Store(by)
				}
			})
		}
		wg.Wait()
		if s = must(Read(run))(t); ends.Load() != 1 || s.End == nil || s.End.By != ender.Load() {
			t.Fatalf("%d ended generation %d: %+v", ends.Load(), g, s.End)
		}
	}
	names := must(list(run))(t)
	for _, name := range names {
		if strings.HasPrefix(name, ".") {
			t.Errorf("a temporary file is left: %s", name)
		}
	}
	if len(names) != 40 {
		t.Errorf("%d files of 20 generations: %q", len(names), names)
	}
}

// A generation that is known already cannot be claimed by one who does not see it.
func TestStaleListing(t *testing.T) {
	run, _ := runAt(t)
	old := must(Read(run))(t)
	for range 3 {
		s := must(Read(run))(t)
		if s, won, err := Take(run, s, Worker{Nonce: "fresh"}); err != nil || !won {
			t.Fatal(s, won, err)
		}
		must(Read(run))(t)
		if _, won, err := Finish(run, s.Generation+1, End{How: Broken}); err != nil || !won {
			t.Fatal(won, err)
		}
	}
	for g := range 3 {
		if _, won, err := Take(run, State{Generation: old.Generation + g}, Worker{Nonce: "stale"}); won || err != nil {
			t.Errorf("a stale worker claims generation %d again: %v", g+1, err)
		}
	}
}

// write makes the files of a run at a step, with marks to know them by.
func write(t testing.TB, dir, mark string, step int, done bool) {
	t.Helper()
	for _, sub := range []string{"checkpoints", "evaluations", "samples"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{rundir.Last, rundir.Best} {
		meta, err := rundir.Progress{ID: mark, Step: step}.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		if err := safetensors.Write(filepath.Join(dir, name), nil, meta); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]string{rundir.Journal: mark, rundir.Environment: mark, "evaluations/" + mark + ".json": mark}
	if done {
		files[rundir.Result] = mark
	}
	for name, text := range files {
		temp := filepath.Join(dir, name) + ".new"
		if err := os.WriteFile(temp, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temp, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func text(t testing.TB, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		return ""
	}
	return string(b)
}

// A generation begins with what the newest place has, and what it writes reaches the run
// directory when it is published, and not before.
func TestGenerationsContinueEachOther(t *testing.T) {
	run, dir := runAt(t)
	write(t, dir, "local", 10, false)
	gen := func(g int) string { return filepath.Join(dir, Name(g)) }
	if err := Seed(run, 1); err != nil {
		t.Fatal(err)
	}
	if got := text(t, gen(1), rundir.Journal); got != "local" {
		t.Fatalf("generation 1 begins with the journal of %q", got)
	}
	write(t, gen(1), "first", 20, false)
	if err := Seed(run, 2); err != nil {
		t.Fatal(err)
	}
	// The first generation continues, as one does that does not know it is over.
	write(t, gen(1), "zombie", 30, false)
	f, err := os.OpenFile(filepath.Join(gen(1), rundir.Journal), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, " continues")
	f.Close()
	if got := text(t, gen(2), rundir.Journal); got != "first" {
		t.Errorf("generation 2 has the journal %q", got)
	}
	if step := must(stepAt(run, Name(2)+"/"+rundir.Last))(t); step != 20 {
		t.Errorf("generation 2 continues at step %d", step)
	}
	if got := text(t, dir, rundir.Journal); got != "local" {
		t.Errorf("the run directory has the journal of %q before anything is published", got)
	}
	write(t, gen(2), "second", 40, true)
	if _, _, err := Finish(run, 1, End{How: Broken, By: "test"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Finish(run, 2, End{How: Done}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Publish(run); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{rundir.Result: "second", rundir.Journal: "second", "evaluations/local.json": "local", "evaluations/second.json": "second"} {
		if got := text(t, dir, name); got != want {
			t.Errorf("%s is of %q, want %q", name, got, want)
		}
	}
	write(t, gen(1), "zombie", 50, true) // wakes when all is over
	if err := Publish(run); err != nil {
		t.Fatal(err)
	}
	if got := text(t, dir, rundir.Result); got != "second" {
		t.Errorf("an old generation changed the result to that of %q", got)
	}
	if err := Remove(run); err != nil {
		t.Fatal(err)
	}
	if err := Publish(run); err != nil {
		t.Fatal(err)
	}
	if got := text(t, dir, rundir.Result); got != "second" {
		t.Errorf("after its generation was removed, the result is %q", got)
	}
	if step := must(stepAt(run, rundir.Last))(t); step != 40 {
		t.Errorf("the checkpoint is of step %d", step)
	}
}
