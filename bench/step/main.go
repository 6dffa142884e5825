// Command bench-step is loralab's side of the comparison in bench/: the same
// model, batch, starting values and optimiser as peft_step.py, made of the
// engine's own parts, timed step by step. It prints one line of JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/engine/adapter"
	"github.com/loralab/loralab/core/engine/head"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/design"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/plugins/sdk"
)

// As in peft_step.py.
const (
	classes     = 3
	rank, alpha = 16, 16.0
	lr, decay   = 1e-3, 1e-2
	patch       = 16
)

// models are those of peft_step.py.
var models = map[string]*spec.Architecture{
	"s": {Dim: 384, Depth: 12, Heads: 6, Mlp: 1536},
	"b": {Dim: 768, Depth: 12, Heads: 12, Mlp: 3072},
	"l": {Dim: 1024, Depth: 24, Heads: 16, Mlp: 4096},
}

// architecture is a model for images of a size.
func architecture(model string, size int64) (*spec.Architecture, error) {
	a := models[model]
	if a == nil || size < patch || size%patch != 0 {
		return nil, fmt.Errorf("model %q at %d pixels: want s, b or l, and a multiple of %d", model, size, patch)
	}
	a.Family, a.Patch, a.Eps, a.QkvBias = "vit", patch, 1e-12, true
	a.GridH, a.GridW = uint32(size/patch), uint32(size/patch)
	return a, nil
}

type options struct {
	folder, precision, device, model string
	size                             int64
	batch                            int
	steps, warmup, threads, first    int
	attention, upload, optimizer     string
	cache, fuse, late, deterministic bool
}

// How a batch gets to the device.
const (
	uploadOnce     = "once"     // before the first step
	uploadPinned   = "pinned"   // in each step, as the engine does
	uploadPageable = "pageable" // in each step, with a copy that waits
)

// How the weights are updated.
const (
	optimizerFused = "fused"
	optimizerPlain = "plain" // an operation after the other, for each tensor
)

// exhausted is the exit code where the device has no memory for the batch.
const exhausted = 4

type result struct {
	Side       string    `json:"side"`
	Model      string    `json:"model"`
	Size       int64     `json:"size"`
	Batch      int64     `json:"batch"`
	Precision  string    `json:"precision"`
	FirstBlock int       `json:"first_block"`
	Cached     bool      `json:"cached"`
	Device     string    `json:"device"`
	Trainable  int64     `json:"trainable"`
	Median     float64   `json:"ms_median"`
	Min        float64   `json:"ms_min"`
	Millis     []float64 `json:"ms"`
	CPU        float64   `json:"cpu_ms_min"`
	FirstStep  float64   `json:"first_step_s"`
	PeakRSS    float64   `json:"peak_rss_mb"`
	PeakCUDA   float64   `json:"peak_cuda_mb"`
	Losses     []float64 `json:"losses"`

	Probes map[string]string `json:"probes"`
}

func main() {
	var o options
	flag.StringVar(&o.precision, "precision", "fp32", "fp32, bf16, or on a GPU tf32")
	flag.StringVar(&o.device, "device", "cpu", "cpu or cuda")
	flag.StringVar(&o.model, "model", "b", "s, b or l")
	flag.Int64Var(&o.size, "size", 224, "pixels of a side")
	flag.IntVar(&o.batch, "batch", 0, "images in a batch, those of FOLDER again and again; 0: those of FOLDER")
	flag.IntVar(&o.steps, "steps", 5, "timed steps")
	flag.IntVar(&o.warmup, "warmup", 1, "steps before them")
	flag.IntVar(&o.threads, "threads", 2, "threads of operations on the CPU")
	flag.IntVar(&o.first, "first-block", 0, "first block with adapters")
	flag.BoolVar(&o.cache, "cache", true, "compute the input of the first adapted block once, as the engine does")
	flag.BoolVar(&o.fuse, "fuse", true, "query, key, value and their low-rank parts as one product")
	flag.StringVar(&o.attention, "attention", "", "products, fused, and on a GPU flash, efficient or cudnn; empty: whichever a probe finds fastest")
	flag.StringVar(&o.upload, "upload", uploadOnce, "how a batch gets to the device: once, or in each step pinned or pageable")
	flag.StringVar(&o.optimizer, "optimizer", optimizerFused, "fused or plain")
	flag.BoolVar(&o.late, "late", false, "read the loss of a step when the next was begun, and time all steps together, as the engine does on a GPU")
	flag.BoolVar(&o.deterministic, "deterministic", false, "as with train.deterministic")
	flag.Parse()
	known := slices.Contains([]string{"fp32", "bf16", "tf32"}, o.precision) &&
		slices.Contains([]string{uploadOnce, uploadPinned, uploadPageable}, o.upload) &&
		slices.Contains([]string{optimizerFused, optimizerPlain}, o.optimizer)
	if flag.NArg() != 1 || !known || o.steps < 1 || o.warmup < 1 {
		fmt.Fprintln(os.Stderr, "usage: bench-step [flags] FOLDER, where FOLDER is what peft_step.py --prepare made")
		os.Exit(2)
	}
	o.folder = flag.Arg(0)
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench-step:", err)
		if torch.OutOfMemory(err) {
			os.Exit(exhausted)
		}
		os.Exit(1)
	}
}

