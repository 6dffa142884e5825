package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/claim"
)

// testEngine does all that an engine promises to its runner, without training:
// its weights are a hash chain over the steps, so that a step left out, done
// twice or done with another specification shows in the digest. What it leaves has
// the form of what the real engine leaves. It writes a line for every run into
// runs/engine.txt.
//
// The environment makes it misbehave:
//
//	TEST_PAUSE=rank=8:1:6     waits once after step 6 of that cell and seed,
//	                          until it is stopped or runs/go is there
//	TEST_PAUSE_ALL=6          the same in every run
//	TEST_CRASH=rank=8:6       panics once after step 6 of that cell
//	TEST_CRASH_ALWAYS=rank=8:6  and again after going on from there
//	TEST_FAIL=rank=8          reports a failure
//	TEST_HANG=1               hears no Stop
//	TEST_DRIFT=0.01           computes other bits, and scores higher by that
//	TEST_TIME=20ms            takes that for a step
//	TEST_LIBTORCH=9.9.9       says it is of that version
type testEngine struct {
	spec.UnimplementedEngineServer
	mu   sync.Mutex
	run  *testRun      // in progress
	stop chan struct{} // closed to stop it
}

func (e *testEngine) Info(context.Context, *spec.InfoRequest) (*spec.EngineInfo, error) {
	return &spec.EngineInfo{Version: "test", Libtorch: cmp.Or(os.Getenv("TEST_LIBTORCH"), "0.0.0"), Device: "cpu", DeviceName: "none", Pid: uint64(os.Getpid())}, nil
}

func (e *testEngine) Stop(context.Context, *spec.StopRequest) (*spec.StopReply, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.stop == nil:
	case os.Getenv("TEST_HANG") != "":
		e.run.note("told to stop")
	default:
		close(e.stop)
		e.stop = nil
	}
	return &spec.StopReply{}, nil
}

// testRun is one run of a testEngine.
type testRun struct {
	request *spec.RunRequest
	dir     rundir.Dir
	stop    <-chan struct{}
	stream  grpc.ServerStreamingServer[spec.Event]
	digest  [32]byte
	step    uint64
	steps   uint64
	epochs  uint32
}

var (
	errStopped = errors.New("stopped")
	errPaused  = errors.New("paused")
)

func (e *testEngine) Run(request *spec.RunRequest, stream grpc.ServerStreamingServer[spec.Event]) error {
	stop := make(chan struct{})
	r := &testRun{request: request, dir: rundir.Dir(request.GetPlaces().GetRunDir()), stop: stop, stream: stream}
	e.mu.Lock()
	e.run, e.stop = r, stop
	e.mu.Unlock()
	summary, err := r.run()
	switch {
	case errors.Is(err, errPaused):
		paused := &spec.Paused{Step: r.step}
		if request.GetPause().GetValidate() {
			paused.Validation = r.metrics("val", request.GetSpec().GetData().GetClasses())
		}
		return r.say(&spec.Event{Event: &spec.Event_Paused{Paused: paused}})
	case errors.Is(err, errStopped):
		return r.say(&spec.Event{Event: &spec.Event_Stopped{Stopped: &spec.Stopped{Step: r.step}}})
	case err != nil:
		return r.say(&spec.Event{Event: &spec.Event_Failed{Failed: &spec.Failed{Reason: err.Error(), Detail: "[2, 3] against [4]"}}})
	}
	return r.say(&spec.Event{Event: &spec.Event_Finished{Finished: &spec.Finished{Summary: summary}}})
}

