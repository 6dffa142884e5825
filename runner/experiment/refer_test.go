package experiment

import (
	"strings"
	"testing"
)

// References that CUE and people both understand are none to complain of.
func TestReferencesThatGiveValues(t *testing.T) {
	for _, lines := range []string{
		"\ttrain: {batch: _, evalEvery: batch}",
		"\ttrain: {batch: 4, evalEvery: x.train.batch}",
		"\tadapter: params: {rank: _, alpha: adapter.params.rank + 4}",
		"\t_tree: #Tree & {children: [{}]}",
		"\tadapter: X={params: {rank: 4, alpha: 4 + X.params.rank}}",
		"\tevaluate: domains: {for n in [1, 2] {\"d\\(n)\": {source: \"procedural\", seed: n}}}",
		"\toptim: {let lr = 1e-3, clip: lr}",
		"\t_lr: _\n\t_lr: 1e-3\n\toptim: clip: _lr",
		"\ttrain: maxSteps: _open\n\ttrain: maxSteps: 5",
	} {
		loadText(t, insert(sound, lines)+"\n#Tree: {children: [...#Tree]}\n_open: int\n")
	}
}

// A tag that changes no experiment is a warning, one that gives what its field has
// anyway is not (trial-language W6).
func TestTagsThatChangeNothing(t *testing.T) {
	text := strings.Replace(sound, "epochs: 2", "epochs: _epochs + 0", 1) + `
_epochs: *2 | int @tag(epochs,type=int)
steps:   *2 | int @tag(steps,type=int)
about:   string | *"a" @tag(about)
_must:   *1 | int @tag(must,type=int)
_double: _must * 2
`
	for tag, want := range map[string]string{
		"epochs=3": "", "epochs=2": "", "steps=2": "", "about=a": "",
		"steps=3": "16:19: warning: -t steps=3 changes nothing: no value of an experiment depends on it",
		"about=b": "17:24: warning: -t about=b changes nothing",
		"must=4":  "18:19: warning: -t must=4 changes nothing",
	} {
		experiments, found := loadWith([]string{write(t, text)}, Env{Tags: []string{tag}}, world())
		got := located(found)
		if _, after, _ := strings.Cut(got, "e.cue:"); len(experiments) != 1 || !strings.HasPrefix(after, want) || want == "" && got != "" {
			t.Errorf("%s: got %s, want %s", tag, got, want)
		}
	}
}
