package peft

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// selection is which modules an adapter is on, by the rules of PEFT
// (tuners_utils.check_target_module_exists).
type selection struct {
	Target  patterns `json:"target_modules"`
	Exclude patterns `json:"exclude_modules"`
	Saved   []string `json:"modules_to_save"` // never adapted
	Layers  numbers  `json:"layers_to_transform"`
	Pattern patterns `json:"layers_pattern"`
}

// patterns is a regular expression that has to match a whole name, or a list of
// names and ends of names.
type patterns struct {
	text string
	list []string
}

func (p *patterns) UnmarshalJSON(b []byte) error {
	*p = patterns{}
	if json.Unmarshal(b, &p.text) == nil {
		return nil
	}
	return json.Unmarshal(b, &p.list)
}

// numbers is a number or a list of them.
type numbers []int

func (n *numbers) UnmarshalJSON(b []byte) error {
	var one *int
	if json.Unmarshal(b, &one) == nil {
		*n = nil
		if one != nil {
			*n = numbers{*one}
		}
		return nil
	}
	return json.Unmarshal(b, (*[]int)(n))
}

func (p patterns) empty() bool { return p.text == "" && len(p.list) == 0 }

// match reports whether a name is one of the patterns'.
func (p patterns) match(name string) (bool, error) {
	if p.text == "" {
		return slices.ContainsFunc(p.list, func(t string) bool { return name == t || strings.HasSuffix(name, "."+t) }), nil
	}
	return matches(`\A(?:`, p.text, `)\z`, name)
}

// matches reports whether a name is before, expression and after, one behind the
// other, of which only the expression is the adapter's.
func matches(before, expression, after, name string) (bool, error) {
	if err := sameInPython(expression); err != nil {
		return false, err
	}
	re, err := regexp.Compile(before + expression + after)
	if err != nil {
		return false, fmt.Errorf("the regular expression is not one that is understood here: %w", err)
	}
	return re.MatchString(name), nil
}

// differs matches what Go reads in a regular expression otherwise than Python, in
// order: an escaped character that both read alike, an escape of Go alone, a
// repetition of Python alone, a class of Go alone, and groups and flags of Go alone.
var differs = regexp.MustCompile(`(\\[^zQECpPx]|\\x[^{])|(\\[zQECpP]|\\x\{)|(\{,\d*\})|(\[:\^?\w*:\])|(\(\?<[^=!]|\(\?[a-zA-Z]*U)`)

// sameInPython refuses an expression with another meaning in Python, where PEFT
// reads it.
func sameInPython(expression string) error {
	for _, m := range differs.FindAllStringSubmatch(expression, -1) {
		if m[1] == "" {
			return fmt.Errorf("the regular expression %q has %s, which Python and loralab read differently: write it in another way", expression, m[0])
		}
	}
	return nil
}

// allLinear is the word for every linear layer.
const allLinear = "all-linear"

// match reports whether a module is adapted.
func (s *selection) match(name string, linear bool) (bool, error) {
	if out, err := s.Exclude.match(name); err != nil || !s.Exclude.empty() && out {
		return false, err
	}
	for _, m := range s.Saved {
		if out, err := matches(`\A(^|.*\.)`, m, `($|\..*)`, name); err != nil || out {
			return false, err
		}
	}
	if s.Target.text == allLinear {
		return linear, nil
	}
	found, err := s.Target.match(name)
	// Neither a regular expression nor a whole name is limited to some layers.
	if err != nil || !found || s.Target.text != "" || len(s.Layers) == 0 || slices.Contains(s.Target.list, name) {
		return found, err
	}
	layer, ok, err := s.layer(name)
	return ok && slices.Contains(s.Layers, layer), err
}

// saves reports whether a module is one of modules_to_save, or inside of one.
func (s *selection) saves(name string) bool {
	return slices.ContainsFunc(s.Saved, func(m string) bool {
		is, err := matches(`\A(^|.*\.)`, m, `($|\..*)`, name)
		return is && err == nil // a wrong expression is reported by match
	})
}

// layer is the number of the layer that a module is in: the first number behind
// the name of a list, which is one of layers_pattern or any that is itself
// inside of something.
func (s *selection) layer(name string) (int, bool, error) {
	expressions := []string{`\A.*?\.[^.]*\.(\d+)\.`}
	if !s.Pattern.empty() {
		expressions = nil
		for _, p := range append(slices.Clone(s.Pattern.list), s.Pattern.text) {
			if err := sameInPython(p); err != nil {
				return 0, false, err
			}
			if p != "" {
				expressions = append(expressions, `\A(?:|.*?\.)`+p+`\.(\d+)\.`)
			}
		}
	}
	for _, e := range expressions {
		re, err := regexp.Compile(e)
		if err != nil {
			return 0, false, fmt.Errorf("layers_pattern is not one that is understood here: %w", err)
		}
		if m := re.FindStringSubmatch(name); m != nil {
			n, err := strconv.Atoi(m[len(m)-1])
			return n, err == nil, nil
		}
	}
	return 0, false, nil
}

// exceptions are the values of a setting for some modules, in the order of the
// file: rank_pattern and alpha_pattern. The first key that matches the end of a
// name counts.
type exceptions []exception

type exception struct {
	key   string
	value json.Number
}

func (e *exceptions) UnmarshalJSON(b []byte) error {
	*e = nil
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if open, err := d.Token(); err != nil || open == nil {
		return err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		value, err := d.Token()
		if err != nil {
			return err
		}
		number, is := value.(json.Number)
		if !is {
			return fmt.Errorf("the value of %q is not a number", key)
		}
		x := exception{fmt.Sprint(key), number}
		// As in Python, a key that is given again keeps its place and has the last value.
		if at := slices.IndexFunc(*e, func(o exception) bool { return o.key == x.key }); at >= 0 {
			(*e)[at] = x
			continue
		}
		*e = append(*e, x)
	}
	return nil
}

func (e exceptions) of(name string) (json.Number, bool, error) {
	for _, x := range e {
		ok, err := matches(`\A(.*\.)?(`, x.key, `)\z`, name)
		if err != nil {
			return "", false, err
		}
		if ok {
			return x.value, true, nil
		}
	}
	return "", false, nil
}
