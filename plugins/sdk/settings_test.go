package sdk_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/loralab/loralab/plugins/sdk"
)

// settings reads a config as the host hands it over.
func settings(t *testing.T, config string) *sdk.Settings {
	t.Helper()
	var c map[string]any
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		t.Fatal(err)
	}
	return sdk.ReadSettings(c, "LORA")
}

func TestSettingsAreReadOrDefault(t *testing.T) {
	s := settings(t, `{"peft_type": "LORA", "r": 4, "lora_alpha": 0.5, "use_rslora": true, "bias": "none", "dropout": null}`)
	if s.Int("r", 8) != 4 || s.Number("lora_alpha", 8) != 0.5 || !s.Bool("use_rslora", false) ||
		s.Text("bias", "") != "none" || s.Number("dropout", 0.25) != 0.25 || s.Text("missing", "x") != "x" {
		t.Error("a setting was read wrong")
	}
	if p := s.Problems(); len(p) != 0 {
		t.Errorf("problems %v", p)
	}
	s = settings(t, `{"modules": ["{fc2}", "output.dense", "{query}"]}`)
	if got := s.Sites("modules"); !slices.Equal(got, []string{"fc2", "query"}) {
		t.Errorf("sites %v", got)
	}
	if p := s.Problems(); len(p) != 1 || p[0].Message != `"output.dense" is none of the adapted layers` {
		t.Errorf("problems %v", p)
	}
}

// Nothing that could change numbers is passed over in silence.
func TestSettingsNobodyKnowsAreProblems(t *testing.T) {
	for config, want := range map[string][]sdk.Problem{
		`{"use_dora": false, "rank_pattern": {}, "a": null, "b": [], "bias": "none", "n": 0}`: nil,
		`{"target_modules": ["query"], "modules_to_save": ["head"], "fan_in_fan_out": true}`:  nil,
		`{"size": 16}`: nil, // ignored by the variant
		`{"use_dora": true}`: {
			{Param: "use_dora", Message: "true is nothing this variant has", Hint: "use dora"},
		},
		`{"z": {"k": 1}, "a": "on"}`: {
			{Param: "a", Message: `"on" is nothing this variant has`},
			{Param: "z", Message: `{"k":1} is nothing this variant has`},
		},
		`{"peft_type": "LOHA"}`: {{Param: "peft_type", Message: `"LOHA", want "LORA"`}},
		`{"r": 2.5}`:            {{Param: "r", Message: "2.5, want a whole number"}},
		`{"r": "4"}`:            {{Param: "r", Message: `"4", want a number`}},
	} {
		s := settings(t, config)
		s.Int("r", 8)
		s.Ignore("size")
		s.Refuse("use_dora", "use dora")
		if got := s.Problems(); !slices.Equal(got, want) {
			t.Errorf("%s: problems %v, want %v", config, got, want)
		}
	}
}
