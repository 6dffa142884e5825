package report

import (
	"slices"
	"strings"

	"github.com/loralab/loralab/core/corrupt"
	"github.com/loralab/loralab/core/metric"
)

// Corruptions make many domains, "fog-1" to "snow-5". Tables and figures show
// the mean over a family of them, as ImageNet-C is reported; runs.csv has each.

// ofFamily is the name of a family's column: that of "weather@original" is
// "weather corruptions@original".
func ofFamily(family string) string {
	family, seen, at := strings.Cut(family, "@")
	family += " corruptions"
	if at {
		family += "@" + seen
	}
	return family
}

// familyOf is the family of a corrupted domain, "" for any other. What says how
// images are seen, as in "fog-3@original", stays behind it.
func familyOf(domain string) string {
	domain, seen, at := strings.Cut(domain, "@")
	family := plainFamilyOf(domain)
	if at && family != "" {
		family += "@" + seen
	}
	return family
}

func plainFamilyOf(domain string) string {
	kind, severity, ok := strings.Cut(domain, "-")
	if !ok || len(severity) != 1 || severity < "1" || severity > "5" {
		return ""
	}
	for _, family := range corrupt.Families() {
		if slices.Contains(corrupt.Family(family), kind) {
			return family
		}
	}
	return ""
}

// alone is how many corrupted domains are shown one by one at most.
const alone = 3

// domains are the columns: corrupted domains by family if there are many.
func (s *study) domains() []string {
	corrupted := 0
	for _, d := range s.exp.Domains {
		if familyOf(d) != "" {
			corrupted++
		}
	}
	if corrupted <= alone {
		return s.exp.Domains
	}
	var columns []string
	for _, d := range s.exp.Domains {
		if family := familyOf(d); family != "" {
			d = ofFamily(family)
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
			column = ofFamily(familyOf(d))
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
		d := e.Spec.GetDomain()
		if family := familyOf(d); family == "" || ofFamily(family) != domain {
			continue
		}
		v, ok := metric.Value(o.Evaluations[d], name)
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
