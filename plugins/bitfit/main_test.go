package main

import (
	"slices"
	"testing"

	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

func TestProgram(t *testing.T) {
	const want = `param beta [5] = zeros
%0 = param beta : [5]
%1 = x : [T, 7]
%2 = base %1 : [T, 5]
%3 = add %2 %0 : [T, 5]
y = %3
`
	if got := sdktest.Build(t, variant, sdktest.Good(t, schema, ""), sdktest.Linear(7, 5)).Sites[0].Text(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// A layer without a bias gains one, and so does a stream.
func TestSites(t *testing.T) {
	all := sdktest.Build(t, variant, "{}", sdktest.Sites()...)
	for i, s := range all.Sites {
		if site := sdktest.Sites()[i]; s.TrainableCount != int64(site.Out) || !s.Mergeable() {
			t.Errorf("%s: %d trainable, mergeable %v", site.Name, s.TrainableCount, s.Mergeable())
		}
	}
	sdktest.Mistakes(t, schema, map[string]string{"rank: 8": "rank: field not allowed"})
}

func TestPEFT(t *testing.T) {
	config, at := sdktest.PEFT(t, variant, "{}", sdktest.Linear(7, 5))
	if got := at[0].Shape("beft_bias"); !slices.Equal(got, []int64{1, 5}) || config["peft_type"] != "BEFT" {
		t.Errorf("β is %v, settings %v", got, config)
	}
	sdktest.PEFTRoundTrip(t, variant, "", sdktest.Linear(7, 5))
}
