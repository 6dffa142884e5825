package pruner

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/runner/search"
)

// simulation is a study with one worker on curves that cross: large x learns
// fast and ends low.
type simulation struct {
	trials []Trial
	x, y   []float64
	noise  [][28]float64 // by trial and step
	steps  int
}

// run trains n trials and promotes those that the pruner names before it starts
// a new one.
func run(t *testing.T, p Pruner, seed uint64, n int) (s *simulation, regret float64) {
	t.Helper()
	s = &simulation{}
	r := rng.New(seed, "curves")
	for range n {
		s.x, s.y = append(s.x, r.Float64()), append(s.y, r.Float64())
		var noise [28]float64
		for i := range noise {
			noise[i] = 0.01 * r.NormFloat64()
		}
		s.noise = append(s.noise, noise)
	}
	train := func(number int) {
		trial := &s.trials[number]
		from := trial.last()
		to := p.Pause(number, from)
		if to <= from || to > 27 {
			t.Fatalf("trial %d pauses at step %d after %d", number, to, from)
		}
		for step := from + 1; step <= to; step++ {
			if err := trial.Report(step, s.clean(number, step)+s.noise[number][step]); err != nil {
				t.Fatal(err)
			}
			s.steps++
		}
		trial.State = search.Paused
		if to == 27 {
			trial.State = search.Complete
		}
	}
	for {
		v := p.Judge(search.Maximize, s.trials, len(s.trials) == n)
		for _, number := range v.Stop {
			s.trials[number].State = search.Pruned
		}
		switch {
		case len(v.Continue) > 0:
			if s.trials[v.Continue[0]].State != search.Paused {
				t.Fatalf("trial %d continues and is not paused", v.Continue[0])
			}
			train(v.Continue[0])
		case len(s.trials) < n:
			s.trials = append(s.trials, Trial{Number: len(s.trials)})
			train(len(s.trials) - 1)
		default:
			best := -1
			for i, trial := range s.trials {
				if trial.State == search.Complete && (best < 0 || trial.Values[27] > s.trials[best].Values[27]) {
					best = i
				}
			}
			if best < 0 {
				t.Fatal("no trial is complete")
			}
			return s, 0.85 - s.clean(best, 27)
		}
	}
}

func (s *simulation) clean(i, step int) float64 {
	a := 0.85 - 0.3*(s.x[i]-0.35)*(s.x[i]-0.35) - 0.2*(s.y[i]-0.6)*(s.y[i]-0.6)
	return a - 0.6*math.Exp(-(0.05+0.45*s.x[i])*float64(step))
}

func median(x []float64) float64 {
	slices.Sort(x)
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}

// Optuna's pruners and promoting ones were measured on the same curves.
func TestCurvesThatCross(t *testing.T) {
	for _, c := range []struct {
		kind        string
		s           Settings
		least, most float64 // steps, median over the seeds
		regret      float64
	}{
		{"none", Settings{Last: 27}, 1620, 1620, 0.01},
		{"median", Settings{Last: 27, Every: 1}, 300, 500, 0.02},
		{"asha", Settings{Last: 27, First: 1}, 190, 235, 0.034},
		{"asha", Settings{Last: 27, First: 3}, 430, 500, 0.02},
		{"hyperband", Settings{Last: 27, First: 1}, 440, 590, 0.019},
	} {
		p, err := New(c.kind, c.s)
		if err != nil {
			t.Fatal(err)
		}
		var steps, regrets []float64
		for seed := range uint64(30) {
			s, regret := run(t, p, seed, 60)
			steps, regrets = append(steps, float64(s.steps)), append(regrets, regret)
		}
		m, r := median(steps), median(regrets)
		t.Logf("%-9s %+v: %.0f steps, regret %.4f", c.kind, c.s, m, r)
		if m < c.least || m > c.most || r > c.regret {
			t.Errorf("%s: %.0f steps, regret %.4f; want %.0f to %.0f steps and at most %.3f", c.kind, m, r, c.least, c.most, c.regret)
		}
	}
}

func TestRungsAreWrittenOnce(t *testing.T) {
	var trial Trial
	for range 2 {
		if err := trial.Report(1, 0.5); err != nil {
			t.Error(err)
		}
	}
	if err := trial.Report(1, 0.9); err == nil || !strings.Contains(err.Error(), "has the value 0.5 at step 1, which cannot become 0.9") {
		t.Error(err)
	}
	// Values between the rungs, and at later ones, do not move an earlier rung.
	p := ASHA{27, 1, 3}
	trials := []Trial{
		{Number: 0, State: search.Running, Values: map[int]float64{1: 0.3, 2: 0.9, 3: 0.95}},
		{Number: 1, State: search.Paused, Values: map[int]float64{1: 0.4}},
		{Number: 2, State: search.Paused, Values: map[int]float64{1: 0.2}},
	}
	if v := p.Judge(search.Maximize, trials, false); !slices.Equal(v.Continue, []int{1}) || v.Stop != nil {
		t.Error(v)
	}
}

