package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/foreign"
)

// EnsembleRow is the ensemble of a cell on a domain, next to its members.
type EnsembleRow struct {
	Cell     string  `json:"cell"`
	Domain   string  `json:"domain"`
	Members  Stat    `json:"members"`  // of the table's metric
	Ensemble float64 `json:"ensemble"` // of the table's metric
}

// ensembles are the scores of ensembles, nil where there are none.
func (s *study) ensembles() (rows []EnsembleRow) {
	for _, c := range s.cells {
		i := slices.IndexFunc(c.runs, func(o *outcome) bool { return len(o.Ensemble) > 0 })
		if i < 0 {
			continue
		}
		whole := &outcome{Result: Result{Run: c.runs[i].Run, Evaluations: c.runs[i].Ensemble}}
		for _, d := range s.domains() {
			if v, ok := whole.score(d, s.exp.Metric); ok {
				members, _ := s.sample(c, d, s.exp.Metric)
				rows = append(rows, EnsembleRow{c.name, d, members, v})
			}
		}
	}
	return rows
}

// ensembleMarkdown is the table of ensembles, "" for none.
func (t Table) ensembleMarkdown() string {
	if len(t.Ensembles) == 0 {
		return ""
	}
	short, _ := spec.Unseen(t.Domains)
	lines := [][]string{{"cell", "domain", "n", "members", "ensemble"}}
	for _, r := range t.Ensembles {
		lines = append(lines, []string{r.Cell, short[slices.Index(t.Domains, r.Domain)], strconv.Itoa(r.Members.N), r.Members.String(), fmt.Sprintf("%.3f", r.Ensemble)})
	}
	var b strings.Builder
	b.WriteString("\n## Ensembles\n\n")
	fmt.Fprintf(&b, "%s of the n runs of a cell, mean ± sample standard deviation, and of their ensemble, which predicts by the mean of their probabilities. There is one ensemble of a cell, so it has no spread.\n\n", foreign.Markdown(capital(metric.Label(t.Metric))))
	wholeTable(&b, lines)
	return b.String()
}

// ensembleLines are those of the table as CSV: domain "test@ensemble", of one model.
func (t Table) ensembleLines() (lines [][]string) {
	for _, r := range t.Ensembles {
		at := r.Domain + "@ensemble"
		if strings.Contains(r.Domain, "@") {
			at = r.Domain + "-ensemble"
		}
		lines = append(lines, t.line(r.Cell, at, newStat([]float64{r.Ensemble})))
	}
	return lines
}

// wholeTable writes a table with all columns, as wide as they need to be.
func wholeTable(b *strings.Builder, lines [][]string) {
	widths, columns := make([]int, len(lines[0])), make([]int, len(lines[0]))
	for _, l := range lines {
		for i, text := range l {
			widths[i], columns[i] = max(widths[i], runes(text), 4), i
		}
	}
	markdownTable(b, lines, columns, widths)
}
