package vit

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/tensors"
)

// Options say how a backbone is to be used.
type Options struct {
	Depth  int          // first n blocks; 0: all
	Freeze *spec.Freeze // nil: nothing trains
	// Trains, unless nil, says by the name of a Param whether it trains, in
	// place of Freeze.
	Trains    func(name string) bool
	Precision torch.DType // Float32 (also the zero value's meaning) or BFloat16
	// Digest is the SHA-256 that the file must have, "" for any. See Model.Check.
	Digest string
	// Sums knows files that were hashed before; may be nil.
	Sums *filehash.Sums
}

// Param is a trainable tensor of the backbone. Query, key and value are one
// parameter, [3D, D], in that order.
type Param struct {
	Name string
	T    *torch.Tensor
}

// Load reads a backbone from a safetensors file under Hugging Face's names and
// returns a *tensors.MismatchError with every difference if the file is of another
// architecture. It is to be called inside dev.Do; the model is given back with
// Free. Frozen fp32 weights are not read but mapped.
func Load(dev *torch.Device, path string, arch *spec.Architecture, opt Options) (*Model, error) {
	if err := check(arch, opt); err != nil {
		return nil, fmt.Errorf("loading %s: %w", path, err)
	}
	held, err := Hold(path, opt.Digest, opt.Sums)
	if err != nil {
		return nil, err
	}
	file, err := safetensors.Map(held.File())
	if err != nil {
		held.Close()
		return nil, fmt.Errorf("loading backbone: %w", err)
	}
	found, err := tensors.Match(path, file, arch)
	if err != nil {
		file.Close()
		held.Close()
		return nil, err
	}
	m := &Model{
		Arch: arch, dev: dev, file: file, held: held, weights: found, compute: torch.Float32,
		resized: map[[2]int64]*torch.Tensor{},
	}
	if opt.Precision == torch.BFloat16 {
		m.compute = torch.BFloat16
	}
	m.wanted = opt.Trains
	m.build(opt)
	m.forget()
	return m, nil
}

// Hold opens the weight file of a backbone, and hashes it unless known has its
// sum. It is an error if the file has not the digest, unless that is "".
func Hold(path, digest string, known *filehash.Sums) (*filehash.Held, error) {
	held, err := filehash.Hold(path, known)
	if err != nil {
		return nil, fmt.Errorf("reading the backbone: %w", err)
	}
	if sum := held.Sum(); digest != "" && sum != digest {
		held.Close()
		return nil, fmt.Errorf("the backbone %s is not the one of the plan: SHA-256 %s, planned %s", path, sum, digest)
	}
	return held, nil
}

// Check reports whether the file of the model still has the content that it had
// when it was loaded, and had it all the time: frozen weights are mapped from it.
// See filesum.Held.
func (m *Model) Check() error {
	if err := m.held.Check(); err != nil {
		return fmt.Errorf("the backbone: %w", err)
	}
	return nil
}

// forget lets the pages of the file go that were read to make copies, about
// 330 MB of a ViT-B in bf16. Those that are still used come back by themselves.
func (m *Model) forget() {
	page := uintptr(os.Getpagesize())
	for _, t := range m.weights {
		if len(t.Data) == 0 {
			continue
		}
		at := uintptr(unsafe.Pointer(&t.Data[0]))
		skip := (page - at%page) % page
		if n := uintptr(len(t.Data)); n >= skip+page {
			// Advice: refused, it costs memory and nothing else.
			_ = unix.Madvise(t.Data[skip:skip+(n-skip)/page*page], unix.MADV_DONTNEED)
		}
	}
}

func check(a *spec.Architecture, opt Options) error {
	switch {
	case a == nil:
		return errors.New("no architecture given")
	case a.Dim == 0 || a.Depth == 0 || a.Heads == 0 || a.Mlp == 0 || a.Patch == 0 || a.GridH == 0 || a.GridW == 0 || a.Eps <= 0:
		return fmt.Errorf("architecture lacks a size: %v", a)
	case a.Dim%a.Heads != 0:
		return fmt.Errorf("%d heads do not divide dim %d", a.Heads, a.Dim)
	case a.Registers != 0 && a.Family != "dinov2":
		return fmt.Errorf("%d register tokens: of the families only dinov2 has any", a.Registers)
	case opt.Depth < 0 || opt.Depth > int(a.Depth):
		return fmt.Errorf("depth %d: the backbone has %d blocks", opt.Depth, a.Depth)
	}
	switch opt.Precision {
	case 0, torch.Float32, torch.BFloat16:
	default:
		return fmt.Errorf("precision %v is not float32 or bfloat16", opt.Precision)
	}
	depth := opt.Depth
	if depth == 0 {
		depth = int(a.Depth)
	}
	for _, b := range opt.Freeze.GetTrainable() {
		if int(b) >= depth {
			return fmt.Errorf("trainable block %d: blocks 0 to %d are in use", b, depth-1)
		}
	}
	return nil
}

