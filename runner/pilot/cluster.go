package pilot

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/claim"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/study"
)

// A Scheduler places workers and says what lives: Slurm, and what tests have in its
// place. Another one implements this, and has a script that starts
// "runner work DIRECTORY" with the index of the element.
type Scheduler interface {
	// Submit starts an array with elements 0 to workers-1. An error that wraps
	// ErrUnknown says that it may have been submitted; after any other it was not.
	Submit(ctx context.Context, a *Array) error
	// Poll is what is known of the elements of arrays, in one question for all of them.
	// An element that is not among them is over. After an error nothing is known.
	Poll(ctx context.Context, arrays []*Array) ([]Element, error)
	// Ends is how elements of arrays ended that Poll may not list any more, where that is
	// still known. It is for people alone.
	Ends(ctx context.Context, arrays []*Array) ([]Element, error)
	// Cancel ends elements of an array, all if none is named, and reports how many there
	// were. Workers get the time for a checkpoint.
	Cancel(ctx context.Context, a *Array, elements ...int) (int, error)
}

// ErrUnknown says that a scheduler does not answer, so that it is not known whether what
// was asked of it was done.
var ErrUnknown = errors.New("the scheduler does not answer")

// Life is what a scheduler says of an element.
type Life int

const (
	Waiting Life = iota // for its place
	Running             // also while it is being ended, suspended or restarted
	Over                // ended; an element may still be restarted
)

// Others is the index of the elements of an array that are not listed. They have ended
// before they began.
const Others = -1

// Element is one element of an array.
type Element struct {
	Array   string // its name
	Index   int    // or Others
	Job     string // its number, for people
	Life    Life
	Restart int    // how often it was restarted
	Held    bool   // it is over, and stays in the queue until it is cancelled
	Node    string // where it runs
	Reason  string // why it waits, or how it ended
}

// Cluster executes jobs by workers that a scheduler places. A claim of a worker that the
// scheduler says is over, twice, is broken; and a new array follows one that has ended
// before its jobs did.
type Cluster struct {
	Root      string // of the project
	Runs      *store.Store
	Scheduler Scheduler
	// Template is what all arrays have in common: engine, command, workers, limits.
	Template Array
	// Watch is called with what happens, by one goroutine.
	Watch func(launch.Event)
	// Say is called with a line about the cluster itself.
	Say func(text string)
	// Every is how often the scheduler is asked; 0: every 30 seconds.
	Every time.Duration
	// Follow is how often the events of workers are read; 0: every two seconds.
	Follow time.Duration
	// Silence is after how long a worker is ended that the scheduler calls running and
	// that does not write; 0: ten minutes.
	Silence time.Duration
	// FailFast cancels everything after the first run that failed.
	FailFast bool
	// Detach returns when all is submitted.
	Detach bool
	// Searches are carried out by workers, and looked on here; nil for none. Template.Asks
	// says how workers find them.
	Searches *study.Source
}

// hopelessNode is how many workers in a row may end on a node for no fault of a run. The
// next array leaves it out.
const hopelessNode = 2

// hopelessArrays is how many arrays in a row may end without a step of any run.
const hopelessArrays = 2

// task is a job, and how it goes.
type task struct {
	job      *launch.Job
	dir      string // relative to the project
	search   bool   // it is of one, which no array lists
	over     bool
	working  bool // a worker has said that it begins
	step     uint64
	attempts int    // that were seen to begin
	began    int    // the generation of the last of them
	after    int    // the generation that the run had when its array was made
	shows    bool   // Watch has heard that it begins, and not that it stops
	shown    uint64 // the step that Watch has heard of last
	// overdue is the generation that the scheduler has called over once, when asked.
	overdue int
	// paused is the generation that was heard to have paused.
	paused int
}

// live is an array that may have elements.
type live struct {
	*Array
	jobs    map[string]int      // their numbers in the array, by run
	adopted bool                // another apply has submitted it
	caught  bool                // what its workers did before is read
	open    map[string]happened // until then: runs that they have begun and not ended
	files   map[string]int64    // events of workers that are read, by file
	nodes   map[string]string   // of workers, by the same
	missing int                 // polls in a row without an element that lives
	held    bool                // some of its elements are over and stay in the queue
	before  string              // what was done when it began
	reasons map[int]string      // of elements that ended, why
	others  string              // the same of those that never began
	told    map[int]string      // why workers have ended, in their own words
	lived   bool                // while it was watched, or this apply has submitted it
	spent   bool                // it was cancelled before this apply began
	// unsure is why it is not known whether it was submitted, and submitted what is said
	// when it is.
	unsure    error
	submitted string
	silent    map[int]bool // elements that were cancelled because they do not write
}

// place is an element of an array.
type place struct {
	array string
	index int
}

// byPlace is what is known of elements, by where they are.
func byPlace(elements []Element) map[place]Element {
	by := map[place]Element{}
	for _, e := range elements {
		by[place{e.Array, e.Index}] = e
	}
	return by
}

// has reports whether a run is one of its jobs.
func (l *live) has(id string) bool {
	_, has := l.jobs[id]
	return has
}

