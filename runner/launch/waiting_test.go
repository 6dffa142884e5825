package launch

import (
	"cmp"
	"context"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/store"
)

// listed is a source with jobs that are there when ready says so.
type listed struct {
	t     *testing.T
	jobs  []*Job
	ready func(s *listed) bool // nil: always
	end   func(s *listed, job *Job, end *End) error

	next  int // of jobs
	asked int // calls of Next
	ends  map[*Job]*End
	busy  sync.Mutex // held during each call
}

func (s *listed) alone() func() {
	if !s.busy.TryLock() {
		s.t.Error("a source is called by two goroutines at a time")
		return func() {}
	}
	return s.busy.Unlock
}

func (s *listed) Next(context.Context) (*Job, bool, error) {
	defer s.alone()()
	s.asked++
	if s.next == len(s.jobs) {
		return nil, true, nil
	}
	if s.ready != nil && !s.ready(s) {
		return nil, false, nil
	}
	s.next++
	return s.jobs[s.next-1], false, nil
}

func (s *listed) Ended(job *Job, end *End) error {
	defer s.alone()()
	if s.ends[job] != nil {
		s.t.Errorf("%s ended twice", job.Run.Name())
	}
	if s.ends == nil {
		s.ends = map[*Job]*End{}
	}
	s.ends[job] = end
	if s.end != nil {
		return s.end(s, job, end)
	}
	return nil
}

