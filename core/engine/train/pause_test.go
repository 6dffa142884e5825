package train

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

// everything is a short training with all that a pause could disturb: 9 updates
// of two batches in 3 epochs, or fewer with patience.
func everything(t *testing.T) func(*spec.RunRequest) {
	return func(r *spec.RunRequest) {
		r.Spec.Adapter = adapted(t, lora{dropout: 0.3}, 3, 4)
		r.Spec.Data.Height, r.Spec.Data.Width = 16, 16
		r.Spec.Data.Splits["train"] = &spec.Split{Count: 9, Procedural: &spec.Procedural{Seed: 1, Count: 9, Size: 32}}
		r.Spec.Data.Augment = []*spec.Augment{{Kind: "flip", P: 0.5}, {Kind: "noise", P: 0.7, High: 0.1}}
		r.Spec.Loss[0].Weighting = "sqrt_inverse"
		r.Spec.Optim.Rules = []*spec.Rule{
			{Pattern: "backbone.*layernorm*", Lr: 1e-4, Frozen: true, UntilEpoch: 1},
			{Pattern: "backbone.*", Frozen: true},
			{Pattern: "adapter.*", Lr: 1e-3},
			{Pattern: "head.*", Lr: 1e-2},
		}
		r.Spec.Optim.Schedule.Warmup = 0.3
		r.Spec.Head.Norm, r.Spec.Backbone.DropPath = true, 0.3
		r.Spec.Train.Batch, r.Spec.Train.Accumulate, r.Spec.Train.Ema = 2, 2, 0.8
		r.Evaluations = r.Evaluations[:1]
	}
}

// inSteps counts everything in steps: 5 updates in 2 epochs, validations after 2, 4 and
// 5, of which none is the end of an epoch.
func inSteps(r *spec.RunRequest) {
	r.Spec.Train.Epochs, r.Spec.Train.Steps = 0, 5
	r.Spec.Train.EvalEvery, r.Spec.Train.EvalSteps = 0, 2
	r.Spec.Optim.Schedule.Warmup, r.Spec.Optim.Schedule.WarmupSteps = 0, 3
}

// pauseAt runs a request up to a pause.
func pauseAt(t *testing.T, tr *Trainer, req *spec.RunRequest, step uint64, validate bool) *spec.Paused {
	t.Helper()
	req = proto.CloneOf(req)
	req.Pause = &spec.Pause{Step: step, Validate: validate}
	events, err := run(t, tr, req, 0)
	last := events[len(events)-1]
	if !errors.Is(err, ErrPaused) || last.GetPaused() == nil {
		t.Fatalf("pausing at step %d: %v, and the last event is %v", step, err, last)
	}
	there := false // at the step, before any update
	for _, e := range events {
		there = there || e.GetStarted() != nil && e.GetStarted().Step == last.GetPaused().Step
		if e.GetStep() != nil && there {
			t.Errorf("the checkpoint was of step %d, but trained: %v", step, e)
		}
		if e.GetEvaluated() != nil {
			t.Errorf("paused at step %d, but evaluated: %v", step, e)
		}
	}
	p := last.GetPaused()
	f, err := safetensors.Open(filepath.Join(req.Places.RunDir, "checkpoints/last.safetensors"))
	if err != nil {
		t.Fatalf("paused at step %d: %v", step, err)
	}
	defer f.Close()
	if kept := f.Metadata()["step"]; kept != fmt.Sprint(p.Step) {
		t.Errorf("paused at step %d, and the last checkpoint is of step %s", p.Step, kept)
	}
	return p
}

