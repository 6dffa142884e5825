package view

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/inspect"
	"github.com/loralab/loralab/runner/provenance"
	"github.com/loralab/loralab/runner/store"
)

// A paused run is shown with its step, and with its validations at all its pauses.
func TestPaused(t *testing.T) {
	ctx, root := t.Context(), t.TempDir()
	runs, err := store.Open(ctx, root)
	if err != nil {
		t.Fatal(err)
	}
	defer runs.Close()
	s := &spec.RunSpec{Revision: 2, Seed: 1}
	run := &store.Run{ID: spec.Identity(s), Experiment: "e", Cell: "c", Seed: 1, Dir: store.DirOf("e", spec.Identity(s))}
	last := filepath.Join(root, filepath.FromSlash(run.Dir), rundir.Last)
	err = errors.Join(run.SetSpec(s), runs.Enqueue(ctx, nil, []*store.Run{run}, nil), runs.Start(ctx, run.ID), runs.Begun(ctx, run.ID, 0, 27),
		os.MkdirAll(filepath.Dir(last), 0o777),
		safetensors.Write(last, []safetensors.Tensor{safetensors.FromFloat32("w", []float32{1}, 1)}, map[string]string{"step": "9"}))
	if err != nil {
		t.Fatal(err)
	}
	for step, dice := range map[uint64]float64{3: 0.5, 9: 0.625} {
		if err := runs.Pause(ctx, run.ID, step, &spec.Metrics{Dice: dice, Pixels: 1}); err != nil {
			t.Fatal(err)
		}
	}
	known, err := store.Read(ctx, root)
	if err != nil {
		t.Fatal(err)
	}
	run = known.Runs[run.ID]

	v, out := terminal(0)
	v.Status([]Status{{Experiment: "e", Metric: "dice/mean", Runs: []StatusRun{{Name: run.Name(), ID: run.ID, Stored: run}}}}, nil, Cluster{})
	v.Inspect(&inspect.Report{Run: run, Spec: s, Record: &provenance.Record{}})
	v.Paused("e/c", run)
	for _, want := range []string{"c/seed=1  paused  9/27 ", "1 paused.", "paused after step 9 of 27\n", "\nPauses\n", "9  0.000      0.625", "e/c  paused after step 9 of 27\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}

	v, out = terminal(0)
	if err := v.StatusJSON([]Status{{Experiment: "e", Runs: []StatusRun{{Name: run.Name(), ID: run.ID, Stored: run}}}}, nil, Cluster{}); err != nil {
		t.Fatal(err)
	}
	type row struct {
		State string
		Step  uint64
		Rungs []struct {
			Step    uint64
			Metrics struct{ Dice float64 }
		}
	}
	var status struct{ Experiments []struct{ Runs []row } }
	if err := json.Unmarshal(out.Bytes(), &status); err != nil {
		t.Fatal(err)
	}
	if r := status.Experiments[0].Runs[0]; r.State != "paused" || r.Step != 9 || len(r.Rungs) != 2 || r.Rungs[0].Step != 3 || r.Rungs[1].Metrics.Dice != 0.625 {
		t.Errorf("%+v", r)
	}
	v, out = terminal(0)
	if err := v.InspectJSON(&inspect.Report{Run: run, Spec: s, Record: &provenance.Record{}}); err != nil {
		t.Fatal(err)
	}
	var report row
	if err := json.Unmarshal(out.Bytes(), &report); err != nil || report.State != "paused" || len(report.Rungs) != 2 {
		t.Errorf("%+v, %v", report, err)
	}
}
