package vit

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/design"
)

// The fixtures: a model as transformers wrote it, an input, and what
// transformers makes of it (testdata/make_fixtures.py).
var fixtures = map[string]*spec.Architecture{
	"vit":         {Family: "vit", Dim: 24, Depth: 5, Heads: 3, Mlp: 64, Patch: 8, GridH: 6, GridW: 4, Eps: 1e-12, QkvBias: true},
	"vit_resized": {Family: "vit", Dim: 24, Depth: 2, Heads: 3, Mlp: 64, Patch: 8, GridH: 5, GridW: 5, Eps: 1e-12, QkvBias: true},
	"registers":   {Family: "dinov2", Dim: 24, Depth: 2, Heads: 3, Mlp: 48, Patch: 8, GridH: 5, GridW: 5, Eps: 1e-6, QkvBias: true, Registers: 4},
	"deit":        {Family: "deit", Dim: 24, Depth: 2, Heads: 3, Mlp: 64, Patch: 8, GridH: 5, GridW: 5, Eps: 1e-12, QkvBias: true},
	"dinov2":      {Family: "dinov2", Dim: 24, Depth: 5, Heads: 3, Mlp: 72, Patch: 14, GridH: 5, GridW: 5, Eps: 1e-6, QkvBias: true},
}

func modelFile(name string) string { return filepath.Join("testdata", name, "model.safetensors") }

