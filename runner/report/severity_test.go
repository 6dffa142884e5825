package report

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/runner/figure"
	"github.com/loralab/loralab/runner/page"
)

// A corruption at several severities has a table and a figure, from the test split as it
// is. A domain without one of its runs' scores has fewer.
func TestSeverity(t *testing.T) {
	e := newExample("e", false)
	damaged(e, 2, "fog", "snow")
	delete(e.results[0].Evaluations, "fog-5")
	s := e.study(t)
	rows := s.table().Severity
	if len(rows) != 4 || rows[0].Corruption != "fog" || rows[1].Corruption != "snow" || len(rows[0].Scores) != 6 {
		t.Fatalf("rows %v", rows)
	}
	clean, worst := rows[0].Scores[0], rows[0].Scores[5]
	if st, _ := s.sample(s.cells[0], "test", e.exp.Metric); clean.Severity != 0 || clean.Metric.Mean != st.Mean {
		t.Errorf("at severity 0 %v, the test split has %v", clean.Metric, st)
	}
	if worst.Severity != 5 || worst.Metric.N != 2 {
		t.Errorf("at severity 5 %d runs, want 2", worst.Metric.N)
	}
	text := s.table().severityMarkdown()
	if want := "| corruption |      n |             0 |             1 |"; !strings.Contains(text, want) {
		t.Errorf("no %q in\n%s", want, text)
	}
	d, ok := s.severityFigure()
	l, _ := d.figure.(*figure.Lines)
	if !ok || len(l.Panels) != 2 || len(l.Panels[0].Series) != 2 || len(l.Panels[0].Series[0].Points) != 6 || len(l.X.Ticks) != 6 || !strings.Contains(d.caption, "; 0 is without any") {
		t.Errorf("figure %v: %s", d.figure, d.caption)
	}
	if all := s.table().listings(); !slices.ContainsFunc(all, func(l page.Listing) bool {
		return l.Title == "Corruptions by severity" && len(l.Lines) == 4 && l.Lines[0][2] == "2 to 3" && len(l.Header) == 9
	}) {
		t.Errorf("tables of the page %v", all)
	}
}

// Many corruptions are shown by family, as the mean over those of it.
func TestSeverityByFamily(t *testing.T) {
	e := newExample("e", false)
	damaged(e, 1, "fog", "snow", "frost", "contrast", "pixelate", "gaussian_noise", "shot_noise", "defocus_blur")
	s := e.study(t)
	rows := s.table().Severity
	var names []string
	for _, r := range rows {
		names = append(names, r.Corruption)
	}
	if want := []string{"noise (2 corruptions)", "defocus_blur", "weather (3 corruptions)", "digital (2 corruptions)"}; !slices.Equal(names, want) {
		t.Fatalf("rows %q, want %q", names, want)
	}
	mean := 0.0
	for _, d := range []string{"fog-4", "snow-4", "frost-4"} {
		st, _ := s.sample(s.cells[0], d, e.exp.Metric)
		mean += st.Mean / 3
	}
	if got := rows[2].Scores[4]; got.Severity != 4 || math.Abs(got.Metric.Mean-mean) > 1e-12 {
		t.Errorf("weather is %v, want %g", got, mean)
	}
	delete(e.results[0].Evaluations, "snow-4")
	if got := e.study(t).table().Severity[2].Scores[4].Metric.N; got != 2 {
		t.Errorf("%d runs without one of the family, want 2", got)
	}
}

// One severity is no curve.
func TestOneSeverity(t *testing.T) {
	e := newExample("e", false)
	damaged(e, 2, "fog")
	e.exp.Domains = slices.DeleteFunc(e.exp.Domains, func(d string) bool { return strings.HasPrefix(d, "fog-") && d != "fog-3" })
	s := e.study(t)
	if _, ok := s.severityFigure(); ok || s.table().severityMarkdown() != "" {
		t.Error("a curve of one severity")
	}
}
