package pilot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/claim"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/study"
)

// ErrLost says that a worker no longer has the run that it works on: others know
// that its element is over. It must end, and claim nothing else.
var ErrLost = errors.New("the cluster has given the run to another worker")

// Timing is how often things happen; the zero value is that of a real cluster.
type Timing struct {
	// Beat is how often a worker says that it lives, and looks whether it still has
	// its run.
	Beat time.Duration
	// Idle is how long a worker without work waits for what others may give back.
	Idle time.Duration
	// Look is how long it waits before it looks at all jobs again.
	Look time.Duration
	// Turn is after how long without an answer of the scheduler it is asked by a worker
	// without work. It is more than the time between two questions of an apply, and than
	// the time for which a node may not see that one was answered.
	Turn time.Duration
}

func (t Timing) orDefault() Timing {
	if t.Beat == 0 {
		t.Beat = 20 * time.Second
	}
	if t.Idle == 0 {
		t.Idle = 5 * time.Minute
	}
	if t.Look == 0 {
		t.Look = 5 * time.Second
	}
	if t.Turn == 0 {
		t.Turn = 2 * time.Minute
	}
	return t
}

// deaths is how many workers a run may cost without a step: it is taken for their reason
// then.
const deaths = 3

// Worker takes jobs of an array, one after another. It is the source and the recorder of
// a launcher with one slot, whose goroutines call it.
type Worker struct {
	array  *Array
	dir    string
	me     claim.Worker
	timing Timing
	read   *reader
	events *os.File
	beat   *os.File

	mu    sync.Mutex
	held  map[string]*held // runs that are claimed, by identity
	notes *notes           // what is known of the jobs of the array
	wait  time.Duration    // before all jobs are looked at again
	lost  error
	last  happened // said when the worker ends
	pass  pass
	// Of searches; nil where the array has none.
	search  *study.Source
	records *store.Records
	waiting []*launch.Job // of runs that others have

	rested time.Time // since when there is nothing to do; zero: there is
	looked time.Time // when all jobs were looked at last
	// Scheduler is asked what lives while no apply does it; nil for never. It is set before
	// the first call of Next.
	Scheduler Scheduler
	// Near gives another place of a file of weights, which the engine reads in its stead; nil
	// for none. It is set before the first call of Next.
	Near func(ctx context.Context, file string) (string, error)

	// watched is the job that the last rest has looked at last.
	watched int
	// Claims, Looks and Reads count what the worker asked of the file system: claims that it
	// tried, looks at who has a run, and slices that it read. See notes, too.
	Claims, Looks, Reads int
}

// held is a claimed run.
type held struct {
	at    *os.Root
	state claim.State
	run   *store.Run
	steps uint64
	job   *launch.Job
	// number is that of the job in the array, noNumber of a search.
	number int
}

const noNumber = -1

// pass is how far a worker is on its way through the slices.
type pass struct {
	done  int     // slices
	slice []saved // the present one; nil: it is not read yet
	order []int   // jobs of it that are left
	// misses are jobs in a row that were not free.
	misses int
	open   bool // jobs of some slice are not over
	// watch is the jobs that somebody has and that a worker without work looks at.
	watch map[int]bool
}

// missesMost is how many jobs in a row of another worker's slice may be taken before the
// next slice is tried.
const missesMost = 6

// watchMost is how many jobs that others have a worker without work looks at before it rests
// again: many rest at the end, and each of them looks at other ones.
const watchMost = 24

// scatter is 0 to n-1 in an order that soon meets any part of them, by their digits in base
// two, read backwards: whose slice it is takes jobs from the front, and others have taken
// some that lie together.
func scatter(n int) []int {
	size := bits.Len(uint(max(n-1, 0)))
	var all []int
	for i := range 1 << size {
		if j := int(bits.Reverse64(uint64(i)) >> (64 - size)); j < n {
			all = append(all, n-1-j)
		}
	}
	return all
}

