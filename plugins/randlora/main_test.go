package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

// Exactly PEFT's RandLoRA: the scaled basis A has the layer's smaller side,
// here in; n = ⌈7/3⌉ bases.
func TestProgram(t *testing.T) {
	const want = `param randlora_A [3, 1, 8] = seeded(max_shape=[3, 1, 8], uniform(a=1.732051)), frozen, derived, shared by the model
param randlora_B [9, 3, 3] = seeded(max_shape=[9, 3, 3], uniform(a=1.732051)), frozen, derived, shared by the model
param randlora_lambda [3, 3] = zeros
param randlora_gamma [3, 7] = constant(a=0.1428571)
%0 = param randlora_A : [3, 1, 8]
%1 = param randlora_B : [9, 3, 3]
%2 = param randlora_lambda : [3, 3]
%3 = param randlora_gamma : [3, 7]
%4 = reshape %2 [3, 3, 1] : [3, 3, 1]
%5 = slice %0 [2, 0, 7] : [3, 1, 7]
%6 = mul %4 %5 : [3, 3, 7]
%7 = mul %6 %3 : [3, 3, 7]
%8 = slice %1 [0, 0, 8] : [8, 3, 3]
%9 = reshape %8 [8, 9] : [8, 9]
%10 = reshape %7 [9, 7] : [9, 7]
%11 = matmul %9 %10 : [8, 7]
%12 = permute %11 [1, 0] : [7, 8]
%13 = scale %12 20 : [7, 8]
%14 = x : [T, 7]
%15 = base %14 : [T, 8]
%16 = matmul %14 %13 : [T, 8]
%17 = add %15 %16 : [T, 8]
y = %17
`
	all := sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 3"), sdktest.Linear(7, 8), sdktest.Linear(9, 5))
	if got := all.Sites[0].Text(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	// In the other layer out is the smaller side: the update comes out [in, out].
	if got := all.Sites[1].Text(); !strings.Contains(got, ": [9, 5]\n%13 = x") {
		t.Errorf("got\n%s", got)
	}
}

func TestSites(t *testing.T) {
	for i, s := range sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 5"), sdktest.Sites()...).Sites {
		site := sdktest.Sites()[i]
		short := int64(min(site.In, site.Out))
		n := (short + 4) / 5
		if want := n * (5 + short); s.TrainableCount != want || !s.Mergeable() {
			t.Errorf("%s: %d trainable, want %d; mergeable %v", site.Name, s.TrainableCount, want, s.Mergeable())
		}
	}
}

func TestProblems(t *testing.T) {
	const want = "rank: 6 is more than the layer's smaller side, 5 (use a rank of at most 5; more parameters need a smaller rank)"
	if got := sdktest.Problems(t, variant, "rank: 6", sdktest.Linear(7, 6), sdktest.Linear(7, 5)); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	sdktest.Mistakes(t, schema, map[string]string{
		`alpha: 2`:              "rank: field is required but not present",
		`rank: 8, alpha: -1`:    "alpha: must be a number above 0",
		`rank: 8, key: 0.5`:     "key: must be a whole number from 0 to 4294967295",
		`rank: 8, dropout: "1"`: "dropout: must be a number from 0 up to, but not including, 1",
		`rank: 8, sparse: true`: "sparse: field not allowed",
	})
	if got, want := sdktest.Good(t, schema, "rank: 8"), `{"rank":8,"alpha":160,"dropout":0,"key":0}`; got != want {
		t.Errorf("defaults are %s, want %s", got, want)
	}
}

// The bases are stored, for the model and at every layer, as PEFT does.
func TestPEFT(t *testing.T) {
	config, at := sdktest.PEFT(t, variant, sdktest.Good(t, schema, "rank: 3"), sdktest.Linear(7, 8), sdktest.Linear(9, 5))
	if config["save_projection"] != true || !slices.Equal(at[1].Shape("randlora_B"), []int64{9, 3, 3}) || !slices.Equal(at[1].Shape("randlora_gamma"), []int64{2, 5}) {
		t.Errorf("settings %v, tensors\n%s", config, at[1].Text())
	}
	if text := at[0].Text(); !strings.Contains(text, "randlora_A = %0, one for the model\n") || !strings.Contains(text, "randlora_A = %0\n") {
		t.Errorf("randlora_A is not stored for the model and for the layer:\n%s", text)
	}
	for _, user := range variant.Examples {
		sdktest.PEFTRoundTrip(t, variant, user, sdktest.Linear(9, 8))
	}
	got, problems := sdktest.Adopt(t, variant, `{"peft_type": "RANDLORA", "sparse": true}`, sdktest.Linear(70, 50))
	if want := `{"alpha":640,"dropout":0,"key":0,"rank":32}`; got != want || len(problems) > 0 {
		t.Errorf("PEFT's defaults are %s, want %s; problems %v", got, want, problems)
	}
	const want = "save_projection: false: the file is without the bases, which only PEFT draws alike (save the adapter again with save_projection=True)"
	if got := sdktest.AdoptProblems(t, variant, `{"peft_type": "RANDLORA", "save_projection": false}`, sdktest.Linear(70, 50)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	reply, err := sdktest.Reply(variant, sdktest.Good(t, schema, "rank: 3"), sdktest.Sites()[5])
	if err != nil || reply.GetPeft() != nil {
		t.Errorf("of the patch embedding: %v, error %v", reply.GetPeft(), err)
	}
}