// onDevice runs fn on a CPU device; fn's errors and panics end the test.
func onDevice(t *testing.T, fn func(dev *torch.Device) error) {
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

func openFixture(t *testing.T, dev *torch.Device, path string) fixture {
	t.Helper()
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return fixture{t, dev, f}
}

func (f fixture) values(name string) []float32 {
	f.t.Helper()
	x, ok := f.file.Get(name)
	if !ok {
		f.t.Fatalf("fixture lacks %s", name)
	}
	v, err := x.Float32()
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

func (f fixture) tensor(name string) *torch.Tensor {
	f.t.Helper()
	x, _ := f.file.Get(name)
	return torch.Of(f.dev, f.values(name), x.Shape...)
}

func difference(t *testing.T, got *torch.Tensor, want []float32) float64 {
	t.Helper()
	g := got.Floats()
	if len(g) != len(want) {
		t.Fatalf("%d values, want %d", len(g), len(want))
	}
	worst := 0.0
	for i := range g {
		d := math.Abs(float64(g[i]) - float64(want[i]))
		if math.IsNaN(d) {
			return math.NaN()
		}
		worst = max(worst, d)
	}
	return worst
}

func near(t *testing.T, what string, got *torch.Tensor, want []float32, tolerance float64) {
	t.Helper()
	if d := difference(t, got, want); !(d <= tolerance) {
		t.Errorf("%s: max |Δ| %.3g, tolerance %.3g", what, d, tolerance)
	}
}

func TestForwardEqualsTransformers(t *testing.T) {
	for name, arch := range fixtures {
		t.Run(name, func(t *testing.T) {
			onDevice(t, func(dev *torch.Device) error {
				m, err := Load(dev, modelFile(name), arch, Options{})
				if err != nil {
					return err
				}
				defer m.Free()
				f := openFixture(t, dev, filepath.Join("testdata", name, "case.safetensors"))
				h := m.Embed(f.tensor("pixel_values"))
				near(t, "embeddings", h, f.values("hidden.0"), 1e-4)
				end := len(m.Blocks) - 1
				for i := range end {
					h = m.Block(i, h)
				}
				near(t, "before the last block", h, f.values(fmt.Sprintf("hidden.%d", end)), 1e-4)
				last := m.Forward(f.tensor("pixel_values"))
				near(t, "last hidden state", last, f.values("last_hidden_state"), 1e-4)

				h = m.Block(end, h)
				skip := int64(m.Prefix())
				patches := last.Narrow(1, skip, last.Dim(1)-skip)
				near(t, "features", m.Features(h), patches.Floats(), 0)
				return nil
			})
		})
	}
}

func TestGradientsEqualTransformers(t *testing.T) {
	for name, arch := range fixtures {
		t.Run(name, func(t *testing.T) {
			onDevice(t, func(dev *torch.Device) error {
				m, err := Load(dev, modelFile(name), arch, Options{Freeze: &spec.Freeze{Kind: spec.Freeze_NONE}})
				if err != nil {
					return err
				}
				defer m.Free()
				f := openFixture(t, dev, filepath.Join("testdata", name, "case.safetensors"))
				m.Forward(f.tensor("pixel_values")).Mul(f.tensor("weights")).Sum().Backward()
				f.gradients(m, 11)
				return nil
			})
		})
	}
}

// gradients compares those of a model with those of the fixture, at least this many.
func (f fixture) gradients(m *Model, least int) {
	grads := map[string]*torch.Tensor{}
	d := int64(m.Arch.Dim)
	for _, p := range m.Params() {
		g := p.T.Grad()
		if g == nil {
			f.t.Errorf("%s: no gradient", p.Name)
			continue
		}
		grads[p.Name] = g
		for i, site := range []string{"query", "key", "value"} {
			if strings.Contains(p.Name, ".qkv.") {
				grads[strings.Replace(p.Name, ".qkv.", "."+site+".", 1)] = g.Narrow(0, int64(i)*d, d)
			}
		}
	}
	checked := 0
	for _, n := range f.file.Names() {
		wanted, ok := strings.CutPrefix(n, "grad.")
		if !ok {
			continue
		}
		if grads[wanted] == nil {
			f.t.Errorf("no parameter %s", wanted)
			continue
		}
		near(f.t, n, grads[wanted], f.values(n), 1e-4)
		checked++
	}
	if checked < least {
		f.t.Errorf("only %d gradients were in the fixture", checked)
	}
}

// With the factors that timm's formula drew, a step is that of PyTorch.
func TestDropPathEqualsTimm(t *testing.T) {
	onDevice(t, func(dev *torch.Device) error {
		m, err := Load(dev, modelFile("dinov2"), fixtures["dinov2"], Options{Freeze: &spec.Freeze{Kind: spec.Freeze_NONE}})
		if err != nil {
			return err
		}
		defer m.Free()
		f := openFixture(t, dev, "testdata/dinov2/drop_path.safetensors")
		factors := f.tensor("factors")
		for i, b := range m.Blocks {
			branch := int64(0)
			b.Drop = func(n int64) *torch.Tensor {
				branch++
				return factors.Select(0, int64(i)).Select(0, branch-1).Reshape(n, 1, 1)
			}
		}
		last := m.Forward(f.tensor("pixel_values"))
		near(t, "last hidden state", last, f.values("last_hidden_state"), 1e-4)
		last.Mul(f.tensor("weights")).Sum().Backward()
		f.gradients(m, 20)
		return nil
	})
}

func TestBfloat16StaysClose(t *testing.T) {
	for _, name := range []string{"vit", "dinov2"} {
		t.Run(name, func(t *testing.T) {
			onDevice(t, func(dev *torch.Device) error {
				m, err := Load(dev, modelFile(name), fixtures[name], Options{Precision: torch.BFloat16})
				if err != nil {
					return err
				}
				defer m.Free()
				f := openFixture(t, dev, filepath.Join("testdata", name, "case.safetensors"))
				last := m.Forward(f.tensor("pixel_values"))
				if last.DType() != torch.Float32 {
					t.Errorf("last hidden state is %v, want float32", last.DType())
				}
				// Values of order 1 through five blocks of products in 8 bits.
				want := f.values("last_hidden_state")
				got := last.Floats()
				var sum float64
				for i := range got {
					sum += math.Pow(float64(got[i]-want[i]), 2)
				}
				if rms := math.Sqrt(sum / float64(len(got))); !(rms < 0.03) || rms == 0 {
					t.Errorf("root mean square difference %.3g to fp32, want a little below 0.03", rms)
				}
				return nil
			})
		})
	}
}

func TestFrozenAndTrainableParts(t *testing.T) {
	of := func(kind spec.Freeze_Kind, blocks ...uint32) *spec.Freeze {
		return &spec.Freeze{Kind: kind, Trainable: blocks}
	}
	cases := []struct {
		name   string
		opt    Options
		params int
		from   int
	}{
		{"nothing trains", Options{Freeze: of(spec.Freeze_ALL)}, 0, 5},
		{"no word on freezing", Options{}, 0, 5},
		{"all train", Options{Freeze: of(spec.Freeze_NONE)}, 4 + 5*12 + 2, -1},
		{"the last block and the norm", Options{Freeze: of(spec.Freeze_BLOCKS, 4)}, 12 + 2, 4},
		{"two blocks, not the last", Options{Freeze: of(spec.Freeze_BLOCKS, 1, 3)}, 24, 1},
		{"the last of those in use", Options{Depth: 3, Freeze: of(spec.Freeze_BLOCKS, 2)}, 12 + 2, 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			onDevice(t, func(dev *torch.Device) error {
				live := dev.Live()
				m, err := Load(dev, modelFile("vit"), fixtures["vit"], c.opt)
				if err != nil {
					return err
				}
				if n := len(m.Params()); n != c.params {
					t.Errorf("%d trainable tensors, want %d", n, c.params)
				}
				if from := m.TrainableFrom(); from != c.from {
					t.Errorf("trains from block %d, want %d", from, c.from)
				}
				f := openFixture(t, dev, "testdata/vit/case.safetensors")
				m.Forward(f.tensor("pixel_values"))
				var trainable int64
				for _, p := range m.Params() {
					trainable += p.T.Numel()
				}
				want := int64(24 + 25*24 + 3*64*24 + 24 + 48)
				want += int64(len(m.Blocks)) * (4*(24*24+24) + 2*24*64 + 24 + 64 + 4*24)
				if got := m.Frozen() + trainable; got != want {
					t.Errorf("%d weights frozen or trainable, want %d in all", got, want)
				}
				if err := m.Free(); err != nil {
					t.Error(err)
				}
				dev.Scope(func() {}) // what Forward returned belongs to Do's scope
				if left := dev.Live() - live; left > 4 {
					t.Errorf("%d tensors outlive the model", left)
				}
				return nil
			})
		})
	}
}

// The engine loads the tensors of the table, all of them, under their names and in
// their order, and reads every tensor of the file that the table says is used.
func TestTensorsAreThoseOfTheTable(t *testing.T) {
	for name, arch := range fixtures {
		t.Run(name, func(t *testing.T) {
			want, err := design.Tensors(arch, int(arch.Depth))
			if err != nil {
				t.Fatal(err)
			}
			onDevice(t, func(dev *torch.Device) error {
				m, err := Load(dev, modelFile(name), arch, Options{Freeze: &spec.Freeze{Kind: spec.Freeze_NONE}})
				if err != nil {
					return err
				}
				defer m.Free()
				f := openFixture(t, dev, modelFile(name))
				got := m.Params()
				if len(got) != len(want) {
					return fmt.Errorf("%d tensors, want %d", len(got), len(want))
				}
				for i, p := range got {
					if p.Name != want[i].Name || !slices.Equal(p.T.Shape(), want[i].Shape) {
						t.Errorf("tensor %d is %s %v, want %s %v", i, p.Name, p.T.Shape(), want[i].Name, want[i].Shape)
					}
					var values []float32
					for _, part := range want[i].Parts {
						values = append(values, f.values(part.Name)...)
					}
					near(t, p.Name, p.T, values, 0)
				}
				return nil
			})
		})
	}
	// Every row is of a form that this package computes.
	for _, kind := range design.Types() {
		row, _ := design.Find(kind)
		if activations[row.MLP.Activation] == nil {
			t.Errorf("%s: the activation %q is not known", kind, row.MLP.Activation)
		}
	}
}

func TestTrainingLeavesTheFileAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.safetensors")
	before, err := os.ReadFile(modelFile("vit"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, before, 0o444); err != nil {
		t.Fatal(err)
	}
	onDevice(t, func(dev *torch.Device) error {
		m, err := Load(dev, path, fixtures["vit"], Options{Freeze: &spec.Freeze{Kind: spec.Freeze_NONE}})
		if err != nil {
			return err
		}
		defer m.Free()
		for _, p := range m.Params() {
			p.T.Assign(p.T.ZerosLike())
		}
		m2, err := Load(dev, path, fixtures["vit"], Options{})
		if err != nil {
			return err
		}
		defer m2.Free()
		f := openFixture(t, dev, "testdata/vit/case.safetensors")
		near(t, "another load", m2.Forward(f.tensor("pixel_values")), f.values("last_hidden_state"), 1e-4)
		return nil
	})
}

// An adapter that does nothing leaves the output as it is, wherever it sits,
// and sees the layer it stands for.
func TestAdaptersSeeTheirLayer(t *testing.T) {
	shapes := map[string][2]int64{
		design.SiteQuery: {24, 24}, design.SiteKey: {24, 24}, design.SiteValue: {24, 24}, SiteQKV: {72, 24},
		design.SiteOutput: {24, 24}, design.SiteFC1: {64, 24}, design.SiteFC2: {24, 64}, design.SiteAttnIn: {24, 24}, design.SiteMLPIn: {24, 24},
	}
	onDevice(t, func(dev *torch.Device) error {
		f := openFixture(t, dev, "testdata/vit/case.safetensors")
		for site, shape := range shapes {
			m, err := Load(dev, modelFile("vit"), fixtures["vit"], Options{})
			if err != nil {
				return err
			}
			calls := 0
			m.Blocks[2].Adapters[site] = func(x *torch.Tensor, base Linear) *torch.Tensor {
				calls++
				if got := x.Shape(); !slices.Equal(got, []int64{2 * 25, shape[1]}) {
					t.Errorf("%s: input %v", site, got)
				}
				if base.W == nil {
					return x
				}
				if got := base.W.Shape(); !slices.Equal(got, shape[:]) {
					t.Errorf("%s: W %v, want %v", site, got, shape)
				}
				return base.Forward(x)
			}
			near(t, site, m.Forward(f.tensor("pixel_values")), f.values("last_hidden_state"), 1e-4)
			if calls != 1 {
				t.Errorf("%s: adapter called %d times", site, calls)
			}
			m.Blocks[2].Adapters[site] = func(x *torch.Tensor, base Linear) *torch.Tensor {
				if base.W == nil {
					return x.Scale(0.5)
				}
				return base.Forward(x).Scale(0.5)
			}
			if d := difference(t, m.Forward(f.tensor("pixel_values")), f.values("last_hidden_state")); d < 1e-2 {
				t.Errorf("%s: an adapter that halves the output changes nothing (%.3g)", site, d)
			}
			if err := m.Free(); err != nil {
				return err
			}
		}

		m, err := Load(dev, modelFile("vit"), fixtures["vit"], Options{})
		if err != nil {
			return err
		}
		defer m.Free()
		m.PatchAdapter = func(x *torch.Tensor, base Linear) *torch.Tensor {
			if got, w := x.Shape(), base.W.Shape(); !slices.Equal(got, []int64{48, 192}) || !slices.Equal(w, []int64{24, 192}) {
				t.Errorf("patch: input %v, W %v", got, w)
			}
			return base.Forward(x)
		}
		near(t, "patch", m.Forward(f.tensor("pixel_values")), f.values("last_hidden_state"), 1e-4)
		return nil
	})
}

func TestPretrainedIsWhatTheFileHolds(t *testing.T) {
	onDevice(t, func(dev *torch.Device) error {
		m, err := Load(dev, modelFile("dinov2"), fixtures["dinov2"], Options{Precision: torch.BFloat16})
		if err != nil {
			return err
		}
		defer m.Free()
		f := openFixture(t, dev, modelFile("dinov2"))
		for site, name := range map[string]string{
			design.SiteQuery: "encoder.layer.3.attention.attention.query", design.SiteOutput: "encoder.layer.3.attention.output.dense",
			design.SiteFC2: "encoder.layer.3.mlp.fc2", design.SitePatch: "embeddings.patch_embeddings.projection",
		} {
			l := m.Pretrained(3, site)
			near(t, site, l.W, f.values(name+".weight"), 0)
			near(t, site, l.B, f.values(name+".bias"), 0)
		}
		return nil
	})
}

// rewrite copies a fixture's tensors through edit into a new file.
func rewrite(t *testing.T, name string, edit func(map[string]safetensors.Tensor)) string {
	t.Helper()
	f, err := safetensors.Open(modelFile(name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all := map[string]safetensors.Tensor{}
	for _, n := range f.Names() {
		all[n], _ = f.Get(n)
	}
	edit(all)
	var out []safetensors.Tensor
	for n, x := range all {
		x.Name = n
		out = append(out, x)
	}
	path := filepath.Join(t.TempDir(), "model.safetensors")
	if err := safetensors.Write(path, out, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadingIsStrict(t *testing.T) {
	path := rewrite(t, "vit", func(all map[string]safetensors.Tensor) {
		delete(all, "encoder.layer.1.attention.attention.key.bias")
		delete(all, "embeddings.cls_token")
		all["encoder.layer.5.layernorm_before.weight"] = all["layernorm.weight"]
		x := all["encoder.layer.2.output.dense.weight"]
		x.Shape = []int64{64, 24}
		all["encoder.layer.2.output.dense.weight"] = x
		ints := all["layernorm.bias"]
		ints.DType = safetensors.I32
		all["layernorm.bias"] = ints
	})
	onDevice(t, func(dev *torch.Device) error {
		_, err := Load(dev, path, fixtures["vit"], Options{})
		var diff *design.MismatchError
		if !errors.As(err, &diff) {
			return fmt.Errorf("got %v, want a *design.MismatchError", err)
		}
		if want := []string{"embeddings.cls_token", "encoder.layer.1.attention.attention.key.bias"}; !slices.Equal(diff.Missing, want) {
			t.Errorf("missing %v, want %v", diff.Missing, want)
		}
		if want := []string{"encoder.layer.5.layernorm_before.weight"}; !slices.Equal(diff.Unexpected, want) {
			t.Errorf("unexpected %v, want %v", diff.Unexpected, want)
		}
		if len(diff.Misshapen) != 2 || diff.Misshapen[0].Name != "encoder.layer.2.output.dense.weight" || diff.Misshapen[1].DType != "I32" {
			t.Errorf("misshapen %+v", diff.Misshapen)
		}
		for _, part := range []string{path, "2 missing", "1 unexpected", "2 misshapen", "[64 24], wanted [24 64]"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("message lacks %q:\n%v", part, err)
			}
		}
		if n := dev.Live(); n != 0 {
			t.Errorf("%d tensors are left of the attempt", n)
		}
		return nil
	})
}

func TestPrefixAndUnusedPartsAreAccepted(t *testing.T) {
	path := rewrite(t, "vit", func(all map[string]safetensors.Tensor) {
		for n, x := range maps.Clone(all) {
			delete(all, n)
			if !strings.HasPrefix(n, "pooler.") {
				all["vit."+n] = x
			}
		}
		all["classifier.weight"] = safetensors.FromFloat32("classifier.weight", make([]float32, 48), 2, 24)
		all["classifier.bias"] = safetensors.FromFloat32("classifier.bias", make([]float32, 2), 2)
	})
	onDevice(t, func(dev *torch.Device) error {
		m, err := Load(dev, path, fixtures["vit"], Options{})
		if err != nil {
			return err
		}
		defer m.Free()
		f := openFixture(t, dev, "testdata/vit/case.safetensors")
		near(t, "last hidden state", m.Forward(f.tensor("pixel_values")), f.values("last_hidden_state"), 1e-4)
		return nil
	})
}

func TestHalfPrecisionFiles(t *testing.T) {
	for _, dt := range []safetensors.DType{safetensors.BF16, safetensors.F16} {
		t.Run(string(dt), func(t *testing.T) {
			path := rewrite(t, "vit", func(all map[string]safetensors.Tensor) {
				for n, x := range all {
					v, err := x.Float32()
					if err != nil {
						t.Fatal(err)
					}
					x.DType, x.Data = dt, make([]byte, 2*len(v))
					for i, f := range v {
						bits := math.Float32bits(f)
						half := uint16(bits >> 16)
						if dt == safetensors.F16 { // cut the mantissa; the values are of order 1
							half = uint16(bits>>16&0x8000) | uint16(max(0, int(bits>>23&0xff)-112)<<10) | uint16(bits>>13&0x3ff)
						}
						x.Data[2*i], x.Data[2*i+1] = byte(half), byte(half>>8)
					}
					all[n] = x
				}
			})
			onDevice(t, func(dev *torch.Device) error {
				m, err := Load(dev, path, fixtures["vit"], Options{})
				if err != nil {
					return err
				}
				defer m.Free()
				f := openFixture(t, dev, "testdata/vit/case.safetensors")
				near(t, "last hidden state", m.Forward(f.tensor("pixel_values")), f.values("last_hidden_state"), 0.2)
				return nil
			})
		})
	}
}

func TestBadOptionsAreRefused(t *testing.T) {
	arch := func(edit func(*spec.Architecture)) *spec.Architecture {
		a := &spec.Architecture{Family: "vit", Dim: 24, Depth: 5, Heads: 3, Mlp: 64, Patch: 8, GridH: 6, GridW: 4, Eps: 1e-12, QkvBias: true}
		edit(a)
		return a
	}
	same := arch(func(*spec.Architecture) {})
	cases := []struct {
		arch *spec.Architecture
		opt  Options
		want string
	}{
		{arch(func(a *spec.Architecture) { a.Family = "swin" }), Options{}, "deit, dinov2, vit"},
		{arch(func(a *spec.Architecture) { a.Heads = 5 }), Options{}, "5 heads do not divide dim 24"},
		{arch(func(a *spec.Architecture) { a.Patch = 0 }), Options{}, "lacks a size"},
		{arch(func(a *spec.Architecture) { a.Registers = 4 }), Options{}, "of the families only dinov2 has any"},
		{same, Options{Depth: 6}, "the backbone has 5 blocks"},
		{same, Options{Depth: 3, Freeze: &spec.Freeze{Kind: spec.Freeze_BLOCKS, Trainable: []uint32{3}}}, "blocks 0 to 2 are in use"},
		{same, Options{Precision: torch.Float64}, "not float32 or bfloat16"},
	}
	onDevice(t, func(dev *torch.Device) error {
		for _, c := range cases {
			if _, err := Load(dev, modelFile("vit"), c.arch, c.opt); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		}
		if _, err := Load(dev, "testdata/none.safetensors", same, Options{}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v, want a missing file", err)
		}
		return nil
	})
}

func TestImageSizeMustFitThePatch(t *testing.T) {
	if _, _, err := Grid(fixtures["dinov2"], 70, 40); err == nil || !strings.Contains(err.Error(), "70×40") {
		t.Errorf("got %v", err)
	}
	dev, err := torch.CPU(1)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	err = dev.Do(func() error {
		m, err := Load(dev, modelFile("vit"), fixtures["vit"], Options{})
		if err != nil {
			return err
		}
		defer m.Free()
		m.Embed(dev.Zeros(torch.Float32, 1, 3, 47, 32))
		return nil
	})
	var op *torch.Error
	if !errors.As(err, &op) || op.Op != "embed" {
		t.Errorf("got %v, want an error of embed", err)
	}
}
