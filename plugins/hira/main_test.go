package main

import (
	"slices"
	"testing"

	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

// Exactly PEFT's HiRA: no scale, dropout on the update only.
func TestProgram(t *testing.T) {
	const want = `param hira_A [2, 7] = normal(a=0.5)
param hira_B [5, 2] = zeros
%0 = param hira_A : [2, 7]
%1 = param hira_B : [5, 2]
%2 = weight : [5, 7]
%3 = matmul %1 %0 : [5, 7]
%4 = mul %2 %3 : [5, 7]
%5 = x : [T, 7]
%6 = base %5 : [T, 5]
%7 = dropout %5 0.25 : [T, 7]
%8 = permute %4 [1, 0] : [7, 5]
%9 = matmul %7 %8 : [T, 5]
%10 = add %6 %9 : [T, 5]
y = %10
`
	if got := sdktest.Build(t, variant, sdktest.Good(t, schema, `rank: 2, dropout: 0.25, init: "gaussian"`), sdktest.Linear(7, 5)).Sites[0].Text(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestSites(t *testing.T) {
	sites := slices.Delete(sdktest.Sites(), 4, 5) // but the stream
	for i, s := range sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 5"), sites...).Sites {
		if want := int64(5 * (sites[i].In + sites[i].Out)); s.TrainableCount != want || !s.Mergeable() {
			t.Errorf("%s: %d trainable, want %d; mergeable %v", sites[i].Name, s.TrainableCount, want, s.Mergeable())
		}
	}
}

func TestProblems(t *testing.T) {
	const want = `rank: 25 is more than the layer's smaller side, 24 (use a rank of at most 24)
: attn_in is a stream and has no weight to scale (target linear layers: query, key, value, output, fc1 or fc2)`
	if got := sdktest.Problems(t, variant, "rank: 25", sdktest.Sites()...); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	sdktest.Mistakes(t, schema, map[string]string{
		`rank: 0`:                 "rank: must be a whole number from 1 to 1024",
		`rank: 8, alpha: 8`:       "alpha: field not allowed",
		`rank: 8, dropout: -0.1`:  "dropout: must be a number from 0 up to, but not including, 1",
		`rank: 8, init: "normal"`: `init: must be "kaiming" or "gaussian"`,
	})
	if got, want := sdktest.Good(t, schema, "rank: 8"), `{"rank":8,"dropout":0,"init":"kaiming"}`; got != want {
		t.Errorf("defaults are %s, want %s", got, want)
	}
}

func TestPEFT(t *testing.T) {
	_, at := sdktest.PEFT(t, variant, sdktest.Good(t, schema, "rank: 3"), sdktest.Linear(7, 5))
	if !slices.Equal(at[0].Shape("hira_A"), []int64{3, 7}) || !slices.Equal(at[0].Shape("hira_B"), []int64{5, 3}) {
		t.Errorf("tensors\n%s", at[0].Text())
	}
	for _, user := range variant.Examples {
		sdktest.PEFTRoundTrip(t, variant, user, sdktest.Linear(7, 5))
	}
	got, problems := sdktest.Adopt(t, variant, `{"peft_type": "HIRA", "init_weights": true}`, sdktest.Linear(70, 50))
	if want := `{"dropout":0,"init":"kaiming","rank":32}`; got != want || len(problems) > 0 {
		t.Errorf("PEFT's defaults are %s, want %s; problems %v", got, want, problems)
	}
	reply, err := sdktest.Reply(variant, sdktest.Good(t, schema, "rank: 3"), sdktest.Sites()[5])
	if err != nil || reply.GetPeft() != nil {
		t.Errorf("of the patch embedding: %v, error %v", reply.GetPeft(), err)
	}
}
