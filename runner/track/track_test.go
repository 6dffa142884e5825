package track

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/tensorboard"
	"github.com/loralab/loralab/runner/wandb"
)

// scripted is a run whose engine is a script: steps, validations at multiples of
// validates, checkpoints at multiples of checkpoints.
type scripted struct {
	t       testing.TB
	root    string
	runs    *store.Store
	run     Run
	dir     rundir.Dir
	journal *os.File
	step    uint64
	life    int   // how often it was begun
	kept    int64 // length of the journal at the last checkpoint
	from    uint64
}

const (
	steps       = 60
	validates   = 7
	checkpoints = 10
)

func script(t testing.TB, seed uint64) *scripted {
	t.Helper()
	s := &scripted{t: t, root: t.TempDir()}
	var err error
	if s.runs, err = store.Open(t.Context(), s.root); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.runs.Close() })
	rs := &spec.RunSpec{Seed: seed, Revision: spec.Revision, Data: &spec.Data{Classes: []string{"sky"}}}
	stored := &store.Run{ID: spec.Identity(rs), Experiment: "e", Cell: "rank=4", Seed: seed, Dir: store.DirOf("e", spec.Identity(rs))}
	label := store.Label{Experiment: "e", Cell: "rank=4", Seed: seed, Run: stored.ID}
	if err := errors.Join(stored.SetSpec(rs), s.runs.Enqueue(t.Context(), nil, []*store.Run{stored}, []store.Label{label})); err != nil {
		t.Fatal(err)
	}
	s.dir = rundir.Dir(filepath.Join(s.root, filepath.FromSlash(stored.Dir)))
	s.run = Run{ID: stored.ID, Experiment: "e", Cell: "rank=4", Seed: seed, Dir: string(s.dir), Metric: "dice/mean"}
	return s
}

