package report_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/report"
	"github.com/loralab/loralab/runner/search/space"
	"github.com/loralab/loralab/runner/study"
)

// searched is an experiment of two cells that were searched, with a number of complete
// trials each, and their retests.
func searched(t *testing.T, complete int) (*world, []report.Search) {
	w := newWorld(t, "searched")
	w.bare = true
	in, err := space.New(
		space.Param{Name: "optim.lr.adapter", Kind: space.Float, Low: 1e-5, High: 1e-1, Log: true},
		space.Param{Name: "optim.schedule.kind", Kind: space.Choice, Choices: []any{"constant", "cosine"}},
		space.Param{Name: "optim.schedule.warmup", Kind: space.Float, High: 0.4, Step: 0.1, When: []space.Condition{{Param: "optim.schedule.kind", Values: []any{"cosine"}}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	var searches []report.Search
	for i, name := range []string{"lora", "head_only"} {
		var untuned []report.Result
		for seed := range uint64(3) {
			r := w.add(name, nil, seed+1, uint64(1-i)*6144, 0.8-0.1*float64(i)+0.01*float64(seed), 0.6-0.1*float64(i)+0.01*float64(seed))
			r.Summary.Seconds = 10 + 5*float64(1-i)
			was := *r
			was.Evaluations = map[string]*spec.Metrics{"test": metrics(0.7 - 0.1*float64(i)), "histology": metrics(0.5)}
			untuned = append(untuned, was)
		}
		s := report.Search{Space: in, Seeds: []uint64{101}, Retest: name, Untuned: untuned, Progress: study.Progress{
			Experiment: "searched", Cell: name, Sampler: "tpe", Pruner: "asha", Parameters: 3, Objective: "dice/nucleus", Trials: complete + 3, Over: true,
			Counts: map[study.State]int{study.Complete: complete, study.Paused: 2, study.Failed: 1},
		}}
		for n := range complete + 3 {
			x := float64(n) / float64(complete+2)
			trial := &study.Trial{
				Number: n, State: study.Complete, Steps: 72, Value: 0.5 + 0.3*x, Runs: []study.Member{{Seed: 101}},
				Rungs: []study.Rung{{Step: 24, Value: 0.4 + 0.2*x}},
				Point: study.Point{{Path: "optim.lr.adapter", Value: 1e-5 * math.Pow(1e4, x)}, {Path: "optim.schedule.kind", Value: "constant"}},
			}
			if n%2 == 1 {
				trial.Point[1].Value = "cosine"
				trial.Point = append(trial.Point, experiment.Setting{Path: "optim.schedule.warmup", Value: 0.2})
			}
			switch {
			case n < 2:
				trial.State, trial.Step, trial.Steps, trial.Value = study.Paused, 24, 24, trial.Rungs[0].Value
			case n == 2:
				trial.State, trial.Reason = study.Failed, "out of memory"
			}
			s.Trials = append(s.Trials, trial)
		}
		best := s.Trials[len(s.Trials)-1]
		s.Progress.Best = &study.Best{Trial: best.Number, Value: best.Value, Point: best.Point}
		searches = append(searches, s)
	}
	return w, searches
}

func TestReportOfSearches(t *testing.T) {
	for _, complete := range []int{8, 60} {
		w, searches := searched(t, complete)
		root := t.TempDir()
		paths, err := report.Build(t.Context(), root, []*experiment.Experiment{w.exp}, w.results, searches, nil)
		if err != nil {
			t.Fatal(err)
		}
		page, err := os.ReadFile(filepath.Join(root, "report", "searched", "report.md"))
		if err != nil {
			t.Fatal(err)
		}
		text := regexp.MustCompile(" +").ReplaceAllString(string(page), " ")
		want := []string{
			"## Each cell at its best",
			"| lora | 670,850 | 15 | 0.810 ± 0.010 * | 0.700 ± 0.000 |",
			"| lora | 0.610 ± 0.010 * | 0.500 ± 0.000 |",
			"untuned",
			"| head_only | 664,706 | 10 | 0.710 ± 0.010 * |",
			"## Search of lora",
			"by tpe and asha. Trials:",
			"Best: Dice (nucleus) 0.800 on validation, seed 101, in trial ",
			"Trained again on the seeds of the experiment, n = 3: test 0.810 ± 0.010, histology 0.610 ± 0.010.",
			"- **At the edge**: the best value of `optim.lr.adapter`, 0.1, lies at the upper end of what is searched. Better values may lie above 0.1: widen the space there.",
			"- Failed: trial 2: out of memory",
			"1 trial failed and is not shown.",
			"The heads train 664,706 parameters each, which are not counted here.",
		}
		if first, all := strings.Index(text, "## Each cell at its best"), strings.Index(text, "## All cells"); first < 0 || all < first {
			t.Errorf("%d trials: cells at their best are at %d, all cells at %d", complete, first, all)
		}
		figures := []string{"tuned", "search_lora_history", "search_lora_parallel", "search_lora_slices", "search_lora_rungs", "search_head_only_history"}
		if complete < 50 {
			want = append(want, "Which parameters matter is not said: importance needs 50 complete trials, and there are 8.")
		} else {
			figures = append(figures, "search_lora_importance")
		}
		for _, line := range want {
			if !strings.Contains(text, line) {
				t.Errorf("%d trials: the page lacks %q", complete, line)
			}
		}
		for _, name := range figures {
			for _, suffix := range []string{".png", ".svg"} {
				if !slices.Contains(paths.Experiments[0].Figures, filepath.Join(root, "plots", "searched", name+suffix)) {
					t.Errorf("%d trials: there is no figure %s%s", complete, name, suffix)
				}
			}
		}
		if t.Failed() {
			t.Log(text)
		}
		found := paths.Experiments[0].Searches
		if len(found) != 2 || len(found[0].Edges) != 1 || found[0].Edges[0].Side != "high" || found[0].Retest[1].Metric.N != 3 || (found[0].Importance != nil) != (complete > 50) {
			t.Errorf("%d trials: found %+v", complete, found)
		}
		encoded, err := json.Marshal(paths)
		if err != nil || !strings.Contains(string(encoded), `"edges":[{"path":"optim.lr.adapter","value":0.1,"side":"high","bound":0.1}]`) {
			t.Errorf("%d trials: %s, %v", complete, encoded, err)
		}
	}
}

// A search without a complete trial, and an experiment that has no run yet.
func TestReportOfASearchInProgress(t *testing.T) {
	w, searches := searched(t, 8)
	for i := range searches {
		searches[i].Trials, searches[i].Progress.Best, searches[i].Progress.Over, searches[i].Untuned = searches[i].Trials[:1], nil, false, nil
	}
	w.exp.Runs = nil
	root := t.TempDir()
	paths, err := report.Build(t.Context(), root, []*experiment.Experiment{w.exp}, nil, searches, nil)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(paths.Experiments[0].Page)
	if err != nil || !strings.Contains(string(page), "Best: none yet, no trial is complete.") || strings.Contains(string(page), "at its best") {
		t.Errorf("%s, %v", page, err)
	}
}
