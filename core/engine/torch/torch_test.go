package torch

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

var cpu *Device

func TestMain(m *testing.M) {
	var err error
	if cpu, err = CPU(2); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func do(t *testing.T, fn func()) {
	t.Helper()
	if err := cpu.Do(func() error { fn(); return nil }); err != nil {
		t.Fatal(err)
	}
}

func random(seed uint64, n int) []float64 {
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]float64, n)
	for i := range x {
		x[i] = r.NormFloat64()
	}
	return x
}

func randomTensor(seed uint64, shape ...int64) *Tensor {
	n := int64(1)
	for _, s := range shape {
		n *= s
	}
	return Of(cpu, random(seed, int(n)), shape...)
}

// gradientCases is every differentiable operation of the package, with shapes
// small enough for finite differences.
var gradientCases = []struct {
	name   string
	shapes [][]int64
	fn     func(x []*Tensor) *Tensor
}{
	{"add broadcast", [][]int64{{2, 3}, {3}}, func(x []*Tensor) *Tensor { return x[0].Add(x[1]) }},
	{"sub", [][]int64{{2, 3}, {2, 1}}, func(x []*Tensor) *Tensor { return x[0].Sub(x[1]) }},
	{"mul", [][]int64{{2, 3}, {2, 3}}, func(x []*Tensor) *Tensor { return x[0].Mul(x[1]) }},
	{"div", [][]int64{{2, 3}, {2, 3}}, func(x []*Tensor) *Tensor { return x[0].Div(x[1].Mul(x[1]).AddScalar(1)) }},
	{"neg scale", [][]int64{{4}}, func(x []*Tensor) *Tensor { return x[0].Neg().Scale(1.7) }},
	{"matmul", [][]int64{{2, 3, 4}, {4, 2}}, func(x []*Tensor) *Tensor { return x[0].MatMul(x[1]) }},
	{"einsum", [][]int64{{5, 2, 3}, {2, 4, 2, 3}}, func(x []*Tensor) *Tensor { return Einsum("tin,ijrn->tijr", x...) }},
	{"kron", [][]int64{{2, 2}, {3, 2}}, func(x []*Tensor) *Tensor { return x[0].Kron(x[1]) }},
	{"reshape permute", [][]int64{{2, 3, 4}}, func(x []*Tensor) *Tensor { return x[0].Permute(2, 0, 1).Reshape(8, 3) }},
	{"transpose contiguous", [][]int64{{2, 3}}, func(x []*Tensor) *Tensor { return x[0].T().Contiguous() }},
	{"narrow", [][]int64{{4, 3}}, func(x []*Tensor) *Tensor { return x[0].Narrow(0, 1, 2) }},
	{"select unsqueeze expand", [][]int64{{4, 3}}, func(x []*Tensor) *Tensor { return x[0].Select(0, 2).Unsqueeze(0).Expand(5, -1) }},
	{"cat", [][]int64{{2, 3}, {2, 1}}, func(x []*Tensor) *Tensor { return Cat(1, x...) }},
	{"stack", [][]int64{{2, 3}, {2, 3}}, func(x []*Tensor) *Tensor { return Stack(0, x...) }},
	{"repeat", [][]int64{{2, 3}}, func(x []*Tensor) *Tensor { return x[0].Repeat(2, 2) }},
	{"clone", [][]int64{{2, 3}}, func(x []*Tensor) *Tensor { return x[0].Clone() }},
	{"sum", [][]int64{{2, 3}}, func(x []*Tensor) *Tensor { return x[0].Sum() }},
	{"sum dims", [][]int64{{2, 3, 2}}, func(x []*Tensor) *Tensor { return x[0].SumDims(true, 0, 2) }},
	{"mean", [][]int64{{2, 3}}, func(x []*Tensor) *Tensor { return x[0].Mean() }},
	{"norm", [][]int64{{2, 3}}, func(x []*Tensor) *Tensor { return x[0].Norm(true, 1) }},
	{"sqrt", [][]int64{{4}}, func(x []*Tensor) *Tensor { return x[0].Mul(x[0]).AddScalar(1).Sqrt() }},
	{"exp", [][]int64{{4}}, func(x []*Tensor) *Tensor { return x[0].Exp() }},
	{"sin", [][]int64{{4}}, func(x []*Tensor) *Tensor { return x[0].Sin() }},
	{"sigmoid", [][]int64{{6}}, func(x []*Tensor) *Tensor { return x[0].Scale(3).Sigmoid() }},
	{"tanh", [][]int64{{6}}, func(x []*Tensor) *Tensor { return x[0].Tanh() }},
	{"silu", [][]int64{{6}}, func(x []*Tensor) *Tensor { return x[0].SiLU() }},
	{"log", [][]int64{{6}}, func(x []*Tensor) *Tensor { return x[0].Mul(x[0]).AddScalar(0.5).Log() }},
	{"abs", [][]int64{{6}}, func(x []*Tensor) *Tensor { return x[0].Abs() }},
	{"maximum", [][]int64{{2, 3}, {3}}, func(x []*Tensor) *Tensor { return x[0].Maximum(x[1]) }},
	{"minimum", [][]int64{{2, 1}, {2, 3}}, func(x []*Tensor) *Tensor { return x[0].Minimum(x[1]) }},
	{"where", [][]int64{{3}, {2, 1}}, func(x []*Tensor) *Tensor { return randomTensor(5, 2, 3).Greater(0).Where(x[0], x[1]) }},
	{"max", [][]int64{{2, 3, 2}}, func(x []*Tensor) *Tensor { return x[0].Max(true, 0, 2) }},
	{"min", [][]int64{{2, 3, 2}}, func(x []*Tensor) *Tensor { return x[0].Min(false, 1) }},
	{"mean dims", [][]int64{{2, 3, 2}}, func(x []*Tensor) *Tensor { return x[0].MeanDims(false, 0, 2) }},
	{"layer norm alone", [][]int64{{3, 4}}, func(x []*Tensor) *Tensor { return LayerNorm(x[0], nil, nil, 1e-6) }},
	{"cos", [][]int64{{4}}, func(x []*Tensor) *Tensor { return x[0].Cos() }},
	{"clamp", [][]int64{{6}}, func(x []*Tensor) *Tensor { return x[0].Clamp(-0.5, 0.5) }},
	{"clamp min", [][]int64{{6}}, func(x []*Tensor) *Tensor { return x[0].ClampMin(0.1) }},
	{"solve", [][]int64{{3, 3}, {3, 2}}, func(x []*Tensor) *Tensor {
		return x[0].Add(cpu.Eye(Float64, 3).Scale(4)).Solve(x[1])
	}},
	{"relu", [][]int64{{6}}, func(x []*Tensor) *Tensor { return x[0].ReLU() }},
	{"gelu", [][]int64{{6}}, func(x []*Tensor) *Tensor { return x[0].GELU() }},
	{"softmax", [][]int64{{2, 4}}, func(x []*Tensor) *Tensor { return x[0].Softmax(-1) }},
	{"log softmax", [][]int64{{2, 4}}, func(x []*Tensor) *Tensor { return x[0].LogSoftmax(1) }},
	{"rows", [][]int64{{4, 3}}, func(x []*Tensor) *Tensor { return x[0].Rows(0, Of(cpu, []int64{2, 0, 2}, 3)) }},
	{"gather", [][]int64{{2, 3}}, func(x []*Tensor) *Tensor { return x[0].Gather(1, Of(cpu, []int64{2, 0, 1, 1}, 2, 2)) }},
	{"scatter", [][]int64{{5}, {2}}, func(x []*Tensor) *Tensor { return x[0].Scatter(0, Of(cpu, []int64{4, 1}, 2), x[1]) }},
	{"inverse fft", [][]int64{{3, 4}}, func(x []*Tensor) *Tensor { return x[0].InverseFFT2() }},
	{"linear", [][]int64{{2, 3, 4}, {5, 4}, {5}}, func(x []*Tensor) *Tensor { return Linear(x[0], x[1], x[2]) }},
	{"layer norm", [][]int64{{3, 4}, {4}, {4}}, func(x []*Tensor) *Tensor { return LayerNorm(x[0], x[1], x[2], 1e-6) }},
	{"conv", [][]int64{{1, 2, 4, 3}, {3, 2, 3, 3}, {3}}, func(x []*Tensor) *Tensor { return Conv2d(x[0], x[1], x[2], 1, 1) }},
	{"batch norm", [][]int64{{2, 2, 2, 3}, {2}, {2}}, func(x []*Tensor) *Tensor {
		return BatchNorm(x[0], x[1], x[2], cpu.Zeros(Float64, 2), cpu.Full(1, Float64, 2), true, 0.1, 1e-5)
	}},
	{"bilinear", [][]int64{{1, 2, 3, 2}}, func(x []*Tensor) *Tensor { return x[0].UpsampleBilinear(7, 5) }},
	{"bicubic", [][]int64{{1, 1, 4, 4}}, func(x []*Tensor) *Tensor { return x[0].UpsampleBicubic(6, 5) }},
	{"cross entropy", [][]int64{{2, 3, 2}}, func(x []*Tensor) *Tensor {
		return CrossEntropy(x[0], Of(cpu, []int64{0, 2, 255, 1}, 2, 2), nil, 255, 0)
	}},
	{"attention by products", [][]int64{{1, 2, 3, 4}, {1, 2, 3, 4}, {1, 2, 3, 4}}, func(x []*Tensor) *Tensor {
		return cpu.attention(x[0], x[1], x[2], attentionProducts)
	}},
	{"attention fused", [][]int64{{1, 2, 3, 4}, {1, 2, 3, 4}, {1, 2, 3, 4}}, func(x []*Tensor) *Tensor {
		return cpu.attention(x[0], x[1], x[2], attentionFused)
	}},
	{"low-rank linear", [][]int64{{2, 3, 4}, {2, 4}, {3, 2}, {1, 4}, {2, 1}}, func(x []*Tensor) *Tensor {
		w, b := randomTensor(77, 6, 4), randomTensor(78, 6)
		return LowRankLinear(x[0], w, b, []LowRankPart{
			{A: x[1], B: x[2], Offset: 0, Scale: 0.5}, {A: x[3], B: x[4], Offset: 4, Scale: 2},
		})
	}},
}

