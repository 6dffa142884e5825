// Package pruner decides how far the trials of a study are trained.
//
// A trial pauses at steps that its pruner names, with its checkpoint and a value
// there. [Pruner.Judge] then says which paused trials continue and which never
// will. A trial that continues does so from its checkpoint, so that no step is
// done twice. All decisions are pure functions of the trials, whatever the
// order in which they arrive, so any process can make them.
package pruner

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/loralab/loralab/runner/search"
)

// Trial is what a pruner knows of a trial.
type Trial struct {
	Number int
	State  search.State
	// Values are those of the objective by step. A pruner compares trials by
	// the values at its own steps; [Trial.Report] writes each once.
	Values map[int]float64
}

// Report writes the value at a step. A value that is there stays: a step that
// is done again, after a crash, has the same one.
func (t *Trial) Report(step int, value float64) error {
	if old, ok := t.Values[step]; ok {
		if old != value && !(math.IsNaN(old) && math.IsNaN(value)) {
			return fmt.Errorf("trial %d has the value %v at step %d, which cannot become %v", t.Number, old, step, value)
		}
		return nil
	}
	if t.Values == nil {
		t.Values = map[int]float64{}
	}
	t.Values[step] = value
	return nil
}

// last is the last step that has a value, or 0.
func (t Trial) last() int {
	last := 0
	for step := range t.Values {
		last = max(last, step)
	}
	return last
}

// Verdict says what happens to trials that are paused. Those that are in neither
// list wait.
type Verdict struct {
	// Continue are the numbers of the trials that continue now, the most urgent
	// first.
	Continue []int
	// Stop are those that will never continue.
	Stop []int
}

// Pruner decides how far trials are trained.
type Pruner interface {
	// Pause is the step at which a trial pauses next after a step (0 for a new
	// trial). It is the last step of the schedule when there is no pause any
	// more: the trial is then complete there.
	Pause(number, step int) int
	// Judge looks at all trials of a study. With over, no new trial will start:
	// then the best of the trials that wait continues where the study would end
	// without a complete one.
	Judge(d search.Direction, trials []Trial, over bool) Verdict
}

// Settings are what users may say. Fields that a kind does not have are ignored.
type Settings struct {
	// Last is the number of steps of the schedule.
	Last int
	// First is the first step at which trials pause: the lowest rung of asha and
	// hyperband, and the warm-up of median and percentile. 0 is the lowest rung
	// Last/Factor³ for the former and Every for the latter.
	First int
	// Factor is the share, 1/Factor, of the trials of a rung that continue, and
	// the ratio of the steps of rungs. 0 is 3.
	Factor int
	// Every is the distance of the pauses of median and percentile. 0 is Last/20.
	Every int
	// Percentile is the percentage of complete trials that a trial has to be
	// among. 0 is 25.
	Percentile float64
	// Startup is how many trials have to be complete before median and
	// percentile stop any. 0 is 5.
	Startup int
}

// Names are the kinds of pruners that [New] makes.
var Names = []string{"none", "median", "percentile", "asha", "hyperband"}

// New makes a pruner.
func New(kind string, s Settings) (Pruner, error) {
	set := func(x *int, value int) {
		if *x == 0 {
			*x = max(value, 1)
		}
	}
	set(&s.Factor, 3)
	set(&s.Every, s.Last/20)
	set(&s.Startup, 5)
	if s.Percentile == 0 {
		s.Percentile = 25
	}
	switch {
	case s.Last < 1:
		return nil, fmt.Errorf("a schedule has at least 1 step, and it has %d", s.Last)
	case s.First < 0 || s.First > s.Last:
		return nil, fmt.Errorf("the first pause is at step %d of %d", s.First, s.Last)
	case s.Factor < 2:
		return nil, fmt.Errorf("the factor has to be 2 or more, and is %d", s.Factor)
	case s.Every < 1 || s.Startup < 0:
		return nil, fmt.Errorf("pauses every %d steps after %d trials", s.Every, s.Startup)
	case !(s.Percentile > 0 && s.Percentile < 100):
		return nil, fmt.Errorf("the percentile has to be between 0 and 100, and is %v", s.Percentile)
	}
	switch kind {
	case "none":
		return None{s.Last}, nil
	case "median", "percentile":
		set(&s.First, s.Every)
		if kind == "median" {
			s.Percentile = 50
		}
		return Percentile{s.Last, s.First, s.Every, s.Startup, s.Percentile}, nil
	case "asha", "hyperband":
		set(&s.First, s.Last/(s.Factor*s.Factor*s.Factor))
		a := ASHA{s.Last, s.First, s.Factor}
		if kind == "asha" {
			return a, nil
		}
		return Hyperband{a}, nil
	}
	return nil, fmt.Errorf("unknown pruner %q; pruners are %q", kind, Names)
}

