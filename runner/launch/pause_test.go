package launch

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/store"
)

// engineName is the name by which the test binary is an engine that trains 10 steps.
const engineName = "runner-engine"

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == engineName {
		spec.ServeEngine(&pausingEngine{stop: make(chan struct{}, 1)})
		return
	}
	os.Exit(m.Run())
}

// pausingEngine fails runs with failingSeed, and waits before the end of a run as long
// as there is a file "hold" in its directory.
type pausingEngine struct {
	spec.UnimplementedEngineServer
	stop chan struct{}
}

const (
	failingSeed = 666
	// hungrySeed has memory for a quarter of a batch.
	hungrySeed = 667
)

func (*pausingEngine) Info(context.Context, *spec.InfoRequest) (*spec.EngineInfo, error) {
	return &spec.EngineInfo{Version: "test"}, nil
}

func (e *pausingEngine) Stop(context.Context, *spec.StopRequest) (*spec.StopReply, error) {
	select {
	case e.stop <- struct{}{}:
	default:
	}
	return &spec.StopReply{}, nil
}

func (e *pausingEngine) Run(r *spec.RunRequest, stream grpc.ServerStreamingServer[spec.Event]) error {
	const steps = 10
	last, begun := rundir.Of(r).Path(rundir.Last), &spec.Started{Steps: steps}
	if f, err := safetensors.Open(last); err == nil {
		begun.Step, _ = strconv.ParseUint(f.Metadata()["step"], 10, 64)
		f.Close()
	}
	if err := stream.Send(&spec.Event{Event: &spec.Event_Started{Started: begun}}); err != nil {
		return err
	}
	for exists(rundir.Of(r).Path("hold")) {
		select {
		case <-e.stop:
			return stream.Send(&spec.Event{Event: &spec.Event_Stopped{Stopped: &spec.Stopped{Step: begun.Step}}})
		case <-time.After(time.Millisecond):
		}
	}
	if r.Spec.GetSeed() == failingSeed {
		return stream.Send(&spec.Event{Event: &spec.Event_Failed{Failed: &spec.Failed{Reason: "the loss is not finite"}}})
	}
	if parts := max(1, r.Parts); r.Spec.GetSeed() == hungrySeed && parts < 4 {
		return stream.Send(&spec.Event{Event: &spec.Event_Failed{Failed: &spec.Failed{Reason: "no memory", Retryable: true, Parts: 2 * parts}}})
	}
	p := r.Pause
	if p == nil || p.Step >= steps {
		summary := &spec.Summary{Id: r.Id, Steps: steps}
		text, err := rundir.MarshalFile(summary)
		if err == nil {
			err = os.WriteFile(rundir.Of(r).Path(rundir.Result), text, 0o666)
		}
		if err != nil {
			return err
		}
		return stream.Send(&spec.Event{Event: &spec.Event_Finished{Finished: &spec.Finished{Summary: summary}}})
	}
	if err := os.MkdirAll(filepath.Dir(last), 0o777); err != nil {
		return err
	}
	weights := []safetensors.Tensor{safetensors.FromFloat32("w", []float32{1, 2}, 2)}
	if err := safetensors.Write(last, weights, map[string]string{"step": strconv.FormatUint(p.Step, 10)}); err != nil {
		return err
	}
	paused := &spec.Paused{Step: p.Step}
	if p.Validate {
		paused.Validation = &spec.Metrics{Dice: 0.75}
	}
	return stream.Send(&spec.Event{Event: &spec.Event_Paused{Paused: paused}})
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// pausingEnginePath is the test binary under the name of an engine.
func pausingEnginePath(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	engine := filepath.Join(t.TempDir(), engineName)
	if err := os.Symlink(self, engine); err != nil {
		t.Fatal(err)
	}
	return engine
}

// enqueued is a job for a run that the store of a project has.
func enqueued(t *testing.T, runs *store.Store, root string, seed uint64) *Job {
	t.Helper()
	s := &spec.RunSpec{Seed: seed}
	run := &experiment.Run{Experiment: "e", Cell: "c", Seed: seed, ID: spec.Identity(s), Spec: s}
	stored := &store.Run{ID: run.ID, Experiment: "e", Cell: "c", Seed: seed, Dir: store.DirOf("e", run.ID)}
	if err := stored.SetSpec(s); err != nil {
		t.Fatal(err)
	}
	label := store.Label{Experiment: "e", Cell: "c", Seed: seed, Run: run.ID}
	if err := runs.Enqueue(t.Context(), nil, []*store.Run{stored}, []store.Label{label}); err != nil {
		t.Fatal(err)
	}
	return &Job{Run: run, Train: true, Dir: filepath.Join(root, filepath.FromSlash(stored.Dir))}
}

// A job that pauses ends neither done nor failed, is not tried again and does not
// stop what follows; the next job for its run continues it.
func TestPausedJobs(t *testing.T) {
	engine := pausingEnginePath(t)
	ctx, root := t.Context(), t.TempDir()
	runs, err := store.Open(ctx, root)
	if err != nil {
		t.Fatal(err)
	}
	defer runs.Close()
	var jobs []*Job
	for seed := range uint64(2) {
		jobs = append(jobs, enqueued(t, runs, root, seed))
	}
	var events []Event
	local := &Local{Engine: engine, Records: runs.Records, Retries: 2, FailFast: true, Watch: func(e Event) { events = append(events, e) }}
	launched := func(want Totals, pauses ...*spec.Pause) (ends []*End, from []uint64) {
		t.Helper()
		events = nil
		var now []*Job
		for i, pause := range pauses {
			job := *jobs[i]
			job.Pause = pause
			now = append(now, &job)
		}
		totals, err := local.Run(ctx, now)
		if err != nil || totals != want {
			t.Fatalf("%+v, %v, want %+v", totals, err, want)
		}
		for _, e := range events {
			if e.End != nil {
				ends = append(ends, e.End)
			}
			if s := e.Event.GetStarted(); s != nil {
				from = append(from, s.Step)
			}
			if e.Retry != nil {
				t.Errorf("tried again: %+v", e.Retry)
			}
		}
		return ends, from
	}

	ends, _ := launched(Totals{Paused: 2}, &spec.Pause{Step: 4, Validate: true}, &spec.Pause{Step: 6})
	if e := ends[0]; e.Outcome != Paused || e.Step != 4 || !proto.Equal(e.Validation, &spec.Metrics{Dice: 0.75}) {
		t.Errorf("the first ended with %+v", e)
	}
	if e := ends[1]; e.Outcome != Paused || e.Step != 6 || e.Validation != nil {
		t.Errorf("the second ended with %+v", e)
	}
	for i, step := range []uint64{4, 6} {
		run, err := runs.Get(ctx, jobs[i].Run.ID)
		if err != nil || run.State != store.Paused || run.Checkpoint != step {
			t.Errorf("run %d is recorded as %+v, %v", i, run, err)
		}
		if want := 1 - i; len(run.Rungs) != want || want == 1 && (run.Rungs[0].Step != 4 || !proto.Equal(run.Rungs[0].Metrics, &spec.Metrics{Dice: 0.75})) {
			t.Errorf("run %d has the rungs %+v", i, run.Rungs)
		}
	}
	if _, err := runs.Claim(ctx, jobs[0].Run.ID); err != nil {
		t.Errorf("a paused run is still claimed: %v", err)
	}
	if err := runs.Unclaim(ctx, jobs[0].Run.ID); err != nil {
		t.Fatal(err)
	}

	ends, from := launched(Totals{Paused: 1, Finished: 1}, &spec.Pause{Step: 7}, nil)
	if ends[0].Outcome != Paused || ends[1].Outcome != Finished || from[0] != 4 || from[1] != 6 {
		t.Errorf("they continued at %d and ended with %+v and %+v", from, ends[0], ends[1])
	}
	ends, from = launched(Totals{Finished: 1}, &spec.Pause{Step: 10})
	if ends[0].Outcome != Finished || from[0] != 7 {
		t.Errorf("with a pause at the last step, it continued at %d and ended with %+v", from, ends[0])
	}
}

// A run that has no memory is tried again in smaller parts, and later from the whole.
func TestPartsOfBatches(t *testing.T) {
	ctx, root := t.Context(), t.TempDir()
	runs, err := store.Open(ctx, root)
	if err != nil {
		t.Fatal(err)
	}
	defer runs.Close()
	engine, job := pausingEnginePath(t), enqueued(t, runs, root, hungrySeed)
	for retries, want := range []Totals{{Failed: 1}, {Failed: 1}, {Finished: 1}} {
		local := &Local{Engine: engine, Records: runs.Records, Retries: retries, Watch: func(Event) {}}
		again := *job
		again.Attempts = 100 // a failure before is no news
		if totals, err := local.Run(ctx, []*Job{&again}); err != nil || totals != want {
			t.Errorf("with %d retries: %+v, %v", retries, totals, err)
		}
	}
}
