package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/figure"
	"github.com/loralab/loralab/runner/foreign"
)

// The strength of the adapter is an axis of evaluation: each run is scored at all of
// them, and trained once.

// StrengthRow is a cell on a domain at every strength.
type StrengthRow struct {
	Cell   string          `json:"cell"`
	Domain string          `json:"domain"`
	Scores []StrengthScore `json:"scores"` // ascending
}

// StrengthScore is one strength.
type StrengthScore struct {
	Strength float64 `json:"strength"`
	Metric   Stat    `json:"metric"` // the table's metric
}

// adapted reports whether the runs of a cell have an adapter.
func (c *cell) adapted() bool { return len(c.runs) > 0 && c.runs[0].Run.Adapted() }

// strengths are the scores at every strength, nil where there is one alone. Cells
// without an adapter have it at 1.
func (s *study) strengths() (rows []StrengthRow) {
	for _, c := range s.cells {
		for _, d := range s.domains() {
			row := StrengthRow{Cell: c.name, Domain: d}
			for _, t := range s.exp.Strengths {
				if t == 1 || c.adapted() {
					score, _ := s.sample(c, spec.AtStrength(d, t), s.exp.Metric)
					row.Scores = append(row.Scores, StrengthScore{t, score})
				}
			}
			if len(row.Scores) > 0 {
				rows = append(rows, row)
			}
		}
	}
	return rows
}

// strengthTable is the table of strengths: a line for each cell and domain, with a column
// for each strength.
func (t Table) strengthTable() [][]string {
	short, _ := spec.Unseen(t.Domains)
	var lines []levelLine
	for _, r := range t.Strength {
		line := levelLine{cell: r.Cell, of: short[slices.Index(t.Domains, r.Domain)], scores: map[float64]Stat{}}
		for _, sc := range r.Scores {
			line.scores[sc.Strength] = sc.Metric
		}
		lines = append(lines, line)
	}
	return levelTable("domain", lines)
}

// strengthText says what the table of strengths has.
func (t Table) strengthText() string {
	return capital(metric.Label(t.Metric)) + " at each strength t of the adapter, over n runs: an adapted layer gives y₀ + t·(y − y₀), y₀ of the frozen layer. The head stays as trained, and so do blocks that trained. Cells without an adapter are under 1."
}

// strengthMarkdown is the table of strengths, "" for none.
func (t Table) strengthMarkdown() string {
	if len(t.Strength) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n## Strength of the adapter\n\n%s\n\n", foreign.Markdown(t.strengthText()))
	wholeTable(&b, t.strengthTable())
	return b.String()
}

// strengthLines are those of the table as CSV, with the strength in the name of the
// domain.
func (t Table) strengthLines() (lines [][]string) {
	for _, r := range t.Strength {
		for _, sc := range r.Scores {
			if sc.Strength != 1 {
				lines = append(lines, t.line(r.Cell, spec.AtStrength(r.Domain, sc.Strength), sc.Metric))
			}
		}
	}
	return lines
}

// line is a line of the table as CSV that has a metric and no more.
func (t Table) line(cell, domain string, m Stat) []string {
	i := slices.IndexFunc(t.Rows, func(r Row) bool { return r.Cell == cell })
	line := append([]string{
		t.Experiment, cell, domain, t.Metric, strconv.Itoa(m.N), strconv.Itoa(t.Rows[i].Planned),
		number(m.Mean), number(m.Std), number(m.Min), number(m.Max),
	}, make([]string, 6)...)
	line = append(line, optional(m.Interval.Low), optional(m.Interval.High))
	if t.Rows[i].Folds > 0 {
		line = append(line, Score{Metric: m}.foldCSV()...)
	}
	return line
}

// strengthFigure shows the metric over the strength of the adapter: a panel for each
// domain and a line for each cell, or a panel for each of both where there are many
// cells.
func (s *study) strengthFigure() (drawing, bool) {
	if len(s.exp.Strengths) < 2 {
		return drawing{}, false
	}
	var cells, without []*cell
	for _, c := range s.cells {
		switch {
		case !s.scored(c):
		case c.adapted():
			cells = append(cells, c)
		default:
			without = append(without, c)
		}
	}
	if len(cells) == 0 {
		return drawing{}, false
	}
	l := &figure.Lines{
		Title: s.exp.Name,
		X:     figure.Axis{Title: "strength of the adapter"},
		Y:     figure.Axis{Title: metric.Label(s.exp.Metric), Unit: bounded(s.exp.Metric)},
	}
	caption := fmt.Sprintf("%s over the strength of the adapter, from the frozen layers at 0 to those that were trained at 1, %s.%s", capital(metric.Label(s.exp.Metric)), s.seedsText(), s.spreadText())
	domains := s.domains()
	var sweeps []sweep
	for _, d := range domains {
		w := sweep{scale: d}
		if len(domains) > 1 {
			w.title = s.short[d]
		}
		for _, t := range s.exp.Strengths {
			w.at = append(w.at, sweepPoint{t, func(o *outcome) (float64, bool) { return o.score(spec.AtStrength(d, t), s.exp.Metric) }})
		}
		for i, c := range without[:min(len(without), mostLines)] {
			if st, _ := s.sample(c, d, s.exp.Metric); st.N > 0 {
				w.levels = append(w.levels, figure.Level{
					Name: c.name, Y: st.Mean, Low: st.Mean - st.deviation(), High: st.Mean + st.deviation(),
					Look: figure.Look{Color: figure.Gray, Dash: 1 + i%(figure.Dashes-1)},
				})
			}
		}
		sweeps = append(sweeps, w)
	}
	if len(domains) > 1 && len(cells) <= mostLines {
		caption += " Each domain has a panel with a scale of its own."
	}
	caption += s.sweep(l, cells, sweeps)
	if len(without) > 0 {
		caption += " Dashed level lines are cells without an adapter."
	}
	return s.drawn(drawing{name: strengthName, title: capital(metric.Label(s.exp.Metric)) + " over the strength of the adapter", caption: caption}, l), true
}
