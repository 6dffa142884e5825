// Package compare holds groups of runs side by side: mean and spread over
// seeds, and differences from one of them with an interval and a test.
//
// The seed is the unit of replication. Where two groups share seeds, runs of
// the same seed are paired, which takes out what a lucky split or start gives
// to both; else Welch's test is used. Both assume differences that are roughly
// normal, which a handful of seeds cannot show: the interval is the message,
// and below three runs there is no test at all. P-values of one comparison are
// adjusted together after Holm. Package statistics has the formulas.
//
// In cross-validation runs of the same fold and seed are paired, and the fold is the
// unit of replication. Folds share training images, which the test allows for.
package compare

import (
	"maps"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"

	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/runner/statistics"
)

// Group is runs that differ in nothing but the seed, and the fold in cross-validation.
type Group struct {
	Name string
	// Runs has the value of the metric by domain and run.
	Runs map[string]map[name.Repeat]float64
	// Folds is how many the data is divided into; 0 without cross-validation. Repeated
	// says that every seed divides it by itself.
	Folds    uint32
	Repeated bool
}

// Comparison is groups side by side.
type Comparison struct {
	Metric   string   `json:"metric"`
	Baseline string   `json:"baseline"`
	Domains  []Domain `json:"domains"`
	// Tests is how many differences have a p-value, which Holm's correction is for.
	Tests int `json:"tests"`
	// Notes say what was left out, and which groups their experiments no longer ask
	// for.
	Notes []string `json:"notes,omitempty"`
}

// Domain is the groups on one domain.
type Domain struct {
	Name string `json:"domain"`
	Rows []Row  `json:"rows"`
}

// Row is one group on a domain.
type Row struct {
	Group string   `json:"group"`
	N     int      `json:"n"`
	Mean  *float64 `json:"mean"` // nil: no run
	Std   *float64 `json:"std"`  // of the n runs, n−1; nil below two runs
	// Interval is that of the mean over seeds; none below two runs, and none of a
	// cross-validation, whose runs are not independent.
	statistics.Interval
	Folds *Folds `json:"folds,omitempty"` // of a cross-validation
	// Difference is from the baseline; nil for the baseline itself, and where
	// either has no run.
	Difference *statistics.Difference `json:"difference,omitempty"`
	// common is how many runs have the seed of one of the baseline.
	common int
	// Sentence says the same in words; "" without a difference.
	Sentence string `json:"sentence,omitempty"`
}

// Make compares groups with the one at index baseline, on the given domains.
func Make(metric string, domains []string, groups []Group, baseline int) *Comparison {
	c := &Comparison{Metric: metric, Baseline: groups[baseline].Name}
	var tested []*statistics.Difference
	for _, domain := range domains {
		d := Domain{Name: domain}
		for i, g := range groups {
			values := list(g.Runs[domain])
			row := Row{Group: g.Name, N: len(values)}
			if g.Folds > 0 && len(values) > 0 {
				row.Folds = NewFolds(g.Runs[domain], g.Folds, g.Repeated)
				row.Mean, row.Std = finite(row.Folds.Mean()), finite(statistics.Described(values).Std)
			} else {
				of := statistics.Of(values)
				row.Mean, row.Std, row.Interval = finite(of.Mean), finite(of.Std), of.Interval
			}
			if i != baseline {
				row.Difference = difference(g, groups[baseline], domain)
				for r := range g.Runs[domain] {
					if _, ok := groups[baseline].Runs[domain][r]; ok {
						row.common++
					}
				}
				tested = append(tested, row.Difference)
			}
			d.Rows = append(d.Rows, row)
		}
		c.Domains = append(c.Domains, d)
	}
	c.Tests = statistics.Holm(tested)
	for _, d := range c.Domains {
		for i := range d.Rows {
			if d.Rows[i].Difference != nil {
				d.Rows[i].Sentence = c.sentence(d.Name, d.Rows[i], d.Rows[baseline])
			}
		}
	}
	return c
}

// ordered are runs by fold and seed.
func ordered(runs map[name.Repeat]float64) []name.Repeat {
	return slices.SortedFunc(maps.Keys(runs), name.Repeat.Compare)
}

// list is values in the order of their runs, so that sums are always the same.
func list(runs map[name.Repeat]float64) []float64 {
	var values []float64
	for _, r := range ordered(runs) {
		values = append(values, runs[r])
	}
	return values
}

func difference(g, base Group, domain string) *statistics.Difference {
	a, b := g.Runs[domain], base.Runs[domain]
	if len(a) == 0 || len(b) == 0 {
		return nil
	}
	pairs := map[name.Repeat]float64{}
	for r, v := range a {
		if w, ok := b[r]; ok {
			pairs[r] = v - w
		}
	}
	if g.Folds > 0 || base.Folds > 0 {
		if g.Folds == base.Folds && g.Repeated == base.Repeated && len(pairs) > 0 {
			// Seeds are averaged first; if they divide the images by themselves, the
			// test is over all pairs (Bouckaert and Frank 2004).
			return statistics.Corrected(NewFolds(pairs, g.Folds, g.Repeated).Means(), g.Folds)
		}
		// Runs of folds are no independent ones.
		return &statistics.Difference{Mean: g.mean(domain) - base.mean(domain), N: min(len(a), len(b))}
	}
	// One common seed among several says less than all of them unpaired.
	if len(pairs) >= 2 || len(pairs) == len(a) && len(pairs) == len(b) {
		return statistics.Paired(list(pairs))
	}
	return statistics.Welch(list(a), list(b))
}

// mean is that of a group on a domain, on which it has runs.
func (g *Group) mean(domain string) float64 {
	if g.Folds > 0 {
		return NewFolds(g.Runs[domain], g.Folds, g.Repeated).Mean()
	}
	return stat.Mean(list(g.Runs[domain]), nil)
}

// finite is nil for what JSON cannot hold.
func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}
