// Package fakecuda is GPUs for tests on machines without any: two libraries with the
// names of the NVIDIA driver and of the CUDA half of libtorch, which an engine loads in
// place of those. Its devices hold their tensors in host memory and compute with the
// kernels of the CPU, so what they compute is known to the last bit. What makes a GPU
// different for the code above is there: tensors of two devices do not mix, memory ends,
// a device may be lost for good, generators and pinned memory are its own, and each wait
// of the host for the device is counted.
//
// It proves where things are computed and when the host waits. It says nothing of the
// kernels of a real GPU, of their speed or of their rounding.
package fakecuda

import (
	"context"
	"crypto/sha256"
	_ "embed" // the sources of the libraries
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var (
	//go:embed lib/torch_cuda.cpp
	torchCUDA []byte
	//go:embed lib/cuda.cpp
	driver []byte
)

// Variable names the file that a process shares with the test that started it.
const Variable = "LORALAB_FAKE_CUDA"

// Fake is GPUs for one test.
type Fake struct {
	dir  string // of the libraries
	file *os.File
}

// The words of the file, each an int64: see State in torch_cuda.cpp.
const (
	devices = iota
	memory
	lose
	lost
	launches
	waits
	uploads
	used
	most  = 8
	peak  = used + most
	words = peak + most
)

// New makes a number of GPUs, at most 8, with much memory. The libraries are compiled
// the first time, which takes half a minute.
func New(t testing.TB, n int) *Fake {
	t.Helper()
	dir, err := build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	f := &Fake{dir, file}
	if err := file.Truncate(8 * words); err != nil {
		t.Fatal(err)
	}
	f.set(devices, int64(n))
	f.Memory(1 << 40)
	return f
}

// Of is the GPUs of a process that was started with Environment, nil if there are none.
func Of(environment func(string) string) (*Fake, error) {
	path := environment(Variable)
	if path == "" {
		return nil, nil
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	return &Fake{file: file}, err
}

// Environment is what a process has to be started with to have the GPUs.
func (f *Fake) Environment() []string {
	path := f.dir
	if before := os.Getenv("LD_LIBRARY_PATH"); before != "" {
		path += string(filepath.ListSeparator) + before
	}
	return []string{"LD_LIBRARY_PATH=" + path, Variable + "=" + f.file.Name()}
}

// Memory sets the bytes that each GPU has.
func (f *Fake) Memory(bytes int64) { f.set(memory, bytes) }

// Lose has the GPUs fail for good after a number of further kernels.
func (f *Fake) Lose(after int64) {
	f.set(lost, 0)
	f.set(lose, f.get(launches)+after)
}

// Found gives the GPUs back what they lost.
func (f *Fake) Found() {
	f.set(lose, 0)
	f.set(lost, 0)
}

// Waits is how often the host has waited for a GPU.
func (f *Fake) Waits() int64 { return f.get(waits) }

// Uploads is how many copies to GPUs the host did not wait for.
func (f *Fake) Uploads() int64 { return f.get(uploads) }

// Launches is how many kernels have run.
func (f *Fake) Launches() int64 { return f.get(launches) }

// Used is the bytes of tensors on a GPU.
func (f *Fake) Used(device int) int64 { return f.get(used + device) }

// Peak is the most bytes of tensors on a GPU since its statistics were reset.
func (f *Fake) Peak(device int) int64 { return f.get(peak + device) }

func (f *Fake) set(word int, v int64) {
	if _, err := f.file.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(v)), int64(8*word)); err != nil {
		panic(err)
	}
}

func (f *Fake) get(word int) int64 {
	b := make([]byte, 8)
	if _, err := f.file.ReadAt(b, int64(8*word)); err != nil {
		panic(err)
	}
	return int64(binary.LittleEndian.Uint64(b))
}

// build compiles the libraries into the user's cache, with the flags of the engine.
func build(ctx context.Context) (dir string, err error) {
	cxx, flags, link := os.Getenv("CXX"), strings.Fields(os.Getenv("CGO_CXXFLAGS")), strings.Fields(os.Getenv("CGO_LDFLAGS"))
	if cxx == "" || len(flags) == 0 || len(link) == 0 {
		return "", errors.New("CXX, CGO_CXXFLAGS or CGO_LDFLAGS is not set: run the tests as `make test` does")
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache directory: %w", err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %q %q %q", torchCUDA, driver, cxx, flags, link))
	dir = filepath.Join(base, "loralab", "fakecuda-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o777); err != nil {
		return "", fmt.Errorf("making the fake GPUs: %w", err)
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "fakecuda-*")
	if err != nil {
		return "", fmt.Errorf("making the fake GPUs: %w", err)
	}
	defer os.RemoveAll(temp)
	for _, lib := range []struct {
		name   string
		source []byte
		flags  []string
	}{
		{"libcuda.so.1", driver, []string{"-Wl,-soname,libcuda.so.1"}},
		{"libtorch_cuda.so", torchCUDA, append(link, "-ltorch_cpu", "-lc10")},
	} {
		source := filepath.Join(temp, lib.name+".cpp")
		if err := os.WriteFile(source, lib.source, 0o666); err != nil {
			return "", fmt.Errorf("making the fake GPUs: %w", err)
		}
		args := append(append([]string{}, flags...), "-std=c++17", "-O1", "-fPIC", "-shared", source, "-o", filepath.Join(temp, lib.name))
		if out, err := exec.CommandContext(ctx, cxx, append(args, lib.flags...)...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("compiling the fake %s: %w\n%s", lib.name, err, out)
		}
	}
	// Of several processes that compile them at once, one is first.
	if err := os.Rename(temp, dir); err != nil {
		if _, other := os.Stat(dir); other != nil {
			return "", fmt.Errorf("making the fake GPUs: %w", err)
		}
	}
	return dir, nil
}