// TestGradients compares autograd with central differences, in float64, for
// every operation, against a random direction of the output.
func TestGradients(t *testing.T) {
	for _, c := range gradientCases {
		t.Run(c.name, func(t *testing.T) {
			do(t, func() {
				var values [][]float64
				for i, s := range c.shapes {
					n := int64(1)
					for _, d := range s {
						n *= d
					}
					values = append(values, random(uint64(i+1), int(n)))
				}
				var weight []float64
				eval := func(grad bool) (float64, []*Tensor, *Tensor) {
					var xs []*Tensor
					for i, s := range c.shapes {
						xs = append(xs, Of(cpu, values[i], s...).RequireGrad(grad))
					}
					y := c.fn(xs)
					if weight == nil {
						weight = random(99, int(y.Numel()))
					}
					loss := y.Reshape(-1).Mul(Of(cpu, weight, int64(len(weight)))).Sum()
					return loss.Item(), xs, loss
				}
				_, xs, loss := eval(true)
				for i, g := range GradsOf(loss, nil, xs...) {
					got := g.Doubles()
					for j := range values[i] {
						const h = 1e-5
						was := values[i][j]
						var up, down float64
						values[i][j] = was + h
						cpu.Scope(func() { up, _, _ = eval(false) })
						values[i][j] = was - h
						cpu.Scope(func() { down, _, _ = eval(false) })
						values[i][j] = was
						want := (up - down) / (2 * h)
						if math.Abs(got[j]-want) > 1e-6*(1+math.Abs(want)) {
							t.Errorf("input %d, element %d: autograd %.9g, differences %.9g", i, j, got[j], want)
						}
					}
				}
			})
		})
	}
}

