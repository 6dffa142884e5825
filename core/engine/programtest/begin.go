package programtest

import (
	"math"

	"github.com/loralab/loralab/core/engine/adapter"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/spec"
)

// beginSteps is how many steps a parameter has to leave its start: a factor
// behind another that is zero moves in the second.
const beginSteps = 3

// noise is the size of a gradient in fp64 that is rounding, relative to that of x.
const noise = 1e-12

// begin trains for a few steps from where training starts. There, and not after
// a random move, a product of two zeros has no gradient, and a square root of
// zero an infinite one: "trial-plugins F1". In fp64 it tells which parameters
// move, in fp32, as in training, whether all values are finite.
func (t *trial) begin(i int, c *spec.Conformance) error {
	state := t.dev.GeneratorState()
	defer func() { t.dev.SetGeneratorState(state) }()
	for _, dt := range []torch.DType{torch.Float64, torch.Float32} {
		set, err := t.with(dt, t.req.Seed, i)
		if err != nil {
			return err
		}
		t.steps(set, dt, c)
		set.Free()
	}
	return nil
}

func (t *trial) steps(set *adapter.Set, dt torch.DType, c *spec.Conformance) {
	set.Train(true)
	still := map[string]bool{}
	for i, q := range set.Site(0).Program.Params {
		if set.Params[i].Trainable {
			still[q.Name] = true
		}
	}
	all := len(still)
	when := "at the start"
	for step := range beginSteps {
		moved := t.step(set, dt, when, step, c)
		for _, name := range moved {
			delete(still, name)
		}
		if dt == torch.Float64 {
			c.Dead = c.Dead || step == 0 && all > 0 && len(moved) == 0
			if len(still) == 0 {
				return
			}
		}
		when = "after " + []string{"one step", "two steps", "three steps"}[step]
	}
	if dt == torch.Float64 {
		for i, q := range set.Site(0).Program.Params {
			if set.Params[i].Trainable && still[q.Name] {
				c.Unmoved = append(c.Unmoved, q.Name)
			}
		}
		return
	}
	t.unusual(set, dt, when, c)
}

// step is one of training, along the gradient. It returns the names of the
// parameters that have one.
func (t *trial) step(set *adapter.Set, dt torch.DType, when string, step int, c *spec.Conformance) (moved []string) {
	if step == 0 && dt == torch.Float32 {
		t.unusual(set, dt, when, c)
	}
	t.dev.Scope(func() {
		x := t.random(dt, 1, "begin x "+when, tokens, int64(set.Site(0).Site.In))
		vars, grads := t.pass(set, dt, x, when, c)
		least := noise * rms(grads[0])
		for i, v := range vars[1:] {
			g := grads[i+1]
			size := rms(g)
			if !(size > least) || math.IsInf(size, 0) {
				continue
			}
			moved = append(moved, v.name)
			by := 0.01 * max(0.05, rms(v.t.Doubles())) / size
			t.dev.NoGrad(func() {
				v.t.Assign(v.t.Detach().Sub(torch.Of(t.dev, g, v.t.Shape()...).To(dt).Scale(by)))
			})
		}
	})
	return moved
}

// unusual passes inputs that are rare in training, and not impossible: after a
// GELU, values of a hundred are found in pretrained models, and tokens of an
// even image are alike.
func (t *trial) unusual(set *adapter.Set, dt torch.DType, when string, c *spec.Conformance) {
	in := int64(set.Site(0).Site.In)
	for _, u := range []struct {
		what string
		x    func() *torch.Tensor
	}{
		{"for x 100 times as large", func() *torch.Tensor { return t.random(dt, 100, "begin large", tokens, in) }},
		{"for x of zeros", func() *torch.Tensor { return t.dev.Zeros(dt, tokens, in) }},
		{"for equal tokens", func() *torch.Tensor { return t.random(dt, 1, "begin equal", 1, in).Add(t.dev.Zeros(dt, tokens, in)) }},
	} {
		t.dev.Scope(func() { t.pass(set, dt, u.x(), when+", "+u.what, c) })
	}
}

// pass computes Σ g·F(x) + auxiliary losses, g random, and its gradients by x and
// by the trainable parameters. What is not finite is noted.
func (t *trial) pass(set *adapter.Set, dt torch.DType, x *torch.Tensor, when string, c *spec.Conformance) ([]variable, [][]float64) {
	site := set.Site(0)
	x = x.Detach().RequireGrad(true)
	t.dev.Seed(t.req.Seed)
	y := set.Forward(0, x)
	finite(c, "the output, "+when, y.Doubles())
	loss := y.Mul(t.random(dt, 1, "begin g", tokens, int64(site.Site.Out))).Sum()
	if aux := set.Aux(); aux != nil {
		finite(c, "the auxiliary loss, "+when, aux.Doubles())
		loss = loss.Add(aux)
	}
	vars := []variable{{"x", x}}
	for i, q := range site.Program.Params {
		if p := set.Params[i]; p.Trainable {
			vars = append(vars, variable{q.Name, p.T})
		}
	}
	ts := make([]*torch.Tensor, len(vars))
	for i, v := range vars {
		ts[i] = v.t
	}
	grads := make([][]float64, len(vars))
	for i, g := range torch.GradsOf(loss, nil, ts...) {
		grads[i] = make([]float64, ts[i].Numel())
		if g != nil {
			grads[i] = finite(c, "the gradient of "+vars[i].name+", "+when, g.Doubles())
		}
	}
	return vars, grads
}