func run(o options) error {
	dev, err := open(o)
	if err != nil {
		return err
	}
	defer dev.Close()
	r := &result{Side: "loralab", Model: o.model, Size: o.size, Precision: o.precision, FirstBlock: o.first, Device: dev.String()}
	if err := dev.Do(func() error { return train(dev, o, r) }); err != nil {
		return err
	}
	sorted := slices.Sorted(slices.Values(r.Millis))
	r.Min, r.Median = sorted[0], sorted[len(sorted)/2]
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return fmt.Errorf("reading peak memory: %w", err)
	}
	r.PeakRSS = float64(usage.Maxrss) / 1024
	return json.NewEncoder(os.Stdout).Encode(r)
}

func open(o options) (*torch.Device, error) {
	if o.device == "cpu" {
		return torch.CPU(o.threads)
	}
	if n, missing := torch.FindCUDA(); n == 0 {
		return nil, errors.New(missing)
	}
	return torch.CUDA(0)
}

func train(dev *torch.Device, o options, r *result) error {
	arch, err := architecture(o.model, o.size)
	if err != nil {
		return err
	}
	dev.SetTF32(o.precision == "tf32")
	dev.SetDeterministic(o.deterministic)
	size := o.size
	start, err := safetensors.Open(filepath.Join(o.folder, "start.safetensors"))
	if err != nil {
		return err
	}
	defer start.Close()
	read := func(name string) (*torch.Tensor, error) {
		t, ok := start.Get(name)
		if !ok {
			return nil, fmt.Errorf("start.safetensors lacks %s", name)
		}
		dt := torch.Float32
		if t.DType == safetensors.U8 {
			dt = torch.Uint8
		}
		return dev.View(t.Data, dt, t.Shape...), nil
	}
	opt := vit.Options{Freeze: &spec.Freeze{Kind: spec.Freeze_ALL}}
	if o.precision == "bf16" {
		opt.Precision = torch.BFloat16
	}
	m, err := vit.Load(dev, filepath.Join(o.folder, "backbone", "model.safetensors"), arch, opt)
	if err != nil {
		return err
	}
	defer m.Free()
	placed, err := adapted(arch, o.first)
	if err != nil {
		return err
	}
	adapters, err := adapter.Load(dev, m, placed, 1)
	if err != nil {
		return err
	}
	defer adapters.Free()
	h, err := head.New(dev, &spec.Head{Kind: "linear"}, int(arch.Dim), classes, 1)
	if err != nil {
		return err
	}
	defer h.Free()

	var params []*torch.Tensor
	for _, p := range adapters.Params {
		params = append(params, p.T)
		if name, ok := strings.CutSuffix(strings.TrimPrefix(p.Name, "blocks."), ".lora_A"); ok {
			a, err := read(name + ".lora_A")
			if err != nil {
				return err
			}
			p.T.Assign(a)
		}
	}
	for _, p := range h.Params() {
		params = append(params, p.T)
		v, err := read(strings.Replace(p.Name, "classifier", "head", 1))
		if err != nil {
			return err
		}
		p.T.Assign(v)
	}
	states := make([]torch.AdamWState, len(params))
	for i, p := range params {
		r.Trainable += p.Numel()
		states[i] = torch.AdamWState{M: p.ZerosLike(), V: p.ZerosLike(), Step: dev.Zeros(torch.Float32)}
	}
	b, err := readBatch(start, o)
	if err != nil {
		return err
	}
	r.Batch = b.n
	var pixels, labels *torch.Tensor
	if o.upload == uploadOnce {
		pixels, labels = b.upload(dev, uploadPinned)
	}
	if !o.fuse {
		for _, b := range m.Blocks {
			delete(b.Adapters, vit.SiteQKV)
		}
	}
	if o.attention != "" {
		key := fmt.Sprintf("attention/%v/%d/%d", m.Precision(), (size/patch)*(size/patch)+1, arch.Dim/arch.Heads)
		if dev.IsCUDA() {
			key += "/cuda"
		}
		dev.SetProbes(map[string]string{key: o.attention})
	} else if _, err := m.Probe(int(b.n), int(size), int(size)); err != nil {
		return err
	}
	r.Probes = dev.Probes()
	dev.Memory(true) // loading is over

	update := func() {
		if o.optimizer == optimizerPlain {
			dev.NoGrad(func() { plainAdamW(params, states) })
			return
		}
		torch.AdamW(params, states, nil, lr, 0.9, 0.999, decay, 1e-8)
	}
	var prefix *torch.Tensor
	var before *torch.Later // the loss of the step before
	var timed time.Time     // the first step after the warm-up
	for step := range o.warmup + o.steps {
		begin, work := time.Now(), cpu()
		if step == o.warmup {
			timed = begin
		}
		dev.Scope(func() {
			x, y := pixels, labels
			if o.upload != uploadOnce {
				x, y = b.upload(dev, o.upload)
			}
			h0 := prefix
			if h0 == nil {
				dev.NoGrad(func() {
					h0 = m.Embed(x)
					for i := range o.first {
						h0 = m.Block(i, h0)
					}
				})
				if o.cache && o.first > 0 {
					prefix, r.Cached = h0.Keep(), true
				}
			}
			logits := dev.Yield(func() *torch.Tensor {
				x := h0
				for i := o.first; i < len(m.Blocks); i++ {
					x = m.Block(i, x)
				}
				return h.Forward(m.Features(x), size/patch, size/patch, size, size, true)
			})
			loss := torch.CrossEntropySum(logits, y, nil, raster.Ignored, 0).Scale(1 / float64(b.n*size*size))
			torch.DropGrads(params)
			loss.Backward()
			update()
			if !o.late {
				// Reading the loss waits for the device, as loss.item() does there.
				r.Losses = append(r.Losses, loss.Item())
				return
			}
			now := loss.Detach().Reshape(1).Later()
			if before != nil {
				r.Losses = append(r.Losses, before.Read()...)
			}
			before = now
			if step == 0 || step == o.warmup-1 || step == o.warmup+o.steps-1 {
				r.Losses, before = append(r.Losses, before.Read()...), nil
			}
		})
		if step == 0 {
			if r.FirstStep, err = age(); err != nil {
				return err
			}
		}
		if step >= o.warmup {
			r.Millis = append(r.Millis, float64(time.Since(begin).Microseconds())/1000)
			if c := cpu() - work; r.CPU == 0 || c < r.CPU {
				r.CPU = c
			}
		}
	}
	if o.late {
		// Each step ends when the next was begun, so only their sum is known.
		r.Millis = []float64{float64(time.Since(timed).Microseconds()) / 1000 / float64(o.steps)}
	}
	prefix.Free()
	r.PeakCUDA = float64(dev.Memory(false).Peak) / (1 << 20)
	return nil
}

