package report

import (
	"fmt"
	"math"
	"strings"
)

// matched is how much more of something one cell may have than another for
// their budgets to count as matched.
const matched = 1.05

// budgets says what the cells that are compared had to work with, and names
// what was not equal: trained parameters of the adapter, of the rest, steps and
// images. It is computed from what was trained, not from what was asked for.
func (s *study) budgets() []string {
	var adapted, trained []*outcome
	var without []string
	for _, c := range s.cells {
		o := c.first()
		switch {
		case o == nil:
			continue
		case o.Summary.AdapterParams > 0:
			adapted = append(adapted, o)
		default:
			without = append(without, c.name)
		}
		trained = append(trained, o)
	}
	var notes []string
	if text := adapterBudget(adapted, without); text != "" {
		notes = append(notes, text)
	}
	unequal := func(what string, of func(*outcome) uint64) {
		if r := spread(trained, of); r.low != r.high {
			notes = append(notes, fmt.Sprintf("Not matched in %s: %s.", what, r))
		}
	}
	unequal("trained backbone parameters", func(o *outcome) uint64 { return o.Summary.BackboneParams })
	unequal("head parameters", func(o *outcome) uint64 { return o.Summary.HeadParams })
	unequal("images to train on", func(o *outcome) uint64 {
		return uint64(o.Run.Spec.GetData().GetSplits()["train"].GetCount())
	})
	unequal("batch", func(o *outcome) uint64 { return uint64(o.Run.Spec.GetTrain().GetBatch()) })
	unequal("training steps", func(o *outcome) uint64 { return o.Summary.Steps })
	return notes
}

// adapterBudget compares the cells that have an adapter, and names those that
// have none. It says nothing of less than two.
func adapterBudget(adapted []*outcome, without []string) string {
	if len(adapted) < 2 {
		return ""
	}
	r := spread(adapted, func(o *outcome) uint64 { return o.Summary.AdapterParams })
	var text string
	switch more := float64(r.high) / float64(r.low); {
	case more == 1:
		text = fmt.Sprintf("Budget-matched: adapter parameters are equal, %s", thousands(r.low))
	case more <= matched:
		// Rounded up: within 3.3 % is true of 3.26.
		text = fmt.Sprintf("Budget-matched: adapter parameters within %.1f %%, %s", math.Ceil((more-1)*1000)/10, r)
	default:
		text = fmt.Sprintf("Not budget-matched: adapter parameters %s", r)
	}
	if len(without) > 0 {
		text += "; without an adapter: " + strings.Join(without, ", ")
	}
	return text + "."
}

// bounds are the least and the most of something, and the first cells to have
// so much.
type bounds struct {
	low, high         uint64
	lowCell, highCell string
}

func (b bounds) String() string {
	return fmt.Sprintf("from %s (%s) to %s (%s)", thousands(b.low), b.lowCell, thousands(b.high), b.highCell)
}

// spread is the range of a number over runs.
func spread(runs []*outcome, of func(*outcome) uint64) bounds {
	var b bounds
	for i, o := range runs {
		n := of(o)
		if i == 0 || n < b.low {
			b.low, b.lowCell = n, o.Run.Cell
		}
		if i == 0 || n > b.high {
			b.high, b.highCell = n, o.Run.Cell
		}
	}
	return b
}
