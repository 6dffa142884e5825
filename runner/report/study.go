package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/compare"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/statistics"
)

// study is an experiment with its results, ordered as in the file.
type study struct {
	exp      *experiment.Experiment
	cells    []*cell
	families map[string]string // see familyColumns
	short    map[string]string // domains without what all share
	shared   string            // "@original", "" for nothing
	searches []*found
}

// cell is one row of the table: the runs that differ in nothing but the seed, and the
// fold in cross-validation.
type cell struct {
	name   string
	values []experiment.AxisValue
	runs   []*outcome // in order of the folds and seeds
	// repeated says that seeds divide the images into folds by themselves.
	repeated bool
}

type outcome struct {
	Result
	curve *curve // nil without a metrics file
}

// done reports whether the run is trained.
func (o *outcome) done() bool { return o.Summary != nil }

func newStudy(exp *experiment.Experiment, results []Result, searches []Search) (*study, error) {
	searches = slices.DeleteFunc(slices.Clone(searches), func(f Search) bool { return f.Progress.Experiment != exp.Name })
	if len(exp.Runs)+len(exp.Studies)+len(searches) == 0 {
		return nil, errors.New("the experiment has no runs")
	}
	type key struct {
		cell   string
		repeat name.Repeat
	}
	known := make(map[key]Result, len(results))
	for _, r := range results {
		if r.Run == nil {
			return nil, errors.New("a result belongs to no run")
		}
		if r.Run.Experiment == exp.Name {
			known[key{r.Run.Cell, r.Run.Repeat()}] = r
		}
	}
	s := &study{exp: exp, families: familyColumns(exp), short: map[string]string{}}
	domains := s.domains()
	var short []string
	short, s.shared = spec.Unseen(domains)
	for i, d := range domains {
		s.short[d] = short[i]
	}
	for _, d := range exp.Domains {
		s.short[d] = strings.TrimSuffix(d, s.shared)
	}
	byName := map[string]*cell{}
	for _, run := range exp.Runs {
		c := byName[run.Cell]
		if c == nil {
			c = &cell{name: run.Cell, values: run.Values}
			byName[run.Cell] = c
			s.cells = append(s.cells, c)
		}
		r := known[key{run.Cell, run.Repeat()}]
		r.Run = run
		c.runs = append(c.runs, &outcome{Result: r})
	}
	for _, c := range s.cells {
		slices.SortStableFunc(c.runs, func(a, b *outcome) int { return a.Run.Repeat().Compare(b.Run.Repeat()) })
		c.repeated = c.divides()
	}
	for _, f := range searches {
		s.searches = append(s.searches, s.find(f))
	}
	return s, nil
}

// Stat is a sample over seeds, or over folds and seeds: its mean is then that of the
// means of folds, and it has no interval.
type Stat struct {
	statistics.Sample
	// Folds tells the spreads over folds and over seeds apart; nil without
	// cross-validation.
	Folds *compare.Folds
}

// MarshalJSON writes null for what has no value.
func (s Stat) MarshalJSON() ([]byte, error) {
	some := func(v float64) *float64 {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil
		}
		return &v
	}
	return json.Marshal(struct {
		N    int      `json:"n"`
		Mean *float64 `json:"mean"`
		Std  *float64 `json:"std"`
		Min  *float64 `json:"min"`
		Max  *float64 `json:"max"`
		statistics.Interval
		Folds *compare.Folds `json:"folds,omitempty"`
	}{s.N, some(s.Mean), some(s.Std), some(s.Min), some(s.Max), s.Interval, s.Folds})
}

// newStat is the sample of the scores of independent runs.
func newStat(values []float64) Stat { return Stat{Sample: statistics.Of(values)} }

// deviation is the sample standard deviation, that over folds if there are any, 0
// where there is none: what a figure draws.
func (s Stat) deviation() float64 {
	if s.Folds != nil {
		if s.Folds.Std == nil {
			return 0
		}
		return *s.Folds.Std
	}
	if s.N < 2 {
		return 0
	}
	return s.Std
}

// String is the mean ± the sample standard deviation to three digits; without
// the latter where there is one value, a dash where there is none. Of folds it is the
// deviation over them, and that over seeds in brackets.
func (s Stat) String() string {
	switch {
	case s.N == 0:
		return "–"
	case s.Folds != nil:
		text := fmt.Sprintf("%.3f", s.Mean)
		if f := s.Folds.Std; f != nil {
			text += fmt.Sprintf(" ± %.3f", *f)
		}
		if f := s.Folds.SeedStd; f != nil {
			text += fmt.Sprintf(" (%.3f)", *f)
		}
		return text
	case s.N == 1:
		return fmt.Sprintf("%.3f", s.Mean)
	default:
		return fmt.Sprintf("%.3f ± %.3f", s.Mean, s.Std)
	}
}

// scores lists the metric of the cell's runs on a domain.
func (c *cell) scores(domain, name string) []float64 {
	var values []float64
	for _, o := range c.runs {
		if v, ok := o.score(domain, name); ok {
			values = append(values, v)
		}
	}
	return values
}

// first is the trained run with the smallest seed, of the first fold; or nil.
func (c *cell) first() *outcome {
	for _, o := range c.runs {
		if o.done() {
			return o
		}
	}
	return nil
}
