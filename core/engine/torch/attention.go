package torch

// #include "shim.h"
import "C"

import (
	"fmt"
	"time"
)

// The forms of attention; both compute softmax(q kᵀ / √d) v.
const (
	attentionProducts int32 = iota // two batched products around a softmax
	attentionFused                 // libtorch's scaled_dot_product_attention
)

var attentionNames = []string{"products", "fused"}

// Attention is softmax(q kᵀ/√d) v for q, k, v [B, H, N, d], by the form that
// ProbeAttention or SetProbes chose for this type and length, otherwise by
// plain products.
func Attention(q, k, v *Tensor) *Tensor {
	d := q.d
	form := d.forms[attentionKey(q.DType(), q.Dim(2), q.Dim(3))]
	return d.attention(q, k, v, form)
}

func (d *Device) attention(q, k, v *Tensor, form int32) *Tensor {
	return d.shim("attention", list(q, k, v), func(o *C.ll_tensor) *C.char {
		return C.ll_attention(o, q.p(), k.p(), v.p(), C.int(form))
	})
}

func attentionKey(dt DType, tokens, dim int64) string {
	return fmt.Sprintf("attention/%s/%d/%d", dt, tokens, dim)
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
			if n == name {
				d.forms[k] = int32(f)
			}
		}
	}
}

// ProbeAttention times both forms, forward and backward, for heads of size dim
// over tokens, unless a choice is there already. The fused form has to win by a
// tenth: a choice that noise could turn around would cost reproducibility. It returns
// the name of the choice in Probes.
func (d *Device) ProbeAttention(dt DType, batch, heads, tokens, dim int64) (key string) {
	d.check("probe attention")
	key = attentionKey(dt, tokens, dim)
	if _, ok := d.forms[key]; ok {
		return key
	}
	times := [2]time.Duration{}
	d.Scope(func() {
		q := d.Full(0.1, dt, batch, heads, tokens, dim).RequireGrad(true)
		for round := range 4 {
			for form := range times {
				start := time.Now()
				d.Scope(func() {
					y := d.attention(q, q, q, int32(form)).Sum()
					GradsOf(y, nil, q)[0].Sum().Item()
				})
				// The first round warms up.
				if t := time.Since(start); round > 0 && (times[form] == 0 || t < times[form]) {
					times[form] = t
				}
			}
		}
	})
	form := attentionProducts
	if times[1]*10 < times[0]*9 {
		form = attentionFused
	}
	d.forms[key] = form
	return key
}