// build makes the tensors. Adapters and freezing decide the form: what trains
// is an fp32 copy, what is frozen has the type it is computed in.
func (m *Model) build(opt Options) {
	a := m.Arch
	n, _ := tensors.Of(a.Family) // Load has matched them
	depth := opt.Depth
	if depth == 0 {
		depth = int(a.Depth)
	}
	all := opt.Freeze.GetKind() == spec.Freeze_NONE
	trainable := func(block int) bool {
		return all || opt.Freeze.GetKind() == spec.Freeze_BLOCKS && slices.Contains(opt.Freeze.GetTrainable(), uint32(block))
	}

	m.cls = m.param(tensors.CLS, all)
	if a.Distilled() {
		m.distillation = m.param(tensors.Distillation, all)
	}
	m.positions = m.param(tensors.Positions, all)
	if a.Registers > 0 {
		m.registers = m.param(tensors.Registers, all)
	}
	// Pixels stay fp32, so the patch embedding does too; it is 1 % of the work.
	m.patch = Linear{
		W: m.tensor(tensors.Patches+".weight", all, torch.Float32, int64(a.Dim), -1, tensors.Patches+".weight"),
		B: m.param(tensors.Patches+".bias", all),
	}
	m.patch.Trains = m.trains(m.patch.W) || m.trains(m.patch.B)
	for i := range depth {
		on := trainable(i)
		name := func(rest string) string { return tensors.Block(i, rest) }
		b := &Block{Adapters: map[string]Adapter{}}
		b.qkv = m.linear(name("attention.attention.qkv"), on, a.QkvBias, name(tensors.Query), name(tensors.Key), name(tensors.Value))
		b.output = m.linear(name(tensors.Output), on, true, name(tensors.Output))
		b.fc1 = m.linear(name(n.FC1), on, true, name(n.FC1))
		b.fc2 = m.linear(name(n.FC2), on, true, name(n.FC2))
		b.norm1 = m.layerNorm(name(n.Norm1), on)
		b.norm2 = m.layerNorm(name(n.Norm2), on)
		if n.Scale1 != "" {
			b.scale1, b.scale2 = m.param(name(n.Scale1), on), m.param(name(n.Scale2), on)
		}
		m.Blocks = append(m.Blocks, b)
	}
	m.norm = m.layerNorm(tensors.Norm, trainable(depth-1))
}

func (m *Model) layerNorm(name string, train bool) layerNorm {
	return layerNorm{w: m.param(name+".weight", train), b: m.param(name+".bias", train), eps: m.Arch.Eps}
}

// linear joins the rows of one or more layers.
func (m *Model) linear(name string, train, bias bool, from ...string) Linear {
	parts := func(suffix string) []string {
		out := make([]string, len(from))
		for i, f := range from {
			out[i] = f + suffix
		}
		return out
	}
	cols := m.weights[from[0]+".weight"].Shape[1]
	w, b := m.decide(name+".weight", train), bias && m.decide(name+".bias", train)
	// Weight and bias of a layer are of one type: if one trains, in fp32.
	frozen := m.compute
	if w || b {
		frozen = torch.Float32
	}
	l := Linear{W: m.tensor(name+".weight", w, frozen, -1, cols, parts(".weight")...), Trains: w || b}
	if bias {
		l.B = m.tensor(name+".bias", b, frozen, -1, 0, parts(".bias")...)
	}
	return l
}

// param is a tensor that is fp32 in every precision.
func (m *Model) param(name string, train bool) *torch.Tensor {
	return m.keep(name, train, func() *torch.Tensor { return m.read(name) }, torch.Float32)
}

// tensor is the join of the named ones along the first dimension, as a matrix
// of cols columns, or as a vector if cols is 0.
func (m *Model) tensor(name string, train bool, frozen torch.DType, rows, cols int64, from ...string) *torch.Tensor {
	return m.keep(name, train, func() *torch.Tensor {
		parts := make([]*torch.Tensor, len(from))
		for i, f := range from {
			parts[i] = m.read(f)
			if !train {
				parts[i] = as(parts[i], frozen)
			}
		}
		t := parts[0]
		if len(parts) > 1 {
			t = torch.Cat(0, parts...)
		}
		if cols != 0 {
			t = t.Reshape(rows, cols)
		}
		return t
	}, frozen)
}

// decide is whether a tensor trains: as its part does, unless Options name it.
func (m *Model) decide(name string, part bool) bool {
	if m.wanted != nil {
		return m.wanted(name)
	}
	return part
}

// keep keeps what make returns: as a leaf of its own memory if it trains, in
// type frozen otherwise.
func (m *Model) keep(name string, train bool, make func() *torch.Tensor, frozen torch.DType) *torch.Tensor {
	train = m.decide(name, train)
	var out *torch.Tensor
	m.dev.NoGrad(func() {
		m.dev.Scope(func() {
			t := make()
			if train {
				// The mapping is read-only, so what the optimiser writes is a copy.
				t = as(t, torch.Float32).Clone()
			} else {
				t = as(t, frozen)
			}
			out = t.Keep()
		})
	})
	m.owned = append(m.owned, out)
	if train {
		out.RequireGrad(true)
		m.params = append(m.params, Param{Name: name, T: out})
	}
	return out
}

