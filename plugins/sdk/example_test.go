package sdk_test

import (
	"context"
	"fmt"
	"math"

	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk"
)

// serial puts a low-rank update before the layer: y = base(x + x Aᵀ Bᵀ).
type serial struct{ Rank int }

func (v serial) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	a := g.Param("lora_A", sdk.Dims(v.Rank, s.In), sdk.KaimingUniform(math.Sqrt(5)), sdk.PerBlock)
	b := g.Param("lora_B", sdk.Dims(s.In, v.Rank), sdk.Zeros, sdk.PerBlock)
	return g.Base(g.Add(g.X(), g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(b))))
}

// A whole variant: in a program of its own, main would be sdk.Serve(variant).
func Example() {
	variant := sdk.Variant[serial]{
		Name: "serial", Version: "0.1.0", Paper: "arXiv:2503.17750",
		Schema: `#Params: rank!: int & >=1 | error("must be a whole number, at least 1")`,
	}
	site := &protocol.Site{Name: "query", Kind: protocol.Site_LINEAR, In: 24, Out: 24, Bias: true}
	reply, err := variant.Server().Build(context.Background(), &protocol.BuildRequest{
		ParamsJson: `{"rank": 4}`, Sites: []*protocol.Site{site},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	typed, err := program.Check(reply.Programs[0], site, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(typed.Text())
	fmt.Println(typed.TrainableCount, "trainable parameters a block")
	// Output:
	// param lora_A [4, 24] = kaiming_uniform(a=2.236068), shared by the block
	// param lora_B [24, 4] = zeros, shared by the block
	// %0 = param lora_A : [4, 24]
	// %1 = param lora_B : [24, 4]
	// %2 = x : [T, 24]
	// %3 = permute %0 [1, 0] : [24, 4]
	// %4 = matmul %2 %3 : [T, 4]
	// %5 = permute %1 [1, 0] : [4, 24]
	// %6 = matmul %4 %5 : [T, 24]
	// %7 = add %2 %6 : [T, 24]
	// %8 = base %7 : [T, 24]
	// y = %8
	// 192 trainable parameters a block
}
