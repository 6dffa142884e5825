// Package doctor looks at a machine and says, as data, what loralab finds on
// it, what is missing and what to do about that. It changes and prints
// nothing.
package doctor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/backbone"
	"github.com/loralab/loralab/runner/cache"
	"github.com/loralab/loralab/runner/libtorch"
)

// State of a check.
type State string

// Fail stops runs, Warn slows or limits them.
const (
	OK   State = "ok"
	Warn State = "warn"
	Fail State = "fail"
)

// Check is one thing that was looked at.
type Check struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	Value string `json:"value"`
	// Cure is what to do; set unless the state is OK.
	Cure string `json:"cure,omitempty"`
}

// Healthy reports whether nothing fails.
func Healthy(checks []Check) bool {
	return !slices.ContainsFunc(checks, func(c Check) bool { return c.State == Fail })
}

// Options say where to look.
type Options struct {
	Version string // of loralab
	WorkDir string // where runs are written
	Hub     *backbone.Finder
	Plugins []string // directories with variants, by precedence
	// Untrusted are files in them that the user has not trusted.
	Untrusted []string
	// Variant starts a variant and asks it what it is.
	Variant func(ctx context.Context, name string) error
	// Engine starts the engine, asks what it is and stops it. Path is where it
	// is or should be, also with an error.
	Engine func(ctx context.Context) (path string, info *spec.EngineInfo, err error)
}

// Examine makes all checks. The order is that in which things are needed.
func Examine(ctx context.Context, o Options) []Check {
	m := machine{os.DirFS("/")}
	checks := []Check{{"loralab", OK, fmt.Sprintf("%s, %s, %s/%s", o.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH), ""}}

	engine, info := o.engine(ctx)
	in, err := libtorch.Find(ctx)
	checks = append(checks,
		engine,
		library(in, err, info != nil),
		m.processor(features()),
		m.cuda(info, in, filepath.SplitList(os.Getenv("LD_LIBRARY_PATH"))),
		threads(info),
		m.memory(),
		disk("disk for runs", o.WorkDir),
		disk("disk for the cache", o.Hub.Cache),
		cacheUse(o.Hub.Cache),
	)
	for _, name := range backbone.Known() {
		checks = append(checks, checkBackbone(o.Hub, name))
	}
	return append(checks, o.plugins(ctx))
}

func (o Options) engine(ctx context.Context) (Check, *spec.EngineInfo) {
	const build = "run `make build` where loralab's sources are"
	path, info, err := o.Engine(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Check{"engine", Fail, "there is no " + path, build}, nil
	case err != nil:
		return Check{"engine", Fail, fmt.Sprintf("%s does not run: %v", path, err), build}, nil
	case info.GetVersion() != o.Version:
		return Check{"engine", Warn, fmt.Sprintf("%s is of version %s, runner of %s", path, info.GetVersion(), o.Version), build}, info
	}
	value := fmt.Sprintf("%s, libtorch %s, %s (%s)", path, info.GetLibtorch(), info.GetDevice(), info.GetDeviceName())
	return Check{"engine", OK, value, ""}, info
}

// library is where the next build takes libtorch from; an engine that runs has
// found its own.
func library(in *libtorch.Install, err error, engineRuns bool) Check {
	const name = "libtorch"
	switch {
	case err == nil:
		var b bytes.Buffer
		in.Describe(&b)
		return Check{name, OK, strings.TrimPrefix(strings.TrimSpace(b.String()), "libtorch "), ""}
	case engineRuns:
		return Check{name, Warn, err.Error(), "nothing for running; for building the engine run `make build`"}
	}
	return Check{name, Fail, err.Error(), "run `make build` where loralab's sources are"}
}

// machine is what the kernel tells, as files below /.
type machine struct{ root fs.FS }

// read is the text of a file, empty if there is none.
func (m machine) read(name string) string {
	text, err := fs.ReadFile(m.root, strings.TrimPrefix(name, "/"))
	if err != nil {
		return ""
	}
	return string(text)
}

