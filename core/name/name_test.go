package name

import (
	"errors"
	"path"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// Names became paths, terminal sequences and names of smoke runs (trial-language
// D1; trial-reliability 7, 8, 26; trial-data F28).
func TestRules(t *testing.T) {
	long := strings.Repeat("x", Most)
	never := []string{"", ".", "..", "../../evil", "vit/rank", "/abs", ".hidden", "-flag", "a\nb", "a\x1b[2J", "a\x00", "\xff", "a\u202eb", "a\u200bb", "a\u00a0b", "a\\b", long + "x"}
	plain := []string{"a", "Zürich", "数据", "rank_4", "v1.2-b", "9", "e\u0301", long}
	marked := []string{"a b", "rank=4", "a+b", "a,b", "test@original", "50%"}
	for _, c := range []struct {
		rule    func(string) error
		yes, no [][]string
	}{
		{Experiment, [][]string{plain}, [][]string{never, marked, {"night.smoke", ".smoke"}}},
		{Domain, [][]string{plain, {"night.smoke"}}, [][]string{never, marked}},
		{Case, [][]string{plain, marked}, [][]string{never, {" a", "a "}}},
		{Recorded, [][]string{plain, {"night.smoke"}}, [][]string{never, marked, {".smoke", "../x.smoke"}}},
		{Column, [][]string{plain, {"test@original", "fog-3@window-126x63-scale-0.5"}}, [][]string{never, {"a b", "@original", "test@", "test@../x", "a@b@c"}}},
		{Cell, [][]string{plain, marked, {"source=sets/a", long + long}}, [][]string{{"", ".", "..", "a\nb", "a\x1b[2J", "\xff", "a\u202eb"}}},
	} {
		for _, names := range c.yes {
			for _, s := range names {
				if err := c.rule(s); err != nil {
					t.Error(err)
				}
			}
		}
		for _, names := range c.no {
			for _, s := range names {
				if c.rule(s) == nil {
					t.Errorf("%q passes", s)
				}
			}
		}
	}
}

func TestErrorsNameWhatIsWrong(t *testing.T) {
	for s, want := range map[string]string{
		"":                       "the name of an experiment is empty",
		"../x":                   `"../x" cannot be the name of an experiment: it contains "/"`,
		"a\x1bb":                 `"a\x1bb" cannot be the name of an experiment: it contains the character U+001B`,
		".x":                     `".x" cannot be the name of an experiment: it begins with "."`,
		"\xff":                   `"\xff" cannot be the name of an experiment: it is not valid UTF-8`,
		"n.smoke":                `"n.smoke" cannot be the name of an experiment: names that end in ".smoke" are those of "apply --smoke"`,
		strings.Repeat("é", 200): `"` + strings.Repeat("é", 60) + `…" cannot be the name of an experiment: it has 400 bytes`,
	} {
		var e *Error
		if err := Experiment(s); !errors.As(err, &e) {
			t.Errorf("%q passes", s)
		} else if e.Message() != want {
			t.Errorf("%q: %s, want %s", s, e.Message(), want)
		}
	}
}

// What passes is one element of a path, and shows as it is on a terminal.
func FuzzNamesAreSafe(f *testing.F) {
	for _, s := range []string{"a", "../x", "a b", "é", "a\x1b", "test@original", ".smoke", "\u202e", "a\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, rule := range []func(string) error{Experiment, Domain, Case, Recorded, Column} {
			if rule(s) != nil {
				continue
			}
			if path.Join("d", s) != "d/"+s || path.Base(s) != s || len(s) > 2*Most+len("@") || !utf8.ValidString(s) {
				t.Errorf("%q passes and is no element of a path", s)
			}
			for _, r := range s {
				if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
					t.Errorf("%q passes with %U", s, r)
				}
			}
		}
	})
}