// watching is one call of Run.
type watching struct {
	*Cluster
	tasks  map[string]*task
	order  []string
	arrays []*live
	vain   int // arrays in a row that ended without a step
	unsaid string
	// unanswered counts questions in a row without an answer, and lingers says that it was
	// said why an apply that is to leave its workers does not yet.
	unanswered int
	lingers    bool
	// waits is for how many answers all workers have waited, and waiting why, as it was
	// said last.
	waits   int
	waiting string
	totals  launch.Totals
	stop    bool
	nonce   string // of this process
	next    int    // task whose step is shown next
	// blamed counts the workers in a row that blamed their node, and excluded are the nodes
	// that the next array leaves out.
	blamed   map[string]int
	excluded map[string]bool
	// ends is how elements ended that are not listed any more, as far as it was asked since
	// the last answer of Poll; nil: it was not.
	ends map[place]string
	// polled is the arrays that Poll was asked about.
	polled []*Array
	// searching is until the searches have drawn and trained their last trial, and stale
	// says that they may have moved.
	searching, stale bool
}

// Run submits what no array of the project works on already, and watches until all jobs
// have ended. When ctx is cancelled the workers go on: see Cancel.
func (c *Cluster) Run(ctx context.Context, jobs []*launch.Job) (launch.Totals, error) {
	w := &watching{Cluster: c, tasks: map[string]*task{}, nonce: claim.Nonce(), searching: c.Searches != nil, blamed: map[string]int{}, excluded: map[string]bool{}}
	for _, job := range jobs {
		if _, err := w.add(job); err != nil {
			return launch.Totals{}, err
		}
	}
	err := w.run(ctx)
	for _, l := range w.arrays {
		if err == nil && w.has(l) {
			// Its workers find nothing to do, and end.
			err = mark(w.Root, l.Name, Ended)
		}
	}
	w.totals.Stopped = w.totals.Stopped || !w.done()
	return w.totals, err
}

// add makes a task of a job, where there is none.
func (w *watching) add(job *launch.Job) (*task, error) {
	if t := w.tasks[job.Run.ID]; t != nil {
		return t, nil
	}
	rel, err := filepath.Rel(w.Root, job.Dir)
	if err != nil {
		return nil, fmt.Errorf("submitting %s: %w", job.Run.Name(), err)
	}
	t := &task{job: job, dir: filepath.ToSlash(rel)}
	w.tasks[job.Run.ID] = t
	w.order = append(w.order, job.Run.ID)
	return t, nil
}

// lookOn takes up what workers have asked of the searches.
func (w *watching) lookOn(ctx context.Context) error {
	w.stale = false
	if !w.searching {
		return nil
	}
	jobs, over, err := w.Searches.Asked(context.WithoutCancel(ctx))
	if err != nil {
		return fmt.Errorf("looking at the searches: %w", err)
	}
	for _, job := range jobs {
		fresh := w.tasks[job.Run.ID] == nil
		t, err := w.add(job)
		if err != nil {
			return err
		}
		t.search = t.search || fresh
		// Its worker may have been killed before it could say that it has it.
		t.working = true
		if !fresh || job.Trial {
			continue
		}
		// A run of a comparison may be there already: these workers were fast, or it is
		// of another experiment.
		run, err := w.Runs.Get(context.WithoutCancel(ctx), job.Run.ID)
		if err == nil && has(run, job) {
			err = w.settle(ctx, t)
			t.over = true
		}
		if err != nil {
			return err
		}
	}
	w.searching = !over
	return nil
}

func (w *watching) run(ctx context.Context) error {
	if err := w.adopt(); err != nil {
		return err
	}
	every, follow := w.Every, w.Follow
	if every == 0 {
		every = 30 * time.Second
	}
	if follow == 0 {
		follow = 2 * time.Second
	}
	if len(w.arrays) == 0 {
		if err := w.submit(ctx); err != nil {
			return err
		}
	}
	wait, hurry := every, every/6
	for first := true; ; first = false {
		if err := w.poll(ctx, first); err != nil || w.done() || w.stop {
			return err
		}
		wait = backOff(wait, every, w.unsaid != "")
		if hurry < every && !slices.ContainsFunc(w.arrays, func(l *live) bool { return !l.cancelled() }) {
			wait, hurry = hurry, 2*hurry // they end now
		}
		if w.Detach && ctx.Err() == nil {
			wait = min(wait, every)
			if away, err := w.away(wait); err != nil || away {
				return err
			}
		}
		for next := time.Now().Add(wait); time.Now().Before(next); {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(min(follow, time.Until(next))):
			}
			if err := w.follow(ctx); err != nil || w.done() || w.stop {
				return err
			}
		}
	}
}

// detachedAnswers is for how many answers of the scheduler that do not come an apply waits
// that is to leave its workers.
const detachedAnswers = 3

