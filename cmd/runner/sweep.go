package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// sweepValues are the parameters that an agent of W&B gives the program it starts, as
// arguments of --set. The agent names their file in WANDB_SWEEP_PARAM_PATH. A path that
// set has already is left out.
func sweepValues(set []string, getenv func(string) string) ([]string, error) {
	path := getenv("WANDB_SWEEP_PARAM_PATH")
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the parameters of a sweep (WANDB_SWEEP_PARAM_PATH): %w", err)
	}
	var all map[string]any
	if err := yaml.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("reading the parameters of a sweep (WANDB_SWEEP_PARAM_PATH): %w", err)
	}
	var values []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		p, ok := all[name].(map[string]any)
		if !ok || slices.ContainsFunc(set, func(s string) bool { return strings.HasPrefix(s, name+"=") }) {
			continue // the version of the form
		}
		value, err := json.Marshal(p["value"])
		if err != nil {
			return nil, fmt.Errorf("reading the parameter %s of a sweep (WANDB_SWEEP_PARAM_PATH): %w", name, err)
		}
		values = append(values, name+"="+string(value))
	}
	return values, nil
}
