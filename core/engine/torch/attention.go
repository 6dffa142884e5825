package torch

// #include "shim.h"
import "C"

import (
	"fmt"
	"slices"
	"time"
)

// The forms of attention; all compute softmax(q kᵀ / √d) v. Those after fused are
// kernels for GPUs that fused chooses among.
const (
	attentionProducts  int32 = iota // two batched products around a softmax
	attentionFused                  // libtorch's scaled_dot_product_attention
	attentionFlash                  // FlashAttention (Dao, arXiv:2307.08691)
	attentionEfficient              // memory-efficient (Rabe and Staats, arXiv:2112.05682)
	attentionCuDNN
)

var attentionNames = []string{"products", "fused", "flash", "efficient", "cudnn"}

// attentionForms are those that a device may have. Of the fused ones, flash alone has
// gradients that are the same each time.
func (d *Device) attentionForms() []int32 {
	switch {
	case !d.IsCUDA():
		return []int32{attentionProducts, attentionFused}
	case d.deterministic:
		return []int32{attentionProducts, attentionFlash}
	}
	return []int32{attentionProducts, attentionFused, attentionFlash, attentionEfficient, attentionCuDNN}
}

// Attention is softmax(q kᵀ/√d) v for q, k, v [B, H, N, d], by the form that
// ProbeAttention or SetProbes chose for this type and length, otherwise by
// plain products.
func Attention(q, k, v *Tensor) *Tensor {
	d := q.d
	form := d.forms[d.attentionKey(q.DType(), q.Dim(2), q.Dim(3))]
	return d.attention(q, k, v, form)
}

func (d *Device) attention(q, k, v *Tensor, form int32) *Tensor {
	return d.shim("attention", list(q, k, v), func(o *C.ll_tensor) *C.char {
		return C.ll_attention(o, q.p(), k.p(), v.p(), C.int(form))
	})
}

// attentionKey is what a choice is for: "attention/float32/197/64". What is fast on a CPU
// says nothing of a GPU, which chooses among fewer forms where it has to be
// deterministic.
func (d *Device) attentionKey(dt DType, tokens, dim int64) string {
	key := fmt.Sprintf("attention/%s/%d/%d", dt, tokens, dim)
	if d.IsCUDA() {
		key += "/cuda"
	}
	if d.deterministic {
		key += "/deterministic"
	}
	return key
}

// Probes lists what the probes chose so far: "attention/bfloat16/197/64" ->
// "products".
func (d *Device) Probes() map[string]string {
	d.check("probes")
	out := make(map[string]string, len(d.forms))
	for k, f := range d.forms {
		out[k] = attentionNames[f]
	}
	return out
}

// SetProbes takes over choices made before. The forms differ in the last bits,
// so a run that is to repeat another bit for bit must use the same ones.
func (d *Device) SetProbes(choices map[string]string) {
	d.check("set probes")
	for k, name := range choices {
		for f, n := range attentionNames {
			// Of another kind of device, perhaps.
			if n == name && slices.Contains(d.attentionForms(), int32(f)) {
				d.forms[k] = int32(f)
			}
		}
	}
}

// ProbeAttention times the forms, forward and backward, for heads of size dim
// over tokens, unless a choice is there already. A fused form has to win by a
// tenth: a choice that noise could turn around would cost reproducibility. A form that
// the device cannot compute, or not in its memory, is none. It returns the name of the
// choice in Probes.
func (d *Device) ProbeAttention(dt DType, batch, heads, tokens, dim int64) (key string) {
	d.check("probe attention")
	key = d.attentionKey(dt, tokens, dim)
	if _, ok := d.forms[key]; ok {
		return key
	}
	forms := d.attentionForms()
	times := make([]time.Duration, len(forms))
	failed := make([]bool, len(forms))
	d.Scope(func() {
		q := d.Full(0.1, dt, batch, heads, tokens, dim).RequireGrad(true)
		for round := range 4 {
			for i, form := range forms {
				if failed[i] {
					continue
				}
				start := time.Now()
				if failed[i] = !d.tries(q, form); failed[i] {
					continue
				}
				// The first round warms up.
				if t := time.Since(start); round > 0 && (times[i] == 0 || t < times[i]) {
					times[i] = t
				}
			}
		}
	})
	best := 0
	for i := range forms {
		// Where products have no memory, the first form that has is taken.
		if !failed[i] && (failed[best] || times[i] < times[best]) {
			best = i
		}
	}
	if !failed[0] && times[best]*10 >= times[0]*9 {
		best = 0
	}
	d.forms[key] = forms[best]
	return key
}

// tries computes attention once, forward and backward. On a CPU each form works, and a
// failure is one of all. A lost device is nothing that another form could help.
func (d *Device) tries(q *Tensor, form int32) (ok bool) {
	defer func() {
		v := recover()
		if e, is := v.(*Error); v != nil && (!is || !d.IsCUDA() || lost(e)) {
			panic(v)
		}
	}()
	d.Scope(func() {
		y := d.attention(q, q, q, form).Sum()
		GradsOf(y, nil, q)[0].Sum().Item()
	})
	return true
}
