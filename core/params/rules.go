package params

import (
	"fmt"
	"path"
	"strings"

	"github.com/loralab/loralab/core/spec"
)

// RuleError says what is wrong with the rules of an optimiser.
type RuleError struct {
	// Malformed are patterns that are none, Idle those that take no tensor,
	// because none has such a name or an earlier rule has them all; by index.
	Malformed, Idle []int
	// Untaken are the names of the tensors that no rule takes.
	Untaken []string

	rules []*spec.Rule
}

func (e *RuleError) Error() string {
	var parts []string
	for _, i := range e.Malformed {
		parts = append(parts, fmt.Sprintf("the pattern %q is malformed", e.rules[i].GetPattern()))
	}
	for _, i := range e.Idle {
		parts = append(parts, fmt.Sprintf("the pattern %q takes no tensor", e.rules[i].GetPattern()))
	}
	if n := len(e.Untaken); n > 0 {
		shown := strings.Join(e.Untaken[:min(n, 8)], ", ")
		if n > 8 {
			shown += fmt.Sprintf(" and %d more", n-8)
		}
		parts = append(parts, fmt.Sprintf("no pattern takes %s", shown))
	}
	return strings.Join(parts, "; ")
}

// settle gives each tensor what the first rule that matches its name says. A
// frozen parameter of an adapter, a buffer of its program, stays frozen and
// needs no rule.
func settle(tensors []Tensor, o *spec.Optim) error {
	rules := o.GetRules()
	if len(rules) == 0 {
		return nil
	}
	e := &RuleError{rules: rules}
	for i, r := range rules {
		if _, err := path.Match(r.GetPattern(), ""); err != nil {
			e.Malformed = append(e.Malformed, i)
		}
	}
	took := make([]bool, len(rules))
	for i := range tensors {
		t := &tensors[i]
		buffer := t.Part == Adapter && !t.Trains
		at := first(rules, t.Name)
		switch {
		case at < 0 && !buffer:
			e.Untaken = append(e.Untaken, t.Name)
			continue
		case at < 0:
			continue
		}
		took[at] = true
		if buffer {
			continue
		}
		r := rules[at]
		t.Trains = !r.GetFrozen() || r.GetUntilEpoch() > 0
		t.LR, t.Decay, t.Until = 0, 0, 0
		if !t.Trains {
			continue
		}
		t.LR, t.Decay = r.GetLr()*t.lrMult(), o.GetWeightDecay()*t.decayMult()
		if r.WeightDecay != nil {
			t.Decay = r.GetWeightDecay() * t.decayMult()
		}
		if r.GetFrozen() {
			t.Until = r.GetUntilEpoch()
		}
	}
	for i, ok := range took {
		if _, err := path.Match(rules[i].GetPattern(), ""); !ok && err == nil {
			e.Idle = append(e.Idle, i)
		}
	}
	if len(e.Malformed)+len(e.Idle)+len(e.Untaken) > 0 {
		return e
	}
	return nil
}

// first is the index of the first rule that takes a name, -1 for none.
func first(rules []*spec.Rule, name string) int {
	for i, r := range rules {
		// Names hold no slash, so * is anything at all.
		if ok, err := path.Match(r.GetPattern(), name); ok && err == nil {
			return i
		}
	}
	return -1
}
