package weights

import (
	"os"
	"testing"

	"github.com/loralab/loralab/core/rundir"
)

// The directory of a run of before core/rundir is opened as it is.
func TestEarlierRunsAreOpened(t *testing.T) {
	const dir = "../../core/rundir/testdata/project/runs/tiny/7a7a03ef9660"
	for _, name := range []string{rundir.BestName, rundir.LastName} {
		opens(t, dir, name)
	}
}

func opens(t *testing.T, dir, name string) {
	t.Helper()
	place := t.TempDir()
	m, err := Open(dir, place, name)
	if err != nil {
		t.Fatal(err)
	}
	if m.Checkpoint != name {
		t.Errorf("the %s weights instead of the %s ones", m.Checkpoint, name)
	}
	run := rundir.Of(m.Request)
	summary, err := run.Summary()
	if err != nil || string(run.Dir) != place {
		t.Fatalf("in %s: %v", run.Dir, err)
	}
	file, _ := rundir.Checkpoint(name)
	f, err := run.Weights(file, summary)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	// What is made there is in the form of files.
	was, err := os.ReadFile(rundir.Dir(dir).Path(rundir.Result))
	if err != nil {
		t.Fatal(err)
	}
	if is, err := os.ReadFile(run.Path(rundir.Result)); err != nil || string(is) != string(was) {
		t.Errorf("%v\n%s\nwas\n%s", err, is, was)
	}
}
