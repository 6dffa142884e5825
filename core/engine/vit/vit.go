// Package vit is the backbone: a vision transformer in one of the forms that
// core/vit/design lists, built from its row there.
//
// An image becomes a sequence of learned tokens and patch tokens (Embed), a stack
// of pre-norm blocks rewrites the sequence (Block), a LayerNorm ends it (Features).
// The pieces are called one by one, so that a training can run a frozen prefix
// once, keep its output, and start from there.
//
// Precision. In bf16 the frozen weights of the linear layers and the
// activations inside a branch are bfloat16; the residual stream, LayerNorm, the
// sums inside softmax, and everything that trains stay fp32. A residual stream
// in bf16 would lose what twelve blocks add in small steps.
package vit

import (
	"fmt"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/design"
)

// Linear is a layer y = xWᵀ + b; W [out, in], B [out] or nil. Trains says that
// W and B take gradients.
type Linear struct {
	W, B   *torch.Tensor
	Trains bool
}

// Forward applies the layer to x [T, in] in the type of x.
func (l Linear) Forward(x *torch.Tensor) *torch.Tensor {
	return torch.Linear(x, as(l.W, x.DType()), as(l.B, x.DType()))
}

// Adapter stands in for a linear layer: it takes the layer's input [T, in], T
// all tokens of the batch, and the frozen layer, and returns [T, out] in the
// type of x or in fp32. For a stream it takes and returns [T, dim] in fp32, and base
// is empty.
type Adapter func(x *torch.Tensor, base Linear) *torch.Tensor

// SiteQKV is query, key and value as the one product they are computed by, outputs
// in that order; an adapter there takes precedence over those of the three.
const SiteQKV = "qkv"

// Model is a loaded backbone on one device.
type Model struct {
	Arch   *spec.Architecture
	Blocks []*Block // those in use
	// PatchAdapter stands in for the patch embedding as a linear layer over the
	// 3·p·p values of a patch, channel first; nil: none.
	PatchAdapter Adapter

	dev     *torch.Device
	compute torch.DType
	file    *safetensors.File
	held    *filehash.Held // what file maps
	weights map[string]safetensors.Tensor
	row     *design.Row

	patch      Linear          // W [D, 3·p·p]
	placed     []*torch.Tensor // [1, 1, D] each: tokens before the patches that have a position
	positions  *torch.Tensor   // [1, len(placed)+GridH·GridW, D]
	registers  *torch.Tensor   // [1, R, D]; nil: none
	norm       layerNorm
	activation func(*torch.Tensor) *torch.Tensor
	params     []Param
	owned      []*torch.Tensor
	resized    map[[2]int64]*torch.Tensor // positions for other grids, while they are frozen
}

// Block is one transformer block.
type Block struct {
	// Adapters by site; a site without one is the plain layer.
	Adapters map[string]Adapter
	// Drop gives factors [N, 1, 1] of a branch for N images, of attention first and of
	// the MLP second; nil: 1. It is stochastic depth in training.
	Drop func(n int64) *torch.Tensor

	qkv            Linear // W [3D, D]
	output         Linear
	fc1, fc2       Linear
	norm1, norm2   layerNorm
	scale1, scale2 *torch.Tensor // [D]; nil: no layer scale
}

type layerNorm struct {
	w, b *torch.Tensor
	eps  float64
}

