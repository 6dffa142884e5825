package libtorch

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/runner/backbone/wheel"
	"github.com/loralab/loralab/runner/cache"
)

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(text), 0o666)); err != nil {
		t.Fatal(err)
	}
}

// library makes a directory that passes for a libtorch.
func library(t *testing.T, dir, version string) {
	t.Helper()
	for _, f := range []string{"lib/libtorch_cpu.so", "lib/libc10.so", "include/ATen/ATen.h"} {
		put(t, filepath.Join(dir, f), "")
	}
	put(t, filepath.Join(dir, "version.py"), "from typing import Optional\n\n__version__ = '"+version+"'\ndebug = False\n")
}

// python puts a python3 on PATH whose torch is at origin ("" for none) and
// whose pip is the rest of a shell script; $out is the directory to fill.
func python(t *testing.T, origin, pip string) {
	t.Helper()
	bin := t.TempDir()
	script := "#!/bin/sh\nif [ \"$1\" = -c ]; then echo '" + origin + "'; exit 0; fi\n" +
		"out=; previous=\nfor a; do [ \"$previous\" = -d ] && out=$a; previous=$a; done\n" + pip + "\n"
	if err := os.WriteFile(filepath.Join(bin, "python3"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
}

// fresh is a machine with nothing on it.
func fresh(t *testing.T) (cacheDir string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", dir)
	t.Setenv("LIBTORCH", "")
	t.Setenv("CUDA", "")
	python(t, "", "echo 'Temporary failure in name resolution' >&2; exit 1")
	return filepath.Join(dir, "loralab")
}

func TestFindInOrder(t *testing.T) {
	cached := fresh(t)
	_, err := Find(t.Context())
	var missing *MissingError
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), "make build") || len(missing.Looked) != 3 {
		t.Fatalf("got %v", err)
	}
	expect := func(dir, how string) {
		t.Helper()
		in, err := Find(t.Context())
		if err != nil || in.Dir != dir || !strings.Contains(in.How, how) {
			t.Errorf("got %+v, %v, want %s by %s", in, err, dir, how)
		}
	}
	inCache := filepath.Join(cached, "libtorch-2.11.0", "torch")
	library(t, inCache, "2.11.0+cu130")
	expect(inCache, "cache")
	withCUDA := filepath.Join(cached, "libtorch-2.11.0-cuda", "torch")
	library(t, withCUDA, "2.11.0+cu130")
	put(t, filepath.Join(withCUDA, "lib", "libtorch_cuda.so"), "")
	expect(withCUDA, "cache")
	if in, err := Find(t.Context()); err != nil || !in.CUDA {
		t.Errorf("got %+v, %v", in, err)
	}

	site := filepath.Join(t.TempDir(), "site-packages", "torch")
	library(t, site, "2.10.1")
	python(t, filepath.Join(site, "__init__.py"), "")
	expect(withCUDA, "cache") // another version is passed over
	library(t, site, "2.11.0")
	expect(site, "python3")

	own := filepath.Join(t.TempDir(), "libtorch")
	library(t, own, "")
	if err := os.Remove(filepath.Join(own, "version.py")); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(own, "build-version"), "2.11.0+cpu\n")
	t.Setenv("LIBTORCH", own)
	expect(own, "LIBTORCH")
}

// Who sets LIBTORCH means it: there is no silent fall-back.
func TestLIBTORCH(t *testing.T) {
	cached := fresh(t)
	library(t, filepath.Join(cached, "libtorch-2.11.0", "torch"), "2.11.0")
	for name, c := range map[string]struct {
		make func(dir string)
		want string
	}{
		"nothing":       {func(string) {}, "has no lib/libtorch_cpu.so"},
		"other version": {func(dir string) { library(t, dir, "2.1.0") }, "is version 2.1.0, needed is 2.11.0"},
		"near version":  {func(dir string) { library(t, dir, "2.11.01") }, "is version 2.11.01"},
		"by the header": {func(dir string) {
			library(t, dir, "")
			put(t, filepath.Join(dir, "include/torch/headeronly/version.h"), "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION \"2.12.0\"\n")
		}, "is version 2.12.0"},
		"no version": {func(dir string) { library(t, dir, "") }, "does not say its version"},
	} {
		dir := filepath.Join(t.TempDir(), "lib torch")
		c.make(dir)
		t.Setenv("LIBTORCH", dir)
		for _, f := range []func() (*Install, error){
			func() (*Install, error) { return Find(t.Context()) },
			func() (*Install, error) {
				return Ensure(t.Context(), func(s string) { t.Errorf("%s: went on: %s", name, s) })
			},
		} {
			if in, err := f(); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("%s: got %v, %v, want %q", name, in, err, c.want)
			}
		}
	}
}