// The low-rank linear in bfloat16 must keep deltas that are far smaller than
// the rounding of the frozen product alone.
func TestLowRankKeepsSmallDeltasInBF16(t *testing.T) {
	do(t, func() {
		const T, in, out, r = 512, 64, 48, 4
		x, w := randomTensor(1, T, in).To(BFloat16), randomTensor(2, out, in).To(BFloat16)
		a, b := randomTensor(3, r, in).To(Float32), randomTensor(4, out, r).Scale(1e-4).To(Float32)
		parts := []LowRankPart{{A: a, B: b, Scale: 1}}
		base := Linear(x, w, nil).To(Float64)
		delta := LowRankLinear(x, w, nil, parts).To(Float64).Sub(base)
		want := LowRankLinear(x.To(Float64), w.To(Float64), nil, []LowRankPart{{A: a.To(Float64), B: b.To(Float64), Scale: 1}}).
			Sub(Linear(x.To(Float64), w.To(Float64), nil))
		// Rounded once, the delta survives on average: its projection on the
		// true one is 1. Added after rounding, it would be near 0.
		projection := delta.Mul(want).Sum().Item() / want.Mul(want).Sum().Item()
		if math.Abs(projection-1) > 0.35 {
			t.Fatalf("the delta's projection on the exact one is %.3f, want about 1", projection)
		}
	})
}

