package experiment

import (
	"slices"
	"testing"

	"github.com/loralab/loralab/runner/search/space"
)

// Points that estimate a share have few combinations of what is costly, and all values
// of a choice.
func TestFewCombinationsAreResolved(t *testing.T) {
	choice := space.Param{Name: "c", Kind: space.Choice, Choices: []any{"a", "b", "c", "d", "e", "f", "g", "h"}}
	s, err := space.New(choice, space.Param{Name: "x", High: 1}, space.Param{Name: "y", High: 1}, space.Param{Name: "z", High: 1})
	if err != nil {
		t.Fatal(err)
	}
	costly := []bool{true, true, true, false}
	points := sampled(s, costly, "base")
	if n := combinations(points, costly); len(points) != drawnPoints || n < resolvedMost/2 || n > resolvedMost {
		t.Errorf("%d points with %d combinations, want %d with at most %d", len(points), n, drawnPoints, resolvedMost)
	}
	for i := range costly {
		for level := range levels {
			want := float64(level)
			if i > 0 {
				want /= levels - 1
			}
			if !slices.ContainsFunc(points, func(p space.Point) bool { return p[i] == want }) {
				t.Errorf("parameter %d never is %v", i, want)
			}
		}
	}
}

// A space whose values the file computes from has a share that is estimated where it has
// many points, and one that is counted otherwise.
func TestShareOfWhatIsReferredTo(t *testing.T) {
	const search = `
	search: {
		space: {"optim.lr.head": {low: 0.1, high: 1, step: 0.1}, "train.batch": {low: 1, high: 8}, "adapter.blocks": choice: ["0..3", "8..9"]}
		constraint: trainable: 1_000_000
	}`
	for lines, want := range map[string]Share{
		"": {160, 160, true},
		"\toptim: {lr: head: _, weightDecay: lr.head / 10}":                                        {160, 160, true},
		"\toptim: {lr: head: _, weightDecay: lr.head / 10}\n\ttrain: {batch: _, evalEvery: batch}": {drawnPoints, drawnPoints, false},
	} {
		if got := loadText(t, insert(sound, lines+search))[0].Studies[0].Share; got != want {
			t.Errorf("%s: %v, want %v", lines, got, want)
		}
	}
}