func TestEnsureFails(t *testing.T) {
	for name, c := range map[string]struct{ pip, want string }{
		"no network": {"echo 'NewConnectionError: [Errno -3]' >&2; exit 1", "check the network"},
		"hash":       {"echo 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.'; exit 1", "not the pinned one"},
		"half":       {"for n in torch-2.11.0 nvidia_cuda_cupti-13.0.85 nvidia_cuda_runtime-13.0.96; do echo half > $out/$n-x.whl; done", "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			cached := fresh(t)
			python(t, "", c.pip)
			_, err := Ensure(t.Context(), func(string) {})
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if left, _ := filepath.Glob(filepath.Join(cached, "*")); len(left) != 1 || filepath.Ext(left[0]) != ".lock" {
				t.Errorf("left %v", left)
			}
		})
	}
	t.Run("CUDA of another place", func(t *testing.T) {
		fresh(t)
		dir := t.TempDir()
		library(t, dir, Version)
		t.Setenv("LIBTORCH", dir)
		t.Setenv("CUDA", "1")
		if _, err := Ensure(t.Context(), func(string) {}); err == nil || !strings.Contains(err.Error(), "CUDA=1") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("disk", func(t *testing.T) {
		err := fill(t.Context(), t.TempDir(), nil, keep(false), 1<<62, func(string) {})
		var lack *cache.NoSpaceError
		if !errors.As(err, &lack) {
			t.Errorf("got %v", err)
		}
	})
}

// Of the wheels only what is needed is kept, in its place, and the wheels go.
func TestFill(t *testing.T) {
	fresh(t)
	content := func(names ...string) []byte {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for _, n := range names {
			w, err := z.Create(n)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(w, n)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	source := t.TempDir()
	var wheels []wheel.Wheel
	for name, data := range map[string][]byte{
		"torch": content("torch/version.py", "torch/__init__.py", "torch/lib/libtorch_cpu.so", "torch/lib/libtorch_cuda.so", "torch/lib/libc10.so",
			"torch/lib/libgomp.so.1", "torch/lib/libtorch_python.so", "torch/include/ATen/ATen.h", "torch-1.dist-info/METADATA", "torch-1.dist-info/licenses/LICENSE"),
		"cuda": content("nvidia/cu13/lib/libcupti.so.13", "nvidia/cu13/lib/libcudart.so.13", "nvidia/cu13/lib/libcudart_static.a",
			"nvidia/cudnn/lib/libcudnn.so.9", "nvidia/cu13/include/cuda.h", "nvidia/cu13/bin/tool.so"),
	} {
		sum := sha256.Sum256(data)
		wheels = append(wheels, wheel.Wheel{Name: name, Version: "1", SHA256: hex.EncodeToString(sum[:])})
		put(t, filepath.Join(source, name+"-1-x.whl"), string(data))
	}
	python(t, "", "cp "+source+"/*.whl $out")
	cpu := []string{
		"nvidia/cu13/lib/libcudart.so.13", "nvidia/cu13/lib/libcupti.so.13", "torch-1.dist-info/licenses/LICENSE", "torch/include/ATen/ATen.h",
		"torch/lib/libc10.so", "torch/lib/libgomp.so.1", "torch/lib/libtorch_cpu.so", "torch/version.py",
	}
	cuda := append([]string{"nvidia/cudnn/lib/libcudnn.so.9", "torch/lib/libtorch_cuda.so"}, cpu...)
	slices.Sort(cuda)
	for withCUDA, want := range map[bool][]string{false: cpu, true: cuda} {
		dir := t.TempDir()
		if err := fill(t.Context(), dir, wheels, keep(withCUDA), 1, func(string) {}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, pattern := range []string{"*/*", "*/*/*", "*/*/*/*"} {
			files, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() {
					name, _ := filepath.Rel(dir, f)
					got = append(got, name)
				}
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("CUDA %v:\ngot  %q\nwant %q", withCUDA, got, want)
		}
	}
	// A wheel that lacks what we need is noticed here, not by the linker.
	put(t, filepath.Join(source, "torch-1-x.whl"), string(content("torch/version.py")))
	sum := sha256.Sum256(content("torch/version.py"))
	for i := range wheels {
		if wheels[i].Name == "torch" {
			wheels[i].SHA256 = hex.EncodeToString(sum[:])
		}
	}
	if err := fill(t.Context(), t.TempDir(), wheels, keep(false), 1, func(string) {}); err == nil || !strings.Contains(err.Error(), "libtorch_cpu.so") {
		t.Errorf("got %v", err)
	}
}

// The flags are the same words each time, wherever the clone is, and survive
// spaces in paths.
func TestEnv(t *testing.T) {
	fresh(t)
	tools, err := Toolchain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := Toolchain(t.Context())
	if err != nil || again != tools {
		t.Errorf("the toolchain moved: %s, %s, %v", tools, again, err)
	}
	got, err := Env(&Install{Dir: "/opt/torch"}, "/t", Compiler{CXX: "g++"})
	want := []Var{
		{"CGO_ENABLED", "1"},
		{"CXX", "/t/cxx"},
		{"CGO_CXXFLAGS", "-include /t/compat.h -I/opt/torch/include -I/opt/torch/include/torch/csrc/api/include -w"},
		{"CGO_LDFLAGS", "-L/t/stubs -L/opt/torch/lib -Wl,-rpath,/opt/torch/lib"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	got, err = Env(&Install{Dir: "/my torch"}, "/it's", Compiler{CXX: "clang++", CC: "clang"})
	want = []Var{
		{"CGO_ENABLED", "1"},
		{"CXX", `"/it's/cxx"`},
		{"CGO_CXXFLAGS", `-include "/it's/compat.h" '-I/my torch/include' '-I/my torch/include/torch/csrc/api/include' -w`},
		{"CGO_LDFLAGS", `"-L/it's/stubs" '-L/my torch/lib' '-Wl,-rpath,/my torch/lib'`},
		{"LORALAB_CXX", "clang++"},
		{"CC", "clang"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := Env(&Install{Dir: `/a'b"c`}, "/t", Compiler{CXX: "g++"}); err == nil {
		t.Error("took a path that cgo cannot")
	}
}

// The wrapper tames gotch's flags and passes all else through, and the stubs
// are archives to the linker.
func TestToolchain(t *testing.T) {
	fresh(t)
	tools, err := Toolchain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	echo := filepath.Join(t.TempDir(), "echo")
	if err := os.WriteFile(echo, []byte("#!/bin/sh\nfor a; do echo \"[$a]\"; done\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LORALAB_CXX", echo)
	out, err := exec.CommandContext(t.Context(), filepath.Join(tools, "cxx"), "-O3", "-I/a b", "-g", "-O2", "", "*").CombinedOutput()
	if want := "[-O1]\n[-I/a b]\n[-g0]\n[-O2]\n[]\n[*]\n"; err != nil || string(out) != want {
		t.Errorf("got %q, %v", out, err)
	}
	archives, err := filepath.Glob(filepath.Join(tools, "stubs", "lib*.a"))
	if err != nil || len(archives) != len(stubs) {
		t.Errorf("%d archives, %v", len(archives), err)
	}
}

func TestFindCompiler(t *testing.T) {
	bin := t.TempDir()
	command := func(name, script string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)
	t.Setenv("LORALAB_CXX", "")
	t.Setenv("CC", "")
	refuses := func(want ...string) {
		t.Helper()
		c, err := FindCompiler(t.Context())
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %+v, %v, want %q", c, err, w)
			}
		}
	}
	refuses("no C++ compiler", "apt-get install g++")
	command("clang++", "exit 0")
	refuses("neither gcc nor clang")
	command("clang", "exit 0")
	if c, err := FindCompiler(t.Context()); err != nil || c != (Compiler{"clang++", "clang"}) {
		t.Errorf("got %+v, %v", c, err)
	}
	command("gcc", "exit 0")
	command("g++", "exit 0")
	if c, err := FindCompiler(t.Context()); err != nil || c != (Compiler{"g++", ""}) {
		t.Errorf("got %+v, %v", c, err)
	}
	command("g++", "echo 'error: unrecognized option -std=c++17' >&2; echo more; exit 1")
	refuses("g++ does not compile C++17", "unrecognized option", "apt-get install g++")
	t.Setenv("LORALAB_CXX", "g++-99")
	refuses("LORALAB_CXX=g++-99 is not a command")
}
