package diagnostic_test

import (
	"testing"

	"github.com/loralab/loralab/runner/diagnostic"
)

func TestText(t *testing.T) {
	d := diagnostic.Diagnostic{
		Message: `unknown field "lernrate"`,
		Hint:    "did you mean \"lr\"?\nsee runner explain optim",
		At:      diagnostic.Position{File: "a.cue", Line: 12, Column: 5, Width: 8},
		Source:  "\té: lernrate: 1",
		Cells:   []string{"rank=2", "rank=4"},
		Of:      3,
	}
	const want = "a.cue:12:5: unknown field \"lernrate\"\n" +
		"  12 | \té: lernrate: 1\n" +
		"     | \t   ^^^^^^^^\n" +
		"  in 2 of 3 cells: rank=2; rank=4\n" +
		"  hint: did you mean \"lr\"?\n" +
		"        see runner explain optim"
	if got := d.Text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	bare := diagnostic.Diagnostic{Message: "no file given", Warning: true}
	if got := bare.Text(); got != "warning: no file given" {
		t.Errorf("got %q", got)
	}
}

func TestDidYouMean(t *testing.T) {
	fields := []string{"backbone", "adapter", "head", "lr", "warmup", "weightDecay"}
	for word, want := range map[string]string{
		"adaptor":      "adapter",
		"hed":          "head",
		"rl":           "lr", // a swap is one step
		"weight_decay": "weightDecay",
		"Warmup":       "warmup",
		"momentum":     "",
		"x":            "",
	} {
		if got := diagnostic.DidYouMean(word, fields); got != want {
			t.Errorf("DidYouMean(%q) = %q, want %q", word, got, want)
		}
	}
	if got := diagnostic.Suggest("momentum", "fields", []string{"a", "b"}); got != "fields: a, b" {
		t.Errorf("Suggest = %q", got)
	}
}
