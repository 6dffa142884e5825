package main

import (
	"slices"
	"testing"

	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

// y = base(x + x Aᵀ Bᵀ), without a scale, as the paper and the original have it.
func TestProgram(t *testing.T) {
	const want = `param serial_A [3, 7] = kaiming_uniform(a=2.236068), shared by the block
param serial_B [7, 3] = zeros, shared by the block
%0 = param serial_A : [3, 7]
%1 = param serial_B : [7, 3]
%2 = x : [T, 7]
%3 = permute %0 [1, 0] : [7, 3]
%4 = matmul %2 %3 : [T, 3]
%5 = permute %1 [1, 0] : [3, 7]
%6 = matmul %4 %5 : [T, 7]
%7 = add %2 %6 : [T, 7]
%8 = base %7 : [T, 5]
y = %8
`
	if got := sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 3"), sdktest.Linear(7, 5)).Sites[0].Text(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// block is a block of ViT-B/16.
func block(number uint32, names ...string) []*protocol.Site {
	var sites []*protocol.Site
	for _, name := range names {
		s := sdktest.Linear(768, 768)
		s.Name, s.Block = name, number
		if name == "fc1" {
			s.Out = 3072
		}
		if name == "fc2" {
			s.In = 3072
		}
		sites = append(sites, s)
	}
	return sites
}

// A pair is shared by what reads the same input: query, key and value of one
// block. Everything else has its own.
func TestWhoSharesAPair(t *testing.T) {
	const one = 2 * 32 * 768
	for _, c := range []struct {
		user  string
		names []string
		want  int64
	}{
		{`rank: 32`, []string{"query", "key", "value"}, one},
		{`rank: 32`, []string{"query", "value"}, one},
		{`rank: 32`, []string{"query", "key", "value", "output"}, 2 * one},
		{`rank: 32`, []string{"query", "value", "fc1", "fc2"}, 2*one + 4*one},
		{`rank: 32, share: "site"`, []string{"query", "key", "value"}, 3 * one},
	} {
		sites := append(block(0, c.names...), block(1, c.names...)...)
		if got := sdktest.Build(t, variant, sdktest.Good(t, schema, c.user), sites...).Trainable; got != 2*c.want {
			t.Errorf("%s on %v: %d trainable parameters in two blocks, want %d", c.user, c.names, got, 2*c.want)
		}
	}
	// ViT-B/16, all blocks: the count of the original implementation.
	var vit []*protocol.Site
	for range 12 {
		vit = append(vit, block(0, "query", "key", "value")...)
	}
	if got := sdktest.Build(t, variant, sdktest.Good(t, schema, `rank: 32, share: "site"`), vit...).Trainable; got != 1_769_472 {
		t.Errorf("%d trainable parameters, want 1769472", got)
	}
}

func TestProblemsAndMistakes(t *testing.T) {
	if got := sdktest.Problems(t, variant, "rank: 8", sdktest.Linear(7, 9)); got != "rank: 8 is more than the 7 inputs of the layer (use a rank of at most 7)" {
		t.Error(got)
	}
	sdktest.Build(t, variant, sdktest.Good(t, schema, "rank: 5"), sdktest.Sites()...) // streams too
	sdktest.Mistakes(t, schema, map[string]string{
		`rank: 0`:                 "rank: must be a whole number from 1 to 1024",
		`share: "site"`:           "rank: field is required but not present",
		`rank: 8, share: "model"`: `share: must be "block" or "site"`,
		`rank: 8, alpha: 8`:       "alpha: field not allowed",
		`rank: 8, lrRatio: -1`:    "lrRatio: must be a number above 0, at most 1000",
	})
}

// For PEFT it is the LoRA with B = W B.
func TestPEFT(t *testing.T) {
	config, at := sdktest.PEFT(t, variant, sdktest.Good(t, schema, "rank: 3"), sdktest.Linear(7, 5))
	if a, b := at[0].Shape("lora_A.weight"), at[0].Shape("lora_B.weight"); !slices.Equal(a, []int64{3, 7}) || !slices.Equal(b, []int64{5, 3}) {
		t.Errorf("A %v, B %v", a, b)
	}
	if config["r"] != 3.0 || config["lora_alpha"] != 3.0 || config["use_rslora"] != false {
		t.Errorf("settings %v", config)
	}
}