// Embed turns normalized images [N, 3, H, W] (fp32) into tokens [N, T, D] with
// positions: first design.Row.Placed, then registers, then patches row by row. H and W are
// multiples of the patch.
func (m *Model) Embed(images *torch.Tensor) *torch.Tensor {
	return m.dev.Yield(func() *torch.Tensor {
		s, p, d := images.Shape(), int64(m.Arch.Patch), int64(m.Arch.Dim)
		if len(s) != 4 || s[1] != 3 || s[2]%p != 0 || s[3]%p != 0 {
			panic(&torch.Error{Op: "embed", Shapes: [][]int64{s}, Err: fmt.Errorf("want [N, 3, H, W] with H and W multiples of the patch, %d", p)})
		}
		n, gh, gw := s[0], s[2]/p, s[3]/p
		x := images.Reshape(n, 3, gh, p, gw, p).Permute(0, 2, 4, 1, 3, 5).Reshape(n*gh*gw, 3*p*p)
		x = adapted(m.PatchAdapter, x, m.patch).Reshape(n, gh*gw, d)
		var all []*torch.Tensor
		for _, t := range m.placed {
			all = append(all, t.Expand(n, 1, d))
		}
		x = torch.Cat(1, append(all, x)...).Add(m.positionsFor(gh, gw))
		if m.registers == nil {
			return x
		}
		// Registers have no position.
		before := int64(len(m.placed))
		return torch.Cat(1, x.Narrow(1, 0, before), m.registers.Expand(n, -1, d), x.Narrow(1, before, gh*gw))
	})
}

// positionsFor resizes the stored table as transformers does; the entries before
// the patches stay as they are.
func (m *Model) positionsFor(gh, gw int64) *torch.Tensor {
	sh, sw, d, before := int64(m.Arch.GridH), int64(m.Arch.GridW), int64(m.Arch.Dim), int64(len(m.placed))
	if gh == sh && gw == sw {
		return m.positions
	}
	if t := m.resized[[2]int64{gh, gw}]; t != nil {
		return t
	}
	out := m.dev.Yield(func() *torch.Tensor {
		grid := m.positions.Narrow(1, before, sh*sw).Reshape(1, sh, sw, d).Permute(0, 3, 1, 2)
		switch m.row.Resize {
		case design.Antialiased:
			rows := torch.Of(m.dev, antialiased(int(sh), int(gh)), gh, sh)
			cols := torch.Of(m.dev, antialiased(int(sw), int(gw)), gw, sw)
			grid = rows.MatMul(grid).MatMul(cols.T())
		case design.Sampled:
			grid = grid.UpsampleBicubic(gh, gw)
		}
		grid = grid.Permute(0, 2, 3, 1).Reshape(1, gh*gw, d)
		return torch.Cat(1, m.positions.Narrow(1, 0, before), grid)
	})
	if !m.trains(m.positions) {
		m.resized[[2]int64{gh, gw}] = out.Keep()
	}
	return out
}

// Block applies block i to tokens [N, T, D].
func (m *Model) Block(i int, h *torch.Tensor) *torch.Tensor {
	b := m.Blocks[i]
	return m.dev.Yield(func() *torch.Tensor {
		s := h.Shape()
		x := m.stream(b, design.SiteAttnIn, b.norm1, h)
		q, k, v := b.project(x, s[0], s[1], int64(m.Arch.Heads))
		y := torch.Attention(q, k, v).Permute(0, 2, 1, 3).Reshape(s[0]*s[1], s[2])
		h := h.Add(b.dropped(scaled(b.apply(design.SiteOutput, y, b.output), b.scale1).Reshape(s...)))

		x = m.stream(b, design.SiteMLPIn, b.norm2, h)
		y = m.activation(as(b.apply(design.SiteFC1, x, b.fc1), m.compute))
		return h.Add(b.dropped(scaled(b.apply(design.SiteFC2, y, b.fc2), b.scale2).Reshape(s...)))
	})
}

// dropped is a branch [N, T, D] times its factors.
func (b *Block) dropped(y *torch.Tensor) *torch.Tensor {
	if b.Drop == nil {
		return y
	}
	return as(y, torch.Float32).Mul(b.Drop(y.Dim(0)))
}

