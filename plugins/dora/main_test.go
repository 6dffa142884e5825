package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

// The rows of W + sBA are measured without a gradient, and their directions
// get the trained lengths.
func TestProgram(t *testing.T) {
	const want = `param lora_A [3, 7] = kaiming_uniform(a=2.236068)
param lora_B [5, 3] = zeros
param lora_magnitude_vector [5] = row_norm
%0 = param lora_A : [3, 7]
%1 = param lora_B : [5, 3]
%2 = param lora_magnitude_vector : [5]
%3 = x : [T, 7]
%4 = weight : [5, 7]
%5 = permute %4 [1, 0] : [7, 5]
%6 = matmul %3 %5 : [T, 5]
%7 = permute %0 [1, 0] : [7, 3]
%8 = matmul %3 %7 : [T, 3]
%9 = permute %1 [1, 0] : [3, 5]
%10 = matmul %8 %9 : [T, 5]
%11 = scale %10 2 : [T, 5]
%12 = add %6 %11 : [T, 5]
%13 = matmul %1 %0 : [5, 7]
%14 = scale %13 2 : [5, 7]
%15 = add %4 %14 : [5, 7]
%16 = norm %15 [1] : [5]
%17 = detach %16 : [5]
%18 = div %2 %17 : [5]
%19 = mul %18 %12 : [T, 5]
%20 = bias : [5]
%21 = add %19 %20 : [T, 5]
y = %21
`
	if got := sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 3, alpha: 6"), sdktest.Linear(7, 5)).Sites[0].Text(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// With dropout the frozen layer sees the whole input, all else the dropped one.
func TestDropout(t *testing.T) {
	got := sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 3, dropout: 0.25"), sdktest.Linear(7, 5)).Sites[0].Text()
	for _, line := range []string{"%4 = dropout %3 0.25", "%7 = matmul %4 %6 : [T, 5]", "= base %3", "= sub %19 %7"} {
		if !strings.Contains(got, line) {
			t.Errorf("got\n%swant a line with %q", got, line)
		}
	}
}

func TestSites(t *testing.T) {
	for _, s := range sdktest.Sites() {
		if s.Name == "attn_in" {
			const want = ": attn_in is a stream: it has no weight whose rows dora could scale (adapt the layers that read it)"
			if got := sdktest.Problems(t, variant, "rank: 3", s); got != want {
				t.Error(got)
			}
			continue
		}
		one := sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 3"), s).Sites[0]
		if want := int64(3*(s.In+s.Out) + s.Out); one.TrainableCount != want || !one.Mergeable() {
			t.Errorf("%s: %d trainable, want %d; mergeable %v", s.Name, one.TrainableCount, want, one.Mergeable())
		}
	}
	if got := sdktest.Problems(t, variant, "rank: 6", sdktest.Linear(7, 5)); got != "rank: 6 is more than the layer's smaller side, 5 (use a rank of at most 5)" {
		t.Error(got)
	}
	sdktest.Mistakes(t, schema, map[string]string{
		`rank: 0`:             "rank: must be a whole number from 1 to 1024",
		`rank: 8, alpha: -1`:  "alpha: must be a number above 0",
		`rank: 8, dropout: 1`: "dropout: must be a number from 0 up to, but not including, 1",
		`rank: 8, scale: 1`:   "scale: field not allowed",
	})
}

func TestPEFT(t *testing.T) {
	config, at := sdktest.PEFT(t, variant, sdktest.Good(t, schema, "rank: 3, alpha: 6"), sdktest.Linear(7, 5))
	if m := at[0].Shape("lora_magnitude_vector"); !slices.Equal(m, []int64{5}) || config["use_dora"] != true {
		t.Errorf("magnitudes %v, settings %v", m, config)
	}
	sdktest.PEFTRoundTrip(t, variant, "rank: 3, alpha: 6, dropout: 0.25", sdktest.Linear(7, 5))
	p, problems := sdktest.Adopt(t, variant, `{"peft_type": "LORA", "use_dora": true, "use_rslora": true, "r": 4, "lora_alpha": 3}`, sdktest.Linear(7, 5))
	if len(problems) > 0 || !strings.Contains(p, `"alpha":6`) {
		t.Errorf("rsLoRA of scale 3/√4 is read as %s, %v", p, problems)
	}
	if got := sdktest.AdoptProblems(t, variant, `{"peft_type": "LORA"}`, sdktest.Linear(7, 5)); got != `use_dora: false: the adapter is a plain LoRA (use the variant "lora")` {
		t.Error(got)
	}
}
