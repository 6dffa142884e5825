package main

import (
	"strings"
	"testing"

	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

// LoRA, but for A.
func TestProgram(t *testing.T) {
	const want = `param lora_A [3, 7] = kaiming_uniform(a=2.236068), frozen
param lora_B [5, 3] = zeros
%0 = param lora_A : [3, 7]
%1 = param lora_B : [5, 3]
%2 = x : [T, 7]
%3 = permute %0 [1, 0] : [7, 3]
%4 = matmul %2 %3 : [T, 3]
%5 = permute %1 [1, 0] : [3, 5]
%6 = matmul %4 %5 : [T, 5]
%7 = base %2 : [T, 5]
%8 = scale %6 2 : [T, 5]
%9 = add %7 %8 : [T, 5]
y = %9
`
	got := sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 3, alpha: 6"), sdktest.Linear(7, 5)).Sites[0]
	if got.Text() != want || got.TrainableCount != 3*5 {
		t.Errorf("%d trainable parameters, got\n%swant\n%s", got.TrainableCount, got.Text(), want)
	}
}

func TestProblemsAndMistakes(t *testing.T) {
	if got := sdktest.Problems(t, variant, "rank: 6", sdktest.Linear(7, 5)); got != "rank: 6 is more than the layer's smaller side, 5 (use a rank of at most 5)" {
		t.Error(got)
	}
	sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 3, dropout: 0.25"), sdktest.Sites()...) // streams too
	sdktest.Mistakes(t, schema, map[string]string{
		`rank: 0.5`:           "rank: must be a whole number from 1 to 1024",
		`rank: 8, alpha: "8"`: "alpha: must be a number above 0",
		`rank: 8, dropout: 1`: "dropout: must be a number from 0 up to, but not including, 1",
	})
}

func TestPEFT(t *testing.T) {
	sdktest.PEFTRoundTrip(t, variant, "rank: 3, alpha: 6, dropout: 0.25", sdktest.Linear(7, 5))
	p, problems := sdktest.Adopt(t, variant, `{"peft_type": "LORA", "use_rslora": true, "r": 4, "lora_alpha": 3}`, sdktest.Linear(7, 5))
	if len(problems) > 0 || !strings.Contains(p, `"alpha":6`) {
		t.Errorf("rsLoRA of scale 3/√4 is read as %s, %v", p, problems)
	}
}
