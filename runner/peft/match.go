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
	re, err := compile("", p.text, "", `\z`)
	return err == nil && re.MatchString(name), err
}

// matches is re.match of Python: whether a name begins with before, expression and
// after, one behind the other, of which only the expression is the adapter's.
func matches(before, expression, after, name string) (bool, error) {
	re, err := compile(before, expression, after, "")
	return err == nil && re.MatchString(name), err
}

// compile is for names that begin with before, expression and after, and have end
// behind all that.
func compile(before, expression, after, end string) (*regexp.Regexp, error) {
	if err := sameInPython(expression); err != nil {
		return nil, err
	}
	whole := before + expression + after
	// Without the group first, which "a)|(b" would divide.
	if _, err := regexp.Compile(whole); err != nil {
		return nil, fmt.Errorf("the regular expression is not one that is understood here: %w", err)
	}
	return regexp.Compile(`\A(?:` + whole + `)` + end) // every alternative begins there
}

// differs matches what Go reads in a regular expression otherwise than Python, in
// order: an escaped character that both read alike, an escape of Go alone or a
// reference of Python alone, a repetition of Python alone, a class of Go alone, and
// groups and flags of Go alone.
var differs = regexp.MustCompile(`(\\[^zQECpPx1-9]|\\x[^{])|(\\[zQECpP1-9]|\\x\{)|(\{,\d*\}|\{0\d+(?:,\d*)?\}|\{\d+,0\d+\})|(\[:\^?\w*:\])|(\(\?<[^=!]|\(\?[a-zA-Z]*U)`)

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
		if out, err := matches(`(^|.*\.)`, m, `($|\..*)`, name); err != nil || out {
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
		is, err := matches(`(^|.*\.)`, m, `($|\..*)`, name)
		return is && err == nil // a wrong expression is reported by match
	})
}

// layer is the number of the layer that a module is in: the first number behind
// the name of a list, which is one of layers_pattern or any that is itself
// inside of something.
func (s *selection) layer(name string) (int, bool, error) {
	before, patterns := `.*?\.`, []string{`[^.]*`}
	if !s.Pattern.empty() {
		before, patterns = `(?:^|.*?\.)`, append(slices.Clone(s.Pattern.list), s.Pattern.text)
	}
	for _, p := range patterns {
		if p == "" {
			continue
		}
		re, err := compile(before, p, `\.(\d+)\.`, "")
		if err != nil {
			return 0, false, fmt.Errorf("layers_pattern: %w", err)
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
		ok, err := matches(`(.*\.)?(`, x.key, `)$`, name)
		if err != nil {
			return "", false, err
		}
		if ok {
			return x.value, true, nil
		}
	}
	return "", false, nil
}
