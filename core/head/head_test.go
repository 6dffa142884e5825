package head

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/torch"
)

func onDevice(t testing.TB, fn func(dev *torch.Device) error) {
	t.Helper()
	dev, err := torch.CPU(2)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if err := dev.Do(func() error { return fn(dev) }); err != nil {
		t.Fatal(err)
	}
}

type fixture struct {
	t    *testing.T
	dev  *torch.Device
	file *safetensors.File
}

func openFixture(t *testing.T, dev *torch.Device, name string) fixture {
	t.Helper()
	f, err := safetensors.Open("testdata/" + name + ".safetensors")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return fixture{t, dev, f}
}

func (f fixture) tensor(name string) *torch.Tensor {
	f.t.Helper()
	x, ok := f.file.Get(name)
	if !ok {
		f.t.Fatalf("fixture lacks %s", name)
	}
	if x.DType == safetensors.U8 {
		return torch.Of(f.dev, x.Data, x.Shape...)
	}
	v, err := x.Float32()
	if err != nil {
		f.t.Fatal(err)
	}
	return torch.Of(f.dev, v, x.Shape...)
}

func (f fixture) near(what string, got *torch.Tensor, name string, tolerance float64) {
	f.t.Helper()
	g, w := got.Floats(), f.tensor(name).Floats()
	if len(g) != len(w) {
		f.t.Fatalf("%s: %d values, want %d", what, len(g), len(w))
	}
	worst := 0.0
	for i := range g {
		d := math.Abs(float64(g[i]) - float64(w[i]))
		if !(d <= worst) {
			worst = d
		}
	}
	if !(worst <= tolerance) {
		f.t.Errorf("%s: max |Δ| %.3g, tolerance %.3g", what, worst, tolerance)
	}
}

// The reference calls the linear head's layer conv and keeps a 1×1 kernel.
func (f fixture) name(prefix, param string) string {
	return prefix + strings.Replace(param, "classifier.", "conv.", 1)
}

func TestHeadsEqualPyTorch(t *testing.T) {
	for name, cfg := range map[string]*spec.Head{
		"conv":      {Kind: "conv"},
		"conv_norm": {Kind: "conv", Norm: true, Hidden: 12},
		"linear":    {Kind: "linear"},
		// Three taps of 8 channels are what 24 of one block are to a head.
		"conv_norm of taps": {Kind: "conv", Norm: true, Hidden: 12, Taps: []uint32{0, 2, 3}},
		"linear of taps":    {Kind: "linear", Taps: []uint32{0, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			onDevice(t, func(dev *torch.Device) error {
				h, err := New(dev, cfg, 24/levels(cfg), 3, 1)
				if err != nil {
					return err
				}
				defer h.Free()
				file, _, _ := strings.Cut(name, " ")
				f := openFixture(t, dev, file)
				for _, p := range append(h.Params(), h.Buffers()...) {
					p.T.Assign(f.tensor(f.name("init.", p.Name)).Reshape(p.T.Shape()...))
				}
				x := f.tensor("features").RequireGrad(true)
				logits := h.Forward(x, 6, 4, 24, 16, true)
				f.near("logits", logits, "logits", 1e-5)
				loss := torch.CrossEntropy(logits, f.tensor("labels").To(torch.Int64), nil, 255, 0)
				f.near("cross entropy", loss, "cross_entropy", 1e-6)
				loss.Backward()
				f.near("gradient of the features", x.Grad(), "grad.features", 1e-6)
				for _, p := range h.Params() {
					f.near("gradient of "+p.Name, p.T.Grad(), f.name("grad.", p.Name), 1e-6)
				}
				for _, b := range h.Buffers() {
					f.near("after a step "+b.Name, b.T, "after."+b.Name, 1e-5)
				}
				f.near("logits in evaluation", h.Forward(x, 6, 4, 24, 16, false), "logits_eval", 1e-5)
				return nil
			})
		})
	}
}

func TestBfloat16StaysClose(t *testing.T) {
	onDevice(t, func(dev *torch.Device) error {
		h, err := New(dev, &spec.Head{Kind: "conv"}, 24, 3, 1)
		if err != nil {
			return err
		}
		defer h.Free()
		f := openFixture(t, dev, "conv")
		for _, p := range h.Params() {
			p.T.Assign(f.tensor("init." + p.Name))
		}
		h.Precision = torch.BFloat16
		x := f.tensor("features").RequireGrad(true)
		logits := h.Forward(x, 6, 4, 24, 16, true)
		f.near("logits", logits, "logits", 0.05)
		if d := logits.Sub(f.tensor("logits")); d.Mul(d).Sum().Item() == 0 {
			t.Error("nothing was computed in bf16")
		}
		torch.CrossEntropy(logits, f.tensor("labels").To(torch.Int64), nil, 255, 0).Backward()
		for _, p := range h.Params() {
			if dt := p.T.Grad().DType(); dt != torch.Float32 {
				t.Errorf("gradient of %s is %v", p.Name, dt)
			}
			f.near("gradient of "+p.Name, p.T.Grad(), "grad."+p.Name, 0.01)
		}
		return nil
	})
}

