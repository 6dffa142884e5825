package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

// The parameters have PEFT's shapes; slice j of A_i leads to part j of the
// output and slice i of B_j takes what comes from part i of the input.
func TestProgram(t *testing.T) {
	const want = `param gralora_A [2, 4, 6] = kaiming_uniform(a=2.236068, fan=4)
param gralora_B [2, 6, 5] = zeros
%0 = param gralora_A : [2, 4, 6]
%1 = param gralora_B : [2, 6, 5]
%2 = reshape %0 [2, 4, 2, 3] : [2, 4, 2, 3]
%3 = permute %2 [0, 2, 3, 1] : [2, 2, 3, 4]
%4 = reshape %1 [2, 2, 3, 5] : [2, 2, 3, 5]
%5 = permute %4 [1, 0, 3, 2] : [2, 2, 5, 3]
%6 = x : [T, 8]
%7 = reshape %6 [-1, 2, 4] : [T, 2, 4]
%8 = einsum %7 %3 "tin,ijrn->tijr" : [T, 2, 2, 3]
%9 = einsum %8 %5 "tijr,ijor->tjo" : [T, 2, 5]
%10 = reshape %9 [-1, 10] : [T, 10]
%11 = base %6 : [T, 10]
%12 = scale %10 2 : [T, 10]
%13 = add %11 %12 : [T, 10]
y = %13
`
	if got := sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 6, alpha: 12"), sdktest.Linear(8, 10)).Sites[0].Text(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// The hybrid is a LoRA beside the blocks, scaled with them.
func TestHybrid(t *testing.T) {
	got := sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 4, hybridRank: 2, alpha: 3, dropout: 0.25"), sdktest.Linear(8, 10)).Sites[0]
	if want := int64((4 + 2) * (8 + 10)); got.TrainableCount != want {
		t.Errorf("%d trainable parameters, want %d", got.TrainableCount, want)
	}
	text := got.Text()
	if !strings.Contains(text, "gralora_A_general [2, 8] = kaiming_uniform(a=2.236068)\n") || strings.Count(text, "dropout") != 2 || !strings.Contains(text, " 0.5 : [T, 10]") {
		t.Errorf("got\n%s", text)
	}
}

func TestProblemsAndMistakes(t *testing.T) {
	for user, want := range map[string]string{
		"rank: 7, k: 7":             "k: 7 does not divide the layer's 24 inputs (use 4, 6 or 12)",
		"rank: 6, k: 4":             "rank: 6 is not a multiple of k, 4 (use 8)",
		"rank: 26":                  "rank: 26 is more than the layer's smaller side, 24 (use a rank of at most 24)",
		"rank: 4, hybridRank: 25":   "hybridRank: 25 is more than the layer's smaller side, 24 (use a rank of at most 24)",
		"rank: 5, hybridRank: 25":   "rank: 5 is not a multiple of k, 2 (use 6)\nhybridRank: 25 is more than the layer's smaller side, 24 (use a rank of at most 24)",
		"rank: 12, k: 12, alpha: 1": "",
	} {
		if got := sdktest.Problems(t, variant, user, sdktest.Linear(24, 60)); got != want {
			t.Errorf("%s: %s", user, got)
		}
	}
	sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 8, k: 4, hybridRank: 3"), sdktest.Sites()...) // streams too
	sdktest.Mistakes(t, schema, map[string]string{
		`rank: 0`:                 "rank: must be a whole number from 1 to 1024",
		`rank: 8, k: 0`:           "k: must be a whole number from 1 to 256",
		`rank: 8, hybridRank: -1`: "hybridRank: must be a whole number from 0 to 1024",
		`rank: 8, hybrid_r: 1`:    "hybrid_r: field not allowed",
	})
	if got := sdktest.Good(t, schema, "rank: 8, hybridRank: 4"); !strings.Contains(got, `"alpha":12`) {
		t.Errorf("defaults are %s", got)
	}
}

func TestPEFT(t *testing.T) {
	_, at := sdktest.PEFT(t, variant, sdktest.Good(t, schema, "rank: 4, hybridRank: 3"), sdktest.Linear(8, 10))
	for key, want := range map[string][]int64{
		"gralora_A": {2, 4, 4}, "gralora_B": {2, 4, 5}, "gralora_A_general.weight": {3, 8}, "gralora_B_general.weight": {10, 3},
	} {
		if got := at[0].Shape(key); !slices.Equal(got, want) {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	sdktest.PEFTRoundTrip(t, variant, "rank: 4, k: 4, hybridRank: 3, alpha: 5, dropout: 0.25", sdktest.Linear(8, 12))
	if got := sdktest.AdoptProblems(t, variant, `{"peft_type": "GRALORA", "bias": "all"}`, sdktest.Linear(8, 12)); !strings.HasPrefix(got, `bias: "all"`) {
		t.Error(got)
	}
}
