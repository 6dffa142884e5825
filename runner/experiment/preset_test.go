package experiment

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/spec"
)

// A cell with a preset has its settings in place of the base's, a cell without
// those of the base, wherever the preset stands.
func TestPresetsInCells(t *testing.T) {
	corrected, original, search := "adamw cosine true 1 best hashed", "adam trapezoid false 0 last original", "adamw trapezoid true 0 last original"
	given := "\toptim: {kind: \"sgd\", schedule: {kind: \"linear\", warmup: 0.3}}\n\tloss: {crossEntropy: 0.5, dice: 1}\n\tdata: split: seed: 4\n"
	sgd := "sgd linear true 1 best hashed"
	for _, c := range []struct {
		lines string
		want  []string
	}{
		{`	preset: "original"`, []string{original}},
		{
			"\tcases: {own: {}, as: preset: \"original\", tuned: preset: \"originalSearch\", sgd: optim: kind: \"sgd\"}",
			[]string{corrected, original, search, "sgd cosine true 1 best hashed"},
		},
		{
			"\tpreset: \"original\"\n\tcases: {as: {}, tuned: preset: \"originalSearch\", own: preset: \"\", sgd: {preset: \"\", optim: kind: \"sgd\"}}",
			[]string{original, search, corrected, "sgd cosine true 1 best hashed"},
		},
		{given + "\tcases: {own: {}, as: preset: \"original\"}", []string{sgd, original}},
		{given + "\tvary: preset: [\"\", \"original\"]", []string{sgd, original}},
		{given + "\tablate: preset: [\"originalSearch\"]", []string{sgd, search}},
		{given + "\tpreset: *\"original\" | string", nil},
	} {
		text := insert(sound, c.lines)
		if c.want == nil {
			if _, found := loadWith([]string{write(t, text)}, Env{}, world()); !found.HasErrors() {
				t.Errorf("%s\nis accepted, though the base contradicts the preset", c.lines)
			}
			continue
		}
		var got []string
		for _, cl := range loadText(t, text)[0].cells {
			g := cl.config
			got = append(got, fmt.Sprint(g.Optim.Kind, " ", g.Optim.Schedule.Kind, " ", g.Head.Norm, " ", g.Optim.Clip, " ", g.Evaluate.Checkpoint, " ", g.Data.Split.Method))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s\ngives\n%s\nwant\n%s", c.lines, strings.Join(got, "\n"), strings.Join(c.want, "\n"))
		}
	}
}

// Every setting of a preset says what the other project does, and those that
// differ from the defaults what is done without it.
func TestPresetsAreExplained(t *testing.T) {
	e := loadText(t, insert(sound, "\tcases: {own: {}, as: preset: \"original\", tuned: preset: \"originalSearch\", alike: {preset: \"original\", head: norm: false}}"))[0]
	of := map[string]Difference{}
	for _, d := range e.Differences {
		of[d.Preset+" "+d.Path] = d
		if len(d.Why) < 20 || strings.Contains(d.Why, "\n") {
			t.Errorf("%s of %s has no reason: %q", d.Path, d.Preset, d.Why)
		}
		if want := map[string][]string{"original": {"as", "alike"}, "originalSearch": {"tuned"}}[d.Preset]; !slices.Equal(d.Cells, want) {
			t.Errorf("preset %q is in the cells %v, want %v", d.Preset, d.Cells, want)
		}
	}
	if d := of["original optim.kind"]; d.Value != `"adam"` || d.Default != `"adamw"` {
		t.Errorf("optim.kind: %+v", d)
	}
	if d := of["original data.normalize.mean"]; d.Value != "[0.485, 0.456, 0.406]" || d.Default != "" {
		t.Errorf("data.normalize.mean: %+v", d)
	}
	for _, same := range []string{"original head.kind", "original data.augment", "original optim.betas", "originalSearch optim.kind", "originalSearch head.norm"} {
		if d, ok := of[same]; ok {
			t.Errorf("no difference: %+v", d)
		}
	}
	for _, preset := range []string{"original", "originalSearch"} {
		for _, p := range e.expansion.pins(preset) {
			if len(p.value.Doc()) == 0 {
				t.Errorf("preset %q does not say why %s is %s", preset, strings.Join(p.path, "."), inCUE(p.value))
			}
		}
	}
	values, err := e.Values("as")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if _, ok := e.expansion.pinned("original", cuePath(v.Path)); ok != (v.From == FromPreset) || ok != (v.Preset == "original") || ok && v.At.File != "schema/preset.cue" {
			t.Errorf("%s is said to be from %s %s", v.Path, v.From, v.At)
		}
	}
}

