package train

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/engine/adapter"
	"github.com/loralab/loralab/core/engine/head"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/spec"
)

// cachedModel is the last frozen backbone, kept for the next run.
type cachedModel struct {
	key   string
	model *vit.Model
	// sums of weight files: each is hashed once by a process, as long as it is not
	// written to.
	sums filehash.Sums
}

func (c *cachedModel) drop() error {
	if c.model == nil {
		return nil
	}
	m := c.model
	c.model, c.key = nil, ""
	return m.Free()
}

// load returns the backbone of a run, of whose tensors some train, and
// whether it is the run's own to free.
func (c *cachedModel) load(dev *torch.Device, path string, b *spec.Backbone, tensors []params.Tensor, precision torch.DType) (*vit.Model, bool, error) {
	held, err := vit.Hold(path, b.Digest, &c.sums)
	if err != nil {
		return nil, false, err
	}
	if err := held.Close(); err != nil {
		return nil, false, err
	}
	frozen := params.Trained(tensors, params.Backbone) == 0
	key := fmt.Sprint(b.Digest, b.Depth, precision)
	// The model may be mapped from another file of the same content; one that was
	// written to since is not used.
	if frozen && c.model != nil && c.key == key && c.model.Check() == nil {
		return c.model, false, nil
	}
	m, err := vit.Load(dev, path, b.Arch, vit.Options{
		Depth: int(b.Depth), Trains: params.Backbones(tensors), Precision: precision, Digest: b.Digest, Sums: &c.sums,
	})
	if err != nil || !frozen {
		return m, true, err
	}
	if err := c.drop(); err != nil {
		return nil, false, err
	}
	c.model, c.key = m, key
	return m, false, nil
}

// network is backbone, adapters and head of a run.
type network struct {
	dev      *torch.Device
	model    *vit.Model
	own      bool // the model is freed with the network
	adapters *adapter.Set
	head     *head.Head
	// prefix is how many blocks come before anything that trains; -1 if the
	// embeddings train as well.
	prefix int
	// taps are the blocks that the head sees; none: the last.
	taps []uint32
	// plain says that the head sees patches without the final norm.
	plain bool
	// stops are numbers of blocks, ascending: what stands after so many is part
	// of tokens. The prefix ends them; before it come the taps within it.
	stops []int
	// tensors are those of the plan, by name; they say what trains and how.
	tensors map[string]*params.Tensor
	// precision that it computes in: fp32, bf16 or tf32.
	precision string
	// drop is the probability with which training leaves out a branch of each block,
	// nil for none, and paths where the update in progress draws from.
	drop  []float64
	paths rng.Stream
}

// newNetwork makes the network of a run to compute in a precision. It is called
// inside dev.Do.
func newNetwork(t *Trainer, req *spec.RunRequest, computed string) (*network, error) {
	s := req.Spec
	precision := torch.Float32
	switch computed {
	case "fp32":
	case "tf32":
		if !t.dev.IsCUDA() {
			return nil, fmt.Errorf("tf32 needs a CUDA device: this engine computes on %s; use fp32 or bf16", t.dev)
		}
	case "bf16":
		precision = torch.BFloat16
	default:
		return nil, fmt.Errorf("unknown precision %q, want fp32, bf16 or tf32", computed)
	}
	// In bf16 what stays in fp32 (norms, losses, the last layer) is to be exact.
	t.dev.SetTF32(computed == "tf32")
	t.dev.SetDeterministic(s.Train.Deterministic)
	tensors, err := params.Of(s)
	if err != nil {
		return nil, err
	}
	n := &network{dev: t.dev, tensors: make(map[string]*params.Tensor, len(tensors)), precision: computed, drop: params.DropPath(s, tensors)}
	for i := range tensors {
		n.tensors[tensors[i].Name] = &tensors[i]
	}
	if n.model, n.own, err = t.model.load(t.dev, req.Places.Backbone, s.Backbone, tensors, precision); err != nil {
		return nil, err
	}
	if n.adapters, err = adapter.Load(t.dev, n.model, s.Adapter, s.Seed); err != nil {
		n.free()
		return nil, err
	}
	if n.head, err = head.New(t.dev, s.Head, int(s.Backbone.Arch.Dim), len(s.Data.Classes), s.Seed); err != nil {
		n.free()
		return nil, err
	}
	n.head.Precision = precision
	n.prefix = min(n.model.TrainableFrom(), n.adapters.FirstBlock())
	n.plain = s.Backbone.WithoutNorm
	if n.taps = s.Head.Taps; len(n.taps) > 0 {
		n.prefix = min(n.prefix, n.last()+1)
	}
	for _, tap := range n.taps {
		if after := int(tap) + 1; after < n.prefix {
			n.stops = append(n.stops, after)
		}
	}
	n.stops = append(n.stops, n.prefix)
	// Adapters and head come as if all of them trained.
	for _, p := range n.adapters.Params {
		p.T.RequireGrad(p.Trainable && n.tensors["adapter."+p.Name].Trains)
	}
	for _, p := range n.head.Params() {
		p.T.RequireGrad(n.tensors["head."+p.Name].Trains)
	}
	return n, nil
}