// Open is a worker of the array in dir. The element, its restart count and the process
// make up who it is; who says it of the process itself.
func Open(dir string, who claim.Worker, timing Timing) (*Worker, error) {
	array, err := ReadArray(dir)
	if err != nil {
		return nil, err
	}
	who.Array = array.Name
	w := &Worker{
		array: array, dir: dir, me: who, timing: timing.orDefault(), read: newReader(dir, array.Root),
		last: happened{What: ended}, held: map[string]*held{},
		notes: newNotes(dir, array.Jobs),
	}
	file := fmt.Sprintf("%d-%s", who.Element, who.Nonce)
	w.events, err = os.OpenFile(filepath.Join(dir, "events", file+".jsonl"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return nil, fmt.Errorf("opening the events of the worker: %w", err)
	}
	w.beat, err = os.OpenFile(filepath.Join(dir, "beats", file), os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening the beat of the worker: %w", err), w.events.Close())
	}
	return w, w.say(happened{What: started})
}

// TimeOver is the reason of a worker that has stopped because its time ends.
const TimeOver = "its time was over"

// End says why the worker ends before its work, for no fault of a run. OfNode says that
// another node may do better.
func (w *Worker) End(reason string, ofNode bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last.Reason, w.last.OfNode = reason, ofNode
}

// Array is what the worker works on.
func (w *Worker) Array() *Array { return w.array }

// Close gives up what is still claimed.
func (w *Worker) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for id := range w.held {
		errs = append(errs, w.end(id, claim.End{How: claim.Stopped}))
	}
	if w.search != nil {
		errs = append(errs, w.search.Close(), w.records.Close())
	}
	return errors.Join(append(errs, w.say(w.last), w.events.Close(), w.beat.Close())...)
}

// happened is a line of the events of a worker.
type happened struct {
	What   string        `json:"what"`
	When   time.Time     `json:"when"`
	Run    string        `json:"run,omitempty"`
	Gen    int           `json:"generation,omitempty"`
	Step   uint64        `json:"step,omitempty"`
	Reason string        `json:"reason,omitempty"`
	OfNode bool          `json:"of_node,omitempty"` // of ended: the node is to blame
	Worker *claim.Worker `json:"worker,omitempty"`  // of started
	host   string        // of who reads it: the node of the worker
}

const (
	started = "started" // a worker
	ended   = "ended"
	claimed = "claimed" // a run; then how its generation ended
)

