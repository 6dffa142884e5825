package train

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/spec"
)

// cacheBatch is the number of images that go through the frozen blocks at a
// time. Fixed, so that cached tokens have the same bits whoever fills the cache.
const cacheBatch = 8

// tokenCache keeps, for whole splits, what comes out of the frozen blocks: see
// network.tokens. It is touched on the device's thread only.
type tokenCache struct {
	dev     *torch.Device
	entries []*tokenEntry // most recently used last
	limit   int64
}

type tokenEntry struct {
	key    tokenKey
	tokens []*torch.Tensor // [n, stops·T, D]: one of a split, or of windows one for each batch
	bytes  int64
	inUse  bool // by the run in progress: not to be let go
}

func (e *tokenEntry) free() {
	for _, t := range e.tokens {
		t.Free()
	}
}

// tokenKey says which tokens an entry holds: of which pictures and backbone,
// and after how many blocks.
type tokenKey struct {
	of     string
	blocks int
}

func newTokenCache(dev *torch.Device) *tokenCache {
	return &tokenCache{dev: dev, limit: params.CacheBytes}
}

func (c *tokenCache) drop() {
	for _, e := range c.entries {
		e.free()
	}
	c.entries = nil
}

// get returns cached tokens and takes them into use.
func (c *tokenCache) get(key tokenKey) *torch.Tensor {
	if e := c.find(key); e != nil {
		e.inUse = true
		return e.tokens[0]
	}
	return nil
}

// find returns an entry, which counts as used; nil if there is none.
func (c *tokenCache) find(key tokenKey) *tokenEntry {
	for i, e := range c.entries {
		if e.key == key {
			c.entries = append(append(c.entries[:i:i], c.entries[i+1:]...), e)
			return e
		}
	}
	return nil
}

// before returns the entry that comes closest to key from below: the same
// tokens after fewer blocks, nil and 0 if there are none.
func (c *tokenCache) before(key tokenKey) (tokens *torch.Tensor, blocks int) {
	for _, e := range c.entries {
		if e.key.of == key.of && e.key.blocks < key.blocks && e.key.blocks > blocks {
			tokens, blocks = e.tokens[0], e.key.blocks
		}
	}
	return tokens, blocks
}

// room lets go of the entries used longest ago until bytes more fit, and
// reports whether they do. Entries in use stay.
func (c *tokenCache) room(bytes int64) bool {
	total := bytes
	for _, e := range c.entries {
		total += e.bytes
	}
	kept := c.entries[:0]
	for _, e := range c.entries {
		if total > c.limit && !e.inUse {
			total -= e.bytes
			e.free()
			continue
		}
		kept = append(kept, e)
	}
	clear(c.entries[len(kept):])
	c.entries = kept
	return total <= c.limit
}

// put adds an entry, in use, for which room was made.
func (c *tokenCache) put(key tokenKey, tokens *torch.Tensor, bytes int64) {
	c.entries = append(c.entries, &tokenEntry{key: key, tokens: []*torch.Tensor{tokens}, bytes: bytes, inUse: true})
}

// release ends the use of all entries.
func (c *tokenCache) release() {
	for _, e := range c.entries {
		e.inUse = false
	}
}

// source gives the images of one split and their tokens: from the cache where the
// frozen prefix allows it and memory suffices, else computed each time.
type source struct {
	n      *network
	d      *spec.Data
	set    *data.Set
	as     spec.View // how its images are seen
	key    tokenKey
	views  bool          // the cache holds the views of augmented images, one by one
	cached *torch.Tensor // of the images, or of the view in use; nil: computed each time
}

