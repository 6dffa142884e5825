package weights

import (
	"os"
	"slices"
	"testing"

	"github.com/loralab/loralab/core/rundir"
)

// The directory of a run of before core/rundir is opened as it is.
func TestEarlierRunsAreOpened(t *testing.T) {
	const dir = "../../core/rundir/testdata/project/runs/tiny/7a7a03ef9660"
	place := t.TempDir()
	m, err := Open(dir, place)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(m.Checkpoints, []string{rundir.BestName, rundir.LastName}) {
		t.Errorf("checkpoints %q", m.Checkpoints)
	}
	run := rundir.Of(m.Request)
	summary, err := run.Summary()
	if err != nil || string(run.Dir) != place {
		t.Fatalf("in %s: %v", run.Dir, err)
	}
	for _, file := range []string{rundir.Best, rundir.Last} {
		f, err := run.Weights(file, summary)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	// What is made there is in the form of files.
	was, err := os.ReadFile(rundir.Dir(dir).Path(rundir.Result))
	if err != nil {
		t.Fatal(err)
	}
	if is, err := os.ReadFile(run.Path(rundir.Result)); err != nil || string(is) != string(was) {
		t.Errorf("%v\n%s\nwas\n%s", err, is, was)
	}
}