func (s *scripted) fail(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// begin starts or continues it at its last checkpoint.
func (s *scripted) begin() {
	s.t.Helper()
	s.fail(s.runs.Start(s.t.Context(), s.run.ID))
	s.life++
	var err error
	s.journal, err = os.OpenFile(s.dir.Path(rundir.Journal), os.O_CREATE|os.O_RDWR, 0o644)
	s.fail(err)
	s.fail(s.journal.Truncate(s.kept))
	_, err = s.journal.Seek(0, 2)
	s.fail(err)
	s.step = s.from
}

func (s *scripted) write(e *spec.Event) {
	s.t.Helper()
	line, err := rundir.MarshalEvent(e)
	s.fail(err)
	_, err = s.journal.Write(line)
	s.fail(err)
}

// update makes a step; its loss says of which life it is.
func (s *scripted) update() {
	s.t.Helper()
	s.step++
	s.write(&spec.Event{Event: &spec.Event_Step{Step: &spec.Step{Step: s.step, Epoch: 1, Loss: float64(s.life), GradNorm: 0.123456789, Lr: 0.00123456789, ImagesPerSecond: 123.456789}}})
	if s.step%validates == 0 {
		m := &spec.Metrics{Dice: float64(s.step) / 100, Images: 1, Pixels: 1}
		s.write(&spec.Event{Event: &spec.Event_Validation{Validation: &spec.Validation{Step: s.step, Epoch: 1, Metrics: m}}})
	}
	if s.step%checkpoints == 0 {
		end, err := s.journal.Seek(0, 1)
		s.fail(err)
		s.kept, s.from = end, s.step
	}
}

// kill ends the process in the middle of a line.
func (s *scripted) kill() {
	s.t.Helper()
	_, err := s.journal.WriteString(`{"type":"step","st`)
	s.fail(errors.Join(err, s.journal.Close()))
}

// finish writes the result and a domain.
func (s *scripted) finish() {
	s.t.Helper()
	s.fail(s.journal.Close())
	summary := &spec.Summary{Id: s.run.ID, Steps: s.step, BestStep: 7}
	e := &spec.Evaluated{Id: strings.Repeat("ab", 32), Domain: "test", Run: s.run.ID, Metrics: &spec.Metrics{Dice: 0.5, Images: 2, Pixels: 2, Classes: []*spec.ClassMetrics{{Name: "sky"}}}}
	s.run.Evaluations = []Evaluation{{ID: e.Id}}
	e.Digest = spec.SealedDigest(e)
	summary.Evaluations = []*spec.Evaluated{e}
	summary.Digest = spec.SealedDigest(summary)
	ofE, err := rundir.MarshalFile(e)
	s.fail(err)
	ofSummary, err := rundir.MarshalFile(summary)
	s.fail(err)
	s.fail(os.MkdirAll(s.dir.Path(rundir.Evaluations), 0o777))
	s.fail(os.WriteFile(s.dir.Path(rundir.Evaluation(e.Id)), ofE, 0o666))
	s.fail(os.WriteFile(s.dir.Path(rundir.Result), ofSummary, 0o666))
	s.fail(s.runs.Finish(s.t.Context(), s.run.ID, summary))
}

// memory is a sink that keeps what it gets, and whose process may die before or after
// it has kept something.
type memory struct {
	rows []*Row
	has  []string
	die  func() bool
	held int // sessions that are open
}

var errDied = errors.New("killed")

func (m *memory) Name() string { return "memory" }

func (m *memory) Where([]string) []string { return nil }

func (m *memory) Open(context.Context, *Info) (Session, error) {
	m.held++
	return m, nil
}
func (m *memory) Has(key string) bool         { return slices.Contains(m.has, key) }
func (m *memory) Close(context.Context) error { m.held--; return nil }
func (m *memory) Last() (int64, error) {
	if len(m.rows) == 0 {
		return -1, nil
	}
	return m.rows[len(m.rows)-1].Step, nil
}

func (m *memory) Scores(s *Scores) error { return m.keep(func() { m.has = append(m.has, s.Key) }) }

func (m *memory) End(_ context.Context, e *End) error {
	return m.keep(func() { m.has = append(m.has, e.Key) })
}

func (m *memory) Row(r *Row) error { return m.keep(func() { m.rows = append(m.rows, r) }) }

func (m *memory) keep(add func()) error {
	if m.die() {
		return errDied
	}
	add()
	if m.die() {
		return errDied
	}
	return nil
}

// The engine and the process that tracks are killed at random, again and again: each
// step reaches the sink once, in rising order, with its validation, and the value that
// came first is kept.
func TestEachStepOnceOverKills(t *testing.T) {
	for _, name := range []string{"memory", "TensorBoard"} {
		t.Run(name, func(t *testing.T) {
			const trials = 6
			engineKills, trackerKills, written := 0, 0, 0
			for seed := range uint64(trials) {
				rng := rand.New(rand.NewPCG(seed, 18))
				s := script(t, seed)
				kept := &memory{die: func() bool { return rng.IntN(40) == 0 }}
				var sink Sink = kept
				if name == "TensorBoard" {
					sink = TensorBoard{}
				}
				f := newFollower(s.root, s.run, sink, false)
				try := func(what func(*follower) error) bool {
					err := what(f)
					if err == nil && rng.IntN(15) > 0 {
						return true
					}
					if err != nil && !errors.Is(err, errDied) {
						t.Fatal(err)
					}
					// The process that tracks dies, and another begins.
					trackerKills++
					if e, ok := f.session.(*events); ok {
						dieWriting(t, e, rng)
					}
					f = newFollower(s.root, s.run, sink, false)
					return false
				}
				look := func() { try(func(f *follower) error { return f.look(t.Context()) }) }
				s.begin()
				for s.step < steps {
					s.update()
					written++
					switch {
					case rng.IntN(3) == 0:
						look()
					case rng.IntN(12) == 0:
						s.kill()
						engineKills++
						if rng.IntN(2) == 0 {
							look()
						}
						s.begin()
						if rng.IntN(2) == 0 {
							look()
						}
					}
				}
				s.finish()
				f.run = s.run
				for !try(func(f *follower) error { return f.finish(t.Context()) }) {
				}
				if err := f.close(t.Context()); err != nil {
					t.Fatal(err)
				}
				if name == "TensorBoard" {
					kept.rows, kept.has = inFiles(t, s)
				}
				check(t, kept)
				if t.Failed() {
					t.Fatalf("with seed %d", seed)
				}
			}
			if engineKills < trials || trackerKills < trials || written <= trials*steps {
				t.Errorf("too few kills: %d, %d; %d steps", engineKills, trackerKills, written)
			}
			t.Logf("%d runs of %d steps: %d engines and %d trackers killed, %d steps written, %d kept, 0 lost, 0 twice", trials, steps, engineKills, trackerKills, written, trials*steps)
		})
	}
}

// check compares what a sink has with what the script says.
func check(t *testing.T, m *memory) {
	t.Helper()
	if len(m.rows) != steps {
		t.Errorf("%d steps of %d", len(m.rows), steps)
	}
	life := 0.0
	for i, r := range m.rows {
		if r.Step != int64(i+1) {
			t.Fatalf("row %d is of step %d", i, r.Step)
		}
		if dice, ok := r.Values["val/dice/mean"]; ok != (r.Step%validates == 0) || ok && float32(dice) != float32(r.Step)/100 {
			t.Errorf("step %d is validated: %v, with %g", r.Step, ok, dice)
		}
		if l := r.Values["train/loss"]; l < life {
			t.Errorf("step %d is of life %g, and an earlier one of life %g", r.Step, l, life)
		} else {
			life = l
		}
	}
	if n := len(m.has); n < 2 || !strings.HasPrefix(m.has[n-2], "evaluation ") || !strings.HasPrefix(m.has[n-1], "trained ") {
		t.Errorf("it has %q", m.has)
	}
}

// dieWriting ends a session as a process that is killed does: without a word, and maybe
// in the middle of an event.
func dieWriting(t *testing.T, e *events, rng *rand.Rand) {
	t.Helper()
	e.lock.Close()
	e.dir.Close()
	if e.writer == nil || rng.IntN(2) == 0 {
		return
	}
	files, err := filepath.Glob(filepath.Join(e.dir.Name(), "*tfevents*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	newest := slices.Max(files)
	info, err := os.Stat(newest)
	if err == nil {
		err = os.Truncate(newest, max(0, info.Size()-rng.Int64N(40)))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// inFiles are the rows and keys in event files.
func inFiles(t *testing.T, s *scripted) (rows []*Row, keys []string) {
	t.Helper()
	dir, err := os.OpenRoot(filepath.Join(s.root, TensorBoardDir, "e", "rank=4", fmt.Sprintf("seed-%d", s.run.Seed)))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	err = tensorboard.Read(dir, func(e tensorboard.Event) {
		row := &Row{Step: e.Step, Values: map[string]float64{}}
		for _, v := range e.Values {
			switch {
			case v.Description != "" && !slices.Contains(keys, v.Description):
				keys = append(keys, v.Description)
			case v.Scalar != nil && v.Description == "":
				row.Values[v.Tag] = *v.Scalar
			}
		}
		if len(row.Values) > 0 {
			rows = append(rows, row)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows, keys
}

// A finished run that is pushed a second time adds nothing, not even a file; an
// evaluation that is added later is added alone.
func TestPushTwice(t *testing.T) {
	s := script(t, 1)
	s.begin()
	for s.step < steps {
		s.update()
	}
	s.finish()
	evaluation := s.run.Evaluations
	s.run.Evaluations = nil
	var seen [][]string
	for i := range 4 {
		if i == 2 {
			s.run.Evaluations = evaluation
		}
		err := Push(t.Context(), s.root, []Shown{{s.run, TensorBoard{}}}, func(_ Shown, err error) {
			if err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]int64{}
		err = filepath.WalkDir(filepath.Join(s.root, TensorBoardDir), func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			files[filepath.Base(path)] = info.Size()
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, name := range slices.Sorted(maps.Keys(files)) {
			list = append(list, fmt.Sprint(name, files[name]))
		}
		seen = append(seen, list)
	}
	if !reflect.DeepEqual(seen[0], seen[1]) || !reflect.DeepEqual(seen[2], seen[3]) || len(seen[2]) != len(seen[0])+1 {
		t.Errorf("files %q", seen)
	}
	rows, keys := inFiles(t, s)
	check(t, &memory{rows: rows, has: []string{keys[1], keys[0]}})
}

// slow is a sink that never answers.
type slow struct{ memory }

func (s *slow) Open(ctx context.Context, _ *Info) (Session, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// failing is a sink that fails at once.
type failing struct{ memory }

func (*failing) Open(context.Context, *Info) (Session, error) {
	return nil, errors.New("no space left")
}

// A sink that fails or hangs holds up nothing but itself, and says so once.
func TestSinksThatFailOrHang(t *testing.T) {
	s := script(t, 1)
	synctest.Test(t, func(t *testing.T) {
		good, hangs, fails := &memory{die: func() bool { return false }}, &slow{}, &failing{}
		var said []string
		tracker := New(t.Context(), s.root, func(text string) { said = append(said, text) })
		tracker.Follow(s.run.ID, []Shown{{s.run, hangs}, {s.run, fails}, {s.run, good}})
		s.begin()
		for s.step < steps {
			s.update()
			time.Sleep(time.Second / 2)
		}
		s.finish()
		tracker.Ended(s.run.ID)
		if behind := tracker.Close(time.Minute); behind != 1 {
			t.Errorf("%d sessions are behind", behind)
		}
		synctest.Wait()
		if len(good.rows) != steps || good.held != 0 {
			t.Errorf("%d steps, %d sessions open", len(good.rows), good.held)
		}
		if len(said) != 1 || !strings.Contains(said[0], "memory does not show e/rank=4/seed=1: no space left; training continues") {
			t.Errorf("said %q", said)
		}
	})
}

// A run that continues as soon as it has stopped waits for its session of before.
func TestContinuesAtOnce(t *testing.T) {
	s := script(t, 1)
	tracker := New(t.Context(), s.root, func(text string) { t.Error(text) })
	for s.step < steps {
		tracker.Follow(s.run.ID, []Shown{{s.run, TensorBoard{}}})
		s.begin()
		for range checkpoints {
			s.update()
		}
		if s.step < steps {
			s.kill()
			tracker.Ended(s.run.ID)
		}
	}
	s.finish()
	if behind := tracker.Close(time.Minute); behind > 0 {
		t.Errorf("%d sessions are behind", behind)
	}
	if rows, _ := inFiles(t, s); len(rows) != steps {
		t.Errorf("%d steps", len(rows))
	}
}

// A run that a search pauses shows its validation there, and continues behind it.
func TestPauses(t *testing.T) {
	s := script(t, 1)
	kept := &memory{die: func() bool { return false }}
	s.begin()
	for s.step < 9 {
		s.update()
	}
	s.kill()
	meta, err := rundir.Progress{ID: s.run.ID, Step: 9, Steps: steps}.Metadata()
	s.fail(err)
	s.fail(os.MkdirAll(s.dir.Path(rundir.Checkpoints), 0o777))
	_, err = safetensors.WriteSealed(s.dir.Path(rundir.Last), nil, meta)
	s.fail(err)
	s.fail(s.runs.Pause(t.Context(), s.run.ID, 9, &spec.Metrics{Dice: 0.9, Images: 1, Pixels: 1}))
	f := newFollower(s.root, s.run, kept, false)
	if err := errors.Join(f.finish(t.Context()), f.close(t.Context())); err != nil {
		t.Fatal(err)
	}
	if n := len(kept.rows); n != 9 || kept.rows[8].Values["val/dice/mean"] != 0.9 {
		t.Errorf("%d rows", n)
	}
	s.begin()
	for s.step < steps {
		s.update()
	}
	s.finish()
	f = newFollower(s.root, s.run, kept, false)
	if err := errors.Join(f.finish(t.Context()), f.close(t.Context())); err != nil {
		t.Fatal(err)
	}
	delete(kept.rows[8].Values, "val/dice/mean")
	check(t, kept)
}

// A history that was cut after the run ended is not pushed.
func TestPushOfACutHistory(t *testing.T) {
	s := script(t, 3)
	s.begin()
	for s.step < steps {
		s.update()
	}
	s.finish()
	text, err := os.ReadFile(s.dir.Path(rundir.Journal))
	s.fail(err)
	sum := sha256.Sum256(text)
	summary := &spec.Summary{Id: s.run.ID, Steps: steps, Files: map[string]string{rundir.Journal: hex.EncodeToString(sum[:])}}
	summary.Digest = spec.SealedDigest(summary)
	result, err := rundir.MarshalFile(summary)
	s.fail(err)
	s.fail(os.WriteFile(s.dir.Path(rundir.Result), result, 0o666))
	push := func() (failed error) {
		s.fail(Push(t.Context(), s.root, []Shown{{s.run, TensorBoard{}}}, func(_ Shown, err error) { failed = err }))
		return failed
	}
	s.fail(os.Truncate(s.dir.Path(rundir.Journal), int64(len(text)/2)))
	if err := push(); err == nil || err.Error() != "metrics.jsonl was changed or cut after the run ended" {
		t.Errorf("a cut history: %v", err)
	}
	if rows, _ := inFiles(t, s); len(rows) > 0 {
		t.Errorf("%d rows of it are shown", len(rows))
	}
	s.fail(os.WriteFile(s.dir.Path(rundir.Journal), text, 0o666))
	if err := push(); err != nil {
		t.Errorf("the whole history: %v", err)
	}
}

// Cells whose names a file system does not tell apart have directories of their own.
func TestDirectoriesOfCells(t *testing.T) {
	seen := map[string]string{}
	for _, cell := range []string{"a", "_a", "<a", ">a", "a/b", "a_b", ".a", strings.Repeat("ä", 300), strings.Repeat("ä", 300) + "/"} {
		dir := eventsOf(&Run{Experiment: "e", Cell: cell, Seed: 1})
		if other, there := seen[dir]; there {
			t.Errorf("%q and %q are in %s", other, cell, dir)
		}
		if seen[dir] = cell; len(filepath.Base(filepath.Dir(dir))) > 200 {
			t.Errorf("%s is too long", dir)
		}
	}
	if dir := eventsOf(&Run{Experiment: "e", Cell: "rank=4", Seed: 1}); dir != "e/rank=4/seed-1" {
		t.Errorf("a plain cell is in %s", dir)
	}
}

// A reason is said once, in one line, and at the end how many runs have it.
func TestFailures(t *testing.T) {
	sink := &memory{}
	var f Failures
	full := errors.Join(errors.New("no space left"), errors.New("no space left"), errors.New("closed"))
	if line := f.Add(Shown{Run{Experiment: "e", Cell: "c", Seed: 1}, sink}, full); line != "memory does not show e/c/seed=1: no space left; closed" {
		t.Errorf("first %q", line)
	}
	not := &wandb.NotSentError{Why: errors.New("no answer")}
	for range 3 {
		if line := f.Add(Shown{Sink: sink}, full) + f.Add(Shown{Sink: sink}, not); line != "" {
			t.Errorf("again %q", line)
		}
	}
	want := []string{"memory does not show 3 more runs either", `memory lacks a part of 3 runs (no answer); it is logged, and "runner track sync" sends it`}
	if more := f.More(); !slices.Equal(more, want) {
		t.Errorf("at the end %q", more)
	}
}