// newSource fills the cache if need be, with images in a view. It is called outside
// Device.Do: it reads the images in between. Images that windows see, if w is given, are not in
// the cache, and those that are augmented are not yet: see turn.
func (t *Trainer) newSource(ctx context.Context, n *network, s *spec.RunSpec, d *spec.Data, split string, set *data.Set, w *spec.Window, v spec.View) (*source, error) {
	seen := ""
	if size := data.SizeOf(d); v.Scale != 1 && w == nil {
		scaled := size.Times(v.Scale, int(n.model.Arch.Patch))
		seen += fmt.Sprintf(" scaled from %v", size)
		set, d = set.Scaled(scaled), proto.CloneOf(d)
		d.Height, d.Width = uint32(scaled.H), uint32(scaled.W)
	}
	if v.Flip {
		seen += " mirrored"
	}
	src := &source{n: n, d: d, set: set, as: v}
	// Nothing is saved by keeping bare embeddings of images: they cost less
	// than the memory.
	if n.prefix < 1 {
		return src, nil
	}
	digest := d.Splits[split].Digest
	if p := d.Splits[split].Procedural; p != nil {
		digest = data.ProceduralDigest(p)
	}
	src.key = tokenKey{fmt.Sprint(s.Backbone.Digest, n.precision, digest, d.Height, d.Width, d.Mean, d.Std, d.Corruption, d.Style), n.prefix}
	if len(n.stops) > 1 {
		src.key.of += fmt.Sprint(" after ", n.stops) // which no other tokens are computed from
	}
	src.key.of += seen
	if w != nil {
		// Of windows the tokens of each batch are kept as they are computed, so that
		// they have the same bits whether they are or not.
		src.key.of += fmt.Sprintf(" by windows %d×%d at %g, %d at a time", w.StrideH, w.StrideW, w.Scale, s.Train.Batch)
		return src, nil
	}
	var err error
	if split == "train" && set.Augments() {
		var c params.Cache
		c, err = t.keeps(s)
		src.views = c.Off == ""
		return src, err
	}
	src.cached, err = t.fill(ctx, src, src.key, func(ctx context.Context, indices []int) (*data.Batch, error) {
		b, err := set.Batch(ctx, indices)
		if err == nil && v.Flip {
			b = b.Mirrored()
		}
		return b, err
	})
	if err != nil {
		return nil, fmt.Errorf("running the frozen blocks over split %s: %w", split, err)
	}
	return src, nil
}

// keeps is what the cache keeps for a training.
func (t *Trainer) keeps(s *spec.RunSpec) (params.Cache, error) {
	tensors, err := params.Of(s)
	if err != nil {
		return params.Cache{}, err
	}
	return params.CacheOf(s, tensors, t.cache.limit)
}

// turn takes the view of an epoch into use, where there are views.
func (t *Trainer) turn(ctx context.Context, src *source, epoch int) error {
	if !src.views {
		return nil
	}
	seed, view := src.view(0, epoch)
	key := src.key
	key.of += fmt.Sprintf(" view %d of seed %d: %s", view, seed, spec.Canonical(&spec.Data{Augment: src.d.Augment}))
	var err error
	src.cached, err = t.fill(ctx, src, key, func(ctx context.Context, indices []int) (*data.Batch, error) {
		return src.set.Augmented(ctx, indices, seed, view)
	})
	switch {
	case err != nil:
		return fmt.Errorf("running the frozen blocks over view %d of split train: %w", view+1, err)
	case src.cached == nil:
		// What is kept must not depend on what happened before.
		return fmt.Errorf("view %d of split train does not fit into the cache of %d bytes", view+1, t.cache.limit)
	}
	return nil
}

// view is what augmentations of an epoch of a run draw from: a seed, and an epoch of
// their own.
func (s *source) view(seed uint64, epoch int) (uint64, int) {
	if v := s.d.Views; v.GetCount() > 0 {
		return v.Seed, epoch % int(v.Count)
	}
	return seed, epoch
}

// batch reads training images; those whose tokens are cached without their colors.
func (s *source) batch(ctx context.Context, indices []int, seed uint64, epoch int) (*data.Batch, error) {
	seed, epoch = s.view(seed, epoch)
	if s.views {
		return s.set.AugmentedLabels(ctx, indices, seed, epoch)
	}
	return s.set.Augmented(ctx, indices, seed, epoch)
}

// tokenCount is how many are kept of an image.
func (s *source) tokenCount() int64 {
	a := s.n.model.Arch
	return (int64(s.d.Height/a.Patch)*int64(s.d.Width/a.Patch) + int64(s.n.model.Prefix())) * int64(len(s.n.stops))
}

