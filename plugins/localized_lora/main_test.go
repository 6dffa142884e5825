package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

// K² pairs: the first index of A and B is the part of the input, the second
// that of the output. The bound of A follows the width of a part.
func TestProgram(t *testing.T) {
	const want = `param localized_A [2, 2, 3, 4] = kaiming_uniform(a=2.236068)
param localized_B [2, 2, 5, 3] = zeros
%0 = param localized_A : [2, 2, 3, 4]
%1 = param localized_B : [2, 2, 5, 3]
%2 = x : [T, 8]
%3 = reshape %2 [-1, 2, 4] : [T, 2, 4]
%4 = einsum %3 %0 "tin,ijrn->tijr" : [T, 2, 2, 3]
%5 = einsum %4 %1 "tijr,ijor->tjo" : [T, 2, 5]
%6 = reshape %5 [-1, 10] : [T, 10]
%7 = base %2 : [T, 10]
%8 = scale %6 2 : [T, 10]
%9 = add %7 %8 : [T, 10]
y = %9
`
	if got := sdktest.Build(t, variant, sdktest.Good(t, schema, "k: 2, rank: 3, alpha: 6"), sdktest.Linear(8, 10)).Sites[0].Text(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// ViT-B/16, query and value of all blocks: the counts of the original.
func TestParameterCounts(t *testing.T) {
	var vit []*protocol.Site
	for range 24 {
		vit = append(vit, sdktest.Linear(768, 768))
	}
	for user, want := range map[string]int64{
		"k: 8, rank: 16": 4_718_592,
		"k: 2, rank: 2":  147_456, // LoRA of rank 4
		"k: 1, rank: 4":  147_456,
	} {
		if got := sdktest.Build(t, variant, sdktest.Good(t, schema, user), vit...).Trainable; got != want {
			t.Errorf("%s: %d trainable parameters, want %d", user, got, want)
		}
	}
}

func TestProblemsAndMistakes(t *testing.T) {
	for user, want := range map[string]string{
		"k: 7, rank: 1":  "k: 7 does not divide the layer's 24 inputs (use 4, 6 or 12)",
		"k: 8, rank: 1":  "k: 8 does not divide the layer's 60 outputs (use 4, 6 or 12)",
		"k: 6, rank: 5":  "rank: 5 is more than the smaller side of a block, 4 (use a rank of at most 4, or a smaller k)",
		"k: 12, rank: 2": "",
	} {
		if got := sdktest.Problems(t, variant, user, sdktest.Linear(24, 60)); got != want {
			t.Errorf("%s: %s", user, got)
		}
	}
	sdktest.Build(t, variant, sdktest.Good(t, schema, "k: 4, rank: 3"), sdktest.Sites()...) // streams too
	sdktest.Mistakes(t, schema, map[string]string{
		`k: 0, rank: 1`:           "k: must be a whole number from 1 to 256",
		`k: 2`:                    "rank: field is required but not present",
		`rank: 2`:                 "k: field is required but not present",
		`k: 2, rank: 1, alpha: 0`: "alpha: must be a number above 0",
	})
	if got := sdktest.Good(t, schema, "k: 2, rank: 8"); !strings.Contains(got, `"alpha":8`) {
		t.Errorf("defaults are %s", got)
	}
}

// For PEFT it is the GraLoRA of rank K·r.
func TestPEFT(t *testing.T) {
	config, at := sdktest.PEFT(t, variant, sdktest.Good(t, schema, "k: 2, rank: 3, alpha: 5"), sdktest.Linear(8, 10))
	if a, b := at[0].Shape("gralora_A"), at[0].Shape("gralora_B"); !slices.Equal(a, []int64{2, 4, 6}) || !slices.Equal(b, []int64{2, 6, 5}) {
		t.Errorf("A %v, B %v", a, b)
	}
	if config["r"] != 6.0 || config["alpha"] != 10.0 || config["gralora_k"] != 2.0 || config["hybrid_r"] != 0.0 {
		t.Errorf("settings %v", config)
	}
	sdktest.PEFTRoundTrip(t, variant, "k: 2, rank: 3, alpha: 5", sdktest.Linear(8, 10))
	const hybrid = `{"peft_type": "GRALORA", "r": 5, "gralora_k": 2, "hybrid_r": 4, "gralora_dropout": 0.5}`
	const want = `r: 5 is not a multiple of gralora_k, 2 ()
gralora_dropout: 0.5 is nothing this variant has (use the variant "gralora")
hybrid_r: 4 is nothing this variant has (use the variant "gralora")`
	if got := sdktest.AdoptProblems(t, variant, hybrid, sdktest.Linear(8, 10)); got != want {
		t.Error(got)
	}
}
