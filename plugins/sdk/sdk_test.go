package sdk_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk"
	"github.com/loralab/loralab/plugins/sdk/sdktest"
)

// draw is a builder as a function.
type draw func(g *sdk.Graph, s sdk.Site) sdk.Node

func (d draw) Build(g *sdk.Graph, s sdk.Site) sdk.Node { return d(g, s) }

// Every operation and every initialiser of the protocol can be written with
// the sdk: a variant never has to touch protobuf.
func TestTheSDKReachesTheWholeProtocol(t *testing.T) {
	everything := draw(func(g *sdk.Graph, s sdk.Site) sdk.Node {
		n := 0
		p := func(init sdk.Init, dims ...int) sdk.Node {
			n++
			return g.Param(fmt.Sprintf("p%d", n), dims, init)
		}
		frozen := func(init sdk.Init, dims ...int) sdk.Node {
			n++
			return g.Param(fmt.Sprintf("p%d", n), dims, init, sdk.Derived)
		}
		sum := g.Sum(g.B())
		for _, v := range []sdk.Node{
			p(sdk.Zeros, 1), p(sdk.Ones, 1), p(sdk.Constant(2), 1), p(sdk.Identity.Times(2), 2, 2),
			p(sdk.Uniform(1), 1), p(sdk.Normal(1), 1), p(sdk.KaimingUniform(0).Fan(3), 1), p(sdk.XavierUniform, 1, 1),
			p(sdk.Orthogonal, 2, 2), p(sdk.SVDLeft.Last(), s.Out, 1), p(sdk.SVDRight.Power(1), 1, s.In), p(sdk.SVDSingular, 1),
			p(sdk.RowNorm, s.Out), p(sdk.ColNorm, s.In), p(sdk.QRQ, s.Out, 1), p(sdk.QRR, 1, s.In),
			p(sdk.Seeded(1, sdk.Dims(4), sdk.Normal(1)), 2), p(sdk.Repeated(sdk.Normal(1), 0, 2), 2), p(sdk.Values(1, 2), 2),
			g.Gather(g.Eye(3), 0, frozen(sdk.Permutation(1, 3), 2)),
			g.Scatter(sdk.Dims(s.Out, s.In), g.Const(sdk.Dims(2), 1, 2), frozen(sdk.TopKAbsW, 2)),
			g.Gather(g.Eye(3), -1, frozen(sdk.Indices(2, 2), 2)), g.Gather(g.Eye(3), 0, frozen(sdk.Integers(0, 3), 5)),
			g.Sigmoid(g.Eye(2)), g.Tanh(g.Eye(2)), g.SiLU(g.Eye(2)), g.Log(g.Exp(g.Eye(2))), g.Abs(g.Eye(2)),
			g.Maximum(g.Eye(2), g.Const(nil, 2)), g.Minimum(g.Eye(2), g.Const(nil, 2)), g.Where(g.Eye(2), g.Eye(2), g.Const(nil, 2)),
			g.Max(g.Eye(2)), g.MaxKeep(g.Eye(2), -1), g.Min(g.Eye(2), 0), g.MinKeep(g.Eye(2)), g.Mean(g.Eye(2)), g.MeanKeep(g.Eye(2), 1),
			g.LayerNorm(g.Eye(2), 1e-6),
			g.W(), g.Kron(g.Eye(2), g.Eye(2)), g.Repeat(g.Eye(2), 2, 1), g.Concat(-1, g.Eye(2), g.Eye(2)),
			g.Slice(g.Eye(2), -1, 0, 1), g.Reshape(g.Eye(2), 4), g.T(g.Eye(2)), g.NormKeep(g.W(), 0), g.Norm(g.W()),
			g.Sqrt(g.Exp(g.Sin(g.Cos(g.Eye(2))))), g.ClampMin(g.Eye(2), 0), g.Clamp(g.Eye(2), 0, 1),
			g.Solve(g.Eye(2), g.Eye(2)), g.Softmax(g.Eye(2), -1), g.TopKMask(g.Eye(2), -1, 1), g.IFFT2(g.Eye(2)),
			g.ReLU(g.GELU(g.Detach(g.Neg(g.Eye(2))))), g.SumKeep(g.Eye(2), 0), g.Einsum("ij,jk->ik", g.Eye(2), g.Eye(2)),
			g.MatMul(g.Eye(2), g.Eye(2)), g.Scale(2, g.Div(g.Sub(g.Eye(2), g.Eye(2)), g.Const(nil, 2))),
		} {
			sum = g.Add(sum, g.Sum(v))
		}
		g.Aux("all", 0.5, sum)
		return g.Mul(g.Base(g.Dropout(g.X(), 0.5)), sum)
	})
	typed := sdktest.Draw(t, everything, sdktest.Linear(7, 5)).Sites[0]
	ops, inits := map[protocol.Op]bool{}, map[protocol.Init_Kind]bool{}
	for _, n := range typed.Program.Nodes {
		ops[n.Op] = true
	}
	for _, p := range typed.Program.Params {
		inits[p.Init.Kind] = true
	}
	for n, name := range protocol.Op_name {
		if n != 0 && !ops[protocol.Op(n)] {
			t.Errorf("no way to write %s", name)
		}
	}
	for n, name := range protocol.Init_Kind_name {
		if n != 0 && !inits[protocol.Init_Kind(n)] {
			t.Errorf("no way to write the initialiser %s", name)
		}
	}
}

