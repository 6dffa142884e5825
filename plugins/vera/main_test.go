package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

// Exactly PEFT's VeRA: one A and one B for the model, as large as its largest
// sites, and cut to the layer.
func TestProgram(t *testing.T) {
	const want = `param vera_A [3, 9] = seeded(key=5, max_shape=[3, 9], kaiming_uniform), frozen, derived, shared by the model
param vera_B [5, 3] = seeded(key=5, max_shape=[5, 3], kaiming_uniform), frozen, derived, shared by the model
param vera_lambda_d [3] = constant(a=0.1)
param vera_lambda_b [5] = zeros
%0 = param vera_A : [3, 9]
%1 = param vera_B : [5, 3]
%2 = param vera_lambda_d : [3]
%3 = param vera_lambda_b : [5]
%4 = x : [T, 7]
%5 = dropout %4 0.25 : [T, 7]
%6 = slice %0 [1, 0, 7] : [3, 7]
%7 = permute %6 [1, 0] : [7, 3]
%8 = matmul %5 %7 : [T, 3]
%9 = mul %2 %8 : [T, 3]
%10 = permute %1 [1, 0] : [3, 5]
%11 = matmul %9 %10 : [T, 5]
%12 = mul %3 %11 : [T, 5]
%13 = base %4 : [T, 5]
%14 = add %13 %12 : [T, 5]
y = %14
`
	second := sdktest.Linear(9, 4)
	second.Block = 1
	all := sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 3, key: 5, dropout: 0.25"), sdktest.Linear(7, 5), second)
	if got := all.Sites[0].Text(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if all.Trainable != 3+5+3+4 {
		t.Errorf("%d trainable parameters", all.Trainable)
	}
}

func TestSites(t *testing.T) {
	for i, s := range sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 40"), sdktest.Sites()...).Sites {
		if want := int64(40 + sdktest.Sites()[i].Out); s.TrainableCount != want || !s.Mergeable() {
			t.Errorf("%s: %d trainable, want %d; mergeable %v", sdktest.Sites()[i].Name, s.TrainableCount, want, s.Mergeable())
		}
	}
}

func TestMistakes(t *testing.T) {
	sdktest.Mistakes(t, schema, map[string]string{
		`key: 1`:                "rank: field is required but not present",
		`rank: 8, key: -1`:      "key: must be a whole number from 0 to 4294967295",
		`rank: 8, dInitial: 0`:  "dInitial: must be a number above 0, at most 10",
		`rank: 8, dropout: 1`:   "dropout: must be a number from 0 up to, but not including, 1",
		`rank: 8, d_initial: 1`: "d_initial: field not allowed",
	})
	if got, want := sdktest.Good(t, schema, "rank: 8"), `{"rank":8,"dropout":0,"dInitial":0.1,"key":0}`; got != want {
		t.Errorf("defaults are %s, want %s", got, want)
	}
}

// The matrices are stored: PEFT would draw others.
func TestPEFT(t *testing.T) {
	config, at := sdktest.PEFT(t, variant, sdktest.Good(t, schema, "rank: 3"), sdktest.Linear(7, 5), sdktest.Linear(9, 4))
	if config["save_projection"] != true || !slices.Equal(at[1].Shape("vera_A"), []int64{3, 9}) || !slices.Equal(at[1].Shape("vera_lambda_b"), []int64{4}) {
		t.Errorf("settings %v, tensors\n%s", config, at[1].Text())
	}
	if !strings.Contains(at[0].Text(), "vera_B = %1, one for the model") {
		t.Errorf("vera_B is not the model's:\n%s", at[0].Text())
	}
	for _, user := range variant.Examples {
		sdktest.PEFTRoundTrip(t, variant, user, sdktest.Linear(7, 5))
	}
	for name, site := range map[string]*protocol.Site{"stream": sdktest.Sites()[4], "patch": sdktest.Sites()[5]} {
		reply, err := sdktest.Reply(variant, sdktest.Good(t, schema, "rank: 3"), site)
		if err != nil || reply.GetPeft() != nil {
			t.Errorf("%s: %v, error %v; PEFT has VeRA for linear layers only", name, reply.GetPeft(), err)
		}
	}
	const want = "save_projection: false: the file is without the shared matrices, which only PEFT draws alike (save the adapter again with save_projection=True)"
	if got := sdktest.AdoptProblems(t, variant, `{"peft_type": "VERA", "save_projection": false}`, sdktest.Linear(7, 5)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
