package torch

// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"
)

// needsDriver is the oldest CUDA, as a driver says it, that libtorch's CUDA half runs
// on.
const needsDriver = 13000

// half is the library with the CUDA half of libtorch.
const half = "libtorch_cuda.so"

// FindCUDA makes CUDA usable if this machine has a driver and this libtorch its
// CUDA half, and says how many devices there are, or why none. It loads the
// driver first: without one, loading gigabytes of CUDA libraries would be for
// nothing.
func FindCUDA() (devices int, missing string) {
	if err := LoadCUDA("libcuda.so.1"); err != nil {
		return 0, "no NVIDIA driver (libcuda.so.1)"
	}
	// cuBLAS reads this when it starts, and is deterministic only with it. It costs
	// 24 MB of the device.
	if _, set := os.LookupEnv("CUBLAS_WORKSPACE_CONFIG"); !set {
		if err := os.Setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8"); err != nil {
			return 0, err.Error()
		}
	}
	// By its name it is looked for along LD_LIBRARY_PATH first, then next to the
	// libtorch that the engine is linked to.
	if err := LoadCUDA(half); err != nil {
		dir, other := libraryDir()
		if other != nil {
			return 0, other.Error()
		}
		path := filepath.Join(dir, half)
		if _, err := os.Stat(path); err != nil {
			return 0, fmt.Sprintf("there is a driver, but this libtorch is the CPU half only: build with CUDA=1 (%s is missing)", path)
		}
		if err = LoadCUDA(path); err != nil {
			return 0, err.Error()
		}
	}
	if devices = CUDADevices(); devices > 0 {
		return devices, ""
	}
	if v := int(C.ll_cuda_driver()); v > 0 && v < needsDriver {
		return 0, fmt.Sprintf("the driver is too old: it can do CUDA %d.%d, libtorch needs %d.%d", v/1000, v%1000/10, needsDriver/1000, needsDriver%1000/10)
	}
	return 0, "the driver shows no device"
}

// libraryDir is where the loaded libtorch lies.
func libraryDir() (string, error) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return "", fmt.Errorf("finding libtorch: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if i := strings.IndexByte(lines.Text(), '/'); i >= 0 && strings.HasSuffix(lines.Text(), "/libtorch_cpu.so") {
			return filepath.Dir(lines.Text()[i:]), nil
		}
	}
	return "", fmt.Errorf("finding libtorch: libtorch_cpu.so is not loaded")
}

// Facts are what the driver says of a GPU.
type Facts struct {
	Name       string // "NVIDIA H200"
	Memory     int64  // bytes
	Capability int    // compute capability, 90 for 9.0
}

// Facts of the device; false for a CPU, and where the driver says nothing.
func (d *Device) Facts() (Facts, bool) {
	if !d.IsCUDA() {
		return Facts{}, false
	}
	name := (*C.char)(C.calloc(1, 256))
	defer C.free(unsafe.Pointer(name))
	var memory C.int64_t
	var capability C.int
	if C.ll_cuda_facts(C.int(d.index), name, 256, &memory, &capability) == 0 {
		return Facts{}, false
	}
	return Facts{Name: C.GoString(name), Memory: int64(memory), Capability: int(capability)}, true
}

// Memory is what a GPU holds, in bytes.
type Memory struct {
	Now, Peak   int64 // of tensors, the peak since the call that reset it
	Left, Total int64 // as the driver sees it, other processes included
}

// Memory of the device; all of it is 0 for a CPU.
func (d *Device) Memory(reset bool) Memory {
	d.check("memory")
	if !d.IsCUDA() {
		return Memory{}
	}
	var now, peak, left, total C.int64_t
	must("memory", C.ll_cuda_memory(C.int(d.index), C.int(b2i(reset)), &now, &peak, &left, &total))
	return Memory{int64(now), int64(peak), int64(left), int64(total)}
}

// SetDeterministic makes a GPU take algorithms that give the same bits each time; an
// operation without one is an error. It holds for the whole process. A CPU has no
// others.
func (d *Device) SetDeterministic(on bool) {
	d.check("set deterministic")
	if d.IsCUDA() {
		must("set deterministic", C.ll_set_deterministic(C.int(b2i(on))))
		d.deterministic = on
	}
}

// upload copies host memory to a GPU, which need not be done with it before. data may
// be overwritten at once.
func (d *Device) upload(data unsafe.Pointer, shape []int64, dt DType) *Tensor {
	dims := append(shape[:len(shape):len(shape)], 0)
	return d.shim("upload", nil, func(o *C.ll_tensor) *C.char {
		return C.ll_upload(o, data, (*C.int64_t)(unsafe.Pointer(&dims[0])), C.int(len(shape)), C.int(dt), C.int(d.index))
	})
}

// Later is numbers that are on their way from a device.
type Later struct {
	d      *Device
	n      int64
	c      unsafe.Pointer
	values []float64 // of a CPU, at once
}

// Later begins to read a float32 vector and does not wait for the device to have
// computed it.
func (t *Tensor) Later() *Later {
	t.use("later")
	l := &Later{d: t.d, n: t.Numel()}
	if !t.d.IsCUDA() {
		l.values = t.Doubles()
		return l
	}
	t.must("later", C.ll_later(&l.c, t.p()))
	return l
}

// Read waits for the numbers. It is called once.
func (l *Later) Read() []float64 {
	l.d.check("later")
	if l.values != nil {
		return l.values
	}
	out := make([]float64, l.n)
	must("later", C.ll_later_read((*C.double)(&out[0]), l.c))
	l.c = nil
	return out
}

// ErrLost is the cause of an Error of a device that failed for good: a GPU after an
// error of CUDA that stays until the process ends.
var ErrLost = errors.New("the device is lost")

// lost reports whether an error leaves no device to work with.
func lost(err error) bool {
	var e *Error
	if !errors.As(err, &e) || OutOfMemory(err) {
		return false
	}
	s := e.Err.Error()
	for _, sign := range []string{"CUDA error", "CUDA driver error", "CUBLAS_STATUS_", "CUDNN_STATUS_", "CUSOLVER_STATUS_", "CUFFT_"} {
		if strings.Contains(s, sign) {
			return true
		}
	}
	return false
}
