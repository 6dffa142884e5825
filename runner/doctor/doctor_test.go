package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/backbone"
	"github.com/loralab/loralab/runner/backbone/huggingface"
	"github.com/loralab/loralab/runner/libtorch"
)

func expect(t *testing.T, what string, c Check, state State, words ...string) {
	t.Helper()
	if c.State != state {
		t.Errorf("%s: %+v, want state %s", what, c, state)
	}
	if (c.Cure == "") != (c.State == OK) {
		t.Errorf("%s: a cure goes with what is not well: %+v", what, c)
	}
	for _, w := range words {
		if !strings.Contains(c.Value+"\n"+c.Cure, w) {
			t.Errorf("%s: %+v, want %q in it", what, c, w)
		}
	}
}

func files(m map[string]string) machine {
	out := fstest.MapFS{}
	for name, text := range m {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return machine{out}
}

func TestProcessor(t *testing.T) {
	m := files(map[string]string{"proc/cpuinfo": "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nflags\t: fpu\n\nmodel name\t: Other\n"})
	expect(t, "all", m.processor([]feature{{"avx2", true}, {"avx512_bf16", true}}), OK, "Some CPU @ 3 GHz: avx2 avx512_bf16")
	c := m.processor([]feature{{"avx2", true}, {"avx512_bf16", false}})
	expect(t, "no bf16", c, OK, "avx2", "fp32 is faster")
	expect(t, "old", m.processor([]feature{{"avx2", false}}), Warn, "slow")
	expect(t, "unknown", files(nil).processor(features()), files(nil).processor(features()).State, "unknown model")
}

func TestCUDA(t *testing.T) {
	const (
		lib    = "usr/lib/x86_64-linux-gnu/libcuda.so.1"
		module = "proc/driver/nvidia/version"
	)
	nvidia := map[string]string{lib: "", module: "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.1\nGCC version: 12\n"}
	cpuOnly, full := &libtorch.Install{}, &libtorch.Install{CUDA: true}
	expect(t, "engine", files(nil).cuda(&spec.EngineInfo{CudaDevices: 2}, nil, nil), OK, "2 devices")
	expect(t, "nothing", files(nil).cuda(nil, cpuOnly, []string{"", "relative"}), OK, "no NVIDIA driver")
	expect(t, "no library", files(map[string]string{module: nvidia[module]}).cuda(nil, full, nil), Warn, "580.1", "no libcuda.so.1")
	expect(t, "no module", files(map[string]string{lib: ""}).cuda(nil, full, nil), Warn, "no kernel module")
	expect(t, "by path", files(map[string]string{"opt/x/libcuda.so.1": ""}).cuda(nil, full, []string{"/opt/x"}), Warn, "/opt/x/libcuda.so.1")
	expect(t, "CPU build", files(nvidia).cuda(nil, cpuOnly, nil), Warn, "CUDA=1 make build")
	expect(t, "not used", files(nvidia).cuda(&spec.EngineInfo{CudaMissing: "driver too old"}, full, nil), Warn, "driver too old", "nvidia-smi")
}

func TestMemory(t *testing.T) {
	meminfo := "MemTotal:       16384000 kB\nMemFree: 1 kB\nMemAvailable:   8192000 kB\n"
	expect(t, "plenty", files(map[string]string{"proc/meminfo": meminfo}).memory(), OK, "8.4 GB of 17 GB")
	expect(t, "no limit", files(map[string]string{"proc/meminfo": meminfo, "sys/fs/cgroup/memory.max": "max\n"}).memory(), OK)
	expect(t, "container", files(map[string]string{"proc/meminfo": meminfo, "sys/fs/cgroup/memory.max": "1000000000\n"}).memory(), Warn, "limited to 1.0 GB")
	expect(t, "little", files(map[string]string{"proc/meminfo": "MemTotal: 1000000 kB\nMemAvailable: 10 kB\n"}).memory(), Warn)
	expect(t, "unknown", files(nil).memory(), OK, "unknown")
}

func TestEngine(t *testing.T) {
	ask := func(info *spec.EngineInfo, err error) Check {
		o := Options{Version: "v1", Engine: func(context.Context) (string, *spec.EngineInfo, error) { return "/bin/engine", info, err }}
		c, got := o.engine(t.Context())
		if (got == nil) != (err != nil) {
			t.Errorf("info %v with error %v", got, err)
		}
		return c
	}
	expect(t, "well", ask(&spec.EngineInfo{Version: "v1", Libtorch: "2.11.0", Device: "cpu", DeviceName: "EPYC"}, nil), OK, "/bin/engine", "2.11.0", "cpu (EPYC)")
	expect(t, "other version", ask(&spec.EngineInfo{Version: "v0"}, nil), Warn, "v0", "make build")
	expect(t, "absent", ask(nil, fmt.Errorf("looking: %w", fs.ErrNotExist)), Fail, "no /bin/engine", "make build")
	expect(t, "broken", ask(nil, errors.New("libc10.so: cannot open")), Fail, "libc10.so")
}

func TestLibrary(t *testing.T) {
	expect(t, "found", library(&libtorch.Install{Dir: "/t", Version: "2.11.0", How: "cache"}, nil, false), OK, "2.11.0", "/t", "cache")
	missing := &libtorch.MissingError{Looked: []string{"nowhere"}}
	expect(t, "missing", library(nil, missing, false), Fail, "nowhere", "make build")
	expect(t, "missing, engine runs", library(nil, missing, true), Warn)
}

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	expect(t, "to be made", disk("x", filepath.Join(dir, "a", "b")), disk("x", dir).State, "free in "+filepath.Join(dir, "a", "b"))
	// A file in the place of the directory: not even root can write into it.
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	expect(t, "no place to write", disk("x", file), Fail, file+" cannot be written to")
	expect(t, "plenty", room("x", "/d", 1e12), OK, "1.0 TB free in /d")
	expect(t, "little", room("x", "/d", 1e9), Warn, "1.0 GB")
	expect(t, "none", room("x", "/d", 1e6), Fail, "1.0 MB")
}

