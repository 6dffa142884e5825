package train

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/internal/fakecuda"
)

// TestCUDA runs the subtests below in a process of its own, whose libtorch finds fake
// GPUs when it first looks for some.
func TestCUDA(t *testing.T) {
	fake, err := fakecuda.Of(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	if fake != nil {
		onFake(t, fake)
		return
	}
	fake = fakecuda.New(t, 2)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCUDA$", "-test.v")
	cmd.Env = append(os.Environ(), fake.Environment()...)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "--- PASS: TestCUDA/") {
		t.Fatal("no test ran")
	}
}

func onFake(t *testing.T, fake *fakecuda.Fake) {
	if n, missing := torch.FindCUDA(); n != 2 {
		t.Fatalf("%d devices: %s", n, missing)
	}
	// gpu is a trainer on a device of its own, for one test.
	gpu := func(t *testing.T, index int) (*torch.Device, *Trainer) {
		t.Helper()
		dev, err := torch.CUDA(index)
		if err != nil {
			t.Fatal(err)
		}
		tr := New(dev, "")
		t.Cleanup(func() {
			tr.Close() // fails where the device is lost
			dev.Close()
		})
		return dev, tr
	}
	t.Run("what the host waits for", func(t *testing.T) {
		dev, _ := gpu(t, 0)
		err := dev.Do(func() error {
			x := torch.Of(dev, []float64{2, 0, 0, 2}, 2, 2)
			for _, c := range []struct {
				what string
				do   func()
				want int64
			}{
				{"item", func() { x.Sum().Item() }, 1},
				{"download", func() { x.Floats() }, 1},
				{"upload", func() { torch.Of(dev, []float32{1, 2}, 2) }, 0},
				{"large upload", func() { torch.Of(dev, make([]float32, 1<<16), 1<<16) }, 0},
				{"solve", func() { x.Solve(x) }, 0},
				{"later", func() { x.To(torch.Float32).Reshape(-1).Later().Read() }, 0},
				{"svd", func() { x.SVD() }, 4}, // x there, and its parts back
			} {
				before := fake.Waits()
				dev.Scope(c.do)
				if got := fake.Waits() - before; got != c.want {
					t.Errorf("%s: %d waits, want %d", c.what, got, c.want)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})

	t.Run("devices do not mix", func(t *testing.T) {
		dev, _ := gpu(t, 0)
		other, _ := gpu(t, 1)
		var there *torch.Tensor
		if err := other.Do(func() error { there = other.Full(1, torch.Float32, 2).Keep(); return nil }); err != nil {
			t.Fatal(err)
		}
		err := dev.Do(func() error { dev.Full(1, torch.Float32, 2).Assign(there); return nil })
		if err == nil {
			t.Error("a tensor of another device was used")
		}
		if _, err := torch.CUDA(2); err == nil || err.Error() != "cuda:2: there are 2 CUDA devices" {
			t.Errorf("of the third: %v", err)
		}
	})

	onDevice(t, gpu)

	t.Run("one device is used", func(t *testing.T) {
		_, tr := gpu(t, 1)
		before := fake.Peak(0)
		trained(t, tr, request(t))
		if fake.Peak(1) == 0 || fake.Peak(0) != before {
			t.Errorf("peaks of %d and %d bytes", fake.Peak(0), fake.Peak(1))
		}
	})

	t.Run("an update waits for nothing", func(t *testing.T) {
		_, tr := gpu(t, 0)
		var waits []int64
		edit := func(r *spec.RunRequest) {
			r.Spec.Train.Epochs, r.Evaluations = 1, nil
			r.Spec.Data.Splits["train"].Count, r.Spec.Data.Splits["train"].Procedural.Count = 48, 48
			r.Spec.Adapter = adapted(t, lora{0.1}, 3, 4)
			r.Spec.Backbone.DropPath = 0.1
			r.Spec.Loss = []*spec.Loss{{Kind: "focal", Weight: 1, Gamma: 2, ClassWeights: []float64{1, 2, 3}}, {Kind: "lovasz", Weight: 1}, {Kind: "cross_entropy", Weight: 1, Smoothing: 0.1}}
		}
		err := tr.Run(t.Context(), request(t, edit), func(e *spec.Event) {
			if e.GetStep() != nil {
				waits = append(waits, fake.Waits())
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(waits) != 12 {
			t.Fatalf("%d steps", len(waits))
		}
		for i := 1; i < len(waits); i++ {
			if n := waits[i] - waits[i-1]; n != 0 {
				t.Errorf("the host waited %d times in update %d", n, i+1)
			}
		}
	})

	t.Run("a loss that is no number", func(t *testing.T) {
		_, tr := gpu(t, 0)
		req := request(t, func(r *spec.RunRequest) { r.Spec.Optim.LrAdapter, r.Spec.Optim.LrHead = 1e30, 1e30 })
		_, err := run(t, tr, req, 0)
		if err == nil || !strings.Contains(err.Error(), "at step") {
			t.Fatalf("%v", err)
		}
		t.Log(err)
	})

	t.Run("memory ends", func(t *testing.T) {
		_, tr := gpu(t, 0)
		edit := func(r *spec.RunRequest) {
			r.Spec.Head.Dropout, r.Spec.Train.Batch, r.Spec.Train.Epochs = 0, 12, 1
			r.Spec.Loss = []*spec.Loss{{Kind: "cross_entropy", Weight: 1}}
			r.Evaluations = nil
		}
		req := request(t, edit)
		_, want, _ := trained(t, New(cpu, ""), request(t, edit))
		trained(t, tr, request(t, edit))
		whole := fake.Peak(0)
		fake.Memory(whole * 3 / 4)
		defer fake.Memory(1 << 40)
		events, err := run(t, tr, req, 0)
		failed := events[len(events)-1].GetFailed()
		if err == nil || failed == nil || !failed.Retryable || failed.Parts != 2 {
			t.Fatalf("%v, %v", err, failed)
		}
		if want := "the memory of cuda:0 is exhausted by images of 48×32, 12 at a time; another try (--retry) computes each batch in 2 parts"; failed.Reason != want {
			t.Errorf("the reason is %q", failed.Reason)
		}
		req.Parts = failed.Parts
		_, got, _ := trained(t, tr, req)
		if fmt.Sprintf("%.4f", got) != fmt.Sprintf("%.4f", want) {
			t.Errorf("losses %v in parts, %v", got, want)
		}
	})

	t.Run("a lost device", func(t *testing.T) { // the last: nothing of it can be freed
		dev, tr := gpu(t, 0)
		req := request(t)
		steps := 0
		err := tr.Run(t.Context(), req, func(e *spec.Event) {
			if e.GetStep() != nil {
				if steps++; steps == 6 {
					fake.Lose(20)
				}
			}
			if f := e.GetFailed(); f != nil && (!f.Retryable || !strings.HasPrefix(f.Reason, "cuda:0: the device is lost")) {
				t.Errorf("it failed so: %v", f)
			}
		})
		if err == nil {
			t.Fatal("nothing was lost")
		}
		fake.Found()
		if err := dev.Do(func() error { return nil }); err == nil {
			t.Error("it computes again")
		}
		// Another process would have another device; what is on disk is whole.
		trained(t, New(cpu, ""), req)
		if _, err := os.Stat(filepath.Join(req.Places.RunDir, "result.json")); err != nil {
			t.Error(err)
		}
	})
}

// TestDevice is what bench/gpu.sh runs on a GPU: LORALAB_TEST_DEVICE is cuda or cpu.
// Without it there is nothing to do: TestCUDA runs the same on fake GPUs.
func TestDevice(t *testing.T) {
	if device := asked(t); device != nil {
		onDevice(t, device)
	}
}

// asked makes trainers on the device that LORALAB_TEST_DEVICE names, nil if it names none.
func asked(t *testing.T) func(*testing.T, int) (*torch.Device, *Trainer) {
	switch os.Getenv("LORALAB_TEST_DEVICE") {
	case "":
		return nil
	case "cpu":
		return func(*testing.T, int) (*torch.Device, *Trainer) { return cpu, New(cpu, "") }
	}
	if n, missing := torch.FindCUDA(); n == 0 {
		t.Fatal(missing)
	}
	return func(t *testing.T, _ int) (*torch.Device, *Trainer) {
		dev, err := torch.CUDA(0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(dev.Close)
		return dev, New(dev, "")
	}
}

// tolerances are how far losses, relative to their size, may be from those of a CPU.
var tolerances = map[string]float64{"fp32": 1e-4, "bf16": 5e-3, "tf32": 5e-3}

// TestRequests trains runs of bench/device.cue on the device that bench/gpu.sh tests, and
// on the CPU: LORALAB_TEST_REQUESTS is where `runner apply` has left them, and
// LORALAB_TEST_STEPS how many steps each takes.
func TestRequests(t *testing.T) {
	device := asked(t)
	if device == nil {
		return
	}
	steps, err := strconv.ParseUint(os.Getenv("LORALAB_TEST_STEPS"), 10, 32)
	if err != nil {
		t.Fatalf("LORALAB_TEST_STEPS: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(os.Getenv("LORALAB_TEST_REQUESTS"), "*", rundir.Request))
	if err != nil || len(files) == 0 {
		t.Fatalf("no requests in LORALAB_TEST_REQUESTS=%s: %v", os.Getenv("LORALAB_TEST_REQUESTS"), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		req := &spec.RunRequest{}
		if err := protojson.Unmarshal(text, req); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		req.Evaluations, req.SampleImages = nil, 0
		req.Spec.Train.MaxSteps, req.Spec.Train.EvalEvery = uint32(steps), 1000
		req.Spec.Train.Batch = min(req.Spec.Train.Batch, 4)
		t.Run(req.Label.Cell, func(t *testing.T) {
			dev, tr := device(t, 0)
			here := proto.CloneOf(req)
			if here.Spec.Train.Precision == "tf32" { // a CPU has none
				here.Spec.Train.Precision = "fp32"
			}
			for _, r := range []*spec.RunRequest{req, here} {
				r.Places.RunDir, r.Id = t.TempDir(), spec.Identity(r.Spec)
			}
			_, want, _ := trained(t, New(cpu, ""), here)
			_, got, _ := trained(t, tr, req)
			if len(got) != int(steps) {
				t.Errorf("%d steps, want %d", len(got), steps)
			}
			near(t, dev, got, want, tolerances[req.Spec.Train.Precision])
		})
	}
}

// norm is that of a vector, less another if there is one.
func norm(v, less []float64) (n float64) {
	for i, x := range v {
		if less != nil {
			x -= less[i]
		}
		n += x * x
	}
	return math.Sqrt(n)
}

// near compares the losses of a device with those of the CPU.
func near(t *testing.T, dev *torch.Device, got, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d steps, want %d", len(got), len(want))
	}
	largest := 0.0
	for i := range want {
		d := math.Abs(got[i]-want[i]) / max(1, math.Abs(want[i]))
		if largest = max(largest, d); !(d <= tolerance) {
			t.Errorf("loss of step %d is %v on %v, %v on the CPU", i+1, got[i], dev, want[i])
		}
	}
	t.Logf("losses differ by %.2g at most, %.2g is allowed", largest, tolerance)
}

// gradients are those of the first batch, by tensor, and the outputs of the network.
func gradients(t *testing.T, tr *Trainer, req *spec.RunRequest) map[string][]float64 {
	t.Helper()
	dir, err := openDir(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.close()
	s := &session{t: tr, req: req, spec: req.Spec, loss: req.Spec.Loss, dir: dir, emit: func(*spec.Event) {}}
	defer s.close()
	r, err := s.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u, err := r.read(t.Context(), r.src, []int{0, 1, 2, 3}, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]float64{}
	err = tr.dev.Do(func() error {
		l, logits, _ := s.lossOf(u, r.src, u.batches[0], u.indices[0])
		l.Backward()
		out["outputs"] = logits.Doubles()
		b, a, h := s.net.trained()
		for _, p := range slices.Concat(b, a, h) {
			out[p.name] = p.t.Grad().Doubles()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// trained is what a training leaves.
func trained(t *testing.T, tr *Trainer, req *spec.RunRequest) (digest string, losses []float64, last *spec.Summary) {
	t.Helper()
	events, err := run(t, tr, req, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if s := e.GetStep(); s != nil {
			losses = append(losses, s.Loss)
		}
	}
	last = events[len(events)-1].GetFinished().GetSummary()
	return last.GetWeightsDigest(), losses, last
}

// losses has every kind but dice, which others have.
func losses() []*spec.Loss {
	return []*spec.Loss{
		{Kind: "cross_entropy", Weight: 1, Smoothing: 0.1, ClassWeights: []float64{1, 2, 3}},
		{Kind: "focal", Weight: 1, Gamma: 2},
		{Kind: "log_cosh_dice", Weight: 1},
		{Kind: "lovasz", Weight: 1},
	}
}

// onDevice are tests of any device, whatever its last bits.
func onDevice(t *testing.T, device func(t *testing.T, index int) (*torch.Device, *Trainer)) {
	without := func(edit func(*spec.RunRequest)) func(*spec.RunRequest) {
		return func(r *spec.RunRequest) {
			r.Spec.Head.Dropout, r.Spec.Adapter = 0, adapted(t, lora{}, 3, 4)
			edit(r)
		}
	}
	for name, c := range map[string]struct {
		precision string
		edit      func(*spec.RunRequest)
	}{
		"fp32": {"fp32", func(*spec.RunRequest) {}},
		"bf16": {"bf16", func(r *spec.RunRequest) { r.Spec.Train.Precision = "bf16" }},
		"sgd, ema, accumulation": {"fp32", func(r *spec.RunRequest) {
			r.Spec.Optim.Kind, r.Spec.Optim.Momentum, r.Spec.Train.Ema, r.Spec.Train.Accumulate = "sgd", 0.9, 0.9, 2
		}},
		"all losses": {"fp32", func(r *spec.RunRequest) { r.Spec.Loss = losses() }},
		"all losses, deterministic": {"fp32", func(r *spec.RunRequest) {
			r.Spec.Loss, r.Spec.Train.Deterministic = losses(), true
		}},
		"backbone trains": {"fp32", func(r *spec.RunRequest) { r.Spec.Backbone.Freeze = &spec.Freeze{Kind: spec.Freeze_NONE} }},
		"deterministic":   {"fp32", func(r *spec.RunRequest) { r.Spec.Train.Deterministic = true }},
	} {
		t.Run("trains as a CPU/"+name, func(t *testing.T) {
			dev, tr := device(t, 0)
			_, want, _ := trained(t, New(cpu, ""), request(t, without(c.edit)))
			_, got, _ := trained(t, tr, request(t, without(c.edit)))
			near(t, dev, got, want, tolerances[c.precision])
		})
	}

	// In bf16, gradients are within 0.05 of those in fp32, by CPUs.
	for precision, tolerance := range map[string]float64{"fp32": 1e-4, "bf16": 5e-2} {
		t.Run("outputs and gradients of a CPU/"+precision, func(t *testing.T) {
			_, tr := device(t, 0)
			edit := without(func(r *spec.RunRequest) {
				r.Spec.Train.Precision, r.Spec.Backbone.Freeze = precision, &spec.Freeze{Kind: spec.Freeze_NONE}
			})
			want, got := gradients(t, New(cpu, ""), request(t, edit)), gradients(t, tr, request(t, edit))
			if len(got) != len(want) || len(got) < 50 {
				t.Fatalf("%d tensors, want %d", len(got), len(want))
			}
			all := 0.0 // the norm of all gradients
			for name, w := range want {
				if name != "outputs" {
					all = math.Hypot(all, norm(w, nil))
				}
			}
			for name, w := range want {
				// A small gradient has the rounding of larger numbers.
				if off, size := norm(got[name], w), norm(w, nil); !(off <= tolerance*(size+1e-3*all)) {
					t.Errorf("%s: the difference has a norm of %.3g, the values %.3g", name, off, size)
				}
			}
		})
	}

	t.Run("a stop continues with the same bits", func(t *testing.T) {
		_, tr := device(t, 0)
		edit := func(r *spec.RunRequest) {
			r.Spec.Adapter, r.Spec.Train.Deterministic = adapted(t, lora{0.2}, 3, 4), true
		}
		want, _, _ := trained(t, tr, request(t, edit))
		req := request(t, edit)
		if _, err := run(t, tr, req, 6); !errors.Is(err, ErrStopped) {
			t.Fatal(err)
		}
		if got, _, _ := trained(t, tr, req); got != want {
			t.Error("other weights")
		}
	})

	t.Run("continues on a CPU", func(t *testing.T) {
		_, tr := device(t, 0)
		req := request(t)
		if _, err := run(t, tr, req, 6); !errors.Is(err, ErrStopped) {
			t.Fatal(err)
		}
		trained(t, New(cpu, ""), req)
	})

	t.Run("merged adapters score the same", func(t *testing.T) {
		_, tr := device(t, 0)
		_, _, sum := trained(t, tr, request(t, without(func(r *spec.RunRequest) {
			merged := proto.CloneOf(r.Evaluations[0])
			merged.Domain, merged.Merged = "merged", true
			r.Evaluations = []*spec.Evaluation{r.Evaluations[0], merged}
		})))
		if a, b := sum.Evaluations[0].Metrics, sum.Evaluations[1].Metrics; math.Abs(a.Dice-b.Dice) > 1e-3 || math.Abs(a.Loss-b.Loss) > 1e-4 {
			t.Errorf("Dice %v and %v, loss %v and %v", a.Dice, b.Dice, a.Loss, b.Loss)
		}
	})

	t.Run("memory stays over 200 steps", func(t *testing.T) {
		dev, tr := device(t, 0)
		held := func() (handles int, bytes int64) {
			if err := dev.Do(func() error { handles, bytes = dev.Live(), dev.LiveBytes(); return nil }); err != nil {
				t.Error(err)
			}
			return handles, bytes
		}
		var handles []int
		var bytes []int64
		req := request(t, func(r *spec.RunRequest) {
			r.Spec.Train.Epochs, r.Spec.Train.EvalEvery, r.Evaluations = 50, 50, nil
		})
		err := tr.Run(t.Context(), req, func(e *spec.Event) {
			if s := e.GetStep(); s != nil && (s.Step%4 == 2) { // in the middle of an epoch
				h, b := held()
				handles, bytes = append(handles, h), append(bytes, b)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		// The first epochs still find which tensors have gradients.
		n := len(handles) - 1
		if handles[n] != handles[n/4] || bytes[n] > bytes[n/4]+1<<16 {
			t.Errorf("%d tensors of %d bytes in the end, %d of %d before", handles[n], bytes[n], handles[n/4], bytes[n/4])
		}
	})
}
