package libtorch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/loralab/loralab/runner/backbone/wheel"
	"github.com/loralab/loralab/runner/cache"
)

// The wheels of torch 2.11.0 for CUDA 13, which also run without a GPU. The
// versions of the others are those that torch's metadata asks for.
var (
	torchWheels = []wheel.Wheel{
		{Name: "torch", Version: Version, Size: 530_604_548, SHA256: "7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a"},
		{Name: "nvidia-cuda-cupti", Version: "13.0.85", Size: 10_715_597, SHA256: "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8"},
		{Name: "nvidia-cuda-runtime", Version: "13.0.96", Size: 2_243_632, SHA256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548"},
	}
	cudaWheels = []wheel.Wheel{
		{Name: "nvidia-cublas", Version: "13.1.0.3", Size: 423_100_000, SHA256: "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171"},
		{Name: "nvidia-cuda-nvrtc", Version: "13.0.88", Size: 90_200_000, SHA256: "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575"},
		{Name: "nvidia-cudnn-cu13", Version: "9.19.0.56", Size: 366_100_000, SHA256: "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf"},
		{Name: "nvidia-cufft", Version: "12.0.0.61", Size: 214_100_000, SHA256: "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3"},
		{Name: "nvidia-cufile", Version: "1.15.1.6", Size: 1_200_000, SHA256: "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44"},
		{Name: "nvidia-curand", Version: "10.4.0.35", Size: 59_500_000, SHA256: "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc"},
		{Name: "nvidia-cusolver", Version: "12.0.4.66", Size: 200_900_000, SHA256: "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112"},
		{Name: "nvidia-cusparse", Version: "12.6.3.3", Size: 145_900_000, SHA256: "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b"},
		{Name: "nvidia-cusparselt-cu13", Version: "0.8.0", Size: 169_900_000, SHA256: "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd"},
		{Name: "nvidia-nccl-cu13", Version: "2.28.9", Size: 196_500_000, SHA256: "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42"},
		{Name: "nvidia-nvjitlink", Version: "13.0.88", Size: 40_700_000, SHA256: "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b"},
		{Name: "nvidia-nvshmem-cu13", Version: "3.4.5", Size: 60_400_000, SHA256: "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80"},
		{Name: "nvidia-nvtx", Version: "13.0.85", Size: 148_000, SHA256: "4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4"},
	}
)

// Disk that a fetch needs at its peak, with room to build: wheels and what is
// unpacked from them.
const (
	diskCPU  = 3_000_000_000
	diskCUDA = 10_000_000_000
)

// cpuFiles is all that the library needs on a machine without a GPU. It is
// linked against the two NVIDIA libraries even there.
var cpuFiles = []string{
	"torch/version.py",
	"torch/lib/libtorch_cpu.so",
	"torch/lib/libc10.so",
	"torch/lib/libgomp.so.1",
	"nvidia/cu13/lib/libcupti.so.13",
	"nvidia/cu13/lib/libcudart.so.13",
}

// keep says which files of the wheels are unpacked. Their places must stay:
// the libraries find each other by relative paths.
func keep(cuda bool) func(name string) bool {
	return func(name string) bool {
		if strings.HasPrefix(name, "torch/include/") || strings.Contains(name, ".dist-info/licenses/") {
			return true
		}
		for _, f := range cpuFiles {
			if name == f {
				return true
			}
		}
		if !cuda || strings.Contains(name, "libtorch_python") {
			return false
		}
		in, base := path.Dir(name), path.Base(name)
		library := strings.HasSuffix(base, ".so") || strings.Contains(base, ".so.")
		return library && (in == "torch/lib" || strings.HasPrefix(in, "nvidia/") && path.Base(in) == "lib")
	}
}

// Ensure finds libtorch, or fetches it into the cache. With CUDA=1 in the
// environment, a libtorch without CUDA libraries does not count, and the
// fetch takes in those too. progress is told what happens, a line at a time.
func Ensure(ctx context.Context, progress func(string)) (*Install, error) {
	cuda := os.Getenv("CUDA") == "1"
	in, err := Find(ctx)
	switch {
	case err == nil && (in.CUDA || !cuda):
		return in, nil
	case err == nil && in.How != "cache":
		return nil, fmt.Errorf("CUDA=1 asks for a libtorch with CUDA, but that of %s (%s) has none: unset CUDA, or give it one that has", in.How, in.Dir)
	}
	var missing *MissingError
	if err != nil && !errors.As(err, &missing) {
		return nil, err
	}
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return nil, fmt.Errorf("there is no pinned download of libtorch %s for %s/%s: set LIBTORCH to one", Version, runtime.GOOS, runtime.GOARCH)
	}
	dir, err := cacheDir(cuda)
	if err != nil {
		return nil, err
	}
	wheels, disk := torchWheels, uint64(diskCPU)
	if cuda {
		wheels, disk = append(wheels[:len(wheels):len(wheels)], cudaWheels...), diskCUDA
	}
	err = cache.Ensure(ctx, cache.Entry{
		Dir: dir,
		Complete: func() bool {
			_, err := inspect(filepath.Join(dir, "torch"))
			return err == nil
		},
		Waiting: func() { progress("waiting for another process that fetches libtorch") },
		Fill: func(ctx context.Context, temp string) error {
			return fill(ctx, temp, wheels, keep(cuda), disk, progress)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("fetching libtorch %s: %w", Version, err)
	}
	if in, err = inspect(filepath.Join(dir, "torch")); err != nil {
		return nil, fmt.Errorf("libtorch in %s: %w", dir, err)
	}
	in.How = "cache"
	return in, nil
}

// fill downloads wheels and unpacks what is wanted of them into an empty
// directory.
func fill(ctx context.Context, dir string, wheels []wheel.Wheel, wanted func(string) bool, disk uint64, progress func(string)) error {
	if err := cache.Require(dir, "libtorch "+Version, disk); err != nil {
		return err
	}
	download := filepath.Join(dir, "download")
	if err := os.Mkdir(download, 0o777); err != nil {
		return err
	}
	files, err := wheel.Download(ctx, download, wheels, progress)
	if err != nil {
		return err
	}
	progress("unpacking libtorch")
	for _, f := range files {
		if err := wheel.Unpack(ctx, f, dir, wanted); err != nil {
			return err
		}
		if err := os.Remove(f); err != nil { // make room as we go
			return err
		}
	}
	for _, f := range cpuFiles {
		if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
			return fmt.Errorf("the wheels have no %s", f)
		}
	}
	return os.RemoveAll(download)
}

// Describe writes where an install is and how it was found, for people.
func (in *Install) Describe(w io.Writer) {
	cuda := "CPU only"
	if in.CUDA {
		cuda = "with CUDA libraries"
	}
	fmt.Fprintf(w, "libtorch %s, %s, in %s (%s)\n", in.Version, cuda, in.Dir, in.How)
}
