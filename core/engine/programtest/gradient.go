package programtest

import (
	"math"

	"github.com/loralab/loralab/core/engine/adapter"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/spec"
)

const (
	elements = 12 // of a tensor, looked at one by one; a direction covers the rest
	passes   = 3  // in each of which a parameter may get its gradient
)

// variable is something to differentiate by: x or a parameter.
type variable struct {
	name string
	t    *torch.Tensor
}

// gradients compares autograd with central differences of
// Σ g·F(x) + auxiliary losses, g random, in training mode.
func (t *trial) gradients(set *adapter.Set, c *spec.Conformance, finite func(string, []float64) []float64) {
	site := set.Site(0)
	set.Train(true)
	defer set.Train(false)
	got := map[string]bool{}
	for pass := range passes {
		t.dev.Scope(func() {
			name := func(s string) string { return s + " " + string(rune('0'+pass)) }
			x := t.random(torch.Float64, 1, name("gradient x"), tokens, int64(site.Site.In)).RequireGrad(true)
			g := t.random(torch.Float64, 1, name("gradient g"), tokens, int64(site.Site.Out))
			// A set of one site has its parameters in the program's order.
			vars := []variable{{"x", x}}
			for i, q := range site.Program.Params {
				if p := set.Params[i]; p.Trainable {
					vars = append(vars, variable{q.Name, p.T})
				}
			}
			loss := func() *torch.Tensor {
				t.dev.Seed(t.req.Seed + uint64(pass)) // the same dropouts each time
				l := set.Forward(0, x).Mul(g).Sum()
				if aux := set.Aux(); aux != nil {
					l = l.Add(aux)
				}
				return l
			}
			grads := make([][]float64, len(vars))
			ts := make([]*torch.Tensor, len(vars))
			for i, v := range vars {
				ts[i] = v.t
			}
			for i, d := range torch.GradsOf(loss(), nil, ts...) {
				if d != nil {
					grads[i] = finite("the gradient of "+vars[i].name+", after a random step", d.Doubles())
				}
				got[vars[i].name] = got[vars[i].name] || rms(grads[i]) > 0
			}
			if pass > 0 {
				return
			}
			t.dev.Seed(t.req.Seed + uint64(pass))
			defer set.Hold(0, x)()
			t.dev.NoGrad(func() {
				compare(vars, grads, c, func() float64 {
					v := 0.0
					t.dev.Scope(func() { v = loss().Item() })
					return v
				}, rng.New(t.req.Seed, "conform", "directions"))
			})
		})
	}
	for i, q := range site.Program.Params {
		if set.Params[i].Trainable && !got[q.Name] {
			c.NoGradient = append(c.NoGradient, q.Name)
		}
	}
}

// compare fills in how far gradients are from differences of loss.
func compare(vars []variable, grads [][]float64, c *spec.Conformance, loss func() float64, r rng.Stream) {
	type pair struct{ auto, diff []float64 }
	pairs := make([]pair, len(vars))
	largest := 0.0
	for i, v := range vars {
		n := int(v.t.Numel())
		grad := grads[i]
		if grad == nil {
			grad = make([]float64, n)
		}
		at := v.t.Detach().Clone()
		size := max(rms(at.Doubles()), 1e-3)
		try := func(direction *torch.Tensor, auto float64) {
			slope := func(h float64) float64 {
				step := direction.Scale(h * size)
				v.t.Assign(at.Add(step))
				up := loss()
				v.t.Assign(at.Sub(step))
				return (up - loss()) / (2 * h * size)
			}
			// A longer step is less exact where the function bends, a shorter
			// one where it is large; and none may cross a kink.
			diff := slope(1e-5)
			for _, h := range []float64{1e-4, 1e-6, 1e-7} {
				if math.Abs(diff-auto) <= 1e-7*math.Abs(auto) {
					break
				}
				if d := slope(h); !(math.Abs(diff-auto) <= math.Abs(d-auto)) {
					diff = d
				}
			}
			v.t.Assign(at)
			pairs[i].auto, pairs[i].diff = append(pairs[i].auto, auto), append(pairs[i].diff, diff)
			largest = max(largest, math.Abs(diff))
		}
		d := at.Device()
		d.Scope(func() {
			random := make([]float32, n)
			r.Normal(random, 1/math.Sqrt(float64(n)))
			auto := 0.0
			for j := range grad {
				auto += grad[j] * float64(random[j])
			}
			try(torch.Of(d, random, v.t.Shape()...).To(torch.Float64), auto)
		})
		for _, j := range r.Permutation(n)[:min(n, elements)] {
			d.Scope(func() {
				one := d.Zeros(torch.Float64, int64(n))
				one.Narrow(0, int64(j), 1).Assign(d.Full(1, torch.Float64, 1))
				try(one.Reshape(v.t.Shape()...), grad[j])
			})
		}
	}
	// What is a millionth of the other gradients is lost in their rounding.
	for i, p := range pairs {
		if e := relative(p.auto, p.diff, 1e-6*largest); e > c.Gradient || c.GradientAt == "" {
			c.Gradient, c.GradientAt = e, vars[i].name
		}
	}
}
