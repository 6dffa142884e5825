package train

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/spec"
)

// A budget in steps trains as one in epochs of as many steps, validates where it says,
// and writes a checkpoint after each validation and nowhere else.
func TestBudgetInSteps(t *testing.T) {
	tr := trainer(t)
	small := func(r *spec.RunRequest) {
		r.Spec.Data.Height, r.Spec.Data.Width, r.Evaluations = 16, 16, nil
		r.Spec.Adapter = adapted(t, lora{dropout: 0.3}, 3, 4)
	}
	inEpochs := request(t, small, func(r *spec.RunRequest) {
		r.Spec.Train.Epochs, r.Spec.Train.MaxSteps, r.Spec.Optim.Schedule.Warmup = 3, 10, 0.3
	})
	events, err := run(t, tr, inEpochs, 0)
	want := finished(t, events, err)

	req := request(t, small, func(r *spec.RunRequest) {
		r.Spec.Train = &spec.Train{Steps: 10, EvalSteps: 3, Batch: 4, Precision: "fp32", Monitor: "dice/mean"}
		r.Spec.Optim.Schedule.WarmupSteps, r.Spec.Optim.Schedule.Warmup = 3, 0
	})
	events, err = run(t, tr, req, 0)
	sum := finished(t, events, err)
	if sum.WeightsDigest != want.WeightsDigest || sum.Steps != 10 || sum.Early {
		t.Errorf("10 steps end with %v, and epochs of as many with %v", sum, want)
	}
	var validated, epochs, kept []uint64
	for _, e := range events {
		if v := e.GetValidation(); v != nil {
			validated, epochs = append(validated, v.Step), append(epochs, uint64(v.Epoch))
		}
		if c := e.GetCheckpoint(); c != nil {
			kept = append(kept, c.Step)
		}
	}
	if at := []uint64{3, 6, 9, 10}; !slices.Equal(validated, at) || !slices.Equal(kept, at) {
		t.Errorf("validations after steps %v and checkpoints after %v, want both after %v", validated, kept, at)
	}
	if !slices.Equal(epochs, []uint64{1, 2, 3, 3}) { // of 4 steps
		t.Errorf("validations in epochs %v", epochs)
	}
	if s := startedOf(t, events); s.Steps != 10 || s.Epochs != 3 {
		t.Errorf("started %v", s)
	}

	// Where time has passed, a checkpoint is written between validations as well.
	often := proto.CloneOf(req)
	often.Places.RunDir, often.CheckpointSeconds = t.TempDir(), 1e-9
	events, err = run(t, tr, often, 0)
	finished(t, events, err)
	kept = nil
	for _, e := range events {
		if c := e.GetCheckpoint(); c != nil {
			kept = append(kept, c.Step)
		}
	}
	if !slices.Equal(kept, []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}) {
		t.Errorf("checkpoints after steps %v, want after each", kept)
	}
}

// Wherever a training pauses, validations are after the same steps.
func TestStretchesValidateAtTheSameSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string, low, high int) int { return rapid.IntRange(low, high).Draw(t, name) }
		r := &training{session: &session{spec: &spec.RunSpec{Train: &spec.Train{}}, req: &spec.RunRequest{}}, perEpoch: draw("steps in an epoch", 1, 7)}
		r.total = draw("steps", 1, 40)
		r.spec.Train.EvalEvery, r.spec.Train.EvalSteps = uint32(draw("evalEvery", 0, 4)), uint32(draw("evalSteps", 0, 12))
		var want, got []int
		for step := 1; step <= r.total; step++ {
			every := r.perEpoch * max(1, int(r.spec.Train.EvalEvery))
			if n := int(r.spec.Train.EvalSteps); n > 0 {
				every = n
			}
			if step%every == 0 || step == r.total {
				want = append(want, step)
			}
		}
		for r.step < r.total {
			if r.req.Pause = nil; rapid.Bool().Draw(t, "pauses") {
				r.req.Pause = &spec.Pause{Step: uint64(draw("pause", r.step+1, r.total+3))}
			}
			end := r.next(r.step / r.perEpoch)
			if end <= r.step || end > r.total || (end-1)/r.perEpoch != r.step/r.perEpoch || r.req.Pause != nil && uint64(end) > r.req.Pause.Step {
				t.Fatalf("after step %d of %d, %d in an epoch, the next stretch ends at %d", r.step, r.total, r.perEpoch, end)
			}
			if r.step = end; r.validates() {
				got = append(got, end)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("validations after steps %v, want %v", got, want)
		}
	})
}
