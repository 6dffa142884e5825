package torch

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/sugarme/gotch/libtch"
)

// DType is the type of a tensor's elements, numbered as in libtorch.
type DType int32

// The types in use.
const (
	Uint8    DType = 0
	Int64    DType = 4
	Float32  DType = 6
	Float64  DType = 7
	Bool     DType = 11
	BFloat16 DType = 15
)

var dtypes = map[DType]struct {
	name string
	size int64
}{
	Uint8: {"uint8", 1}, Int64: {"int64", 8}, Float32: {"float32", 4},
	Float64: {"float64", 8}, Bool: {"bool", 1}, BFloat16: {"bfloat16", 2},
}

func (t DType) String() string {
	if d, ok := dtypes[t]; ok {
		return d.name
	}
	return fmt.Sprintf("dtype %d", int32(t))
}

// Size of an element in bytes.
func (t DType) Size() int64 { return dtypes[t].size }

// Tensor is a handle to a libtorch tensor. It belongs to a scope of its device,
// or, after Keep, to whoever kept it.
type Tensor struct {
	d     *Device
	c     libtch.Ctensor
	scope int // 0: kept
}

func (d *Device) wrap(c C.ll_tensor) *Tensor { return d.own(libtch.Ctensor(c)) }

func (d *Device) own(c libtch.Ctensor) *Tensor {
	n := len(d.scopes)
	t := &Tensor{d: d, c: c, scope: n}
	d.scopes[n-1] = append(d.scopes[n-1], t)
	d.live++
	return t
}

func (t *Tensor) p() C.ll_tensor {
	if t == nil {
		return nil
	}
	return C.ll_tensor(t.c)
}

func (t *Tensor) release() {
	if t.c == nil {
		return
	}
	libtch.AtFree(t.c)
	t.c = nil
	t.d.live--
}

// Keep takes t out of its scope: it lives until Free. It returns t.
func (t *Tensor) Keep() *Tensor {
	t.use("keep")
	t.scope = 0
	return t
}

// Free gives the handle back at once. The memory goes with the last handle and
// the last autograd node that need it. Freeing twice, or nil, does nothing.
func (t *Tensor) Free() {
	if t != nil {
		t.d.check("free")
		t.release()
	}
}

func (t *Tensor) use(op string) {
	t.d.check(op)
	if t.c == nil {
		panic(&Error{Op: op, Err: ErrFreed})
	}
}

// Shape of t.
func (t *Tensor) Shape() []int64 {
	t.use("shape")
	s := make([]int64, libtch.AtDim(t.c))
	if len(s) > 0 {
		libtch.AtShape(t.c, unsafe.Pointer(&s[0]))
	}
	return s
}

// Dim is the size of dimension i; negative counts from the last.
func (t *Tensor) Dim(i int) int64 {
	s := t.Shape()
	if i < 0 {
		i += len(s)
	}
	return s[i]
}

// DType of the elements.
func (t *Tensor) DType() DType { t.use("dtype"); return DType(libtch.AtScalarType(t.c)) }

// Numel is the number of elements.
func (t *Tensor) Numel() int64 {
	n := int64(1)
	for _, s := range t.Shape() {
		n *= s
	}
	return n
}

// Device that t lives on.
func (t *Tensor) Device() *Device { return t.d }

func (t *Tensor) String() string {
	if t == nil {
		return "none"
	}
	if t.c == nil {
		return "freed"
	}
	return fmt.Sprintf("%s %s", t.DType(), strings.ReplaceAll(fmt.Sprint(t.Shape()), " ", "×"))
}

// ---- between Go and libtorch ----

// Element is a Go type that tensors are made of.
type Element interface {
	~uint8 | ~int64 | ~float32 | ~float64
}

func dtypeOf[E Element]() DType {
	var e E
	switch any(e).(type) {
	case uint8:
		return Uint8
	case int64:
		return Int64
	case float32:
		return Float32
	default:
		return Float64
	}
}

// hostTensor copies n elements into a tensor in host memory. shape is not empty.
func hostTensor(data unsafe.Pointer, shape []int64, dt DType) C.ll_tensor {
	return C.ll_tensor(libtch.AtTensorOfData(data, shape, uint(len(shape)), uint(dt.Size()), int(dt)))
}

// Of copies data into a new tensor of the given shape on d. A GPU is not waited for.
func Of[E Element](d *Device, data []E, shape ...int64) *Tensor {
	d.check("of")
	n := int64(1)
	for _, s := range shape {
		n *= s
	}
	if n != int64(len(data)) {
		panic(&Error{Op: "of", Shapes: [][]int64{shape}, Err: fmt.Errorf("%d values given", len(data))})
	}
	if n == 0 {
		return d.Zeros(dtypeOf[E](), shape...)
	}
	if d.IsCUDA() {
		return d.upload(unsafe.Pointer(&data[0]), shape, dtypeOf[E]())
	}
	if len(shape) == 0 {
		return Of(d, data, 1).Reshape()
	}
	c := hostTensor(unsafe.Pointer(&data[0]), shape, dtypeOf[E]())
	if c == nil {
		panic(&Error{Op: "of", Shapes: [][]int64{shape}, Err: lastError()})
	}
	return d.wrap(c)
}