func (n *network) free() {
	if n.head != nil {
		n.head.Free()
	}
	if n.adapters != nil {
		n.adapters.Free()
	}
	if n.own && n.model != nil {
		// Unmapping a file that was read cannot fail in a way that matters.
		_ = n.model.Free()
	}
}

// input makes normalized images [N, 3, H, W] of a batch's bytes.
func (n *network) input(b *data.Batch, d *spec.Data) *torch.Tensor {
	return n.dev.Yield(func() *torch.Tensor {
		scale, shift := make([]float32, 3), make([]float32, 3)
		for c := range 3 {
			scale[c] = float32(1 / (255 * d.Std[c]))
			shift[c] = float32(d.Mean[c] / d.Std[c])
		}
		x := torch.Of(n.dev, b.Images, int64(b.N), 3, int64(b.H), int64(b.W)).To(torch.Float32)
		return x.Mul(torch.Of(n.dev, scale, 1, 3, 1, 1)).Sub(torch.Of(n.dev, shift, 1, 3, 1, 1))
	})
}

// target is the labels of a batch, int64 [N, H, W].
func (n *network) target(b *data.Batch) *torch.Tensor {
	return n.dev.Yield(func() *torch.Tensor {
		return torch.Of(n.dev, b.Labels, int64(b.N), int64(b.H), int64(b.W)).To(torch.Int64)
	})
}

// last is the last block that the head sees anything of.
func (n *network) last() int {
	if len(n.taps) > 0 {
		return int(n.taps[len(n.taps)-1])
	}
	return len(n.model.Blocks) - 1
}

// tokens is all that comes out of what is frozen: the tokens after each of the
// stops, one behind the other, [N, stops·T, D]. The last enter the first block
// that trains.
func (n *network) tokens(images *torch.Tensor) *torch.Tensor {
	if n.prefix < 0 {
		return n.model.Embed(images)
	}
	var h *torch.Tensor
	n.dev.NoGrad(func() {
		h = n.dev.Yield(func() *torch.Tensor { return n.blocks(n.model.Embed(images), 0) })
	})
	return h
}

// blocks makes tokens of h [N, T, D], which stands before block first; no stop
// comes before that.
func (n *network) blocks(h *torch.Tensor, first int) *torch.Tensor {
	return n.dev.Yield(func() *torch.Tensor {
		var kept []*torch.Tensor
		for i := first; i < n.prefix; i++ {
			if slices.Contains(n.stops, i) {
				kept = append(kept, h)
			}
			h = n.model.Block(i, h)
		}
		if kept == nil {
			return h
		}
		return torch.Cat(1, append(kept, h)...)
	})
}

// drawPaths begins the stream that an update leaves out branches by. It has a name of
// its own in each update, so a training that continues draws the same.
func (n *network) drawPaths(seed uint64, step int) {
	if n.drop != nil {
		n.paths = rng.New(seed, "drop path", strconv.Itoa(step))
	}
}

// dropping has blocks leave out branches until the returned function is called. The
// backbone may be that of other runs too.
func (n *network) dropping() (end func()) {
	for i, p := range n.drop {
		if p == 0 {
			continue
		}
		n.model.Blocks[i].Drop = func(images int64) *torch.Tensor {
			factors := make([]float32, images)
			for k := range factors {
				if n.paths.Float64() >= p {
					factors[k] = float32(1 / (1 - p))
				}
			}
			return torch.Of(n.dev, factors, images, 1, 1)
		}
	}
	return func() {
		for i := range n.drop {
			n.model.Blocks[i].Drop = nil
		}
	}
}

