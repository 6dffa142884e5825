// Package space describes what a search may choose: parameters with bounds, and
// the conditions under which each of them exists.
//
// A point of a space has one number for each parameter, in the order of the
// space: the internal representation of goptuna and Optuna. A float or an
// integer is itself, a choice is its index, and [Inactive] is a parameter whose
// condition does not hold. [Space.Decode] gives the values under their names.
package space

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Kind is the type of a parameter.
type Kind int

const (
	// Float is a real number in [Low, High], or on a grid when it has a step.
	Float Kind = iota
	// Int is an integer in [Low, High].
	Int
	// Choice is one of a list of values that have no order.
	Choice
)

func (k Kind) String() string { return [...]string{"float", "int", "choice"}[k] }

// Param is one dimension of a space.
type Param struct {
	Name string
	Kind Kind
	// Low and High are the bounds, both included.
	Low, High float64
	// Step is the distance of neighboring values from Low on. 0 is none for a
	// float and 1 for an integer.
	Step float64
	// Log says that the logarithm is uniform. It excludes a step.
	Log bool
	// Choices are the values of a choice. They are compared by ==, and numbers
	// of different types by their value; values that == refuses are compared by
	// reflect.DeepEqual.
	Choices []any
	// When says that the parameter exists only where all conditions hold.
	When []Condition
}

// Condition holds where another parameter has one of the values. The parameter
// is a choice, an integer or a float with a step, and a condition on a parameter
// that does not exist at a point does not hold there.
type Condition struct {
	Param  string
	Values []any
}

// Error is a fault of one parameter.
type Error struct {
	// Param is its name, and Field the field of Param that is wrong, in lower
	// case: name, low, high, step, log, choices, when.
	Param, Field string
	Message      string
}

func (e *Error) Error() string { return fmt.Sprintf("parameter %q: %s", e.Param, e.Message) }

// Point has a number for each parameter of a space.
type Point []float64

// Inactive is the number of a parameter that does not exist at a point. It is
// NaN; [Active] tells.
var Inactive = math.NaN()

// Active reports whether a number of a point is that of a parameter that exists.
func Active(x float64) bool { return !math.IsNaN(x) }

// Equal reports whether two points are the same.
func (p Point) Equal(q Point) bool {
	return slices.EqualFunc(p, q, func(a, b float64) bool { return a == b || !Active(a) && !Active(b) })
}

// MarshalJSON writes a list of numbers, null for parameters that do not exist.
func (p Point) MarshalJSON() ([]byte, error) {
	list := make([]*float64, len(p))
	for i := range p {
		if Active(p[i]) {
			list[i] = &p[i]
		}
	}
	return json.Marshal(list)
}

// UnmarshalJSON reads what MarshalJSON wrote. [Space.Contains] checks it.
func (p *Point) UnmarshalJSON(text []byte) error {
	var list []*float64
	if err := json.Unmarshal(text, &list); err != nil {
		return err
	}
	*p = make(Point, len(list))
	for i, x := range list {
		(*p)[i] = Inactive
		if x != nil {
			(*p)[i] = *x
		}
	}
	return nil
}

// Space is a checked list of parameters. It does not change.
type Space struct {
	params []Param
	index  map[string]int
	order  []int // parents before children
	when   [][]condition
	groups [][]int
}

// condition is a Condition in internal numbers.
type condition struct {
	param  int
	values []float64
}