func (r *testRun) run() (*spec.Summary, error) {
	lock, err := os.OpenFile(r.dir.Path(rundir.Lock), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	if spec.Identity(r.request.GetSpec()) != r.request.GetId() {
		return nil, errors.New("the identity is not that of the specification")
	}
	before := &spec.RunRequest{}
	if text, err := os.ReadFile(r.dir.Path(rundir.Request)); err != nil || rundir.Unmarshal(text, before) != nil {
		before = nil
	}
	if err := r.write(rundir.Request, spec.Remembered(before, r.request)); err != nil {
		return nil, err
	}
	if r.request.GetLabel().GetCell() == os.Getenv("TEST_FAIL") {
		return nil, errors.New("matmul: shapes do not agree")
	}
	if r.request.GetTrain() {
		if err := r.train(); err != nil {
			return nil, err
		}
	}
	summary, err := rundir.Of(r.request).Summary()
	if summary == nil {
		return nil, cmp.Or(err, errors.New("it is not trained"))
	}
	for _, evaluation := range r.request.GetEvaluations() {
		evaluated := &spec.Evaluated{
			Id:     spec.EvaluationIdentity(r.request.GetId(), evaluation),
			Domain: evaluation.GetDomain(), Metrics: r.metrics(evaluation.GetDomain(), evaluation.GetData().GetClasses()),
		}
		if err := r.write(rundir.Evaluation(evaluated.GetId()), evaluated); err != nil {
			return nil, err
		}
		if err := r.say(&spec.Event{Event: &spec.Event_Evaluated{Evaluated: evaluated}}); err != nil {
			return nil, err
		}
		r.note("evaluate %s", evaluation.GetDomain())
		summary.Evaluations = append(summary.Evaluations, evaluated)
	}
	return summary, nil
}

func (r *testRun) train() error {
	s := r.request.GetSpec()
	perEpoch := params.PerEpoch(s)
	r.epochs, r.steps = uint32(params.Epochs(s)), params.Steps(s)
	validates := cmp.Or(uint64(s.GetTrain().GetEvalSteps()), perEpoch)
	if err := r.resume(); err != nil {
		return err
	}
	r.note("train from %d", r.step)
	if err := r.say(&spec.Event{Event: &spec.Event_Started{Started: &spec.Started{
		Step: r.step, Steps: r.steps, Epochs: r.epochs, AdapterParams: 1234, HeadParams: 567,
	}}}); err != nil {
		return err
	}
	if err := r.truncate(); err != nil {
		return err
	}
	r.crash()
	for r.step < r.steps {
		if p := r.request.GetPause(); p != nil && r.step >= p.GetStep() {
			if err := r.checkpoint(); err != nil {
				return err
			}
			return errPaused
		}
		select {
		case <-r.stop:
			if err := r.checkpoint(); err != nil {
				return err
			}
			return errStopped
		case <-r.stream.Context().Done():
			return errStopped
		default:
		}
		r.step++
		r.digest = sha256.Sum256(fmt.Appendf(r.digest[:], "%s %d%s", r.request.GetId(), r.step, os.Getenv("TEST_DRIFT")))
		epoch := uint32((r.step-1)/perEpoch) + 1
		if err := r.say(&spec.Event{Event: &spec.Event_Step{Step: &spec.Step{
			Step: r.step, Epoch: epoch, Loss: 1 / float64(r.step), Lr: 1e-3, GradNorm: 0.5, ImagesPerSecond: 10,
		}}}); err != nil {
			return err
		}
		if r.step%validates == 0 || r.step == r.steps {
			if err := r.say(&spec.Event{Event: &spec.Event_Validation{Validation: &spec.Validation{
				Step: r.step, Epoch: epoch, Metrics: r.metrics("val", s.GetData().GetClasses()), Best: true,
			}}}); err != nil {
				return err
			}
			if err := r.checkpoint(); err != nil {
				return err
			}
		}
		r.crash()
		r.pause()
		if d, err := time.ParseDuration(os.Getenv("TEST_TIME")); err == nil {
			time.Sleep(d)
		}
	}
	return r.write(rundir.Result, &spec.Summary{
		Id: r.request.GetId(), Validation: r.metrics("val", s.GetData().GetClasses()), BestStep: r.steps, Steps: r.steps,
		AdapterParams: 1234, HeadParams: 567, Seconds: 1, ImagesPerSecond: 10, Metric: s.GetTrain().GetMonitor(),
		WeightsDigest: hex.EncodeToString(r.digest[:]),
	})
}

func (r *testRun) crash() {
	at := fmt.Sprintf("%s:%d", r.request.GetLabel().GetCell(), r.step)
	if at == os.Getenv("TEST_CRASH_ALWAYS") || at == os.Getenv("TEST_CRASH") && r.once("crashed") {
		fmt.Fprintln(os.Stderr, "about to crash")
		go panic("index out of range: out of luck")
		select {}
	}
}

func (r *testRun) pause() {
	at := fmt.Sprintf("%s:%d:%d", r.request.GetLabel().GetCell(), r.request.GetSpec().GetSeed(), r.step)
	all := strconv.FormatUint(r.step, 10) == os.Getenv("TEST_PAUSE_ALL")
	if at != os.Getenv("TEST_PAUSE") && !all || !r.once("paused"+strconv.FormatUint(r.step, 10)) {
		return
	}
	r.note("paused after %d", r.step)
	for {
		select {
		case <-r.stop:
			return
		case <-time.After(5 * time.Millisecond):
		}
		if _, err := os.Stat(r.dir.Path(r.up("go"))); err == nil {
			return
		}
	}
}

// once reports whether it is called with a name for the first time in the life
// of the run directory.
func (r *testRun) once(name string) bool {
	file, err := os.OpenFile(r.dir.Path(name), os.O_CREATE|os.O_EXCL, 0o666)
	if err == nil {
		err = file.Close()
	}
	return err == nil
}

// metrics are a function of cell, fold, seed and domain.
func (r *testRun) metrics(domain string, classes []string) *spec.Metrics {
	of := spec.RepeatOf(r.request.GetSpec())
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %s%s", r.request.GetLabel().GetCell(), of.Seed, domain, of.Fold))
	drift, _ := strconv.ParseFloat(os.Getenv("TEST_DRIFT"), 64)
	m := &spec.Metrics{Loss: 0.25, Accuracy: 0.9, Images: 8, Pixels: 800}
	for i, name := range classes {
		dice := 0.5 + float64(sum[i])/512 + drift
		m.Classes = append(m.Classes, &spec.ClassMetrics{Name: name, Intersection: 10, Predicted: 20, Labelled: 20, Dice: &dice, Iou: proto.Float64(dice / 2)})
		m.Dice += dice / float64(len(classes))
	}
	m.Iou = m.Dice / 2
	return m
}

func (r *testRun) checkpoint() error {
	path := r.dir.Path(rundir.Last)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	values := make([]float32, len(r.digest))
	for i, b := range r.digest {
		values[i] = float32(b)
	}
	meta, err := rundir.Progress{ID: r.request.GetId(), Step: int(r.step), Steps: int(r.steps)}.Metadata()
	if err != nil {
		return err
	}
	if _, err := safetensors.WriteSealed(path, []safetensors.Tensor{safetensors.FromFloat32("chain", values, int64(len(values)))}, meta); err != nil {
		return err
	}
	return r.say(&spec.Event{Event: &spec.Event_Checkpoint{Checkpoint: &spec.Checkpoint{Step: r.step}}})
}

func (r *testRun) resume() error {
	file, err := rundir.Of(r.request).Checkpoint(rundir.Last)
	if damaged := (*rundir.DamagedError)(nil); errors.Is(err, fs.ErrNotExist) || errors.As(err, &damaged) {
		return nil // from the start
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if r.step, err = rundir.StepOf(file.Metadata()); err != nil {
		return err
	}
	chain, _ := file.Get("chain")
	values, err := chain.Float32()
	for i, v := range values {
		r.digest[i] = byte(v)
	}
	return err
}

// truncate takes steps behind the checkpoint out of metrics.jsonl.
func (r *testRun) truncate() error {
	path := r.dir.Path(rundir.Journal)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var kept bytes.Buffer
	for line := range bytes.Lines(text) {
		event, err := rundir.UnmarshalEvent(line)
		if err != nil {
			break // half a line
		}
		if max(event.GetStep().GetStep(), event.GetValidation().GetStep()) <= r.step {
			kept.Write(line)
		}
	}
	return os.WriteFile(path, kept.Bytes(), 0o666)
}

// say sends an event. Steps and validations are in the journal too.
func (r *testRun) say(event *spec.Event) error {
	switch event.GetEvent().(type) {
	case *spec.Event_Step, *spec.Event_Validation:
		line, err := rundir.MarshalEvent(event)
		if err == nil {
			err = r.append(rundir.Journal, line)
		}
		if err != nil {
			return err
		}
	}
	return r.stream.Send(event)
}

func (r *testRun) note(format string, args ...any) {
	label := r.request.GetLabel()
	repeat := strings.ReplaceAll(spec.RepeatOf(r.request.GetSpec()).String(), "/", " ")
	line := fmt.Sprintf("%s %s %s", label.GetCell(), repeat, fmt.Sprintf(format, args...))
	if err := r.append(r.up("engine.txt"), []byte(line+"\n")); err != nil {
		panic(err)
	}
}

// up is a file in runs/, from the run directory or that of a generation of it.
func (r *testRun) up(name string) string {
	if filepath.Base(filepath.Dir(string(r.dir))) == claim.Directory {
		return "../../../../" + name
	}
	return "../../" + name
}

func (r *testRun) append(name string, line []byte) error {
	file, err := os.OpenFile(r.dir.Path(name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	_, err = file.Write(line)
	return errors.Join(err, file.Close())
}

func (r *testRun) write(name string, m proto.Message) error {
	switch m := m.(type) {
	case *spec.Summary:
		m.Digest = spec.SealedDigest(m)
	case *spec.Evaluated:
		m.Digest = spec.SealedDigest(m)
	}
	text, err := rundir.MarshalFile(m)
	if err != nil {
		return err
	}
	path := r.dir.Path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	return replacefile.Write(path, text)
}
