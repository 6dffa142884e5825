package space_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/runner/search/space"
)

// nested has a choice that opens an integer, which opens a float.
func nested(t testing.TB) *space.Space {
	t.Helper()
	s, err := space.New(
		space.Param{Name: "scale", Kind: space.Float, Low: 0, High: 0.5, Step: 0.1, When: []space.Condition{{Param: "rank", Values: []any{2, 8}}}},
		space.Param{Name: "variant", Kind: space.Choice, Choices: []any{"lora", "block", true}},
		space.Param{Name: "rank", Kind: space.Int, Low: 2, High: 8, Step: 2, When: []space.Condition{{Param: "variant", Values: []any{"lora", true}}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSizeIsTheNumberOfPoints(t *testing.T) {
	s := nested(t)
	seen := map[string]bool{}
	for p := range s.Points() {
		if !s.Contains(p) {
			t.Errorf("%v is not in the space", p)
		}
		seen[fmt.Sprint(p)] = true
	}
	// block; lora and true with ranks 4, 6 and with 2, 8 times six scales.
	if want := 1 + 2*(2+2*6); len(seen) != want || s.Size() != float64(want) {
		t.Errorf("%d different points, size %v, want %d", len(seen), s.Size(), want)
	}
	if s, err := space.New(space.Param{Name: "x", High: 1}); err != nil || !math.IsInf(s.Size(), 1) || s.Endless() != 0 {
		t.Error("a float without a step has no end", err)
	}
}

func TestPointsAreDecodedAndEncoded(t *testing.T) {
	s := nested(t)
	for p := range s.Points() {
		values := s.Decode(p)
		q, err := s.Encode(values)
		if err != nil || !q.Equal(p) {
			t.Errorf("%v → %v → %v, %v", p, values, q, err)
		}
		text, err := json.Marshal(p)
		var back space.Point
		if err != nil || json.Unmarshal(text, &back) != nil || !back.Equal(p) {
			t.Errorf("%v is written as %s and read as %v", p, text, back)
		}
	}
	p, err := s.Encode(map[string]any{"variant": "lora", "rank": 8.0, "scale": 0.1 + 0.2})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Decode(p); !maps.Equal(got, map[string]any{"variant": "lora", "rank": 8, "scale": 0.3}) {
		t.Error(got)
	}
}

func TestConditionsDecideWhatExists(t *testing.T) {
	s := nested(t)
	r := rng.New(1, "conditions")
	for range 10_000 {
		p := s.Draw(r.Float64)
		values := s.Decode(p)
		_, rank := values["rank"]
		_, scale := values["scale"]
		if rank != (values["variant"] != "block") || scale != (values["rank"] == 2 || values["rank"] == 8) || !s.Contains(p) {
			t.Fatal(values)
		}
	}
	if got := fmt.Sprint(s.Groups()); got != "[[1] [2] [0]]" {
		t.Error("groups are", got)
	}
}

// chi is the statistic of a uniform distribution over the counts, in standard
// deviations above its mean. 3.5 is about p = 0.001 for few cells, too.
func chi(counts []int) float64 {
	n := 0
	for _, c := range counts {
		n += c
	}
	want, sum := float64(n)/float64(len(counts)), 0.0
	for _, c := range counts {
		sum += (float64(c) - want) * (float64(c) - want) / want
	}
	df := float64(len(counts) - 1)
	return (sum - df) / math.Sqrt(2*df)
}

func TestRandomDrawsAreUniform(t *testing.T) {
	// bin is the cell of a number among n that are equally probable.
	for name, c := range map[string]struct {
		p   space.Param
		n   int
		bin func(p space.Param, x float64) int
	}{
		"int":    {space.Param{Kind: space.Int, Low: 0, High: 4}, 5, space.Param.Nearest},
		"step":   {space.Param{Kind: space.Int, Low: 0, High: 64, Step: 16}, 5, space.Param.Nearest},
		"float":  {space.Param{Low: -1, High: 0.5, Step: 0.1}, 16, space.Param.Nearest},
		"choice": {space.Param{Kind: space.Choice, Choices: []any{"a", "b", 3}}, 3, func(_ space.Param, x float64) int { return int(x) }},
		"log": {space.Param{Low: 1e-5, High: 1e-1, Log: true}, 8, func(_ space.Param, x float64) int {
			return int((math.Log10(x) + 5) / 4 * 8)
		}},
		"linear": {space.Param{Low: -3, High: 5}, 8, func(_ space.Param, x float64) int { return int(x + 3) }},
	} {
		c.p.Name = name
		s, err := space.New(c.p)
		if err != nil {
			t.Fatal(err)
		}
		r := rng.New(2, name)
		counts := make([]int, c.n)
		for range 10_000 {
			counts[min(c.bin(s.Param(0), s.Draw(r.Float64)[0]), c.n-1)]++
		}
		if slices.Contains(counts, 0) || chi(counts) > 3.5 {
			t.Errorf("%s: %v, χ² is %.1f deviations above its mean", name, counts, chi(counts))
		}
	}
}

func TestUnitsAreExact(t *testing.T) {
	for _, p := range []space.Param{
		{Low: -3, High: 5},
		{Low: 1e-5, High: 0.1, Log: true},
		{Low: 0, High: 0.5, Step: 0.1},
		{Kind: space.Int, Low: 1, High: 64, Log: true},
		{Kind: space.Int, Low: 2, High: 12, Step: 2},
		{Kind: space.Choice, Choices: []any{"a", "b", "c"}},
	} {
		p.Name = "x"
		s, err := space.New(p)
		if err != nil {
			t.Fatal(err)
		}
		for u := range 100 {
			x := s.Param(0).FromUnit(float64(u) / 100)
			if y := s.Param(0).FromUnit(s.Param(0).ToUnit(x)); math.Abs(x-y) > 1e-14 || p.Step > 0 && x != y {
				t.Errorf("%v: %v becomes %v", p, x, y)
			}
		}
	}
}

func TestLogarithmicIntegersReachBothEnds(t *testing.T) {
	s, err := space.New(space.Param{Name: "rank", Kind: space.Int, Low: 1, High: 4, Log: true})
	if err != nil {
		t.Fatal(err)
	}
	r := rng.New(3, "rank")
	counts := map[float64]float64{}
	for range 10_000 {
		counts[s.Draw(r.Float64)[0]]++
	}
	for x := 1.0; x <= 4; x++ {
		want := 10_000 * math.Log((x+0.5)/(x-0.5)) / math.Log(4.5/0.5)
		if got := counts[x]; math.Abs(got-want) > 4*math.Sqrt(want) {
			t.Errorf("%v was drawn %v times, want about %.0f", x, got, want)
		}
	}
}

func TestFaultsOfSpaces(t *testing.T) {
	when := func(param string, values ...any) []space.Condition {
		return []space.Condition{{Param: param, Values: values}}
	}
	for want, params := range map[string][]space.Param{
		`parameter "x": the name is used twice`:                       {{Name: "x", High: 1}, {Name: "x", High: 1}},
		`parameter "": the name is empty`:                             {{High: 1}},
		`two choices or more, and it has 1`:                           {{Name: "x", Kind: space.Choice, Choices: []any{1}}},
		`4 is listed twice`:                                           {{Name: "x", Kind: space.Choice, Choices: []any{4, 4.0}}},
		`high has to be above low, and 1 is not above 2`:              {{Name: "x", Low: 2, High: 1}},
		`low is not finite`:                                           {{Name: "x", Low: math.Inf(-1), High: 1}},
		`high is not finite`:                                          {{Name: "x", High: math.NaN()}},
		`high of an integer has to be an integer, and is 2.5`:         {{Name: "x", Kind: space.Int, High: 2.5}},
		`low has to be above 0 on a logarithmic scale, and is 0`:      {{Name: "x", High: 1, Log: true}},
		`a logarithmic scale has no step`:                             {{Name: "x", Low: 1, High: 2, Step: 0.5, Log: true}},
		`the step has to be above 0, and is -1`:                       {{Name: "x", High: 2, Step: -1}},
		`a step of 3 leaves one value between 0 and 2`:                {{Name: "x", High: 2, Step: 3}},
		`steps of 0.2 from 0 do not reach 0.5: the last value is 0.4`: {{Name: "x", High: 0.5, Step: 0.2}},
		`depends on "y", which is not a parameter`:                    {{Name: "x", High: 1, When: when("y", 1)}},
		`depends on "y", which has no list of values`:                 {{Name: "x", High: 1, When: when("y", 1)}, {Name: "y", High: 1}},
		`depends on a value that "y" never has: 7 is not between`:     {{Name: "x", High: 1, When: when("y", 7)}, {Name: "y", Kind: space.Int, High: 3}},
		`depends on "y", but on none of its values`:                   {{Name: "x", High: 1, When: when("y")}, {Name: "y", Kind: space.Int, High: 3}},
		`depends on itself: a → b → a`: {
			{Name: "a", Kind: space.Int, High: 1, When: when("b", 1)}, {Name: "b", Kind: space.Int, High: 1, When: when("a", 1)},
		},
		`never hold together: they need different values of "a"`: {
			{Name: "a", Kind: space.Int, High: 3},
			{Name: "b", Kind: space.Int, High: 3, When: when("a", 1, 2)},
			{Name: "c", High: 1, When: []space.Condition{{Param: "a", Values: []any{3}}, {Param: "b", Values: []any{0}}}},
		},
	} {
		_, err := space.New(params...)
		var fault *space.Error
		if err == nil || !errors.As(err, &fault) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestFaultsOfValues(t *testing.T) {
	s := nested(t)
	for want, values := range map[string]map[string]any{
		`parameter "rank": it has no value`:                     {"variant": "lora"},
		`"rank": it has a value, but its condition does not`:    {"variant": "block", "rank": 2},
		`"variant": c is none of its choices [lora block true]`: {"variant": "c"},
		`"rank": 9 is not between 2 and 8`:                      {"variant": "lora", "rank": 9},
		`"rank": 3 is not 2 plus a whole number of steps of 2`:  {"variant": "lora", "rank": 3},
		`"rank": 2.5 is no integer`:                             {"variant": "lora", "rank": 2.5},
		`"rank": x is no number`:                                {"variant": "lora", "rank": "x"},
		`"y": it is not a parameter of the search`:              {"variant": "block", "y": 1},
	} {
		if _, err := s.Encode(values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
