package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/core/corrupt"
	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/figure"
	"github.com/loralab/loralab/runner/foreign"
)

// A corruption at several severities is a curve: how the metric falls as images get
// worse, from the test split as it is, severity 0.

// SeverityRow is a cell under a corruption, or under the mean of a family of them.
type SeverityRow struct {
	Cell       string          `json:"cell"`
	Corruption string          `json:"corruption"` // "fog", "weather (5 corruptions)"
	Scores     []SeverityScore `json:"scores"`     // ascending
}

// SeverityScore is one severity.
type SeverityScore struct {
	Severity int  `json:"severity"` // 0: the test split as it is
	Metric   Stat `json:"metric"`   // the table's metric
}

// severity is a corruption, or a family of them, with the domains of each severity.
type severity struct {
	name string
	at   []severityDomains // ascending
}

type severityDomains struct {
	severity int
	domains  []string
}

// mostKinds is how many corruptions are shown one by one; more are shown by family.
const mostKinds = 6

// severities are the corruptions that the experiment asks for at two severities or
// more, in its order.
func (s *study) severities() (all []severity) {
	domains := map[string]map[int]string{} // by kind and severity
	var kinds []string
	clean := ""
	for _, run := range s.exp.Runs {
		for _, e := range run.Evaluations {
			if spec.StrengthOf(e.Spec) != 1 || !slices.Contains(s.exp.Domains, e.Spec.GetDomain()) {
				continue
			}
			c := e.Spec.GetData().GetCorruption()
			switch {
			case c != nil && domains[c.Kind] == nil:
				domains[c.Kind] = map[int]string{}
				kinds = append(kinds, c.Kind)
				fallthrough
			case c != nil:
				domains[c.Kind][int(c.Severity)] = e.Spec.GetDomain()
			case e.Spec.GetDomain() == e.Spec.ColumnName("test"):
				clean = e.Spec.GetDomain()
			}
		}
	}
	kinds = slices.DeleteFunc(kinds, func(kind string) bool { return len(domains[kind]) < 2 })
	add := func(name string, of []string) {
		v := severity{name: name}
		if clean != "" {
			v.at = append(v.at, severityDomains{0, []string{clean}})
		}
		for level := 1; level <= corrupt.Severities; level++ {
			var at []string
			for _, kind := range of {
				if d := domains[kind][level]; d != "" {
					at = append(at, d)
				}
			}
			if len(at) == len(of) {
				v.at = append(v.at, severityDomains{level, at})
			}
		}
		if len(of) > 0 && len(v.at) > 1 {
			all = append(all, v)
		}
	}
	if len(kinds) <= mostKinds {
		for _, kind := range kinds {
			add(kind, []string{kind})
		}
		return all
	}
	for _, family := range corrupt.Families() {
		var of []string
		for _, kind := range kinds {
			if slices.Contains(corrupt.Family(family), kind) {
				of = append(of, kind)
			}
		}
		name := fmt.Sprintf("%s (%s)", family, plural.Of(len(of), "corruption"))
		if len(of) == 1 {
			name = of[0]
		}
		add(name, of)
	}
	return all
}

// mean is the mean of a metric over domains, all of which have to be there.
func (o *outcome) mean(domains []string, of string) (float64, bool) {
	sum := 0.0
	for _, d := range domains {
		v, ok := o.score(d, of)
		if !ok {
			return 0, false
		}
		sum += v
	}
	return sum / float64(len(domains)), true
}

// severityRows are the scores at every severity.
func (s *study) severityRows() (rows []SeverityRow) {
	all := s.severities()
	for _, c := range s.cells {
		for _, v := range all {
			row := SeverityRow{Cell: c.name, Corruption: v.name}
			for _, at := range v.at {
				st, _ := s.sampleOf(c, func(o *outcome) (float64, bool) { return o.mean(at.domains, s.exp.Metric) })
				row.Scores = append(row.Scores, SeverityScore{at.severity, st})
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// severityTable is the table of severities: a line for each cell and corruption, with a
// column for each severity.
func (t Table) severityTable() [][]string {
	var lines []levelLine
	for _, r := range t.Severity {
		line := levelLine{cell: r.Cell, of: r.Corruption, scores: map[float64]Stat{}}
		for _, sc := range r.Scores {
			line.scores[float64(sc.Severity)] = sc.Metric
		}
		lines = append(lines, line)
	}
	return levelTable("corruption", lines)
}

// severityText says what the table of severities has.
func (t Table) severityText() string {
	return capital(metric.Label(t.Metric)) + " at each severity, over n runs; 0 is the test split as it is."
}

// severityMarkdown is the table of severities, "" for none.
func (t Table) severityMarkdown() string {
	if len(t.Severity) == 0 {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n## Corruptions by severity\n\n%s\n\n", foreign.Markdown(t.severityText()))
	wholeTable(&b, t.severityTable())
	return b.String()
}

// severityFigure shows the metric over the severity of corruptions.
func (s *study) severityFigure() (drawing, bool) {
	all := s.severities()
	var cells []*cell
	for _, c := range s.cells {
		if s.scored(c) {
			cells = append(cells, c)
		}
	}
	if len(all) == 0 || len(cells) == 0 {
		return drawing{}, false
	}
	l := &figure.Lines{
		Title: s.exp.Name,
		X:     figure.Axis{Title: "severity", Whole: true},
		Y:     figure.Axis{Title: metric.Label(s.exp.Metric), Unit: bounded(s.exp.Metric)},
	}
	caption := fmt.Sprintf("%s over the severity of corruptions of the test images", capital(metric.Label(s.exp.Metric)))
	if all[0].at[0].severity == 0 {
		caption += "; 0 is without any"
	}
	caption += fmt.Sprintf(", %s.%s", s.seedsText(), s.spreadText())
	for level := range corrupt.Severities + 1 {
		if slices.ContainsFunc(all, func(v severity) bool {
			return slices.ContainsFunc(v.at, func(at severityDomains) bool { return at.severity == level })
		}) {
			l.X.Ticks = append(l.X.Ticks, figure.Tick{At: float64(level), Label: strconv.Itoa(level)})
		}
	}
	var sweeps []sweep
	for _, v := range all {
		w := sweep{title: v.name, scale: "all"}
		for _, at := range v.at {
			w.at = append(w.at, sweepPoint{float64(at.severity), func(o *outcome) (float64, bool) { return o.mean(at.domains, s.exp.Metric) }})
		}
		sweeps = append(sweeps, w)
	}
	caption += s.sweep(l, cells, sweeps)
	return s.drawn(drawing{name: severityName, title: capital(metric.Label(s.exp.Metric)) + " over the severity of corruptions", caption: caption}, l), true
}