func TestErrorNamesOperationAndShapes(t *testing.T) {
	err := cpu.Do(func() error {
		cpu.Zeros(Float32, 2, 3).MatMul(cpu.Zeros(Float32, 4, 5))
		return nil
	})
	var e *Error
	if !errors.As(err, &e) || e.Op != "matmul" || !strings.HasPrefix(err.Error(), "matmul [2×3] [4×5]: ") {
		t.Fatalf("got %v", err)
	}
	if strings.Contains(err.Error(), "Exception raised") {
		t.Fatalf("libtorch's stack in the message: %v", err)
	}
	for _, bad := range []func(){
		func() { cpu.Zeros(Float32, 2).Reshape(3) },
		func() {
			Attention(cpu.Zeros(Float32, 1, 1, 2, 3), cpu.Zeros(Float32, 1, 1, 2, 4), cpu.Zeros(Float32, 1, 1, 2, 3))
		},
		func() { cpu.Zeros(Float32, 2).Backward() },
		func() { Of(cpu, []float32{1, 2, 3}, 2) },
		func() { x := cpu.Zeros(Float32, 2); x.Free(); x.Neg() },
		func() { panic("not ours") },
	} {
		if err := cpu.Do(func() error { bad(); return nil }); err == nil {
			t.Fatal("no error")
		}
	}
	do(t, func() { // and the process goes on
		if got := cpu.Full(2, Float32, 3).Sum().Item(); got != 6 {
			t.Fatalf("got %v", got)
		}
	})
}

func TestNoGradNestsAndSurvivesPanics(t *testing.T) {
	records := func() bool {
		x := cpu.Zeros(Float32, 1).RequireGrad(true)
		defer func() { _ = recover() }()
		x.Neg().Sum().Backward()
		return true
	}
	_ = cpu.Do(func() error { cpu.NoGrad(func() { panic("x") }); return nil })
	do(t, func() {
		cpu.NoGrad(func() {
			cpu.NoGrad(func() {})
			if records() {
				t.Error("the inner NoGrad switched gradients on")
			}
		})
		if !records() {
			t.Error("gradients stayed off")
		}
	})
}

// model is a small network with all that training touches.
type model struct {
	params []*Tensor
	states []AdamWState
}

func newModel() *model {
	m := &model{}
	for i, s := range [][]int64{{16, 8}, {16}, {4, 16}, {4, 8}, {16, 4}} {
		p := randomTensor(uint64(10+i), s...).Scale(0.3).To(Float32)
		p = p.Clone().Keep().RequireGrad(true)
		m.params = append(m.params, p)
		m.states = append(m.states, AdamWState{p.ZerosLike().Keep(), p.ZerosLike().Keep(), cpu.Zeros(Float32).Keep()})
	}
	return m
}

func (m *model) free() {
	for i, p := range m.params {
		p.Free()
		m.states[i].M.Free()
		m.states[i].V.Free()
		m.states[i].Step.Free()
	}
}

func (m *model) step(i int) (loss float64) {
	cpu.Scope(func() {
		x := randomTensor(uint64(1000+i), 32, 8).To(Float32)
		y := Of(cpu, func() []int64 {
			l := make([]int64, 32)
			for j := range l {
				l[j] = int64((i + j) % 4)
			}
			return l
		}(), 32)
		h := cpu.Yield(func() *Tensor {
			w := randomTensor(5, 16, 8).To(Float32)
			return LowRankLinear(x, w, nil, []LowRankPart{{A: m.params[3], B: m.params[4], Scale: 2}}).
				Add(Linear(x, m.params[0], m.params[1])).GELU().Dropout(0.3)
		})
		l := CrossEntropy(Linear(h, m.params[2], nil), y, nil, 255, 0)
		l.Backward()
		ClipGrads(m.params, 1)
		AdamW(m.params, m.states, nil, 1e-2, 0.9, 0.999, 1e-2, 1e-8)
		DropGrads(m.params)
		loss = l.Item()
	})
	return loss
}

func (m *model) bytes() (all []byte) {
	for i, p := range m.params {
		all = append(all, p.Bytes()...)
		all = append(all, m.states[i].M.Bytes()...)
		all = append(all, m.states[i].V.Bytes()...)
	}
	return all
}