// left is what a finished run leaves that has the same bytes each time.
func left(t *testing.T, req *spec.RunRequest, sum *spec.Summary) map[string][]byte {
	t.Helper()
	files := map[string][]byte{"metrics.jsonl": []byte(journal(t, req))}
	for _, name := range []string{"checkpoints/best.safetensors", "adapter.safetensors", "head.safetensors", "program.json"} {
		b, err := os.ReadFile(filepath.Join(req.Places.RunDir, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = b
	}
	// Its metadata has the seconds of training.
	f, err := safetensors.Open(filepath.Join(req.Places.RunDir, "checkpoints/last.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, name := range f.Names() {
		tensor, _ := f.Get(name)
		files["last: "+name] = bytes.Clone(tensor.Data)
	}
	for _, key := range []string{"step", "best", "best_metrics", "best_sha256", "stale", "against", "recent", "uncounted", "moves", "pixels"} {
		files["last: "+key] = []byte(f.Metadata()[key])
	}
	sum = proto.CloneOf(sum)
	sum.Seconds, sum.PeakMemory, sum.ImagesPerSecond, sum.Digest = 0, 0, 0, ""
	for _, name := range []string{"metrics.jsonl", "checkpoints/last.safetensors"} {
		delete(sum.Files, name) // with seconds in them
	}
	files["result.json"] = fmt.Append(nil, sum)
	return files
}

func sameLeft(t *testing.T, what string, got, want map[string][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d files and tensors are left, want %d", what, len(got), len(want))
	}
	for name := range want {
		if !bytes.Equal(got[name], want[name]) {
			t.Errorf("%s: %s has other bytes", what, name)
		}
	}
}

func TestPausesChangeNothing(t *testing.T) {
	for name, edit := range map[string]func(*spec.RunRequest){
		"everything":     func(*spec.RunRequest) {},
		"in steps":       inSteps,
		"sparse scoring": func(r *spec.RunRequest) { r.Spec.Train.EvalEvery, r.Spec.Train.MaxSteps = 2, 8 },
		"patience": func(r *spec.RunRequest) {
			r.Spec.Train.Patience, r.Spec.Train.MinDelta, r.Spec.Train.Epochs = 1, 0.9, 6
		},
		"forgetting": func(r *spec.RunRequest) {
			r.Spec.Optim.Rules[2].Frozen, r.Spec.Optim.Rules[2].UntilEpoch = true, 2
			r.Spec.Optim.WeightDecay, r.Spec.Optim.ForgetAtUnfreezing = 0.5, true
		},
	} {
		t.Run(name, func(t *testing.T) {
			edits := []func(*spec.RunRequest){everything(t), edit}
			tr := trainer(t)
			other := New(cpu, filepath.Dir(tr.probeFile))
			defer other.Close()
			whole := request(t, edits...)
			events, err := run(t, tr, whole, 0)
			sum := finished(t, events, err)
			want := left(t, whole, sum)

			// One pause, at each step.
			for step := range sum.Steps {
				req := request(t, edits...)
				if p := pauseAt(t, tr, req, step, false); p.Step != step || p.Validation != nil {
					t.Fatalf("paused with %v, want step %d", p, step)
				}
				events, err := run(t, other, req, 0)
				sameLeft(t, fmt.Sprintf("paused at step %d", step), left(t, req, finished(t, events, err)), want)
			}

			// A pause at every step, twice, with validations that do not count.
			req := request(t, edits...)
			for step := range sum.Steps {
				first, again := pauseAt(t, tr, req, step, true), pauseAt(t, other, req, step, true)
				if first.Step != step || again.Step != step {
					t.Fatalf("paused at %d and %d, want %d", first.Step, again.Step, step)
				}
				if first.Validation.GetImages() == 0 || !proto.Equal(first.Validation, again.Validation) {
					t.Errorf("at step %d, the validation is %v, and %v once more", step, first.Validation, again.Validation)
				}
			}
			events, err = run(t, tr, req, 0)
			sameLeft(t, "paused at each step", left(t, req, finished(t, events, err)), want)
		})
	}
}

// A stop that interrupts a validation leaves a checkpoint of the update before it. The
// training continues there with that validation, and ends as if undisturbed, the last
// validation included.
func TestStopsInValidations(t *testing.T) {
	for name, edit := range map[string]func(*spec.RunRequest){"in epochs": func(*spec.RunRequest) {}, "in steps": inSteps} {
		t.Run(name, func(t *testing.T) { stopsInValidations(t, everything(t), edit) })
	}
}

func stopsInValidations(t *testing.T, edits ...func(*spec.RunRequest)) {
	tr := trainer(t)
	whole := request(t, edits...)
	events, err := run(t, tr, whole, 0)
	sum := finished(t, events, err)
	validations := map[uint64]bool{}
	for _, e := range events {
		if v := e.GetValidation(); v != nil {
			validations[v.Step] = true
		}
	}
	if len(validations) < 2 || !validations[sum.Steps] {
		t.Fatalf("validations after steps %v of %d", validations, sum.Steps)
	}
	req := request(t, edits...)
	for step := range sum.Steps + 1 {
		if !validations[step] {
			continue
		}
		for range 2 { // the validation that is done again too
			ctx, cancel := context.WithCancel(t.Context())
			err := tr.Run(ctx, req, func(e *spec.Event) {
				if s := e.GetStep(); s != nil && s.Step == step || e.GetStarted() != nil && e.GetStarted().Step == step {
					cancel()
				}
			})
			cancel()
			if !errors.Is(err, ErrStopped) {
				t.Fatalf("stopped in the validation after step %d: %v", step, err)
			}
			f, err := safetensors.Open(filepath.Join(req.Places.RunDir, "checkpoints/last.safetensors"))
			if err != nil {
				t.Fatal(err)
			}
			if m := f.Metadata(); m["step"] != fmt.Sprint(step) || m["unscored"] != "true" {
				t.Errorf("stopped in the validation after step %d, the checkpoint is of step %s, unscored %q", step, m["step"], m["unscored"])
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	events, err = run(t, tr, req, 0)
	sameLeft(t, "stopped in each validation", left(t, req, finished(t, events, err)), left(t, whole, sum))
}

// A training that reaches its last step, by whatever pause, is finished.
func TestPauseAtTheEndOrLater(t *testing.T) {
	tr := trainer(t)
	for _, step := range []uint64{9, 10, 1 << 63} {
		req := request(t, everything(t))
		req.Pause = &spec.Pause{Step: step, Validate: true}
		events, err := run(t, tr, req, 0)
		if sum := finished(t, events, err); sum.Steps != 9 || len(sum.Evaluations) != 1 {
			t.Errorf("with a pause at step %d: %v", step, sum)
		}
		// Nor does a finished run pause.
		req.Pause.Step = 3
		events, err = run(t, tr, req, 0)
		finished(t, events, err)
	}
	none := request(t, everything(t), func(r *spec.RunRequest) { r.Spec.Train.Epochs = 0 })
	none.Pause = &spec.Pause{}
	events, err := run(t, tr, none, 0)
	finished(t, events, err)
}

// A training beyond the step pauses where it is, and validations at a pause are
// those of the training where it has some.
func TestPauseAfterTheStep(t *testing.T) {
	tr := trainer(t)
	req := request(t, everything(t), func(r *spec.RunRequest) { r.Spec.Optim.Rules, r.Spec.Train.Ema = nil, 0 })
	if _, err := run(t, tr, req, 5); !errors.Is(err, ErrStopped) {
		t.Fatal(err)
	}
	if p := pauseAt(t, tr, req, 2, false); p.Step != 5 {
		t.Errorf("paused with %v, want step 5", p)
	}
	late := proto.CloneOf(req)
	late.Pause = &spec.Pause{Step: 6, Validate: true}
	events, err := run(t, tr, late, 0)
	if !errors.Is(err, ErrPaused) {
		t.Fatal(err)
	}
	var scored *spec.Metrics
	for _, e := range events {
		if v := e.GetValidation(); v != nil {
			scored = v.Metrics
		}
	}
	if p := events[len(events)-1].GetPaused(); p.Step != 6 || scored == nil || !proto.Equal(p.Validation, scored) {
		t.Errorf("paused with %v, the validation of the epoch was %v", p, scored)
	}
	if b, err := os.ReadFile(filepath.Join(req.Places.RunDir, "request.json")); err != nil || bytes.Contains(b, []byte("pause")) {
		t.Errorf("request.json has the pause of one attempt: %v %s", err, b)
	}
}

// A stop and a pause together: the one that comes first.
func TestStopBeforeThePause(t *testing.T) {
	tr := trainer(t)
	req := request(t, everything(t))
	req.Pause = &spec.Pause{Step: 5, Validate: true}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := tr.Run(ctx, req, func(e *spec.Event) {
		if e.GetStep().GetStep() == 4 {
			cancel()
		}
	})
	if !errors.Is(err, ErrStopped) {
		t.Fatalf("stopped in step 4: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	err = tr.Run(ctx, req, func(e *spec.Event) {
		if e.GetStep().GetStep() == 5 {
			cancel()
		}
	})
	if !errors.Is(err, ErrStopped) {
		t.Fatalf("stopped before the validation of the pause: %v", err)
	}
	if p := pauseAt(t, tr, req, 5, true); p.Step != 5 {
		t.Errorf("paused with %v", p)
	}
}
