package libtorch

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed" // the files of the toolchain
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/loralab/loralab/runner/cache"
)

var (
	//go:embed toolchain/cxx.sh
	wrapper []byte
	//go:embed toolchain/compat.h
	compat []byte
)

// gotch asks the linker for these whether or not there is a GPU. Empty
// archives in their place leave the engine with only what it uses; the CUDA
// library is loaded at run time where there is a driver.
var stubs = []string{
	"c10_cuda", "caffe2_nvrtc", "cublas", "cuda", "cudart", "cudnn",
	"nvToolsExt", "nvrtc", "nvrtc-builtins", "torch", "torch_cuda",
}

const emptyArchive = "!<arch>\n"

// Toolchain writes the files that the compiler and the linker need beside
// libtorch, and returns their directory. It lies outside the clone, under a
// name made of its content, so that the flags are the same for every clone and
// Go's build cache holds for all of them.
func Toolchain(ctx context.Context) (string, error) {
	base, err := cache.Dir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", wrapper, compat, stubs))
	dir := filepath.Join(base, "toolchain-"+hex.EncodeToString(sum[:6]))
	err = cache.Ensure(ctx, cache.Entry{Dir: dir, Fill: func(_ context.Context, temp string) error {
		err := errors.Join(
			os.WriteFile(filepath.Join(temp, "cxx"), wrapper, 0o755),
			os.WriteFile(filepath.Join(temp, "compat.h"), compat, 0o666),
			os.Mkdir(filepath.Join(temp, "stubs"), 0o777),
		)
		for _, s := range stubs {
			err = errors.Join(err, os.WriteFile(filepath.Join(temp, "stubs", "lib"+s+".a"), []byte(emptyArchive), 0o666))
		}
		return err
	}})
	if err != nil {
		return "", fmt.Errorf("writing the toolchain: %w", err)
	}
	return dir, nil
}

// Var is one environment variable.
type Var struct{ Name, Value string }

// Env is what `go build` needs in its environment for the engine: the only
// place with C++ flags. Go keys its build cache by these strings, so that one
// byte more costs minutes.
func Env(in *Install, toolchain string, c Compiler) ([]Var, error) {
	var bad error
	words := func(w ...string) string {
		for i, s := range w {
			switch quoted := strings.ContainsAny(s, " \t\n'\""); {
			case !quoted:
			case !strings.Contains(s, "'"):
				w[i] = "'" + s + "'"
			case !strings.Contains(s, `"`):
				w[i] = `"` + s + `"`
			default:
				bad = fmt.Errorf("the path in %s has both kinds of quotes, which cgo cannot take: use a cache or LIBTORCH directory without them", s)
			}
		}
		return strings.Join(w, " ")
	}
	include, lib := filepath.Join(in.Dir, "include"), filepath.Join(in.Dir, "lib")
	env := []Var{
		{"CGO_ENABLED", "1"},
		{"CXX", words(filepath.Join(toolchain, "cxx"))},
		{"CGO_CXXFLAGS", words("-include", filepath.Join(toolchain, "compat.h"),
			"-I"+include, "-I"+filepath.Join(include, "torch/csrc/api/include"), "-w")},
		{"CGO_LDFLAGS", words("-L"+filepath.Join(toolchain, "stubs"), "-L"+lib, "-Wl,-rpath,"+lib)},
	}
	if c.CXX != "g++" { // the wrapper's default
		env = append(env, Var{"LORALAB_CXX", c.CXX})
	}
	if c.CC != "" {
		env = append(env, Var{"CC", c.CC})
	}
	return env, bad
}

// Compiler is what C++ is compiled with.
type Compiler struct {
	CXX string // command, "g++"
	CC  string // for cgo's C; empty: Go's default
}

const installCompiler = "install one (Debian, Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++) or set LORALAB_CXX to one"

// FindCompiler takes $LORALAB_CXX, else g++ or clang++ from PATH, and checks
// that it compiles C++17 with its standard library.
func FindCompiler(ctx context.Context) (Compiler, error) {
	var c Compiler
	if cxx := os.Getenv("LORALAB_CXX"); cxx != "" {
		if _, err := exec.LookPath(cxx); err != nil {
			return c, fmt.Errorf("LORALAB_CXX=%s is not a command: %w", cxx, err)
		}
		c.CXX = cxx
	} else {
		for _, cxx := range []string{"g++", "clang++"} {
			if _, err := exec.LookPath(cxx); err == nil {
				c.CXX = cxx
				break
			}
		}
		if c.CXX == "" {
			return c, errors.New("no C++ compiler on PATH: " + installCompiler)
		}
	}
	if os.Getenv("CC") == "" {
		if _, err := exec.LookPath("gcc"); err != nil {
			if _, err := exec.LookPath("clang"); err != nil {
				return c, fmt.Errorf("%s is there, but neither gcc nor clang for cgo's C: %s", c.CXX, installCompiler)
			}
			c.CC = "clang"
		}
	}
	cmd := exec.CommandContext(ctx, c.CXX, "-std=c++17", "-fsyntax-only", "-x", "c++", "-")
	cmd.Stdin = strings.NewReader("#include <optional>\n#include <string>\nstatic_assert(__cplusplus >= 201703L);\n" +
		"int main() { if constexpr (sizeof(int) > 1) return std::optional<int>(0).value(); }\n")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return c, ctx.Err()
		}
		first, _, _ := strings.Cut(strings.TrimSpace(output.String()), "\n")
		return c, fmt.Errorf("%s does not compile C++17 (%w: %s): it is too old or its standard library is missing; %s", c.CXX, err, first, installCompiler)
	}
	return c, nil
}