// batch is what each step trains on, in host memory.
type batch struct {
	n, size int64
	pixels  []float32
	labels  []byte
}

// readBatch takes the images of the folder, again and again if more are asked for.
func readBatch(start *safetensors.File, o options) (*batch, error) {
	p, ok := start.Get("pixel_values")
	l, also := start.Get("labels")
	if !ok || !also || len(p.Shape) != 4 || p.Shape[0] == 0 || p.DType != safetensors.F32 || l.DType != safetensors.U8 {
		return nil, errors.New("start.safetensors lacks pixel_values or labels")
	}
	if p.Shape[2] != o.size {
		return nil, fmt.Errorf("the images of %s have %d pixels, -size asks for %d", o.folder, p.Shape[2], o.size)
	}
	b := &batch{n: p.Shape[0], size: o.size}
	if o.batch > 0 {
		b.n = int64(o.batch)
	}
	b.pixels = make([]float32, 3*b.n*b.size*b.size)
	b.labels = make([]byte, b.n*b.size*b.size)
	again(unsafe.Slice((*byte)(unsafe.Pointer(&b.pixels[0])), 4*len(b.pixels)), p.Data)
	again(b.labels, l.Data)
	return b, nil
}

// again fills memory with copies.
func again(to, from []byte) {
	for len(to) > 0 {
		to = to[copy(to, from):]
	}
}

