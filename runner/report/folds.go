package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/compare"
	"github.com/loralab/loralab/runner/statistics"
)

// Cross-validation: a row of the table has runs of several folds and seeds.
// docs/statistics.md has the formulas.

// group is a cell for package compare, on these domains.
func (s *study) group(c *cell, domains []string) compare.Group {
	return compare.Group{Name: c.name, Runs: s.byRun(c, domains), Folds: s.exp.Folds, Repeated: c.repeated}
}

// divides reports whether seeds divide the images of the cell by themselves.
func (c *cell) divides() bool {
	var specs []*spec.RunSpec
	for _, o := range c.runs {
		specs = append(specs, o.Run.Spec)
	}
	return compare.Repeated(specs)
}

// repeated reports whether seeds divide the images of any cell by themselves.
func (s *study) repeated() bool {
	return slices.ContainsFunc(s.cells, func(c *cell) bool { return c.repeated })
}

// sample is a metric of a cell on a domain: the statistics, and the values that
// figures show as rings, which are those of the seeds, or of the folds.
func (s *study) sample(c *cell, domain, metric string) (st Stat, rings []float64) {
	return s.sampleOf(c, func(o *outcome) (float64, bool) { return o.score(domain, metric) })
}

// sampleOf is sample of any score of a run.
func (s *study) sampleOf(c *cell, score func(*outcome) (float64, bool)) (st Stat, rings []float64) {
	for _, o := range c.runs {
		if v, ok := score(o); ok {
			rings = append(rings, v)
		}
	}
	if s.exp.Folds == 0 || len(rings) == 0 {
		return newStat(rings), rings
	}
	st.Sample = statistics.Described(rings)
	runs := map[name.Repeat]float64{}
	for _, o := range c.runs {
		if v, ok := score(o); ok {
			runs[o.Run.Repeat()] = v
		}
	}
	st.Folds = compare.NewFolds(runs, s.exp.Folds, c.repeated)
	st.Mean = st.Folds.Mean()
	return st, st.Folds.Means()
}

// pooled is a metric of a cell from the counts of all folds together, as if their
// test images were those of one run: its statistics over seeds. It is nil where folds do
// not differ in their images, or a fold or its counts are missing.
func (s *study) pooled(c *cell, domain, of string) *Stat {
	bySeed := map[uint64][]*spec.Metrics{}
	var seeds []uint64
	images := map[string]bool{}
	for _, o := range c.runs {
		m := o.Evaluations[domain]
		if m == nil {
			continue
		}
		if bySeed[o.Run.Seed] == nil {
			seeds = append(seeds, o.Run.Seed)
		}
		bySeed[o.Run.Seed] = append(bySeed[o.Run.Seed], m)
		images[o.testDigest(domain)] = true
	}
	var values []float64
	for _, seed := range seeds {
		if len(bySeed[seed]) != int(s.exp.Folds) || len(images) < int(s.exp.Folds) {
			continue
		}
		if v, ok := metric.Value(metric.Pool(bySeed[seed]), of); ok {
			values = append(values, v)
		}
	}
	if len(values) == 0 {
		return nil
	}
	st := newStat(values)
	return &st
}

// testDigest is that of the images that a run is scored on.
func (o *outcome) testDigest(domain string) string {
	for _, e := range o.Run.Evaluations {
		if e.Spec.GetDomain() == domain {
			return e.Spec.GetData().GetSplits()["test"].GetDigest()
		}
	}
	return ""
}