// The version of the op list is that of the program, whatever PEFT stores.
func TestVersions(t *testing.T) {
	for name, c := range map[string]struct {
		draw draw
		want uint32
	}{
		"as before":         {func(g *sdk.Graph, _ sdk.Site) sdk.Node { return g.Base(g.GELU(g.X())) }, 1},
		"a later operation": {func(g *sdk.Graph, _ sdk.Site) sdk.Node { return g.Base(g.Tanh(g.X())) }, 2},
		"for PEFT alone": {func(g *sdk.Graph, s sdk.Site) sdk.Node {
			b := g.Param("b", sdk.Dims(s.Out), sdk.Zeros)
			y := g.Add(g.Base(g.X()), b)
			g.PEFT("b", g.Tanh(b))
			return y
		}, 1},
	} {
		var b sdk.Builder = c.draw
		if strings.Contains(name, "PEFT") {
			b = marked{c.draw}
		}
		reply, err := sdk.Programs(t.Context(), b, sdktest.Model(), []*protocol.Site{sdktest.Linear(7, 5)})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := reply.Programs[0].GetVersion(); got != c.want {
			t.Errorf("%s: version %d, want %d", name, got, c.want)
		}
	}
}

// marked has settings for what it marks.
type marked struct{ draw }

func (marked) PEFTConfig([]sdk.Site) map[string]any { return map[string]any{"peft_type": "X"} }

func TestEqualPartsAreOneNodeButDropoutDrawsAnew(t *testing.T) {
	typed := sdktest.Draw(t, draw(func(g *sdk.Graph, s sdk.Site) sdk.Node {
		y := g.Add(g.Base(g.X()), g.Base(g.X()))
		return g.Add(y, g.Add(g.Dropout(g.Base(g.X()), 0.5), g.Dropout(g.Base(g.X()), 0.5)))
	}), sdktest.Linear(7, 5)).Sites[0]
	count := map[protocol.Op]int{}
	for _, n := range typed.Program.Nodes {
		count[n.Op]++
	}
	if count[protocol.Op_X] != 1 || count[protocol.Op_BASE] != 1 || count[protocol.Op_DROPOUT] != 2 {
		t.Errorf("got\n%s", typed.Text())
	}
}

