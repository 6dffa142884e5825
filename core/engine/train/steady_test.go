package train

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/spec"
)

// usage is what a process may lose hold of.
type usage struct {
	tensors     int   // handles
	tensorBytes int64 // on the device's thread, autograd's too
	resident    int64 // VmRSS
	goroutines  int
	files       int // descriptors
}

// measure is taken with nothing in flight but the run itself.
func measure(t *testing.T) usage {
	t.Helper()
	// Garbage that Go has not collected yet is no leak.
	debug.FreeOSMemory()
	var u usage
	if err := cpu.Do(func() error {
		u.tensors, u.tensorBytes = cpu.Live(), cpu.LiveBytes()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			u.resident = kib << 10
		}
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	u.files, u.goroutines = len(open), runtime.NumGoroutine()
	return u
}

// Between what is compared, memory may grow by this: the allocators keep pools.
const slack = 6 << 20

// steady holds a later usage against an earlier one.
func (u usage) steady(t *testing.T, what string, before usage) {
	t.Helper()
	if u.tensors > before.tensors || u.tensorBytes > before.tensorBytes {
		t.Errorf("%s: %d tensors of %d bytes, before %d of %d", what, u.tensors, u.tensorBytes, before.tensors, before.tensorBytes)
	}
	if u.resident > before.resident+slack {
		t.Errorf("%s: the process has grown from %.1f to %.1f MiB", what, float64(before.resident)/(1<<20), float64(u.resident)/(1<<20))
	}
	// The goroutine that reads ahead may be there or have ended.
	if u.goroutines > before.goroutines+1 || u.files > before.files {
		t.Errorf("%s: %d goroutines and %d open files, before %d and %d", what, u.goroutines, u.files, before.goroutines, before.files)
	}
	t.Logf("%s: %+v, before %+v", what, u, before)
}

// TestMemoryIsSteadyOverSteps trains 2,000 updates, each of two batches, with
// augmentation and dropout, the mean of the weights, validations and
// checkpoints in between, and holds step 2,000 against step 200.
func TestMemoryIsSteadyOverSteps(t *testing.T) {
	for name, edit := range map[string]func(*spec.RunRequest){
		"cached": func(*spec.RunRequest) {},
		"augmented, uncached": func(r *spec.RunRequest) {
			r.Spec.Data.Augment = []*spec.Augment{
				{Kind: "flip", P: 0.5},
				{Kind: "rotate", P: 0.5, Low: -10, High: 10},
				{Kind: "colour", P: 0.5, Brightness: 0.2, Hue: 0.02},
				{Kind: "blur", P: 0.5, Low: 0.1, High: 2},
				{Kind: "noise", P: 0.5, High: 0.05},
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			req := request(t, func(r *spec.RunRequest) {
				r.Spec.Backbone.Depth, r.Spec.Adapter = 2, adapted(t, lora{dropout: 0.1}, 1)
				r.Spec.Data.Height, r.Spec.Data.Width = 16, 16
				for _, e := range r.Evaluations {
					e.Data.Height, e.Data.Width = 16, 16
				}
				r.Spec.Data.Splits["train"] = &spec.Split{Count: 80, Procedural: &spec.Procedural{Seed: 1, Count: 80, Size: 16}}
				r.Spec.Data.Splits["val"].Procedural.Size = 16
				r.Spec.Head.Norm = true
				r.Spec.Train.Batch, r.Spec.Train.Accumulate, r.Spec.Train.Ema = 1, 2, 0.9
				r.Spec.Train.Epochs, r.Spec.Train.EvalEvery = 50, 5
				edit(r)
			})
			req.CheckpointSeconds = 0.1
			tr := trainer(t)
			var at200, at2000 usage
			err := tr.Run(t.Context(), req, func(e *spec.Event) {
				switch e.GetStep().GetStep() {
				case 200:
					at200 = measure(t)
				case 2000:
					at2000 = measure(t)
				}
			})
			if err != nil || at200.resident == 0 || at2000.resident == 0 {
				t.Fatalf("%v; measured %+v and %+v", err, at200, at2000)
			}
			at2000.steady(t, "at step 2,000", at200)
		})
	}
}

// TestMemoryIsSteadyOverRuns takes 50 runs one after another, as one engine
// does, over data of their own, so that the cache of tokens has to let go; then
// evaluates 2,000 images.
func TestMemoryIsSteadyOverRuns(t *testing.T) {
	tr := New(cpu, t.TempDir())
	defer tr.Close()
	const picture = (2*2 + 1) * 24 * 4 // bytes of the tokens of one
	tr.cache.limit = 60 * picture      // a run has 13 + 5 + 6 + 6
	small := func(r *spec.RunRequest) {
		r.Spec.Data.Height, r.Spec.Data.Width, r.Spec.Train.Epochs = 16, 16, 1
		for _, e := range r.Evaluations {
			e.Data.Height, e.Data.Width = 16, 16
		}
	}
	var after5 usage
	for i := range 50 {
		req := request(t, small, func(r *spec.RunRequest) {
			r.Spec.Seed = uint64(i)
			for _, split := range r.Spec.Data.Splits {
				split.Procedural.Seed += uint64(10 * i)
			}
		})
		events, err := run(t, tr, req, 0)
		finished(t, events, err)
		var held int64
		for _, e := range tr.cache.entries {
			held += e.bytes
		}
		if held > tr.cache.limit {
			t.Fatalf("the cache holds %d bytes, its limit is %d", held, tr.cache.limit)
		}
		if i == 4 {
			after5 = measure(t)
		}
	}
	now := measure(t)
	now.steady(t, "after 50 runs", after5)

	req := request(t, small)
	events, err := run(t, tr, req, 0)
	finished(t, events, err)
	before := measure(t)
	many := proto.CloneOf(req.Evaluations[0])
	many.Domain = "many"
	many.Data.Splits["test"] = &spec.Split{Count: 2000, Procedural: &spec.Procedural{Seed: 5, Count: 2000, Size: 16}}
	req.Evaluations = append(req.Evaluations, many)
	events, err = run(t, tr, req, 0)
	if sum := finished(t, events, err); sum.Evaluations[2].Metrics.Images != 2000 {
		t.Errorf("scored %d images", sum.Evaluations[2].Metrics.Images)
	}
	measure(t).steady(t, "after an evaluation of 2,000 images", before)
	if left, _ := filepath.Glob(filepath.Join(req.Places.RunDir, "*", ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