// project computes q, k, v [N, H, T, d] from x [N·T, D]: one product unless an
// adapter wants one of them for itself.
func (b *Block) project(x *torch.Tensor, n, t, heads int64) (q, k, v *torch.Tensor) {
	d := x.Dim(-1)
	sites := []string{design.SiteQuery, design.SiteKey, design.SiteValue}
	separate := false
	for _, s := range sites {
		separate = separate || b.Adapters[s] != nil
	}
	if b.Adapters[SiteQKV] != nil || !separate {
		y := as(b.apply(SiteQKV, x, b.qkv), x.DType()).Reshape(n, t, 3, heads, d/heads).Permute(2, 0, 3, 1, 4)
		return y.Select(0, 0), y.Select(0, 1), y.Select(0, 2)
	}
	var out [3]*torch.Tensor
	for i, s := range sites {
		y := as(b.apply(s, x, b.Linear(s)), x.DType())
		out[i] = y.Reshape(n, t, heads, d/heads).Transpose(1, 2)
	}
	return out[0], out[1], out[2]
}

// Features ends the backbone: the final LayerNorm over tokens [N, T, D], in
// fp32, of the patches alone, [N, gh·gw, D].
func (m *Model) Features(h *torch.Tensor) *torch.Tensor {
	return m.dev.Yield(func() *torch.Tensor { return m.Norm(m.Patches(h)) })
}

// Patches are the tokens of the patches, [N, gh·gw, D], of all tokens [N, T, D].
func (m *Model) Patches(h *torch.Tensor) *torch.Tensor {
	skip := int64(m.Prefix())
	return h.Narrow(1, skip, h.Dim(1)-skip)
}

// Norm is the final LayerNorm, in fp32.
func (m *Model) Norm(h *torch.Tensor) *torch.Tensor {
	return torch.LayerNorm(h, m.norm.w, m.norm.b, m.norm.eps)
}

// Forward is Embed, the blocks in use, Norm: the last hidden state [N, T, D].
func (m *Model) Forward(images *torch.Tensor) *torch.Tensor {
	return m.dev.Yield(func() *torch.Tensor {
		h := m.Embed(images)
		for i := range m.Blocks {
			h = m.Block(i, h)
		}
		return m.Norm(h)
	})
}

// stream is LayerNorm of h [N, T, D] as the input of a branch, [N·T, D], with the
// adapter of the stream. It is rounded last: a small update of numbers that are in
// bf16 already would be lost.
func (m *Model) stream(b *Block, site string, l layerNorm, h *torch.Tensor) *torch.Tensor {
	x := torch.LayerNorm(h, l.w, l.b, l.eps).Reshape(-1, h.Dim(-1))
	if a := b.Adapters[site]; a != nil {
		x = a(x, Linear{})
	}
	return as(x, m.compute)
}

func (b *Block) apply(site string, x *torch.Tensor, l Linear) *torch.Tensor {
	return adapted(b.Adapters[site], x, l)
}

func adapted(a Adapter, x *torch.Tensor, l Linear) *torch.Tensor {
	if a != nil {
		return a(x, l)
	}
	return l.Forward(x)
}

func scaled(y, scale *torch.Tensor) *torch.Tensor {
	if scale == nil {
		return y
	}
	return y.Mul(scale)
}

func as(t *torch.Tensor, dt torch.DType) *torch.Tensor {
	if t == nil || t.DType() == dt {
		return t
	}
	return t.To(dt)
}

// Linear is the plain layer of a site, a view where it is part of one product.
func (b *Block) Linear(site string) Linear {
	part := func(i int64) Linear {
		d := b.qkv.W.Dim(1)
		l := Linear{W: b.qkv.W.Narrow(0, i*d, d), Trains: b.qkv.Trains}
		if b.qkv.B != nil {
			l.B = b.qkv.B.Narrow(0, i*d, d)
		}
		return l
	}
	switch site {
	case design.SiteQuery:
		return part(0)
	case design.SiteKey:
		return part(1)
	case design.SiteValue:
		return part(2)
	case SiteQKV:
		return b.qkv
	case design.SiteOutput:
		return b.output
	case design.SiteFC1:
		return b.fc1
	case design.SiteFC2:
		return b.fc2
	}
	panic(&torch.Error{Op: "linear", Err: fmt.Errorf("%q is no linear layer of a block", site)})
}
