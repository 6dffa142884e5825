package report

import (
	"slices"

	"github.com/loralab/loralab/core/corrupt"
	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
)

// Corruptions make many domains, "fog-1" to "snow-5". Tables and figures show
// the mean over a family of them, as ImageNet-C is reported; runs.csv has each.

// familyColumn is the column of an evaluation's family, "weather corruptions" or
// "weather corruptions@original"; "" where no corruption makes its images. Its
// name does not say that: other domains may be called "snow-2".
func familyColumn(e *spec.Evaluation) string {
	kind := e.GetData().GetCorruption().GetKind()
	for _, family := range corrupt.Families() {
		if slices.Contains(corrupt.Family(family), kind) {
			return e.ColumnName(family + " corruptions")
		}
	}
	return ""
}

// familyColumns are the columns of the families of corrupted domains, by domain.
func familyColumns(exp *experiment.Experiment) map[string]string {
	columns := map[string]string{}
	for _, run := range exp.Runs {
		for _, e := range run.Evaluations {
			if column := familyColumn(e.Spec); column != "" {
				columns[e.Spec.GetDomain()] = column
			}
		}
	}
	return columns
}

// alone is how many corrupted domains are shown one by one at most.
const alone = 3

// domains are the columns: corrupted domains by family if there are many.
func (s *study) domains() []string {
	corrupted := 0
	for _, d := range s.exp.Domains {
		if s.families[d] != "" {
			corrupted++
		}
	}
	if corrupted <= alone {
		return s.exp.Domains
	}
	var columns []string
	for _, d := range s.exp.Domains {
		if column := s.families[d]; column != "" {
			d = column
		}
		if !slices.Contains(columns, d) {
			columns = append(columns, d)
		}
	}
	return columns
}

// pictured are the domains whose pictures are shown: of each column the first.
func (s *study) pictured() []string {
	var domains, seen []string
	columns := s.domains()
	for _, d := range s.exp.Domains {
		column := d
		if !slices.Contains(columns, d) {
			column = s.families[d]
		}
		if !slices.Contains(seen, column) {
			domains, seen = append(domains, d), append(seen, column)
		}
	}
	return domains
}

// score is the metric of a run on a domain, or the mean over a family of them,
// which has to be there whole.
func (o *outcome) score(domain, name string) (float64, bool) {
	if m, ok := o.Evaluations[domain]; ok {
		return metric.Value(m, name)
	}
	var sum float64
	n := 0
	for _, e := range o.Run.Evaluations {
		if familyColumn(e.Spec) != domain {
			continue
		}
		v, ok := metric.Value(o.Evaluations[e.Spec.GetDomain()], name)
		if !ok {
			return 0, false
		}
		sum += v
		n++
	}
	if n == 0 {
		return 0, false
	}
	return sum / float64(n), true
}
