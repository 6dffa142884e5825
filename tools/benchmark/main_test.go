package main

import (
	"strings"
	"testing"
)

func value(v float64) *float64 { return &v }

func TestSamplersTable(t *testing.T) {
	best := 0
	of := func(name string, values ...float64) search {
		s := search{Experiment: name, Over: true, Best: &best}
		for i, v := range values {
			state := "complete"
			if v < 0 {
				state, v = "paused", -v
			}
			s.Trials = append(s.Trials, trial{Number: i, State: state, Value: value(v), Steps: 10})
		}
		return s
	}
	got, err := samplersTable([]search{
		of("sampler_random_1", 0.5, 0.7, 0.6), of("sampler_tpe_1", 0.7, 0.8),
		of("sampler_random_2", 0.9), of("sampler_tpe_2", 0.6, -0.95),
		of("sampler_random_3", 0.1, 0.2), of("sampler_tpe_3", 0.1, 0.1, 0.1, 0.3),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| 1 | 0.7000 | 3 | 20 steps | 0.8000 | 2 | 10 steps | 0.50 |",
		"| 2 | 0.9000 | 1 | 10 steps | 0.6000 | 2 | not within the budget | not within the budget |", // a paused trial does not count
		"| 3 | 0.2000 | 2 | 20 steps | 0.3000 | 4 | 40 steps | 2.00 |",
		"better at the end in 2 of 3 searches, by +0.1000 in the median",
		"after 2.00 of the steps",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nhas no %q", got, want)
		}
	}
	if _, err := samplersTable(nil); err == nil {
		t.Error("no search is no mistake")
	}
}

func TestBestTable(t *testing.T) {
	best := 1
	cells := []search{{Cell: "lora", Over: true, Best: &best, Trials: []trial{
		{Number: 0, State: "paused", Value: value(0.5), Steps: 20},
		{Number: 1, State: "complete", Value: value(0.75), Steps: 40, Parameters: map[string]any{"optim.lr.head": 1e-4, "adapter.params.rank": 8.0}},
	}}}
	report := "# x\n\n## Search of lora\n\n- **At the edge**: the best value of `optim.lr.head`, 0.0001, lies at the lower end.\n\n## Search of dora\n\n- **At the edge**: the best value of `adapter.params.rank`, 8\n"
	got := bestTable(cells, report)
	if want := "| lora | 0.750 | `adapter.params.rank` 8, `optim.lr.head` 0.0001 ↔ | 1 of 2 | 60 |"; !strings.Contains(got, want) {
		t.Errorf("%s\nhas no %q", got, want)
	}
}

func TestReplace(t *testing.T) {
	got, err := replace([]byte("a\n<!-- x -->\nold\n<!-- /x -->\nb\n"), "x", "new")
	if err != nil || string(got) != "a\n<!-- x -->\n\nnew\n\n<!-- /x -->\nb\n" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := replace([]byte("a\n<!-- x -->\nold\n"), "x", "new"); err == nil {
		t.Error("a part without an end is no mistake")
	}
	if _, err := comparisonOf("# benchmark\n"); err == nil {
		t.Error("a report without a search is no mistake")
	}
	part, err := comparisonOf("# b\n\n## Each cell at its best\n\n| cell |\n\n- note\n\n### Cells at their best\n\nx\n")
	if err != nil || strings.TrimSpace(part) != "| cell |\n\n- note" {
		t.Errorf("%q, %v", part, err)
	}
}
