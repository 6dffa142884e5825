package report

import (
	"reflect"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/spec"
)

// The strength of the adapter has a table and a figure of its own, and no columns.
func TestStrength(t *testing.T) {
	e := newExample("e", false)
	strong(e, 3)
	s := e.study(t)
	table := s.table()
	if len(table.Domains) != 2 || len(table.Strength) != 8 || len(table.Strength[0].Scores) != 5 || len(table.Strength[7].Scores) != 1 {
		t.Fatalf("domains %v, rows of strength %v", table.Domains, table.Strength)
	}
	if got, want := table.Strength[1].Scores[4].Metric, table.Rows[0].Scores[1].Metric; !reflect.DeepEqual(got, want) {
		t.Errorf("at strength 1 %v, in the table %v", got, want)
	}
	text := table.strengthMarkdown()
	for _, want := range []string{
		"| cell      |    domain |    n |             0 |          0.25 |           0.5 |          0.75 |             1 |",
		"| head_only |      test |    3 |             – |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if notes := strings.Join(table.Notes, "\n"); !strings.Contains(notes, "at the strengths 0, 0.25, 0.5, 0.75 and 1.") {
		t.Error(notes)
	}
	for line := range strings.Lines(s.runTable().csv()) {
		if strings.Contains(line, ",test@strength-0.5,") && strings.Contains(line, "head_only") {
			t.Errorf("of a cell without an adapter: %s", line)
		}
	}
	if n := strings.Count(s.runTable().csv(), spec.AtStrength("histology", 0.25)); n != 9 {
		t.Errorf("%d lines at strength 0.25, want 9", n)
	}
	e.exp.Strengths = nil
	if s := e.study(t); s.table().strengthMarkdown() != "" {
		t.Error("a table of one strength")
	}
}

// The ensemble of a cell is next to its members, and has a line in table.csv.
func TestEnsembles(t *testing.T) {
	e := newExample("e", false)
	ranked(e, 2)
	for i, r := range e.results {
		if x := 0.75; r.Run.Cell == "rank=2" {
			e.results[i].Ensemble = map[string]*spec.Metrics{"test": {Pixels: 1, Classes: []*spec.ClassMetrics{{Name: "background"}, {Name: "nucleus", Dice: &x}}}}
		}
	}
	table := e.study(t).table()
	if len(table.Ensembles) != 1 || !reflect.DeepEqual(table.Ensembles[0].Members, table.Rows[1].Scores[0].Metric) || table.Ensembles[0].Ensemble != 0.75 {
		t.Fatalf("ensembles %v", table.Ensembles)
	}
	if text, want := table.ensembleMarkdown(), "| rank=2 |   test |    3 | 0.723 ± 0.006 |    0.750 |"; !strings.Contains(text, want) {
		t.Errorf("no %q in\n%s", want, text)
	}
	if text, want := table.CSV(), "e,rank=2,test@ensemble,dice/nucleus,1,3,0.75,,0.75,0.75,,,,,,,,\n"; !strings.Contains(text, want) {
		t.Errorf("no %q in\n%s", want, text)
	}
	if notes := strings.Join(table.Notes, "\n"); !strings.Contains(notes, "scores of ensembles") {
		t.Error(notes)
	}
}