func TestParameterOptions(t *testing.T) {
	typed := sdktest.Draw(t, draw(func(g *sdk.Graph, s sdk.Site) sdk.Node {
		p := g.Param("a", sdk.Dims(s.Out), sdk.Zeros, sdk.LR(2), sdk.Decay(0), sdk.PerModel, sdk.RandomStream("s"))
		q := g.Param("b", sdk.Dims(s.Out), sdk.Ones, sdk.Frozen, sdk.PerBlock)
		return g.Add(g.Base(g.X()), g.Mul(p, q))
	}), sdktest.Linear(7, 5)).Sites[0]
	a, b := typed.Program.Params[0], typed.Program.Params[1]
	if a.GetLrMult() != 2 || a.DecayMult == nil || a.GetDecayMult() != 0 || a.GetScope() != protocol.Param_MODEL || a.GetStream() != "s" || !a.GetTrainable() {
		t.Errorf("a is %v", a)
	}
	if b.GetTrainable() || b.GetDerived() || b.GetScope() != protocol.Param_BLOCK {
		t.Errorf("b is %v", b)
	}
}

// What goes wrong in Build comes back as an error with the line of the variant.
func TestMistakesInBuild(t *testing.T) {
	var foreign sdk.Node
	for name, c := range map[string]struct {
		build draw
		code  codes.Code
		want  string
	}{
		"shape": {
			func(g *sdk.Graph, s sdk.Site) sdk.Node { return g.Base(g.W()) },
			codes.FailedPrecondition, "input has shape [5, 7], want [T, 7]",
		},
		"transposed scalar": {
			func(g *sdk.Graph, s sdk.Site) sdk.Node { return g.T(g.B()) },
			codes.FailedPrecondition, "T of shape [5]",
		},
		"initialiser": {
			func(g *sdk.Graph, s sdk.Site) sdk.Node { return g.Param("a", nil, sdk.KaimingUniform(1)) },
			codes.FailedPrecondition, "parameter a: kaiming_uniform: needs a fan",
		},
		"output": {
			func(g *sdk.Graph, s sdk.Site) sdk.Node { return g.X() },
			codes.FailedPrecondition, "the output has shape [T, 7], want [T, 5]",
		},
		"nothing": {
			func(g *sdk.Graph, s sdk.Site) sdk.Node { return sdk.Node{} },
			codes.FailedPrecondition, "a node that is not of its graph",
		},
		"foreign": {
			func(g *sdk.Graph, s sdk.Site) sdk.Node {
				if s.Block == 0 {
					foreign = g.X()
				}
				return g.Base(foreign)
			},
			codes.FailedPrecondition, "base got a node of another graph",
		},
		"panic": {
			func(g *sdk.Graph, s sdk.Site) sdk.Node { return []sdk.Node{}[s.Block] },
			codes.Internal, "panic: runtime error: index out of range [0] with length 0 (at query of block 0)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			second := sdktest.Linear(7, 5)
			second.Block = 1
			_, err := sdk.Programs(context.Background(), c.build, sdktest.Model(), []*protocol.Site{sdktest.Linear(7, 5), second})
			s := status.Convert(err)
			if s.Code() != c.code || !strings.Contains(s.Message(), c.want) {
				t.Fatalf("error %v, want %s with %q", err, c.code, c.want)
			}
			const place = "sdk_test.go:"
			if c.code == codes.Internal {
				i := slices.IndexFunc(s.Details(), func(d any) bool { _, ok := d.(*errdetails.DebugInfo); return ok })
				if i < 0 || !strings.Contains(s.Details()[i].(*errdetails.DebugInfo).GetDetail(), place) {
					t.Errorf("no stack with %s in %v", place, s.Details())
				}
			} else if name != "nothing" && !strings.HasPrefix(s.Message(), place) {
				t.Errorf("%q does not say where", s.Message())
			}
		})
	}
}

// blocks is a variant with a check of its own.
type blocks struct {
	K      int
	Scale  float64 `json:"s"`
	Unused string  `json:",omitempty"`
}

func (v blocks) Check(s sdk.Site) []sdk.Problem {
	if s.In%v.K == 0 {
		return nil
	}
	return []sdk.Problem{{Param: "k", Message: fmt.Sprintf("%d does not divide %d", v.K, s.In)}}
}

