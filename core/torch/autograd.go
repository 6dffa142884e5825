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

// AdamWState is what AdamW remembers of one parameter.
type AdamWState struct {
	M, V *Tensor // moments, shape of the parameter
	Step *Tensor // number of updates, fp32 scalar
}

// AdamW updates params in place from their gradients (Loshchilov and Hutter,
// arXiv:1711.05101; the fused kernel of libtorch, equal to PyTorch's
// AdamW(fused=True) bit for bit). Parameters without a gradient stay.
func AdamW(params []*Tensor, states []AdamWState, lr, beta1, beta2, weightDecay, eps float64) {
	if len(params) == 0 {
		return
	}
	n := len(params)
	m, v, s := make([]*Tensor, n), make([]*Tensor, n), make([]*Tensor, n)
	for i, st := range states {
		m[i], v[i], s[i] = st.M, st.V, st.Step
	}
	hp, hm, hv, hs := handles("adamw", params), handles("adamw", m), handles("adamw", v), handles("adamw", s)
	params[0].must("adamw", C.ll_adamw(&hp[0], &hm[0], &hv[0], &hs[0], C.int(n),
		C.double(lr), C.double(beta1), C.double(beta2), C.double(weightDecay), C.double(eps)))
}
