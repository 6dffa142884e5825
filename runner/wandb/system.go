package wandb

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Sampler reads system metrics of Linux, under the names of W&B: the processor time and
// memory of this process and those below it, the memory of the machine, and of
// NVIDIA's GPUs what nvidia-smi says. On other systems there are none.
type Sampler struct {
	ticks   uint64 // of processor time, at the sample before
	at      time.Time
	noGPU   bool
	network [2]uint64
	started bool
}

// clockTicks a second, of /proc. Linux has this number on all systems that Go runs on.
const clockTicks = 100

// Sample is what there is now. Processor time is since the sample before; the first one
// lacks it.
func (s *Sampler) Sample(ctx context.Context) map[string]float64 {
	values := map[string]float64{}
	now := time.Now()
	ticks, rss, threads := processes(os.Getpid())
	if ticks > 0 {
		if wall := now.Sub(s.at).Seconds(); s.ticks > 0 && wall > 0 && ticks >= s.ticks {
			values["cpu"] = float64(ticks-s.ticks) / clockTicks / wall / float64(runtime.NumCPU()) * 100
		}
		s.ticks, s.at = ticks, now
		values["proc.memory.rssMB"], values["proc.cpu.threads"] = float64(rss)/(1<<20), float64(threads)
	}
	memory := memoryOf()
	if total, free := memory["MemTotal"], memory["MemAvailable"]; total > 0 {
		values["memory_percent"] = float64(total-free) / float64(total) * 100
		values["proc.memory.availableMB"] = float64(free) / (1 << 20)
		values["proc.memory.percent"] = float64(rss) / float64(total) * 100
	}
	if sent, received, ok := network(); ok {
		if !s.started {
			s.network, s.started = [2]uint64{sent, received}, true
		}
		values["network.sent"], values["network.recv"] = float64(sent-min(sent, s.network[0])), float64(received-min(received, s.network[1]))
	}
	if !s.noGPU {
		s.noGPU = !gpus(ctx, values)
	}
	return values
}

// processes adds up processor ticks, resident bytes and threads of a process and of
// those below it.
func processes(root int) (ticks uint64, rss uint64, threads int) {
	type process struct {
		parent, threads int
		ticks, pages    uint64
	}
	all := map[int]process{}
	folders, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range folders {
		content, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		id, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		at := bytes.LastIndexByte(content, ')') // after the name, which may hold anything
		if err != nil || at < 0 {
			continue
		}
		f := strings.Fields(string(content[at+1:]))
		if len(f) < 22 {
			continue
		}
		number := func(i int) uint64 { n, _ := strconv.ParseUint(f[i], 10, 64); return n }
		all[id] = process{parent: int(number(1)), ticks: number(11) + number(12), threads: int(number(17)), pages: number(21)}
	}
	below := func(id int) bool {
		for range 64 { // deep enough, and no loop
			if id == root {
				return true
			}
			p, known := all[id]
			if !known || id <= 1 {
				return false
			}
			id = p.parent
		}
		return false
	}
	for id, p := range all {
		if below(id) {
			ticks, rss, threads = ticks+p.ticks, rss+p.pages*uint64(os.Getpagesize()), threads+p.threads
		}
	}
	return ticks, rss, threads
}

// memoryOf is /proc/meminfo in bytes.
func memoryOf() map[string]uint64 {
	values := map[string]uint64{}
	content, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(content)) {
		name, rest, found := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if !found || len(f) == 0 {
			continue
		}
		if n, err := strconv.ParseUint(f[0], 10, 64); err == nil {
			values[name] = n << 10
		}
	}
	return values
}

func memoryTotal() uint64 { return memoryOf()["MemTotal"] }

// network is what all interfaces but the loopback have sent and received, in bytes.
func network() (sent, received uint64, ok bool) {
	content, err := os.ReadFile("/proc/net/dev")
	for line := range strings.Lines(string(content)) {
		name, rest, found := strings.Cut(line, ":")
		f := strings.Fields(rest)
		if !found || len(f) < 9 || strings.TrimSpace(name) == "lo" {
			continue
		}
		in, _ := strconv.ParseUint(f[0], 10, 64)
		out, _ := strconv.ParseUint(f[8], 10, 64)
		received, sent = received+in, sent+out
	}
	return sent, received, err == nil
}

// gpus adds what nvidia-smi says, and reports whether it says anything.
func gpus(ctx context.Context, values map[string]float64) bool {
	path, err := exec.LookPath("nvidia-smi")
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--format=csv,noheader,nounits",
		"--query-gpu=index,utilization.gpu,utilization.memory,memory.used,memory.total,temperature.gpu,power.draw,power.limit")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"} // no key
	out, err := cmd.Output()
	if err != nil {
		return false
	}
	return parseGPUs(string(out), values)
}

func parseGPUs(out string, values map[string]float64) (found bool) {
	for line := range strings.Lines(out) {
		f := strings.Split(line, ",")
		if len(f) != 8 {
			continue
		}
		number := func(i int) (float64, bool) {
			v, err := strconv.ParseFloat(strings.TrimSpace(f[i]), 64)
			return v, err == nil
		}
		prefix := "gpu." + strings.TrimSpace(f[0]) + "."
		put := func(name string, v float64, ok bool) {
			if ok {
				values[prefix+name], found = v, true
			}
		}
		for name, i := range map[string]int{"gpu": 1, "memory": 2, "temp": 5, "powerWatts": 6, "enforcedPowerLimitWatts": 7} {
			v, ok := number(i)
			put(name, v, ok)
		}
		used, known := number(3)
		total, ok := number(4)
		put("memoryAllocatedBytes", used*(1<<20), known)
		put("memoryAllocated", used/total*100, known && ok && total > 0)
		power, known := number(6)
		limit, ok := number(7)
		put("powerPercent", power/limit*100, known && ok && limit > 0)
	}
	return found
}