func TestCacheUse(t *testing.T) {
	dir := t.TempDir()
	expect(t, "absent", cacheUse(filepath.Join(dir, "none")), OK, "empty")
	for name, size := range map[string]int{"small/f": 10, "large/f": 3_000_000, "larger/f": 4_000_000} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, make([]byte, size), 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, "used", cacheUse(dir), OK, "7.0 MB in "+dir+": larger 4.0 MB, large 3.0 MB")
}

func TestPlugins(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for path, mode := range map[string]os.FileMode{a + "/lora": 0o755, b + "/lora": 0o755, b + "/dora": 0o755, b + "/README": 0o644} {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	starts := func(context.Context, string) error { return nil }
	c := Options{Plugins: []string{"/not/there", a, b}, Variant: starts}.plugins(t.Context())
	expect(t, "found", c, OK)
	if c.Value != "dora lora" {
		t.Errorf("got %q", c.Value)
	}
	expect(t, "none", Options{Plugins: []string{"/not/there"}}.plugins(t.Context()), Fail, "/not/there", "make build")
	expect(t, "not trusted", Options{Plugins: []string{a}, Untrusted: []string{a + "/lora"}}.plugins(t.Context()), Warn, "not trusted: "+a+"/lora", "runner plugins trust")
	expect(t, "does not start", Options{Plugins: []string{a, b}, Variant: func(_ context.Context, name string) error {
		if name == "dora" {
			return errors.New("no module named torch")
		}
		return nil
	}}.plugins(t.Context()), Warn, "dora lora\nno module named torch", "plugins info")
}

// All of it, on the machine that runs the test: every check has a name and a
// value, and what is not well has a cure.
func TestExamine(t *testing.T) {
	dir := t.TempDir()
	checks := Examine(t.Context(), Options{
		Version: "v1", WorkDir: dir, Hub: &backbone.Finder{Cache: filepath.Join(dir, "cache"), HuggingFace: &huggingface.Client{}}, Plugins: []string{dir},
		Engine: func(context.Context) (string, *spec.EngineInfo, error) { return dir, nil, fs.ErrNotExist },
	})
	names := map[string]bool{}
	for _, c := range checks {
		expect(t, c.Name, c, c.State)
		if c.Name == "" || c.Value == "" || names[c.Name] {
			t.Errorf("%+v", c)
		}
		names[c.Name] = true
	}
	if Healthy(checks) {
		t.Error("healthy without an engine")
	}
	for _, want := range []string{"loralab", "engine", "libtorch", "CUDA", "backbone dinov2-small", "variants"} {
		if !names[want] {
			t.Errorf("no check of %s", want)
		}
	}
}
