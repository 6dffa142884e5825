package sdk_test

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk"
	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

// stored is a low-rank update whose B PEFT stores multiplied by W, and with a
// tensor of the model.
type stored struct {
	Rank    int
	LRRatio float64
	Half    bool `json:"in_half"`
	without bool // nothing for PEFT
	mark    func(*sdk.Graph, sdk.Node)
}

func (v stored) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	a := g.Param("A", sdk.Dims(v.Rank, s.In), sdk.KaimingUniform(math.Sqrt(5)))
	b := g.Param("B", sdk.Dims(s.In, v.Rank), sdk.Zeros)
	m := g.Param("shared", sdk.Dims(1), sdk.Ones, sdk.PerModel)
	y := g.Base(g.Add(g.X(), g.Mul(m, g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(b)))))
	if v.without || s.Kind == sdk.Stream {
		return y
	}
	g.PEFT("lora_A.weight", a)
	g.PEFT("lora_B.weight", g.MatMul(g.W(), b))
	g.PEFTModel("vera_A", g.Scale(2, m))
	if v.mark != nil {
		v.mark(g, y)
	}
	return y
}

func (v stored) PEFTConfig(sites []sdk.Site) map[string]any {
	if v.Half {
		return nil
	}
	return map[string]any{"peft_type": "LORA", "r": v.Rank, "of": []string{"{" + sites[0].Name + "}"}}
}

var storing = sdk.Variant[stored]{
	Name: "storing", Version: "1.0.0", Schema: "#Params: {...}", Examples: []string{"rank: 2"},
	Adopt: func(config map[string]any, sites []sdk.Site) (stored, []sdk.Problem) {
		if config["use_dora"] == true {
			return stored{}, []sdk.Problem{{Message: "use_dora is another variant"}}
		}
		return stored{Rank: int(config["r"].(float64)), LRRatio: float64(sites[0].In)}, nil
	},
}

const half = `{"rank":2,"lrRatio":1,"in_half":%s}`

// What only PEFT needs is not in the program: it is that of the variant
// without PEFT, and the tensors have shapes.
func TestPEFTIsApart(t *testing.T) {
	params := strings.Replace(half, "%s", "false", 1)
	config, at := sdktest.PEFT(t, storing, params, sdktest.Linear(7, 5), sdktest.Linear(4, 9))
	if config["r"] != 2.0 || config["of"].([]any)[0] != "{query}" {
		t.Errorf("settings %v", config)
	}
	const want = `%0 = param A : [2, 7]
%1 = param B : [7, 2]
%2 = param shared : [1]
%3 = weight : [5, 7]
%4 = matmul %3 %1 : [5, 2]
%5 = scale %2 2 : [1]
lora_A.weight = %0
lora_B.weight = %4
vera_A = %5, one for the model
`
	if got := at[0].Text(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := at[1].Shape("lora_B.weight"); !slices.Equal(got, []int64{9, 2}) {
		t.Errorf("lora_B.weight has shape %v at the second site", got)
	}
	with := sdktest.Draw(t, stored{Rank: 2}, sdktest.Linear(7, 5)).Sites[0].Program
	without := sdktest.Draw(t, stored{Rank: 2, without: true, Half: true}, sdktest.Linear(7, 5)).Sites[0].Program
	if !proto.Equal(with, without) {
		t.Errorf("PEFT changes the program:\n%v\n%v", with, without)
	}
}

// A stream, or PEFTConfig without settings, has no PEFT part.
func TestNoPEFT(t *testing.T) {
	for name, try := range map[string]struct {
		params string
		site   *protocol.Site
	}{
		"no settings": {strings.Replace(half, "%s", "true", 1), sdktest.Linear(7, 5)},
		"stream":      {strings.Replace(half, "%s", "false", 1), &protocol.Site{Name: "attn_in", Kind: sdk.Stream, In: 8, Out: 8}},
	} {
		reply, err := sdktest.Reply(storing, try.params, try.site)
		if err != nil || reply.GetPeft() != nil {
			t.Errorf("%s: PEFT part %v, error %v", name, reply.GetPeft(), err)
		}
	}
}

// Mistakes name site, tensor and, where there is one, the line.
func TestPEFTMistakes(t *testing.T) {
	for want, mark := range map[string]func(*sdk.Graph, sdk.Node){
		"peft_test.go:": func(g *sdk.Graph, y sdk.Node) { g.PEFT("bad", y) },
		"query of block 0: PEFT tensor bad depends on x":                                 func(g *sdk.Graph, y sdk.Node) { g.PEFT("bad", y) },
		"two tensors have the PEFT key lora_A.weight":                                    func(g *sdk.Graph, _ sdk.Node) { g.PEFT("lora_A.weight", g.B()) },
		"query of block 0: PEFT: tensor w is one for the model, but depends on the site": func(g *sdk.Graph, _ sdk.Node) { g.PEFTModel("w", g.W()) },
		"query of block 0: PEFT: a tensor has the key \"a b\"":                           func(g *sdk.Graph, _ sdk.Node) { g.PEFT("a b", g.W()) },

		"goes through dropout": func(g *sdk.Graph, _ sdk.Node) { g.PEFT("d", g.Dropout(g.W(), 0.5)) },
	} {
		_, err := sdk.Programs(context.Background(), stored{Rank: 2, mark: mark}, sdktest.Model(), []*protocol.Site{sdktest.Linear(7, 5)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	_, err := sdk.Programs(context.Background(), stored{Rank: 2, without: true}, sdktest.Model(), []*protocol.Site{sdktest.Linear(7, 5)})
	if err == nil || !strings.Contains(err.Error(), "Build has marked no tensor with PEFT") {
		t.Errorf("settings without tensors: error %v", err)
	}
}

// Adopt writes parameters under the names of the schema.
func TestAdopt(t *testing.T) {
	params, problems := sdktest.Adopt(t, storing, `{"r": 3}`, sdktest.Linear(7, 5))
	if want := `{"in_half":false,"lrRatio":7,"rank":3}`; params != want || len(problems) > 0 {
		t.Errorf("parameters %s, problems %v, want %s", params, problems, want)
	}
	_, problems = sdktest.Adopt(t, storing, `{"use_dora": true}`, sdktest.Linear(7, 5))
	if len(problems) != 1 || problems[0].GetMessage() != "use_dora is another variant" || problems[0].GetSite() != -1 {
		t.Errorf("problems %v", problems)
	}
	none := storing
	none.Adopt = nil
	if _, err := none.Server().Adopt(context.Background(), &protocol.AdoptRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("without Adopt: error %v", err)
	}
	// A setting that is missing panics here; the error has the stack.
	_, err := storing.Server().Adopt(context.Background(), &protocol.AdoptRequest{ConfigJson: "{}", Sites: []*protocol.Site{sdktest.Linear(7, 5)}})
	if status.Code(err) != codes.Internal || len(status.Convert(err).Details()) != 1 {
		t.Errorf("a panic in Adopt: error %v", err)
	}
}

func TestDescribeExamples(t *testing.T) {
	d, err := storing.Server().Describe(context.Background(), nil)
	if err != nil || !slices.Equal(d.GetExamples(), []string{"rank: 2"}) {
		t.Errorf("examples %v, error %v", d.GetExamples(), err)
	}
}
