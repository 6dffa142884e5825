package head

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/head/design"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
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

// tensor panics without the tensor, which ends Device.Do with an error. Fatal
// would end the device's goroutine, and nobody would hear of it.
func (f fixture) tensor(name string) *torch.Tensor {
	x, ok := f.file.Get(name)
	if !ok {
		panic("the fixture lacks " + name)
	}
	if x.DType == safetensors.U8 {
		return torch.Of(f.dev, x.Data, x.Shape...)
	}
	v, err := x.Float32()
	if err != nil {
		panic(err)
	}
	return torch.Of(f.dev, v, x.Shape...)
}

// near holds a tensor against one of the fixture, to a part of its largest value.
// What is nothing but rounding, as gradients of biases before BatchNorm are, is
// held as if it were a hundredth.
func (f fixture) near(what string, got *torch.Tensor, name string, tolerance float64) {
	f.t.Helper()
	g, w := got.Floats(), f.tensor(name).Floats()
	if len(g) != len(w) {
		f.t.Errorf("%s: %d values, want %d", what, len(g), len(w))
		return
	}
	worst, largest := 0.0, 1e-2
	for i := range g {
		largest = max(largest, math.Abs(float64(w[i])))
		d := math.Abs(float64(g[i]) - float64(w[i]))
		if !(d <= worst) {
			worst = d
		}
	}
	if !(worst <= tolerance*largest) {
		f.t.Errorf("%s: max |Δ| %.3g of %.3g, tolerance %.3g of it", what, worst, largest, tolerance)
	}
}

// cases are heads of testdata; three taps of 8 channels are what 24 of one block
// are to a head.
var cases = []struct {
	file   string
	cfg    *spec.Head
	gh, gw int64
}{
	{"conv", &spec.Head{Kind: "conv"}, 6, 4},
	{"conv_norm", &spec.Head{Kind: "conv", Norm: true, Hidden: 12}, 6, 4},
	{"conv_norm", &spec.Head{Kind: "conv", Norm: true, Hidden: 12, Taps: []uint32{0, 2, 3}}, 6, 4},
	{"linear", &spec.Head{Kind: "linear"}, 6, 4},
	{"linear", &spec.Head{Kind: "linear", Taps: []uint32{0, 2, 3}}, 6, 4},
	{"linear_norm", &spec.Head{Kind: "linear", Norm: true}, 6, 4},
	{"linear_norm", &spec.Head{Kind: "linear", Norm: true, Taps: []uint32{0, 2, 3}}, 6, 4},
	{"segmenter", &spec.Head{Kind: "segmenter", Layers: 2, Heads: 2, Width: 16}, 6, 4},
	{"segmenter", &spec.Head{Kind: "segmenter", Layers: 2, Heads: 2, Width: 16, Taps: []uint32{0, 2, 3}}, 6, 4},
	{"segmenter_two", &spec.Head{Kind: "segmenter", Layers: 1, Heads: 3}, 6, 4}, // two classes, one image
	{"segmenter_150", &spec.Head{Kind: "segmenter", Layers: 1, Width: 8}, 2, 3}, // 150 classes
	{"setr_pup", &spec.Head{Kind: "setr_pup", Norm: true, Hidden: 6, Stages: 2}, 6, 4},
	{"setr_pup", &spec.Head{Kind: "setr_pup", Norm: true, Hidden: 6, Stages: 2, Taps: []uint32{0, 2, 3}}, 6, 4},
	{"setr_pup_plain", &spec.Head{Kind: "setr_pup", Hidden: 5, Stages: 1}, 3, 5}, // two classes, one image
}