func TestCountIsWhatNewMakes(t *testing.T) {
	if n := Count(&spec.Head{Kind: "conv"}, 768, 3); n != 2_655_747 {
		t.Errorf("conv head of ViT-B with 3 classes: %d weights, want 2655747", n)
	}
	if n := Count(&spec.Head{Kind: "linear"}, 768, 3); n != 2307 {
		t.Errorf("linear head of ViT-B with 3 classes: %d weights, want 2307", n)
	}
	onDevice(t, func(dev *torch.Device) error {
		rapid.Check(t, func(t *rapid.T) {
			cfg := &spec.Head{Kind: rapid.SampledFrom([]string{"conv", "linear"}).Draw(t, "kind")}
			if cfg.Kind == "conv" {
				cfg.Norm = rapid.Bool().Draw(t, "norm")
				cfg.Hidden = uint32(rapid.IntRange(0, 9).Draw(t, "hidden"))
			}
			dim, classes := rapid.IntRange(2, 16).Draw(t, "dim"), rapid.IntRange(2, 6).Draw(t, "classes")
			h, err := New(dev, cfg, dim, classes, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Free()
			var n int64
			for _, p := range h.Params() {
				n += p.T.Numel()
			}
			if want := Count(cfg, dim, classes); n != want {
				t.Fatalf("%v, dim %d, %d classes: %d weights, Count says %d", cfg, dim, classes, n, want)
			}
		})
		return nil
	})
}

func TestStartDependsOnTheSeedAlone(t *testing.T) {
	start := func(seed uint64) (values []float32) {
		onDevice(t, func(dev *torch.Device) error {
			h, err := New(dev, &spec.Head{Kind: "conv", Norm: true}, 16, 3, seed)
			if err != nil {
				return err
			}
			defer h.Free()
			for _, p := range h.Params() {
				values = append(values, p.T.Floats()...)
			}
			return nil
		})
		return values
	}
	a := start(1)
	if !slices.Equal(a, start(1)) {
		t.Error("one seed, two starts")
	}
	if slices.Equal(a, start(2)) {
		t.Error("two seeds, one start")
	}
	bound := float32(1 / math.Sqrt(16*9))
	for _, v := range a[:8*16*9] {
		if v < -bound || v > bound {
			t.Fatalf("conv1 starts at %v, beyond ±%v", v, bound)
		}
	}
}

func TestDropoutIsOfTrainingAlone(t *testing.T) {
	onDevice(t, func(dev *torch.Device) error {
		h, err := New(dev, &spec.Head{Kind: "conv", Dropout: 0.5}, 8, 2, 1)
		if err != nil {
			return err
		}
		defer h.Free()
		x := dev.Full(0.3, torch.Float32, 2, 6, 8)
		once := func(train bool) []float32 { return h.Forward(x, 2, 3, 8, 12, train).Floats() }
		dev.Seed(1)
		if slices.Equal(once(true), once(true)) {
			t.Error("dropout drops the same channels twice")
		}
		if !slices.Equal(once(false), once(false)) {
			t.Error("evaluation is random")
		}
		return nil
	})
}

func TestBadHeadsAreRefused(t *testing.T) {
	cases := []struct {
		cfg          *spec.Head
		dim, classes int
		want         string
	}{
		{&spec.Head{Kind: "upernet"}, 24, 3, `"upernet" is not one of conv, linear`},
		{nil, 24, 3, "is not one of conv, linear"},
		{&spec.Head{Kind: "conv"}, 24, 1, "at least 2 classes"},
		{&spec.Head{Kind: "conv"}, 1, 3, "no channels"},
		{&spec.Head{Kind: "conv", Dropout: 1}, 24, 3, "not in [0, 1)"},
		{&spec.Head{Kind: "conv", Dropout: math.NaN()}, 24, 3, "not in [0, 1)"},
		{&spec.Head{Kind: "linear", Norm: true}, 24, 3, "takes no hidden"},
	}
	for _, c := range cases {
		if err := Check(c.cfg, c.dim, c.classes); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: got %v, want an error with %q", c.cfg, err, c.want)
		}
	}
}

// The conv head of ViT-B and of DINOv2-small as the default experiment runs it.
func BenchmarkForwardBackward(b *testing.B) {
	for _, c := range []struct{ dim, grid int64 }{{768, 14}, {384, 18}} {
		b.Run(fmt.Sprintf("dim%d", c.dim), func(b *testing.B) {
			onDevice(b, func(dev *torch.Device) error {
				h, err := New(dev, &spec.Head{Kind: "conv"}, int(c.dim), 3, 1)
				if err != nil {
					return err
				}
				defer h.Free()
				x := dev.Full(0.5, torch.Float32, 8, c.grid*c.grid, c.dim).RequireGrad(true)
				y := torch.Of(dev, make([]int64, 8*224*224), 8, 224, 224)
				for b.Loop() {
					dev.Scope(func() { torch.CrossEntropy(h.Forward(x, c.grid, c.grid, 224, 224, true), y, nil, 255, 0).Backward() })
				}
				return nil
			})
		})
	}
}
