package launch

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/store"
)

// A worker writes files of run directories and no database; a store that is opened
// later knows all that it did.
func TestWorkersNeedNoDatabase(t *testing.T) {
	ctx, root := t.Context(), t.TempDir()
	runs, err := store.Open(ctx, root)
	if err != nil {
		t.Fatal(err)
	}
	jobs := []*Job{enqueued(t, runs, root, 1), enqueued(t, runs, root, 2), enqueued(t, runs, root, 3)}
	if err := runs.Close(); err != nil {
		t.Fatal(err)
	}
	database, err := filepath.Glob(filepath.Join(root, "runs", "loralab.db*"))
	if err != nil || len(database) == 0 {
		t.Fatalf("database %q, %v", database, err)
	}
	for _, name := range database {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}

	records, err := store.OpenRecords(root)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := store.JoinProject(ctx, root, "worker")
	if err != nil {
		t.Fatal(err)
	}
	records.As(lock)
	jobs[1].Pause = &spec.Pause{Step: 4}
	// The third cannot be worked on.
	if err := os.Mkdir(rundir.Dir(jobs[2].Dir).Path(rundir.Log), 0o777); err != nil {
		t.Fatal(err)
	}
	local := &Local{Engine: pausingEnginePath(t), Records: records, Watch: func(Event) {}}
	if totals, err := local.Run(ctx, jobs); err != nil || totals != (Totals{Finished: 1, Paused: 1, Failed: 1}) {
		t.Fatalf("%+v, %v", totals, err)
	}
	if err := errors.Join(records.Close(), lock.Release()); err != nil {
		t.Fatal(err)
	}
	if made, _ := filepath.Glob(filepath.Join(root, "runs", "loralab.db*")); len(made) > 0 {
		t.Errorf("the worker made %q", made)
	}

	if runs, err = store.Open(ctx, root); err != nil {
		t.Fatal(err)
	}
	defer runs.Close()
	known, err := runs.Reconcile(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		state store.State
		step  uint64
	}{{store.Done, 0}, {store.Paused, 4}, {store.Failed, 0}} {
		run := known.Runs[jobs[i].Run.ID]
		if run.State != want.state || run.Attempts != 1 || run.Checkpoint != want.step || run.Holder != nil || run.Ended.IsZero() || (run.Reason != "") != (want.state == store.Failed) {
			t.Errorf("run %d is recorded as %+v", i, run)
		}
	}
}
