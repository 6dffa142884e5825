package search_test

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/runner/search"
)

func TestOrderOfTrials(t *testing.T) {
	// From the best to the worst, for values that are to be maximized.
	want := []search.Trial{
		{Number: 7, State: search.Complete, Value: 0.8},
		{Number: 2, State: search.Complete, Value: 0.5},
		{Number: 3, State: search.Complete, Value: 0.5},
		{Number: 9, State: search.Paused, Step: 9, Value: 0.7},
		{Number: 1, State: search.Pruned, Step: 9, Value: 0.6},
		{Number: 0, State: search.Pruned, Step: 3, Value: 0.9},
		{Number: 4, State: search.Complete, Value: math.NaN()},
		{Number: 5, State: search.Failed, Value: 1},
		{Number: 6, State: search.Complete, Value: math.Inf(1)},
		{Number: 8, State: search.Pruned, Step: 20, Value: math.Inf(-1)},
	}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, func(a, b search.Trial) int { return search.Compare(search.Maximize, a, b) })
	for i := range want {
		if got[i].Number != want[i].Number {
			t.Fatalf("place %d has trial %d, want %d", i, got[i].Number, want[i].Number)
		}
	}
	if best, ok := search.Best(search.Maximize, got); !ok || best.Number != 7 {
		t.Error(best, ok)
	}
	if _, ok := search.Best(search.Minimize, want[3:]); ok {
		t.Error("a trial that did not complete with a finite value is the best")
	}
}

func TestStatesHaveNames(t *testing.T) {
	for s := search.Running; s <= search.Failed; s++ {
		text, err := json.Marshal(s)
		var back search.State
		if err != nil || json.Unmarshal(text, &back) != nil || back != s {
			t.Errorf("%v is written as %s and read as %v", s, text, back)
		}
	}
	var s search.State
	if err := s.UnmarshalText([]byte("lost")); err == nil || !strings.Contains(err.Error(), `unknown state "lost"`) {
		t.Error(err)
	}
}