// New checks parameters and makes a space of them. It reports all faults, each
// as an [*Error]; errors.Join's Unwrap lists them.
func New(params ...Param) (*Space, error) {
	s := &Space{params: slices.Clone(params), index: map[string]int{}, when: make([][]condition, len(params))}
	var faults []error
	report := func(p Param, field, format string, args ...any) {
		faults = append(faults, &Error{p.Name, field, fmt.Sprintf(format, args...)})
	}
	for i, p := range s.params {
		if _, twice := s.index[p.Name]; twice {
			report(p, "name", "the name is used twice")
		}
		if p.Name == "" {
			report(p, "name", "the name is empty")
		}
		s.index[p.Name] = i
		s.params[i] = check(p, report)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	for i, p := range s.params {
		for _, c := range p.When {
			parent, ok := s.index[c.Param]
			if !ok {
				report(p, "when", "it depends on %q, which is not a parameter of the search", c.Param)
				continue
			}
			if s.params[parent].Kind == Float && s.params[parent].Step == 0 {
				report(p, "when", "it depends on %q, which has no list of values: only a choice, an integer or a float with a step has one", c.Param)
				continue
			}
			values := make([]float64, 0, len(c.Values))
			for _, v := range c.Values {
				x, err := s.params[parent].Encode(v)
				if err != nil {
					report(p, "when", "it depends on a value that %q never has: %v", c.Param, err)
					continue
				}
				values = append(values, x)
			}
			if len(c.Values) == 0 {
				report(p, "when", "it depends on %q, but on none of its values", c.Param)
			}
			s.when[i] = append(s.when[i], condition{parent, values})
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	if err := s.sort(); err != nil {
		return nil, err
	}
	for i, p := range s.params {
		if parent, never := s.never(i); never {
			report(p, "when", "its conditions never hold together: they need different values of %q", s.params[parent].Name)
		}
	}
	s.group()
	return s, errors.Join(faults...)
}

// check returns the parameter with its defaults filled in.
func check(p Param, report func(p Param, field, format string, args ...any)) Param {
	if p.Kind == Choice {
		if len(p.Choices) < 2 {
			report(p, "choices", "a search needs two choices or more, and it has %d", len(p.Choices))
		}
		for i, a := range p.Choices {
			for _, b := range p.Choices[:i] {
				if same(a, b) {
					report(p, "choices", "%v is listed twice", a)
				}
			}
		}
		return p
	}
	switch finite := func(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }; {
	case !finite(p.Low):
		report(p, "low", "low is not finite")
		return p
	case !finite(p.High) || !finite(p.High-p.Low):
		report(p, "high", "high is not finite, or too far from low")
		return p
	case !finite(p.Step):
		report(p, "step", "the step is not finite")
		return p
	case p.Low >= p.High:
		report(p, "high", "high has to be above low, and %v is not above %v", p.High, p.Low)
		return p
	}
	if p.Kind == Int {
		for _, f := range []struct {
			name string
			x    float64
		}{{"low", p.Low}, {"high", p.High}, {"step", p.Step}} {
			if f.x != math.Trunc(f.x) || math.Abs(f.x) > 1<<53 {
				report(p, f.name, "%s of an integer has to be an integer, and is %v", f.name, f.x)
				return p
			}
		}
	}
	if p.Log {
		if p.Low <= 0 {
			report(p, "low", "low has to be above 0 on a logarithmic scale, and is %v", p.Low)
		}
		if p.Step != 0 && (p.Kind == Float || p.Step != 1) {
			report(p, "step", "a logarithmic scale has no step")
			return p
		}
	}
	if p.Step < 0 {
		report(p, "step", "the step has to be above 0, and is %v", p.Step)
		return p
	}
	if p.Kind == Int && p.Step == 0 {
		p.Step = 1
	}
	if p.Step > 0 {
		n := (p.High - p.Low) / p.Step
		switch {
		case n < 1-1e-9:
			report(p, "step", "a step of %v leaves one value between %v and %v", p.Step, p.Low, p.High)
		case math.Abs(n-math.Round(n)) > 1e-8*n:
			report(p, "step", "steps of %v from %v do not reach %v: the last value is %v", p.Step, p.Low, p.High, tidy(p.Low+math.Floor(n)*p.Step))
		case n >= 1<<53:
			report(p, "step", "a step of %v is too small", p.Step)
		}
	}
	return p
}

// sort finds an order in which parents come before children.
func (s *Space) sort() error {
	state := make([]int, len(s.params)) // 1 while its parents are visited, 2 after
	var path []string
	var visit func(i int) error
	visit = func(i int) error {
		path = append(path, s.params[i].Name)
		switch state[i] {
		case 1:
			return &Error{s.params[i].Name, "when", "its condition depends on itself: " + strings.Join(path[slices.Index(path, s.params[i].Name):], " → ")}
		case 0:
			state[i] = 1
			for _, c := range s.when[i] {
				if err := visit(c.param); err != nil {
					return err
				}
			}
			state[i] = 2
			s.order = append(s.order, i)
		}
		path = path[:len(path)-1]
		return nil
	}
	for i := range s.params {
		if err := visit(i); err != nil {
			return err
		}
	}
	return nil
}

// never finds a parent from whose values the conditions of a parameter and of
// all its ancestors leave none. Conditions are "and", and values of ancestors
// are free otherwise, so there is a point for the parameter if there is none.
func (s *Space) never(i int) (parent int, never bool) {
	allowed := map[int][]float64{}
	var visit func(i int)
	visit = func(i int) {
		for _, c := range s.when[i] {
			values, seen := allowed[c.param]
			if !seen {
				values = c.values
			}
			allowed[c.param] = slices.DeleteFunc(slices.Clone(values), func(x float64) bool { return !slices.Contains(c.values, x) })
			visit(c.param)
		}
	}
	visit(i)
	for parent := range s.params {
		if values, seen := allowed[parent]; seen && len(values) == 0 {
			return parent, true
		}
	}
	return 0, false
}

// group puts parameters that have the same conditions together.
func (s *Space) group() {
	groups := map[string]int{}
	for _, i := range s.order {
		var key []string
		for _, c := range s.when[i] {
			values := slices.Clone(c.values)
			slices.Sort(values)
			key = append(key, fmt.Sprint(c.param, slices.Compact(values)))
		}
		slices.Sort(key)
		k := strings.Join(slices.Compact(key), ";")
		g, ok := groups[k]
		if !ok {
			g = len(s.groups)
			groups[k] = g
			s.groups = append(s.groups, nil)
		}
		s.groups[g] = append(s.groups[g], i)
	}
}

// Len is the number of parameters.
func (s *Space) Len() int { return len(s.params) }

// Param returns a parameter, with the step of an integer filled in.
func (s *Space) Param(i int) Param { return s.params[i] }

// Index finds a parameter by its name. It is -1 when there is none.
func (s *Space) Index(name string) int {
	if i, ok := s.index[name]; ok {
		return i
	}
	return -1
}

// Groups lists the parameters in groups that exist at the same points. A group
// comes after those that its conditions need. The slices must not be changed.
func (s *Space) Groups() [][]int { return s.groups }

// Order lists the parameters so that those that a condition needs come before. The
// slice must not be changed.
func (s *Space) Order() []int { return s.order }

// Opens reports whether the existence of another parameter depends on this one.
func (s *Space) Opens(i int) bool {
	for _, conditions := range s.when {
		for _, c := range conditions {
			if c.param == i {
				return true
			}
		}
	}
	return false
}

// Exists reports whether a parameter exists at a point of which the parents of
// the parameter are known.
func (s *Space) Exists(p Point, i int) bool {
	for _, c := range s.when[i] {
		if !Active(p[c.param]) || !slices.Contains(c.values, p[c.param]) {
			return false
		}
	}
	return true
}

// Contains reports whether a point lies in the space: bounds, grids, and each
// parameter there exactly where its conditions hold. It tells which
// points of a space remain when its bounds move.
func (s *Space) Contains(p Point) bool {
	if len(p) != len(s.params) {
		return false
	}
	for i, x := range p {
		if s.Exists(p, i) != Active(x) || Active(x) && !s.params[i].contains(x) {
			return false
		}
	}
	return true
}

// Decode gives the values of a point under their names: float64, int, or the
// choice. Parameters that do not exist there are left out.
func (s *Space) Decode(p Point) map[string]any {
	values := map[string]any{}
	for i, x := range p {
		if Active(x) {
			values[s.params[i].Name] = s.params[i].Decode(x)
		}
	}
	return values
}

// Encode makes a point of values under their names. All parameters that exist
// for these values have to be there, and no others. It reports all faults, each
// as an [*Error].
func (s *Space) Encode(values map[string]any) (Point, error) {
	p := make(Point, len(s.params))
	var faults []error
	used := 0
	for _, i := range s.order {
		p[i] = Inactive
		param := s.params[i]
		v, given := values[param.Name]
		exists := s.Exists(p, i)
		if given {
			used++
		}
		switch {
		case given && !exists:
			faults = append(faults, &Error{param.Name, "when", "it has a value, but its condition does not hold"})
		case !given && exists:
			faults = append(faults, &Error{param.Name, "name", "it has no value"})
		case given:
			x, err := param.Encode(v)
			if err != nil {
				faults = append(faults, &Error{param.Name, "value", err.Error()})
				continue
			}
			p[i] = x
		}
	}
	if used < len(values) {
		for name := range values {
			if s.Index(name) < 0 {
				faults = append(faults, &Error{name, "name", "it is not a parameter of the search"})
			}
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return p, nil
}

// Steps is the number of values that a parameter can have, or 0 when there is no
// end of them.
func (p Param) Steps() int {
	switch {
	case p.Kind == Choice:
		return len(p.Choices)
	case p.Step == 0:
		return 0
	}
	return int(math.Round((p.High-p.Low)/p.Step)) + 1
}

// At is the internal number of the i-th value of a parameter that has steps.
func (p Param) At(i int) float64 {
	switch {
	case p.Kind == Choice:
		return float64(i)
	case i == p.Steps()-1:
		return p.High
	}
	return tidy(p.Low + float64(i)*p.Step)
}

// Nearest is the number of the value on the grid that is nearest to x.
func (p Param) Nearest(x float64) int {
	return int(min(max(math.Round((x-p.Low)/p.Step), 0), float64(p.Steps()-1)))
}

// Round brings a number to the nearest one that the parameter can have.
func (p Param) Round(x float64) float64 {
	switch {
	case p.Kind == Choice:
		return min(max(math.Round(x), 0), float64(len(p.Choices)-1))
	case p.Step > 0:
		return p.At(p.Nearest(x))
	}
	return min(max(x, p.Low), p.High)
}

// FromUnit is the number at u in [0, 1) of the parameter's distribution: all
// values of a step or a choice are equally probable, and the logarithm is
// uniform where Log is set. A logarithmic integer covers [Low - ½, High + ½].
func (p Param) FromUnit(u float64) float64 {
	switch {
	case p.Log:
		low, high := p.LogBounds()
		return p.Round(math.Exp(low + u*(high-low)))
	case p.Kind == Choice || p.Step > 0:
		n := p.Steps()
		return p.At(min(int(u*float64(n)), n-1))
	}
	return p.Round(p.Low + u*(p.High-p.Low))
}

// ToUnit is the number in [0, 1] for which FromUnit gives x: the middle of them
// where the parameter has steps.
func (p Param) ToUnit(x float64) float64 {
	switch {
	case p.Log:
		low, high := p.LogBounds()
		return (math.Log(x) - low) / (high - low)
	case p.Kind == Choice:
		return (x + 0.5) / float64(len(p.Choices))
	case p.Step > 0:
		return (float64(p.Nearest(x)) + 0.5) / float64(p.Steps())
	}
	return (x - p.Low) / (p.High - p.Low)
}

// LogBounds are the bounds of the logarithm of a parameter with Log.
func (p Param) LogBounds() (low, high float64) {
	if p.Kind == Int {
		return math.Log(p.Low - 0.5), math.Log(p.High + 0.5)
	}
	return math.Log(p.Low), math.Log(p.High)
}

// contains reports whether a number is one that the parameter can have.
func (p Param) contains(x float64) bool { return p.Round(x) == x }

// Decode gives the value of an internal number: a float64, an int or a choice.
func (p Param) Decode(x float64) any {
	switch p.Kind {
	case Choice:
		return p.Choices[int(x)]
	case Int:
		return int(x)
	}
	return x
}

// Encode gives the internal number of a value.
func (p Param) Encode(v any) (float64, error) {
	if p.Kind == Choice {
		for i, c := range p.Choices {
			if same(v, c) {
				return float64(i), nil
			}
		}
		return 0, fmt.Errorf("%v is none of its choices %v", v, p.Choices)
	}
	x, ok := number(v)
	switch {
	case !ok:
		return 0, fmt.Errorf("%v is no number", v)
	case math.IsNaN(x) || x < p.Low || x > p.High:
		return 0, fmt.Errorf("%v is not between %v and %v", v, p.Low, p.High)
	case p.Kind == Int && x != math.Trunc(x):
		return 0, fmt.Errorf("%v is no integer", v)
	}
	// A file may have 0.30000000000000004 for 0.3.
	if r := p.Round(x); math.Abs(r-x) <= 1e-9*p.Step || p.Step == 0 {
		return r, nil
	}
	return 0, fmt.Errorf("%v is not %v plus a whole number of steps of %v", v, p.Low, p.Step)
}

// same compares values as they come from files: 4 and 4.0 are the same.
func same(a, b any) bool {
	x, ok := number(a)
	y, also := number(b)
	if ok && also {
		return x == y
	}
	return ok == also && reflect.DeepEqual(a, b)
}

func number(v any) (float64, bool) {
	switch r := reflect.ValueOf(v); {
	case r.CanInt():
		return float64(r.Int()), true
	case r.CanUint():
		return float64(r.Uint()), true
	case r.CanFloat():
		return r.Float(), true
	}
	return 0, false
}

// tidy removes what a sum of steps has in its last digits: 3 · 0.1 is 0.3 and
// not 0.30000000000000004.
func tidy(x float64) float64 {
	y, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 14, 64), 64)
	return y
}
