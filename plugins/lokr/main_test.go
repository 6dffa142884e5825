package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

// PEFT's lokr.layer.factorization of 0.21.2, evaluated.
func TestSplit(t *testing.T) {
	for _, c := range [][4]int{
		// n, factor, a, b
		{256, -1, 16, 16},
		{128, -1, 8, 16},
		{127, -1, 1, 127},
		{128, 4, 4, 32},
		{384, -1, 16, 24},
		{768, -1, 24, 32},
		{3072, -1, 48, 64},
		{1536, -1, 32, 48},
		{384, 5, 4, 96},
		{60, 4, 4, 15},
		{24, 13, 4, 6},
		{1, -1, 1, 1},
		{2, -1, 1, 2},
		{360, 16, 15, 24},
	} {
		if a, b := split(c[0], c[1]); a != c[2] || b != c[3] {
			t.Errorf("split(%d, %d) is %d·%d, want %d·%d", c[0], c[1], a, b, c[2], c[3])
		}
	}
}

// w2 is the larger matrix and low-rank, w1 zero; x goes through both without
// the Kronecker product.
func TestProgram(t *testing.T) {
	const want = `param lokr_w1 [2, 3] = zeros
param lokr_w2_a [3, 1] = kaiming_uniform(a=2.236068)
param lokr_w2_b [1, 4] = kaiming_uniform(a=2.236068)
%0 = param lokr_w1 : [2, 3]
%1 = param lokr_w2_a : [3, 1]
%2 = param lokr_w2_b : [1, 4]
%3 = matmul %1 %2 : [3, 4]
%4 = x : [T, 12]
%5 = reshape %4 [-1, 3, 4] : [T, 3, 4]
%6 = permute %3 [1, 0] : [4, 3]
%7 = matmul %5 %6 : [T, 3, 3]
%8 = matmul %0 %7 : [T, 2, 3]
%9 = reshape %8 [-1, 6] : [T, 6]
%10 = base %4 : [T, 6]
%11 = scale %9 4 : [T, 6]
%12 = add %10 %11 : [T, 6]
y = %12
`
	if got := sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 1, alpha: 4"), sdktest.Linear(12, 6)).Sites[0].Text(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// Which matrices are in two factors, and which part starts at zero. The shapes
// are PEFT's.
func TestParameters(t *testing.T) {
	for user, want := range map[string]string{
		"rank: 1":                                 "lokr_w1 [4, 6]=zeros lokr_w2_a [6, 1] lokr_w2_b [1, 10]",
		"rank: 5":                                 "lokr_w1 [4, 6]=zeros lokr_w2 [6, 10]",
		"rank: 2, decomposeBoth: true":            "lokr_w1_a [4, 2]=zeros lokr_w1_b [2, 6] lokr_w2_a [6, 2] lokr_w2_b [2, 10]",
		"rank: 3, decomposeBoth: true":            "lokr_w1 [4, 6]=zeros lokr_w2_a [6, 3] lokr_w2_b [3, 10]",
		"rank: 1, factor: 12":                     "lokr_w1 [12, 12]=zeros lokr_w2_a [2, 1] lokr_w2_b [1, 5]",
		`rank: 1, init: "lycoris"`:                "lokr_w1 [4, 6] lokr_w2_a [6, 1] lokr_w2_b [1, 10]=zeros",
		`rank: 64, init: "lycoris"`:               "lokr_w1 [4, 6] lokr_w2 [6, 10]=zeros",
		`rank: 1, factor: 2, init: "lycoris"`:     "lokr_w1 [2, 2] lokr_w2_a [12, 1] lokr_w2_b [1, 30]=zeros",
		`rank: 1, factor: 12, init: "default"`:    "lokr_w1 [12, 12]=zeros lokr_w2_a [2, 1] lokr_w2_b [1, 5]",
		`rank: 1, factor: 7, decomposeBoth: true`: "lokr_w1_a [4, 1]=zeros lokr_w1_b [1, 6] lokr_w2_a [6, 1] lokr_w2_b [1, 10]",
	} {
		var got []string
		for line := range strings.Lines(sdktest.Build(t, variant, sdktest.Good(t, schema, user), sdktest.Linear(60, 24)).Sites[0].Text()) {
			if rest, ok := strings.CutPrefix(line, "param "); ok {
				declared, start, _ := strings.Cut(strings.TrimSpace(rest), " = ")
				if start == "zeros" {
					declared += "=zeros"
				}
				got = append(got, declared)
			}
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", user, got, want)
		}
	}
}

func TestSites(t *testing.T) {
	for i, s := range sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 2"), sdktest.Sites()...).Sites {
		if !s.Mergeable() || s.TrainableCount == 0 {
			t.Errorf("%s: %d trainable, mergeable %v", sdktest.Sites()[i].Name, s.TrainableCount, s.Mergeable())
		}
	}
}

func TestMistakes(t *testing.T) {
	sdktest.Mistakes(t, schema, map[string]string{
		`alpha: 2`:                       "rank: field is required but not present",
		`rank: 8, factor: 0`:             "factor: must be -1 or a whole number from 1 to 4096",
		`rank: 8, decomposeBoth: "yes"`:  "decomposeBoth: must be true or false",
		`rank: 8, init: "zero"`:          `init: must be "default" or "lycoris"`,
		`rank: 8, decompose_both: false`: "decompose_both: field not allowed",
	})
	if got, want := sdktest.Good(t, schema, "rank: 8"), `{"rank":8,"alpha":8,"factor":-1,"decomposeBoth":false,"init":"default"}`; got != want {
		t.Errorf("defaults are %s, want %s", got, want)
	}
}

func TestPEFT(t *testing.T) {
	_, at := sdktest.PEFT(t, variant, sdktest.Good(t, schema, "rank: 1"), sdktest.Linear(60, 24))
	if got := at[0].Shape("lokr_w2_b"); !slices.Equal(got, []int64{1, 10}) {
		t.Errorf("lokr_w2_b has shape %v", got)
	}
	for _, user := range variant.Examples {
		sdktest.PEFTRoundTrip(t, variant, user, sdktest.Linear(60, 24))
	}
	reply, err := sdktest.Reply(variant, sdktest.Good(t, schema, "rank: 1"), sdktest.Sites()[5])
	if err != nil || reply.GetPeft() != nil {
		t.Errorf("of the patch embedding: %v, error %v; PEFT splits the channels, not the pixels", reply.GetPeft(), err)
	}
	const want = `rank_pattern: {"a":4} is nothing this variant has (all layers have one rank)
module_dropout: 0.5 is nothing this variant has ()`
	config := `{"peft_type": "LOKR", "module_dropout": 0.5, "rank_pattern": {"a": 4}, "init_weights": false}`
	if got := sdktest.AdoptProblems(t, variant, config, sdktest.Linear(60, 24)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