// read is a tensor of the file in the type it has there, a view of the mapping
// where that is possible. It lives in the current scope.
func (m *Model) read(name string) *torch.Tensor {
	t := m.weights[name]
	dt := torch.Float32
	switch t.DType {
	case safetensors.BF16:
		dt = torch.BFloat16
	case safetensors.F64:
		dt = torch.Float64
	}
	aligned := len(t.Data) > 0 && uintptr(unsafe.Pointer(&t.Data[0]))%uintptr(t.DType.Size()) == 0
	if t.DType == safetensors.F16 || !aligned {
		values, err := t.Float32()
		if err != nil {
			panic(&torch.Error{Op: "read " + name, Shapes: [][]int64{t.Shape}, Err: err})
		}
		return torch.Of(m.dev, values, t.Shape...)
	}
	return m.dev.View(t.Data, dt, t.Shape...)
}

// Pretrained is the weight and bias (nil without one) of a linear layer as the
// file has them, in fp32: what an adapter is initialised from, whatever
// precision the model computes in. Site is a linear layer of a block, or
// SitePatch. The tensors belong to the current scope.
func (m *Model) Pretrained(block int, site string) Linear {
	n, _ := tensors.Of(m.Arch.Family)
	name := map[string]string{
		SiteQuery: tensors.Query, SiteKey: tensors.Key, SiteValue: tensors.Value, SiteOutput: tensors.Output, SiteFC1: n.FC1, SiteFC2: n.FC2,
	}[site]
	switch {
	case site == SitePatch:
		name = tensors.Patches
	case name == "":
		panic(&torch.Error{Op: "pretrained", Err: fmt.Errorf("%q is no linear layer", site)})
	default:
		name = tensors.Block(block, name)
	}
	w := as(m.read(name+".weight"), torch.Float32)
	l := Linear{W: w.Reshape(w.Dim(0), -1)}
	if _, ok := m.weights[name+".bias"]; ok {
		l.B = as(m.read(name+".bias"), torch.Float32)
	}
	return l
}

// Current is the layer of a site as it is now, in fp32: what trained, or the
// pretrained one (see Pretrained). The tensors belong to the current scope.
func (m *Model) Current(block int, site string) Linear {
	l := m.patch
	if site != SitePatch {
		l = m.Blocks[block].Linear(site)
	}
	if !l.Trains {
		return m.Pretrained(block, site)
	}
	l.W = l.W.Detach()
	if l.B != nil {
		l.B = l.B.Detach()
	}
	return l
}

// Params are the trainable tensors, in a fixed order.
func (m *Model) Params() []Param { return slices.Clone(m.params) }

// TrainableFrom is the first block in use that trains, len(m.Blocks) if only
// the final norm or nothing does, and -1 if the embeddings train as well.
func (m *Model) TrainableFrom() int {
	first := len(m.Blocks)
	for _, p := range m.params {
		var block int
		switch n, _ := fmt.Sscanf(p.Name, "encoder.layer.%d.", &block); {
		case n == 1:
			first = min(first, block)
		case !strings.HasPrefix(p.Name, tensors.Norm+"."): // the embeddings
			return -1
		}
	}
	return first
}

func (m *Model) trains(t *torch.Tensor) bool {
	return slices.ContainsFunc(m.params, func(p Param) bool { return p.T == t })
}

// Frozen is the number of weights in use that take no gradient.
func (m *Model) Frozen() int64 {
	var n int64
	for _, t := range m.owned {
		if !m.trains(t) {
			n += t.Numel()
		}
	}
	return n
}

// Precision that the branches compute in.
func (m *Model) Precision() torch.DType { return m.compute }

// Grid is the number of patches of an image of h × w pixels, or an error if the
// patch does not divide it.
func Grid(a *spec.Architecture, h, w int) (gh, gw int, err error) {
	p := int(a.Patch)
	if h <= 0 || w <= 0 || h%p != 0 || w%p != 0 {
		return 0, 0, fmt.Errorf("image size %d×%d is not a multiple of the patch, %d", h, w, p)
	}
	return h / p, w / p, nil
}

// Prefix is the number of tokens before the patches: CLS, the distillation
// token of DeiT, registers.
func Prefix(a *spec.Architecture) int { return int(a.Placed()) + int(a.Registers) }

// Probe lets the device choose its form of attention for images of h × w.
func (m *Model) Probe(batch, h, w int) error {
	gh, gw, err := Grid(m.Arch, h, w)
	if err != nil {
		return err
	}
	heads := int64(m.Arch.Heads)
	m.dev.ProbeAttention(m.compute, int64(batch), heads, int64(Prefix(m.Arch)+gh*gw), int64(m.Arch.Dim)/heads)
	return nil
}

// Free gives all tensors back and unmaps the file.
func (m *Model) Free() error {
	for _, t := range m.owned {
		t.Free()
	}
	for _, t := range m.resized {
		t.Free()
	}
	m.owned, m.resized, m.params, m.Blocks = nil, nil, nil, nil
	return errors.Join(m.file.Close(), m.held.Close())
}
