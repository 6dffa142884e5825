// Package provenance writes down what made a run, beside the run: the state of
// the version control, the experiment as it was written, the pinned plug-ins,
// the versions of everything involved, machine and device. One entry is added
// each time the run is begun or resumed, so a run that three machines worked on
// says so.
//
// Of the environment only variables that are known to matter are kept, by name:
// tokens and passwords live there too.
package provenance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
)

// Record is what made a run, an entry for each time it was begun.
type Record struct {
	Attempts []Attempt `json:"attempts"`
}

// Attempt is what one attempt at a run was made with.
type Attempt struct {
	Time time.Time `json:"time"`
	Origin
	Source  *Source `json:"source,omitempty"` // nil: known only by its specification
	Variant Variant `json:"variant,omitzero"`
	Engine  Engine  `json:"engine"`
	// Patch is the file in the run directory with what was not committed, "" if
	// there was nothing.
	Patch string `json:"patch,omitempty"`
}

// Origin is what all runs of one command have in common.
type Origin struct {
	Command []string `json:"command"`
	Loralab Program  `json:"loralab"`
	// EngineSHA256 is of the engine's executable.
	EngineSHA256 string            `json:"engine_sha256"`
	Machine      Machine           `json:"machine"`
	Environment  map[string]string `json:"environment"`
	Git          *Git              `json:"git,omitempty"` // nil: not under version control
	// Lock is the text of runner.lock, which pins plug-ins.
	Lock string `json:"runner_lock,omitempty"`
}

// Program is how runner was built.
type Program struct {
	Version   string            `json:"version"`
	Go        string            `json:"go"`
	Revision  string            `json:"revision,omitempty"` // of the source, with "+dirty" where it was changed
	Libraries map[string]string `json:"libraries"`          // module -> version
}

// Machine is where it ran.
type Machine struct {
	Host   string `json:"host"`
	System string `json:"system"` // kernel and its version
	Arch   string `json:"arch"`
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"` // that this process may use
	Memory uint64 `json:"memory_bytes"`
	NVIDIA string `json:"nvidia_driver,omitempty"`
}

// Git is the state of the repository that the project is in.
type Git struct {
	Commit string `json:"commit"`
	Branch string `json:"branch,omitempty"`
	// Dirty says that files of the project were changed since the commit. Other
	// files of the repository are nobody's business here, and may hold secrets.
	Dirty bool `json:"dirty"`
	// Untracked files are named only, up to untrackedMost of them.
	Untracked []string `json:"untracked,omitempty"`
	// PatchNote says why there is no patch of a dirty tree.
	PatchNote string `json:"patch_note,omitempty"`

	patch []byte
}

// Source is what was written to get the run.
type Source struct {
	File string `json:"file"` // the experiment, relative to the project
	Text string `json:"text"`
	// Values is the resolved configuration of the cell, with who gave each
	// value. Of a smoke run it is that of the cell, uncut.
	Values []experiment.Value `json:"values"`
}

// ReadSource reads the file of an experiment of the project at root, and
// resolves a cell.
func ReadSource(root string, e *experiment.Experiment, cell string) (*Source, error) {
	text, err := os.ReadFile(e.File)
	if err != nil {
		return nil, fmt.Errorf("recording the experiment: %w", err)
	}
	s := &Source{File: e.File, Text: string(text)}
	if rel, err := filepath.Rel(root, e.File); err == nil {
		s.File = filepath.ToSlash(rel)
	}
	s.Values, err = e.Values(cell)
	return s, err
}

// Variant is the plug-in that made the adapter program.
type Variant struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Params  string `json:"params"` // JSON
}

// Engine is what the engine said of itself.
type Engine struct {
	Version       string            `json:"version"`
	Libtorch      string            `json:"libtorch"`
	Device        string            `json:"device"`
	DeviceName    string            `json:"device_name"`
	CPUCapability string            `json:"cpu_capability,omitempty"`
	Threads       uint32            `json:"threads"`
	CUDADevices   uint32            `json:"cuda_devices,omitempty"`
	CUDA          string            `json:"cuda,omitempty"` // the same in older records, as text
	Probes        map[string]string `json:"probes,omitempty"`
}

// Same reports whether two engines are expected to compute the same bits: the
// same program on the same kind of device, with as many threads and the same
// choices of its probes.
func (e Engine) Same(o Engine) bool {
	if e.Version != o.Version || e.Libtorch != o.Libtorch || e.DeviceName != o.DeviceName ||
		e.CPUCapability != o.CPUCapability || e.Threads != o.Threads {
		return false
	}
	for name, choice := range e.Probes {
		if other, ok := o.Probes[name]; ok && other != choice {
			return false
		}
	}
	kind := func(device string) string { k, _, _ := strings.Cut(device, ":"); return k }
	return kind(e.Device) == kind(o.Device)
}

const (
	patchMost     = 8 << 20 // bytes
	untrackedMost = 200
)