func TestASHAPromotes(t *testing.T) {
	p := ASHA{27, 1, 3}
	if got := fmt.Sprint(p.rungs(), p.Pause(0, 0), p.Pause(0, 1), p.Pause(0, 2), p.Pause(0, 9)); got != "[1 3 9] 1 3 3 27" {
		t.Error(got)
	}
	var trials []Trial
	for i := range 9 {
		trials = append(trials, Trial{Number: i, State: search.Paused, Values: map[int]float64{1: float64(i)}})
	}
	judge := func(want string) {
		t.Helper()
		if got := fmt.Sprint(p.Judge(search.Minimize, trials, false)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	judge("{[0 1 2] []}")
	// One that was promoted keeps its place in the rung.
	trials[1].State = search.Running
	judge("{[0 2] []}")
	// The higher rung comes first. Nothing of one or two trials is promoted.
	for i := range 3 {
		trials[i].State = search.Paused
		trials[i].Values[3] = float64(-i)
	}
	judge("{[2] []}")
	trials[5].Values[1] = -1
	judge("{[2 5] []}")
	// A value that is not finite is the worst, and never continues.
	trials[5].Values[1] = math.Inf(-1)
	judge("{[2] [5]}")
	// A trial that was paused at a step that is no rung continues to the next.
	trials = append(trials, Trial{Number: 9, State: search.Paused, Values: map[int]float64{}})
	judge("{[2 9] [5]}")
}

func TestStudiesEndWithACompleteTrial(t *testing.T) {
	for _, kind := range Names {
		p, err := New(kind, Settings{Last: 27, First: 1})
		if err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= 20; n++ {
			run(t, p, uint64(n), n) // fails without a complete trial
		}
	}
	// A trial that runs may still complete.
	trials := []Trial{
		{Number: 0, State: search.Paused, Values: map[int]float64{1: 1}},
		{Number: 1, State: search.Running},
	}
	if v := (ASHA{27, 1, 3}).Judge(search.Maximize, trials, true); v.Continue != nil {
		t.Error(v)
	}
}

func TestHyperbandSharesTrials(t *testing.T) {
	h := Hyperband{ASHA{27, 1, 3}}
	for _, from := range []int{0, 49, 490} {
		counts := make([]int, 4)
		for i := range 49 {
			counts[h.Bracket(from+i)]++
		}
		for b, want := range []int{27, 12, 6, 4} {
			if d := counts[b] - want; d < -2 || d > 2 {
				t.Errorf("from trial %d on the brackets have %v trials, want about 27, 12, 6 and 4", from, counts)
			}
		}
	}
	for i := range 49 {
		if first := h.Pause(i, 0); first != []int{1, 3, 9, 27}[h.Bracket(i)] {
			t.Errorf("trial %d pauses first at step %d in bracket %d", i, first, h.Bracket(i))
		}
	}
}

func TestMedianStopsTheWorse(t *testing.T) {
	p, err := New("median", Settings{Last: 100, First: 10, Every: 5})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(p.Pause(0, 0), p.Pause(0, 10), p.Pause(0, 12), p.Pause(0, 95), p.Pause(0, 97)); got != "10 15 15 100 100" {
		t.Error(got)
	}
	trials := []Trial{{Number: 9, State: search.Paused, Values: map[int]float64{10: 0.31, 15: 0.1}}}
	for i := range 4 {
		trials = append(trials, Trial{Number: i, State: search.Complete, Values: map[int]float64{15: 0.1 * float64(i+1)}})
	}
	judge := func(want string) {
		t.Helper()
		if got := fmt.Sprint(p.Judge(search.Maximize, trials, false)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	judge("{[9] []}") // before 5 trials are complete
	trials = append(trials, Trial{Number: 4, State: search.Complete, Values: map[int]float64{15: 0.5}})
	judge("{[9] []}") // its best value is above the median of 0.3
	trials[0].Values[10] = 0.29
	judge("{[] [9]}")
	trials[0].Values[15] = math.NaN()
	trials[0].Values[10] = 1
	judge("{[] [9]}")
}

func TestFaultsOfPruners(t *testing.T) {
	for want, c := range map[string]struct {
		kind string
		s    Settings
	}{
		`unknown pruner "hyper"`:        {"hyper", Settings{Last: 1}},
		"at least 1 step":               {"asha", Settings{}},
		"first pause is at step 9 of 3": {"asha", Settings{Last: 3, First: 9}},
		"factor has to be 2 or more":    {"asha", Settings{Last: 3, Factor: 1}},
		"pauses every -1 steps":         {"median", Settings{Last: 3, Every: -1}},
		"between 0 and 100, and is 100": {"percentile", Settings{Last: 3, Percentile: 100}},
	} {
		if _, err := New(c.kind, c.s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func Example() {
	p, err := New("asha", Settings{Last: 270, First: 10})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("a new trial pauses at step", p.Pause(0, 0))
	trials := []Trial{
		{Number: 0, State: search.Paused, Values: map[int]float64{10: 0.61}},
		{Number: 1, State: search.Paused, Values: map[int]float64{10: 0.74}},
		{Number: 2, State: search.Paused, Values: map[int]float64{10: 0.70}},
	}
	for _, number := range p.Judge(search.Maximize, trials, false).Continue {
		fmt.Println("trial", number, "continues to step", p.Pause(number, 10))
	}
	// Output:
	// a new trial pauses at step 10
	// trial 1 continues to step 30
}
