package store

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
)

// The value of a step is written once and stays, whatever becomes of the run; numbers
// that JSON does not have are values too.
func TestRungs(t *testing.T) {
	root := awkward(t)
	s := open1(t, root)
	ctx := t.Context()
	run, label := newRun(t, "e", "c", 1)
	check(t, s.Enqueue(ctx, nil, []*Run{run}, []Label{label}))
	values := map[uint64]*spec.Metrics{
		3:  {Loss: math.NaN(), Dice: 0.1, Classes: []*spec.ClassMetrics{{Name: "a < b", Dice: proto.Float64(0.1)}}},
		9:  {Loss: math.Inf(1), Dice: math.Inf(-1), Nll: proto.Float64(math.NaN())},
		27: {Loss: 1e-300, Dice: 1.0 / 3},
	}
	expect := func(state State, step uint64, steps ...uint64) {
		t.Helper()
		for _, known := range []*Snapshot{must[*Snapshot](t)(Read(ctx, root)), must[*Snapshot](t)(s.Reconcile(ctx)), must[*Snapshot](t)(Read(ctx, root))} {
			r := known.Runs[run.ID]
			var got []uint64
			for _, rung := range r.Rungs {
				got = append(got, rung.Step)
			}
			if r.State != state || r.Checkpoint != step || !slices.Equal(got, steps) || r.Damage != nil {
				t.Errorf("%s after step %d, %v, %v; want %s after %d, %v", r.State, r.Checkpoint, got, r.Damage, state, step, steps)
			}
			for _, step := range steps {
				if got := at(r, step); !same(t, got, values[step]) {
					t.Errorf("after step %d: %v, want %v", step, got, values[step])
				}
			}
		}
	}
	for _, step := range []uint64{9, 3, 27} { // 3 is behind: a value of another process
		check(t, s.Start(ctx, run.ID), s.Begun(ctx, run.ID, 0, 81))
		leaveCheckpoint(t, root, run, "9")
		check(t, s.Pause(ctx, run.ID, step, values[step]))
	}
	expect(Paused, 9, 3, 9, 27)
	// Another value of a step, and a pause without one.
	check(t, s.Pause(ctx, run.ID, 9, &spec.Metrics{Dice: 0.5}), s.Pause(ctx, run.ID, 4, nil))
	expect(Paused, 9, 3, 9, 27)
	check(t, s.Start(ctx, run.ID), s.Stop(ctx, run.ID, 9))
	expect(Stopped, 9, 3, 9, 27)
	check(t, s.Start(ctx, run.ID), s.Fail(ctx, run.ID, 9, "out of luck"))
	expect(Failed, 9, 3, 9, 27)
	check(t, s.Pause(ctx, run.ID, 9, nil))
	expect(Paused, 9, 3, 9, 27)
	if r := must[*Run](t)(s.Get(ctx, run.ID)); r.Reason != "" {
		t.Errorf("a paused run has the reason %q", r.Reason)
	}

	// Of the metrics, JSON as in metrics.jsonl.
	var record struct {
		Rungs []struct {
			Step    uint64
			Metrics struct{ Loss, Dice any }
		}
	}
	check(t, json.Unmarshal(must[[]byte](t)(os.ReadFile(filepath.Join(root, filepath.FromSlash(run.Dir), rundir.Record))), &record))
	if r := record.Rungs; len(r) != 3 || r[0].Metrics.Loss != "NaN" || r[1].Step != 9 || r[1].Metrics.Loss != "Infinity" || r[1].Metrics.Dice != "-Infinity" || r[2].Metrics.Dice != 1.0/3 {
		t.Errorf("the record has %+v", r)
	}
}

// at is the validation of a run at a step.
func at(r *Run, step uint64) *spec.Metrics {
	for _, rung := range r.Rungs {
		if rung.Step == step {
			return rung.Metrics
		}
	}
	return nil
}

// same compares metrics as records have them: proto.Equal takes NaN for NaN.
func same(t *testing.T, a, b *spec.Metrics) bool {
	t.Helper()
	return a != nil && proto.Equal(a, b) && plain(t, a) == plain(t, b)
}

// A process that was killed after the engine had paused leaves a run that continues at
// the step, with the rungs it had.
func TestKilledBeforeThePauseWasRecorded(t *testing.T) {
	root := awkward(t)
	s := open1(t, root)
	ctx := t.Context()
	run, label := newRun(t, "e", "c", 1)
	check(t, s.Enqueue(ctx, nil, []*Run{run}, []Label{label}), s.Start(ctx, run.ID))
	leaveCheckpoint(t, root, run, "3")
	check(t, s.Pause(ctx, run.ID, 3, &spec.Metrics{Dice: 0.5}))
	check(t, s.Start(ctx, run.ID), s.Begun(ctx, run.ID, 3, 27))
	leaveCheckpoint(t, root, run, "9")
	for range 2 {
		r := must[*Snapshot](t)(s.Reconcile(ctx)).Runs[run.ID]
		if r.State != Stopped || r.Checkpoint != 9 || r.Step != 9 || len(r.Rungs) != 1 || at(r, 3).GetDice() != 0.5 {
			t.Errorf("%+v", r)
		}
	}
}

// Rungs that cannot be read make a record damaged: their values are never guessed.
func TestDamagedRungs(t *testing.T) {
	root := awkward(t)
	s := open1(t, root)
	ctx := t.Context()
	run, label := newRun(t, "e", "c", 1)
	check(t, s.Enqueue(ctx, nil, []*Run{run}, []Label{label}))
	check(t, s.Pause(ctx, run.ID, 3, &spec.Metrics{Dice: 0.5}))
	check(t, s.Pause(ctx, run.ID, 9, &spec.Metrics{Dice: 0.75}))
	name := filepath.Join(root, filepath.FromSlash(run.Dir), rundir.Record)
	text := string(must[[]byte](t)(os.ReadFile(name)))
	for _, c := range []struct{ old, new, want string }{
		{`"dice": 0.5`, `"dice": "half"`, "the validation of step 3"},
		{`"metrics": {`, `"other": {`, "the validation of step 9"},
		{`"step": 9`, `"step": 3`, "step 3 follows step 3"},
		{`"step": 9`, `"step": -9`, "cannot unmarshal"},
	} {
		i := strings.LastIndex(text, c.old)
		if i < 0 {
			t.Fatalf("no %s in %s", c.old, text)
		}
		check(t, os.WriteFile(name, []byte(text[:i]+c.new+text[i+len(c.old):]), 0o666))
		if d := must[*Snapshot](t)(Read(ctx, root)).Run(run.ID).Damage; d == nil || !strings.Contains(d.Why, c.want) || !d.Again {
			t.Errorf("%s: %v", c.new, d)
		}
	}
}
