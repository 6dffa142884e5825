// Package search has what samplers, pruners and importance share: the trials of
// a study and their order.
//
// The packages below it search without the rest of loralab. [space] describes
// what is searched, a sampler of package sampler proposes the next point, a
// pruner of package pruner says which trials continue, package importance says
// which parameters mattered, package optunalog writes and reads studies for
// Optuna, and package tuna has goptuna's interfaces over all of it.
//
// [space]: https://pkg.go.dev/github.com/loralab/loralab/runner/search/space
package search

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/loralab/loralab/runner/search/space"
)

// Direction says which values are better.
type Direction int

const (
	Minimize Direction = iota
	Maximize
)

// Loss is a value as one to be minimized. A value that is not finite is the
// worst, +Inf: a training that diverges is never the best, not even towards -Inf.
func (d Direction) Loss(value float64) float64 {
	switch {
	case math.IsNaN(value) || math.IsInf(value, 0):
		return math.Inf(1)
	case d == Maximize:
		return -value
	}
	return value
}

// State is how far a trial is.
type State int

const (
	// Running trials have no value that counts yet.
	Running State = iota
	// Complete trials have been trained to the end.
	Complete
	// Paused trials wait at a rung and may continue. For a sampler they are as
	// good as pruned.
	Paused
	// Pruned trials were stopped before the end.
	Pruned
	// Failed trials ended without a value: an error, no memory, NaN.
	Failed
)

var states = [...]string{"running", "complete", "paused", "pruned", "failed"}

func (s State) String() string { return states[s] }

// MarshalText writes the name of the state.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the name of a state.
func (s *State) UnmarshalText(text []byte) error {
	i := slices.Index(states[:], string(text))
	if i < 0 {
		return fmt.Errorf("unknown state %q of a trial; states are %q", text, states)
	}
	*s = State(i)
	return nil
}

// Trial is what is known of one point.
type Trial struct {
	// Number is the place of the trial in its study, from 0.
	Number int
	// Point is in the space of the study.
	Point space.Point
	State State
	// Step is the last step that has a value. It orders paused and pruned trials
	// and has no effect on others.
	Step int
	// Value is the objective: at the end, or at Step. Running and failed trials
	// have none, whatever is here.
	Value float64
}

// Loss is the value of a finished trial as one to be minimized: +Inf, the worst,
// for a failed trial and a value that is not finite.
func (t Trial) Loss(d Direction) float64 {
	if t.State == Failed {
		return math.Inf(1)
	}
	return d.Loss(t.Value)
}

// Counts reports whether a trial has a value to learn from.
func (t Trial) Counts(d Direction) bool {
	return t.State != Running && !math.IsInf(t.Loss(d), 1)
}

// Compare orders trials that have ended or are paused, the best first: complete
// ones by value; then paused and pruned ones, those that came further first, and
// by value at the same step; then those without a finite value. Ties are ordered
// by number, so the order does not depend on that of the arguments.
func Compare(d Direction, a, b Trial) int {
	class := func(t Trial) int {
		switch {
		case !t.Counts(d):
			return 2
		case t.State == Complete:
			return 0
		}
		return 1
	}
	ca, cb := class(a), class(b)
	if ca != cb {
		return cmp.Compare(ca, cb)
	}
	if ca == 1 && a.Step != b.Step {
		return cmp.Compare(b.Step, a.Step)
	}
	return cmp.Or(cmp.Compare(a.Loss(d), b.Loss(d)), cmp.Compare(a.Number, b.Number))
}

// Best finds the best complete trial. There is none before the first trial that
// completes with a finite value.
func Best(d Direction, trials []Trial) (best Trial, ok bool) {
	for _, t := range trials {
		if t.State == Complete && t.Counts(d) && (!ok || Compare(d, t, best) < 0) {
			best, ok = t, true
		}
	}
	return best, ok
}
