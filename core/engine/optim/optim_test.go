package optim

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/spec"
)

func TestFactorAtKnownSteps(t *testing.T) {
	cosine := &spec.Schedule{Kind: "cosine", Warmup: 0.1, Floor: 0.2}
	linear := &spec.Schedule{Kind: "linear"}
	for _, c := range []struct {
		s           *spec.Schedule
		step, total int
		want        float64
	}{
		{cosine, 0, 100, 0.1}, // the first update moves: no step at rate 0
		{cosine, 9, 100, 1},
		{cosine, 10, 100, 1},
		{cosine, 55, 100, 0.6}, // half way: the middle of 1 and the floor
		{linear, 0, 10, 1},
		{linear, 5, 10, 0.5},
		{&spec.Schedule{Kind: "constant", Warmup: 0.5}, 0, 4, 0.5},
		{&spec.Schedule{Kind: "constant"}, 3, 4, 1},
		{&spec.Schedule{Kind: "linear", WarmupSteps: 4}, 2, 8, 0.75},
		{&spec.Schedule{Kind: "linear", WarmupSteps: 4}, 4, 8, 1},
		{&spec.Schedule{Kind: "linear", WarmupSteps: 4}, 6, 8, 0.5},
		{&spec.Schedule{Kind: "trapezoid", WarmupSteps: 4, Decay: 0.25, Lagging: true}, 3, 8, 0.5},
	} {
		if got := Factor(c.s, c.step, c.total); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%v at step %d of %d: %g, want %g", c.s, c.step, c.total, got, c.want)
		}
	}
}

// Whatever the settings, rates rise through the warm-up, never rise after it,
// and stay between 0 (not reached) or the floor and 1.
func TestFactorRisesThenFalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &spec.Schedule{
			Kind:   rapid.SampledFrom([]string{"constant", "linear", "cosine"}).Draw(t, "kind"),
			Warmup: rapid.Float64Range(0, 1).Draw(t, "warmup"),
			Floor:  rapid.Float64Range(0, 1).Draw(t, "floor"),
		}
		total := rapid.IntRange(1, 200).Draw(t, "total")
		warm := int(math.Round(s.Warmup * float64(total)))
		before := 0.0
		for step := range total {
			f := Factor(s, step, total)
			if !(f > 0 || s.Floor == 0 && f >= 0) || f > 1+1e-12 {
				t.Fatalf("step %d: %g", step, f)
			}
			switch {
			case step < warm && f <= before:
				t.Fatalf("warm-up falls at step %d", step)
			case step > warm && f > before+1e-12:
				t.Fatalf("rises after the warm-up at step %d", step)
			case step >= warm && f < s.Floor-1e-12 && s.Kind != "constant":
				t.Fatalf("below the floor at step %d", step)
			}
			before = f
		}
	})
}

func config() *spec.Optim {
	return &spec.Optim{Kind: "adamw", Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, ClipNorm: 1}
}

