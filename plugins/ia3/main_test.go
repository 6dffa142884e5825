package main

import (
	"reflect"
	"slices"
	"testing"

	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

// The output is scaled with its bias, the input of feed-forward layers before W.
func TestProgram(t *testing.T) {
	const out = `param ia3_l [60] = ones
%0 = param ia3_l : [60]
%1 = x : [T, 24]
%2 = base %1 : [T, 60]
%3 = mul %2 %0 : [T, 60]
y = %3
`
	const in = `param ia3_l [60] = ones
%0 = param ia3_l : [60]
%1 = x : [T, 60]
%2 = mul %1 %0 : [T, 60]
%3 = base %2 : [T, 24]
y = %3
`
	all := sdktest.Build(t, variant, sdktest.Good(t, schema, ""), sdktest.Sites()...)
	if fc1, fc2 := all.Sites[1].Text(), all.Sites[2].Text(); fc1 != out || fc2 != in {
		t.Errorf("got\n%sand\n%s", fc1, fc2)
	}
	for _, s := range all.Sites {
		if !s.Mergeable() {
			t.Errorf("%s cannot be merged", s.Site.GetName())
		}
	}
}

func TestMistakes(t *testing.T) {
	sdktest.Mistakes(t, schema, map[string]string{
		`feedforward: "fc2"`:    "feedforward: must be a list of layers, from query, key, value, output, fc1, fc2",
		`feedforward: ["mlp"]`:  "feedforward: must be a list of layers, from query, key, value, output, fc1, fc2",
		`feedforwards: ["fc2"]`: "feedforwards: field not allowed",
	})
}

// PEFT wants to know which of the adapted modules are of the feed-forward form.
func TestPEFT(t *testing.T) {
	sites := sdktest.Sites()[:4] // query, fc1, fc2, value
	for user, want := range map[string][]any{
		``:                              {"{fc2}"},
		`feedforward: []`:               {},
		`feedforward: ["fc1", "query"]`: {"{query}", "{fc1}"},
		`feedforward: ["fc1", "key"]`:   {"{fc1}"}, // key is not adapted
	} {
		config, at := sdktest.PEFT(t, variant, sdktest.Good(t, schema, user), sites...)
		if got := config["feedforward_modules"]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: feedforward_modules are %v, want %v", user, got, want)
		}
		of := at[2].Shape("ia3_l")
		shape := []int64{24, 1}
		if slices.Contains(want, "{fc2}") {
			shape = []int64{1, 60}
		}
		if !slices.Equal(of, shape) {
			t.Errorf("%s: l of fc2 is %v, want %v", user, of, shape)
		}
	}
	sdktest.PEFTRoundTrip(t, variant, `feedforward: ["fc1", "fc2"]`, sites...)
	const config = `{"peft_type": "IA3", "feedforward_modules": ["output.dense"]}`
	if got := sdktest.AdoptProblems(t, variant, config, sites...); got != `feedforward_modules: "output.dense" is none of the adapted layers ()` {
		t.Error(got)
	}
}
