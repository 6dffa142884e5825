package report

import (
	"math"
	"slices"
	"testing"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
)

// Many corruptions are one column for each family: the mean over them, only of
// runs that have all.
func TestCorruptionsByFamily(t *testing.T) {
	for _, seen := range []string{"", "@original"} {
		t.Run("seen"+seen, func(t *testing.T) { corruptionsByFamily(t, seen) })
	}
}

func corruptionsByFamily(t *testing.T, seen string) {
	as := func(names ...string) []string {
		for i := range names {
			names[i] += seen
		}
		return names
	}
	// "snow-2" is a set of images of its own (trial-language W4).
	domains := as("test", "fog-1", "fog-3", "contrast-1", "snow-3", "snow-2")
	made := map[string]string{domains[1]: "fog", domains[2]: "fog", domains[3]: "contrast", domains[4]: "snow"}
	run := func(seed uint64, dice ...float64) (*experiment.Run, Result) {
		r := &experiment.Run{Experiment: "x", Cell: "base", Seed: seed, Spec: &spec.RunSpec{}}
		res := Result{Run: r, Summary: &spec.Summary{}, Evaluations: map[string]*spec.Metrics{}}
		for i, d := range domains {
			e := &spec.Evaluation{Domain: d, Data: &spec.Data{}}
			if seen != "" {
				e.Resolution = spec.Original
			}
			if made[d] != "" {
				e.Data.Corruption = &spec.Corruption{Kind: made[d], Severity: 1}
			}
			r.Evaluations = append(r.Evaluations, experiment.Evaluation{Spec: e})
			if i < len(dice) {
				res.Evaluations[d] = &spec.Metrics{Dice: dice[i], Pixels: 1, Images: 4}
			}
		}
		return r, res
	}
	a, ra := run(1, 0.9, 0.6, 0.3, 0.5, 0.3, 0.7)
	b, rb := run(2, 0.8, 0.6, 0.3)
	exp := &experiment.Experiment{Name: "x", Metric: "dice/mean", Domains: domains, Runs: []*experiment.Run{a, b}}
	s, err := newStudy(exp, []Result{ra, rb}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tab := s.table()
	if want := as("test", "weather corruptions", "digital corruptions", "snow-2"); !slices.Equal(tab.Domains, want) {
		t.Fatalf("columns %v", tab.Domains)
	}
	scores := tab.Rows[0].Scores
	if got := scores[1].Metric; got.N != 1 || math.Abs(got.Mean-0.4) > 1e-12 {
		t.Errorf("weather: %+v, want the mean of the run that has all", got)
	}
	if got := scores[2].Metric; got.N != 1 || got.Mean != 0.5 {
		t.Errorf("digital: %+v", got)
	}
	if got := s.pictured(); !slices.Equal(got, as("test", "fog-1", "contrast-1", "snow-2")) {
		t.Errorf("pictures of %v", got)
	}
	exp.Domains = domains[:3]
	if got := s.domains(); !slices.Equal(got, domains[:3]) {
		t.Errorf("few corruptions are shown as %v", got)
	}
}
