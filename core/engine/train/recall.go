package train

import (
	"github.com/loralab/loralab/core/engine/torch"
)

// recall keeps the tokens of windows, batch by batch, for the next time that the
// same images are seen by the same windows. A nil recall keeps nothing.
//
// It never holds the cache: what is in use by a training is not let go for windows,
// and windows are let go for it.
type recall struct {
	t     *Trainer
	key   tokenKey
	known []*torch.Tensor // of an earlier time; nil: there was none
	next  int             // batch
	made  []*torch.Tensor // of this time
	bytes int64           // of made
	full  bool            // there is no room for more, and made is empty
}

// recall looks for the tokens of windows. They are not kept where there are none
// that are frozen, or where that number of windows would take more than half of the cache.
func (t *Trainer) recall(src *source, windows int) *recall {
	r := &recall{t: t, key: src.key, full: true}
	if src.n.prefix < 1 {
		return r
	}
	// If the device failed, scoring does too and says so.
	_ = t.dev.Do(func() error {
		if e := t.cache.find(src.key); e != nil {
			r.known = e.tokens
		}
		r.full = r.known != nil || int64(windows)*src.tokenBytes() > t.cache.limit/2
		return nil
	})
	return r
}

// tokens of the next batch, computed unless they are known. It is called on the
// device's thread, without gradients.
func (r *recall) tokens(compute func() *torch.Tensor) *torch.Tensor {
	if r == nil {
		return compute()
	}
	if r.known != nil {
		r.next++
		return r.known[r.next-1]
	}
	h := compute()
	if r.full {
		return h
	}
	bytes := 4 * h.Numel()
	if !r.t.cache.room(r.bytes + bytes) {
		r.free()
		return h
	}
	r.made, r.bytes = append(r.made, h.Clone().Keep()), r.bytes+bytes
	return h
}

// keep puts into the cache what was computed, when all batches are.
func (r *recall) keep() error {
	if r == nil || len(r.made) == 0 {
		return nil
	}
	return r.t.dev.Do(func() error {
		c := r.t.cache
		c.entries = append(c.entries, &tokenEntry{key: r.key, tokens: r.made, bytes: r.bytes})
		r.made, r.full = nil, true
		return nil
	})
}

// free gives back what was not kept. It is called on the device's thread.
func (r *recall) free() {
	if r == nil {
		return
	}
	for _, t := range r.made {
		t.Free()
	}
	r.made, r.bytes, r.full = nil, 0, true
}
