package peft

import (
	"encoding/json"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// What PEFT's documentation and issues say of which modules are chosen.
func TestSelection(t *testing.T) {
	names := []string{
		"layers.0.attention.q_proj", "layers.0.mlp.fc1", "layers.1.attention.q_proj", "layers.11.attention.q_proj",
	}
	inside := []string{
		"vit.layers.0.attention.q_proj", "vit.layers.0.mlp.fc1", "vit.layers.1.attention.q_proj", "vit.layers.11.attention.q_proj",
	}
	for _, c := range []struct {
		config string
		names  []string
		want   []int
	}{
		{`{"target_modules": ["q_proj"]}`, names, []int{0, 2, 3}},
		{`{"target_modules": ["attention.q_proj", "proj"]}`, names, []int{0, 2, 3}}, // no part of a word
		{`{"target_modules": ["layers.1.attention.q_proj"]}`, names, []int{2}},
		{`{"target_modules": ["1.attention.q_proj"]}`, names, []int{2}},
		{`{"target_modules": ".*q_proj"}`, names, []int{0, 2, 3}},
		{`{"target_modules": "q_proj"}`, names, nil}, // the whole name
		{`{"target_modules": "layers\\.(0|1)\\..*"}`, names, []int{0, 1, 2}},
		{`{"target_modules": "all-linear"}`, names, []int{0, 1, 2, 3}},
		{`{"target_modules": ["q_proj", "fc1"], "exclude_modules": ["fc1"]}`, names, []int{0, 2, 3}},
		{`{"target_modules": ["q_proj"], "exclude_modules": "layers\\.1.*"}`, names, []int{0}},
		{`{"target_modules": ["q_proj"], "modules_to_save": ["layers.1"]}`, names, []int{0, 3}},
		{`{"target_modules": ["q_proj"], "layers_to_transform": [1, 11]}`, inside, []int{2, 3}},
		{`{"target_modules": ["q_proj"], "layers_to_transform": 0}`, inside, []int{0}},
		// A list at the root of the model has nothing before it (PEFT #3610).
		{`{"target_modules": ["q_proj"], "layers_to_transform": 0}`, names, nil},
		{`{"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": "layers"}`, names, []int{2}},
		{`{"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": ["blocks"]}`, inside, nil},
		// With a regular expression the numbers do not count.
		{`{"target_modules": ".*q_proj", "layers_to_transform": [1]}`, inside, []int{0, 2, 3}},
		{`{"target_modules": ["q_proj"], "layers_to_transform": []}`, inside, []int{0, 2, 3}},
		// Nor for a whole name.
		{`{"target_modules": ["vit.layers.0.attention.q_proj", "fc1"], "layers_to_transform": [1]}`, inside, []int{0}},
	} {
		var s selection
		if err := json.Unmarshal([]byte(c.config), &s); err != nil {
			t.Fatal(err)
		}
		var got []int
		for i, name := range c.names {
			on, err := s.match(name, true)
			if err != nil {
				t.Fatal(err)
			}
			if on {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s chooses %v of %v, want %v", c.config, got, c.names, c.want)
		}
	}
}

// The first key that fits counts, in the order of the file.
func TestExceptions(t *testing.T) {
	for _, c := range []struct{ config, name, want string }{
		{`{"q_proj": 4, ".*": 8}`, "layers.0.attention.q_proj", "4"},
		{`{".*": 8, "q_proj": 4}`, "layers.0.attention.q_proj", "8"},
		{`{"layers.1.attention.q_proj": 4}`, "layers.11.attention.q_proj", ""},
		{`{"attention": 4}`, "layers.0.attention.q_proj", ""},
		{`null`, "layers.0.attention.q_proj", ""},
	} {
		var e exceptions
		if err := json.Unmarshal([]byte(c.config), &e); err != nil {
			t.Fatal(err)
		}
		if got, _, err := e.of(c.name); err != nil || string(got) != c.want {
			t.Errorf("%s for %s is %q, %v; want %q", c.config, c.name, got, err, c.want)
		}
	}
}

// Dimensions put in another order and back are what they were.
func TestPermuteComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shape := rapid.SliceOfN(rapid.Int64Range(1, 4), 1, 4).Draw(t, "shape")
		axes := make([]int, len(shape))
		n := int64(1)
		for i, d := range shape {
			axes[i] = i
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(i)
		}
		order := rapid.Permutation(axes).Draw(t, "order")
		back := make([]int, len(order))
		for i, d := range order {
			back[d] = i
		}
		there, middle := permute(v, shape, order)
		again, end := permute(there, middle, back)
		if !slices.Equal(again, v) || !slices.Equal(end, shape) {
			t.Fatalf("%v became %v by way of %v", v, again, there)
		}
		for i, d := range order {
			if middle[i] != shape[d] {
				t.Fatalf("shape %v in order %v is %v", shape, order, middle)
			}
		}
	})
}

