package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

func text(t *testing.T, user string) string {
	t.Helper()
	return sdktest.Build(t, variant, sdktest.Good(t, schema, user), sdktest.Linear(6, 5)).Sites[0].Text()
}

// Exactly PEFT's OFT with use_cayley_neumann=False: upper triangles row by
// row, (I − Q)(I + Q)⁻¹ from the right.
func TestProgram(t *testing.T) {
	const want = `param oft_R [2, 3] = zeros
param triangle [9] = indices([3, 0, 1, 3, 3, 2, 3, 3, … 9 in all]), frozen, derived
%0 = param oft_R : [2, 3]
%1 = const [2, 1] [0, 0] : [2, 1]
%2 = concat %0 %1 [1] : [2, 4]
%3 = param triangle : [9] int64
%4 = gather %2 %3 [1] : [2, 9]
%5 = reshape %4 [2, 3, 3] : [2, 3, 3]
%6 = permute %5 [0, 2, 1] : [2, 3, 3]
%7 = sub %5 %6 : [2, 3, 3]
%8 = eye [3] : [3, 3]
%9 = add %8 %7 : [2, 3, 3]
%10 = sub %8 %7 : [2, 3, 3]
%11 = solve %9 %10 : [2, 3, 3]
%12 = x : [T, 6]
%13 = reshape %12 [-1, 2, 3] : [T, 2, 3]
%14 = einsum %13 %11 "tkb,kbc->tkc" : [T, 2, 3]
%15 = reshape %14 [-1, 6] : [T, 6]
%16 = base %15 : [T, 5]
y = %16
`
	if got := text(t, "blockSize: 3"); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// PEFT's series: I + 2Q + … with the last of more than two powers once.
func TestNeumann(t *testing.T) {
	for terms, want := range map[string][2]int{ // products, doubled terms
		"2": {0, 1},
		"3": {2, 2}, // PEFT computes the same for 3 and 4
		"4": {2, 2},
		"5": {3, 3},
		"8": {6, 6},
	} {
		got := text(t, `blockSize: 3, cayley: "neumann", terms: `+terms)
		if products, doubled := strings.Count(got, "= matmul"), strings.Count(got, "= scale"); products != want[0] || doubled != want[1] {
			t.Errorf("%s terms: %d products and %d doubled, want %v:\n%s", terms, products, doubled, want, got)
		}
	}
}

func TestSites(t *testing.T) {
	for user, blocks := range map[string]int64{"blockSize: 4": 0, "blockSize: 4, share: true": 1} {
		for i, s := range sdktest.Build(t, variant, sdktest.Good(t, schema, user), sdktest.Sites()...).Sites {
			n := blocks
			if n == 0 {
				n = int64(sdktest.Sites()[i].In) / 4
			}
			if s.TrainableCount != n*6 || !s.Mergeable() {
				t.Errorf("%s: %s: %d trainable, want %d; mergeable %v", user, sdktest.Sites()[i].Name, s.TrainableCount, n*6, s.Mergeable())
			}
		}
	}
}

func TestProblems(t *testing.T) {
	const want = "blockSize: 32 does not divide the layer's 36 inputs (use 12, 18 or 36)"
	if got := sdktest.Problems(t, variant, "", sdktest.Linear(36, 5), sdktest.Linear(64, 7)); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	sdktest.Mistakes(t, schema, map[string]string{
		`blockSize: 1`:    "blockSize: must be a whole number from 2 to 256",
		`rank: 8`:         "rank: field not allowed",
		`cayley: "fast"`:  `cayley: must be "exact" or "neumann"`,
		`terms: 1`:        "terms: must be a whole number from 2 to 16",
		`share: "blocks"`: "share: must be true or false",
	})
	if got, want := sdktest.Good(t, schema, ""), `{"blockSize":32,"share":false,"cayley":"exact","terms":5}`; got != want {
		t.Errorf("defaults are %s, want %s", got, want)
	}
}

func TestPEFT(t *testing.T) {
	config, at := sdktest.PEFT(t, variant, sdktest.Good(t, schema, "blockSize: 3"), sdktest.Linear(6, 5))
	if config["use_cayley_neumann"] != false || !slices.Equal(at[0].Shape("oft_R.weight"), []int64{2, 3}) {
		t.Errorf("settings %v, tensors\n%s", config, at[0].Text())
	}
	sdktest.PEFTRoundTrip(t, variant, "blockSize: 3, share: true", sdktest.Linear(6, 5))
	reply, err := sdktest.Reply(variant, sdktest.Good(t, schema, "blockSize: 4"), sdktest.Sites()[5])
	if err != nil || reply.GetPeft() != nil {
		t.Errorf("of the patch embedding: %v, error %v", reply.GetPeft(), err)
	}
}

func TestAdopt(t *testing.T) {
	for config, want := range map[string]string{
		`"peft_version": "0.21.2"`: `{"blockSize":32,"cayley":"neumann","share":false,"terms":5}`,
		`"use_cayley_neumann": false, "r": 2, "oft_block_size": 0, "block_share": true`: `{"blockSize":3,"cayley":"exact","share":true,"terms":5}`,
	} {
		got, problems := sdktest.Adopt(t, variant, `{"peft_type": "OFT", `+config+`}`, sdktest.Linear(6, 5))
		if got != want || len(problems) > 0 {
			t.Errorf("%s: %s, problems %v, want %s", config, got, problems, want)
		}
	}
	for config, want := range map[string]string{
		`"peft_version": "0.17.1"`:                                                         `peft_version: "0.17.1": the series of use_cayley_neumann was another one before 0.18.0 (train it again with a later PEFT)`,
		`"use_cayley_neumann": false, "coft": true, "eps": 1e-4`:                           "coft: true is nothing this variant has (it changes parameters beside the optimiser)",
		`"use_cayley_neumann": false, "r": 2, "oft_block_size": 0, "module_dropout": 0.25`: "r: 2 blocks in a layer with 8 inputs: all blocks of all layers have one size here ()\nmodule_dropout: 0.25 is nothing this variant has (PEFT reads it and drops nothing: set it to 0)",
	} {
		if got := sdktest.AdoptProblems(t, variant, `{"peft_type": "OFT", `+config+`}`, sdktest.Linear(6, 5), sdktest.Linear(8, 5)); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", config, got, want)
		}
	}
}
