package spec

import (
	"fmt"
	"strings"
)

// Original is the resolution at which every mask is scored as it lies in its file.
const Original = "original"

// ColumnName is the name of a domain with what sets its scores apart from those at the
// model's size: "test", "test@original", "test@window-126", "test@window-126x63"
// for a stride of 126 rows and 63 columns, "test@window-126-scale-0.5". Scores
// under one name are made in one way.
func (e *Evaluation) ColumnName(domain string) string {
	w := e.GetWindow()
	switch {
	case w != nil:
		domain += fmt.Sprintf("@window-%d", w.StrideH)
		if w.StrideW != w.StrideH {
			domain += fmt.Sprintf("x%d", w.StrideW)
		}
		if w.Scale != 0 {
			domain += fmt.Sprintf("-scale-%g", w.Scale)
		}
	case e.GetResolution() == Original:
		domain += "@" + Original
	}
	return domain
}

// Unseen cuts off what all names of domains say of how images are seen: "test"
// and "@original" for "test@original". Nothing is cut where they differ in it.
func Unseen(domains []string) (short []string, shared string) {
	for i, d := range domains {
		_, seen, ok := strings.Cut(d, "@")
		if !ok || i > 0 && "@"+seen != shared {
			return domains, ""
		}
		shared = "@" + seen
	}
	for _, d := range domains {
		short = append(short, strings.TrimSuffix(d, shared))
	}
	return short, shared
}