// away reports whether the workers may be left to themselves: all arrays are known to have
// some. Wait is the time until the next question.
func (w *watching) away(wait time.Duration) (bool, error) {
	if w.unsaid != "" {
		if w.unanswered++; w.unanswered >= detachedAnswers {
			return false, fmt.Errorf("it is not known whether anybody works, and nothing was submitted again: %s", w.unsaid)
		}
		return false, nil
	}
	w.unanswered = 0
	for _, l := range w.arrays {
		if l.missing > 0 || l.unsure != nil {
			if !w.lingers {
				w.lingers = true
				w.say("array %s has no workers, as far as is known: the next answer, in %v, decides", l.Name, wait.Round(time.Second))
			}
			return false, nil
		}
	}
	return true, nil
}

// backOff is how long to wait for the next question to the scheduler, after a wait: each one
// without an answer doubles it, up to ten times what is usual.
func backOff(wait, usual time.Duration, unanswered bool) time.Duration {
	if !unanswered {
		return usual
	}
	return min(2*wait, 10*usual)
}

// has reports whether all jobs of an array are over.
func (w *watching) has(l *live) bool {
	for id := range l.jobs {
		if t := w.tasks[id]; t == nil || !t.over {
			return false
		}
	}
	return l.Asks == nil || w.done()
}

// done reports whether nothing is left. A trial that does not continue has no end of its own.
func (w *watching) done() bool {
	return !w.searching && !slices.ContainsFunc(w.order, func(id string) bool { return !w.tasks[id].over && !w.tasks[id].job.Trial })
}

func (w *watching) say(format string, args ...any) {
	if w.Say != nil {
		w.Say(fmt.Sprintf(format, args...))
	}
}

// adopt finds the arrays that an earlier apply has submitted, or was about to.
func (w *watching) adopt() error {
	arrays, err := Unended(w.Root)
	if err != nil {
		return err
	}
	if len(arrays) > 0 {
		if err := w.heard(); err != nil {
			return err
		}
	}
	for _, a := range arrays {
		l, err := w.watch(a)
		if err != nil {
			return err
		}
		l.adopted, l.lived, l.spent = true, false, l.cancelled()
		w.arrays = append(w.arrays, l)
	}
	return nil
}

