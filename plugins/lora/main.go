// Command lora is the LoRA variant: a low-rank update beside a frozen layer,
//
//	y = base(x) + s · dropout(x) Aᵀ Bᵀ,  s = α/r
//
// of Hu et al., arXiv:2106.09685; with scaling "rslora" s = α/√r (Kalajdzievski,
// arXiv:2312.03732) and with lrRatio B learns faster than A (LoRA+, Hayou et
// al., arXiv:2402.12354).
//
// A and B may also start from W: with init "pissa" they are its largest
// singular triples (PiSSA, Meng et al., arXiv:2404.02948), with "olora" the
// first columns and rows of W = QR (OLoRA, Büyükakyüz, arXiv:2406.01775). Both
// papers then take the product out of the frozen weight. Here W stays what it
// is, and the start is taken out of the update:
//
//	y = base(x) + s · (dropout(x) Aᵀ Bᵀ − x A₀ᵀ B₀ᵀ)
package main

import (
	_ "embed"
	"fmt"
	"math"

	"github.com/loralab/loralab/plugins/lowrank"
	"github.com/loralab/loralab/plugins/sdk"
)

//go:embed schema.cue
var schema string

type lora struct {
	Rank           int
	Alpha, Dropout float64
	Scaling        string
	LRRatio        float64
	Init           string
}

// Check refuses a rank at which BA is as large as W and no longer low, and
// initialisers that the rank or the layer does not allow.
func (v lora) Check(s sdk.Site) []sdk.Problem {
	found := lowrank.Check(v.Rank, s)
	if v.Init == "orthogonal" && v.Rank%2 != 0 {
		found = append(found, sdk.Problem{
			Param:   "rank",
			Message: fmt.Sprintf("%d is odd, but init \"orthogonal\" halves the rank between A and B", v.Rank),
			Hint:    fmt.Sprintf("use %d", v.Rank+1),
		})
	}
	if v.startsFromW() && s.Kind == sdk.Stream {
		found = append(found, sdk.Problem{
			Param:   "init",
			Message: fmt.Sprintf("%q starts from the weight of the layer, but %s is a stream and has none", v.Init, s.Name),
			Hint:    `use "kaiming", "gaussian" or "orthogonal"`,
		})
	}
	return found
}

func (v lora) startsFromW() bool { return v.Init == "pissa" || v.Init == "olora" }

func (v lora) scale() float64 {
	if v.Scaling == "rslora" {
		return v.Alpha / math.Sqrt(float64(v.Rank))
	}
	return v.Alpha / float64(v.Rank)
}

// start is how A and B begin.
func (v lora) start() (a, b sdk.Init) {
	switch v.Init {
	case "gaussian":
		return sdk.Normal(1 / float64(v.Rank)), sdk.Zeros
	case "pissa": // s · B₀A₀ = U_r S_r V_rᵀ
		root := 1 / math.Sqrt(v.scale())
		return sdk.SVDRight.Power(0.5).Times(root), sdk.SVDLeft.Power(0.5).Times(root)
	case "olora":
		return sdk.QRR, sdk.QRQ
	case "orthogonal":
		half := sdk.Normal(0.1 / math.Sqrt2)
		return sdk.Repeated(half, 0, 2), sdk.Repeated(half, 1, 2)
	}
	return sdk.KaimingUniform(math.Sqrt(5)), sdk.Zeros
}

func (v lora) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	startA, startB := v.start()
	a := g.Param("lora_A", sdk.Dims(v.Rank, s.In), startA)
	b := g.Param("lora_B", sdk.Dims(s.Out, v.Rank), startB, sdk.LR(v.LRRatio))
	x := g.Dropout(g.X(), v.Dropout)
	base := g.Base(g.X())
	fileA, fileB := a, b // as PEFT stores them

	h := g.MatMul(x, g.T(a))
	if v.Init == "orthogonal" {
		// Rows of A and columns of B come in equal pairs. With signs between
		// them BA = 0, while neither is: PEFT's start with one fixed rotation
		// in place of a random one.
		signs := make([]float64, v.Rank)
		for i := range signs {
			signs[i] = float64(1 - 2*(i%2))
		}
		sign := g.Const(sdk.Dims(v.Rank), signs...)
		h, fileB = g.Mul(h, sign), g.Mul(b, sign)
	}
	update := g.MatMul(h, g.T(b))
	if v.startsFromW() {
		a0 := g.Param("start_A", sdk.Dims(v.Rank, s.In), startA, sdk.Derived)
		b0 := g.Param("start_B", sdk.Dims(s.Out, v.Rank), startB, sdk.Derived)
		update = g.Sub(update, g.MatMul(g.MatMul(g.X(), g.T(a0)), g.T(b0)))
		fileA, fileB = g.Concat(0, a, a0), g.Concat(1, b, g.Neg(b0))
	}
	y := g.Add(base, g.Scale(v.scale(), update))
	g.PEFT("lora_A.weight", fileA)
	g.PEFT("lora_B.weight", fileB)
	return y
}

// PEFTConfig is that of a plain LoRA, whatever the start: PEFT would take a
// start from W out of its weight again. The start is in the file instead,
// which doubles the rank; alpha grows to keep the scale.
func (v lora) PEFTConfig(sites []sdk.Site) map[string]any {
	r, alpha, rslora := v.Rank, v.Alpha, v.Scaling == "rslora"
	if v.startsFromW() {
		r *= 2
		alpha = v.scale() * float64(r)
		if rslora {
			alpha = v.scale() * math.Sqrt(float64(r))
		}
	}
	config := lowrank.PEFTConfig(sites, r, alpha, v.Dropout)
	if config != nil {
		config["use_rslora"] = rslora
	}
	return config
}

func adopt(config map[string]any, _ []sdk.Site) (lora, []sdk.Problem) {
	a, problems := lowrank.Adopt(config, false)
	v := lora{Rank: a.Rank, Alpha: a.Alpha, Dropout: a.Dropout, Scaling: "lora", LRRatio: 1, Init: "kaiming"}
	if a.RSLoRA {
		v.Scaling = "rslora"
	}
	return v, problems
}

var variant = sdk.Variant[lora]{
	Name: "lora", Version: "1.1.0", Paper: "arXiv:2106.09685",
	About:  "Low-rank update beside a frozen layer, with rsLoRA scaling, LoRA+ rates and starts from W",
	Schema: schema, Formula: "y = base(x) + s · drop(x) Aᵀ Bᵀ", Parameters: "rank*(in+out)",
	PEFT: "LORA", Adopt: adopt,
	Examples: []string{
		"rank: 4",
		"rank: 3, alpha: 6",
		`rank: 2, alpha: 4, dropout: 0.25, scaling: "rslora", lrRatio: 16`,
		`rank: 3, init: "gaussian"`,
		`rank: 3, alpha: 6, init: "pissa"`,
		`rank: 3, alpha: 5, init: "olora", scaling: "rslora"`,
		`rank: 4, init: "orthogonal"`,
	},
}

func main() { sdk.Serve(variant) }