// folds are those that the experiment has runs of.
func (s *study) folds() (list []uint32) {
	for _, run := range s.exp.Runs {
		if n, ok := run.Fold.Number(); ok && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list
}

// foldNotes say what folds do to the numbers.
func (s *study) foldNotes(t Table) (notes []string) {
	add := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	within := "in brackets the standard deviation over the seeds of a fold, pooled over folds"
	if s.repeated() {
		within = "in brackets that over seeds, each of which divides the images by itself; the former is then within a seed"
	}
	add("Cross-validation in %d folds: mean ± sample standard deviation (n−1) over folds, %s. n is folds × seeds. Folds share training images, so their spread is no standard error of independent runs.", s.exp.Folds, within)
	if list := s.folds(); len(list) < int(s.exp.Folds) {
		var texts []string
		for _, n := range list {
			texts = append(texts, strconv.FormatUint(uint64(n), 10))
		}
		add("**A part of the cross-validation**: only of fold %s of %d, numbered from 0.", strings.Join(texts, ", "), s.exp.Folds)
	}
	if t.pools() {
		add("Pooled: from the pixel counts of all folds together, as each image is tested in one of them; mean ± standard deviation over seeds.")
	}
	add("Scores come from pixel counts over the images of a fold; a mean over classes leaves out those that neither occur nor are predicted.")
	return notes
}

// pools reports whether the table has scores from the counts of all folds.
func (t Table) pools() bool {
	return slices.ContainsFunc(t.Rows, func(r Row) bool {
		return slices.ContainsFunc(r.Scores, func(s Score) bool { return s.Pooled != nil })
	})
}

// pooledDomains are the domains with such scores.
func (t Table) pooledDomains() (list []int) {
	for i := range t.Domains {
		if slices.ContainsFunc(t.Rows, func(r Row) bool { return r.Scores[i].Pooled != nil }) {
			list = append(list, i)
		}
	}
	return list
}

// foldCSV are the columns that the table of a cross-validation has in addition.
var foldCSV = []string{"folds", "fold_sample_std", "seeds", "seed_std", "pooled_n", "pooled_mean", "pooled_sample_std"}

func (s Score) foldCSV() []string {
	line := make([]string, len(foldCSV))
	if f := s.Metric.Folds; f != nil {
		line[0], line[1], line[2], line[3] = strconv.Itoa(f.N), optional(f.Std), strconv.Itoa(f.Seeds), optional(f.SeedStd)
	}
	if p := s.Pooled; p != nil {
		line[4], line[5], line[6] = strconv.Itoa(p.N), number(p.Mean), number(p.Std)
	}
	return line
}

// counted is how many runs a row has: of a whole cross-validation folds × seeds.
func (r Row) counted() string {
	switch {
	case r.N < r.Planned:
		return fmt.Sprintf("%d of %d", r.N, r.Planned)
	case r.Folds > 0:
		return fmt.Sprintf("%d×%d", r.Folds, r.Planned/r.Folds)
	}
	return strconv.Itoa(r.N)
}

// spreads are the words for bars and rings of a figure.
func (s *study) spreads() (bars, rings string) {
	switch {
	case s.exp.Folds == 0:
		return "the sample standard deviation", "the seeds"
	case s.repeated():
		return "the standard deviation over folds within a seed", "the runs"
	}
	return "the sample standard deviation over folds", "the means of the folds over seeds"
}

// over is what curves are averaged over.
func (s *study) over() (mean, of string) {
	if s.exp.Folds > 0 {
		return "folds and seeds", "runs"
	}
	return "seeds", "seeds"
}

// foldsText is "3 folds × 2 seeds" in a caption.
func (s *study) foldsText() string {
	low, high := math.MaxInt, 0
	for _, c := range s.cells {
		folds, seeds := map[name.Fold]bool{}, map[uint64]bool{}
		for _, o := range c.runs {
			if o.done() {
				folds[o.Run.Fold], seeds[o.Run.Seed] = true, true
			}
		}
		if len(folds) > 0 {
			low, high = min(low, len(seeds)), max(high, len(seeds))
		}
	}
	n := len(s.folds())
	switch {
	case high == 0:
		return "no run yet"
	case low == high && low == 1:
		return fmt.Sprintf("%d folds, 1 seed", n)
	case low == high:
		return fmt.Sprintf("%d folds × %d seeds", n, low)
	}
	return fmt.Sprintf("%d folds, %d to %d seeds", n, low, high)
}