// Unended are the arrays of the project at root that may have elements, oldest first.
func Unended(root string) ([]*Array, error) {
	names, err := store.ArraysOf(root)
	if err != nil {
		return nil, fmt.Errorf("looking for arrays of the project: %w", err)
	}
	var all []*Array
	for _, name := range names {
		dir := ArrayDir(root, name)
		if _, err := os.Lstat(filepath.Join(dir, Ended)); err == nil {
			continue
		}
		a, err := ReadArray(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue // its apply was killed before it had written it
		}
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

func (w *watching) watch(a *Array) (*live, error) {
	l := &live{Array: a, jobs: map[string]int{}, files: map[string]int64{}, nodes: map[string]string{}, reasons: map[int]string{}, told: map[int]string{}, silent: map[int]bool{}, before: w.progress(), lived: true}
	for _, node := range a.Exclude {
		w.excluded[node] = true
	}
	r := newReader(ArrayDir(a.Root, a.Name), a.Root)
	for i := range a.Slices {
		jobs, err := r.slice(i)
		if err != nil {
			return nil, err
		}
		first, _ := a.part(i)
		for n, s := range jobs {
			if t := w.tasks[s.ID]; t != nil {
				if t.after = max(t.after, s.After); t.after > s.After {
					continue // its workers leave it alone
				}
			}
			l.jobs[s.ID] = first + n
		}
	}
	return l, nil
}

// heard takes how runs have failed before this apply for no news: it tries them again, and the
// workers of arrays that were made before do not.
func (w *watching) heard() error {
	for _, id := range w.order {
		t := w.tasks[id]
		at, s, err := w.state(t)
		if err != nil {
			return err
		}
		if at == nil {
			continue
		}
		at.Close()
		if s.Generation > 0 && !s.Open() && s.End.How == claim.Failed {
			t.after = s.Generation
		}
	}
	return nil
}

// progress is all that was done so far, to be compared.
func (w *watching) progress() string {
	var b strings.Builder
	for _, id := range w.order {
		if t := w.tasks[id]; t.over || t.step > 0 {
			fmt.Fprint(&b, id, t.over, t.step, " ")
		}
	}
	return b.String()
}

// uncovered are the tasks that no array has.
func (w *watching) uncovered() []*launch.Job {
	var jobs []*launch.Job
	for _, id := range w.order {
		t := w.tasks[id]
		if !t.over && !t.search && !slices.ContainsFunc(w.arrays, func(l *live) bool { return l.has(id) }) {
			jobs = append(jobs, t.job)
		}
	}
	return jobs
}

// unasked reports whether no array has the searches, which are not over: their trials, or
// the runs of their comparisons.
func (w *watching) unasked() bool {
	return w.Searches != nil && !slices.ContainsFunc(w.arrays, func(l *live) bool { return l.Asks.has(w.Template.Asks) }) &&
		(w.searching || slices.ContainsFunc(w.order, func(id string) bool {
			t := w.tasks[id]
			return t.search && !t.over && !t.job.Trial
		}))
}

// submit submits an array for what no array has.
func (w *watching) submit(ctx context.Context) error {
	jobs, searches := w.uncovered(), w.unasked()
	if len(jobs) == 0 && !searches {
		return nil
	}
	a := w.Template
	a.Name, a.Root, a.Made = newName(), w.Root, now()
	most, asks := len(jobs), 0
	if searches {
		runs, _ := w.Searches.Expected()
		most += runs
		asks = len(a.Asks.Searches)
	} else {
		a.Asks = nil
	}
	a.Workers = max(1, min(a.Workers, most))
	a.Exclude = slices.Sorted(maps.Keys(w.excluded))
	// Written before it is submitted: the next apply after a crash asks for the name.
	if err := a.write(jobs); err != nil {
		return err
	}
	if err := writeTurn(ArrayDir(a.Root, a.Name), turn{}); err != nil {
		return err
	}
	err := w.Scheduler.Submit(ctx, &a)
	if err != nil && !errors.Is(err, ErrUnknown) {
		return errors.Join(err, mark(w.Root, a.Name, Ended))
	}
	l, e := w.watch(&a)
	if e != nil {
		return errors.Join(e, err)
	}
	w.arrays = append(w.arrays, l)
	text := fmt.Sprintf("submitted array %s: %s for %s", a.Name, plural.Of(a.Workers, "worker"), Work(len(jobs), asks))
	if l.unsure = err; err != nil {
		w.say("%v; whether it was submitted, the next answer says", err)
		l.submitted = text
		return nil
	}
	w.say("%s", text)
	if l.cancelled() { // meanwhile
		_, err = w.Scheduler.Cancel(context.WithoutCancel(ctx), l.Array)
	}
	return err
}

// Work is what workers have to do, in words.
func Work(runs, searches int) string {
	var all []string
	if runs > 0 {
		all = append(all, plural.Of(runs, "run"))
	}
	if searches > 0 {
		all = append(all, plural.Form(searches, "1 search", fmt.Sprintf("%d searches", searches)))
	}
	return strings.Join(all, " and ")
}

// cancelledMark is a file in the directory of an array that was cancelled.
const cancelledMark = "cancelled"

// mark makes an empty file in the directory of an array.
func mark(root, name, what string) error {
	f, err := os.OpenFile(filepath.Join(ArrayDir(root, name), what), os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return fmt.Errorf("recording the end of array %s: %w", name, err)
	}
	return f.Close()
}

// cancelled reports whether somebody has cancelled it: one answer without an element that
// lives is enough.
func (l *live) cancelled() bool {
	_, err := os.Lstat(filepath.Join(ArrayDir(l.Root, l.Name), cancelledMark))
	return err == nil
}

// poll asks what lives, breaks claims of what does not, and submits what is left.
func (w *watching) poll(ctx context.Context, first bool) error {
	var arrays []*Array
	for _, l := range w.arrays {
		arrays = append(arrays, l.Array)
	}
	asked := context.WithoutCancel(ctx) // an answer takes seconds at most
	w.polled, w.ends = arrays, nil
	elements, err := w.Scheduler.Poll(asked, arrays)
	if err != nil {
		if text := err.Error(); text != w.unsaid {
			w.say("it is not known what runs: %s; workers continue", text)
			w.unsaid = text
		}
		return w.follow(ctx)
	}
	if w.unsaid != "" {
		w.unsaid = ""
		w.say("it is known again what runs")
	}
	adopted, other := 0, 0
	for _, l := range w.arrays {
		if l.unsure != nil && slices.ContainsFunc(elements, func(e Element) bool { return e.Array == l.Name }) {
			l.unsure = nil
			w.say("%s", l.submitted)
		}
		// Workers need not ask.
		if err := writeTurn(ArrayDir(w.Root, l.Name), turn{}); err != nil {
			return err
		}
		l.missing++
		l.held = false
		for _, e := range elements {
			if e.Array != l.Name {
				continue
			}
			l.held = l.held || e.Held
			switch {
			case e.Life != Over:
				l.missing, l.lived = 0, true
			case e.Index == Others:
				l.others = e.Reason
			case e.Reason != "":
				l.reasons[e.Index] = e.Reason
			}
		}
		if first && l.missing == 0 && l.adopted {
			adopted++
			if l.Resources != "" && l.Resources != w.Template.Resources {
				other++
			}
		}
	}
	w.sayWaiting(elements)
	if adopted > 0 {
		w.say("watching %s of an earlier apply", plural.Of(adopted, "array"))
	}
	if other > 0 {
		w.say("%s resources from before they were changed, which count for the next array: runner cancel, and apply again, to have them now",
			plural.Form(other, "its workers have", "the workers of "+plural.Of(other, "array")+" have"))
	}
	if err := w.follow(ctx); err != nil {
		return err
	}
	if err := w.silence(asked, elements); err != nil {
		return err
	}
	if err := w.lookOn(ctx); err != nil {
		return err
	}
	// The first answer comes after the first look, so what is over is over in both.
	if err := w.breakClaims(asked, elements, first); err != nil {
		return err
	}
	return w.follows(ctx, asked)
}

// sayWaiting says why no worker runs, from the second answer on and whenever that changes.
func (w *watching) sayWaiting(elements []Element) {
	reasons := map[int]string{}
	for i, e := range elements {
		if e.Life == Running {
			reasons = nil
			break
		}
		if e.Life == Waiting {
			reasons[i] = cmp.Or(e.Reason, noReason)
		}
	}
	if len(reasons) == 0 {
		w.waits, w.waiting = 0, ""
		return
	}
	if w.waits++; w.waits < 2 {
		return // it has just been submitted
	}
	if text := counted(reasons); text != w.waiting {
		w.waiting = text
		w.say("%s for a node: %s", plural.Form(len(reasons), "1 worker waits", fmt.Sprintf("all %d workers wait", len(reasons))), text)
	}
}

// breakClaims ends the generations of workers that are over.
func (w *watching) breakClaims(ctx context.Context, elements []Element, first bool) error {
	by := byPlace(elements)
	watched := map[string]bool{}
	for _, l := range w.arrays {
		watched[l.Name] = true
	}
	for _, id := range w.order {
		t := w.tasks[id]
		if t.over || !t.working && !first {
			continue
		}
		at, s, err := w.state(t)
		if err != nil {
			return err
		}
		if at == nil {
			continue
		}
		if !s.Open() {
			at.Close()
			// When its worker said so, this machine may not have seen the end yet.
			if t.began > 0 && s.Generation >= t.began {
				if err := w.settle(ctx, t); err != nil {
					return err
				}
			}
			continue
		}
		if !s.Cluster() {
			at.Close()
			continue
		}
		t.working = true
		of := place{s.Worker.Array, s.Worker.Element}
		switch {
		// Of an array that has ended, all elements were seen to be over.
		case watched[of.array] && !isGone(by, s.Worker):
			t.overdue = 0
		case t.overdue != s.Generation:
			t.overdue = s.Generation // the next answer decides
		default:
			e, listed := by[of]
			reason := e.Reason
			if !listed {
				reason = w.endOf(ctx, of)
			}
			reason = cmp.Or(reason, wordless)
			err = breakClaim(at, s.Generation, reason, w.nonce)
			t.overdue = 0
			w.free(id)
			if err == nil {
				w.say("%s: %s; it continues in another worker", t.job.Run.Name(), reason)
				w.stops(t, t.step)
			}
		}
		at.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// endOf is how an element ended that Poll does not list; "" where nobody knows.
func (w *watching) endOf(ctx context.Context, of place) string {
	if w.ends == nil {
		w.ends = map[place]string{}
		if elements, err := w.Scheduler.Ends(ctx, w.polled); err == nil { // it decides nothing
			for _, e := range elements {
				w.ends[place{e.Array, e.Index}] = e.Reason
			}
		}
	}
	return w.ends[of]
}

// free notes for the workers of arrays that nobody has a run any more.
func (w *watching) free(id string) {
	for _, l := range w.arrays {
		if l.has(id) {
			n := newNotes(ArrayDir(w.Root, l.Name), l.Jobs)
			n.learn(l.jobs[id], isTaken)
			n.learn(l.jobs[id], isFree)
			n.write(1)
		}
	}
}

// state opens the directory of a task and reads who works on it; nil where it was removed.
func (w *watching) state(t *task) (*os.Root, claim.State, error) {
	at, err := store.OpenRun(w.Root, t.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, claim.State{}, nil
	}
	if err != nil {
		return nil, claim.State{}, fmt.Errorf("looking at %s: %w", t.job.Run.Name(), err)
	}
	s, err := claim.Read(at)
	if err != nil {
		at.Close()
		return nil, s, err
	}
	if s.Generation > 0 {
		t.step = max(t.step, claim.Step(at, s.Generation))
	}
	return at, s, nil
}

// follows ends arrays that have no element any more, and submits what they have left.
func (w *watching) follows(ctx, asked context.Context) error {
	var ended []*live
	w.arrays = slices.DeleteFunc(w.arrays, func(l *live) bool {
		if l.missing == 0 || l.missing == 1 && !l.cancelled() {
			return false
		}
		ended = append(ended, l)
		return true
	})
	for _, l := range ended {
		for _, id := range w.order {
			if t := w.tasks[id]; !t.over && (l.has(id) || t.search && l.Asks != nil) {
				// Its worker may have been killed before it could say that it has it.
				t.working = true
				if err := w.settle(ctx, t); err != nil {
					return err
				}
			}
		}
		if l.held {
			if _, err := w.Scheduler.Cancel(asked, l.Array); err != nil {
				w.say("ending what is left of array %s: %v", l.Name, err)
			}
		}
		if err := mark(w.Root, l.Name, Ended); err != nil {
			return err
		}
		if w.progress() == l.before {
			w.vain++
		} else {
			w.vain = 0
		}
		left := len(w.uncovered())
		if left == 0 && !w.unasked() {
			continue
		}
		what := plural.Of(left, "run") + plural.Form(left, " is", " are") + " left"
		if left == 0 {
			what = "its searches have not ended"
		}
		if l.unsure != nil {
			w.say("array %s was not submitted", l.Name)
			if w.vain >= hopelessArrays {
				return fmt.Errorf("%s in a row could not be submitted: %w", plural.Of(w.vain, "array"), l.unsure)
			}
			continue
		}
		text := fmt.Sprintf("array %s has ended, and %s", l.Name, what)
		for i := range l.Workers {
			if l.reasons[i] != "" {
				continue
			}
			if reason := w.endOf(asked, place{l.Name, i}); reason != "" {
				l.reasons[i] = reason
			} else if l.others != "" {
				l.reasons[i] = l.others
			}
		}
		if !l.spent && (l.cancelled() || l.lived && l.allCancelled()) {
			return &CancelledError{l.Name, what}
		}
		reasons := l.inWords()
		if len(reasons) > 0 {
			text += ": " + counted(reasons)
		}
		logs := filepath.Join("runs", store.Arrays, l.Name, "log")
		if w.vain > 0 {
			text += "; the logs of its workers are in " + logs
		}
		w.say("%s", text)
		if w.vain >= hopelessArrays {
			return fmt.Errorf("%s in a row have ended without a step of any run: %s; the logs of the last are in %s",
				plural.Of(w.vain, "array"), cmp.Or(counted(reasons), "nobody says why"), logs)
		}
	}
	if ctx.Err() != nil || w.stop {
		return nil
	}
	return w.submit(ctx)
}

// WasCancelled is the reason of an element that somebody has cancelled, which schedulers give
// in this word.
const WasCancelled = "it was cancelled"

// allCancelled reports whether somebody has cancelled all elements by the commands of the
// scheduler.
func (l *live) allCancelled() bool {
	for i := range l.Workers {
		if !strings.HasPrefix(l.reasons[i], WasCancelled) || l.silent[i] {
			return false
		}
	}
	return true
}

// CancelledError says that the workers of an array were cancelled while an apply watched it.
type CancelledError struct {
	Array string
	Left  string // what it had to do
}

func (e *CancelledError) Error() string {
	return fmt.Sprintf("array %s was cancelled, and %s", e.Array, e.Left)
}

// inWords is why elements ended: in the words of their workers, else in those of the scheduler
// with the end of the log of one that failed.
func (l *live) inWords() map[int]string {
	all := maps.Clone(l.reasons)
	maps.Copy(all, l.told)
	for i, reason := range all {
		if line := ""; l.told[i] == "" && strings.HasPrefix(reason, Failed) {
			if line = l.lastLine(i); line != "" {
				all[i] = reason + ": " + line
			}
		}
	}
	return all
}

// Failed begins the reason of an element whose script has failed.
const Failed = "it failed"

// lastLine is the last line of the log of an element; "" where there is none.
func (l *live) lastLine(i int) string {
	const most = 4096 // bytes that are read
	f, err := os.Open(filepath.Join(ArrayDir(l.Root, l.Name), "log", l.logName(i)))
	if err != nil {
		return "" // it is for people, and decides nothing
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(f, most))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	line := strings.TrimPrefix(ofScript.ReplaceAllString(strings.TrimSpace(lines[len(lines)-1]), ""), "error: ")
	if r := []rune(line); len(r) > 200 {
		line = string(r[:200]) + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, line)
}

// ofScript is what a shell says first of what is wrong in a script: the copy of the job, whose
// name differs from one element to the next.
var ofScript = regexp.MustCompile(`^\S*/slurm_script: `)

// logName is the log of an element: the scheduler names it by the index in its part.
func (l *live) logName(i int) string {
	if l.Chunk <= 0 || i < l.Chunk {
		return fmt.Sprintf("%d.txt", i)
	}
	return fmt.Sprintf("%d+%d.txt", i/l.Chunk*l.Chunk, i%l.Chunk)
}

func counted(reasons map[int]string) string {
	numbers := map[string]int{}
	for _, reason := range reasons {
		numbers[reason]++
	}
	var all []string
	for reason, n := range numbers {
		all = append(all, fmt.Sprintf("%s (%d)", reason, n))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// follow reads what workers have written since, and takes up runs that have ended.
func (w *watching) follow(ctx context.Context) error {
	for _, l := range w.arrays {
		dir := filepath.Join(ArrayDir(w.Root, l.Name), "events")
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("reading what workers do: %w", err)
		}
		for _, e := range entries {
			if err := w.read(ctx, l, filepath.Join(dir, e.Name()), e.Name()); err != nil {
				return err
			}
		}
		l.caught = true
		for _, id := range w.order {
			if h, open := l.open[id]; open {
				w.begin(w.tasks[id], h)
			}
		}
		l.open = nil
	}
	w.showSteps()
	if w.stale {
		return w.lookOn(ctx)
	}
	return nil
}

// stepsMost is of how many runs the last step is read at once.
const stepsMost = 16

// showSteps says how far some of the runs are, each time of other ones.
func (w *watching) showSteps() {
	n := 0
	for i := range w.order {
		at := (w.next + i) % len(w.order)
		t := w.tasks[w.order[at]]
		if t.over || !t.shows || !t.job.Train {
			continue
		}
		if n == stepsMost {
			w.next = at
			return
		}
		n++
		dir, err := store.OpenRun(w.Root, t.dir+"/"+claim.Name(t.began))
		if err != nil {
			continue // what is shown decides nothing
		}
		step := store.LastStep(dir)
		dir.Close()
		if step.GetStep() > t.shown {
			t.shown = step.GetStep()
			step.Epoch = 0 // its mean is of steps that are not known here
			w.Watch(launch.Event{Job: t.job, Event: &spec.Event{Event: &spec.Event_Step{Step: step}}})
		}
	}
}

func (w *watching) read(ctx context.Context, l *live, file, name string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("reading what workers do: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(l.files[name], io.SeekStart); err != nil {
		return fmt.Errorf("reading what workers do: %w", err)
	}
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return nil // the rest of the line comes later
		}
		l.files[name] += int64(len(line))
		h := happened{}
		if json.Unmarshal(bytes.TrimSpace(line), &h) != nil {
			continue // the truth is in the runs
		}
		h.host = l.nodes[name]
		switch h.What {
		case started:
			l.nodes[name] = h.Worker.Host
			delete(l.told, h.Worker.Element)
			continue
		case ended:
			if digits, _, _ := strings.Cut(name, "-"); h.Reason != "" {
				if i, err := strconv.Atoi(digits); err == nil {
					l.told[i] = h.Reason
				}
			}
			w.judgeNode(l.nodes[name], h)
			continue
		}
		if w.tasks[h.Run] == nil && h.Run != "" && l.Asks != nil {
			if err := w.lookOn(ctx); err != nil {
				return err
			}
		}
		t := w.tasks[h.Run]
		if t == nil || t.over {
			continue
		}
		if h.What == claimed {
			t.working = true
			t.attempts++
			if h.Gen < t.began {
				continue // files of workers are read one after another
			}
			t.began = h.Gen
			if l.adopted && !l.caught {
				if l.open == nil {
					l.open = map[string]happened{}
				}
				l.open[h.Run] = h
				continue
			}
			w.begin(t, h)
			continue
		}
		if l.open[h.Run].Gen == h.Gen {
			delete(l.open, h.Run)
		}
		w.stale = true
		if err := w.settle(ctx, t); err != nil {
			return err
		}
		if h.What == string(claim.Stopped) && h.Gen == t.began && l.caught {
			w.stops(t, h.Step)
		}
	}
}

// stops says that a run stops, to continue in another worker.
func (w *watching) stops(t *task, step uint64) {
	if t.shows {
		w.Watch(launch.Event{Job: t.job, End: &launch.End{Outcome: launch.Stopped, Step: step}})
	}
	t.shows = false
}

// begin says that a worker begins with a run.
func (w *watching) begin(t *task, h happened) {
	t.shown, t.shows = h.Step, true
	w.Watch(launch.Event{Job: t.job, Start: &launch.Start{Attempt: t.attempts, When: h.When}})
	if !t.job.Train {
		return
	}
	w.Watch(launch.Event{Job: t.job, Event: &spec.Event{Event: &spec.Event_Started{
		Started: &spec.Started{Step: h.Step, Steps: params.Steps(t.job.Run.Spec)},
	}}})
	if h.host != "" {
		text := "begins on " + h.host
		if h.Step > 0 {
			text = fmt.Sprintf("continues after step %d on %s", h.Step, h.host)
		}
		w.Watch(launch.Event{Job: t.job, Event: &spec.Event{Event: &spec.Event_Note{Note: &spec.Note{Text: text}}}})
	}
}

// judgeNode takes up how a worker of a node ended. One that ended without a word says nothing
// of its node.
func (w *watching) judgeNode(node string, h happened) {
	if h.Reason != "" && h.Reason != TimeOver { // which is said of all when the array ends
		w.say("a worker on %s has ended: %s", node, h.Reason)
	}
	if !h.OfNode {
		w.blamed[node] = 0
		return
	}
	if w.blamed[node]++; w.blamed[node] >= hopelessNode && !w.excluded[node] {
		w.excluded[node] = true
		w.say("%s in a row ended so on %s: the next array leaves it out", plural.Of(hopelessNode, "worker"), node)
	}
}

// settle takes up a run that has ended: what it says itself counts.
func (w *watching) settle(ctx context.Context, t *task) error {
	at, s, err := w.state(t)
	if at == nil || err != nil {
		t.over = t.over || err == nil
		return err
	}
	at.Close()
	if s.Open() || s.Generation <= t.after {
		return nil
	}
	end := &launch.End{Step: s.End.Step, When: s.End.When}
	switch s.End.How {
	case claim.Done:
		end.Outcome = launch.Finished
	case claim.Failed:
		end.Outcome, end.Reason = launch.Failed, s.End.Reason
	case claim.Paused:
		if t.paused < s.Generation {
			t.paused, t.working = s.Generation, false
			end.Outcome = launch.Paused
			if len(s.End.Validation) > 0 {
				end.Validation = &spec.Metrics{}
				if err := rundir.Unmarshal(s.End.Validation, end.Validation); err != nil {
					return fmt.Errorf("reading how %s paused: %w", t.job.Run.Name(), err)
				}
			}
			w.totals.Paused++
			w.Watch(launch.Event{Job: t.job, End: end})
		}
		return nil
	default:
		return nil // it continues
	}
	run, err := w.Runs.Fold(context.WithoutCancel(ctx), t.job.Run.ID)
	if err != nil {
		return err
	}
	if end.Outcome == launch.Finished && run.Summary == nil {
		return fmt.Errorf("%s: its worker says that it is done, and its result is not in %s", t.job.Run.Name(), run.Dir)
	}
	t.over = true
	if run.Summary != nil {
		end.Summary = proto.CloneOf(run.Summary)
		end.Summary.Evaluations = nil
		for _, e := range t.job.Evaluations {
			if scored := run.Evaluations[e.ID]; scored != nil {
				end.Summary.Evaluations = append(end.Summary.Evaluations, scored)
			}
		}
	}
	switch end.Outcome {
	case launch.Finished:
		w.totals.Finished++
	case launch.Failed:
		if !t.job.Trial { // that a trial fails is its result
			w.totals.Failed++
		}
	}
	w.Watch(launch.Event{Job: t.job, End: end})
	if end.Outcome == launch.Failed && w.FailFast && !t.job.Trial {
		w.stop = true
		for _, l := range w.arrays {
			if _, err := w.Scheduler.Cancel(context.WithoutCancel(ctx), l.Array); err != nil {
				return err
			}
		}
	}
	return nil
}

// silence cancels workers that the scheduler calls running and that do not write. Times
// are those of the disk: a clock of a node says nothing.
func (w *watching) silence(ctx context.Context, elements []Element) error {
	limit := w.Silence
	if limit == 0 {
		limit = 10 * time.Minute
	}
	for _, l := range w.arrays {
		beats := filepath.Join(ArrayDir(w.Root, l.Name), "beats")
		fresh, err := freshTime(beats)
		if err != nil {
			return err
		}
		newest, err := newestBeats(beats)
		if err != nil {
			return err
		}
		for _, e := range elements {
			at, began := newest[e.Index]
			if e.Array != l.Name || e.Life != Running || !began || l.silent[e.Index] || fresh.Sub(at) < limit {
				continue
			}
			l.silent[e.Index] = true
			w.say("element %d of %s on %s has written nothing for %v: it is ended", e.Index, l.Name, e.Node, fresh.Sub(at).Round(time.Second))
			if _, err := w.Scheduler.Cancel(ctx, l.Array, e.Index); err != nil {
				w.say("ending it: %v", err)
			}
		}
	}
	return nil
}

// freshTime is the time that the disk gives to a file that is written now.
func freshTime(dir string) (time.Time, error) {
	path := filepath.Join(dir, ".now")
	err := os.WriteFile(path, []byte(claim.Nonce()), 0o666)
	var info os.FileInfo
	if err == nil {
		info, err = os.Stat(path)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("asking the disk for the time: %w", err)
	}
	return info.ModTime(), nil
}

// newestBeats are the times of the newest beat of each element.
func newestBeats(dir string) (map[int]time.Time, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("looking which workers write: %w", err)
	}
	newest := map[int]time.Time{}
	for _, e := range entries {
		digits, _, _ := strings.Cut(e.Name(), "-")
		i, err := strconv.Atoi(digits)
		if err != nil {
			continue
		}
		if info, err := e.Info(); err == nil && info.ModTime().After(newest[i]) {
			newest[i] = info.ModTime()
		}
	}
	return newest, nil
}

// Count is how many elements of an array run and wait, and in words why they wait.
func Count(a *Array, elements []Element) (running, waiting int, reasons string) {
	why := map[int]string{}
	for _, e := range elements {
		switch {
		case e.Array != a.Name:
		case e.Life == Running:
			running++
		case e.Life == Waiting:
			waiting++
			why[e.Index] = cmp.Or(e.Reason, noReason)
		}
	}
	return running, waiting, counted(why)
}

// noReason is why a worker waits of which the scheduler does not say it.
const noReason = "no reason is known"

// LastCommand is what was typed for the newest array of the project at root, after the name
// of the program; nil if there is none.
func LastCommand(root string) ([]string, error) {
	names, err := store.ArraysOf(root)
	if err != nil {
		return nil, fmt.Errorf("looking for arrays of the project: %w", err)
	}
	for _, name := range slices.Backward(names) {
		a, err := ReadArray(ArrayDir(root, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return a.Command, nil
	}
	return nil, nil
}

// Cancel ends all workers of the project at root, and reports how many arrays had some. An
// apply that watches them ends as well.
func Cancel(ctx context.Context, root string, s Scheduler) (int, error) {
	arrays, err := Unended(root)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, a := range arrays {
		// First: an apply that sees them end is to know why.
		if err := mark(root, a.Name, cancelledMark); err != nil {
			return n, err
		}
		workers, err := s.Cancel(ctx, a)
		if err != nil {
			return n, err
		}
		if workers > 0 {
			n++
		}
	}
	return n, nil
}
