// Package compare holds groups of runs side by side: mean and spread over
// seeds, and differences from one of them with an interval and a test.
//
// The seed is the unit of replication. Where two groups share seeds, runs of
// the same seed are paired, which takes out what a lucky split or start gives
// to both; else Welch's test is used. Both assume differences that are roughly
// normal, which a handful of seeds cannot show: the interval is the message,
// and below three runs there is no test at all. P-values of one comparison are
// adjusted together after Holm.
//
// In cross-validation runs of the same fold and seed are paired, and the fold is the
// unit of replication. Folds share training images, which the test allows for.
package compare

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"github.com/loralab/loralab/core/name"
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
	Mean  *float64 `json:"mean"`            // nil: no run
	Std   *float64 `json:"std"`             // of the n runs, n−1; nil below two runs
	Folds *Folds   `json:"folds,omitempty"` // of a cross-validation
	// Difference is from the baseline; nil for the baseline itself, and where
	// either has no run.
	Difference *Difference `json:"difference,omitempty"`
}

// Difference is a group minus the baseline.
type Difference struct {
	Mean float64 `json:"mean"`
	// Low and High bound the difference at 95 % confidence; nil below two pairs,
	// or two runs on either side.
	Low  *float64 `json:"low"`
	High *float64 `json:"high"`
	// P is two-sided and unadjusted, Adjusted after Holm over all differences of
	// the comparison; nil below three.
	P        *float64 `json:"p"`
	Adjusted *float64 `json:"p_holm"`
	Paired   bool     `json:"paired"`
	N        int      `json:"n"` // pairs, or runs of the smaller side; of folds, those that have pairs
	// Corrected says that the interval allows for training images that folds share.
	Corrected bool `json:"corrected,omitempty"`
}

const (
	confidence = 0.95
	testable   = 3 // runs
)

// Make compares groups with the one at index baseline, on the given domains.
func Make(metric string, domains []string, groups []Group, baseline int) *Comparison {
	c := &Comparison{Metric: metric, Baseline: groups[baseline].Name}
	var tested []*Difference
	for _, domain := range domains {
		d := Domain{Name: domain}
		for i, g := range groups {
			values := list(g.Runs[domain])
			row := Row{Group: g.Name, N: len(values)}
			switch {
			case len(values) == 0:
			case g.Folds > 0:
				row.Folds = NewFolds(g.Runs[domain], g.Folds, g.Repeated)
				row.Mean = finite(row.Folds.Mean())
			default:
				row.Mean = finite(stat.Mean(values, nil))
			}
			if len(values) > 1 {
				row.Std = finite(stat.StdDev(values, nil))
			}
			if i != baseline {
				row.Difference = difference(g, groups[baseline], domain)
			}
			if row.Difference != nil && row.Difference.P != nil {
				tested = append(tested, row.Difference)
			}
			d.Rows = append(d.Rows, row)
		}
		c.Domains = append(c.Domains, d)
	}
	holm(tested)
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

func difference(g, base Group, domain string) *Difference {
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
			return crossed(pairs, g.Folds, g.Repeated)
		}
		// Runs of folds are no independent ones.
		return &Difference{Mean: g.mean(domain) - base.mean(domain), N: min(len(a), len(b))}
	}
	// One common seed among several says less than all of them unpaired.
	if len(pairs) >= 2 || len(pairs) == len(a) && len(pairs) == len(b) {
		return paired(list(pairs))
	}
	return welch(list(a), list(b))
}

// mean is that of a group on a domain, on which it has runs.
func (g *Group) mean(domain string) float64 {
	if g.Folds > 0 {
		return NewFolds(g.Runs[domain], g.Folds, g.Repeated).Mean()
	}
	return stat.Mean(list(g.Runs[domain]), nil)
}

// paired is Student's t over differences of runs of the same seed.
func paired(d []float64) *Difference {
	r := &Difference{Mean: stat.Mean(d, nil), Paired: true, N: len(d)}
	if len(d) >= 2 {
		r.infer(stat.StdDev(d, nil)/math.Sqrt(float64(len(d))), float64(len(d)-1))
	}
	return r
}

// welch is Welch's t, with the degrees of freedom of Welch and Satterthwaite.
func welch(a, b []float64) *Difference {
	r := &Difference{Mean: stat.Mean(a, nil) - stat.Mean(b, nil), N: min(len(a), len(b))}
	if r.N < 2 {
		return r
	}
	va, vb := stat.Variance(a, nil)/float64(len(a)), stat.Variance(b, nil)/float64(len(b))
	freedom := (va + vb) * (va + vb) / (va*va/float64(len(a)-1) + vb*vb/float64(len(b)-1))
	if math.IsNaN(freedom) { // no spread at all
		freedom = float64(len(a) + len(b) - 2)
	}
	r.infer(math.Sqrt(va+vb), freedom)
	return r
}

// infer sets interval and p-value for a standard error.
func (d *Difference) infer(standardError, freedom float64) {
	t := distuv.StudentsT{Mu: 0, Sigma: 1, Nu: freedom}
	half := t.Quantile((1+confidence)/2) * standardError
	d.Low, d.High = finite(d.Mean-half), finite(d.Mean+half)
	if d.N < testable {
		return
	}
	switch {
	case standardError > 0:
		d.P = finite(2 * t.Survival(math.Abs(d.Mean)/standardError))
	case d.Mean == 0:
		d.P = finite(1)
	default: // the same difference every time
		d.P = finite(0)
	}
}

// holm adjusts p-values so that the chance of one false finding among all of
// them stays what each promises (Holm 1979).
func holm(tested []*Difference) {
	slices.SortFunc(tested, func(a, b *Difference) int { return cmp.Compare(*a.P, *b.P) })
	least := 0.0
	for i, d := range tested {
		least = max(least, min(1, *d.P*float64(len(tested)-i)))
		d.Adjusted = finite(least)
	}
}

// finite is nil for what JSON cannot hold.
func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}
