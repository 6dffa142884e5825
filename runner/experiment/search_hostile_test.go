package experiment

// Searches that are wrong. What is said of each is in testdata/searches.txt;
// LORALAB_UPDATE=1 writes it.

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hostile are searches that are wrong, as lines of the experiment x. Each has errors at
// places of the file and in words of its own.
var hostile = []string{
	`search: {}`,
	`search: space: {}`,
	`search: 3`,
	`search: []`,
	`search: null`,
	`search: space: 7`,
	`search: space: ["optim.lr.head"]`,
	`search: space: "optim.lr.head": 3`,
	`search: space: "optim.lr.head": null`,
	`search: space: "optim.lr.head": {}`,
	`search: space: "optim.lr.head": [1e-3, 1e-2]`,
	`search: space: "optim.lr.head": choice: []`,
	`search: space: "optim.lr.head": choice: [1e-3]`,
	`search: space: "optim.lr.head": choice: [1e-3, 1e-3]`,
	`search: space: "optim.lr.head": choice: [1e-3, "fast"]`,
	`search: space: "optim.lr.head": choice: [1e-3, null]`,
	`search: space: "optim.lr.head": choice: [1e-3, {a: 1}]`,
	`search: space: "optim.lr.head": choice: [1e-3, number]`,
	`search: space: "optim.lr.head": choice: [1e-3, -1]`,
	`search: space: "optim.lr.head": {choice: [1e-3, 1e-2], low: 1}`,
	`search: space: "optim.lr.head": {low: 1e-3}`,
	`search: space: "optim.lr.head": {high: 1e-3}`,
	`search: space: "optim.lr.head": {low: 1, high: 1e-3}`,
	`search: space: "optim.lr.head": {low: 1e-3, high: 1e-3}`,
	`search: space: "optim.lr.head": {low: 0, high: 1, log: true}`,
	`search: space: "optim.lr.head": {low: -1, high: 1}`,
	`search: space: "optim.lr.head": {low: 1e-3, high: 1, step: 0}`,
	`search: space: "optim.lr.head": {low: 1e-3, high: 1, step: -1}`,
	`search: space: "optim.lr.head": {low: 1e-3, high: 1, step: 0.3}`,
	`search: space: "optim.lr.head": {low: 1e-3, high: 1, step: 1e-300}`,
	`search: space: "optim.lr.head": {low: 1e-3, high: 1e400}`,
	`search: space: "optim.lr.head": {low: 1e-3, high: 1, log: "yes"}`,
	`search: space: "optim.lr.head": {low: 1e-3, high: 1, log: true, step: 0.1}`,
	`search: space: "optim.lr.head": {low: 1e-3, high: 1, stepp: 0.1}`,
	`search: space: "optim.lr.head": {low: "a", high: 1}`,
	`search: space: "optim.lr.head": {low: number, high: 1}`,
	`search: space: "optim.lr.head": {low: 1/0, high: 1}`,
	`search: space: "adapter.params.rank": {low: 1.5, high: 8}`,
	`search: space: "adapter.params.rank": {low: 0, high: 8}`,
	`search: space: "adapter.params.rank": choice: [2, 65]`,
	`search: space: "adapter.params.rank": choice: [2, 7]`,
	`search: space: "adapter.params.ranks": choice: [2, 4]`,
	`search: space: "adapter.rank": choice: [2, 4]`,
	`search: space: "optim.lr.heads": {low: 1e-3, high: 1}`,
	`search: space: "optim": choice: [1, 2]`,
	`search: space: "": choice: [1, 2]`,
	`search: space: ".": choice: [1, 2]`,
	`search: space: "optim..lr": choice: [1, 2]`,
	`search: space: "optim.lr.head.x": choice: [1, 2]`,
	`search: space: "optim.lr.\u001b[31mhead\u0007": choice: [1, 2]`,
	`search: space: "seeds": choice: [[1], [2]]`,
	`search: space: "seed": choice: [1, 2]`,
	`search: space: "search.trials": choice: [1, 2]`,
	`search: space: "report.metric": choice: ["dice/mean", "iou/mean"]`,
	`search: space: "evaluate.resolution": choice: ["model", "original"]`,
	`search: space: "data.classes": choice: [["a", "b"], ["a", "c"]]`,
	`search: space: "about": choice: ["a", "b"]`,
	`search: space: "train.monitor": choice: ["dice/mean", "nonsense"]`,
	`search: space: "backbone.model": choice: ["toy", "absent"]`,
	`search: space: "adapter.variant": choice: ["lora", "unknown"]`,
	`search: space: "preset": choice: ["none", "whatever"]`,
	`search: space: "train.batch": choice: [4, 100000]`,
	`search: space: {"optim.lr.head": {low: 1e-3, high: 1}, "optim.lr": choice: [{head: 1}, {head: 2}]}`,
	`search: space: "optim.lr.head": {low: 1e-3, high: 1, when: "adapter.variant": ["dora"]}`,
	`search: space: "optim.lr.head": {low: 1e-3, high: 1, when: "adapter.varint": ["lora"]}`,
	`search: space: "optim.lr.head": {low: 1e-3, high: 1, when: "adapter.variant": []}`,
	`search: space: "optim.lr.head": {low: 1e-3, high: 1, when: "adapter.variant": "lora"}`,
	`search: space: "optim.lr.head": {low: 1e-3, high: 1, when: {}}, search: trials: 0`,
	`search: space: "optim.lr.head": {low: 1e-3, high: 1, when: "optim.lr.head": [1]}`,
	`search: space: {"train.batch": {choice: [2, 4], when: "train.epochs": [1]}, "train.epochs": {choice: [1, 2], when: "train.batch": [2]}}`,
	`search: space: {"train.batch": choice: [2, 4], "train.epochs": {choice: [1, 2], when: "train.batch": [8]}}`,
	`search: space: {"optim.lr.head": {low: 1e-3, high: 1}, "optim.lr": choice: [{head: 0.5}, {head: 1}]}`,
	`search: space: "head.kind": choice: ["linear", "\u001b[31mx"]`,
	`search: space: "head.hidden": {low: 8, high: 1e15, step: 1}`,
	`search: space: "optim.lr.head": choice: [for i in list.Range(0, 100000, 1) {i}]`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, trials: 0}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, trials: 1.5}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, trials: "many"}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, trials: 1e9}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, trial: 5}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, steps: -5}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, seeds: []}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, seeds: [5, 5]}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, seeds: [1]}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, seeds: 101}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, seed: -1}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, sampler: "bayes"}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, sampler: "grid"}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, sampler: "cmaes"}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, pruner: "asha"}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, pruner: kind: "hyper"}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, pruner: {kind: "asha", eta: 1}}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, pruner: {kind: "asha", min: 100000}}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, pruner: {kind: "median", warmup: 100000}}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, pruner: {kind: "percentile", percentile: 100}}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, objective: "dice"}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, objective: "test/dice/mean"}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, objective: ""}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, constraint: {}}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, constraint: trainable: 1}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, constraint: trainable: 0}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, retest: top: 0}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, start: {}}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, start: [3]}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, start: [{"optim.lr.adapter": 1}]}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, start: [{"optim.lr.head": 5}]}`,
	`search: {space: "optim.lr.head": {low: 1e-3, high: 1}, start: [{"optim.lr.head": "x"}]}`,
	`search: {space: "optim.lr.head": {low: 1e-2, high: 1}, start: [{}]}`,
	`cases: {a: optim: lr: head: 0.5, b: optim: lr: head: 2e-3}, search: {space: "optim.lr.head": {low: 1e-2, high: 1e-1}, start: [{}]}`,
	`search: {space: {"adapter.params.rank": choice: [16, 32], "train.batch": choice: [4, 8]}, start: [{"train.batch": 8}]}`,
	`cases: {a: optim: lr: head: 0.5, b: optim: lr: head: 2e-3}, search: {space: "optim.lr.head": {low: 1e-2, high: 1e-1}, constraint: trainable: 1}`,
	`search: space: "head.hidden": {low: 8, high: 16.5}`,
	`search: space: "optim.lr.head": {low: 1e-3, high: 1, when: "adapter.variant": ["lora", "scael"]}`,
	`search: space: "optim.lr.head": {low: 1e-3, high: 1, when: "head.kind": ["conv", "linera"]}`,
	`search: space: "optim.lr.head": {low: 1e-3, high: 1, when: "head.kind": ["linear"]}`,
	`vary: "optim.lr.head": [0.1, 0.2], search: space: "optim.lr.head": {low: 1e-3, high: 1}`,
	`vary: "optim.lr": [{head: 0.1, adapter: 1}, {head: 0.2, adapter: 1}], search: space: "optim.lr.head": {low: 1e-3, high: 1}`,
	`zip: {"optim.lr.head": [0.1, 0.2], "train.batch": [1, 2]}, search: space: "optim.lr.head": {low: 1e-3, high: 1}`,
	`ablate: "optim.lr.head": [0.1, 0.2], search: space: "optim.lr.head": {low: 1e-3, high: 1}`,
	`include: [{"optim.lr.head": 1}], search: space: "optim.lr.head": {low: 1e-3, high: 1}`,
	`cases: a: search: space: "optim.lr.head": {low: 1e-3, high: 1}`,
	`cases: a: search: trials: 3, search: space: "optim.lr.head": {low: 1e-3, high: 1}`,
	`cases: a: search: space: "optim.lr.heads": {low: 1e-3, high: 1}, search: space: "optim.lr.head": {low: 1e-3, high: 1}`,
	`cases: a: {search: space: "optim.lr.head": {low: 1, high: 2}, search: space: "optim.lr.head": choice: [1, 2]}, search: space: "train.batch": choice: [1, 2]`,
}

// Each mistake has an error at its place, in words of loralab, and no panic.
func TestHostileSearches(t *testing.T) {
	var all strings.Builder
	for _, lines := range hostile {
		text := insert(sound, "\t"+strings.ReplaceAll(lines, ", search:", "\n\tsearch:"))
		_, found := loadWith([]string{write(t, text)}, Env{}, world())
		fmt.Fprintln(&all, lines)
		if !found.HasErrors() {
			t.Errorf("nothing is wrong with: %s", lines)
		}
		for _, d := range found {
			fmt.Fprintf(&all, "\t%d:%d %s: %s\n", d.At.Line, d.At.Column, d.Path, strings.ReplaceAll(strings.TrimSuffix(d.Message+"; "+d.Hint, "; "), "\n", " "))
			if d.At.Line == 0 || d.At.Column == 0 || filepath.Base(d.At.File) != "e.cue" {
				t.Errorf("%s: at %v: %s", lines, d.At, d.Message)
			}
			for _, raw := range append(rawText, "\x1b", "\x07", "json:", "unmarshal") {
				if strings.Contains(d.Message+d.Hint, raw) {
					t.Errorf("%s: says %q: %s", lines, raw, d.Message)
				}
			}
		}
		if len(found) > 2 {
			t.Errorf("%s: %d errors", lines, len(found))
		}
	}
	const golden = "testdata/searches.txt"
	if os.Getenv("LORALAB_UPDATE") != "" {
		if err := os.WriteFile(golden, []byte(all.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	is, was := strings.Split(all.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(is), len(was)) {
		if i >= len(is) || i >= len(was) || is[i] != was[i] {
			t.Fatalf("line %d of %s is another: %s", i+1, golden, strings.Join(is[max(0, i-1):min(i+1, len(is))], "\n"))
		}
	}
}
