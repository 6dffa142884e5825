package export

import (
	"encoding/json"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/loralab/loralab/plugins/protocol"
)

// An adapter that was read with rank_pattern or alpha_pattern is written with
// them: "trial-data F1". PEFT's rule for a key is the one of get_pattern_key.
func TestSettingsThatDifferBecomePatterns(t *testing.T) {
	modules := []string{"layers.1.attention.q_proj", "layers.1.mlp.fc1", "layers.11.attention.q_proj", "layers.11.mlp.fc1"}
	sites := []*protocol.Site{{Name: "query", Block: 1}, {Name: "fc1", Block: 1}, {Name: "query", Block: 11}, {Name: "fc1", Block: 11}}
	configs := func(texts ...string) []map[string]any {
		all := make([]map[string]any, len(texts))
		for i, text := range texts {
			if err := json.Unmarshal([]byte(text), &all[i]); err != nil {
				t.Fatal(err)
			}
		}
		return all
	}
	got, err := common(configs(
		`{"r": 2, "lora_alpha": 8, "rank_pattern": {}}`, `{"r": 4, "lora_alpha": 8, "rank_pattern": {}}`,
		`{"r": 4, "lora_alpha": 3, "rank_pattern": {}}`, `{"r": 4, "lora_alpha": 8, "rank_pattern": {}}`,
	), modules, sites)
	if err != nil {
		t.Fatal(err)
	}
	want := configs(`{
		"r": 4, "rank_pattern": {"layers\\.1\\.attention\\.q_proj": 2},
		"lora_alpha": 8, "alpha_pattern": {"layers\\.11\\.attention\\.q_proj": 3}
	}`)[0]
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the settings are %v, want %v", got, want)
	}
	key := regexp.MustCompile(`^(.*\.)?(` + quoted(modules[0]) + `)$`)
	for name, want := range map[string]bool{
		modules[0]: true, "vit." + modules[0]: true, // as target_modules does
		modules[2]: false, "layers.1xattention.q_proj": false, "vitlayers.1.attention.q_proj": false, modules[0] + ".x": false,
	} {
		if key.MatchString(name) != want {
			t.Errorf("the key of %s and %s: match is %v", modules[0], name, !want)
		}
	}

	_, err = common(configs(`{"r": 2, "use_rslora": true}`, `{"r": 2}`), modules[:2], sites[:2])
	if err == nil || !strings.Contains(err.Error(), "one use_rslora for all modules, and it is true at query of block 1 and null at fc1 of block 1") {
		t.Errorf("a setting without a pattern: %v", err)
	}
}
