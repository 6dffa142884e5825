package live

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Load is how busy this machine is.
type Load struct {
	CPU    int    `json:"cpu"`    // percent of all processors since the last tick
	Memory int    `json:"memory"` // percent in use
	Total  uint64 `json:"total"`  // bytes of memory
	GPUs   []GPU  `json:"gpus,omitempty"`
}

// GPU is one of NVIDIA, as nvidia-smi has it.
type GPU struct {
	Name   string `json:"name"`
	Busy   int    `json:"busy"`   // percent
	Memory int    `json:"memory"` // percent in use
}

// meter reads the load from /proc.
type meter struct {
	busy, all uint64
	gpus      atomic.Pointer[[]GPU]
	asking    atomic.Bool
	smi       *string
}

func (m *meter) read() (l Load) {
	if text, err := os.ReadFile("/proc/stat"); err == nil {
		first, _, _ := bytes.Cut(text, []byte("\n"))
		var all, idle uint64
		for i, f := range strings.Fields(string(first)) {
			n, err := strconv.ParseUint(f, 10, 64)
			if err != nil || i > 8 { // guests are counted as user as well
				continue
			}
			all += n
			if i == 4 || i == 5 { // idle, iowait
				idle += n
			}
		}
		if busy := all - idle; m.all > 0 && all > m.all && busy >= m.busy {
			l.CPU = int(100 * (busy - m.busy) / (all - m.all))
		}
		m.busy, m.all = all-idle, all
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		kb := map[string]uint64{}
		for line := range strings.Lines(string(text)) {
			name, rest, _ := strings.Cut(line, ":")
			kb[name], _ = strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		}
		if l.Total = kb["MemTotal"] << 10; l.Total > 0 {
			l.Memory = int(100 - 100*kb["MemAvailable"]/kb["MemTotal"])
		}
	}
	m.ask()
	if g := m.gpus.Load(); g != nil {
		l.GPUs = *g
	}
	return l
}

// ask asks nvidia-smi, if there is one, while others go on: it takes a while.
func (m *meter) ask() {
	if m.smi == nil {
		path, err := exec.LookPath("nvidia-smi")
		if err != nil {
			path = ""
		}
		m.smi = &path
	}
	if *m.smi == "" || !m.asking.CompareAndSwap(false, true) {
		return
	}
	go func() { // it ends with its command, after 5 seconds at most
		defer m.asking.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, *m.smi, "--query-gpu=name,utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits").Output()
		if err != nil {
			return
		}
		var gpus []GPU
		for line := range strings.Lines(string(out)) {
			f := strings.Split(strings.TrimSpace(line), ", ")
			if len(f) != 4 {
				continue
			}
			g := GPU{Name: f[0]}
			g.Busy, _ = strconv.Atoi(f[1])
			used, _ := strconv.ParseFloat(f[2], 64)
			if total, _ := strconv.ParseFloat(f[3], 64); total > 0 {
				g.Memory = int(100 * used / total)
			}
			gpus = append(gpus, g)
		}
		m.gpus.Store(&gpus)
	}()
}
