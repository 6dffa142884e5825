package torch

// #include "shim.h"
import "C"

// RequireGrad makes a leaf take a gradient, or not. It returns t.
func (t *Tensor) RequireGrad(on bool) *Tensor {
	t.use("require grad")
	t.must("require grad", C.ll_requires_grad(t.p(), C.int(b2i(on))))
	return t
}

// Backward adds the gradient of t, a scalar, to every leaf that takes one.
func (t *Tensor) Backward() {
	t.use("backward")
	t.must("backward", C.ll_backward(t.p()))
}

// Grad is the gradient gathered so far, nil if there is none. It shares memory
// with the real one.
func (t *Tensor) Grad() *Tensor {
	t.use("grad")
	var out C.ll_tensor
	t.must("grad", C.ll_grad(&out, t.p()))
	if out == nil {
		return nil
	}
	return t.d.wrap(out)
}

// DropGrads frees the gradients of ts; the next backward starts from nothing.
func DropGrads(ts []*Tensor) {
	if len(ts) == 0 {
		return
	}
	h := handles("drop grads", ts)
	ts[0].must("drop grads", C.ll_drop_grads(&h[0], C.int(len(h))))
}

// GradsOf returns dy/dx · gy for every x, and nil where y does not depend on
// it. gy nil means 1, for a scalar y. Leaves' gathered gradients stay as they are.
func GradsOf(y, gy *Tensor, xs ...*Tensor) []*Tensor {
	y.use("grads")
	h := handles("grads", xs)
	out := make([]C.ll_tensor, len(xs))
	y.must("grads", C.ll_grads_of(&out[0], y.p(), gy.p(), &h[0], C.int(len(h))))
	grads := make([]*Tensor, len(xs))
	for i, c := range out {
		if c != nil {
			grads[i] = y.d.wrap(c)
		}
	}
	return grads
}

// ClipGrads scales the gradients of params so that their common 2-norm is at
// most limit, and returns the norm before. limit 0 only measures.
func ClipGrads(params []*Tensor, limit float64) float64 {
	if len(params) == 0 {
		return 0
	}
	h := handles("clip grads", params)
	var norm C.double
	params[0].must("clip grads", C.ll_clip_grads(&norm, &h[0], C.int(len(h)), C.double(limit)))
	return float64(norm)
}

// LargestGrads are the largest absolute values of the gradients gathered so far,
// -1 where there is none; NaN where a gradient holds one.
func LargestGrads(params []*Tensor) []float64 {
	if len(params) == 0 {
		return nil
	}
	h := handles("largest grads", params)
	largest := make([]float64, len(params))
	params[0].must("largest grads", C.ll_largest_grads((*C.double)(&largest[0]), &h[0], C.int(len(h))))
	return largest
}

// ClipGradsThere is ClipGrads that does not wait for the device: the norm is a scalar
// there. Where it is not finite, the gradients are not after it, either.
func ClipGradsThere(params []*Tensor, limit float64) *Tensor {
	h := handles("clip grads", params)
	return params[0].d.shim("clip grads", params, func(o *C.ll_tensor) *C.char {
		return C.ll_clip_grads_there(o, &h[0], C.int(len(h)), C.double(limit))
	})
}

// LargestGradsThere is LargestGrads that does not wait for the device, float32 [n].
func LargestGradsThere(params []*Tensor) *Tensor {
	h := handles("largest grads", params)
	return params[0].d.shim("largest grads", params, func(o *C.ll_tensor) *C.char {
		return C.ll_largest_grads_there(o, &h[0], C.int(len(h)))
	})
}

// AdamWState is what AdamW and Adam remember of one parameter.
type AdamWState struct {
	M, V *Tensor // moments, shape of the parameter
	Step *Tensor // number of updates, fp32 scalar
}

// AdamW updates params in place from their gradients (Loshchilov and Hutter,
// arXiv:1711.05101; the fused kernel of libtorch, equal to PyTorch's
// AdamW(fused=True) bit for bit). Parameters without a gradient stay. Where norm, a
// scalar of the device, is given and not finite, all stay.
func AdamW(params []*Tensor, states []AdamWState, norm *Tensor, lr, beta1, beta2, weightDecay, eps float64) {
	adam(params, states, norm, lr, beta1, beta2, weightDecay, eps, true)
}

// Adam is AdamW with the decay added to the gradient, that is L2 (Kingma and
// Ba, arXiv:1412.6980; PyTorch's Adam with weight_decay).
func Adam(params []*Tensor, states []AdamWState, norm *Tensor, lr, beta1, beta2, weightDecay, eps float64) {
	adam(params, states, norm, lr, beta1, beta2, weightDecay, eps, false)
}

func adam(params []*Tensor, states []AdamWState, norm *Tensor, lr, beta1, beta2, weightDecay, eps float64, decoupled bool) {
	if len(params) == 0 {
		return
	}
	n := len(params)
	m, v, s := make([]*Tensor, n), make([]*Tensor, n), make([]*Tensor, n)
	for i, st := range states {
		m[i], v[i], s[i] = st.M, st.V, st.Step
	}
	hp, hm, hv, hs := handles("adam", params), handles("adam", m), handles("adam", v), handles("adam", s)
	params[0].must("adam", C.ll_adam(&hp[0], &hm[0], &hv[0], &hs[0], C.int(n),
		C.double(lr), C.double(beta1), C.double(beta2), C.double(weightDecay), C.double(eps), C.int(b2i(decoupled)), norm.p()))
}

// SGD updates params in place: b ← μb + g, p ← p − lr·b, or p − lr·(g + μb) with
// Nesterov's momentum, g with the decay added to the gradient; as PyTorch does
// it with dampening 0. momenta start at 0 and stay so where momentum is 0.
// Parameters without a gradient stay. norm is as in AdamW.
func SGD(params, momenta []*Tensor, norm *Tensor, lr, momentum, weightDecay float64, nesterov bool) {
	if len(params) == 0 {
		return
	}
	hp, hb := handles("sgd", params), handles("sgd", momenta)
	params[0].must("sgd", C.ll_sgd(&hp[0], &hb[0], C.int(len(params)),
		C.double(lr), C.double(momentum), C.double(weightDecay), C.int(b2i(nesterov)), norm.p()))
}

// Lerp moves tensors towards others by a fraction of the way, in place.
func Lerp(to, from []*Tensor, by float64) {
	if len(to) == 0 {
		return
	}
	ht, hf := handles("lerp", to), handles("lerp", from)
	to[0].must("lerp", C.ll_lerp(&ht[0], &hf[0], C.int(len(to)), C.double(by)))
}
