package report_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/report"
)

// Confusion matrices are sums over the runs of a cell. Evaluations of earlier versions
// have no counts, and are left out.
func TestConfusions(t *testing.T) {
	w := newWorld(t, "test")
	w.bare = true
	for seed := range uint64(3) {
		r := w.add("one", nil, seed+1, 10, 0.5, 0.5)
		if m := r.Evaluations["test"]; seed < 2 {
			n := len(m.Classes)
			m.Confusion = make([]uint64, n*n)
			m.Confusion[0], m.Confusion[1] = 30, 10 // of the first class, a quarter is taken for the second
		}
	}
	written, err := report.Build(t.Context(), t.TempDir(), []*experiment.Experiment{w.exp}, w.results, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := written.Experiments[0].Confusions
	if len(got) != 1 || got[0].Runs != 2 || fmt.Sprint(got[0].Counts[0][:2]) != "[60 20]" {
		t.Fatalf("the matrices are %v", got)
	}
	text, err := os.ReadFile(written.Experiments[0].HTML)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Classes that one confuses on test, 2 runs", `title="20 pixels">25.0<`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page has no %s", want)
		}
	}
}