// upload copies the batch to the device.
func (b *batch) upload(dev *torch.Device, how string) (pixels, labels *torch.Tensor) {
	images, masks := []int64{b.n, 3, b.size, b.size}, []int64{b.n, b.size, b.size}
	if how == uploadPageable {
		bytes := unsafe.Slice((*byte)(unsafe.Pointer(&b.pixels[0])), 4*len(b.pixels))
		return dev.View(bytes, torch.Float32, images...), dev.View(b.labels, torch.Uint8, masks...).To(torch.Int64)
	}
	return torch.Of(dev, b.pixels, images...), torch.Of(dev, b.labels, masks...).To(torch.Int64)
}

// plainAdamW computes what torch.AdamW does, without the fused kernel.
func plainAdamW(params []*torch.Tensor, states []torch.AdamWState) {
	const beta1, beta2, eps = 0.9, 0.999, 1e-8
	for i, p := range params {
		g, s := p.Grad(), states[i]
		if g == nil {
			continue
		}
		step := s.Step.AddScalar(1)
		s.Step.Assign(step)
		s.M.Assign(s.M.Scale(beta1).Add(g.Scale(1 - beta1)))
		s.V.Assign(s.V.Scale(beta2).Add(g.Mul(g).Scale(1 - beta2)))
		// 1 - βⁿ, with n on the device.
		m := s.M.Div(step.Scale(math.Log(beta1)).Exp().Neg().AddScalar(1))
		v := s.V.Div(step.Scale(math.Log(beta2)).Exp().Neg().AddScalar(1))
		p.Assign(p.Scale(1 - lr*decay).Sub(m.Scale(lr).Div(v.Sqrt().AddScalar(eps))))
	}
}

// lora is the program of plugins/lora with B and A at zero, which starting values
// replace.
type lora struct{}

func (lora) Build(g *sdk.Graph, s sdk.Site) sdk.Node {
	a, b := g.Param("lora_A", sdk.Dims(rank, s.In), sdk.Zeros), g.Param("lora_B", sdk.Dims(s.Out, rank), sdk.Zeros)
	return g.Add(g.Base(g.X()), g.Scale(alpha/rank, g.MatMul(g.MatMul(g.X(), g.T(a)), g.T(b))))
}

// adapted has it on query, key, value and output of the blocks from first on.
func adapted(arch *spec.Architecture, first int) (*spec.Adapter, error) {
	a := &spec.Adapter{}
	var sites []*protocol.Site
	for block := first; block < int(arch.Depth); block++ {
		for _, name := range []string{design.SiteQuery, design.SiteKey, design.SiteValue, design.SiteOutput} {
			s, _ := design.Site(arch, uint32(block), name)
			a.Placements = append(a.Placements, &spec.Placement{Site: s})
			sites = append(sites, s)
		}
	}
	m := &protocol.Model{Family: arch.Family, Dim: arch.Dim, Depth: arch.Depth, Heads: arch.Heads, Mlp: arch.Mlp}
	build, err := sdk.Programs(context.Background(), lora{}, m, sites)
	a.Programs = build.GetPrograms() // one: the layers are alike
	return a, err
}

// cpu is the milliseconds of processor time that this process has had.
func cpu() float64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e6
}

// age is the seconds since this process was started.
func age() (float64, error) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, fmt.Errorf("reading the start of the process: %w", err)
	}
	uptime, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, fmt.Errorf("reading the time since boot: %w", err)
	}
	// The name in field 2 may hold blanks; what follows its parenthesis does not.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	ticks, err := strconv.ParseFloat(fields[19], 64)
	if err != nil {
		return 0, fmt.Errorf("reading the start of the process: %w", err)
	}
	now, err := strconv.ParseFloat(strings.Fields(string(uptime))[0], 64)
	if err != nil {
		return 0, fmt.Errorf("reading the time since boot: %w", err)
	}
	return now - ticks/100, nil // USER_HZ is 100 on every Linux that Go runs on
}
