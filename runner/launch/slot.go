package launch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// Slot is where an engine works. The zero value leaves the choice to the
// engine.
type Slot struct {
	Device  string // "cuda:1"; "" leaves it to the engine
	Threads int    // 0 leaves it to the engine
	CPUs    []int  // it is bound to; none leaves it free
}

// Devices is how many devices engines will use. It is 1 where $LORALAB_DEVICE
// names one, and where there is at most one GPU. With more it is what an engine
// says, since a driver that shows them is not all that they need.
func Devices(ctx context.Context) (int, error) {
	if os.Getenv("LORALAB_DEVICE") != "" {
		return 1, nil
	}
	// Some containers show the devices in one of these places alone.
	gpus := len(strings.Split(os.Getenv("CUDA_VISIBLE_DEVICES"), ","))
	for _, place := range []string{"/proc/driver/nvidia/gpus/*", "/dev/nvidia[0-9]*"} {
		found, err := filepath.Glob(place)
		if err != nil {
			return 1, err
		}
		gpus = max(gpus, len(found))
	}
	if gpus < 2 {
		return 1, nil
	}
	_, info, err := Probe(ctx)
	if err != nil {
		return 0, err
	}
	return max(int(info.GetCudaDevices()), 1), nil // 0: it uses the processor
}

// Divide makes n slots on a number of devices and on the processors that this
// process may use: each has its own share of them, as threads of engines that
// are not kept apart push each other off their processors and wait for each
// other. $LORALAB_THREADS is what a user says of every engine, and stays. Where
// one engine has all to itself, nothing is set.
func Divide(n, devices int) []Slot {
	slots := make([]Slot, max(n, 1))
	if len(slots) == 1 {
		return slots
	}
	if devices > 1 {
		for i := range slots {
			slots[i].Device = fmt.Sprintf("cuda:%d", i%devices)
		}
	}
	cpus := allowedCPUs()
	for i := range slots {
		from, to := i*len(cpus)/len(slots), (i+1)*len(cpus)/len(slots)
		if from == to { // more slots than processors
			to = from + 1
		}
		slots[i].CPUs = cpus[from:to]
		if os.Getenv("LORALAB_THREADS") == "" {
			slots[i].Threads = to - from
		}
	}
	return slots
}

// allowedCPUs are the processors that this process may use.
func allowedCPUs() []int {
	if cpus := affinity(); len(cpus) > 0 {
		return cpus
	}
	cpus := make([]int, runtime.NumCPU())
	for i := range cpus {
		cpus[i] = i
	}
	return cpus
}

// environment is what an engine in the slot is started with. Of two values of a
// variable the last counts, which is the user's.
func (s Slot) environment(user []string) []string {
	// Threads of OpenMP spin while they wait for each other, which on a machine
	// with anything else to do costs three quarters of the speed. They read
	// this before the engine's first line runs.
	env := []string{"OMP_WAIT_POLICY=PASSIVE"}
	if s.Device != "" {
		env = append(env, "LORALAB_DEVICE="+s.Device)
	}
	if s.Threads > 0 {
		env = append(env, fmt.Sprintf("LORALAB_THREADS=%d", s.Threads), fmt.Sprintf("OMP_NUM_THREADS=%d", s.Threads))
	}
	for _, entry := range user {
		// An empty value says nothing, as elsewhere, and must not take the slot's place.
		if entry != "LORALAB_DEVICE=" && entry != "LORALAB_THREADS=" {
			env = append(env, entry)
		}
	}
	return env
}

// bound runs start so that a process which it starts is bound to the
// processors of the slot: children inherit from the thread that makes them.
func (s Slot) bound(start func() error) error {
	if len(s.CPUs) == 0 {
		return start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return bind(s.CPUs, start)
}
