package lowrank_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/plugins/lowrank"
	"github.com/loralab/loralab/plugins/sdk"
)

// What is left of a layer without a remainder; a k from elsewhere than the
// schema is an answer too, not a division by zero.
func TestParts(t *testing.T) {
	s := sdk.Site{In: 24, Out: 60}
	for k, want := range map[int]string{
		0: "0 parts, want at least 1 ()", -2: "-2 parts, want at least 1 ()", 1: "", 12: "",
		7: "7 does not divide the layer's 24 inputs (use 4, 6 or 12)", 8: "8 does not divide the layer's 60 outputs (use 4, 6 or 12)",
	} {
		got := ""
		for _, p := range lowrank.CheckBlocks(k, s) {
			got = p.Message + " (" + p.Hint + ")"
		}
		if got != want {
			t.Errorf("k = %d: %s", k, got)
		}
	}
}

func TestPEFTWritesWhatIsRead(t *testing.T) {
	config := lowrank.PEFTConfig(nil, 3, 6.5, 0.25)
	for _, key := range []string{"r", "lora_alpha", "lora_dropout"} {
		if n, ok := config[key].(int); ok {
			config[key] = float64(n) // as JSON has it
		}
	}
	got, problems := lowrank.Adopt(config, false)
	if len(problems) != 0 || got != (lowrank.Adopted{Rank: 3, Alpha: 6.5, Dropout: 0.25}) {
		t.Errorf("%+v, problems %v", got, problems)
	}
	if got := lowrank.PEFTConfig([]sdk.Site{{Kind: sdk.Linear}, {Kind: sdk.Patch}}, 1, 1, 0); got != nil {
		t.Errorf("the patch embedding has settings %v", got)
	}
}

func TestScaleOfRSLoRA(t *testing.T) {
	got, _ := lowrank.Adopt(map[string]any{"r": 4.0, "lora_alpha": 6.0, "use_rslora": true}, false)
	if s := got.PlainAlpha() / float64(got.Rank); s != 6/math.Sqrt(4) {
		t.Errorf("scale %v", s)
	}
}

// PEFT's defaults read well; what changes numbers and is not ours is refused
// by its name.
func TestSettingsThatAreRefused(t *testing.T) {
	for key, v := range map[string]any{
		"use_dora": true, "bias": "all", "lora_bias": true, "init_lora_weights": "pissa_niter_4",
		"rank_pattern": map[string]any{"query": 4.0}, "alpha_pattern": map[string]any{"query": 4.0},
		"use_bdlora": map[string]any{}, "alora_invocation_tokens": []any{1.0}, "layer_replication": []any{[]any{0.0, 4.0}},
		"trainable_token_indices": []any{1.0}, "target_parameters": []any{"cls_token"}, "use_qalora": true,
		"kasa_config": map[string]any{"beta": 1.0}, "peft_type": "LOHA",
	} {
		config := map[string]any{
			"peft_type": "LORA", "r": 8.0, "lora_alpha": 8.0, "init_lora_weights": true, "bias": "none", "rank_pattern": map[string]any{},
			"megatron_core": "megatron.core", "qalora_group_size": 16.0, "loftq_config": map[string]any{}, "target_modules": []any{"query"},
			"use_dora": false, "use_bdlora": nil,
		}
		if _, problems := lowrank.Adopt(config, false); len(problems) != 0 {
			t.Fatalf("PEFT's defaults have problems: %v", problems)
		}
		config[key] = v
		_, problems := lowrank.Adopt(config, false)
		want := []string{key}
		if key == "use_bdlora" { // {} switches nothing on
			want = nil
		}
		var got []string
		for _, p := range problems {
			got = append(got, p.Param)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: problems %v", key, problems)
		}
	}
	if _, problems := lowrank.Adopt(map[string]any{}, true); len(problems) != 1 || !strings.Contains(problems[0].Hint, "lora") {
		t.Errorf("a plain LoRA read as DoRA: %v", problems)
	}
}
