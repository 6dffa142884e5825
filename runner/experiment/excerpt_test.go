package experiment

import (
	"encoding/json"
	"strings"
	"testing"

	"cuelang.org/go/cue"
)

// excerptText is an excerpt as CUE.
func excerptText(t *testing.T, part *Excerpt) string {
	t.Helper()
	labels := func(names []string) string {
		var all []string
		for _, name := range names {
			all = append(all, cue.Str(name).String())
		}
		return strings.Join(all, ": ")
	}
	var b strings.Builder
	for _, f := range part.Fields {
		value, err := json.Marshal(f.Value)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(labels(part.Place) + ": " + labels(f.Labels) + ": " + string(value) + "\n")
	}
	return b.String()
}

// A point in the file, without the search, makes the runs of the retests: in the base,
// in a case, and as a case in place of a cell of vary.
func TestExcerptsMakeTheRunsOfRetests(t *testing.T) {
	head := strings.TrimSuffix(strings.Replace(sound, "\toptim: lr: {adapter: 1e-3, head: 2e-3}\n", "", 1), "}\n")
	const search = "\tsearch: space: {\n\t\t\"optim.lr.adapter\": {low: 1e-5, high: 1e-1, log: true}\n\t\t\"optim.lr.head\": {low: 1e-5, high: 1e-1, log: true}\n\t}\n"
	point := []Setting{{"optim.lr.adapter", 0.0123}, {"optim.lr.head", 0.002}}
	for what, c := range map[string]struct {
		with, without string
		in            int // a line that has another value
	}{
		"base":       {with: "\toptim: clip: 1\n", without: "\toptim: clip: 1\n"},
		"base value": {with: "\toptim: lr: head: 1e-2\n", in: 1},
		"case":       {with: "\tcases: a: optim: clip: 1\n", without: "\tcases: a: optim: clip: 1\n"},
		"case value": {with: "\tcases: a: optim: lr: head: 1e-2\n", without: "\tcases: a: {}\n", in: 1},
		"vary":       {with: "\tvary: \"adapter.params.rank\": [2, 8]\n"},
	} {
		e := loadText(t, head+c.with+search+"}\n")[0]
		var parts string
		in := 0
		for _, s := range e.Studies {
			part, err := s.Excerpt(point)
			if err != nil {
				t.Fatal(err)
			}
			if part.Case != (what == "vary") {
				t.Errorf("%s: in a case of its own: %v", what, part.Case)
			}
			for _, f := range part.Fields {
				if f.In.File != "" {
					in++
				}
			}
			parts += excerptText(t, part)
		}
		if in != c.in {
			t.Errorf("%s: %d values are said to be in the file, want %d", what, in, c.in)
		}
		got := map[string]bool{}
		for _, run := range loadText(t, head+c.without+"}\n"+parts)[0].Runs {
			got[run.ID] = true
		}
		for _, s := range e.Studies {
			runs, found := s.Retest(t.Context(), 0, point)
			if len(runs) != len(s.RetestSeeds) {
				t.Fatal(texts(found))
			}
			for _, want := range runs {
				if !got[want.ID] {
					t.Errorf("%s: no run is that of %s\n%s", what, want.Name(), parts)
				}
				delete(got, want.ID)
			}
		}
		if len(got) > 0 {
			t.Errorf("%s: there are %d other runs", what, len(got))
		}
	}
}
