package diagnostic_test

import (
	"strings"
	"testing"

	"github.com/loralab/loralab/runner/diagnostic"
)

func TestText(t *testing.T) {
	list := diagnostic.List{
		{
			Message: `unknown field "lernrate"`,
			Hint:    "did you mean \"lr\"?\nsee runner explain optim",
			At:      diagnostic.Position{File: "a.cue", Line: 12, Column: 5, Width: 8},
			Source:  "\té: lernrate: 1",
			Cells:   []string{"rank=2", "rank=4"},
			Of:      3,
		},
		{Message: "no file given\nand no text", Warning: true},
		{Message: "no plug-in", Hint: "build\none", Cells: strings.Split("a b c d e f", " ")},
		{Message: "empty", At: diagnostic.Position{File: "a.cue"}},
	}
	const want = `error: unknown field "lernrate"
  --> a.cue:12:5
12 |     é: lernrate: 1
   |        ^^^^^^^^
   = in: 2 of 3 cells: rank=2; rank=4
   = hint: did you mean "lr"?
           see runner explain optim

warning: no file given
  and no text

error: no plug-in
  = in: a; b; c; d; and 2 more
  = hint: build
          one

error: empty
 --> a.cue

3 errors in 1 file`
	if got := list.Text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if list[0].Text() != want[:strings.Index(want, "\n\n")] {
		t.Errorf("one by itself: %s", list[0].Text())
	}
}

// What is given on the command line is in no file.
func TestErrorsAreCountedByFile(t *testing.T) {
	in := func(files ...string) (l diagnostic.List) {
		for _, file := range files {
			l = append(l, diagnostic.Diagnostic{Message: "wrong", At: diagnostic.Position{File: file}})
		}
		return l
	}
	for want, list := range map[string]diagnostic.List{
		"1 error":                                    in(""),
		"1 error in 1 file":                          in("a.cue"),
		"1 error on the command line":                in(diagnostic.CommandLine),
		"2 errors in 2 files":                        in("a.cue", "b.cue"),
		"3 errors in 1 file and on the command line": in("a.cue", "a.cue", diagnostic.CommandLine),
	} {
		if got := list.Text(); !strings.HasSuffix(got, "\n"+want) {
			t.Errorf("got\n%s\nwant %s", got, want)
		}
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
		"back":         "backbone", // the only one that begins so
		"h":            "",
	} {
		if got := diagnostic.DidYouMean(word, fields); got != want {
			t.Errorf("DidYouMean(%q) = %q, want %q", word, got, want)
		}
	}
	if got := diagnostic.Suggest("momentum", "fields", []string{"a", "b"}); got != "fields: a, b" {
		t.Errorf("Suggest = %q", got)
	}
}

func TestSome(t *testing.T) {
	names := strings.Split("a b c d e", " ")
	for _, c := range []struct {
		n         int
		separator string
		want      string
	}{{5, ", ", "a, b, c and 2 more"}, {5, "; ", "a; b; c; and 2 more"}, {4, ", ", "a, b, c, d"}, {1, ", ", "a"}, {0, ", ", ""}} {
		if got := diagnostic.Some(names[:c.n], 3, c.separator); got != c.want {
			t.Errorf("%d: %q, want %q", c.n, got, c.want)
		}
	}
}
