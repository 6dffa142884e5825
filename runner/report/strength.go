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

// strengthMarkdown is the table of strengths, "" for none: a line for each cell and
// domain.
func (t Table) strengthMarkdown() string {
	if len(t.Strength) == 0 {
		return ""
	}
	var all []float64
	for _, r := range t.Strength {
		for _, sc := range r.Scores {
			if !slices.Contains(all, sc.Strength) {
				all = append(all, sc.Strength)
			}
		}
	}
	slices.Sort(all)
	short, _ := spec.Unseen(t.Domains)
	lines := [][]string{{"cell", "domain"}}
	for _, x := range all {
		lines[0] = append(lines[0], strconv.FormatFloat(x, 'g', -1, 64))
	}
	for _, r := range t.Strength {
		line := []string{r.Cell, short[slices.Index(t.Domains, r.Domain)]}
		for _, x := range all {
			text := "–"
			if i := slices.IndexFunc(r.Scores, func(sc StrengthScore) bool { return sc.Strength == x }); i >= 0 {
				text = r.Scores[i].Metric.String()
			}
			line = append(line, text)
		}
		lines = append(lines, line)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n## Strength of the adapter\n\n")
	fmt.Fprintf(&b, "%s at each strength t of the adapter: an adapted layer gives y₀ + t·(y − y₀), y₀ of the frozen layer. The head stays as trained, and so do blocks that trained. Cells without an adapter are under 1.\n\n", foreign.Markdown(capital(metric.Label(t.Metric))))
	wholeTable(&b, lines)
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
	looks, domains := s.looks(), s.domains()
	l := &figure.Lines{
		Title: s.exp.Name,
		X:     figure.Axis{Title: "strength of the adapter"},
		Y:     figure.Axis{Title: metric.Label(s.exp.Metric), Unit: bounded(s.exp.Metric)},
	}
	caption := fmt.Sprintf("%s over the strength of the adapter, from the frozen layers at 0 to those that were trained at 1, %s.", capital(metric.Label(s.exp.Metric)), s.seedsText())
	if s.several() {
		bars, rings := s.spreads()
		caption += fmt.Sprintf(" Lines join the means, bars are %s, rings %s.", bars, rings)
	}
	many := len(cells) > mostLines
	most := len(cells)
	if many {
		most = min(most, max(1, mostPanels/len(domains)))
	}
	var left []string
	for _, c := range cells[most:] {
		left = append(left, c.name)
	}
	var leftDomains []string
	for _, d := range domains {
		var lines []figure.Series
		for _, c := range cells[:most] {
			line := figure.Series{Name: c.name, Look: looks[c], Marked: true}
			for _, t := range s.exp.Strengths {
				st, scores := s.sample(c, spec.AtStrength(d, t), s.exp.Metric)
				if st.N == 0 {
					continue
				}
				pt := figure.Point{X: t, Y: st.Mean, Low: st.Mean - st.deviation(), High: st.Mean + st.deviation()}
				if st.N > 1 {
					pt.Seeds = scores
				}
				line.Points = append(line.Points, pt)
			}
			lines = append(lines, line)
		}
		var levels []figure.Level
		for i, c := range without[:min(len(without), mostLines)] {
			if st, _ := s.sample(c, d, s.exp.Metric); st.N > 0 {
				levels = append(levels, figure.Level{
					Name: c.name, Y: st.Mean, Low: st.Mean - st.deviation(), High: st.Mean + st.deviation(),
					Look: figure.Look{Color: figure.Gray, Dash: 1 + i%(figure.Dashes-1)},
				})
			}
		}
		title := ""
		if len(domains) > 1 {
			title = s.short[d]
		}
		if len(l.Panels) == mostPanels {
			leftDomains = append(leftDomains, title)
			continue
		}
		if !many {
			l.Panels = append(l.Panels, figure.Panel{Title: title, Scale: d, Series: lines, Levels: levels})
			continue
		}
		for i, own := range lines {
			panel := figure.Panel{Title: strings.TrimPrefix(title+", "+own.Name, ", "), Scale: d, Levels: levels}
			for j, line := range lines {
				line.Name, line.Behind = "", i != j
				panel.Series = append(panel.Series, line)
			}
			l.Panels = append(l.Panels, panel)
		}
	}
	switch {
	case many:
		caption += " A panel for each cell; pale lines are the other panels."
	case len(domains) > 1:
		caption += " Each domain has a panel with a scale of its own."
	}
	if len(without) > 0 {
		caption += " Dashed level lines are cells without an adapter."
	}
	caption += leftOut(append(left, leftDomains...))
	return s.drawn(drawing{name: strengthName, title: capital(metric.Label(s.exp.Metric)) + " over the strength of the adapter", caption: caption}, l), true
}