// View makes a tensor that looks into data (row-major, little endian) without
// copying. The memory must stay as it is, and mapped, for as long as the tensor
// or anything made from it by view lives. On a GPU the data is copied, and it is waited
// for.
func (d *Device) View(data []byte, dt DType, shape ...int64) *Tensor {
	d.check("view")
	n := dt.Size()
	for _, s := range shape {
		n *= s
	}
	if n != int64(len(data)) {
		panic(&Error{Op: "view", Shapes: [][]int64{shape}, Err: fmt.Errorf("%s needs %d bytes, %d given", dt, n, len(data))})
	}
	if n == 0 {
		return d.Zeros(dt, shape...)
	}
	var out C.ll_tensor
	dims := append(shape, 0)
	must("view", C.ll_from_blob(&out, unsafe.Pointer(&data[0]), (*C.int64_t)(unsafe.Pointer(&dims[0])), C.int(len(shape)), C.int(dt)))
	return d.wrap(out).toDevice()
}

func (t *Tensor) toDevice() *Tensor {
	if t.d.index < 0 {
		return t
	}
	return t.op("to device", []*Tensor{t}, func(o *libtch.Ctensor) { libtch.AtgTo(o, t.c, t.d.index) })
}

// Floats copies t to Go as float32, whatever its type.
func (t *Tensor) Floats() []float32 { return download[float32](t) }

// Doubles copies t to Go as float64.
func (t *Tensor) Doubles() []float64 { return download[float64](t) }

// Ints copies t to Go as int64.
func (t *Tensor) Ints() []int64 { return download[int64](t) }

// Bytes copies the elements of t as they are stored, little endian, row-major.
func (t *Tensor) Bytes() []byte {
	t.use("bytes")
	out := make([]byte, t.Numel()*t.DType().Size())
	if len(out) > 0 {
		t.d.Scope(func() {
			c := t.Contiguous()
			libtch.AtCopyData(c.c, unsafe.Pointer(&out[0]), uint(t.Numel()), uint(t.DType().Size()))
			if err := lastError(); err != nil {
				panic(&Error{Op: "bytes", Shapes: [][]int64{t.Shape()}, Err: err})
			}
		})
	}
	return out
}

func download[E Element](t *Tensor) []E {
	t.use("download")
	out := make([]E, t.Numel())
	if len(out) == 0 {
		return out
	}
	t.d.Scope(func() {
		c := t.To(dtypeOf[E]()).Contiguous()
		libtch.AtCopyData(c.c, unsafe.Pointer(&out[0]), uint(len(out)), uint(dtypeOf[E]().Size()))
		if err := lastError(); err != nil {
			panic(&Error{Op: "download", Shapes: [][]int64{t.Shape()}, Err: err})
		}
	})
	return out
}

// Item is the value of a tensor of one element.
func (t *Tensor) Item() float64 {
	t.use("item")
	var out C.double
	t.must("item", C.ll_item(&out, t.p()))
	return float64(out)
}

// Assign copies the values of src into t, in place, outside autograd.
func (t *Tensor) Assign(src *Tensor) {
	t.use("assign")
	src.use("assign")
	t.must("assign", C.ll_copy(t.p(), src.p()), src)
}

// ---- how operations are called ----

// lastError fetches libtch's error of this thread.
func lastError() error {
	c := libtch.GetAndResetLastErr()
	if c == nil {
		return nil
	}
	defer C.free(unsafe.Pointer(c))
	msg := C.GoString((*C.char)(unsafe.Pointer(c)))
	if i := strings.Index(msg, "Exception raised from"); i >= 0 {
		msg = msg[:i]
	}
	return errors.New(strings.TrimSpace(msg))
}

// op calls a libtch function that writes its result to a slot. A slot left
// empty is the sign of an error; only then the text is fetched.
func (t *Tensor) op(name string, in []*Tensor, call func(out *libtch.Ctensor)) *Tensor {
	return t.d.op(name, in, call)
}

func (d *Device) op(name string, in []*Tensor, call func(out *libtch.Ctensor)) *Tensor {
	d.check(name)
	for _, t := range in {
		if t != nil && t.c == nil {
			panic(&Error{Op: name, Err: ErrFreed})
		}
	}
	*d.slot = nil
	call(d.slot)
	if *d.slot == nil {
		err := lastError()
		if err == nil {
			err = errors.New("no result")
		}
		panic(&Error{Op: name, Shapes: shapes(in), Err: err})
	}
	return d.own(*d.slot)
}

// shim is op for the functions of shim.cpp.
func (d *Device) shim(name string, in []*Tensor, call func(out *C.ll_tensor) *C.char) *Tensor {
	d.check(name)
	for _, t := range in {
		if t != nil && t.c == nil {
			panic(&Error{Op: name, Err: ErrFreed})
		}
	}
	var out C.ll_tensor
	if err := cError(name, call(&out)); err != nil {
		e := err.(*Error)
		e.Shapes = shapes(in)
		panic(e)
	}
	return d.wrap(out)
}

func (t *Tensor) must(op string, msg *C.char, others ...*Tensor) {
	if err := cError(op, msg); err != nil {
		e := err.(*Error)
		e.Shapes = shapes(append([]*Tensor{t}, others...))
		panic(e)
	}
}

func shapes(ts []*Tensor) [][]int64 {
	var out [][]int64
	for _, t := range ts {
		if t != nil && t.c != nil {
			out = append(out, t.Shape())
		}
	}
	return out
}

// handles lists C pointers for a call; nil tensors stay nil.
func handles(op string, ts []*Tensor) []C.ll_tensor {
	out := make([]C.ll_tensor, len(ts), len(ts)+1)
	for i, t := range ts {
		if t != nil {
			t.use(op)
		}
		out[i] = t.p()
	}
	return out[:len(ts):cap(out)]
}