// kept are the variables of the environment that change what a run computes,
// or how fast. Nothing else is read.
var kept = []string{
	"LORALAB_DEVICE", "LORALAB_THREADS", "LORALAB_DATA", "LIBTORCH",
	"OMP_NUM_THREADS", "OMP_WAIT_POLICY", "OMP_PROC_BIND", "OMP_PLACES", "KMP_AFFINITY", "GOMP_CPU_AFFINITY",
	"MKL_NUM_THREADS", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "GOMAXPROCS",
	"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG",
	"NVIDIA_TF32_OVERRIDE", "NVIDIA_VISIBLE_DEVICES", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
	"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF",
	"SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_CPUS_PER_TASK",
	"LANG", "LC_ALL", "TZ",
}

// Capture looks at this moment: root is the project, engine the executable.
func Capture(ctx context.Context, root, engine string, command []string) (*Origin, error) {
	o := &Origin{Command: command, Loralab: program(), Machine: machine(), Environment: map[string]string{}}
	for _, name := range kept {
		if value, set := os.LookupEnv(name); set {
			o.Environment[name] = value
		}
	}
	var err error
	if o.EngineSHA256, err = filehash.Of(engine); err != nil {
		return nil, fmt.Errorf("recording which engine runs: %w", err)
	}
	lock, err := os.ReadFile(filepath.Join(root, "runner.lock"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("recording which plug-ins are pinned: %w", err)
	}
	o.Lock = string(lock)
	o.Git = git(ctx, root)
	return o, nil
}

// Record adds an entry to the record in the directory of a run.
func (o *Origin) Record(dir string, source *Source, label *spec.Label, engine *spec.EngineInfo) error {
	record, err := Read(dir)
	if err != nil {
		return err
	}
	a := Attempt{Time: time.Now().Truncate(time.Millisecond), Origin: *o, Source: source, Engine: Engine{
		Version: engine.GetVersion(), Libtorch: engine.GetLibtorch(), Device: engine.GetDevice(),
		DeviceName: engine.GetDeviceName(), CPUCapability: engine.GetCpuCapability(), Threads: engine.GetThreads(),
		CUDADevices: engine.GetCudaDevices(), Probes: engine.GetProbes(),
	}}
	if label.GetVariant() != "" {
		a.Variant = Variant{label.GetVariant(), label.GetVariantVersion(), label.GetVariantParams()}
	}
	if o.Git != nil && len(o.Git.patch) > 0 {
		if a.Patch, err = keepPatch(dir, o.Git.patch); err != nil {
			return err
		}
	}
	record.Attempts = append(record.Attempts, a)
	text, err := json.MarshalIndent(record, "", "  ")
	if err != nil {
		return fmt.Errorf("recording what made the run: %w", err)
	}
	return replacefile.Write(rundir.Dir(dir).Path(rundir.Environment), append(text, '\n'))
}

// keepPatch writes a patch into a run directory, under a name of its own unless
// it is there already.
func keepPatch(dir string, patch []byte) (string, error) {
	for n := 1; ; n++ {
		name := rundir.Patch(n)
		path := filepath.Join(dir, name)
		have, err := os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return name, replacefile.Write(path, patch)
		case err != nil:
			return "", fmt.Errorf("recording what was not committed: %w", err)
		case string(have) == string(patch):
			return name, nil
		}
	}
}

// Read is what made the run in a directory; without attempts where nothing was
// recorded.
func Read(dir string) (*Record, error) {
	r := &Record{}
	text, err := os.ReadFile(rundir.Dir(dir).Path(rundir.Environment))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what made the run: %w", err)
	}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("reading %s: %w; remove the file to do without", rundir.Dir(dir).Path(rundir.Environment), err)
	}
	return r, nil
}

// Last is the newest attempt, nil where nothing was recorded.
func (r *Record) Last() *Attempt {
	if len(r.Attempts) == 0 {
		return nil
	}
	return &r.Attempts[len(r.Attempts)-1]
}

func program() Program {
	p := Program{Version: spec.Version(), Go: runtime.Version(), Libraries: map[string]string{}}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return p
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		p.Libraries[m.Path] = m.Version
	}
	dirty := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			p.Revision = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if dirty {
		p.Revision += "+dirty"
	}
	return p
}

// machine says what can be found out; what cannot stays empty.
func machine() Machine {
	m := Machine{Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), System: runtime.GOOS}
	m.Host, _ = os.Hostname()
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.System = unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])
	}
	m.CPU = field("/proc/cpuinfo", "model name")
	if kb, _, _ := strings.Cut(field("/proc/meminfo", "MemTotal"), " "); kb != "" {
		n, _ := strconv.ParseUint(kb, 10, 64)
		m.Memory = n << 10
	}
	if text, err := os.ReadFile("/proc/driver/nvidia/version"); err == nil {
		m.NVIDIA, _, _ = strings.Cut(string(text), "\n")
	}
	return m
}

// field is the value of the first line "name: value" of a file, "" without one.
func field(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