// logits continues from tokens of images of a size to [N, C, H, W].
func (n *network) logits(tokens *torch.Tensor, size raster.Size, train bool) *torch.Tensor {
	return n.dev.Yield(func() *torch.Tensor {
		n.adapters.Train(train)
		if train {
			defer n.dropping()()
		}
		features := n.features(tokens)
		gh, gw, err := vit.Grid(n.model.Arch, size.H, size.W)
		if err != nil {
			panic(&torch.Error{Op: "logits", Err: err})
		}
		return n.head.Forward(features, int64(gh), int64(gw), int64(size.H), int64(size.W), train)
	})
}

// patches are those among tokens [N, T, D] as the head sees them, [N, gh·gw, D].
func (n *network) patches(tokens *torch.Tensor) *torch.Tensor {
	if n.plain {
		return n.model.Patches(tokens)
	}
	return n.model.Features(tokens)
}

// features goes on from tokens to what the head sees of each patch,
// [N, gh·gw, D], or [N, gh·gw, D·taps], as get_intermediate_layers of DINOv2 returns
// them, concatenated.
func (n *network) features(tokens *torch.Tensor) *torch.Tensor {
	if len(n.taps) == 0 {
		for i := max(0, n.prefix); i < len(n.model.Blocks); i++ {
			tokens = n.model.Block(i, tokens)
		}
		return n.patches(tokens)
	}
	var levels []*torch.Tensor
	tap := func(after int) {
		if slices.Contains(n.taps, uint32(after-1)) {
			levels = append(levels, n.patches(tokens))
		}
	}
	all, t := tokens, tokens.Dim(1)/int64(len(n.stops))
	for i, after := range n.stops {
		tokens = all.Narrow(1, int64(i)*t, t)
		if after > 0 {
			tap(after)
		}
	}
	for i := max(0, n.prefix); i <= n.last(); i++ {
		tokens = n.model.Block(i, tokens)
		tap(i + 1)
	}
	return torch.Cat(-1, levels...)
}

// named is a tensor of the network's state by its name in a checkpoint.
type named struct {
	name string
	t    *torch.Tensor
}

// trained lists what an optimiser moves, by part.
func (n *network) trained() (backbone, adapters, heads []named) {
	for _, p := range n.model.Params() {
		backbone = append(backbone, named{"backbone." + p.Name, p.T})
	}
	for _, p := range n.adapters.Params {
		if name := "adapter." + p.Name; p.Trainable && n.tensors[name].Trains {
			adapters = append(adapters, named{name, p.T})
		}
	}
	for _, p := range n.head.Params() {
		if name := "head." + p.Name; n.tensors[name].Trains {
			heads = append(heads, named{name, p.T})
		}
	}
	return backbone, adapters, heads
}

// thaw lets gradients into what trains from an epoch on, counted from 0, and
// into nothing else.
func (n *network) thaw(epoch int) {
	b, a, h := n.trained()
	for _, p := range slices.Concat(b, a, h) {
		p.t.RequireGrad(int(n.tensors[p.name].Until) <= epoch)
	}
}

// thaws lists the epochs, counted from 0, before which something is frozen that
// trains from there on.
func (n *network) thaws() []int {
	var epochs []int
	for _, t := range n.tensors {
		if until := int(t.Until); t.Trains && until > 0 && !slices.Contains(epochs, until) {
			epochs = append(epochs, until)
		}
	}
	return epochs
}

// weights lists all that a checkpoint must hold to have this network again.
func (n *network) weights() []named {
	var out []named
	for _, p := range n.model.Params() {
		out = append(out, named{"backbone." + p.Name, p.T})
	}
	for _, p := range n.adapters.Stored() {
		out = append(out, named{"adapter." + p.Name, p.T})
	}
	for _, p := range n.head.Params() {
		out = append(out, named{"head." + p.Name, p.T})
	}
	for _, p := range n.head.Buffers() {
		out = append(out, named{"head." + p.Name, p.T})
	}
	return out
}

func numel(ns []named) (total uint64) {
	for _, n := range ns {
		total += uint64(n.t.Numel())
	}
	return total
}