// Every preset that has a name has settings, each with the reason, and the schema lists
// no others.
func TestEveryPresetHasReasons(t *testing.T) {
	schema, err := OpenSchema(t.Context(), Env{})
	if err != nil {
		t.Fatal(err)
	}
	names := schema.Presets()
	if got := slices.Sorted(slices.Values(fieldNames(schema.presets))); len(names) < 6 || !slices.Equal(got, slices.Sorted(slices.Values(names))) {
		t.Errorf("#Preset has %v, _presets %v", names, got)
	}
	for _, name := range names {
		settings, err := schema.Preset(name)
		if err != nil || len(settings) < 20 {
			t.Errorf("%s sets %d values, %v", name, len(settings), err)
		}
		for _, d := range settings {
			if d.Value == "" || d.Why == "" || d.Value != d.Default && len(d.Why) < 20 {
				t.Errorf("%s sets %s to %s, by default %s, because %q", name, d.Path, d.Value, d.Default, d.Why)
			}
		}
	}
}

// A recipe on crops can be taken with adapters and with data of one's own, and what it
// sets cannot be given otherwise.
func TestRecipesWithAdapters(t *testing.T) {
	plain := strings.NewReplacer("\toptim: lr: {adapter: 1e-3, head: 2e-3}\n", "", "\ttrain: {epochs: 2, batch: 4}\n", "", "size: 112, ", "").Replace(sound)
	lines := "\tpreset: \"linear_probe\"\n\toptim: lr: adapter: 3e-4\n"
	run := loadText(t, insert(plain, lines))[0].Runs[0]
	if run.Spec.Optim.LrAdapter != 3e-4 || run.Spec.Optim.LrHead != 1e-3 || run.Spec.Adapter == nil || run.Spec.Data.Height != 518 || run.Spec.Train.Steps != 40000 {
		t.Errorf("with an adapter: %v", run.Spec)
	}
	for _, other := range []string{"\ttrain: batch: 8", "\tdata: size: 224", "\tdata: augment: []", "\tevaluate: window: stride: 100", "\tbackbone: freeze: \"none\""} {
		_, found := loadWith([]string{write(t, insert(plain, lines+other))}, Env{}, world())
		if len(found) == 0 || !found.HasErrors() || !strings.Contains(texts(found), "preset \"linear_probe\" sets ") {
			t.Errorf("%s next to the preset: %s", other, texts(found))
		}
	}
}

// With a preset, the engine gets the settings with which core/engine/train is held
// against the original project: the parity that is shown there is the preset's.
func TestPresetIsWhatParityIsShownFor(t *testing.T) {
	text, err := os.ReadFile("../../core/engine/train/testdata/original/settings.json")
	if err != nil {
		t.Fatal(err)
	}
	ways := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &ways); err != nil {
		t.Fatal(err)
	}
	budget := "\ttrain: {epochs: 5, batch: 3, evalEvery: 5}\n"
	rates := "\toptim: {weightDecay: 1e-4, lr: {adapter: 1e-2, head: 1e-2}}\n"
	for way, lines := range map[string]string{
		"frozen":   "\tpreset: \"original\"\n" + rates,
		"unfrozen": "\tpreset: \"original\"\n\tbackbone: freeze: \"none\"\n\toptim: {weightDecay: 1e-4, lr: {backbone: 1e-3, adapter: 1e-3, head: 1e-2}}\n",
		"forgetting": `	preset: "original"
	optim: weightDecay: 1e-2
	optim: groups: [{pattern: "head.*", lr: 1e-2}, {pattern: "*", lr: 3e-4, until: 2}]
`,
		// Its search has another head than that which its optimiser is tested with.
		"adamw": "\tpreset: \"originalSearch\"\n\toptim: {weightDecay: 1e-2, lr: {adapter: 1e-2, head: 1e-2}}\n",
	} {
		want := &spec.RunSpec{}
		if err := protojson.Unmarshal(ways[way], want); err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		base := strings.NewReplacer("\toptim: lr: {adapter: 1e-3, head: 2e-3}\n", "", "\ttrain: {epochs: 2, batch: 4}\n", "").Replace(sound)
		run := loadText(t, insert(base, budget+lines))[0].Runs[0]
		got := &spec.RunSpec{
			Head: run.Spec.Head, Loss: run.Spec.Loss, Optim: run.Spec.Optim, Train: run.Spec.Train,
			Data: &spec.Data{Mean: run.Spec.Data.Mean, Std: run.Spec.Data.Std},
		}
		if run.Spec.Backbone.Freeze != nil {
			got.Backbone = &spec.Backbone{Freeze: run.Spec.Backbone.Freeze}
		}
		if way == "adamw" {
			want.Head.Norm = true
		}
		if !proto.Equal(got, want) {
			t.Errorf("%s: the engine is told\n%v\nparity is shown for\n%v", way, got, want)
		}
		if c := run.Evaluations[0].Spec.Checkpoint; c != "last" {
			t.Errorf("%s: scored is the %s checkpoint", way, c)
		}
	}
}
