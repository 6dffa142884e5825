package sdk

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Settings reads adapter_config.json for a variant's Adopt. The variant asks
// for every setting it knows. What it does not ask for and is set to something
// would change numbers unseen, so each such setting is a problem by its name:
//
//	s := sdk.ReadSettings(config, "LORA")
//	v := lora{Rank: s.Int("r", 8), Alpha: s.Number("lora_alpha", 8)}
//	s.Ignore("qalora_group_size")
//	s.Refuse("use_dora", "start from it with variant dora")
//	return v, s.Problems()
type Settings struct {
	config   map[string]any
	rest     map[string]any // nobody has asked for
	problems []Problem
}

// ofHost are the settings of every PEFT type that the host reads or that say
// nothing about numbers. fan_in_fan_out is among them: for the linear layers
// and convolutions of a backbone PEFT turns it off.
var ofHost = []string{
	"auto_mapping", "base_model_name_or_path", "exclude_modules", "fan_in_fan_out", "inference_mode",
	"layers_pattern", "layers_to_transform", "modules_to_save", "peft_version", "revision",
	"target_modules", "task_type",
}

// ReadSettings reads the settings of an adapter that has to be of a PEFT type.
func ReadSettings(config map[string]any, peftType string) *Settings {
	s := &Settings{config: config, rest: maps.Clone(config)}
	s.Ignore(ofHost...)
	if got := s.Text("peft_type", peftType); got != peftType {
		s.Problem("peft_type", fmt.Sprintf("%q, want %q", got, peftType), "")
	}
	return s
}

// Number is a setting, absent if the file has none.
func (s *Settings) Number(key string, absent float64) float64 {
	return setting(s, key, absent, "a number")
}

// Int is a whole number.
func (s *Settings) Int(key string, absent int) int {
	v := s.Number(key, float64(absent))
	if v != math.Trunc(v) || math.Abs(v) > 1<<53 {
		s.Problem(key, fmt.Sprintf("%v, want a whole number", v), "")
		return absent
	}
	return int(v)
}

// Bool is true or false.
func (s *Settings) Bool(key string, absent bool) bool {
	return setting(s, key, absent, "true or false")
}

// Text is a string.
func (s *Settings) Text(key, absent string) string { return setting(s, key, absent, "a string") }

// Sites are the adapted layers in a setting that selects some: of "{fc2}" the
// name, "fc2".
func (s *Settings) Sites(key string) []string {
	names := []string{}
	for _, v := range setting(s, key, []any{}, "a list") {
		text, _ := v.(string)
		name, begins := strings.CutPrefix(text, "{")
		name, ends := strings.CutSuffix(name, "}")
		if !begins || !ends {
			s.Problem(key, shown(v)+" is none of the adapted layers", "")
			continue
		}
		names = append(names, name)
	}
	return names
}

// setting takes a value out of what is left. null is PEFT's way to say absent.
func setting[T any](s *Settings, key string, absent T, want string) T {
	delete(s.rest, key)
	switch v := s.config[key].(type) {
	case nil:
		return absent
	case T:
		return v
	default:
		s.Problem(key, fmt.Sprintf("%s, want %s", shown(v), want), "")
		return absent
	}
}

// Ignore names settings that change no number.
func (s *Settings) Ignore(keys ...string) {
	for _, key := range keys {
		delete(s.rest, key)
	}
}

// Refuse is a setting the variant does not have, with what to do instead. That
// it is there but empty is no mistake.
func (s *Settings) Refuse(key, hint string) {
	if v := s.rest[key]; !empty(v) {
		s.unknown(key, v, hint)
	}
	delete(s.rest, key)
}

func (s *Settings) unknown(key string, v any, hint string) {
	s.Problem(key, fmt.Sprintf("%s is nothing this variant has", shown(v)), hint)
}

// Problem adds one about a setting.
func (s *Settings) Problem(key, message, hint string) {
	s.problems = append(s.problems, Problem{Param: key, Message: message, Hint: hint})
}

// Problems are all that were found, those of settings nobody asked for last.
func (s *Settings) Problems() []Problem {
	for _, key := range slices.Sorted(maps.Keys(s.rest)) {
		if v := s.rest[key]; !empty(v) {
			s.unknown(key, v, "")
		}
	}
	clear(s.rest)
	return s.problems
}

// empty settings are those that PEFT writes for what is off.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case float64:
		return v == 0
	case string:
		return v == "" || v == "none"
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	}
	return false
}

func shown(v any) string {
	const most = 60
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("a %T", v)
	}
	if len(raw) > most {
		return string(raw[:most]) + "…"
	}
	return string(raw)
}
