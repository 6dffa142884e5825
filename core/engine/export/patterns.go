package export

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
)

// exceptionsOf names the setting in which PEFT keeps the values that some
// modules have instead of the common one.
var exceptionsOf = map[string]string{"r": "rank_pattern", "lora_alpha": "alpha_pattern", "alpha": "alpha_pattern"}

// common joins the settings of all modules into one adapter_config.json. A
// setting that is not the same for all has the most frequent value, and the
// others in its pattern. PEFT takes the first key of a pattern for which
//
//	re.match(rf"(.*\.)?({key})$", name)
//
// holds. A quoted name matches the names that the same entry of target_modules
// matches: the module, and the same module in a model that holds the backbone.
func common(configs []map[string]any, modules []string, sites []*protocol.Site) (map[string]any, error) {
	all := map[string]any{}
	for _, c := range configs {
		maps.Copy(all, c)
	}
	patterns := map[string]map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		texts, times, most := make([]string, len(configs)), map[string]int{}, 0
		for i, c := range configs {
			text, err := json.Marshal(c[key])
			if err != nil {
				return nil, fmt.Errorf("the setting %s: %w", key, err)
			}
			texts[i] = string(text)
			times[texts[i]]++
		}
		for i, text := range texts {
			if times[text] > times[texts[most]] {
				most = i
			}
		}
		all[key] = configs[most][key]
		for i, c := range configs {
			if texts[i] == texts[most] {
				continue
			}
			pattern, can := exceptionsOf[key]
			if !can {
				return nil, fmt.Errorf("PEFT has one %s for all modules, and it is %s at %s and %s at %s",
					key, texts[most], program.SiteName(sites[most]), texts[i], program.SiteName(sites[i]))
			}
			if patterns[pattern] == nil {
				patterns[pattern] = map[string]any{}
			}
			patterns[pattern][quoted(modules[i])] = c[key]
		}
	}
	for key, pattern := range patterns {
		all[key] = pattern
	}
	return all, nil
}

// quoted is a regular expression, for Python and for Go, that matches a name.
func quoted(name string) string { return regexp.QuoteMeta(name) }
