package main

import (
	"slices"
	"testing"

	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

// Exactly PEFT's LoHa: three factors Kaiming, w2_b zero, the update scaled by
// alpha/rank.
func TestProgram(t *testing.T) {
	const want = `param hada_w1_a [5, 3] = kaiming_uniform(a=2.236068)
param hada_w1_b [3, 7] = kaiming_uniform(a=2.236068)
param hada_w2_a [5, 3] = kaiming_uniform(a=2.236068)
param hada_w2_b [3, 7] = zeros
%0 = param hada_w1_a : [5, 3]
%1 = param hada_w1_b : [3, 7]
%2 = param hada_w2_a : [5, 3]
%3 = param hada_w2_b : [3, 7]
%4 = matmul %0 %1 : [5, 7]
%5 = matmul %2 %3 : [5, 7]
%6 = mul %4 %5 : [5, 7]
%7 = scale %6 2 : [5, 7]
%8 = x : [T, 7]
%9 = base %8 : [T, 5]
%10 = permute %7 [1, 0] : [7, 5]
%11 = matmul %8 %10 : [T, 5]
%12 = add %9 %11 : [T, 5]
y = %12
`
	if got := sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 3, alpha: 6"), sdktest.Linear(7, 5)).Sites[0].Text(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestSites(t *testing.T) {
	all := sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 5"), sdktest.Sites()...)
	for i, s := range all.Sites {
		site := sdktest.Sites()[i]
		if want := int64(2 * 5 * (site.In + site.Out)); s.TrainableCount != want || !s.Mergeable() {
			t.Errorf("%s: %d trainable, want %d; mergeable %v", site.Name, s.TrainableCount, want, s.Mergeable())
		}
	}
}

func TestProblems(t *testing.T) {
	const want = "rank: 6 is more than the layer's smaller side, 5 (use a rank of at most 5)"
	if got := sdktest.Problems(t, variant, "rank: 6", sdktest.Linear(7, 6), sdktest.Linear(7, 5)); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	sdktest.Mistakes(t, schema, map[string]string{
		`rank: 0`:           "rank: must be a whole number from 1 to 1024",
		`alpha: 2`:          "rank: field is required but not present",
		`rank: 8, alpha: 0`: "alpha: must be a number above 0",
		`rank: 8, drop: 0`:  "drop: field not allowed",
	})
	if got, want := sdktest.Good(t, schema, "rank: 8"), `{"rank":8,"alpha":8}`; got != want {
		t.Errorf("defaults are %s, want %s", got, want)
	}
}

func TestPEFT(t *testing.T) {
	_, at := sdktest.PEFT(t, variant, sdktest.Good(t, schema, "rank: 3"), sdktest.Linear(7, 5))
	if got := at[0].Shape("hada_w2_a"); !slices.Equal(got, []int64{5, 3}) {
		t.Errorf("hada_w2_a has shape %v", got)
	}
	sdktest.PEFTRoundTrip(t, variant, "rank: 3, alpha: 1.5", sdktest.Linear(7, 5))

	got, problems := sdktest.Adopt(t, variant, `{"peft_type": "LOHA"}`, sdktest.Linear(7, 5))
	if want := `{"alpha":8,"rank":8}`; got != want || len(problems) > 0 {
		t.Errorf("PEFT's defaults are %s, want %s; problems %v", got, want, problems)
	}
	config := `{"peft_type": "LOHA", "use_effective_conv2d": true, "rank_dropout": 0.1, "rank_pattern": {"a": 4}}`
	patch := &protocol.Site{Name: "patch", Kind: protocol.Site_PATCH, In: 48, Out: 24}
	const want = `rank_pattern: {"a":4} is nothing this variant has (all layers have one rank)
rank_dropout: 0.1 is nothing this variant has ()
use_effective_conv2d: true is nothing this variant has ()`
	if got := sdktest.AdoptProblems(t, variant, config, patch); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
