package train

import (
	"context"
	"fmt"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/torch"
)

// cacheBytes bounds the memory for cached tokens of one device.
const cacheBytes = 4 << 30

// cacheBatch is the number of images that go through the frozen blocks at a
// time. Fixed, so that cached tokens have the same bits whoever fills the cache.
const cacheBatch = 8

// tokenCache keeps, for whole splits, the tokens that enter the first block
// that trains. It is touched on the device's thread only.
type tokenCache struct {
	dev     *torch.Device
	entries []*tokenEntry // most recently used last
	limit   int64
}

type tokenEntry struct {
	key    string
	tokens *torch.Tensor // [n, T, D]
	bytes  int64
}

func newTokenCache(dev *torch.Device) *tokenCache { return &tokenCache{dev: dev, limit: cacheBytes} }

func (c *tokenCache) drop() {
	for _, e := range c.entries {
		e.tokens.Free()
	}
	c.entries = nil
}

// get returns cached tokens and marks them used.
func (c *tokenCache) get(key string) *torch.Tensor {
	for i, e := range c.entries {
		if e.key == key {
			c.entries = append(append(c.entries[:i:i], c.entries[i+1:]...), e)
			return e.tokens
		}
	}
	return nil
}

// put adds an entry and lets go of the ones used longest ago.
func (c *tokenCache) put(key string, tokens *torch.Tensor, bytes int64) {
	c.entries = append(c.entries, &tokenEntry{key, tokens, bytes})
	var total int64
	for _, e := range c.entries {
		total += e.bytes
	}
	for len(c.entries) > 1 && total > c.limit {
		total -= c.entries[0].bytes
		c.entries[0].tokens.Free()
		c.entries = c.entries[1:]
	}
}

// source gives the tokens of batches of one split: from the cache where the
// frozen prefix allows it and memory suffices, else computed each time.
type source struct {
	n      *network
	d      *spec.Data
	set    *data.Set
	cached *torch.Tensor // nil: computed each time
}

// newSource fills the cache if need be. It is called outside Device.Do: it
// reads the images in between.
func (t *Trainer) newSource(ctx context.Context, n *network, s *spec.RunSpec, d *spec.Data, split string, set *data.Set) (*source, error) {
	src := &source{n: n, d: d, set: set}
	// Nothing is saved by keeping bare embeddings of images: they cost less
	// than the memory.
	if n.prefix < 1 {
		return src, nil
	}
	a := s.Backbone.Arch
	tokens := int64(d.Height/a.Patch)*int64(d.Width/a.Patch) + 1
	bytes := int64(set.Len()) * tokens * int64(a.Dim) * 4
	if bytes > t.cache.limit {
		return src, nil
	}
	key := fmt.Sprint(s.Backbone.Digest, n.prefix, s.Train.Precision, d.Splits[split].Digest, d.Height, d.Width, d.Mean, d.Std)
	if d.Splits[split].Procedural != nil {
		key = fmt.Sprint(key, data.ProceduralDigest(d.Splits[split].Procedural))
	}
	err := t.dev.Do(func() error { src.cached = t.cache.get(key); return nil })
	if err != nil || src.cached != nil {
		return src, err
	}
	var buf *torch.Tensor
	err = t.dev.Do(func() error {
		buf = t.dev.Zeros(torch.Float32, int64(set.Len()), tokens, int64(a.Dim)).Keep()
		return nil
	})
	if err != nil {
		return nil, err
	}
	at := int64(0)
	err = each(ctx, set, inOrder(set.Len(), cacheBatch), func(b *data.Batch) error {
		return t.dev.Do(func() error {
			buf.Narrow(0, at, int64(b.N)).Assign(n.tokens(n.input(b, d)))
			at += int64(b.N)
			return nil
		})
	})
	if err != nil {
		_ = t.dev.Do(func() error { buf.Free(); return nil })
		return nil, fmt.Errorf("running the frozen blocks over split %s: %w", split, err)
	}
	src.cached = buf
	return src, t.dev.Do(func() error { t.cache.put(key, buf, bytes); return nil })
}

// tokens of a batch whose pictures are the indices of the split.
func (s *source) tokens(b *data.Batch, indices []int) *torch.Tensor {
	if s.cached == nil {
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
func each(ctx context.Context, set *data.Set, batches [][]int, fn func(*data.Batch) error) error {
	ctx, cancel := context.WithCancel(ctx)
	type item struct {
		batch *data.Batch
		err   error
	}
	items := make(chan item, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(items)
		for _, indices := range batches {
			b, err := set.Batch(ctx, indices)
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
