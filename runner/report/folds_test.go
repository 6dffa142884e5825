package report_test

import (
	"encoding/csv"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/report"
)

// fold makes the run that was added last one of a fold, with images of its own.
func (w *world) fold(n uint32, division string) {
	run := w.exp.Runs[len(w.exp.Runs)-1]
	run.Fold = name.NewFold(n)
	run.Spec.Folds = &spec.Folds{Count: w.exp.Folds, Fold: n}
	run.Spec.Data = proto.CloneOf(run.Spec.Data)
	run.Spec.Data.Splits = map[string]*spec.Split{"train": {Digest: fmt.Sprintf("train %d %s", n, division)}}
	for _, e := range run.Evaluations {
		digest := e.Spec.Domain
		if digest == "test" {
			digest += fmt.Sprintf(" %d %s", n, division)
		}
		e.Spec.Data = &spec.Data{Splits: map[string]*spec.Split{"test": {Digest: digest}}}
	}
}

// validated is a cross-validation of two cells in three folds with two seeds each.
func validated(t *testing.T, division func(seed uint64) string) *world {
	w := &world{t: t, bare: true, exp: &experiment.Experiment{Name: "cross", Metric: "dice/nucleus", Domains: []string{"test", "histology"}, Axes: []string{rank}, Folds: 3}}
	for i, r := range []float64{2, 4} {
		for n := range uint32(3) {
			for seed := range uint64(2) {
				dice := 0.5 + 0.1*float64(n) + 0.01*float64(seed) + 0.05*float64(i)
				w.add(fmt.Sprintf("rank=%v", r), at(rank, r), seed+1, 1000, dice, 0.4)
				w.fold(n, division(seed))
			}
		}
	}
	return w
}

func shared(uint64) string { return "" }

// A row has the mean over folds and seeds, and both spreads apart; where every image is
// tested in one fold, also the score of all of them.
func TestCrossValidation(t *testing.T) {
	w := validated(t, shared)
	table, err := report.Tabulate(w.exp, w.results)
	if err != nil {
		t.Fatal(err)
	}
	row := table.Rows[0]
	test, other := row.Scores[0], row.Scores[1]
	// Folds 0.505, 0.605 and 0.705, and seeds 0.005 from them.
	if got := test.Metric.String(); got != "0.605 ± 0.100 (0.007)" {
		t.Errorf("the score is %s", got)
	}
	if f := test.Metric.Folds; f.N != 3 || f.Seeds != 2 || row.N != 6 || test.Metric.N != 6 {
		t.Errorf("%+v of %+v", f, row)
	}
	if p := test.Pooled; p == nil || p.N != 2 || p.String() != "0.605 ± 0.007" {
		t.Errorf("pooled over folds: %v", p)
	}
	if other.Pooled != nil {
		t.Errorf("the same images in all folds are pooled to %v", other.Pooled)
	}
	text := table.Markdown()
	for _, want := range []string{
		"| test Dice, pooled", "  3×2 |", "Cross-validation in 3 folds", "no standard error of independent runs",
		"test 60 in a fold, histology 60.", "Pooled: from the pixel counts of all folds together",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, not := range []string{"A part of", "over n seeds", "Fewer than six", "do not share"} {
		if strings.Contains(text, not) {
			t.Errorf("%q in\n%s", not, text)
		}
	}
	lines, err := csv.NewReader(strings.NewReader(table.CSV())).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.Index(lines[0], "folds")
	if want := []string{"folds", "fold_sample_std", "seeds", "seed_std", "pooled_n", "pooled_mean", "pooled_sample_std"}; at < 0 || !slices.Equal(lines[0][at:], want) || lines[1][at] != "3" || lines[2][at+4] != "" {
		t.Errorf("the table is\n%s", table.CSV())
	}
}

// Seeds that divide by themselves are repetitions, of which the folds have nothing in
// common.
func TestRepeatedCrossValidation(t *testing.T) {
	w := validated(t, func(seed uint64) string { return fmt.Sprint("by ", seed) })
	table, err := report.Tabulate(w.exp, w.results)
	if err != nil {
		t.Fatal(err)
	}
	test := table.Rows[0].Scores[0]
	if got := test.Metric.String(); got != "0.605 ± 0.100 (0.007)" || !test.Metric.Folds.Repeated {
		t.Errorf("the score is %s, %+v", got, test.Metric.Folds)
	}
	if p := test.Pooled; p == nil || p.N != 2 {
		t.Errorf("pooled over folds: %v", p)
	}
	if text := table.Markdown(); !strings.Contains(text, "each of which divides the images by itself") || strings.Contains(text, "do not share") {
		t.Error(text)
	}
}

// What is missing is said: folds that were not asked for, runs that are not trained, and
// then nothing is pooled.
func TestPartOfACrossValidation(t *testing.T) {
	w := validated(t, shared)
	w.results = w.results[:len(w.results)-1] // fold 2, seed 2 of rank=4
	table, err := report.Tabulate(w.exp, w.results)
	if err != nil {
		t.Fatal(err)
	}
	if p := table.Rows[1].Scores[0].Pooled; p == nil || p.N != 1 {
		t.Errorf("pooled of one whole seed: %v", p)
	}
	if text := table.Markdown(); !strings.Contains(text, "**Missing**, not trained yet: rank=4 (fold 2, seed 2)") || !strings.Contains(text, " 5 of 6 |") {
		t.Error(text)
	}
	w.exp.Runs = slices.DeleteFunc(w.exp.Runs, func(r *experiment.Run) bool { return r.Fold == name.NewFold(1) })
	if table, err = report.Tabulate(w.exp, w.results); err != nil {
		t.Fatal(err)
	}
	text := table.Markdown()
	if !strings.Contains(text, "**A part of the cross-validation**: only of fold 0, 2 of 3, numbered from 0.") || strings.Contains(text, "pooled |") {
		t.Error(text)
	}
}
