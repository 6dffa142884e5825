package experiment

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A value of the command line is that of the file, edited.
func TestSet(t *testing.T) {
	text := insert(sound, `	vary: "optim.lr.adapter": [1e-3, 1e-4]
	cases: small: train: batch: 2`)
	for set, edit := range map[string][2]string{
		"adapter.params.rank=16":                             {"rank: 4", "rank: 16"},
		"adapter.params={rank: 3}":                           {"{rank: 4, alpha: 8}", "{rank: 3}"},
		"optim.lr.head=0.004":                                {"head: 2e-3", "head: 4e-3"},
		"adapter.targets=[\"key\"]":                          {`["value", "query"]`, `["key"]`},
		"adapter.blocks=2..5":                                {`"6..9"`, `"2..5"`},
		"backbone.model=toy-large":                           {`model: "toy"`, `model: "toy-large"`},
		"head.dropout=0.5":                                   {"optim:", "head: dropout: 0.5\n\toptim:"},
		"seeds=[3]":                                          {"[1, 2]", "[3]"},
		"vary.\"optim.lr.adapter\"=[1e-5]":                   {"[1e-3, 1e-4]", "[1e-5]"},
		"cases.large.train.batch=8":                          {"cases: small:", "cases: large: train: batch: 8\n\tcases: small:"},
		"backbone.freeze={blocks: \"0..3\"}":                 {"depth: 10", `depth: 10, freeze: blocks: "0..3"`},
		"about=texts may have = and [ in them":               {"what a user may write", "texts may have = and [ in them"},
		"evaluate.domains.far={source: procedural, seed: 3}": {"optim:", "evaluate: domains: far: {source: \"procedural\", seed: 3}\n\toptim:"},
	} {
		if strings.Contains(set, "source: procedural") {
			set = strings.Replace(set, "procedural", `"procedural"`, 1)
		}
		if strings.HasPrefix(set, "backbone.model") { // of another patch
			text := strings.Replace(text, "size: 112", "size: 224", 1)
			sameRuns(t, text, set, edit)
			continue
		}
		sameRuns(t, text, set, edit)
	}
}

func sameRuns(t *testing.T, text, set string, edit [2]string) {
	t.Helper()
	if !strings.Contains(text, edit[0]) {
		t.Fatalf("%s: nothing to edit", set)
	}
	want := loadText(t, strings.Replace(text, edit[0], edit[1], 1))[0]
	got, found := loadWith([]string{write(t, text)}, Env{Set: []string{set}}, world())
	if len(found) > 0 || len(got) != 1 {
		t.Errorf("%s: %v", set, found)
		return
	}
	if len(got[0].Runs) != len(want.Runs) || got[0].About != want.About {
		t.Errorf("%s: %d runs, the edited file has %d", set, len(got[0].Runs), len(want.Runs))
		return
	}
	for i, r := range got[0].Runs {
		if r.ID != want.Runs[i].ID || r.Name() != want.Runs[i].Name() || len(r.Evaluations) != len(want.Runs[i].Evaluations) {
			t.Errorf("%s: %s differs from %s of the edited file", set, r.Name(), want.Runs[i].Name())
		}
	}
}

// Mistakes in it are shown at the text of the command line, all at once.
func TestSetMistakes(t *testing.T) {
	text := insert(sound, `	vary: "optim.lr.adapter": [1e-3, 1e-4]`)
	text = strings.Replace(text, "{rank: 4, alpha: 8}", "{rank: r, alpha: 8}", 1) + "r: 4\n"
	file := write(t, text)
	sets := []string{
		"optim.lr.adapter=1e-2", "optim.lr.head=3", "optim.weigthDecay=0.1", "adapter.params.rnak=8", "adapter.params.heads=17",
		"train.precision=bf61", "backbone.depth=13", "data.source=procedurla", "adapter.targets=[\"query\", \"qeury\"]", "train.batch=none",
	}
	_, found := loadWith([]string{file}, Env{Set: sets}, world())
	got := rendered(t, found)
	_, found = loadWith([]string{file}, Env{Set: []string{"optim.lr.head", "a b=1", "train.batch=[1", "train.epochs=1", "train.epochs=2"}}, world())
	got += "\n" + rendered(t, found)
	_, found = loadWith([]string{file}, Env{Set: []string{"vary.adapter.params.rank=[2]", "x.train.epochs=3", "optim.lr.head=\"1e-3\""}}, world())
	got += "\n" + rendered(t, found)
	golden(t, "testdata/set.txt", strings.ReplaceAll(got, filepath.Dir(file), "$DIR"))
}

// golden compares with a file, which LORALAB_UPDATE=1 writes anew.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if os.Getenv("LORALAB_UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// What --set cannot put in place is a mistake of the command line, and never a
// value that the schema's default takes the place of.
func TestSettingsThatSetNothing(t *testing.T) {
	file := write(t, sound)
	for set, want := range map[string]string{
		"=3":               `1:7: "" is no path of an experiment`,
		"seeds[0]=3":       `1:7: "seeds[0]" is no path of an experiment`,
		"[0]=3":            `1:7: "[0]" is no path of an experiment`,
		"#x=3":             `1:7: "#x" is no path of an experiment`,
		"_x=3":             `1:7: "_x" is no path of an experiment`,
		"train.epochs=>3":  `1:20: >3 is not one value`,
		"train.epochs=3|4": `1:20: 3|4 is not one value`,
	} {
		_, found := loadWith([]string{file}, Env{Set: []string{set}}, world())
		if got := located(found); !strings.HasPrefix(got, "command line:"+want) {
			t.Errorf("%s: got %s, want %s", set, got, want)
		}
	}
	e, found := loadWith([]string{file}, Env{Set: []string{"train.epochs=*3|4"}}, world())
	if len(found) > 0 || e[0].Runs[0].Spec.Train.Epochs != 3 {
		t.Errorf("a default that is set: %v", found)
	}
}

// A case keeps its own value, so a setting of the base would not change it: that is
// said once, with the path that sets it there.
func TestSettingWhatACaseGives(t *testing.T) {
	file := write(t, insert(sound, `	cases: {long: train: epochs: 3, none: adapter: variant: "none"}`))
	for set, want := range map[string]string{
		"train.epochs=5":            "command line:1:7: the case \"long\" gives train.epochs, so setting it does not change every cell\n",
		"train={epochs: 5}":         "command line:1:7: the case \"long\" gives train.epochs, so setting it does not change every cell\n",
		"cases.long.train.epochs=5": "",
		"train.batch=2":             "",
		"adapter.params.rank=4":     "",
	} {
		_, found := loadWith([]string{file}, Env{Set: []string{set}}, world())
		if got := located(found); got != want {
			t.Errorf("--set %s: %q, want %q", set, got, want)
		}
	}
}