// None trains all trials to the end.
type None struct{ Last int }

// Pause is the last step.
func (n None) Pause(number, step int) int { return n.Last }

// Judge lets every trial that is paused continue.
func (n None) Judge(d search.Direction, trials []Trial, over bool) Verdict {
	var v Verdict
	for _, t := range trials {
		if t.State == search.Paused {
			v.Continue = append(v.Continue, t.Number)
		}
	}
	slices.Sort(v.Continue)
	return v
}

// ASHA is asynchronous successive halving. Trials pause at the rungs First,
// First·Factor, First·Factor² and so forth. One continues when it is among the
// best 1/Factor of all trials that have reached its rung so far, now or later;
// trials of high rungs come first. A value at a rung is never replaced by that
// of a later step.
//
// Li et al., "A system for massively parallel hyperparameter tuning", 2020.
type ASHA struct {
	Last, First, Factor int
}

// Pause is the next rung, or the last step.
func (a ASHA) Pause(number, step int) int {
	for rung := a.First; rung < a.Last; rung *= a.Factor {
		if rung > step {
			return rung
		}
	}
	return a.Last
}

// rungs are the steps at which trials pause.
func (a ASHA) rungs() (steps []int) {
	for rung := a.Pause(0, 0); rung < a.Last; rung = a.Pause(0, rung) {
		steps = append(steps, rung)
	}
	return steps
}

// Judge lists the trials that are promoted.
func (a ASHA) Judge(d search.Direction, trials []Trial, over bool) Verdict {
	var v Verdict
	var waits []Trial // the best of the highest rung first
	decided := map[int]bool{}
	rungs := a.rungs()
	for _, rung := range slices.Backward(rungs) {
		var reached []Trial
		for _, t := range trials {
			if _, ok := t.Values[rung]; ok {
				reached = append(reached, t)
			}
		}
		slices.SortFunc(reached, func(x, y Trial) int {
			return cmp.Or(cmp.Compare(d.Loss(x.Values[rung]), d.Loss(y.Values[rung])), cmp.Compare(x.Number, y.Number))
		})
		for i, t := range reached {
			if t.State != search.Paused || decided[t.Number] {
				continue
			}
			decided[t.Number] = true
			switch {
			case math.IsInf(d.Loss(t.Values[rung]), 1):
				v.Stop = append(v.Stop, t.Number)
			case i < len(reached)/a.Factor:
				v.Continue = append(v.Continue, t.Number)
			default:
				waits = append(waits, t)
			}
		}
	}
	for _, t := range trials {
		if t.State == search.Paused && !decided[t.Number] {
			// It is between rungs, since it was stopped by hand or the rungs moved.
			v.Continue = append(v.Continue, t.Number)
		}
	}
	if over && len(v.Continue) == 0 && len(waits) > 0 && stuck(trials) {
		v.Continue = []int{waits[0].Number}
	}
	return v
}

// stuck reports whether no trial is complete, nor will be.
func stuck(trials []Trial) bool {
	return !slices.ContainsFunc(trials, func(t Trial) bool { return t.State == search.Complete || t.State == search.Running })
}

// Hyperband is several [ASHA], the brackets, which begin at the rungs First,
// First·Factor and so forth, and at the last step: a trial that learns late gets
// its chance in one of the later ones. A trial's bracket depends on its number.
// Early brackets have more trials, so that all take about the same steps.
//
// Li et al., "Hyperband: a novel bandit-based approach to hyperparameter
// optimization", 2018.
type Hyperband struct{ ASHA }

