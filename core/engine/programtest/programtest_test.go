package programtest

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk"
)

// draw is a variant as a function.
type draw func(g *sdk.Graph, s sdk.Site) sdk.Node

func (d draw) Build(g *sdk.Graph, s sdk.Site) sdk.Node { return d(g, s) }

var kaiming = sdk.KaimingUniform(math.Sqrt(5))

func lora(g *sdk.Graph, s sdk.Site) sdk.Node {
	a, b := g.Param("A", sdk.Dims(3, s.In), kaiming), g.Param("B", sdk.Dims(s.Out, 3), sdk.Zeros)
	return g.Add(g.Base(g.X()), g.Scale(2, g.MatMul(g.MatMul(g.Dropout(g.X(), 0.3), g.T(a)), g.T(b))))
}

func dora(g *sdk.Graph, s sdk.Site) sdk.Node {
	a, b := g.Param("A", sdk.Dims(3, s.In), kaiming), g.Param("B", sdk.Dims(s.Out, 3), sdk.Zeros)
	m := g.Param("m", sdk.Dims(s.Out), sdk.RowNorm)
	v := g.Add(g.W(), g.MatMul(b, a))
	w := g.Mul(g.Reshape(g.Div(m, g.Detach(g.Norm(v, 1))), s.Out, 1), v)
	return g.Add(g.MatMul(g.X(), g.T(w)), g.B())
}

func serial(g *sdk.Graph, s sdk.Site) sdk.Node {
	a := g.Param("A", sdk.Dims(2, s.In), kaiming, sdk.PerBlock)
	b := g.Param("B", sdk.Dims(s.In, 2), sdk.Zeros, sdk.PerBlock)
	return g.Base(g.Add(g.X(), g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(b))))
}

func site(name string, in, out uint32) *protocol.Site {
	return &protocol.Site{Name: name, Kind: protocol.Site_LINEAR, In: in, Out: out, Bias: true}
}

func request(t *testing.T, d draw, sites ...*protocol.Site) *spec.ConformRequest {
	t.Helper()
	m := &protocol.Model{Family: "vit", Dim: 7, Depth: 2, Heads: 1, Mlp: 9}
	reply, err := sdk.Programs(t.Context(), d, m, sites)
	if err != nil {
		t.Fatal(err)
	}
	req := &spec.ConformRequest{Model: m, Adapter: &spec.Adapter{Programs: reply.Programs}, Seed: 3}
	for i, s := range sites {
		req.Adapter.Placements = append(req.Adapter.Placements, &spec.Placement{Site: s, Program: reply.ProgramOfSite[i]})
	}
	return req
}