func TestGroupsHaveTheirOwnRates(t *testing.T) {
	dev, err := torch.CPU(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	err = dev.Do(func() error {
		leaf := func() *torch.Tensor { return dev.Full(1, torch.Float32, 3).RequireGrad(true) }
		a, b, frozen := leaf(), leaf(), leaf()
		o, err := New(dev, config(), []Group{
			{Name: "a", LR: 1e-2, Params: []Param{{"a", a}}},
			{Name: "b", LR: 1e-3, Decay: 0.5, Params: []Param{{"b", b}}},
			{Name: "none", LR: 1},
			{Name: "off", LR: 0, Params: []Param{{"frozen", frozen}}},
		})
		if err != nil {
			return err
		}
		defer o.Free()
		a.Sum().Add(b.Sum()).Add(frozen.Sum()).Backward()
		if norm, ok := o.Step(0.5); !ok || math.Abs(norm-3) > 1e-6 { // √9 ones, before clipping
			t.Errorf("norm %g", norm)
		}
		// AdamW's first step has length lr; decay comes on top.
		for name, c := range map[string]struct {
			t    *torch.Tensor
			want float64
		}{"a": {a, 1 - 0.005}, "b": {b, 1*(1-0.0005*0.5) - 0.0005}, "rate 0": {frozen, 1}} {
			if got := c.t.Doubles()[0]; math.Abs(got-c.want) > 1e-6 {
				t.Errorf("%s: %g, want %g", name, got, c.want)
			}
		}
		if a.Grad() != nil {
			t.Error("a gradient stayed")
		}
		if n := len(o.State()); n != 9 {
			t.Errorf("%d tensors of state", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAParameterBelongsToOneGroup(t *testing.T) {
	dev, err := torch.CPU(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	err = dev.Do(func() error {
		x := dev.Zeros(torch.Float32, 1)
		_, err := New(dev, config(), []Group{{Name: "a", Params: []Param{{"x", x}}}, {Name: "b", Params: []Param{{"x", x}}}})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "group a and in group b") {
		t.Errorf("got %v", err)
	}
}

func TestMoreSchedules(t *testing.T) {
	step := &spec.Schedule{Kind: "step", Milestones: []float64{0.5, 0.75}, Gamma: 0.1}
	poly := &spec.Schedule{Kind: "polynomial", Power: 2, Floor: 0.1}
	trapezoid := &spec.Schedule{Kind: "trapezoid", Warmup: 0.1, Decay: 0.2}
	lagging := &spec.Schedule{Kind: "trapezoid", Warmup: 0.05, Decay: 0.2, Lagging: true}
	for _, c := range []struct {
		s           *spec.Schedule
		step, total int
		want        float64
	}{
		{step, 49, 100, 1},
		{step, 50, 100, 0.1},
		{step, 99, 100, 0.01},
		{poly, 0, 100, 1},
		{poly, 50, 100, 0.1 + 0.9*0.25},
		{trapezoid, 0, 100, 0.1},
		{trapezoid, 50, 100, 1},
		{trapezoid, 80, 100, 1},
		{trapezoid, 90, 100, 0.5},
		{trapezoid, 99, 100, 0.05},
		// As the original: W = 5, D = 20, and one update behind.
		{lagging, 0, 100, 0},
		{lagging, 1, 100, 0},
		{lagging, 2, 100, 0.2},
		{lagging, 6, 100, 1},
		{lagging, 80, 100, 1},
		{lagging, 91, 100, 0.5},
		{lagging, 99, 100, 0.1},
	} {
		if err := CheckSchedule(c.s); err != nil {
			t.Error(err)
		}
		if got := Factor(c.s, c.step, c.total); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v at step %d of %d: %g, want %g", c.s, c.step, c.total, got, c.want)
		}
	}
	for want, s := range map[string]*spec.Schedule{
		"unknown schedule":     {Kind: "sawtooth"},
		"want a positive":      {Kind: "polynomial"},
		"rising fractions":     {Kind: "step", Milestones: []float64{0.7, 0.2}, Gamma: 0.1},
		"add up to 1 at most":  {Kind: "trapezoid", Warmup: 0.5, Decay: 0.6},
		"want one of constant": {Kind: ""},
	} {
		if err := CheckSchedule(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// Every optimiser follows its formula, written out in float64.
func TestOptimisersFollowTheirFormulas(t *testing.T) {
	const lr, decay, steps = 0.1, 0.05, 6
	start := []float64{1, -2, 0.5}
	gradient := func(x []float64, step int) []float64 { // of Σ x²·(step+1)/2
		g := make([]float64, len(x))
		for i, v := range x {
			g[i] = v * float64(step+1)
		}
		return g
	}
	sgd := func(momentum float64, nesterov bool) func() []float64 {
		return func() []float64 {
			x, b := append([]float64{}, start...), make([]float64, 3)
			for s := range steps {
				for i, g := range gradient(x, s) {
					g += decay * x[i]
					b[i] = momentum*b[i] + g
					if nesterov {
						x[i] -= lr * (g + momentum*b[i])
					} else {
						x[i] -= lr * b[i]
					}
				}
			}
			return x
		}
	}
	adam := func(decoupled bool) func() []float64 {
		return func() []float64 {
			x, m, v := append([]float64{}, start...), make([]float64, 3), make([]float64, 3)
			for s := range steps {
				for i, g := range gradient(x, s) {
					if decoupled {
						x[i] *= 1 - lr*decay
					} else {
						g += decay * x[i]
					}
					m[i], v[i] = 0.9*m[i]+0.1*g, 0.999*v[i]+0.001*g*g
					n := float64(s + 1)
					x[i] -= lr * m[i] / (1 - math.Pow(0.9, n)) / (math.Sqrt(v[i]/(1-math.Pow(0.999, n))) + 1e-8)
				}
			}
			return x
		}
	}
	dev, err := torch.CPU(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	for name, c := range map[string]struct {
		cfg  *spec.Optim
		want func() []float64
	}{
		"adamw":    {&spec.Optim{Kind: "adamw", Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}, adam(true)},
		"adam":     {&spec.Optim{Kind: "adam", Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}, adam(false)},
		"sgd":      {&spec.Optim{Kind: "sgd"}, sgd(0, false)},
		"momentum": {&spec.Optim{Kind: "sgd", Momentum: 0.9}, sgd(0.9, false)},
		"nesterov": {&spec.Optim{Kind: "sgd", Momentum: 0.9, Nesterov: true}, sgd(0.9, true)},
	} {
		err := dev.Do(func() error {
			x := torch.Of(dev, start, 3).To(torch.Float32).RequireGrad(true)
			o, err := New(dev, c.cfg, []Group{{Name: "x", LR: lr, Decay: decay, Params: []Param{{"x", x}}}})
			if err != nil {
				return err
			}
			defer o.Free()
			for s := range steps {
				x.Mul(x).Sum().Scale(float64(s+1) / 2).Backward()
				o.Step(1)
			}
			for i, want := range c.want() {
				if got := x.Doubles()[i]; math.Abs(got-want) > 1e-5 {
					t.Errorf("%s: element %d is %g, want %g", name, i, got, want)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A warm-up of W steps is ahead of LinearLR from a factor of 1e-6, that of PyTorch and
// that of mmsegmentation, by at most 1/W.
func TestWarmupIsNearLinearLR(t *testing.T) {
	for _, w := range []int{2, 10, 1500} {
		s := &spec.Schedule{Kind: "constant", WarmupSteps: uint32(w)}
		for step := range w + 2 {
			for name, over := range map[string]int{"PyTorch": w, "mmsegmentation": w - 1} {
				linear := min(1, 1e-6+(1-1e-6)*float64(step)/float64(over))
				if d := Factor(s, step, 10*w) - linear; d < -1e-6 || d > 1/float64(w)+1e-12 {
					t.Errorf("step %d of a warm-up of %d: %g more than LinearLR of %s", step, w, d, name)
				}
			}
		}
	}
}