// brackets are the shares of the trials, the lowest first rung first.
func (h Hyperband) brackets() []float64 {
	b := len(h.rungs()) + 1
	shares := make([]float64, b)
	var sum float64
	for i := range shares {
		shares[i] = math.Ceil(float64(b) * math.Pow(float64(h.Factor), float64(b-1-i)) / float64(b-i))
		sum += shares[i]
	}
	for i := range shares {
		shares[i] /= sum
	}
	return shares
}

// Bracket is that of a trial, from 0, the one with the lowest first rung.
func (h Hyperband) Bracket(number int) int {
	// The multiples of the golden ratio fill [0, 1) evenly: of any 49 trials in
	// a row, each bracket has its share within one or two.
	_, u := math.Modf((float64(number) + 0.5) * (math.Sqrt(5) - 1) / 2)
	shares := h.brackets()
	for b, share := range shares {
		if u -= share; u < 0 {
			return b
		}
	}
	return len(shares) - 1
}

// bracket is the ASHA of a bracket.
func (h Hyperband) bracket(b int) ASHA {
	a := h.ASHA
	for range b {
		a.First *= a.Factor
	}
	return a
}

// Pause is the next rung of the trial's bracket, or the last step.
func (h Hyperband) Pause(number, step int) int {
	return h.bracket(h.Bracket(number)).Pause(number, step)
}

// Judge lists the trials that are promoted in their brackets.
func (h Hyperband) Judge(d search.Direction, trials []Trial, over bool) Verdict {
	var v Verdict
	for b := range h.brackets() {
		var own []Trial
		for _, t := range trials {
			if h.Bracket(t.Number) == b {
				own = append(own, t)
			}
		}
		w := h.bracket(b).Judge(d, own, false)
		v.Continue = append(v.Continue, w.Continue...)
		v.Stop = append(v.Stop, w.Stop...)
	}
	steps := map[int]int{}
	for _, t := range trials {
		steps[t.Number] = t.last()
	}
	slices.SortStableFunc(v.Continue, func(x, y int) int { return cmp.Compare(steps[y], steps[x]) })
	if over && len(v.Continue) == 0 && stuck(trials) {
		// As if all were of one bracket.
		best := h.ASHA.Judge(d, trials, true).Continue
		v.Continue = best[:min(1, len(best))]
	}
	return v
}

// Percentile stops a trial whose best value so far is worse than the given
// percentile of complete trials at the same step. 50 is the median.
type Percentile struct {
	Last, First, Every, Startup int
	Percentile                  float64
}

// Pause is the next step at which the trial is compared, or the last step.
func (p Percentile) Pause(number, step int) int {
	next := p.First
	if step >= p.First {
		next += ((step-p.First)/p.Every + 1) * p.Every
	}
	return min(next, p.Last)
}

// Judge compares each paused trial with the complete ones.
func (p Percentile) Judge(d search.Direction, trials []Trial, over bool) Verdict {
	var v Verdict
	complete := 0
	for _, t := range trials {
		if t.State == search.Complete {
			complete++
		}
	}
	sorted := slices.Clone(trials)
	slices.SortFunc(sorted, func(a, b Trial) int { return cmp.Compare(a.Number, b.Number) })
	for _, t := range sorted {
		if t.State != search.Paused {
			continue
		}
		step := t.last()
		best := math.Inf(1)
		for _, x := range t.Values {
			best = min(best, d.Loss(x))
		}
		var others []float64
		for _, o := range trials {
			if x, ok := o.Values[step]; ok && o.State == search.Complete && !math.IsInf(d.Loss(x), 1) {
				others = append(others, d.Loss(x))
			}
		}
		switch {
		case len(t.Values) > 0 && math.IsInf(d.Loss(t.Values[step]), 1):
			v.Stop = append(v.Stop, t.Number)
		case complete < p.Startup || len(others) == 0 || best <= percentile(others, p.Percentile):
			v.Continue = append(v.Continue, t.Number)
		default:
			v.Stop = append(v.Stop, t.Number)
		}
	}
	return v
}

// percentile interpolates between values.
func percentile(x []float64, p float64) float64 {
	slices.Sort(x)
	at := p / 100 * float64(len(x)-1)
	i := int(at)
	if i+1 >= len(x) {
		return x[len(x)-1]
	}
	return x[i] + (at-float64(i))*(x[i+1]-x[i])
}
