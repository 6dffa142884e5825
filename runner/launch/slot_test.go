package launch

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Slots share the processors out: none is idle, and none has two engines unless
// there are more engines than processors.
func TestDivide(t *testing.T) {
	t.Setenv("LORALAB_THREADS", "")
	cpus := allowedCPUs()
	rapid.Check(t, func(rt *rapid.T) {
		n, devices := rapid.IntRange(2, 3*len(cpus)).Draw(rt, "slots"), rapid.IntRange(1, 4).Draw(rt, "devices")
		slots := Divide(n, devices)
		if len(slots) != n {
			rt.Fatalf("%d slots", len(slots))
		}
		used := map[int]int{}
		for i, s := range slots {
			if s.Threads != len(s.CPUs) || s.Threads == 0 {
				rt.Fatalf("slot %d has %d threads on %v", i, s.Threads, s.CPUs)
			}
			if (s.Device == "") != (devices == 1) {
				rt.Fatalf("slot %d is on %q", i, s.Device)
			}
			for _, cpu := range s.CPUs {
				used[cpu]++
			}
		}
		if len(used) != len(cpus) {
			rt.Fatalf("of %d processors %d are used", len(cpus), len(used))
		}
		for cpu, times := range used {
			if times > (n+len(cpus)-1)/len(cpus) {
				rt.Fatalf("processor %d has %d of %d engines", cpu, times, n)
			}
		}
	})
	if one := Divide(1, 1); len(one) != 1 || one[0].Threads != 0 || one[0].CPUs != nil {
		t.Errorf("one slot has all to itself, and is told nothing: %+v", one)
	}
}

// A process is bound to its slot, and this one stays free.
func TestBound(t *testing.T) {
	before := allowedCPUs()
	slot := Slot{CPUs: before[len(before)-1:]}
	var out []byte
	err := slot.bound(func() (err error) {
		out, err = exec.Command("grep", "Cpus_allowed_list", "/proc/self/status").Output()
		return err
	})
	if os.IsNotExist(err) {
		t.Fatal("there is no grep")
	}
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Fields(string(out)); len(want) != 2 || strings.ContainsAny(want[1], ",-") {
		t.Errorf("the process may use %s", out)
	}
	if after := allowedCPUs(); !slices.Equal(before, after) {
		t.Errorf("this process may use %v, before %v", after, before)
	}
}

// An engine is started with what its slot says, unless the user says otherwise.
func TestEnvironment(t *testing.T) {
	got := Slot{Device: "cuda:1", Threads: 2}.environment([]string{"OMP_NUM_THREADS=3", "LORALAB_DEVICE="})
	want := []string{"OMP_WAIT_POLICY=PASSIVE", "LORALAB_DEVICE=cuda:1", "LORALAB_THREADS=2", "OMP_NUM_THREADS=2", "OMP_NUM_THREADS=3"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
