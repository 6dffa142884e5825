package experiment

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A cell with a preset has its settings in place of the base's, a cell without
// those of the base, wherever the preset stands.
func TestPresetsInCells(t *testing.T) {
	corrected, original, search := "adamw cosine true 1 best hashed", "adam trapezoid false 0 last original", "adamw trapezoid true 0 last original"
	given := "\toptim: {kind: \"sgd\", schedule: {kind: \"linear\", warmup: 0.3}}\n\tloss: {cross_entropy: 0.5, dice: 1}\n\tdata: split: seed: 4\n"
	sgd := "sgd linear true 1 best hashed"
	for _, c := range []struct {
		lines string
		want  []string
	}{
		{`	preset: "original"`, []string{original}},
		{
			"\tcases: {own: {}, as: preset: \"original\", tuned: preset: \"original_search\", sgd: optim: kind: \"sgd\"}",
			[]string{corrected, original, search, "sgd cosine true 1 best hashed"},
		},
		{
			"\tpreset: \"original\"\n\tcases: {as: {}, tuned: preset: \"original_search\", own: preset: \"\", sgd: {preset: \"\", optim: kind: \"sgd\"}}",
			[]string{original, search, corrected, "sgd cosine true 1 best hashed"},
		},
		{given + "\tcases: {own: {}, as: preset: \"original\"}", []string{sgd, original}},
		{given + "\tvary: preset: [\"\", \"original\"]", []string{sgd, original}},
		{given + "\tablate: preset: [\"original_search\"]", []string{sgd, search}},
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
	e := loadText(t, insert(sound, "\tcases: {own: {}, as: preset: \"original\", tuned: preset: \"original_search\", alike: {preset: \"original\", head: norm: false}}"))[0]
	of := map[string]Difference{}
	for _, d := range e.Differences {
		of[d.Preset+" "+d.Path] = d
		if len(d.Why) < 20 || strings.Contains(d.Why, "\n") {
			t.Errorf("%s of %s has no reason: %q", d.Path, d.Preset, d.Why)
		}
		if want := map[string][]string{"original": {"as", "alike"}, "original_search": {"tuned"}}[d.Preset]; !slices.Equal(d.Cells, want) {
			t.Errorf("preset %q is in the cells %v, want %v", d.Preset, d.Cells, want)
		}
	}
	if d := of["original optim.kind"]; d.Value != `"adam"` || d.Default != `"adamw"` {
		t.Errorf("optim.kind: %+v", d)
	}
	if d := of["original data.normalize.mean"]; d.Value != "[0.485, 0.456, 0.406]" || d.Default != "" {
		t.Errorf("data.normalize.mean: %+v", d)
	}
	for _, same := range []string{"original head.kind", "original data.augment", "original optim.betas", "original_search optim.kind", "original_search head.norm"} {
		if d, ok := of[same]; ok {
			t.Errorf("no difference: %+v", d)
		}
	}
	for _, preset := range []string{"original", "original_search"} {
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
		if _, ok := e.expansion.pinned("original", cuePath(v.Path)); ok != (v.From == FromPreset) || ok && v.At.File != "schema/preset.cue" {
			t.Errorf("%s is said to be from %s %s", v.Path, v.From, v.At)
		}
	}
}