func (v blocks) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	return g.Add(g.Base(g.X()), g.Param("b", sdk.Dims(s.Out), sdk.Constant(v.Scale)))
}

func TestParametersAreReadStrictly(t *testing.T) {
	v := sdk.Variant[blocks]{Name: "blocks"}
	for params, want := range map[string]string{
		`{"k": 2, "s": 1}`:           "",
		`{"K": 2, "s": 1e-3}`:        "",
		`{"k": 2}`:                   "no parameter for Scale",
		``:                           "no parameter for K, Scale",
		`{"k": 2, "s": 1, "x": 1}`:   `unknown field "x"`,
		`{"k": 2.5, "s": 1}`:         "cannot unmarshal number 2.5",
		`{"k": "2", "s": 1}`:         "cannot unmarshal string",
		`[1]`:                        "cannot unmarshal array",
		`{"k": 2, "s": 1, "unused":`: "unexpected EOF",
	} {
		_, err := sdktest.Reply(v, params, sdktest.Linear(8, 4))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", params, err, want)
		}
	}
}

// A panic in Check names the layer too (trial-plugins F9).
func TestPanicInCheck(t *testing.T) {
	v := sdk.Variant[blocks]{Name: "blocks"}
	_, err := sdktest.Reply(v, `{"k": 0, "s": 1}`, sdktest.Linear(8, 4))
	if want := "panic: runtime error: integer divide by zero (at query of block 0)"; status.Convert(err).Message() != want {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestProblemsAreAskedOncePerMistake(t *testing.T) {
	v := sdk.Variant[blocks]{Name: "blocks"}
	reply, err := sdktest.Reply(v, `{"k": 5, "s": 1}`, sdktest.Linear(8, 4), sdktest.Linear(10, 4), sdktest.Linear(8, 2))
	if err != nil || len(reply.GetProblems()) != 1 || reply.GetProblems()[0].GetSite() != 0 || len(reply.GetPrograms()) != 0 {
		t.Errorf("%v, error %v", reply, err)
	}
	reply, err = sdktest.Reply(v, `{"k": 5, "s": 1}`, sdktest.Linear(8, 4), sdktest.Linear(8, 2))
	if err != nil || len(reply.GetProblems()) != 1 || reply.GetProblems()[0].GetSite() != -1 {
		t.Errorf("%v, error %v: a problem of every site is about none in particular", reply, err)
	}
}

func TestSitesKnowTheModel(t *testing.T) {
	var seen []sdk.Site
	sdktest.Draw(t, draw(func(g *sdk.Graph, s sdk.Site) sdk.Node {
		seen = append(seen, s)
		return g.Base(g.X())
	}), sdktest.Sites()...)
	for _, s := range seen {
		if s.MaxIn != 60 || s.MaxOut != 60 || s.Model.Dim != 24 || s.Model.Heads != 3 || s.Model.MLP != 60 || s.Model.Depth != 2 {
			t.Errorf("%+v", s)
		}
	}
	if last := seen[len(seen)-1]; last.Kind != sdk.Patch || last.In != 48 || !last.Bias {
		t.Errorf("patch is %+v", last)
	}
}

func TestBuildStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := sdk.Programs(ctx, draw(func(g *sdk.Graph, s sdk.Site) sdk.Node { return g.Base(g.X()) }), nil, sdktest.Sites())
	if status.Code(err) != codes.Canceled {
		t.Errorf("error %v", err)
	}
}

func TestNumbersAreFinite(t *testing.T) {
	_, err := sdk.Programs(context.Background(), draw(func(g *sdk.Graph, s sdk.Site) sdk.Node {
		return g.Scale(math.NaN(), g.Base(g.X()))
	}), nil, []*protocol.Site{sdktest.Linear(7, 5)})
	if err == nil || !strings.Contains(err.Error(), "want a finite number") {
		t.Errorf("error %v", err)
	}
}