// tokenBytes is what they take.
func (s *source) tokenBytes() int64 { return s.tokenCount() * int64(s.n.model.Arch.Dim) * 4 }

// fill returns the tokens of all images as read gives them: from the cache, or
// computed now and put there. It returns nil if there is no room for them.
func (t *Trainer) fill(ctx context.Context, src *source, key tokenKey, read func(context.Context, []int) (*data.Batch, error)) (*torch.Tensor, error) {
	n, d, images := src.n, src.d, src.set.Len()
	bytes := int64(images) * src.tokenBytes()
	var cached, buf, start *torch.Tensor // start: tokens after fewer blocks, to go on from
	first := 0
	err := t.dev.Do(func() error {
		if cached = t.cache.get(key); cached == nil && t.cache.room(bytes) {
			start, first = t.cache.before(key)
			buf = t.dev.Zeros(torch.Float32, int64(images), src.tokenCount(), int64(n.model.Arch.Dim)).Keep()
		}
		return nil
	})
	if err != nil || buf == nil {
		return cached, err
	}
	at := int64(0)
	put := func(size int, from func(size int64) *torch.Tensor) error {
		return t.dev.Do(func() error {
			t.dev.NoGrad(func() { buf.Narrow(0, at, int64(size)).Assign(n.blocks(from(int64(size)), first)) })
			at += int64(size)
			return nil
		})
	}
	if start != nil {
		for _, batch := range inOrder(images, cacheBatch) {
			if err = ctx.Err(); err == nil {
				err = put(len(batch), func(size int64) *torch.Tensor { return start.Narrow(0, at, size) })
			}
			if err != nil {
				break
			}
		}
	} else {
		err = each(ctx, read, inOrder(images, cacheBatch), func(b *data.Batch) error {
			return put(b.N, func(int64) *torch.Tensor { return n.model.Embed(n.input(b, d)) })
		})
	}
	if err == nil {
		if changed := n.model.Check(); changed != nil {
			err = &backboneError{changed}
		}
	}
	if err != nil {
		_ = t.dev.Do(func() error { buf.Free(); return nil })
		return nil, err
	}
	return buf, t.dev.Do(func() error { t.cache.put(key, buf, bytes); return nil })
}

// size is that of the images as the network sees them.
func (s *source) size() raster.Size { return data.SizeOf(s.d) }

// tokens of a batch whose pictures are the indices of the split; it is not looked at
// where they are cached.
func (s *source) tokens(b *data.Batch, indices []int) *torch.Tensor {
	if s.cached == nil {
		if s.as.Flip {
			b = b.Mirrored()
		}
		return s.n.dev.Yield(func() *torch.Tensor { return s.n.tokens(s.n.input(b, s.d)) })
	}
	return s.n.dev.Yield(func() *torch.Tensor {
		at := make([]int64, len(indices))
		for i, v := range indices {
			at[i] = int64(v)
		}
		return s.cached.Rows(0, torch.Of(s.n.dev, at, int64(len(at))))
	})
}

// inOrder cuts 0..n-1 into batches.
func inOrder(n, batch int) [][]int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	return cut(order, batch)
}

// cut makes batches of an order; the last may be smaller.
func cut(order []int, batch int) [][]int {
	var out [][]int
	for len(order) > 0 {
		n := min(batch, len(order))
		out = append(out, order[:n])
		order = order[n:]
	}
	return out
}

// each reads batches one ahead of fn, in order, until fn or reading fails or
// the context ends.
func each[T any](ctx context.Context, read func(context.Context, []int) (T, error), batches [][]int, fn func(T) error) error {
	ctx, cancel := context.WithCancel(ctx)
	type item struct {
		batch T
		err   error
	}
	items := make(chan item, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(items)
		for _, indices := range batches {
			b, err := read(ctx, indices)
			select {
			case items <- item{b, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	defer func() { cancel(); <-done }()
	for range batches {
		i, ok := <-items
		if !ok {
			return ctx.Err()
		}
		if i.err != nil {
			return i.err
		}
		if err := fn(i.batch); err != nil {
			return err
		}
	}
	return nil
}
