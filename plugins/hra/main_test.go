package main

import (
	"slices"
	"testing"

	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

func TestProgram(t *testing.T) {
	const want = `param hra_u [7, 2] = repeat(kaiming_uniform(a=2.236068), k=2, dim=1)
%0 = param hra_u : [7, 2]
%1 = norm %0 [0] keepdim : [1, 2]
%2 = div %0 %1 : [7, 2]
%3 = const [2, 2] [0, 0, 1, 0] : [2, 2]
%4 = permute %2 [1, 0] : [2, 7]
%5 = matmul %4 %2 : [2, 2]
%6 = mul %3 %5 : [2, 2]
%7 = eye [2] : [2, 2]
%8 = scale %7 0.5 : [2, 2]
%9 = add %8 %6 : [2, 2]
%10 = solve %9 %4 : [2, 7]
%11 = x : [T, 7]
%12 = matmul %11 %2 : [T, 2]
%13 = matmul %12 %10 : [T, 7]
%14 = sub %11 %13 : [T, 7]
%15 = base %14 : [T, 5]
y = %15
`
	if got := sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 2"), sdktest.Linear(7, 5)).Sites[0].Text(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestSites(t *testing.T) {
	for i, s := range sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 6"), sdktest.Sites()...).Sites {
		if want := int64(6 * sdktest.Sites()[i].In); s.TrainableCount != want || !s.Mergeable() {
			t.Errorf("%s: %d trainable, want %d; mergeable %v", sdktest.Sites()[i].Name, s.TrainableCount, want, s.Mergeable())
		}
	}
}

func TestProblems(t *testing.T) {
	for user, want := range map[string]string{
		"rank: 7": "rank: 7 is odd: reflections have to start in pairs to cancel out (use 6 or 8)",
		"rank: 8": "rank: 8 reflections are more than the layer's 7 inputs (use at most 6)",
	} {
		if got := sdktest.Problems(t, variant, user, sdktest.Linear(7, 5)); got != want {
			t.Errorf("%s: got %s\nwant %s", user, got, want)
		}
	}
	sdktest.Mistakes(t, schema, map[string]string{
		`rank: 1`:                  "rank: must be an even number from 2 to 1024",
		`rank: 8, alpha: 8`:        "alpha: field not allowed",
		`{}`:                       "rank: field is required but not present",
		`rank: 8, applyGS: true`:   "applyGS: field not allowed",
		`rank: "8"`:                "rank: must be an even number from 2 to 1024",
		`rank: 2.5`:                "rank: must be an even number from 2 to 1024",
		`rank: 100000`:             "rank: must be an even number from 2 to 1024",
		`rank: 8, dropout: 0.5`:    "dropout: field not allowed",
		`rank: 8, init: "kaiming"`: "init: field not allowed",
	})
}

func TestPEFT(t *testing.T) {
	_, at := sdktest.PEFT(t, variant, sdktest.Good(t, schema, "rank: 4"), sdktest.Linear(7, 5))
	if got := at[0].Shape("hra_u"); !slices.Equal(got, []int64{7, 4}) {
		t.Errorf("hra_u has shape %v", got)
	}
	sdktest.PEFTRoundTrip(t, variant, "rank: 4", sdktest.Linear(7, 5))
	const want = "apply_GS: true is nothing this variant has (the columns are not made orthogonal here)"
	if got := sdktest.AdoptProblems(t, variant, `{"peft_type": "HRA", "apply_GS": true}`, sdktest.Linear(9, 5)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
