package study

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/loralab/loralab/runner/search"
	"github.com/loralab/loralab/runner/search/sampler"
	"github.com/loralab/loralab/runner/search/space"
)

// What a sampler has seen. The file of a trial has what is new since the trial
// before, so that all files together say what each of them was drawn from, and none
// grows with the study.

// A Seen is the state of a trial as a sampler saw it.
type Seen struct {
	Trial int    `json:"trial"`
	State State  `json:"state"`
	Step  uint64 `json:"step,omitempty"` // of a paused or pruned one
}

// outside is the state of a trial that was seen and is no part of the search any more,
// because the space has moved.
const outside State = "outside"

// tell brings what is known of trials up to date.
func tell(known map[int]Seen, news []Seen) {
	for _, s := range news {
		known[s.Trial] = s
	}
}

// told is what is known of trials after these news.
func told(known map[int]Seen, news []Seen) map[int]Seen {
	all := maps.Clone(known)
	tell(all, news)
	return all
}

// news is what has changed in the trials since the last one was drawn.
func (s *Study) news() (changes []Seen) {
	left := 0
	for _, t := range s.Trials {
		now := Seen{Trial: t.Number, State: t.State}
		if t.State == Paused || t.State == Pruned {
			now.Step = t.Step
		}
		before, known := s.told[t.Number]
		if known && before.State != outside {
			left++
		}
		if before != now {
			changes = append(changes, now)
		}
	}
	for _, before := range s.told {
		if before.State != outside {
			left--
		}
	}
	if left < 0 {
		for n, before := range s.told {
			if _, in := s.trial(n); !in && before.State != outside {
				changes = append(changes, Seen{Trial: n, State: outside})
			}
		}
		slices.SortFunc(changes, func(a, b Seen) int { return a.Trial - b.Trial })
	}
	return changes
}

// trial finds a trial by its number.
func (s *Study) trial(number int) (*Trial, bool) {
	i, ok := slices.BinarySearchFunc(s.Trials, number, func(t *Trial, n int) int { return t.Number - n })
	if !ok {
		return nil, false
	}
	return s.Trials[i], true
}

// question is what a sampler is asked for a trial where these are the trials seen.
func (s *Study) question(ctx context.Context, f *file, seen map[int]Seen) (sampler.Ask, error) {
	ask := sampler.Ask{Seed: f.Seed, Number: f.Number, Space: s.Space, Direction: s.direction()}
	ask.Refuse = func(p space.Point) bool {
		_, err := s.runsOf(ctx, f.Number, s.Decode(p))
		return err != nil
	}
	for _, t := range s.Trials {
		at, ok := seen[t.Number]
		if !ok || at.State == outside {
			continue
		}
		value, err := t.valueAt(at)
		if err != nil {
			return ask, err
		}
		ask.Seen = append(ask.Seen, search.Trial{Number: t.Number, Point: t.at, State: states[at.State], Step: int(at.Step), Value: value})
	}
	return ask, nil
}

// valueAt is the value that a trial had in a state that it was seen in.
func (t *Trial) valueAt(at Seen) (float64, error) {
	switch at.State {
	case Complete:
		if t.State == Complete {
			return t.Value, nil
		}
	case Paused, Pruned:
		for _, r := range t.Rungs {
			if r.Step == at.Step {
				return r.Value, nil
			}
		}
	default:
		return 0, nil
	}
	return 0, fmt.Errorf("trial %d was seen %s at step %d, and its runs do not say so any more", t.Number, at.State, at.Step)
}

// Ask is what the sampler was asked when it drew a trial of a study that [Read] has
// read: with the same question it gives the same point. It is repeated from the files
// of the trials and from the runs.
func (s *Study) Ask(ctx context.Context, root string, number int) (a sampler.Ask, err error) {
	dir, err := open(root, s.Experiment, s.Cell, false)
	if err != nil || dir == nil {
		return a, err
	}
	defer dir.close()
	seen := map[int]Seen{}
	numbers, err := dir.numbers()
	if err != nil {
		return a, err
	}
	for _, n := range numbers {
		f, err := dir.read(n)
		if err != nil {
			return a, err
		}
		if f.Cell != s.Cell {
			continue
		}
		tell(seen, f.Seen)
		if n == number {
			return s.question(ctx, f, seen)
		}
	}
	return a, fmt.Errorf("%s/%s has no trial %d", s.Experiment, s.Cell, number)
}
