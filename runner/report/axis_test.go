package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
)

// What a figure over an axis shows is data that does not depend on how it is
// drawn.
func TestDataOfAnAxis(t *testing.T) {
	exp := &experiment.Experiment{Name: "e", Metric: "accuracy", Axes: []string{"optim.rank", "loss"}, Domains: []string{"test", "dark"}}
	var results []Result
	add := func(cell string, values []experiment.AxisValue, seed uint64, scores ...float64) {
		run := &experiment.Run{Experiment: "e", Cell: cell, Seed: seed, Values: values, Spec: &spec.RunSpec{}}
		exp.Runs = append(exp.Runs, run)
		if scores == nil {
			return
		}
		r := Result{Run: run, Summary: &spec.Summary{}, Evaluations: map[string]*spec.Metrics{}}
		for i, x := range scores {
			r.Evaluations[exp.Domains[i]] = &spec.Metrics{Pixels: 1, Accuracy: x}
		}
		results = append(results, r)
	}
	at := func(rank any, loss string) []experiment.AxisValue {
		return []experiment.AxisValue{{Path: "optim.rank", Value: rank}, {Path: "loss", Value: loss}}
	}
	add("8,a", at(8.0, "a"), 1, 0.5, 0.25)
	add("8,a", at(8.0, "a"), 2, 0.75, 0.5)
	add("2,a", at(2.0, "a"), 1, 0.5) // not scored in the dark
	add("4,b", at(4.0, "b"), 1, 1, 1)
	add("16,b", at(16.0, "b"), 1) // not trained
	add("untrained", nil, 1)
	add("base", nil, 1, 0.125, 0.5)

	axis := func() (*axisData, bool) {
		s, err := newStudy(exp, results)
		if err != nil {
			t.Fatal(err)
		}
		return s.axisData("optim.rank")
	}
	d, ok := axis()
	if !ok {
		t.Fatal("there is no figure")
	}
	std := math.Sqrt(2 * 0.125 * 0.125)
	var b strings.Builder
	for _, line := range d.series {
		fmt.Fprintf(&b, "%s %d %d: means %.4g seeds %.4g\n", line.name, line.domain, line.group, line.means, line.seeds)
	}
	for _, l := range d.levels {
		fmt.Fprintf(&b, "%s %d %d: %v %v\n", l.name, l.domain, l.nth, l.mean, l.spread)
	}
	want := fmt.Sprintf(`test, loss=a 0 0: means [{2 0.5 0} {8 0.625 %.4g}] seeds [{8 0.5} {8 0.75}]
test, loss=b 0 1: means [{4 1 0}] seeds []
dark, loss=a 1 0: means [{8 0.375 %.4g}] seeds [{8 0.25} {8 0.5}]
dark, loss=b 1 1: means [{4 1 0}] seeds []
test, base 0 0: 0.125 0
dark, base 1 0: 0.5 0
`, std, std)
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if !slices.Equal(d.xs, []float64{2, 4, 8}) || !d.logarithmic() {
		t.Errorf("values %v, logarithmic: %v", d.xs, d.logarithmic())
	}
	if want := (extent{0.125, 1, true}); d.limits != want {
		t.Errorf("limits %v, want %v", d.limits, want)
	}
	if d.domains != 2 || d.groups != 2 {
		t.Errorf("%d domains and %d groups", d.domains, d.groups)
	}

	add("named,a", at("large", "a"), 1)
	if _, ok := axis(); ok {
		t.Error("an axis with a value that is no number has a figure")
	}
	exp.Runs = exp.Runs[:2]
	if _, ok := axis(); ok {
		t.Error("an axis with one value has a figure")
	}
}

// A logarithmic scale needs values above zero that span two octaves.
func TestScaleOfAnAxis(t *testing.T) {
	for _, c := range []struct {
		xs   []float64
		want bool
	}{{[]float64{1, 4}, true}, {[]float64{1, 3.9}, false}, {[]float64{0, 10}, false}, {[]float64{-1, 10}, false}} {
		if got := (&axisData{xs: c.xs}).logarithmic(); got != c.want {
			t.Errorf("%v: logarithmic is %v", c.xs, got)
		}
	}
}