func try(t *testing.T, req *spec.ConformRequest) []*spec.Conformance {
	t.Helper()
	dev, err := torch.CPU(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	before := 0
	if err := dev.Do(func() error { before = dev.Live(); return nil }); err != nil {
		t.Fatal(err)
	}
	reply, err := Try(t.Context(), dev, req)
	if err != nil {
		t.Fatal(err)
	}
	if err := dev.Do(func() error {
		if n := dev.Live() - before; n != 0 {
			t.Errorf("%d tensors were left behind", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return reply.Sites
}

// sound checks all that has to hold of any good variant.
func sound(t *testing.T, c *spec.Conformance) {
	t.Helper()
	if c.Failure != "" {
		t.Fatal(c.Failure)
	}
	if !(c.Gradient < 1e-6) {
		t.Errorf("the gradient of %s is off by %g", c.GradientAt, c.Gradient)
	}
	if !c.Repeats || !c.AnyOrder || !c.SeedsDiffer || !c.Saved || !c.TokensApart || !c.Finite {
		t.Errorf("%v", c)
	}
}

func TestSoundVariants(t *testing.T) {
	for name, c := range map[string]struct {
		d         draw
		trainable uint64
		form      string
	}{
		"lora": {lora, 3 * (7 + 5), "low-rank"}, "dora": {dora, 3*(7+5) + 5, "nodes"}, "serial": {serial, 2 * 2 * 7, "serial"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, s := range try(t, request(t, c.d, site("query", 7, 5), site("output", 7, 5))) {
				sound(t, s)
				if !(s.Start < 1e-12) || !s.Mergeable || !(s.Merge < 1e-12) || len(s.NoGradient) > 0 {
					t.Errorf("%v", s)
				}
				if s.Trainable != c.trainable {
					t.Errorf("%d trainable elements, want %d", s.Trainable, c.trainable)
				}
				if s.Form != c.form {
					t.Errorf("form %q, want %q", s.Form, c.form)
				}
			}
		})
	}
}

// Every operation of version 2 within one program: autograd is compared with
// finite differences, and the start is finite for unusual x too.
func TestLaterOperations(t *testing.T) {
	d := draw(func(g *sdk.Graph, s sdk.Site) sdk.Node {
		a := g.Param("A", sdk.Dims(6, s.In), kaiming)
		b := g.Param("B", sdk.Dims(s.Out, 6), sdk.Zeros)
		at := g.Param("at", sdk.Dims(6), sdk.Integers(0, 4), sdk.Frozen)
		theta := g.Param("theta", sdk.Dims(4), sdk.Normal(1))
		h := g.LayerNorm(g.MatMul(g.X(), g.T(a)), 1e-5)
		gate := g.Mul(g.Sigmoid(h), g.Add(g.Tanh(h), g.Gather(theta, 0, at)))
		h = g.Where(h, g.SiLU(h), g.Maximum(gate, g.Minimum(h, g.Abs(h))))
		spread := g.Sub(g.MaxKeep(h, 1), g.MinKeep(h, 1))
		h = g.Mul(h, g.Log(g.Add(g.Mul(spread, spread), g.Add(g.Abs(g.MeanKeep(h, 1)), g.Const(nil, 1.5)))))
		return g.Add(g.Base(g.X()), g.MatMul(h, g.T(b)))
	})
	for _, s := range try(t, request(t, d, site("query", 7, 5), site("output", 7, 5))) {
		sound(t, s)
		if s.Start != 0 || s.Mergeable || s.Dead || len(s.NoGradient)+len(s.Unmoved) > 0 {
			t.Errorf("%v", s)
		}
	}
}

func TestWhatIsWrongIsSeen(t *testing.T) {
	for name, c := range map[string]struct {
		d    draw
		seen func(c *spec.Conformance) bool
	}{
		"another start": {func(g *sdk.Graph, s sdk.Site) sdk.Node {
			return g.Add(g.Base(g.X()), g.Param("beta", sdk.Dims(s.Out), sdk.Ones))
		}, func(c *spec.Conformance) bool { return c.Start > 0.1 }},
		"a parameter without gradient": {func(g *sdk.Graph, s sdk.Site) sdk.Node {
			b := g.Param("beta", sdk.Dims(s.Out), sdk.Zeros)
			return g.Add(g.Base(g.X()), g.Add(g.Detach(b), g.Param("gamma", sdk.Dims(s.Out), sdk.Zeros)))
		}, func(c *spec.Conformance) bool { return slices.Equal(c.NoGradient, []string{"beta"}) }},
		"not affine": {func(g *sdk.Graph, s sdk.Site) sdk.Node {
			return g.Base(g.Add(g.X(), g.Mul(g.Param("l", sdk.Dims(s.In), sdk.Zeros), g.ReLU(g.X()))))
		}, func(c *spec.Conformance) bool { return !c.Mergeable && c.Merge == 0 && c.Gradient < 1e-6 }},
		"not finite": {func(g *sdk.Graph, s sdk.Site) sdk.Node {
			return g.Add(g.Base(g.X()), g.Div(g.Param("l", sdk.Dims(s.Out), sdk.Zeros), g.Const([]int{1}, 0)))
		}, func(c *spec.Conformance) bool { return !c.Finite }},
	} {
		t.Run(name, func(t *testing.T) {
			s := try(t, request(t, c.d, site("query", 7, 5)))[0]
			if s.Failure != "" || !c.seen(s) {
				t.Errorf("%v", s)
			}
		})
	}
}

// A site that fails leaves the others as they are.
func TestFailureStaysAtItsSite(t *testing.T) {
	req := request(t, lora, site("query", 7, 5), site("fc1", 6, 4), site("value", 7, 5))
	alone := try(t, request(t, lora, site("query", 7, 5)))[0]
	req.Adapter.Placements[1].Program = 99
	sites := try(t, req)
	if !strings.Contains(sites[1].Failure, "fc1") {
		t.Errorf("failure %q", sites[1].Failure)
	}
	sound(t, sites[0])
	sound(t, sites[2])
	if sites[0].Gradient != alone.Gradient || sites[0].Merge != alone.Merge {
		t.Error("other sites changed the result")
	}
}

// An operation that fails says so and where, and leaves nothing behind
// (trial-plugins F9).
func TestFailingOperationIsTold(t *testing.T) {
	d := func(g *sdk.Graph, s sdk.Site) sdk.Node {
		// Singular, and constant: it is solved while the program is compiled.
		z := g.Solve(g.Const([]int{1, 1}, 0), g.Const([]int{1, 1}, 1))
		return g.Add(g.Base(g.X()), g.Mul(z, g.Param("beta", sdk.Dims(s.Out), sdk.Zeros)))
	}
	s := try(t, request(t, d, site("query", 7, 5)))[0]
	if !strings.HasPrefix(s.Failure, "query of block 0: solve ") {
		t.Errorf("failure %q", s.Failure)
	}
}

// So does one that fails while the layer runs.
func TestFailingOperationOfAToken(t *testing.T) {
	d := func(g *sdk.Graph, s sdk.Site) sdk.Node {
		beta := g.Param("beta", sdk.Dims(1, 1), sdk.Zeros)
		return g.Add(g.Base(g.X()), g.Solve(beta, g.Const([]int{1, 1}, 1)))
	}
	s := try(t, request(t, d, site("query", 7, 5)))[0]
	if !strings.HasPrefix(s.Failure, "query of block 0: solve ") {
		t.Errorf("failure %q", s.Failure)
	}
}

// What shares a parameter has to agree on it; the ones before keep their answer.
func TestSharingIsTried(t *testing.T) {
	req := request(t, serial, site("query", 7, 5), site("key", 9, 5))
	sites := try(t, req)
	if (sites[0].Failure == "") == (sites[1].Failure == "") {
		t.Errorf("%v, %v", sites[0], sites[1])
	}
}

// A wrong gradient must show, wherever in a large tensor it is.
func TestWrongGradientIsSeen(t *testing.T) {
	dev, err := torch.CPU(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	err = dev.Do(func() error {
		const n = 1000
		v := make([]float64, n)
		for i := range v {
			v[i] = math.Sin(float64(i))
		}
		p := torch.Of(dev, v, n)
		loss := func() float64 { return p.Mul(p).Sum().Item() }
		grad := make([]float64, n)
		for i := range grad {
			grad[i] = 2 * v[i]
		}
		for _, wrong := range []bool{false, true} {
			if wrong {
				grad[700] += 0.5
			}
			c := &spec.Conformance{}
			compare([]variable{{"p", p}}, [][]float64{grad}, c, loss, rng.New(1, "test"))
			if seen := c.Gradient > 1e-4; seen != wrong || c.GradientAt != "p" {
				t.Errorf("wrong %v: %g at %s", wrong, c.Gradient, c.GradientAt)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The longest program that is allowed runs and is differentiated.
func TestLongestProgram(t *testing.T) {
	d := func(g *sdk.Graph, s sdk.Site) sdk.Node {
		l, x := g.Param("l", sdk.Dims(s.In), sdk.Zeros), g.X()
		for range 4000 {
			x = g.Add(x, l)
		}
		return g.Base(x)
	}
	sound(t, try(t, request(t, d, site("query", 7, 5)))[0])
}

// A run in progress must find the generator of its dropouts as it was.
func TestGeneratorIsLeftAlone(t *testing.T) {
	dev, err := torch.CPU(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	state := func() (s []byte) {
		if err := dev.Do(func() error { s = dev.GeneratorState(); return nil }); err != nil {
			t.Fatal(err)
		}
		return s
	}
	before := state()
	if _, err := Try(t.Context(), dev, request(t, lora, site("query", 7, 5))); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(before, state()) {
		t.Error("the generator moved")
	}
}
