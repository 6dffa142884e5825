package torch

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/sugarme/gotch/libtch"
)

type slot = libtch.Ctensor

func list(ts ...*Tensor) []*Tensor { return ts }

func b2i(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

// scalar makes a number for one call.
func scalar(v float64, call func(libtch.Cscalar)) {
	s := libtch.AtsFloat(v)
	defer libtch.AtsFree(s)
	call(s)
}

// ---- making tensors ----

// Zeros of a shape.
func (d *Device) Zeros(dt DType, shape ...int64) *Tensor {
	s := append(shape[:len(shape):len(shape)], 0)
	return d.op("zeros", nil, func(o *slot) { libtch.AtgZeros(o, s, len(shape), int32(dt), d.index) })
}

// Full is a tensor of one value.
func (d *Device) Full(v float64, dt DType, shape ...int64) *Tensor {
	s := append(shape[:len(shape):len(shape)], 0)
	return d.op("full", nil, func(o *slot) {
		scalar(v, func(c libtch.Cscalar) { libtch.AtgFull(o, s, len(shape), c, int32(dt), d.index) })
	})
}

// Eye is the identity matrix [n, n].
func (d *Device) Eye(dt DType, n int64) *Tensor {
	return d.op("eye", nil, func(o *slot) { libtch.AtgEye(o, n, int32(dt), d.index) })
}

// ZerosLike has shape, type and place of t.
func (t *Tensor) ZerosLike() *Tensor {
	return t.op("zeros like", list(t), func(o *slot) { libtch.AtgZerosLike(o, t.c) })
}

// ---- types and layout ----

// To converts to dt; t itself, as a new handle, if it has that type.
func (t *Tensor) To(dt DType) *Tensor {
	return t.op("to", list(t), func(o *slot) { libtch.AtgToDtype(o, t.c, int32(dt), 0, 0) })
}

// Clone copies the values.
func (t *Tensor) Clone() *Tensor {
	return t.op("clone", list(t), func(o *slot) { libtch.AtgToDtype(o, t.c, int32(t.DType()), 0, 1) })
}

// Contiguous is t in row-major order, copied if it is not so already.
func (t *Tensor) Contiguous() *Tensor {
	return t.op("contiguous", list(t), func(o *slot) { libtch.AtgContiguous(o, t.c) })
}

// Detach is t without its history.
func (t *Tensor) Detach() *Tensor {
	return t.op("detach", list(t), func(o *slot) { libtch.AtgDetach(o, t.c) })
}

// Reshape to a shape of as many elements; one -1 is worked out.
func (t *Tensor) Reshape(shape ...int64) *Tensor {
	s := append(shape[:len(shape):len(shape)], 0)
	return t.op("reshape", list(t), func(o *slot) { libtch.AtgReshape(o, t.c, s, len(shape)) })
}

// Permute reorders dimensions.
func (t *Tensor) Permute(order ...int64) *Tensor {
	return t.op("permute", list(t), func(o *slot) { libtch.AtgPermute(o, t.c, order, len(order)) })
}

// T swaps the last two dimensions.
func (t *Tensor) T() *Tensor { return t.Transpose(-2, -1) }

// Transpose swaps two dimensions.
func (t *Tensor) Transpose(a, b int64) *Tensor {
	return t.op("transpose", list(t), func(o *slot) { libtch.AtgTranspose(o, t.c, a, b) })
}

// Narrow is the part [start, start+n) of dimension dim, a view.
func (t *Tensor) Narrow(dim, start, n int64) *Tensor {
	return t.op("narrow", list(t), func(o *slot) { libtch.AtgNarrow(o, t.c, dim, start, n) })
}

// Select is entry i of dimension dim, which goes away.
func (t *Tensor) Select(dim, i int64) *Tensor {
	return t.op("select", list(t), func(o *slot) { libtch.AtgSelect(o, t.c, dim, i) })
}

// Unsqueeze inserts a dimension of size 1.
func (t *Tensor) Unsqueeze(dim int64) *Tensor {
	return t.op("unsqueeze", list(t), func(o *slot) { libtch.AtgUnsqueeze(o, t.c, dim) })
}

// Expand repeats dimensions of size 1 without copying; -1 keeps one.
func (t *Tensor) Expand(shape ...int64) *Tensor {
	return t.op("expand", list(t), func(o *slot) { libtch.AtgExpand(o, t.c, shape, len(shape), 0) })
}

// Repeat copies t times[i] times along dimension i.
func (t *Tensor) Repeat(times ...int64) *Tensor {
	return t.op("repeat", list(t), func(o *slot) { libtch.AtgRepeat(o, t.c, times, len(times)) })
}

// Cat joins tensors along a dimension.
func Cat(dim int64, ts ...*Tensor) *Tensor {
	return many("cat", ts, func(o *slot, c []libtch.Ctensor) { libtch.AtgCat(o, c, len(c), dim) })
}

// Stack joins tensors along a new dimension.
func Stack(dim int64, ts ...*Tensor) *Tensor {
	return many("stack", ts, func(o *slot, c []libtch.Ctensor) { libtch.AtgStack(o, c, len(c), dim) })
}

// Einsum sums products in Einstein's notation, "tin,ijrn->tijr".
func Einsum(equation string, ts ...*Tensor) *Tensor {
	text := C.CString(equation)
	defer C.free(unsafe.Pointer(text))
	h := handles("einsum", ts)
	return ts[0].d.shim("einsum "+equation, ts, func(o *C.ll_tensor) *C.char {
		return C.ll_einsum(o, text, &h[0], C.int(len(h)))
	})
}

func many(name string, ts []*Tensor, call func(o *slot, c []libtch.Ctensor)) *Tensor {
	c := make([]libtch.Ctensor, len(ts))
	for i, t := range ts {
		t.use(name)
		c[i] = t.c
	}
	return ts[0].op(name, ts, func(o *slot) { call(o, c) })
}

// ---- arithmetic; shapes broadcast, types promote ----

// Add is t + u.
func (t *Tensor) Add(u *Tensor) *Tensor {
	return t.op("add", list(t, u), func(o *slot) { libtch.AtgAdd(o, t.c, u.c) })
}

// Sub is t − u.
func (t *Tensor) Sub(u *Tensor) *Tensor {
	return t.op("sub", list(t, u), func(o *slot) { libtch.AtgSub(o, t.c, u.c) })
}

// Mul is t · u, element by element.
func (t *Tensor) Mul(u *Tensor) *Tensor {
	return t.op("mul", list(t, u), func(o *slot) { libtch.AtgMul(o, t.c, u.c) })
}

// Div is t / u, element by element.
func (t *Tensor) Div(u *Tensor) *Tensor {
	return t.op("div", list(t, u), func(o *slot) { libtch.AtgDiv(o, t.c, u.c) })
}

// Neg is −t.
func (t *Tensor) Neg() *Tensor {
	return t.op("neg", list(t), func(o *slot) { libtch.AtgNeg(o, t.c) })
}

// Scale is v · t.
func (t *Tensor) Scale(v float64) *Tensor {
	return t.op("scale", list(t), func(o *slot) {
		scalar(v, func(c libtch.Cscalar) { libtch.AtgMulScalar(o, t.c, c) })
	})
}

// AddScalar is t + v.
func (t *Tensor) AddScalar(v float64) *Tensor {
	return t.op("add scalar", list(t), func(o *slot) {
		scalar(v, func(c libtch.Cscalar) { libtch.AtgAddScalar(o, t.c, c) })
	})
}

// MatMul is the matrix product, batched over leading dimensions.
func (t *Tensor) MatMul(u *Tensor) *Tensor {
	return t.op("matmul", list(t, u), func(o *slot) { libtch.AtgMatmul(o, t.c, u.c) })
}

// Kron is the Kronecker product.
func (t *Tensor) Kron(u *Tensor) *Tensor {
	return t.op("kron", list(t, u), func(o *slot) { libtch.AtgKron(o, t.c, u.c) })
}

// Solve is Z with t · Z = b.
func (t *Tensor) Solve(b *Tensor) *Tensor {
	if t.d.IsCUDA() {
		return t.d.shim("solve", list(t, b), func(o *C.ll_tensor) *C.char { return C.ll_solve(o, t.p(), b.p()) })
	}
	return t.op("solve", list(t, b), func(o *slot) { libtch.AtgLinalgSolve(o, t.c, b.c, 1) })
}

// Sum over all elements.
func (t *Tensor) Sum() *Tensor {
	return t.op("sum", list(t), func(o *slot) { libtch.AtgSum(o, t.c, int32(t.sumType())) })
}

// SumDims sums over some dimensions.
func (t *Tensor) SumDims(keep bool, over ...int64) *Tensor {
	return t.op("sum", list(t), func(o *slot) {
		libtch.AtgSumDimIntlist(o, t.c, over, len(over), b2i(keep), int32(t.sumType()))
	})
}

func (t *Tensor) sumType() DType {
	switch dt := t.DType(); dt {
	case Uint8, Bool:
		return Int64
	default:
		return dt
	}
}

// Mean over all elements.
func (t *Tensor) Mean() *Tensor {
	return t.op("mean", list(t), func(o *slot) { libtch.AtgMean(o, t.c, int32(t.DType())) })
}

// MeanDims is the mean over some dimensions.
func (t *Tensor) MeanDims(keep bool, over ...int64) *Tensor {
	return t.op("mean", list(t), func(o *slot) {
		libtch.AtgMeanDim(o, t.c, over, len(over), b2i(keep), int32(t.DType()))
	})
}

// Norm is the 2-norm over dimensions, √Σt². Its gradient at 0 is 0.
func (t *Tensor) Norm(keep bool, over ...int64) *Tensor {
	return t.d.shim("norm", list(t), func(o *C.ll_tensor) *C.char {
		return C.ll_norm(o, t.p(), (*C.int64_t)(unsafe.Pointer(&over[0])), C.int(len(over)), C.int(b2i(keep)))
	})
}

// Sqrt element by element.
func (t *Tensor) Sqrt() *Tensor {
	return t.op("sqrt", list(t), func(o *slot) { libtch.AtgSqrt(o, t.c) })
}

// Exp element by element.
func (t *Tensor) Exp() *Tensor {
	return t.op("exp", list(t), func(o *slot) { libtch.AtgExp(o, t.c) })
}

// Log is the natural logarithm, element by element.
func (t *Tensor) Log() *Tensor {
	return t.op("log", list(t), func(o *slot) { libtch.AtgLog(o, t.c) })
}

// Abs element by element; its gradient at 0 is 0.
func (t *Tensor) Abs() *Tensor {
	return t.op("abs", list(t), func(o *slot) { libtch.AtgAbs(o, t.c) })
}

// Maximum of t and u, element by element; equal ones share the gradient.
func (t *Tensor) Maximum(u *Tensor) *Tensor {
	return t.op("maximum", list(t, u), func(o *slot) { libtch.AtgMaximum(o, t.c, u.c) })
}

// Minimum of t and u, element by element; equal ones share the gradient.
func (t *Tensor) Minimum(u *Tensor) *Tensor {
	return t.op("minimum", list(t, u), func(o *slot) { libtch.AtgMinimum(o, t.c, u.c) })
}

// Where is a where t (bool) is 1, else b.
func (t *Tensor) Where(a, b *Tensor) *Tensor {
	return t.op("where", list(t, a, b), func(o *slot) { libtch.AtgWhereSelf(o, t.c, a.c, b.c) })
}

// Max is the largest over some dimensions; equal ones share the gradient.
func (t *Tensor) Max(keep bool, over ...int64) *Tensor {
	return t.op("max", list(t), func(o *slot) { libtch.AtgAmax(o, t.c, over, len(over), b2i(keep)) })
}

// Min is the smallest over some dimensions; equal ones share the gradient.
func (t *Tensor) Min(keep bool, over ...int64) *Tensor {
	return t.op("min", list(t), func(o *slot) { libtch.AtgAmin(o, t.c, over, len(over), b2i(keep)) })
}

// Cosh element by element.
func (t *Tensor) Cosh() *Tensor {
	return t.op("cosh", list(t), func(o *slot) { libtch.AtgCosh(o, t.c) })
}

// Pow is t to a power, element by element.
func (t *Tensor) Pow(v float64) *Tensor {
	return t.op("pow", list(t), func(o *slot) {
		scalar(v, func(c libtch.Cscalar) { libtch.AtgPowTensorScalar(o, t.c, c) })
	})
}

// CumSum sums along a dimension up to and with each element.
func (t *Tensor) CumSum(dim int64) *Tensor {
	return t.op("cumsum", list(t), func(o *slot) { libtch.AtgCumsum(o, t.c, dim, int32(t.sumType())) })
}

// Sin element by element.
func (t *Tensor) Sin() *Tensor {
	return t.op("sin", list(t), func(o *slot) { libtch.AtgSin(o, t.c) })
}

// Cos element by element.
func (t *Tensor) Cos() *Tensor {
	return t.op("cos", list(t), func(o *slot) { libtch.AtgCos(o, t.c) })
}

// ClampMin is max(t, lo).
func (t *Tensor) ClampMin(lo float64) *Tensor {
	return t.op("clamp", list(t), func(o *slot) {
		scalar(lo, func(c libtch.Cscalar) { libtch.AtgClampMin(o, t.c, c) })
	})
}

// Clamp is min(max(t, lo), hi).
func (t *Tensor) Clamp(lo, hi float64) *Tensor {
	return t.op("clamp", list(t), func(o *slot) {
		scalar(lo, func(a libtch.Cscalar) {
			scalar(hi, func(b libtch.Cscalar) { libtch.AtgClamp(o, t.c, a, b) })
		})
	})
}

// Equal is 1 where t is v, else 0 (bool).
func (t *Tensor) Equal(v float64) *Tensor {
	return t.op("equal", list(t), func(o *slot) {
		scalar(v, func(c libtch.Cscalar) { libtch.AtgEq(o, t.c, c) })
	})
}

// Greater is 1 where t is greater than v, else 0 (bool).
func (t *Tensor) Greater(v float64) *Tensor {
	return t.op("greater", list(t), func(o *slot) {
		scalar(v, func(c libtch.Cscalar) { libtch.AtgGt(o, t.c, c) })
	})
}

// NotEqual is 1 where t is not v, else 0 (bool).
func (t *Tensor) NotEqual(v float64) *Tensor {
	return t.op("not equal", list(t), func(o *slot) {
		scalar(v, func(c libtch.Cscalar) { libtch.AtgNe(o, t.c, c) })
	})
}

// ---- activations ----

// ReLU is max(t, 0).
func (t *Tensor) ReLU() *Tensor {
	return t.op("relu", list(t), func(o *slot) { libtch.AtgRelu(o, t.c) })
}

// Sigmoid is 1/(1+e⁻ᵗ).
func (t *Tensor) Sigmoid() *Tensor {
	return t.op("sigmoid", list(t), func(o *slot) { libtch.AtgSigmoid(o, t.c) })
}

// Tanh is the hyperbolic tangent.
func (t *Tensor) Tanh() *Tensor {
	return t.op("tanh", list(t), func(o *slot) { libtch.AtgTanh(o, t.c) })
}

// SiLU is t · Sigmoid(t).
func (t *Tensor) SiLU() *Tensor {
	return t.op("silu", list(t), func(o *slot) { libtch.AtgSilu(o, t.c) })
}

// GELU is t·Φ(t), exact. (libtch's own leaks a string at each call.)
func (t *Tensor) GELU() *Tensor {
	return t.d.shim("gelu", list(t), func(o *C.ll_tensor) *C.char { return C.ll_gelu(o, t.p()) })
}

// Softmax over a dimension; sums are taken in fp32 for bfloat16.
func (t *Tensor) Softmax(dim int64) *Tensor {
	return t.op("softmax", list(t), func(o *slot) { libtch.AtgSoftmax(o, t.c, dim, int32(t.DType())) })
}

// LogSoftmax over a dimension.
func (t *Tensor) LogSoftmax(dim int64) *Tensor {
	return t.op("log softmax", list(t), func(o *slot) { libtch.AtgLogSoftmax(o, t.c, dim, int32(t.DType())) })
}

// Dropout zeroes elements with probability p and scales the rest by 1/(1−p).
// It draws from the device's generator.
func (t *Tensor) Dropout(p float64) *Tensor {
	return t.op("dropout", list(t), func(o *slot) { libtch.AtgDropout(o, t.c, p, 1) })
}

// ChannelDropout drops whole channels of [N, C, H, W] (Dropout2d).
func (t *Tensor) ChannelDropout(p float64) *Tensor {
	return t.op("channel dropout", list(t), func(o *slot) { libtch.AtgFeatureDropout(o, t.c, p, 1) })
}

// ---- picking ----

// Rows are entries of dimension dim at int64 positions [n].
func (t *Tensor) Rows(dim int64, at *Tensor) *Tensor {
	return t.op("rows", list(t, at), func(o *slot) { libtch.AtgIndexSelect(o, t.c, dim, at.c) })
}

// Gather takes t[..., index, ...] along dim, as torch.gather.
func (t *Tensor) Gather(dim int64, index *Tensor) *Tensor {
	return t.op("gather", list(t, index), func(o *slot) { libtch.AtgGather(o, t.c, dim, index.c, 0) })
}

// Scatter is t with the elements of src written at index along dim.
func (t *Tensor) Scatter(dim int64, index, src *Tensor) *Tensor {
	return t.op("scatter", list(t, index, src), func(o *slot) { libtch.AtgScatter(o, t.c, dim, index.c, src.c) })
}

// ArgSort is the order of the elements along a dimension, int64, the largest
// first; equal ones in order of place.
func (t *Tensor) ArgSort(dim int64) *Tensor {
	return t.op("argsort", list(t), func(o *slot) { libtch.AtgArgsortStable(o, t.c, 1, dim, 1) })
}

// ArgMax is the position of the largest along dim (int64), the first of them. It
// comes from libtorch's max, which on the CPU takes a quarter of the time of its
// argmax where dim is not the last.
func (t *Tensor) ArgMax(dim int64) *Tensor {
	return t.d.shim("argmax", list(t), func(o *C.ll_tensor) *C.char {
		return C.ll_argmax(o, t.p(), C.int64_t(dim))
	})
}

// TopKMask is 1 at the k largest along dim, else 0; no gradient passes.
func (t *Tensor) TopKMask(k, dim int64) *Tensor {
	return t.d.shim("topk mask", list(t), func(o *C.ll_tensor) *C.char {
		return C.ll_topk_mask(o, t.p(), C.int64_t(k), C.int64_t(dim))
	})
}

// ---- decompositions ----

// SVD is U [m, r], S [r], Vᵀ [r, n] of a matrix, r = min(m, n).
func (t *Tensor) SVD() (u, s, vt *Tensor) {
	t.use("svd")
	var cu, cs, cv C.ll_tensor
	t.must("svd", C.ll_svd(&cu, &cs, &cv, t.p()))
	return t.d.wrap(cu), t.d.wrap(cs), t.d.wrap(cv)
}

// QR is Q [m, r] and R [r, n] of a matrix, r = min(m, n).
func (t *Tensor) QR() (q, r *Tensor) {
	t.use("qr")
	var cq, cr C.ll_tensor
	t.must("qr", C.ll_qr(&cq, &cr, t.p()))
	return t.d.wrap(cq), t.d.wrap(cr)
}

// InverseFFT2 is the real part of the inverse Fourier transform of the last
// two dimensions.
func (t *Tensor) InverseFFT2() *Tensor {
	return t.d.shim("ifft2", list(t), func(o *C.ll_tensor) *C.char { return C.ll_ifft2_real(o, t.p()) })
}

// ---- layers ----

// Linear is x wᵀ + b; x [..., in], w [out, in], b [out] or nil.
func Linear(x, w, b *Tensor) *Tensor {
	return x.op("linear", list(x, w, b), func(o *slot) { libtch.AtgLinear(o, x.c, w.c, handle(b)) })
}

func handle(t *Tensor) libtch.Ctensor {
	if t == nil {
		return nil
	}
	return t.c
}

// LowRankPart adds Scale · (x Aᵀ) Bᵀ to outputs [Offset, Offset+out) of a
// linear layer; A [r, in], B [out, r]. H [T, r] takes the place of x Aᵀ where A
// acts on something else than x.
type LowRankPart struct {
	A, H, B *Tensor
	Offset  int64
	Scale   float64
}

// LowRankLinear is Linear with frozen w and b and low-rank updates on parts of
// the output, as one operation: what LoRA on q, k and v needs of one product.
// x and w share a type; A and B are fp32. Either all parts have an H or none
// has. For bfloat16 the update is summed before the output is rounded.
func LowRankLinear(x, w, b *Tensor, parts []LowRankPart) *Tensor {
	n := len(parts)
	if n == 0 {
		return Linear(x, w, b)
	}
	as, hs, bs := make([]*Tensor, n), make([]*Tensor, n), make([]*Tensor, n)
	offsets, scales := make([]int64, n), make([]float64, n)
	in := list(x, w, b)
	for i, p := range parts {
		as[i], hs[i], bs[i], offsets[i], scales[i] = p.A, p.H, p.B, p.Offset, p.Scale
		if (p.H == nil) != (parts[0].H == nil) || p.H == nil && p.A == nil {
			panic(&Error{Op: "low-rank linear", Err: fmt.Errorf("part %d has neither A nor H as part 0", i)})
		}
		in = append(in, p.A, p.H, p.B)
	}
	const op = "low-rank linear"
	ha, hh, hb := handles(op, as), handles(op, hs), handles(op, bs)
	return x.d.shim(op, in, func(o *C.ll_tensor) *C.char {
		return C.ll_low_rank_linear(o, x.p(), w.p(), b.p(), C.int(n),
			(*C.int64_t)(unsafe.Pointer(&offsets[0])), &ha[0], &hh[0], &hb[0], (*C.double)(unsafe.Pointer(&scales[0])))
	})
}

// LayerNorm over the last dimension; weight and bias [D], or nil.
func LayerNorm(x, weight, bias *Tensor, eps float64) *Tensor {
	return x.op("layer norm", list(x, weight, bias), func(o *slot) {
		libtch.AtgLayerNorm(o, x.c, []int64{x.Dim(-1)}, 1, handle(weight), handle(bias), eps, 1)
	})
}

// Conv2d of x [N, C, H, W] with w [O, C, kh, kw], b [O] or nil.
func Conv2d(x, w, b *Tensor, stride, padding int64) *Tensor {
	return x.op("conv2d", list(x, w, b), func(o *slot) {
		libtch.AtgConv2d(o, x.c, w.c, handle(b), []int64{stride, stride}, 2, []int64{padding, padding}, 2, []int64{1, 1}, 2, 1)
	})
}

// BatchNorm of [N, C, H, W]. In training it uses the batch's statistics and
// moves mean and variance, in place, by momentum; it takes two values of each
// channel at least, as PyTorch's does.
func BatchNorm(x, weight, bias, mean, variance *Tensor, train bool, momentum, eps float64) *Tensor {
	if train && x.Numel() == x.Dim(1) {
		panic(&Error{Op: "batch norm", Shapes: [][]int64{x.Shape()}, Err: errors.New("one value of each channel has no variance to train with")})
	}
	return x.op("batch norm", list(x, weight, bias, mean, variance), func(o *slot) {
		libtch.AtgBatchNorm(o, x.c, weight.c, bias.c, mean.c, variance.c, b2i(train), momentum, eps, 1)
	})
}

// InstanceNorm brings each channel of each image of [N, C, H, W] to mean 0 and
// variance 1 over its pixels, then scales it by weight and shifts it by bias [C].
func InstanceNorm(x, weight, bias *Tensor, eps float64) *Tensor {
	return x.op("instance norm", list(x, weight, bias), func(o *slot) {
		libtch.AtgInstanceNorm(o, x.c, weight.c, bias.c, nil, nil, 1, 0, eps, 1)
	})
}

// PadReflected adds n pixels on every side of [N, C, H, W], mirrored at those
// on the edge, which are not repeated. H and W have to be more than n.
func (t *Tensor) PadReflected(n int64) *Tensor {
	return t.op("pad reflected", list(t), func(o *slot) {
		libtch.AtgReflectionPad2d(o, t.c, []int64{n, n, n, n}, 4)
	})
}

// UpsampleNearest resizes [N, C, H, W] to h × w; each pixel is that of
// floor(y·H/h), floor(x·W/w).
func (t *Tensor) UpsampleNearest(h, w int64) *Tensor {
	return t.op("upsample nearest", list(t), func(o *slot) {
		libtch.AtgUpsampleNearest2d(o, t.c, []int64{h, w}, 2, 0, 1, 0, 1)
	})
}

// UpsampleBilinear resizes [N, C, H, W] to h × w, pixel centres at half-integers
// (align_corners false), no antialias.
func (t *Tensor) UpsampleBilinear(h, w int64) *Tensor {
	if t.d.deterministic {
		return t.resampled(h, w, bilinear)
	}
	return t.op("upsample bilinear", list(t), func(o *slot) {
		libtch.AtgUpsampleBilinear2d(o, t.c, []int64{h, w}, 2, 0, 0, 1, 0, 1)
	})
}

// UpsampleBicubic resizes [N, C, H, W] to h × w with a = −0.75, half-pixel
// centres, no antialias: how position tables are interpolated.
func (t *Tensor) UpsampleBicubic(h, w int64) *Tensor {
	if t.d.deterministic {
		return t.resampled(h, w, bicubic)
	}
	return t.op("upsample bicubic", list(t), func(o *slot) {
		libtch.AtgUpsampleBicubic2d(o, t.c, []int64{h, w}, 2, 0, 0, 1, 0, 1)
	})
}

// CrossEntropy is the mean over pixels of −log softmax at the target's class;
// logits [N, C, ...], target int64 [N, ...]. Pixels with target ignore do not
// count; with none left the result is NaN. weights [C], or nil, multiply pixels
// by class, and the mean is over their sum; smoothing gives so much of a label to
// all classes alike. As torch.nn.functional.cross_entropy.
func CrossEntropy(logits, target, weights *Tensor, ignore int64, smoothing float64) *Tensor {
	return crossEntropy(logits, target, weights, 1, ignore, smoothing)
}

// CrossEntropySum is CrossEntropy with reduction "sum": with no pixel left, 0.
func CrossEntropySum(logits, target, weights *Tensor, ignore int64, smoothing float64) *Tensor {
	if logits.d.IsCUDA() {
		// The kernel that sums as well adds in any order, by atomic operations.
		return crossEntropy(logits, target, weights, 0, ignore, smoothing).Sum()
	}
	return crossEntropy(logits, target, weights, 2, ignore, smoothing)
}

func crossEntropy(logits, target, weights *Tensor, reduction, ignore int64, smoothing float64) *Tensor {
	return logits.op("cross entropy", list(logits, target), func(o *slot) {
		libtch.AtgCrossEntropyLoss(o, logits.c, target.c, handle(weights), reduction, ignore, smoothing)
	})
}