// TestTrainingIsExact: one seed gives one result, and weights, moments and
// generator state saved in the middle and restored give it too.
func TestTrainingIsExact(t *testing.T) {
	run := func(interrupt bool) []byte {
		var out []byte
		do(t, func() {
			m := newModel()
			cpu.Seed(42)
			for i := range 20 {
				m.step(i)
				if interrupt && i == 9 {
					state := cpu.GeneratorState()
					n := newModel()
					for j := range m.params {
						n.params[j].Assign(m.params[j])
						n.states[j].M.Assign(m.states[j].M)
						n.states[j].V.Assign(m.states[j].V)
						n.states[j].Step.Assign(m.states[j].Step)
					}
					m.free()
					cpu.Seed(7)
					cpu.Full(1, Float32, 99).Dropout(0.5)
					cpu.SetGeneratorState(state)
					m = n
				}
			}
			out = m.bytes()
			m.free()
		})
		return out
	}
	first := run(false)
	if !slices.Equal(first, run(false)) {
		t.Error("two runs with one seed differ")
	}
	if !slices.Equal(first, run(true)) {
		t.Error("a run saved and restored in the middle differs")
	}
}

func TestAdamWMatchesFormula(t *testing.T) {
	do(t, func() {
		const lr, b1, b2, wd, eps = 1e-2, 0.9, 0.99, 0.1, 1e-8
		p := Of(cpu, []float64{1, -2}, 2).RequireGrad(true)
		st := AdamWState{p.ZerosLike(), p.ZerosLike(), cpu.Zeros(Float32)}
		x, m, v := []float64{1, -2}, []float64{0, 0}, []float64{0, 0}
		for step := 1.0; step <= 5; step++ {
			p.Mul(p).Mul(p).Sum().Backward()
			AdamW([]*Tensor{p}, []AdamWState{st}, nil, lr, b1, b2, wd, eps)
			DropGrads([]*Tensor{p})
			for i := range x {
				g := 3 * x[i] * x[i]
				x[i] -= lr * wd * x[i]
				m[i] = b1*m[i] + (1-b1)*g
				v[i] = b2*v[i] + (1-b2)*g*g
				x[i] -= lr * (m[i] / (1 - math.Pow(b1, step))) / (math.Sqrt(v[i]/(1-math.Pow(b2, step))) + eps)
			}
			for i, got := range p.Doubles() {
				if math.Abs(got-x[i]) > 1e-7 {
					t.Fatalf("step %v: %v, want %v", step, got, x[i])
				}
			}
		}
	})
}

// TestMemoryIsFlat takes 500 training steps: handles and live bytes stay
// exactly constant, and resident memory has no trend.
func TestMemoryIsFlat(t *testing.T) {
	do(t, func() {
		m := newModel()
		defer m.free()
		for i := range 20 {
			m.step(i)
		}
		live, bytes := cpu.Live(), cpu.LiveBytes()
		var early, late []int
		for i := range 500 {
			m.step(i)
			if cpu.Live() != live || cpu.LiveBytes() != bytes {
				t.Fatalf("step %d: %d handles and %d bytes, at first %d and %d", i, cpu.Live(), cpu.LiveBytes(), live, bytes)
			}
			if i >= 100 && i < 200 {
				early = append(early, rss(t))
			} else if i >= 400 {
				late = append(late, rss(t))
			}
		}
		slices.Sort(early)
		slices.Sort(late)
		if a, b := early[50], late[50]; float64(b) > 1.05*float64(a) {
			t.Fatalf("resident memory grows: median %d kB over steps 100-200, %d kB over steps 400-500", a, b)
		}
	})
}

func rss(t *testing.T) int {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize() / 1024
}

// TestManyGoroutines hammers the device: Do serves everyone in turn, and calls
// from outside are refused without harm.
func TestManyGoroutines(t *testing.T) {
	var kept *Tensor
	do(t, func() { kept = cpu.Full(3, Float32, 4).Keep() })
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 50 {
				if i%2 == 0 {
					func() {
						defer func() {
							e, ok := recover().(*Error)
							if !ok || !errors.Is(e, ErrThread) {
								t.Errorf("a call from outside got %v", e)
							}
						}()
						if i%4 == 0 {
							kept.Neg()
						} else {
							kept.Free()
						}
					}()
					continue
				}
				var sum float64
				err := cpu.Do(func() error {
					sum = cpu.Full(float64(g), Float32, 8).Mul(kept.Narrow(0, 0, 1)).Sum().Item()
					return nil
				})
				if err != nil || sum != float64(24*g) {
					t.Errorf("goroutine %d: %v, %v", g, sum, err)
				}
			}
		})
	}
	wg.Wait()
	do(t, func() { kept.Free() })
}

