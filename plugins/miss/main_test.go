package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

// Exactly PEFT's MiSS; the last shard is short where the rank does not divide
// the inputs.
func TestProgram(t *testing.T) {
	for user, want := range map[string]string{
		"rank: 3": `param miss_block [3, 6] = zeros
%0 = x : [T, 12]
%1 = base %0 : [T, 6]
%2 = param miss_block : [3, 6]
%3 = reshape %0 [-1, 4, 3] : [T, 4, 3]
%4 = sum %3 [1] : [T, 3]
%5 = matmul %4 %2 : [T, 6]
%6 = add %1 %5 : [T, 6]
y = %6
`,
		`rank: 5, mode: "mini", miniRank: 2, dropout: 0.25`: `param miss_block [5, 2] = zeros
%0 = x : [T, 12]
%1 = base %0 : [T, 6]
%2 = param miss_block : [5, 2]
%3 = dropout %0 0.25 : [T, 12]
%4 = slice %3 [1, 0, 10] : [T, 10]
%5 = reshape %4 [-1, 2, 5] : [T, 2, 5]
%6 = sum %5 [1] : [T, 5]
%7 = matmul %6 %2 : [T, 2]
%8 = slice %3 [1, 10, 2] : [T, 2]
%9 = slice %2 [0, 0, 2] : [2, 2]
%10 = matmul %8 %9 : [T, 2]
%11 = add %7 %10 : [T, 2]
%12 = repeat %11 [1, 3] : [T, 6]
%13 = add %1 %12 : [T, 6]
y = %13
`,
		`rank: 3, mode: "bat"`: `param miss_block [2, 3, 3] = zeros
%0 = x : [T, 12]
%1 = base %0 : [T, 6]
%2 = param miss_block : [2, 3, 3]
%3 = weight : [6, 12]
%4 = reshape %3 [2, 3, 4, 3] : [2, 3, 4, 3]
%5 = permute %4 [2, 0, 1, 3] : [4, 2, 3, 3]
%6 = matmul %5 %2 : [4, 2, 3, 3]
%7 = add %6 %2 : [4, 2, 3, 3]
%8 = permute %7 [1, 2, 0, 3] : [2, 3, 4, 3]
%9 = reshape %8 [6, 12] : [6, 12]
%10 = permute %9 [1, 0] : [12, 6]
%11 = matmul %0 %10 : [T, 6]
%12 = add %1 %11 : [T, 6]
y = %12
`,
	} {
		if got := sdktest.Build(t, variant, sdktest.Good(t, schema, user), sdktest.Linear(12, 6)).Sites[0].Text(); got != want {
			t.Errorf("%s: got\n%swant\n%s", user, got, want)
		}
	}
}

func TestSites(t *testing.T) {
	for user, count := range map[string]func(in, out int64) int64{
		"rank: 5":                            func(_, out int64) int64 { return 5 * out },
		`rank: 5, mode: "mini", miniRank: 3`: func(_, _ int64) int64 { return 15 },
		`rank: 6, mode: "bat"`:               func(_, out int64) int64 { return 6 * out },
	} {
		sites := sdktest.Sites()
		if strings.Contains(user, "bat") {
			sites = slices.Delete(sites, 4, 5) // the stream
		}
		for i, s := range sdktest.Build(t, variant, sdktest.Good(t, schema, user), sites...).Sites {
			if want := count(int64(sites[i].In), int64(sites[i].Out)); s.TrainableCount != want || !s.Mergeable() {
				t.Errorf("%s: %s: %d trainable, want %d; mergeable %v", user, sites[i].Name, s.TrainableCount, want, s.Mergeable())
			}
		}
	}
}

func TestProblems(t *testing.T) {
	stream := sdktest.Sites()[4:5]
	for user, want := range map[string]string{
		"rank: 13":                              "rank: 13 is more than the layer's 12 inputs (use at most 12)",
		`rank: 2, mode: "mini", miniRank: 5`:    "miniRank: 5 does not divide the layer's 18 outputs (use 2, 3, 6 or 9)",
		`rank: 5, mode: "bat"`:                  "rank: bat needs blocks of 5 by 5, which do not fill the layer's weight, 18 by 12 (use 2, 3 or 6)",
		`rank: 6, mode: "bat", dropout: 0.1`:    `dropout: bat multiplies the weight and has no dropout (leave it out, or use mode "balance" or "mini")`,
		`rank: 6, mode: "balance", miniRank: 7`: "",
	} {
		if got := sdktest.Problems(t, variant, user, sdktest.Linear(12, 18)); got != want {
			t.Errorf("%s: got %s\nwant %s", user, got, want)
		}
	}
	const want = `mode: bat multiplies the weight, and attn_in is a stream without one (use "balance" or "mini" there)`
	if got := sdktest.Problems(t, variant, `rank: 6, mode: "bat"`, stream...); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	sdktest.Mistakes(t, schema, map[string]string{
		`rank: 0`:                "rank: must be a whole number from 1 to 4096",
		`rank: 8, mode: "bone"`:  `mode: must be "balance", "bat" or "mini"`,
		`rank: 8, miniRank: 0.5`: "miniRank: must be a whole number from 1 to 4096",
		`rank: 8, dropout: 1`:    "dropout: must be a number from 0 up to, but not including, 1",
		`rank: 8, mini_r: 1`:     "mini_r: field not allowed",
	})
	if got, want := sdktest.Good(t, schema, "rank: 8"), `{"rank":8,"mode":"balance","miniRank":1,"dropout":0}`; got != want {
		t.Errorf("defaults are %s, want %s", got, want)
	}
}

func TestPEFT(t *testing.T) {
	config, at := sdktest.PEFT(t, variant, sdktest.Good(t, schema, `rank: 3, mode: "bat"`), sdktest.Linear(12, 6))
	if config["init_weights"] != "bat" || !slices.Equal(at[0].Shape("miss_block"), []int64{2, 3, 3}) {
		t.Errorf("settings %v, tensors\n%s", config, at[0].Text())
	}
	for _, user := range variant.Examples {
		sdktest.PEFTRoundTrip(t, variant, user, sdktest.Linear(12, 6))
	}
	for config, want := range map[string]string{
		`{"peft_type": "MISS", "init_weights": false}`:                      `{"dropout":0,"miniRank":1,"mode":"balance","rank":64}`,
		`{"peft_type": "MISS", "init_weights": "bat", "miss_dropout": 0.5}`: `{"dropout":0,"miniRank":1,"mode":"bat","rank":64}`,
	} {
		if got, problems := sdktest.Adopt(t, variant, config, sdktest.Linear(64, 64)); got != want || len(problems) > 0 {
			t.Errorf("%s: %s, problems %v, want %s", config, got, problems, want)
		}
	}
	for config, want := range map[string]string{
		`{"peft_type": "MISS", "init_weights": "bone"}`: `init_weights: "bone", want true, "bat" or "mini" ()`,
		`{"peft_type": "MISS", "init_weights": 3}`:      `init_weights: 3, want true, "bat" or "mini" ()`,
		`{"peft_type": "MISS", "bias": "all"}`:          `bias: "all" is nothing this variant has ()`,
	} {
		if got := sdktest.AdoptProblems(t, variant, config, sdktest.Linear(64, 64)); got != want {
			t.Errorf("%s: got %s\nwant %s", config, got, want)
		}
	}
	reply, err := sdktest.Reply(variant, sdktest.Good(t, schema, "rank: 3"), sdktest.Sites()[5])
	if err != nil || reply.GetPeft() != nil {
		t.Errorf("of the patch embedding: %v, error %v", reply.GetPeft(), err)
	}
}
