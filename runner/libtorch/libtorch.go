// Package libtorch finds, or fetches, the C++ library that the engine is built
// on, and knows how to compile against it.
//
// Three places are looked at, in this order: the directory that $LIBTORCH
// names; the torch of the python3 on PATH, as machines with a GPU usually have
// it; loralab's own cache, which is filled from pinned wheels. Whatever the
// place, the version must be exactly Version: the engine is compiled against
// the headers that lie beside the library, and gotch needs small corrections
// (see toolchain) that fit no other.
package libtorch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/loralab/loralab/runner/cache"
)

// Version that loralab is built on.
const Version = "2.11.0"

// Install is a libtorch on this machine.
type Install struct {
	Dir     string // holds lib and include
	Version string // as the library says, "2.11.0+cu130"
	How     string // "$LIBTORCH", "torch of /usr/bin/python3", "cache"
	CUDA    bool   // has the libraries for CUDA too
}

// MissingError says that no place has a libtorch.
type MissingError struct{ Looked []string }

func (e *MissingError) Error() string {
	return fmt.Sprintf("libtorch %s was not found (%s): run `make build`, which downloads it, "+
		"or set LIBTORCH to a directory that has it", Version, strings.Join(e.Looked, "; "))
}

// Find looks for libtorch without fetching anything. A $LIBTORCH that does not
// fit is an error: who sets it means it.
func Find(ctx context.Context) (*Install, error) {
	var looked []string
	if dir := os.Getenv("LIBTORCH"); dir != "" {
		in, err := inspect(dir)
		if err != nil {
			return nil, fmt.Errorf("LIBTORCH=%s cannot be used: %w; set it to an unpacked libtorch %s or unset it", dir, err, Version)
		}
		in.How = "$LIBTORCH"
		return in, nil
	}
	looked = append(looked, "LIBTORCH is not set")

	in, why := ofPython(ctx)
	if in != nil {
		return in, nil
	}
	looked = append(looked, why)

	// The directory with CUDA has all that the other has.
	for _, cuda := range []bool{true, false} {
		dir, err := cacheDir(cuda)
		if err != nil {
			return nil, err
		}
		if in, err := inspect(filepath.Join(dir, "torch")); err == nil {
			in.How = "cache"
			return in, nil
		}
		if !cuda {
			looked = append(looked, "the cache has no "+dir)
		}
	}
	return nil, &MissingError{looked}
}

// inspect checks that a directory is a libtorch that we can build on.
func inspect(dir string) (*Install, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for _, file := range []string{"lib/libtorch_cpu.so", "lib/libc10.so", "include/ATen/ATen.h"} {
		if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
			return nil, fmt.Errorf("it has no %s", file)
		}
	}
	version, err := versionOf(dir)
	if err != nil {
		return nil, err
	}
	if !rightVersion(version) {
		return nil, fmt.Errorf("it is version %s, needed is %s", version, Version)
	}
	_, err = os.Stat(filepath.Join(dir, "lib", "libtorch_cuda.so"))
	return &Install{Dir: dir, Version: version, CUDA: err == nil}, nil
}

// rightVersion accepts builds of one version: 2.11.0, 2.11.0+cpu.
func rightVersion(v string) bool {
	base, _, _ := strings.Cut(v, "+")
	return base == Version
}

// Where a libtorch says its version: in the Python package, in the archive for
// C++, in the headers of both, which moved.
var versionFiles = []struct {
	file string
	find *regexp.Regexp
}{
	{"version.py", regexp.MustCompile(`(?m)^__version__ = '([^']+)'`)},
	{"build-version", regexp.MustCompile(`^(\S+)`)},
	{"include/torch/headeronly/version.h", regexp.MustCompile(`(?m)^#define TORCH_VERSION "([^"]+)"`)},
	{"include/torch/csrc/api/include/torch/version.h", regexp.MustCompile(`(?m)^#define TORCH_VERSION "([^"]+)"`)},
}

func versionOf(dir string) (string, error) {
	for _, v := range versionFiles {
		text, err := os.ReadFile(filepath.Join(dir, v.file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		if m := v.find.FindSubmatch(text); m != nil {
			return string(m[1]), nil
		}
	}
	return "", errors.New("it does not say its version")
}

// askPython prints where torch is, without importing it: that would take
// seconds.
const askPython = `import importlib.util
s = importlib.util.find_spec("torch")
print(s.origin or "" if s else "")`

// ofPython returns the torch of the python3 on PATH, or why there is none.
func ofPython(ctx context.Context) (*Install, string) {
	python, err := exec.LookPath("python3")
	if err != nil {
		return nil, "no python3 on PATH"
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "-c", askPython)
	cmd.Dir = "/" // not a folder named torch in the current one
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Sprintf("%s fails: %v", python, err)
	}
	origin := strings.TrimSpace(string(bytes.TrimSpace(out)))
	if origin == "" {
		return nil, python + " has no torch"
	}
	in, err := inspect(filepath.Dir(origin))
	if err != nil {
		return nil, fmt.Sprintf("the torch of %s: %v", python, err)
	}
	in.How = "torch of " + python
	return in, ""
}

// cacheDir is where the wheels are unpacked, side by side.
func cacheDir(cuda bool) (string, error) {
	dir, err := cache.Dir()
	if err != nil {
		return "", err
	}
	name := "libtorch-" + Version
	if cuda {
		name += "-cuda"
	}
	return filepath.Join(dir, name), nil
}