// eachCase runs fn for each case with the head as the fixture starts it.
func eachCase(t *testing.T, fn func(f fixture, h *Head, forward func(x *torch.Tensor, train bool) *torch.Tensor)) {
	for _, c := range cases {
		t.Run(fmt.Sprint(c.file, c.cfg.Taps), func(t *testing.T) {
			onDevice(t, func(dev *torch.Device) error {
				f := openFixture(t, dev, c.file)
				logits := f.tensor("logits").Shape()
				h, err := New(dev, c.cfg, 24/max(1, len(c.cfg.Taps)), int(logits[1]), 1)
				if err != nil {
					return err
				}
				defer h.Free()
				for _, p := range append(h.Params(), h.Buffers()...) {
					p.T.Assign(f.tensor("init." + p.Name).Reshape(p.T.Shape()...))
				}
				fn(f, h, func(x *torch.Tensor, train bool) *torch.Tensor {
					return h.Forward(x, c.gh, c.gw, logits[2], logits[3], train)
				})
				return nil
			})
		})
	}
}

func (f fixture) crossEntropy(logits *torch.Tensor) *torch.Tensor {
	return torch.CrossEntropy(logits, f.tensor("labels").To(torch.Int64), nil, 255, 0)
}

func TestHeadsEqualPyTorch(t *testing.T) {
	eachCase(t, func(f fixture, h *Head, forward func(*torch.Tensor, bool) *torch.Tensor) {
		x := f.tensor("features").RequireGrad(true)
		logits := forward(x, true)
		f.near("logits", logits, "logits", 1e-5)
		loss := f.crossEntropy(logits)
		f.near("cross entropy", loss, "cross_entropy", 1e-6)
		loss.Backward()
		f.near("gradient of the features", x.Grad(), "grad.features", 1e-5)
		for _, p := range h.Params() {
			f.near("gradient of "+p.Name, p.T.Grad(), "grad."+p.Name, 1e-5)
		}
		for _, b := range h.Buffers() {
			f.near("after a step "+b.Name, b.T, "after."+b.Name, 1e-5)
		}
		f.near("logits in evaluation", forward(x, false), "logits_eval", 1e-5)
	})
}

func TestBfloat16StaysClose(t *testing.T) {
	eachCase(t, func(f fixture, h *Head, forward func(*torch.Tensor, bool) *torch.Tensor) {
		h.Precision = torch.BFloat16
		x := f.tensor("features").RequireGrad(true)
		logits := forward(x, true)
		if logits.DType() != torch.Float32 {
			f.t.Errorf("logits are %v", logits.DType())
		}
		f.near("logits", logits, "logits", 0.05)
		exact := logits.Sub(f.tensor("logits")).Norm(false, 0, 1, 2, 3).Item() < 1e-5
		if linear := h.cfg.Kind == "linear"; exact != linear { // which has no large product
			f.t.Errorf("computed in bf16: %v", !exact)
		}
		f.crossEntropy(logits).Backward()
		for _, p := range h.Params() {
			if dt := p.T.Grad().DType(); dt != torch.Float32 {
				f.t.Errorf("gradient of %s is %v", p.Name, dt)
			}
			f.near("gradient of "+p.Name, p.T.Grad(), "grad."+p.Name, 0.1)
		}
	})
}

// anyHead is a head of any kind, small.
func anyHead(t *rapid.T) (cfg *spec.Head, dim, classes int) {
	cfg = &spec.Head{
		Kind:   rapid.SampledFrom(design.Kinds()).Draw(t, "kind"),
		Norm:   rapid.Bool().Draw(t, "norm"),
		Hidden: uint32(rapid.IntRange(0, 9).Draw(t, "hidden")),
		Layers: uint32(rapid.IntRange(1, 2).Draw(t, "layers")),
		Stages: uint32(rapid.IntRange(1, 3).Draw(t, "stages")),
		Width:  uint32(rapid.SampledFrom([]int{0, 4, 130}).Draw(t, "width")),
		Taps:   rapid.SampledFrom([][]uint32{nil, {0, 3}}).Draw(t, "taps"),
	}
	design.Prune(cfg)
	return cfg, rapid.IntRange(2, 16).Draw(t, "dim"), rapid.IntRange(2, 6).Draw(t, "classes")
}

