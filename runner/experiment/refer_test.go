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

// trial-language M11: what is wrong with a tag of the command line is said at the field
// that takes it.
func TestTagMistakes(t *testing.T) {
	file := write(t, insert(strings.Replace(sound, "epochs: 2, ", "", 1), "\ttrain: epochs: _epochs + 0")+"\n_epochs: *2 | int @tag(epochs,type=int)\n")
	for tag, want := range map[string]string{
		"epochs=three": "-t epochs=three: the field takes a whole number",
		"epochs=5.5":   "-t epochs=5.5: the field takes a whole number",
		"epochs=":      "-t epochs= gives no value",
		"epochs":       "-t epochs gives no value",
		"epoch":        "nothing in the file takes -t epoch",
		"epoch=3":      "nothing in the file takes -t epoch=…",
	} {
		_, found := loadWith([]string{file}, Env{Tags: []string{tag}}, world())
		if len(found) != 1 || found[0].Message != want || !strings.HasPrefix(tag, "epochs") != (found[0].At.Line == 0) {
			t.Errorf("-t %s: %v", tag, found)
		}
	}
}

// Forms of other languages that CUE cannot read are named, with what CUE has for them.
func TestHabits(t *testing.T) {
	for line, want := range map[string]string{
		"# five seeds":                              "a comment begins with //; ",
		"\ttrain.epochs: 3":                         "train.epochs is a path, and a field has one name; write train: epochs: 3; below vary, zip and ablate the path is in quotes",
		"\tvary: adapter.params.rank: [2, 4]":       `the path of vary is a name in quotes; write vary: "adapter.params.rank": [2, 4]`,
		"import schema":                             `the path of an import is in quotes; write import "schema"`,
		"\tbackbone: {model: \"a\", depth: 1; }":    "fields are separated by commas or lines, not by ;; ",
		"\ttrain: {epochs=1, batch: 2}":             "a field takes its value after a colon; write epochs: …",
		"\tepochs = 1":                              "a field takes its value after a colon; write epochs: …",
		"\ttrain: {epochs: 1 batch: 2}":             "two fields in one line have a comma between them; ",
		"train {":                                   "a field has a colon before its value; write train: {",
		"\ttrain: epochs: 3 // not train.epochs: 3": "; ",
		"// # five":                                 "; ",
		"\tabout: \"a.b: c\", seeds: [1":            "; ",
		"\ttrain: {epochs: 1, batch: 2":             "; ",
		"\t\"it is a.b: c":                          "; ",
	} {
		if message, hint := habit(line); message+"; "+hint != want {
			t.Errorf("%q: %s; %s", line, message, hint)
		}
	}
}
