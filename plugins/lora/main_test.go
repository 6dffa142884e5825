package main

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

func params(t *testing.T, user string) (string, error) {
	t.Helper()
	return sdktest.Params(t, schema, user)
}

func build(t *testing.T, user string, sites ...*protocol.Site) string {
	t.Helper()
	p, err := params(t, user)
	if err != nil {
		t.Fatal(err)
	}
	return sdktest.Build(t, variant, p, sites...).Sites[0].Text()
}

// Exactly PEFT's LoRA: A [r, in] Kaiming with a = √5, B [out, r] zero, the
// update scaled by alpha/r.
func TestProgram(t *testing.T) {
	const want = `param lora_A [3, 7] = kaiming_uniform(a=2.236068)
param lora_B [5, 3] = zeros
%0 = param lora_A : [3, 7]
%1 = param lora_B : [5, 3]
%2 = x : [T, 7]
%3 = base %2 : [T, 5]
%4 = permute %0 [1, 0] : [7, 3]
%5 = matmul %2 %4 : [T, 3]
%6 = permute %1 [1, 0] : [3, 5]
%7 = matmul %5 %6 : [T, 5]
%8 = scale %7 2 : [T, 5]
%9 = add %3 %8 : [T, 5]
y = %9
`
	if got := build(t, "rank: 3, alpha: 6", sdktest.Linear(7, 5)); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestParameters(t *testing.T) {
	for user, want := range map[string]string{
		"rank: 4, alpha: 8, scaling: \"rslora\"": "scale %7 4 :", // 8/√4
		"rank: 4, dropout: 0.25":                 "= dropout %2 0.25 :",
		"rank: 4, lrRatio: 16":                   "lora_B [5, 4] = zeros, lr×16",
	} {
		if got := build(t, user, sdktest.Linear(7, 5)); !strings.Contains(got, want) {
			t.Errorf("%s: got\n%swant a line with %q", user, got, want)
		}
	}
	// alpha is rank unless given, which scales by 1: no node.
	if got := build(t, "rank: 4", sdktest.Linear(7, 5)); strings.Contains(got, "scale") {
		t.Errorf("the default scales:\n%s", got)
	}
}

// Sites of odd shapes and of every kind; sites of one shape share a program.
func TestSites(t *testing.T) {
	p, err := params(t, "rank: 5")
	if err != nil {
		t.Fatal(err)
	}
	all := sdktest.Build(t, variant, p, sdktest.Sites()...)
	for i, s := range all.Sites {
		site := sdktest.Sites()[i]
		if want := int64(5 * (site.In + site.Out)); s.TrainableCount != want || !s.Mergeable() {
			t.Errorf("%s: %d trainable, want %d; mergeable %v", site.Name, s.TrainableCount, want, s.Mergeable())
		}
	}
	if all.Sites[0].Program != all.Sites[3].Program {
		t.Error("query and value have one shape but two programs")
	}
	// ViT-B/16, query and value of all blocks: the counts of the original.
	var vit []*protocol.Site
	for range 24 {
		vit = append(vit, sdktest.Linear(768, 768))
	}
	for rank, want := range map[string]int64{"rank: 4": 147_456, "rank: 16": 589_824} {
		p, err := params(t, rank)
		if err != nil {
			t.Fatal(err)
		}
		if got := sdktest.Build(t, variant, p, vit...).Trainable; got != want {
			t.Errorf("%s: %d trainable parameters, want %d", rank, got, want)
		}
	}
}

func TestRankIsLow(t *testing.T) {
	reply, err := sdktest.Reply(variant, `{"rank":6,"alpha":6,"dropout":0,"scaling":"lora","lrRatio":1,"init":"kaiming"}`,
		sdktest.Linear(7, 6), sdktest.Linear(7, 5))
	if err != nil {
		t.Fatal(err)
	}
	if p := reply.GetProblems(); len(p) != 1 || p[0].GetParam() != "rank" || p[0].GetSite() != 1 || !strings.Contains(p[0].GetMessage(), "smaller side, 5") {
		t.Errorf("problems %v", p)
	}
}

// What users get wrong is told in words, at the parameter.
func TestSchema(t *testing.T) {
	for user, want := range map[string]string{
		`rank: 0`:                     "rank: must be a whole number from 1 to 1024",
		`rank: 2.5`:                   "rank: must be a whole number from 1 to 1024",
		`rank: "8"`:                   "rank: must be a whole number from 1 to 1024",
		`alpha: 2`:                    "rank: field is required but not present",
		`rnak: 8, rank: 8`:            "rnak: field not allowed",
		`rank: 8, alpha: 0`:           "alpha: must be a number above 0",
		`rank: 8, dropout: 1`:         "dropout: must be a number from 0 up to, but not including, 1",
		`rank: 8, scaling: "rsLoRA"`:  `scaling: must be "lora" or "rslora"`,
		`rank: 8, lrRatio: 0`:         "lrRatio: must be a number above 0, at most 1000",
		`rank: 8, init: "svd"`:        `init: must be "kaiming", "gaussian", "pissa", "olora" or "orthogonal"`,
		`rank: 8, dropout: {p: 0.25}`: "dropout: must be a number",
	} {
		if _, err := params(t, user); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", user, err, want)
		}
	}
	got, err := params(t, "rank: 8")
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(got), &v); err != nil {
		t.Fatal(err)
	}
	if v["alpha"] != 8.0 || v["dropout"] != 0.0 || v["scaling"] != "lora" || v["lrRatio"] != 1.0 || v["init"] != "kaiming" {
		t.Errorf("defaults are %s", got)
	}
}

