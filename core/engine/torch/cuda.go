package torch

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// FindCUDA makes CUDA usable if this machine has a driver and this libtorch its
// CUDA half, and says how many devices there are, or why none. It loads the
// driver first: without one, loading gigabytes of CUDA libraries would be for
// nothing.
func FindCUDA() (devices int, missing string) {
	if err := LoadCUDA("libcuda.so.1"); err != nil {
		return 0, "no NVIDIA driver (libcuda.so.1)"
	}
	dir, err := libraryDir()
	if err != nil {
		return 0, err.Error()
	}
	half := filepath.Join(dir, "libtorch_cuda.so")
	if _, err := os.Stat(half); err != nil {
		return 0, fmt.Sprintf("there is a driver, but this libtorch is the CPU half only: build with CUDA=1 (%s is missing)", half)
	}
	if err := LoadCUDA(half); err != nil {
		return 0, err.Error()
	}
	if devices = CUDADevices(); devices == 0 {
		return 0, "the driver shows no device"
	}
	return devices, ""
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
