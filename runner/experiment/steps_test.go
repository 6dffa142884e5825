package experiment

import (
	"strings"
	"testing"

	"github.com/loralab/loralab/core/params"
)

// countedInSteps is the sound experiment with a budget in steps.
func countedInSteps(more string) string {
	return insert(strings.Replace(sound, "train: {epochs: 2, batch: 4}", "train: {steps: 40, evalSteps: 10, batch: 4}", 1), more)
}

// A budget that the file has for another scale is no second budget, of a training as of
// a search; one that counts is, wherever the file has it.
func TestBudgetOfAnotherScale(t *testing.T) {
	of := func(lines string) string {
		return strings.Replace(insert(strings.Replace(sound, "train: {epochs: 2, batch: 4}", "train: batch: 4", 1), lines),
			"x: schema", "scale: *\"small\" | \"paper\" @tag(scale)\n_short: train: epochs: 2\nx: schema", 1)
	}
	const scales = `
	search: space: "optim.lr.head": {low: 1e-3, high: 1}
	if scale == "small" {
		train: {epochs: 2, evalEvery: 2}
		search: trials: 4
	}
	if scale == "paper" {
		train: {steps: 30, evalSteps: 10}
		search: steps: 300
	}`
	for scale, want := range map[string]Study{"small": {Trials: 4}, "paper": {Steps: 300}} {
		e := loadText(t, of(scales), "scale="+scale)[0]
		if s := e.Studies[0]; s.Trials != want.Trials || s.Steps != want.Steps {
			t.Errorf("%s: a search of %d trials and %d steps", scale, s.Trials, s.Steps)
		}
		if got := e.Studies[0].Untuned[0].Spec.Train; (got.Steps == 30) != (scale == "paper") || (got.Epochs == 2) != (scale == "small") {
			t.Errorf("%s: %v", scale, got)
		}
	}
	for _, two := range []string{
		"\ttrain: steps: 30\n\ttrain: epochs: 2",
		"\ttrain: steps: 30\n\ttrain: epochs: 10", // the default, which agrees
		"\ttrain: steps: 30\n\tif scale == \"small\" {\n\t\ttrain: epochs: 2\n\t}",
		"\ttrain: steps: 30\n\t_short",
		"\ttrain: steps: 30\n\ttrain: _short.train",
		"\ttrain: steps: 30\n\tlet n = 2\n\ttrain: epochs: n",
		"\ttrain: steps: 30\n\ttrain: epochs: 2 | 2",
		"\ttrain: steps: 30\n\thead: kind: _\n\tif head.kind != \"\" {\n\t\ttrain: epochs: 2\n\t}",
	} {
		_, found := loadWith([]string{write(t, of(two))}, Env{}, world())
		if len(found) != 1 || found[0].Path != "x.train.epochs" || !strings.Contains(found[0].Message, "train.steps gives the budget already") {
			t.Errorf("%s\n%v", two, found)
		}
	}
}

// Cells with other images train for the same number of steps, and a smoke test for two.
func TestStepsAreThoseOfEachCell(t *testing.T) {
	all := loadText(t, countedInSteps("\toptim: schedule: warmupSteps: 5\n\tvary: \"data.fraction\": [0.1, 0.5, 1]\n\tcases: longer: train: steps: 70"))
	images := map[uint32]bool{}
	for _, r := range all[0].Runs {
		want := uint64(40)
		if r.Cell == "longer" {
			want = 70
		}
		s := r.Spec
		if got := params.Steps(s); got != want || s.Train.Epochs != 0 || s.Train.EvalSteps != 10 || s.Train.EvalEvery != 0 || s.Optim.Schedule.WarmupSteps != 5 {
			t.Errorf("%s: %d steps, want %d, of %v", r.Name(), got, want, s.Train)
		}
		images[s.Data.Splits["train"].Count] = true
	}
	if len(images) != 3 {
		t.Errorf("numbers of images: %v", images)
	}
	cut, err := Smoke(t.Context(), nil, all)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range cut[0].Runs {
		if s := r.Spec; params.Steps(s) != smokeSteps || s.Train.EvalSteps != 0 || s.Optim.Schedule.WarmupSteps != 0 || !IsSmokeSpec(s) {
			t.Errorf("%s of the smoke test: %v, %v", r.Name(), s.Train, s.Optim.Schedule)
		}
	}
}

// Steps can vary, and a number of steps has the identity that it has in the base.
func TestStepsVary(t *testing.T) {
	base := loadText(t, countedInSteps(""))[0].Runs[0]
	ids := map[string]string{}
	for _, r := range loadText(t, countedInSteps("\tvary: \"train.steps\": [20, 40]"))[0].Runs {
		if r.Seed == base.Seed {
			ids[r.Cell] = r.ID
		}
	}
	if len(ids) != 2 || ids["steps=40"] != base.ID || ids["steps=20"] == base.ID {
		t.Errorf("cells %v, and the base is %s", ids, base.ID)
	}
}

// BatchNorm is off by default in the linear head alone, in whatever way the kind of the
// head is given.
func TestNormOfTheHead(t *testing.T) {
	norms := map[string]bool{}
	for _, text := range []string{
		"\tvary: \"head.kind\": [\"conv\", \"linear\", \"setr_pup\"]",
		"\tcases: {probe: head: kind: \"linear\", normed: head: {kind: \"linear\", norm: true}, plain: head: norm: false}",
		"\tzip: {\"head.kind\": [\"linear\", \"linear\"], \"head.norm\": [true, false]}",
	} {
		for _, r := range loadText(t, insert(sound, text))[0].Runs {
			norms[r.Cell] = r.Spec.Head.Norm
		}
	}
	for cell, want := range map[string]bool{
		"kind=conv": true, "kind=linear": false, "kind=setr_pup": true,
		"probe": false, "normed": true, "plain": false,
		"kind=linear,norm=true": true, "kind=linear,norm=false": false,
	} {
		if got, ok := norms[cell]; !ok || got != want {
			t.Errorf("%s: norm is %v, want %v; the cells are %v", cell, got, want, norms)
		}
	}
}

// Drop path without a block that trains is left out of the run.
func TestDropPathWithoutEffect(t *testing.T) {
	rates := map[string]float64{}
	for _, r := range loadText(t, insert(sound, "\tbackbone: dropPath: 0.2\n\tcases: {lora: adapter: params: rank: 2, head_only: adapter: variant: \"none\", free: {adapter: variant: \"none\", backbone: freeze: \"none\"}}"))[0].Runs {
		rates[r.Cell] = r.Spec.Backbone.DropPath
	}
	if rates["lora"] != 0.2 || rates["head_only"] != 0 || rates["free"] != 0.2 {
		t.Errorf("rates %v", rates)
	}
}
