package report

import (
	"fmt"
	"slices"

	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/runner/page"
)

// Confusion is how many pixels of each class a cell gives to which class on a domain, over
// its runs whose evaluation has the counts. Evaluations of earlier versions have none.
type Confusion struct {
	Cell    string   `json:"cell"`
	Domain  string   `json:"domain"`
	Runs    int      `json:"runs"`
	Classes []string `json:"classes"`
	// Counts is by the class of the mask, then by the class that is predicted.
	Counts [][]uint64 `json:"counts"`
}

// confusions are those of all cells on all domains.
func (s *study) confusions() (all []Confusion) {
	for _, c := range s.cells {
		for _, d := range s.domains() {
			m := Confusion{Cell: c.name, Domain: d}
			for _, o := range c.runs {
				e := o.Evaluations[d]
				var classes []string
				for _, class := range e.GetClasses() {
					classes = append(classes, class.GetName())
				}
				n := len(classes)
				if n == 0 || len(e.GetConfusion()) != n*n || m.Runs > 0 && !slices.Equal(classes, m.Classes) {
					continue
				}
				if m.Runs == 0 {
					m.Classes, m.Counts = classes, make([][]uint64, n)
					for t := range n {
						m.Counts[t] = make([]uint64, n)
					}
				}
				m.Runs++
				for i, count := range e.GetConfusion() {
					m.Counts[i/n][i%n] += count
				}
			}
			if m.Runs > 0 {
				all = append(all, m)
			}
		}
	}
	return all
}

const (
	// mostConfusions is how many matrices a page shows.
	mostConfusions = 8
	// mostConfused is how many classes these have at most.
	mostConfused = 24
)

// htmlConfusions are matrices for the page: those of the first domain come first.
func (s *study) htmlConfusions(leave func(string, ...any)) (shown []page.Confusion) {
	all := s.confusions()
	slices.SortStableFunc(all, func(a, b Confusion) int {
		return slices.Index(s.domains(), a.Domain) - slices.Index(s.domains(), b.Domain)
	})
	for _, m := range all {
		if len(shown) < mostConfusions && len(m.Classes) <= mostConfused {
			title := fmt.Sprintf("Classes that %s confuses on %s, %s", m.Cell, s.short[m.Domain], plural.Of(m.Runs, "run"))
			shown = append(shown, page.Confusion{Title: title, Classes: m.Classes, Counts: m.Counts})
		}
	}
	if len(shown) < len(all) {
		leave("%d of %d confusion matrices are shown. runner report --json has all.", len(shown), len(all))
	}
	return shown
}