// The start is that of PEFT, but W stays what it is: what the papers take out
// of W is a frozen copy of the start, taken out of the update.
func TestStarts(t *testing.T) {
	for user, want := range map[string][]string{
		`rank: 4, init: "gaussian"`: {"lora_A [4, 7] = normal(a=0.25)\n", "lora_B [5, 4] = zeros\n"},
		`rank: 4, alpha: 1, init: "pissa"`: {
			"lora_A [4, 7] = svd_right(a=2, power=0.5)\n", "start_B [5, 4] = svd_left(a=2, power=0.5), frozen, derived\n",
			"%14 = sub %7 %13 : [T, 5]\n%15 = scale %14 0.25 : [T, 5]\n%16 = add %3 %15 :",
		},
		`rank: 4, dropout: 0.5, init: "olora"`: {
			"lora_A [4, 7] = qr_r\n", "lora_B [5, 4] = qr_q\n", "start_A [4, 7] = qr_r, frozen, derived\n",
			"%12 = matmul %2 %11 : [T, 4]", // the start leaves as a whole: no dropout
		},
		`rank: 4, init: "orthogonal"`: {
			"lora_A [4, 7] = repeat(normal(a=0.07071068), k=2)\n", "lora_B [5, 4] = repeat(normal(a=0.07071068), k=2, dim=1)\n",
			"const [4] [1, -1, 1, -1] : [4]",
		},
	} {
		got := build(t, user, sdktest.Linear(7, 5))
		for _, line := range want {
			if !strings.Contains(got, line) {
				t.Errorf("%s: got\n%swant a line with %q", user, got, line)
			}
		}
	}
}

func TestProblemsOfStarts(t *testing.T) {
	stream := sdktest.Sites()[4]
	for user, want := range map[string]string{
		`rank: 3, init: "orthogonal"`: `rank: 3 is odd, but init "orthogonal" halves the rank between A and B (use 4)`,
		`rank: 3, init: "olora"`:      `init: "olora" starts from the weight of the layer, but attn_in is a stream and has none (use "kaiming", "gaussian" or "orthogonal")`,
		`rank: 3`:                     "",
	} {
		if got := sdktest.Problems(t, variant, user, stream); got != want {
			t.Errorf("%s: %s", user, got)
		}
	}
}

// PEFT gets a plain LoRA. A start from W doubles the rank and keeps the scale.
func TestPEFT(t *testing.T) {
	for user, want := range map[string]struct {
		r, alpha float64
		rslora   bool
	}{
		`rank: 3, alpha: 6`:                                    {3, 6, false},
		`rank: 4, alpha: 3, scaling: "rslora"`:                 {4, 3, true},
		`rank: 3, alpha: 6, init: "pissa"`:                     {6, 12, false},
		`rank: 2, alpha: 3, init: "olora", scaling: "rslora"`:  {4, 3 * math.Sqrt2, true},
		`rank: 2, alpha: 3, init: "orthogonal", dropout: 0.25`: {2, 3, false},
	} {
		config, at := sdktest.PEFT(t, variant, sdktest.Good(t, schema, user), sdktest.Linear(7, 5))
		a, b := at[0].Shape("lora_A.weight"), at[0].Shape("lora_B.weight")
		r := int64(want.r)
		if !slices.Equal(a, []int64{r, 7}) || !slices.Equal(b, []int64{5, r}) {
			t.Errorf("%s: A %v, B %v", user, a, b)
		}
		alpha, _ := config["lora_alpha"].(float64)
		if config["r"] != want.r || math.Abs(alpha-want.alpha) > 1e-12 || config["use_rslora"] != want.rslora || config["init_lora_weights"] != true {
			t.Errorf("%s: settings %v", user, config)
		}
	}
	sdktest.PEFTRoundTrip(t, variant, `rank: 3, alpha: 6, dropout: 0.25, scaling: "rslora"`, sdktest.Linear(7, 5))
	if got := sdktest.AdoptProblems(t, variant, `{"peft_type": "LORA", "use_dora": true}`, sdktest.Linear(7, 5)); got != `use_dora: true: the adapter is a DoRA (use the variant "dora")` {
		t.Error(got)
	}
}
