package report_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/report"
)

// A report is JSON whatever runs are missing, with null for what has no value and
// the spelling of all JSON that users read.
func TestReportAsJSON(t *testing.T) {
	w := newWorld(t, "test")
	w.bare = true
	w.add("two", nil, 1, 10, 0.5, 0.5)
	w.add("two", nil, 2, 10, 0.7, 0.7)
	w.add("one", nil, 1, 10, 0.5, 0.5)
	w.add("one", nil, 2, 10)
	w.add("none", nil, 1, 10)
	table, err := report.Tabulate(w.exp, w.results)
	if err != nil {
		t.Fatal(err)
	}
	table.Presets = []report.PresetSetting{{Difference: experiment.Difference{Preset: "p"}}}
	replaced := ""
	paths := report.Paths{Experiments: []report.Written{{Table: table, Page: "p", Markdown: "m", CSV: "c", RunsCSV: "r", Original: "o", OriginalMean: "om", Replaced: &replaced}}}
	text, err := json.Marshal(paths)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`{"cell":"two","n":2,"planned":2,`, `{"n":2,"mean":0.6,"std":0.141`, `{"cell":"one","n":1,"planned":2,`, `{"cell":"none","n":0,"planned":1,`, `"backbone":null,"adapter":null,"head":null}`,
		`{"n":1,"mean":0.5,"std":null,"min":0.5,"max":0.5,"low":null,"high":null}`, `{"n":0,"mean":null,"std":null,"min":null,"max":null,"low":null,"high":null}`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("it has no %s:\n%s", want, text)
		}
	}
	var all any
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	var visit func(v any)
	visit = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				visit(e)
			}
		case map[string]any:
			for key, e := range v {
				if key != strings.ToLower(key) {
					t.Errorf("the key %s is not in lower case", key)
				}
				visit(e)
			}
		}
	}
	visit(all)
}