// Whatever the kind, any grid becomes an image of any size.
func TestShapesOfLogits(t *testing.T) {
	onDevice(t, func(dev *torch.Device) error {
		rapid.Check(t, func(t *rapid.T) {
			cfg, dim, classes := anyHead(t)
			size := rapid.Int64Range(1, 5)
			n, gh, gw, height, width := size.Draw(t, "n"), size.Draw(t, "gh"), size.Draw(t, "gw"), size.Draw(t, "height"), size.Draw(t, "width")
			dev.Scope(func() {
				h, err := New(dev, cfg, dim, classes, 1)
				if err != nil {
					t.Error(err)
					return
				}
				defer h.Free()
				features := dev.Full(0.5, torch.Float32, n, gh*gw, int64(dim*max(1, len(cfg.Taps))))
				logits := h.Forward(features, gh, gw, height, width, false)
				if want := []int64{n, int64(classes), height, width}; !slices.Equal(logits.Shape(), want) {
					t.Errorf("logits are %v, want %v", logits.Shape(), want)
				}
				for _, v := range logits.Floats() {
					if math.IsNaN(float64(v)) {
						t.Error("a logit is not a number")
						return
					}
				}
			})
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
	for _, kind := range design.TakenBy("dropout") {
		t.Run(kind, func(t *testing.T) {
			onDevice(t, func(dev *torch.Device) error {
				cfg := &spec.Head{Kind: kind, Dropout: 0.5, Layers: 1, Stages: 1}
				design.Prune(cfg)
				h, err := New(dev, cfg, 8, 3, 1)
				if err != nil {
					return err
				}
				defer h.Free()
				values := make([]float32, 2*6*8)
				rng.New(1, "features").Normal(values, 1)
				x := torch.Of(dev, values, 2, 6, 8)
				once := func(train bool) []float32 { return h.Forward(x, 2, 3, 8, 12, train).Floats() }
				dev.Seed(1)
				first := once(true)
				if slices.Equal(first, once(true)) {
					t.Error("dropout drops the same twice")
				}
				dev.Seed(1)
				if !slices.Equal(first, once(true)) {
					t.Error("dropout draws from elsewhere than the device's generator, so no run can be resumed")
				}
				if !slices.Equal(once(false), once(false)) {
					t.Error("evaluation is random")
				}
				return nil
			})
		})
	}
}

func TestEveryDesignIsComputed(t *testing.T) {
	for _, kind := range design.Kinds() {
		if forwards[kind] == nil {
			t.Errorf("head %s has a design, and nothing computes it", kind)
		}
	}
	if len(forwards) != len(design.Kinds()) {
		t.Errorf("%d heads are computed, %d have a design", len(forwards), len(design.Kinds()))
	}
}

// All heads with the features of DINOv2-small, as the default experiment has
// them, and of ViT-B.
func BenchmarkForwardBackward(b *testing.B) {
	for _, c := range []struct{ dim, grid int64 }{{384, 18}, {768, 14}} {
		for _, kind := range design.Kinds() {
			b.Run(fmt.Sprint(kind, "/dim", c.dim), func(b *testing.B) {
				onDevice(b, func(dev *torch.Device) error {
					cfg := &spec.Head{Kind: kind, Norm: true, Dropout: 0.1, Layers: 2, Stages: 2}
					design.Prune(cfg)
					h, err := New(dev, cfg, int(c.dim), 3, 1)
					if err != nil {
						return err
					}
					defer h.Free()
					x := dev.Full(0.5, torch.Float32, 8, c.grid*c.grid, c.dim)
					y := torch.Of(dev, make([]int64, 8*224*224), 8, 224, 224)
					for b.Loop() {
						dev.Scope(func() { torch.CrossEntropy(h.Forward(x, c.grid, c.grid, 224, 224, true), y, nil, 255, 0).Backward() })
					}
					return nil
				})
			})
		}
	}
}
