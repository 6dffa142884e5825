package torch

// #cgo CXXFLAGS: -std=c++17 -O2
// #cgo LDFLAGS: -ltorch_cpu -lc10 -ldl
// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"github.com/sugarme/gotch/libtch"
	"golang.org/x/sys/unix"
)

// Device is a CPU or a GPU with the one thread that talks to it.
type Device struct {
	index int32 // -1: CPU, n: cuda:n
	jobs  chan job
	done  chan struct{}

	// Below: touched by the device's thread only.
	tid    int
	scopes [][]*Tensor
	live   int              // handles not freed
	slot   *libtch.Ctensor  // where libtch puts a result; C memory
	forms  map[string]int32 // attention form by shape, see Attention
	closed sync.Once

	deterministic bool
	lost          error // of a GPU that failed for good
}

type job struct {
	fn   func() error
	done chan error
}

// CPU starts the CPU device with the given number of threads for operations;
// 0 takes all processors. Close it when done.
func CPU(threads int) (*Device, error) {
	if threads <= 0 {
		threads = runtime.NumCPU()
	}
	d := start(-1)
	err := d.Do(func() error {
		C.ll_keep_freed_memory()
		return cError("set threads", C.ll_set_threads(C.int(threads)))
	})
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// CUDA starts device cuda:index. LoadCUDA must have been called before.
func CUDA(index int) (*Device, error) {
	if n := CUDADevices(); index < 0 || index >= n {
		return nil, fmt.Errorf("cuda:%d: there are %d CUDA devices", index, n)
	}
	d := start(int32(index))
	if err := d.Do(func() error { return cError("start", C.ll_cuda_begin(C.int(index))) }); err != nil {
		d.Close()
		return nil, fmt.Errorf("cuda:%d: %w", index, err)
	}
	return d, nil
}

func start(index int32) *Device {
	d := &Device{index: index, jobs: make(chan job), done: make(chan struct{}), forms: map[string]int32{}}
	ready := make(chan struct{})
	go func() {
		// Never unlocked: the thread ends with the device and takes libtorch's
		// thread-local state with it.
		runtime.LockOSThread()
		d.tid = unix.Gettid()
		d.slot = (*libtch.Ctensor)(C.calloc(8, 8))
		C.ll_count_bytes()
		close(ready)
		for {
			select {
			case j := <-d.jobs:
				j.done <- d.run(j.fn)
			case <-d.done:
				C.free(unsafe.Pointer(d.slot))
				return
			}
		}
	}()
	<-ready
	return d
}

// Close ends the device's thread. Tensors still kept are lost to the process.
func (d *Device) Close() { d.closed.Do(func() { close(d.done) }) }

// String is "cpu" or "cuda:0".
func (d *Device) String() string {
	if d.index < 0 {
		return "cpu"
	}
	return fmt.Sprintf("cuda:%d", d.index)
}

// Do runs fn on the device's thread, in a scope of its own, and waits. Calls
// from many goroutines are served one after another. A panic of an operation
// comes back as *Error, any other as *PanicError. Do inside Do is refused. A GPU that
// was lost computes nothing more: all later calls return an error that is ErrLost.
func (d *Device) Do(fn func() error) error {
	if unix.Gettid() == d.tid {
		return errors.New("torch: Do called inside Do")
	}
	j := job{fn: fn, done: make(chan error, 1)}
	select {
	case d.jobs <- j:
		return <-j.done
	case <-d.done:
		return errors.New("torch: device is closed")
	}
}

func (d *Device) run(fn func() error) (err error) {
	if d.lost != nil {
		return d.lost
	}
	defer func() {
		if v := recover(); v != nil {
			err = recovered(v)
		}
		if lost(err) {
			d.lost = fmt.Errorf("%v: %w: %w", d, ErrLost, err)
			err = d.lost
		}
		for len(d.scopes) > 0 {
			d.pop()
		}
		libtch.AtGradSetEnabled(1)
	}()
	d.push()
	return fn()
}

func (d *Device) check(op string) {
	if unix.Gettid() != d.tid {
		panic(&Error{Op: op, Err: ErrThread})
	}
}

// Scope runs fn and frees every tensor it made and did not Keep.
func (d *Device) Scope(fn func()) {
	d.check("scope")
	d.push()
	defer d.pop()
	fn()
}

// Yield runs fn in a scope of its own. The result moves to the enclosing scope;
// all else that fn made is freed. Autograd keeps what backward needs.
func (d *Device) Yield(fn func() *Tensor) *Tensor {
	var out *Tensor
	d.YieldAll(func() []*Tensor { out = fn(); return []*Tensor{out} })
	return out
}

// YieldAll is Yield for several results; nil ones are allowed.
func (d *Device) YieldAll(fn func() []*Tensor) []*Tensor {
	d.check("scope")
	depth := len(d.scopes)
	d.push()
	defer func() {
		for len(d.scopes) > depth {
			d.pop()
		}
	}()
	out := fn()
	for _, t := range out {
		if t != nil && t.scope > depth {
			t.scope = depth
			d.scopes[depth-1] = append(d.scopes[depth-1], t)
		}
	}
	return out
}

// Scopes are numbered from 1; 0 marks a kept tensor.
func (d *Device) push() { d.scopes = append(d.scopes, nil) }

func (d *Device) pop() {
	n := len(d.scopes)
	for _, t := range d.scopes[n-1] {
		if t.scope == n {
			t.release()
		}
	}
	clear(d.scopes[n-1])
	d.scopes = d.scopes[:n-1]
}

// NoGrad runs fn without recording operations for backward, and restores the
// mode that was. It nests.
func (d *Device) NoGrad(fn func()) {
	d.check("no grad")
	before := libtch.AtGradSetEnabled(0) & 1
	defer libtch.AtGradSetEnabled(before)
	fn()
}

// SetTF32 says whether a GPU may round the factors of fp32 products, in matrices
// and convolutions alike, to the 10 bits of mantissa of TF32. Left alone, libtorch
// does so in convolutions and not elsewhere, so whoever wants fp32 has to say so.
// It holds for the whole process; a CPU is not moved by it.
func (d *Device) SetTF32(on bool) {
	d.check("set tf32")
	must("set tf32", C.ll_set_tf32(C.int(b2i(on))))
}

// TF32 reports what SetTF32 set: in matrix products, in convolutions.
func (d *Device) TF32() (products, convolutions bool) {
	d.check("tf32")
	set := C.ll_tf32()
	return set&1 != 0, set&2 != 0
}

// IsCUDA reports whether the device is a GPU.
func (d *Device) IsCUDA() bool { return d.index >= 0 }

// Live is the number of tensor handles that exist.
func (d *Device) Live() int { d.check("live"); return d.live }

// LiveBytes is what the tensors made on this thread occupy, autograd's
// included.
func (d *Device) LiveBytes() int64 { d.check("live bytes"); return int64(C.ll_live_bytes()) }

// Seed starts the device's generator anew. Dropout is all that draws from it.
func (d *Device) Seed(seed uint64) {
	d.check("seed")
	must("seed", C.ll_seed(C.int(d.index), C.uint64_t(seed)))
}

// GeneratorState is the state of the device's generator, to be given back to
// SetGeneratorState.
func (d *Device) GeneratorState() []byte {
	d.check("generator state")
	var out C.ll_tensor
	must("generator state", C.ll_rng_get(C.int(d.index), &out))
	return d.wrap(out).Bytes()
}

// SetGeneratorState continues the generator where GeneratorState was taken.
func (d *Device) SetGeneratorState(state []byte) {
	d.check("set generator state")
	// Generator states live in host memory, whatever the device.
	t := d.wrap(hostTensor(unsafe.Pointer(&state[0]), []int64{int64(len(state))}, Uint8))
	must("set generator state", C.ll_rng_set(C.int(d.index), t.p()))
}

// Version of libtorch, "2.11.0".
func Version() string { return C.GoString(C.ll_version()) }

// CPUCapability is the instruction set libtorch chose: "AVX512", "AVX2", "DEFAULT".
func CPUCapability() string { return C.GoString(C.ll_cpu_capability()) }

// FastBF16 reports whether the processor multiplies bfloat16 matrices natively.
func FastBF16() bool { return C.ll_fast_bf16() != 0 }

// Threads that operations on the CPU use.
func Threads() int { return int(C.ll_threads()) }

// LoadCUDA loads the CUDA half of libtorch from path (libtorch_cuda.so). It has
// to come before the first question about CUDA: libtorch remembers the answer.
func LoadCUDA(path string) error {
	p := C.CString(path)
	defer C.free(unsafe.Pointer(p))
	return cError("load "+path, C.ll_load_cuda(p))
}

// CUDADevices is the number of usable CUDA devices.
func CUDADevices() int { return int(C.ll_cuda_devices()) }

func cError(op string, msg *C.char) error {
	if msg == nil {
		return nil
	}
	defer C.free(unsafe.Pointer(msg))
	return &Error{Op: op, Err: errors.New(C.GoString(msg))}
}

func must(op string, msg *C.char) {
	if err := cError(op, msg); err != nil {
		panic(err)
	}
}