func TestDoInsideDoIsRefused(t *testing.T) {
	do(t, func() {
		if err := cpu.Do(func() error { return nil }); err == nil {
			t.Error("Do inside Do was let through")
		}
	})
}

func TestAttentionFormsAgree(t *testing.T) {
	do(t, func() {
		q, k, v := randomTensor(1, 2, 3, 5, 8), randomTensor(2, 2, 3, 5, 8), randomTensor(3, 2, 3, 5, 8)
		a, b := cpu.attention(q, k, v, attentionProducts), cpu.attention(q, k, v, attentionFused)
		if d := a.Sub(b).Norm(false, 0, 1, 2, 3).Item(); d > 1e-12 {
			t.Errorf("forms differ by %g", d)
		}
		cpu.ProbeAttention(Float32, 1, 2, 16, 8)
		choice := cpu.Probes()["attention/float32/16/8"]
		if !slices.Contains(attentionNames, choice) {
			t.Errorf("the probe chose %q", choice)
		}
		cpu.SetProbes(map[string]string{"attention/float32/16/8": "fused"})
		cpu.ProbeAttention(Float32, 1, 2, 16, 8)
		if got := cpu.Probes()["attention/float32/16/8"]; got != "fused" {
			t.Errorf("a choice made before was turned into %q", got)
		}
	})
}

func TestRoundTrip(t *testing.T) {
	do(t, func() {
		in := []float32{1, -2, 3.5, 0, 7, 9}
		x := Of(cpu, in, 2, 3)
		if !slices.Equal(x.T().T().Floats(), in) || !slices.Equal(x.To(BFloat16).Floats(), in) {
			t.Error("values moved")
		}
		if got := x.T().Shape(); !slices.Equal(got, []int64{3, 2}) {
			t.Errorf("shape %v", got)
		}
		if got := Of(cpu, []int64{5}).Item(); got != 5 {
			t.Errorf("scalar %v", got)
		}
	})
}

// Left to libtorch, convolutions on a GPU are in TF32.
func TestTF32(t *testing.T) {
	do(t, func() {
		for _, on := range []bool{true, false} {
			cpu.SetTF32(on)
			if products, convolutions := cpu.TF32(); products != on || convolutions != on {
				t.Errorf("set to %v: %v in products, %v in convolutions", on, products, convolutions)
			}
		}
	})
}

// trial-plugins F1, trial-data F14.
func TestLargestGrads(t *testing.T) {
	do(t, func() {
		a, b := Of(cpu, []float32{1, 2}, 2).RequireGrad(true), Of(cpu, []float32{3, 4}, 2).RequireGrad(true)
		c, d := Of(cpu, []float32{5}, 1).RequireGrad(true), Of(cpu, []float32{0}, 1).RequireGrad(true)
		a.Mul(Of(cpu, []float32{-3, 1e-30}, 2)).Sum().Add(b.Scale(0).Sum()).Add(d.Sqrt().Sum()).Backward()
		got := LargestGrads([]*Tensor{a, b, c, d})
		if got[0] != 3 || got[1] != 0 || got[2] != -1 || !math.IsInf(got[3], 1) {
			t.Errorf("got %v", got)
		}
		a.Mul(Of(cpu, []float32{float32(math.NaN()), 1}, 2)).Sum().Backward()
		if got := LargestGrads([]*Tensor{a}); !math.IsNaN(got[0]) {
			t.Errorf("got %v", got)
		}
	})
}

func TestBatchNormOfOneValue(t *testing.T) {
	norm := func(n int64) error {
		return cpu.Do(func() error {
			one := cpu.Full(1, Float32, 2)
			BatchNorm(cpu.Full(1, Float32, n, 2, 1, 1), one, one, one.Clone(), one.Clone(), true, 0.1, 1e-5)
			return nil
		})
	}
	if err := norm(1); err == nil || !strings.Contains(err.Error(), "one value of each channel") {
		t.Errorf("got %v", err)
	}
	if err := norm(2); err != nil {
		t.Error(err)
	}
}
