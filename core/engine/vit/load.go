package vit

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/design"
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

	block int // as in design.Tensor
}

// Load reads a backbone from a safetensors file under Hugging Face's names and
// returns a *design.MismatchError with every difference if the file is of another
// architecture. It is to be called inside dev.Do; the model is given back with
// Free. Frozen fp32 weights are not read but mapped.
func Load(dev *torch.Device, path string, arch *spec.Architecture, opt Options) (*Model, error) {
	row, err := check(arch, opt)
	if err != nil {
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
	found, err := design.Match(path, file, arch)
	if err != nil {
		file.Close()
		held.Close()
		return nil, err
	}
	m := &Model{
		Arch: arch, row: row, dev: dev, file: file, held: held, weights: found, compute: torch.Float32,
		activation: activations[row.MLP.Activation], resized: map[[2]int64]*torch.Tensor{},
	}
	if opt.Precision == torch.BFloat16 {
		m.compute = torch.BFloat16
	}
	if err := m.build(opt); err != nil {
		return nil, errors.Join(err, m.Free())
	}
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
// See filehash.Held.
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

// activations by the names that transformers has for them.
var activations = map[string]func(*torch.Tensor) *torch.Tensor{"gelu": (*torch.Tensor).GELU}

func check(a *spec.Architecture, opt Options) (*design.Row, error) {
	if a == nil {
		return nil, errors.New("no architecture given")
	}
	row, err := design.Of(a)
	switch {
	case err != nil:
		return nil, err
	case activations[row.MLP.Activation] == nil:
		return nil, fmt.Errorf("the activation %q of %s is not known", row.MLP.Activation, row.Type)
	case a.Dim == 0 || a.Depth == 0 || a.Heads == 0 || a.Mlp == 0 || a.Patch == 0 || a.GridH == 0 || a.GridW == 0 || a.Eps <= 0:
		return nil, fmt.Errorf("architecture lacks a size: %v", a)
	case a.Dim%a.Heads != 0:
		return nil, fmt.Errorf("%d heads do not divide dim %d", a.Heads, a.Dim)
	case opt.Depth < 0 || opt.Depth > int(a.Depth):
		return nil, fmt.Errorf("depth %d: the backbone has %d blocks", opt.Depth, a.Depth)
	}
	switch opt.Precision {
	case 0, torch.Float32, torch.BFloat16:
	default:
		return nil, fmt.Errorf("precision %v is not float32 or bfloat16", opt.Precision)
	}
	depth := opt.Depth
	if depth == 0 {
		depth = int(a.Depth)
	}
	for _, b := range opt.Freeze.GetTrainable() {
		if int(b) >= depth {
			return nil, fmt.Errorf("trainable block %d: blocks 0 to %d are in use", b, depth-1)
		}
	}
	return row, nil
}

// build makes the tensors and puts them in their places.
func (m *Model) build(opt Options) error {
	depth := opt.Depth
	if depth == 0 {
		depth = int(m.Arch.Depth)
	}
	list, err := design.Tensors(m.Arch, depth)
	if err != nil {
		return err
	}
	trains := func(t *design.Tensor) bool {
		if opt.Trains != nil {
			return opt.Trains(t.Name)
		}
		return t.Trains(opt.Freeze, depth)
	}
	// Weight and bias of a layer are of one type: if one trains, in fp32.
	training := map[string]bool{}
	for i := range list {
		if t := &list[i]; t.Layer != "" && trains(t) {
			training[t.Layer] = true
		}
	}
	made := map[string]*torch.Tensor{} // a name that is not there is a part that the model lacks
	for i := range list {
		t, frozen := &list[i], torch.Float32
		if t.Layer != "" && !training[t.Layer] {
			frozen = m.compute
		}
		made[t.Name] = m.keep(t, trains(t), frozen)
	}
	linear := func(name string) Linear {
		w, b := made[name+".weight"], made[name+".bias"]
		return Linear{W: w, B: b, Trains: m.trains(w) || m.trains(b)}
	}
	norm := func(name string) layerNorm {
		return layerNorm{w: made[name+".weight"], b: made[name+".bias"], eps: m.Arch.Eps}
	}

	r := m.row
	for _, name := range r.Placed {
		m.placed = append(m.placed, made[name])
	}
	m.positions, m.registers = made[r.Positions], made[r.Registers]
	m.patch = linear(r.Patches)
	for i := range depth {
		m.Blocks = append(m.Blocks, &Block{
			Adapters: map[string]Adapter{},
			qkv:      linear(r.Block(i, r.Attention.Joined)),
			output:   linear(r.Block(i, r.Attention.Output.V4)),
			fc1:      linear(r.Block(i, r.MLP.FC1.V4)),
			fc2:      linear(r.Block(i, r.MLP.FC2.V4)),
			norm1:    norm(r.Block(i, r.Attention.Norm)),
			norm2:    norm(r.Block(i, r.MLP.Norm)),
			scale1:   made[r.Block(i, r.Attention.Scale)],
			scale2:   made[r.Block(i, r.MLP.Scale)],
		})
	}
	m.norm = norm(r.Norm)
	return nil
}

// keep makes a tensor from its parts in the file: as a leaf of its own memory if
// it trains, in type frozen otherwise.
func (m *Model) keep(t *design.Tensor, train bool, frozen torch.DType) *torch.Tensor {
	var out *torch.Tensor
	m.dev.NoGrad(func() {
		m.dev.Scope(func() {
			parts := make([]*torch.Tensor, len(t.Parts))
			for i, p := range t.Parts {
				parts[i] = m.read(p.Name)
				if !train {
					parts[i] = as(parts[i], frozen)
				}
			}
			x := parts[0]
			if len(parts) > 1 {
				x = torch.Cat(0, parts...)
			}
			if !slices.Equal(x.Shape(), t.Shape) {
				x = x.Reshape(t.Shape...) // the patch embedding, a convolution there
			}
			if train {
				// The mapping is read-only, so what the optimizer writes is a copy.
				x = as(x, torch.Float32).Clone()
			}
			out = x.Keep()
		})
	})
	m.owned = append(m.owned, out)
	if train {
		out.RequireGrad(true)
		m.params = append(m.params, Param{t.Name, out, t.Block})
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
// design.SitePatch. The tensors belong to the current scope.
func (m *Model) Pretrained(block int, site string) Linear {
	name, err := design.Module(m.Arch, design.FileVersion, uint32(block), site)
	if err != nil {
		panic(&torch.Error{Op: "pretrained", Err: err})
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
	if site != design.SitePatch {
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
		first = min(first, p.block)
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

// Prefix is the number of tokens before the patches: CLS, the distillation token of
// DeiT, registers.
func (m *Model) Prefix() int { return len(m.placed) + int(m.Arch.Registers) }

// Probe lets the device choose its form of attention for images of h × w.
func (m *Model) Probe(batch, h, w int) (choice string, err error) {
	gh, gw, err := Grid(m.Arch, h, w)
	if err != nil {
		return "", err
	}
	heads := int64(m.Arch.Heads)
	return m.dev.ProbeAttention(m.compute, int64(batch), heads, int64(m.Prefix()+gh*gw), int64(m.Arch.Dim)/heads), nil
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
