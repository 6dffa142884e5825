package main

import (
	"slices"
	"testing"

	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

// Only R is trained; A and B are stored with it, because a singular vector may
// come out with the other sign elsewhere.
func TestProgram(t *testing.T) {
	const want = `param xs_A [3, 7] = svd_right, frozen
param xs_B [5, 3] = svd_left(power=1), frozen
param xs_R [3, 3] = normal(a=1e-05)
%0 = param xs_A : [3, 7]
%1 = param xs_B : [5, 3]
%2 = param xs_R : [3, 3]
%3 = x : [T, 7]
%4 = permute %0 [1, 0] : [7, 3]
%5 = matmul %3 %4 : [T, 3]
%6 = permute %2 [1, 0] : [3, 3]
%7 = matmul %5 %6 : [T, 3]
%8 = permute %1 [1, 0] : [3, 5]
%9 = matmul %7 %8 : [T, 5]
%10 = base %3 : [T, 5]
%11 = scale %9 2 : [T, 5]
%12 = add %10 %11 : [T, 5]
y = %12
`
	got := sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 3, alpha: 6"), sdktest.Linear(7, 5)).Sites[0].Text()
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// The count does not depend on the layer.
func TestParameterCounts(t *testing.T) {
	sites := slices.DeleteFunc(sdktest.Sites(), func(s *protocol.Site) bool { return s.Kind == protocol.Site_STREAM })
	all := sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 5, std: 0"), sites...)
	for i, s := range all.Sites {
		if s.TrainableCount != 25 || !s.Mergeable() {
			t.Errorf("%s: %d trainable parameters, mergeable %v", sites[i].Name, s.TrainableCount, s.Mergeable())
		}
	}
}

func TestProblemsAndMistakes(t *testing.T) {
	for at, want := range map[*protocol.Site]string{
		sdktest.Linear(7, 5): "rank: 6 is more than the layer's smaller side, 5 (use a rank of at most 5)",
		sdktest.Sites()[4]:   ": attn_in is a stream: it has no weight whose directions lora_xs could mix (adapt the layers that read it)",
	} {
		if got := sdktest.Problems(t, variant, "rank: 6", at); got != want {
			t.Error(got)
		}
	}
	sdktest.Mistakes(t, schema, map[string]string{
		`rank: 0`:           "rank: must be a whole number from 1 to 1024",
		`rank: 8, std: -1`:  "std: must be a number from 0 to 1",
		`rank: 8, alpha: 0`: "alpha: must be a number above 0",
	})
}

// For PEFT it is the LoRA with B = B R.
func TestPEFT(t *testing.T) {
	config, at := sdktest.PEFT(t, variant, sdktest.Good(t, schema, "rank: 3, alpha: 6"), sdktest.Linear(7, 5))
	if a, b := at[0].Shape("lora_A.weight"), at[0].Shape("lora_B.weight"); !slices.Equal(a, []int64{3, 7}) || !slices.Equal(b, []int64{5, 3}) {
		t.Errorf("A %v, B %v", a, b)
	}
	if config["r"] != 3.0 || config["lora_alpha"] != 6.0 {
		t.Errorf("settings %v", config)
	}
}