// sourced is a project with runs, and a launcher of them.
func sourced(t *testing.T, slots, runs int) (*Local, *store.Store, []*Job) {
	t.Helper()
	root := t.TempDir()
	s, err := store.Open(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	var jobs []*Job
	for seed := range uint64(runs) {
		jobs = append(jobs, enqueued(t, s, root, seed))
	}
	return &Local{Engine: pausingEnginePath(t), Records: s.Records, Slots: make([]Slot, slots), Watch: func(Event) {}}, s, jobs
}

func hold(t *testing.T, job *Job) {
	t.Helper()
	if err := os.WriteFile(rundir.Dir(job.Dir).Path("hold"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
}

func release(job *Job) error { return os.Remove(rundir.Dir(job.Dir).Path("hold")) }

// checkEnds compares how the jobs of a source ended with one outcome for all.
func (s *listed) checkEnds(want Outcome) {
	s.t.Helper()
	for _, job := range s.jobs {
		if end := s.ends[job]; end == nil || end.Outcome != want {
			s.t.Errorf("%s ended with %+v, want %v", job.Run.Name(), end, want)
		}
	}
}

// Jobs of the list come first. A slot that is free gets the next job of the source,
// whatever the other slots do.
func TestSourceFollowsTheList(t *testing.T) {
	local, _, jobs := sourced(t, 2, 7)
	// One slot is held by the second of the list; the other makes all the rest.
	hold(t, jobs[1])
	source := &listed{t: t, jobs: jobs[2:], end: func(s *listed, job *Job, _ *End) error {
		if job == jobs[6] {
			return release(jobs[1])
		}
		return nil
	}}
	local.Source = source
	var began []*Job
	local.Watch = func(e Event) {
		if e.Start != nil {
			began = append(began, e.Job)
		}
	}
	totals, err := local.Run(t.Context(), jobs[:2])
	if err != nil || totals != (Totals{Finished: 7}) {
		t.Fatalf("%+v, %v", totals, err)
	}
	source.checkEnds(Finished)
	slices.SortFunc(began[:2], func(a, b *Job) int { return cmp.Compare(a.Run.Seed, b.Run.Seed) })
	if !slices.Equal(began, jobs) {
		t.Error("jobs did not begin in order")
	}
}

// Each slot takes the next job as soon as it is free, and all end with the source.
func TestSourceWithEightSlots(t *testing.T) {
	local, runs, jobs := sourced(t, 8, 20)
	// There are eight at first, and one more after each end.
	source := &listed{t: t, jobs: jobs, ready: func(s *listed) bool { return s.next < 8+len(s.ends) }}
	local.Source = source
	totals, err := local.Run(t.Context(), nil)
	if err != nil || totals != (Totals{Finished: 20}) {
		t.Fatalf("%+v, %v", totals, err)
	}
	source.checkEnds(Finished)
	for _, job := range jobs {
		if run, err := runs.Get(t.Context(), job.Run.ID); err != nil || run.Attempts != 1 || run.State != store.Done {
			t.Errorf("%+v, %v", run, err)
		}
	}
}

// A source without a job now is asked again when one has ended; slots wait for it.
func TestSourceWaitsForAnEnd(t *testing.T) {
	local, _, jobs := sourced(t, 3, 5)
	source := &listed{t: t, jobs: jobs, ready: func(s *listed) bool { return s.next == len(s.ends) }}
	local.Source = source
	if totals, err := local.Run(t.Context(), nil); err != nil || totals != (Totals{Finished: 5}) {
		t.Fatalf("%+v, %v", totals, err)
	}
	source.checkEnds(Finished)
}

// A trial that fails is a result, also with FailFast; any other run that fails ends all
// the work then.
func TestSourceWithFailures(t *testing.T) {
	local, runs, jobs := sourced(t, 1, 3)
	failing := enqueued(t, runs, strings.TrimSuffix(jobs[0].Dir, "/"+store.DirOf("e", jobs[0].Run.ID)), failingSeed)
	trial := *failing
	trial.Trial = true
	source := &listed{t: t, jobs: []*Job{&trial, jobs[0]}}
	local.Source, local.FailFast = source, true
	totals, err := local.Run(t.Context(), nil)
	if err != nil || totals != (Totals{Finished: 1}) {
		t.Fatalf("%+v, %v", totals, err)
	}
	if end := source.ends[&trial]; end == nil || end.Outcome != Failed || end.Reason != "the loss is not finite" {
		t.Errorf("the trial ended with %+v", end)
	}
	retest := *failing
	retest.Attempts = 1
	source = &listed{t: t, jobs: []*Job{&retest, jobs[1]}}
	local.Source = source
	if totals, err = local.Run(t.Context(), nil); err != nil || totals != (Totals{Failed: 1, Stopped: true}) || source.asked != 1 {
		t.Errorf("%+v, %v after %d questions", totals, err, source.asked)
	}
}

// An error of a source ends the other runs with a checkpoint.
func TestSourceErrors(t *testing.T) {
	broken := errors.New("the study cannot be read")
	for _, atEnd := range []bool{true, false} {
		local, runs, jobs := sourced(t, 2, 2)
		hold(t, jobs[0])
		local.Source = &listed{
			t: t, jobs: append(jobs, nil),
			end: func(_ *listed, job *Job, _ *End) error {
				if atEnd && job == jobs[1] {
					return broken
				}
				return nil
			},
			ready: func(s *listed) bool { return s.next < 2 },
		}
		if !atEnd {
			local.Source = &failingSource{listed: local.Source.(*listed), err: broken}
		}
		totals, err := local.Run(t.Context(), nil)
		if !errors.Is(err, broken) || !totals.Stopped {
			t.Errorf("%+v, %v", totals, err)
		}
		if run, err := runs.Get(t.Context(), jobs[0].Run.ID); err != nil || run.State == store.Running || run.Summary != nil {
			t.Errorf("%+v, %v", run, err)
		}
	}
}

// failingSource fails once its jobs are given.
type failingSource struct {
	*listed
	err error
}

func (s *failingSource) Next(ctx context.Context) (*Job, bool, error) {
	if s.next == 2 && len(s.ends) == 1 {
		return nil, false, s.err
	}
	return s.listed.Next(ctx)
}

// After a stop no job is asked for.
func TestStopWithASource(t *testing.T) {
	local, runs, jobs := sourced(t, 2, 4)
	hold(t, jobs[0])
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	source := &listed{t: t, jobs: jobs, ready: func(s *listed) bool { return s.next < 2 }, end: func(_ *listed, job *Job, _ *End) error {
		if job == jobs[1] {
			stop()
		}
		return nil
	}}
	local.Source = source
	totals, err := local.Run(ctx, nil)
	if err != nil || totals != (Totals{Finished: 1, Stopped: true}) {
		t.Errorf("%+v, %v", totals, err)
	}
	if end := source.ends[jobs[0]]; end == nil || end.Outcome != Stopped || len(source.ends) != 2 {
		t.Errorf("ends %+v", source.ends)
	}
	if run, err := runs.Get(t.Context(), jobs[0].Run.ID); err != nil || run.State != store.Stopped || run.Holder != nil {
		t.Errorf("%+v, %v", run, err)
	}
}

// A stop while a source looks for a job is a stop and no error.
func TestStopWithinTheSource(t *testing.T) {
	local, _, jobs := sourced(t, 1, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	local.Source = &stoppedSource{listed: &listed{t: t, jobs: jobs}, stop: stop}
	if totals, err := local.Run(ctx, nil); err != nil || totals != (Totals{Stopped: true}) {
		t.Errorf("%+v, %v", totals, err)
	}
}

// stoppedSource is stopped while it looks for a job.
type stoppedSource struct {
	*listed
	stop func()
}

func (s *stoppedSource) Next(ctx context.Context) (*Job, bool, error) {
	s.stop()
	<-ctx.Done()
	return nil, false, ctx.Err()
}

// Two jobs for one run are not worked on at once: the second ends as the first did.
func TestSourceWithARunTwice(t *testing.T) {
	local, runs, jobs := sourced(t, 2, 2)
	twin := *jobs[0]
	hold(t, jobs[0])
	source := &listed{t: t, jobs: []*Job{&twin, jobs[1]}, end: func(_ *listed, job *Job, _ *End) error {
		if job == jobs[1] {
			return release(jobs[0])
		}
		return nil
	}}
	local.Source = source
	totals, err := local.Run(t.Context(), jobs[:1])
	if err != nil || totals != (Totals{Finished: 2, Elsewhere: 1}) {
		t.Errorf("%+v, %v", totals, err)
	}
	if end := source.ends[&twin]; end == nil || end.Outcome != Elsewhere || end.Summary.GetSteps() != 10 {
		t.Errorf("the twin ended with %+v", end)
	}
	if run, err := runs.Get(t.Context(), jobs[0].Run.ID); err != nil || run.Attempts != 1 {
		t.Errorf("%+v, %v", run, err)
	}
}

// Two processes with sources of the same runs do each of them once, and each source
// hears of all.
func TestTwoSourcesOnOneProject(t *testing.T) {
	local, runs, jobs := sourced(t, 2, 12)
	root := strings.TrimSuffix(jobs[0].Dir, "/"+store.DirOf("e", jobs[0].Run.ID))
	var wg sync.WaitGroup
	var totals [2]Totals
	var errs [2]error
	var sources [2]*listed
	for i := range sources {
		lock, err := store.JoinProject(t.Context(), root, "worker")
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Release()
		records, err := store.OpenRecords(root)
		if err != nil {
			t.Fatal(err)
		}
		defer records.Close()
		records.As(lock)
		source := &listed{t: t}
		for _, job := range jobs {
			own := *job
			source.jobs = append(source.jobs, &own)
		}
		own := *local
		own.Records, own.Source, sources[i] = records, source, source
		wg.Go(func() { totals[i], errs[i] = own.Run(t.Context(), nil) })
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	if totals[0].Finished+totals[1].Finished != 12 || totals[0].Elsewhere != totals[1].Finished || totals[1].Elsewhere != totals[0].Finished {
		t.Errorf("%+v", totals)
	}
	for _, source := range sources {
		if len(source.ends) != 12 {
			t.Errorf("a source has heard of %d ends", len(source.ends))
		}
	}
	for _, job := range jobs {
		if run, err := runs.Get(t.Context(), job.Run.ID); err != nil || run.Attempts != 1 || run.Summary == nil {
			t.Errorf("%+v, %v", run, err)
		}
	}
}

// A slot that loses its engine leaves a job of the source to the others, before the
// source is asked.
func TestSourceOfASlotThatEnds(t *testing.T) {
	local, runs, jobs := sourced(t, 2, 2)
	source := &listed{t: t, jobs: jobs}
	q := newQueue(nil, source, 2)
	first, err := q.next(t.Context(), local.Records)
	if err != nil || first.job != jobs[0] {
		t.Fatalf("%+v, %v", first, err)
	}
	if err := runs.Stop(t.Context(), first.job.Run.ID, 0); err != nil || !q.giveBack(first.job) {
		t.Fatal(err)
	}
	if again, err := q.next(t.Context(), local.Records); err != nil || again.job != jobs[0] || source.asked != 1 {
		t.Errorf("%+v, %v after %d questions", again, err, source.asked)
	}
}

// A job for a rung that is recorded ends with its value, without an engine; numbers
// that JSON does not have are values too.
func TestRungIsAnsweredFromTheRecord(t *testing.T) {
	local, runs, jobs := sourced(t, 1, 1)
	job := jobs[0]
	if err := runs.Pause(t.Context(), job.Run.ID, 4, &spec.Metrics{Loss: math.NaN(), Dice: math.Inf(-1)}); err != nil {
		t.Fatal(err)
	}
	local.Engine = "/no/engine"
	for _, step := range []uint64{3, 4} { // the run is beyond 3
		again := *job
		again.Pause = &spec.Pause{Step: step, Validate: true}
		source := &listed{t: t, jobs: []*Job{&again}}
		local.Source = source
		totals, err := local.Run(t.Context(), nil)
		if err != nil || totals != (Totals{Paused: 1}) {
			t.Fatalf("%+v, %v", totals, err)
		}
		if end := source.ends[&again]; end.Outcome != Paused || end.Step != 4 || !math.IsNaN(end.Validation.GetLoss()) || !math.IsInf(end.Validation.GetDice(), -1) {
			t.Errorf("it ended with %+v", end)
		}
	}
	if run, err := runs.Get(t.Context(), job.Run.ID); err != nil || run.State != store.Paused || len(run.Rungs) != 1 {
		t.Errorf("%+v, %v", run, err)
	}
}

// A source that has nothing while other processes work is asked at intervals.
func TestSourceIsAskedAgain(t *testing.T) {
	local, _, jobs := sourced(t, 1, 1)
	source := &listed{t: t, jobs: jobs, ready: func(s *listed) bool { return s.asked > 2 }}
	local.Source = source
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if totals, err := local.Run(ctx, nil); err != nil || totals != (Totals{Finished: 1}) {
		t.Errorf("%+v, %v", totals, err)
	}
}