// field is the value of the first line "name : value".
func (m machine) field(file, name string) string {
	s := bufio.NewScanner(strings.NewReader(m.read(file)))
	for s.Scan() {
		key, value, ok := strings.Cut(s.Text(), ":")
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// feature of a processor that decides how fast it trains.
type feature struct {
	name string
	has  bool
}

func features() []feature {
	if runtime.GOARCH == "arm64" {
		return []feature{{"asimd", cpu.ARM64.HasASIMD}, {"sve", cpu.ARM64.HasSVE}}
	}
	return []feature{
		{"avx2", cpu.X86.HasAVX2},
		{"avx512", cpu.X86.HasAVX512F},
		{"avx512_bf16", cpu.X86.HasAVX512BF16},
		{"amx_bf16", cpu.X86.HasAMXBF16},
	}
}

func (m machine) processor(features []feature) Check {
	model := m.field("/proc/cpuinfo", "model name")
	if model == "" {
		model = "unknown model"
	}
	var has []string
	for _, f := range features {
		if f.has {
			has = append(has, f.name)
		}
	}
	c := Check{"processor", OK, model + ": " + strings.Join(has, " "), ""}
	switch {
	case len(has) == 0:
		c.Value = model + ": no vector instructions known to us"
		c.State, c.Cure = Warn, "training will be slow: use a processor with AVX2 or newer, or a GPU"
	case !slices.Contains(has, "avx512_bf16") && !slices.Contains(has, "amx_bf16"):
		c.Value += "; no bf16: precision fp32 is faster here"
	}
	return c
}

// Where drivers put libcuda.so.1.
var driverDirs = []string{
	"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib",
	"/usr/local/nvidia/lib64", "/usr/lib/wsl/lib", "/run/opengl-driver/lib",
}

func (m machine) cuda(info *spec.EngineInfo, in *libtorch.Install, libraryPath []string) Check {
	const name = "CUDA"
	if n := info.GetCudaDevices(); n > 0 {
		return Check{name, OK, plural.Of(n, "device"), ""}
	}
	driver := ""
	for _, dir := range slices.Concat(libraryPath, driverDirs) {
		if !filepath.IsAbs(dir) {
			continue
		}
		lib := path.Join(dir, "libcuda.so.1")
		if _, err := fs.Stat(m.root, strings.TrimPrefix(lib, "/")); err == nil {
			driver = lib
			break
		}
	}
	module, _, _ := strings.Cut(m.read("/proc/driver/nvidia/version"), "\n")
	module = strings.TrimSpace(strings.TrimPrefix(module, "NVRM version:"))
	why := ""
	if missing := info.GetCudaMissing(); missing != "" {
		why = "; the engine says: " + missing
	}
	switch {
	case driver == "" && module == "":
		return Check{name, OK, "none: this machine has no NVIDIA driver; runs use the processor", ""}
	case driver == "":
		return Check{name, Warn, "kernel module " + module + ", but no libcuda.so.1" + why, "install the user part of the NVIDIA driver, or in a container start it with --gpus all"}
	case module == "" && !strings.HasPrefix(driver, "/usr/lib/wsl/"):
		return Check{name, Warn, driver + ", but no kernel module" + why, "load the driver (modprobe nvidia), or in a container start it with --gpus all"}
	case in != nil && !in.CUDA:
		return Check{name, Warn, "driver " + driver + ", but libtorch has no CUDA libraries" + why, "run `CUDA=1 make build` where loralab's sources are"}
	}
	return Check{name, Warn, "driver " + driver + ", not used" + why, "run nvidia-smi: it tells whether the driver works"}
}

func threads(info *spec.EngineInfo) Check {
	value := fmt.Sprintf("%d of %d processors", runtime.GOMAXPROCS(0), runtime.NumCPU())
	if info != nil {
		value += fmt.Sprintf(", engine %d", info.GetThreads())
	}
	if omp := os.Getenv("OMP_NUM_THREADS"); omp != "" {
		value += ", OMP_NUM_THREADS=" + omp
	}
	return Check{"threads", OK, value, ""}
}

// Training the default experiment takes about a gigabyte.
const littleMemory = 2_000_000_000

func (m machine) memory() Check {
	kB := func(name string) uint64 {
		n, err := strconv.ParseUint(strings.TrimSuffix(m.field("/proc/meminfo", name), " kB"), 10, 64)
		if err != nil {
			return 0
		}
		return n * 1024
	}
	total, available := kB("MemTotal"), kB("MemAvailable")
	if total == 0 {
		return Check{"memory", OK, "unknown", ""}
	}
	value := fmt.Sprintf("%s of %s available", cache.Bytes(available), cache.Bytes(total))
	// A container may have less than the machine.
	limit, err := strconv.ParseUint(strings.TrimSpace(m.read("/sys/fs/cgroup/memory.max")), 10, 64)
	if err == nil && limit < total {
		value += ", limited to " + cache.Bytes(limit)
		available = min(available, limit)
	}
	if available < littleMemory {
		return Check{"memory", Warn, value, "end other programs, or use a smaller batch or image size"}
	}
	return Check{"memory", OK, value, ""}
}

const (
	littleDisk = 2_000_000_000
	noDisk     = 100_000_000
)

// disk is about the file system of a directory that need not exist yet.
func disk(name, dir string) Check {
	free, err := cache.Free(dir)
	if err != nil {
		return Check{name, Fail, err.Error(), "choose another directory"}
	}
	existing := dir
	for unix.Access(existing, unix.F_OK) != nil && existing != filepath.Dir(existing) {
		existing = filepath.Dir(existing)
	}
	if unix.Access(existing, unix.W_OK|unix.X_OK) != nil {
		return Check{name, Fail, existing + " cannot be written to", "change its owner or mode, or choose another directory"}
	}
	return room(name, dir, free)
}

func room(name, dir string, free uint64) Check {
	c := Check{name, OK, cache.Bytes(free) + " free in " + dir, ""}
	switch {
	case free < noDisk:
		c.State, c.Cure = Fail, "make room"
	case free < littleDisk:
		c.State, c.Cure = Warn, "make room"
	}
	return c
}

// cacheUse lists what the cache holds, the largest first.
func cacheUse(dir string) Check {
	const name = "cache"
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Check{name, OK, "empty", ""}
	}
	if err != nil {
		return Check{name, Warn, err.Error(), "change its owner or mode"}
	}
	type use struct {
		name string
		size uint64
	}
	var uses []use
	var sum uint64
	for _, e := range entries {
		size, err := cache.Size(filepath.Join(dir, e.Name()))
		if err != nil {
			return Check{name, Warn, err.Error(), "change its owner or mode"}
		}
		sum += size
		if size >= 1_000_000 {
			uses = append(uses, use{e.Name(), size})
		}
	}
	slices.SortStableFunc(uses, func(a, b use) int {
		switch {
		case a.size > b.size:
			return -1
		case a.size < b.size:
			return 1
		}
		return 0
	})
	value := cache.Bytes(sum) + " in " + dir
	for i, u := range uses {
		sep := ", "
		if i == 0 {
			sep = ": "
		}
		value += sep + u.name + " " + cache.Bytes(u.size)
	}
	return Check{name, OK, value, ""}
}

func checkBackbone(h *backbone.Finder, name string) Check {
	label := "backbone " + name
	b, err := h.Resolve(name)
	var missing *backbone.MissingError
	switch {
	case errors.As(err, &missing):
		return Check{label, Warn, missing.Reason, missing.Cure}
	case err != nil:
		return Check{label, Warn, err.Error(), "run `runner models fetch " + name + "`"}
	}
	return Check{label, OK, b.Path + ", from " + b.Source, ""}
}

func (o Options) plugins(ctx context.Context) Check {
	const name = "variants"
	var found []string
	untrusted := map[string]bool{}
	for _, dir := range o.Plugins {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // most machines have only some of them
		}
		for _, e := range entries {
			info, err := os.Stat(filepath.Join(dir, e.Name()))
			if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 || slices.Contains(found, e.Name()) {
				continue
			}
			found = append(found, e.Name())
			untrusted[e.Name()] = slices.Contains(o.Untrusted, filepath.Join(dir, e.Name()))
		}
	}
	if len(found) == 0 {
		return Check{name, Fail, "none in " + strings.Join(o.Plugins, ", "), "run `make build` where loralab's sources are"}
	}
	slices.Sort(found)
	value := strings.Join(found, " ")
	// That a file is there does not say that it starts: a program may lack a library.
	silent := make([]string, len(found))
	var asking errgroup.Group
	asking.SetLimit(runtime.NumCPU())
	for i, variant := range found {
		if untrusted[variant] {
			continue
		}
		asking.Go(func() error {
			if err := o.Variant(ctx, variant); err != nil {
				silent[i] = fmt.Sprintf("\n%v", err)
			}
			return nil
		})
	}
	_ = asking.Wait()
	switch silent := strings.Join(silent, ""); {
	case len(o.Untrusted) > 0:
		return Check{name, Warn, value + silent + "\nnot trusted: " + strings.Join(o.Untrusted, " "), "see `runner plugins trust -h`"}
	case silent != "":
		return Check{name, Warn, value + silent, "see `runner plugins info VARIANT`; docs/plugins.md says what a variant in Python needs"}
	}
	return Check{name, OK, value, ""}
}