func (w *Worker) say(h happened) error {
	h.When = now()
	if h.What == started {
		h.Worker = &w.me
	}
	text, err := json.Marshal(h)
	if err == nil {
		_, err = w.events.Write(append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("writing the events of the worker: %w", err)
	}
	return nil
}

// Live says that the worker lives, until ctx ends, and calls lost when it no longer has a
// run that it works on.
func (w *Worker) Live(ctx context.Context, lost func()) {
	ticker := time.NewTicker(w.timing.Beat)
	defer ticker.Stop()
	for {
		// The time is that of the disk, which all nodes have in common.
		_, _ = w.beat.WriteAt([]byte(time.Now().UTC().Format(time.RFC3339)), 0)
		_ = w.beat.Sync()
		if w.check() != nil {
			lost()
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// check looks whether the runs that are claimed still are.
func (w *Worker) check() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.held {
		s, err := claim.Read(h.at)
		if err == nil && (s.Generation != h.state.Generation || s.End != nil) {
			w.lost = ErrLost
		}
	}
	return w.lost
}

// Next is a job that this worker has claimed; nil where there is none now. Done says that
// there will be none.
func (w *Worker) Next(ctx context.Context) (*launch.Job, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lost != nil {
		return nil, true, w.lost
	}
	if !w.looked.IsZero() && time.Since(w.looked) < w.wait {
		return nil, false, nil
	}
	for ctx.Err() == nil {
		if w.pass.done < w.array.Slices {
			job, err := w.next()
			if job != nil || err != nil {
				w.rested, w.looked, w.wait = time.Time{}, time.Time{}, 0
				return job, false, err
			}
			continue
		}
		// All were looked at.
		open := w.pass.open
		if w.search != nil {
			job, over, err := w.ask(ctx)
			if job != nil || err != nil {
				w.rested, w.looked, w.wait = time.Time{}, time.Time{}, 0
				return job, false, err
			}
			open = open || !over
		}
		w.pass, w.looked = pass{}, time.Now()
		// The longer there is nothing, the less often: many workers wait at the end.
		w.wait = jitter(min(max(2*w.wait, w.timing.Look), max(w.timing.Idle/4, w.timing.Look)))
		if !open {
			return nil, true, nil
		}
		if w.rested.IsZero() {
			w.rested = time.Now()
		} else if err := w.relieve(ctx); err != nil {
			return nil, false, err
		}
		return nil, time.Since(w.rested) > w.timing.Idle, nil
	}
	return nil, false, ctx.Err()
}

// next looks at the next job of the pass. It returns nothing where that is not free, and
// at the end of a slice.
func (w *Worker) next() (*launch.Job, error) {
	p := &w.pass
	// Each begins at a slice of its own, and with an array of one it begins at the first.
	i := (w.me.Element*w.array.Slices/max(w.array.Workers, 1) + p.done) % w.array.Slices
	first, end := w.array.part(i)
	own, rests := p.done == 0, !w.rested.IsZero()
	if p.order == nil {
		if own || w.notes.old() {
			w.notes.read()
		}
		if own && rests {
			p.watch = w.notes.taken(w.watched, watchMost)
		}
		p.order, p.misses = w.worth(first, end), 0
	}
	for len(p.order) > 0 {
		if !rests && !own && p.misses == missesMost {
			break // little of it is free; what is will be seen when nothing else is left
		}
		if p.slice == nil {
			var err error
			if p.slice, err = w.read.slice(i); err != nil {
				return nil, err
			}
			w.Reads++
			if len(p.slice) != end-first {
				return nil, fmt.Errorf("reading the jobs of the array: slice %d has %d, not %d", i, len(p.slice), end-first)
			}
		}
		at := p.order[0]
		p.order = p.order[1:]
		if p.watch[at] {
			w.watched = at + 1
		}
		job, what, err := w.try(p.slice[at-first], at, nil)
		if err != nil {
			return nil, err
		}
		if job != nil {
			p.misses = 0
			w.notes.learn(at, isTaken)
			w.notes.write(writeSome)
			return job, nil
		}
		p.misses++
		w.notes.learn(at, what)
	}
	p.open = p.open || slices.ContainsFunc(w.notes.seen[first:end], func(v verdict) bool { return v == isFree || v == isTaken })
	w.notes.write(1)
	p.slice, p.order = nil, nil
	p.done++
	return nil, nil
}

// worth are the jobs of a slice, by their numbers in the array, that are worth a look now.
func (w *Worker) worth(first, end int) []int {
	p := &w.pass
	order := []int{}
	if p.done == 0 && w.rested.IsZero() {
		// From the front. What is taken may be of an earlier process of this element.
		for at := first; at < end; at++ {
			if v := w.notes.seen[at]; v == isFree || v == isTaken {
				order = append(order, at)
			}
		}
		return order
	}
	// Others look for work here, too: each begins elsewhere.
	n := end - first
	turn := rand.IntN(n)
	for _, i := range scatter(n) {
		if at := first + (i+turn)%n; w.notes.seen[at] == isFree || p.watch[at] {
			order = append(order, at)
		}
	}
	return order
}

// verdict on a job.
type verdict int

const (
	isFree verdict = iota
	isOver
	isTaken
	isAbsent // its directory was removed, or cannot be seen from this node yet
)

// try claims a run, if it is free and has work to do. Of a search the job is given; that
// of a slice is read when its run is claimed, and has a number in the array.
func (w *Worker) try(s saved, number int, of *launch.Job) (_ *launch.Job, what verdict, err error) {
	at, err := store.OpenRun(w.array.Root, s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, isAbsent, nil
	}
	if err != nil {
		return nil, isTaken, fmt.Errorf("looking at run %s: %w", rundir.Short(s.ID), err)
	}
	defer func() {
		if what != isFree || err != nil {
			at.Close()
		}
	}()
	w.Looks++
	state, err := claim.Read(at)
	if err != nil {
		return nil, isTaken, err
	}
	if state.Open() && state.Worker.Array == w.me.Array && state.Worker.Element == w.me.Element && state.Worker.Nonce != w.me.Nonce {
		// Slurm has restarted this element, and never has two of it: what the
		// earlier process held is free, and it writes where nobody looks.
		end, _, err := claim.Finish(at, state.Generation, claim.End{How: claim.Broken, Reason: "its element was restarted", By: w.me.Nonce, When: now()})
		if err != nil {
			return nil, isTaken, err
		}
		state.End = &end
	}
	switch {
	case state.Open():
		return nil, isTaken, nil
	case of != nil:
		if over, err := w.satisfied(at, of, state); over || err != nil {
			return nil, isOver, err
		}
	case state.Generation > s.After && slices.Contains([]claim.How{claim.Done, claim.Failed, claim.Paused}, state.End.How):
		return nil, isOver, nil
	}
	mine := w.me
	mine.Since = now()
	w.Claims++
	got, won, err := claim.Take(at, state, mine)
	if err != nil {
		return nil, isTaken, err
	}
	if !won {
		return nil, isTaken, nil
	}
	h := &held{at: at, state: got, number: number}
	w.held[s.ID] = h
	job, err := w.prepare(s, of, h)
	if err != nil {
		// It is the fault of this node or of the run's files; the next worker may
		// fare better, and after three the run fails.
		return nil, isFree, errors.Join(err, w.end(s.ID, claim.End{How: claim.Broken, Reason: err.Error()}))
	}
	if reason := w.hopeless(h, s.After); reason != "" {
		return nil, isOver, w.end(s.ID, claim.End{How: claim.Failed, Reason: reason, Step: h.run.Checkpoint})
	}
	return job, isFree, w.say(happened{What: claimed, Run: s.ID, Gen: got.Generation, Step: h.run.Checkpoint})
}

// prepare brings what is there of a run into its generation.
func (w *Worker) prepare(s saved, job *launch.Job, h *held) (_ *launch.Job, err error) {
	if job == nil {
		if job, err = w.read.job(s); err != nil {
			return nil, err
		}
	}
	if err := claim.Seed(h.at, h.state.Generation); err != nil {
		return nil, err
	}
	h.run, err = store.ReadWork(w.array.Root, s.Dir+"/"+claim.Name(h.state.Generation), s.ID, job.Run.Spec)
	if err != nil {
		return nil, err
	}
	h.run.Attempts = s.Attempts
	h.job = job
	job.Dir = h.run.Path()
	return job, nil
}

// hopeless is why a run fails whose workers died one after another without a step; "" if
// they did not.
func (w *Worker) hopeless(h *held, after int) string {
	step := h.run.Checkpoint
	var reason string
	for n := 1; n <= deaths; n++ {
		g := h.state.Generation - n
		if g <= after {
			return ""
		}
		e, err := claim.EndOf(h.at, g)
		if err != nil || e.How != claim.Broken || e.Step != step {
			return ""
		}
		if n == 1 {
			reason = e.Reason
		}
	}
	// The first of them may have come this far.
	if before, err := claim.EndOf(h.at, h.state.Generation-deaths-1); step > 0 && (err != nil || before.Step != step) {
		return ""
	}
	return fmt.Sprintf("%d workers that had it ended without a step; the last: %s", deaths, reason)
}

// Ended takes up how a job ended.
func (w *Worker) Ended(job *launch.Job, end *launch.End) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.search != nil && w.lost == nil {
		return w.search.Ended(job, end)
	}
	return w.lost
}

// Claim is the run of a job that Next gave.
func (w *Worker) Claim(ctx context.Context, id string) (*store.Run, error) {
	w.mu.Lock()
	h := w.held[id]
	w.mu.Unlock() // weights may take a minute, in which Live says that the worker lives
	if h == nil {
		return nil, fmt.Errorf("run %s: %w", rundir.Short(id), store.ErrRemoved)
	}
	if places := h.job.Run.Places; w.Near != nil && places.GetBackbone() != "" {
		near, err := w.Near(ctx, places.Backbone)
		if err != nil {
			return nil, err
		}
		// Other jobs have the same places.
		places = proto.CloneOf(places)
		places.Backbone = near
		h.job.Run.Places = places
	}
	return h.run, nil
}

// Unclaim gives a run back.
func (w *Worker) Unclaim(ctx context.Context, id string) error { return w.Stop(ctx, id, 0) }

// Start records nothing: the claim says it.
func (w *Worker) Start(context.Context, string) error { return nil }

// Begun keeps how many steps the run takes, for its end.
func (w *Worker) Begun(_ context.Context, id string, _, steps uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h := w.held[id]; h != nil {
		h.steps = steps
	}
	return nil
}

// Finish says that all that was asked of a run is done, and shows it.
func (w *Worker) Finish(_ context.Context, id string, summary *spec.Summary) error {
	return w.locked(id, claim.End{How: claim.Done, Step: summary.GetSteps(), Steps: summary.GetSteps()})
}

// Stop gives a run back that continues at a step.
func (w *Worker) Stop(_ context.Context, id string, step uint64) error {
	return w.locked(id, claim.End{How: claim.Stopped, Step: step})
}

// Pause says that a run is at its rung.
func (w *Worker) Pause(_ context.Context, id string, step uint64, m *spec.Metrics) error {
	end := claim.End{How: claim.Paused, Step: step}
	if m != nil {
		text, err := rundir.Marshal(proto.CloneOf(m))
		if err != nil {
			return fmt.Errorf("recording the pause of run %s: %w", rundir.Short(id), err)
		}
		end.Validation = text
	}
	return w.locked(id, end)
}

// Fail says that a run failed for a reason of its own.
func (w *Worker) Fail(_ context.Context, id string, step uint64, reason string) error {
	return w.locked(id, claim.End{How: claim.Failed, Step: step, Reason: reason})
}

func (w *Worker) locked(id string, e claim.End) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.end(id, e)
}

// end ends the generation of a run. Where another has ended it, the worker has lost it.
func (w *Worker) end(id string, e claim.End) error {
	h := w.held[id]
	if h == nil {
		return w.lost
	}
	delete(w.held, id)
	defer h.at.Close()
	e.By, e.When, e.Steps = w.me.Nonce, now(), max(e.Steps, h.steps)
	_, won, err := claim.Finish(h.at, h.state.Generation, e)
	if err != nil {
		return err
	}
	if !won {
		w.lost = ErrLost
		return fmt.Errorf("run %s: %w", rundir.Short(id), ErrLost)
	}
	if e.How == claim.Done {
		if err := claim.Publish(h.at); err != nil {
			return err
		}
	}
	if h.number != noNumber {
		over := e.How == claim.Done || e.How == claim.Failed || e.How == claim.Paused
		w.notes.learn(h.number, map[bool]verdict{true: isOver, false: isFree}[over])
		if !over {
			w.notes.write(1) // for those without work
		}
	}
	return w.say(happened{What: string(e.How), Run: id, Gen: h.state.Generation, Step: e.Step, Reason: e.Reason})
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// jitter is a time around d, so that workers that were started at once do not look at once.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d)
}

// TimingOf is the timing that the environment asks for, which tests do.
func TimingOf(getenv func(string) string) Timing {
	var t Timing
	for name, into := range map[string]*time.Duration{"LORALAB_BEAT": &t.Beat, "LORALAB_IDLE": &t.Idle, "LORALAB_LOOK": &t.Look, "LORALAB_TURN": &t.Turn} {
		if d, err := time.ParseDuration(getenv(name)); err == nil {
			*into = d
		}
	}
	return t
}