// Expressions that Go and Python read differently are refused: the scale of an
// adapter depends on them (trial-data F1).
func TestExpressionsOfPython(t *testing.T) {
	for _, e := range []string{
		`q_proj{,1}`, `[[:alpha:]]_proj`, `[^[:^digit:]]`, `q\z`, `\Qq.proj\E`, `\pL+`, `\P{Lu}`, `\x{71}_proj`, `(?<name>q)_proj`, `(?U)q.*`, `(?sU:q)`, `\C`,
		`q{01}`, `q{1,02}`, `q{00,}`, `(q)\1`, `\12`,
	} {
		if err := sameInPython(e); err == nil {
			t.Errorf("%s is taken", e)
		}
		x := exceptions{{e, "2"}}
		if _, _, err := x.of("layers.0.q_proj"); err == nil {
			t.Errorf("%s is taken as a pattern of ranks", e)
		}
		s := selection{Target: patterns{text: e}}
		if _, err := s.match("layers.0.q_proj", true); err == nil {
			t.Errorf("%s is taken as target_modules", e)
		}
		s = selection{Target: patterns{list: []string{"q_proj"}}, Layers: numbers{0}, Pattern: patterns{text: e}}
		if _, err := s.match("layers.0.q_proj", true); err == nil {
			t.Errorf("%s is taken as layers_pattern", e)
		}
	}
	for _, e := range []string{
		`q_proj`, `q_proj{0,1}`, `q{2}`, `q{1,}`, `\{,1}`, `\\{1,2}`, `[a:b]`, `\[:alpha:\]x`, `(?P<name>q)_proj`, `(?i)Q_proj`, `(?:q|v)_proj`, `\d+\.q`, `\x71_proj`, `a\.b`, `.*\.(0|1)\..*`, `[]q]`, `^layers`,
	} {
		if err := sameInPython(e); err != nil {
			t.Errorf("%s: %v", e, err)
		}
	}
}

// Every alternative is matched where Python's re.match and re.fullmatch match it.
func TestAlternatives(t *testing.T) {
	for _, c := range []struct {
		before, expression, after, end string
		name                           string
		want                           bool
	}{
		// rank_pattern and alpha_pattern: re.match(rf"(.*\.)?({key})$", name)
		{`(.*\.)?(`, `q|v`, `)$`, "", "layers.0.v", true},
		{`(.*\.)?(`, `q|v`, `)$`, "", "layers.0.vq", false},
		{`(.*\.)?(`, `x)|(v`, `)$`, "", "layers.0.v", false}, // without the wrapping: found anywhere
		{`(.*\.)?(`, `x)|(v`, `)$`, "", "v", true},
		{`(.*\.)?(`, `x)|(v`, `)$`, "", "v.0", false},
		// modules_to_save: re.match(rf"(^|.*\.){m}($|\..*)", name)
		{`(^|.*\.)`, `head|v`, `($|\..*)`, "", "layers.0.v", false},
		{`(^|.*\.)`, `head|v`, `($|\..*)`, "", "v.0", true},
		{`(^|.*\.)`, `head|v`, `($|\..*)`, "", "headless", true},
		// target_modules: re.fullmatch(text, name)
		{"", `q|qv`, "", `\z`, "qv", true},
		{"", `q|v`, "", `\z`, "qv", false},
	} {
		re, err := compile(c.before, c.expression, c.after, c.end)
		if err != nil || re.MatchString(c.name) != c.want {
			t.Errorf("%s%s%s on %s: %v, %v; want %v", c.before, c.expression, c.after, c.name, !c.want, err, c.want)
		}
	}
	if _, err := compile("", `a)|(b`, "", `\z`); err == nil {
		t.Error("parentheses that do not match are taken")
	}
}

// A key that is given twice has its last value at its first place, as a dict of
// Python has. What is no number is refused.
func TestRepeatedExceptions(t *testing.T) {
	var e exceptions
	if err := json.Unmarshal([]byte(`{"q_proj": 2, "v_proj": 3, ".*proj": 5, "q_proj": 16}`), &e); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"layers.0.q_proj": "16", "layers.0.v_proj": "3", "layers.0.o_proj": "5"} {
		if got, ok, err := e.of(name); err != nil || !ok || got.String() != want {
			t.Errorf("%s has %s, %v, %v; want %s", name, got, ok, err, want)
		}
	}
	for _, bad := range []string{`{"q": "2"}`, `{"q": null}`, `{"q": [1]}`, `{"q": true}`} {
		if err := json.Unmarshal([]byte(bad), &e); err == nil {
			t.Errorf("%s is taken as %v", bad, e)
		}
	}
}
