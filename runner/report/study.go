package report

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/loralab/loralab/runner/experiment"
)

// study is an experiment with its results, ordered as in the file.
type study struct {
	exp      *experiment.Experiment
	cells    []*cell
	families map[string]string // see familyColumns
}

// cell is one row of the table: the runs that differ in nothing but the seed.
type cell struct {
	name   string
	values []experiment.AxisValue
	runs   []*outcome // in order of the seeds
}

type outcome struct {
	Result
	curve *curve // nil without a metrics file
}

// done reports whether the run is trained.
func (o *outcome) done() bool { return o.Summary != nil }

func newStudy(exp *experiment.Experiment, results []Result) (*study, error) {
	if len(exp.Runs) == 0 {
		return nil, errors.New("the experiment has no runs")
	}
	type key struct {
		cell string
		seed uint64
	}
	known := make(map[key]Result, len(results))
	for _, r := range results {
		if r.Run == nil {
			return nil, errors.New("a result belongs to no run")
		}
		if r.Run.Experiment == exp.Name {
			known[key{r.Run.Cell, r.Run.Seed}] = r
		}
	}
	s := &study{exp: exp, families: familyColumns(exp)}
	byName := map[string]*cell{}
	for _, run := range exp.Runs {
		c := byName[run.Cell]
		if c == nil {
			c = &cell{name: run.Cell, values: run.Values}
			byName[run.Cell] = c
			s.cells = append(s.cells, c)
		}
		r := known[key{run.Cell, run.Seed}]
		r.Run = run
		c.runs = append(c.runs, &outcome{Result: r})
	}
	for _, c := range s.cells {
		slices.SortStableFunc(c.runs, func(a, b *outcome) int { return cmp.Compare(a.Run.Seed, b.Run.Seed) })
	}
	return s, nil
}

// Stat is a sample over seeds.
type Stat struct {
	N    int
	Mean float64 // NaN without values
	Std  float64 // of the sample, n−1 in the denominator; NaN below two values
	Min  float64
	Max  float64
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
	}{s.N, some(s.Mean), some(s.Std), some(s.Min), some(s.Max)})
}

func newStat(values []float64) Stat {
	nan := math.NaN()
	s := Stat{N: len(values), Mean: nan, Std: nan, Min: nan, Max: nan}
	if s.N == 0 {
		return s
	}
	s.Min, s.Max = slices.Min(values), slices.Max(values)
	s.Mean = 0
	for _, v := range values {
		s.Mean += v
	}
	s.Mean /= float64(s.N)
	if s.N > 1 {
		var squares float64
		for _, v := range values {
			squares += (v - s.Mean) * (v - s.Mean)
		}
		s.Std = math.Sqrt(squares / float64(s.N-1))
	}
	return s
}

// deviation is the sample standard deviation, 0 where there is none: what a
// figure draws.
func (s Stat) deviation() float64 {
	if s.N < 2 {
		return 0
	}
	return s.Std
}

// String is the mean ± the sample standard deviation to three digits; without
// the latter where there is one value, a dash where there is none.
func (s Stat) String() string {
	switch {
	case s.N == 0:
		return "–"
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

// first is the trained run with the smallest seed, or nil.
func (c *cell) first() *outcome {
	for _, o := range c.runs {
		if o.done() {
			return o
		}
	}
	return nil
}

// number is where the cell stands on a numeric axis.
func (c *cell) number(path string) (float64, bool) {
	for _, v := range c.values {
		if v.Path == path {
			return toNumber(v.Value)
		}
	}
	return 0, false
}

// others names where the cell stands on the axes but one, "" with none.
func (c *cell) others(path string) string {
	var parts []string
	for _, v := range c.values {
		if v.Path != path {
			parts = append(parts, fmt.Sprintf("%s=%v", lastElement(v.Path), v.Value))
		}
	}
	return strings.Join(parts, ", ")
}

func toNumber(v any) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case float32:
		return float64(v), true
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	case uint64:
		return float64(v), true
	default:
		return 0, false
	}
}

func lastElement(path string) string {
	return path[strings.LastIndexByte(path, '.')+1:]
}

// metricLabel is how a metric is called on an axis.
func metricLabel(name string) string {
	kind, of, _ := strings.Cut(name, "/")
	if kind == "original" { // soft, weighted, by batches
		return "original " + metricLabel(of)
	}
	kind = map[string]string{"dice": "Dice", "iou": "IoU", "accuracy": "pixel accuracy", "loss": "loss"}[kind]
	switch of {
	case "":
		return kind
	case "mean":
		return "mean " + kind
	default:
		return kind + " (" + of + ")"
	}
}

// bounded reports whether the metric lies in 0…1.
func bounded(name string) bool { return name != "loss" }
