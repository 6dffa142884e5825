// Package live shows a project in a browser while it is worked on: what trains, how far
// it is, its curves and its log, and the page of what is done, which is renewed as runs
// end.
//
// All of it follows from the directories of the runs, as for every other command. So it
// does not matter who works on them, when, or whether anybody does: an apply that ends
// and starts again is seen as it is. A directory is looked at once in a while for all
// that are watching, and not at all while nobody is.
package live

import (
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
	"slices"
	"sync"
	"time"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/page"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/study"
)

// Options are what a server shows.
type Options struct {
	Root string
	// Read is what is known of the project, and who works on it. It is called once a
	// tick while anybody is watching.
	Read func(ctx context.Context) (*store.Snapshot, []store.Holder, error)
	// Metrics names, for each experiment, the metric to show.
	Metrics map[string]string
	// Planned are the runs that the files ask for, whether they are there or not; nil: those
	// that the newest applies asked for.
	Planned []store.Label
	// Page is the page of what is done, and what searches have found; nil for none. It
	// is called when a run has ended, or has been asked for.
	Page func(ctx context.Context, known *store.Snapshot) (*page.Page, []Search, error)
	// Actions are what may be done from a browser; nil: nothing.
	Actions Actions
	// Every is the time between ticks; 0: a second.
	Every time.Duration
}

// Search is how far a search is.
type Search struct {
	Experiment, Cell string
	Text             string // in a line
	Over             bool
}

// Actions change what happens. Each returns what to say of it.
type Actions interface {
	// Stop asks a process to stop after a checkpoint.
	Stop(pid int) (string, error)
	// Resume starts an apply of what is missing, of a run by its name alone, or of all
	// with "".
	Resume(run string) (string, error)
}

// Most of what is shown.
const (
	mostRuns   = 200
	mostLines  = 100
	mostPoints = 400 // of a curve
	mostCurves = 12
)

// State is what a browser shows of a project.
type State struct {
	Version     int          `json:"version"` // of the page of what is done
	Error       string       `json:"error,omitempty"`
	Holders     []Holder     `json:"holders"`
	Experiments []Experiment `json:"experiments"`
	Searches    []string     `json:"searches"`
	Runs        []Run        `json:"runs"` // that are not done
	More        int          `json:"more"` // runs that there is no room for
	Lines       []string     `json:"lines"`
	Load        Load         `json:"load"`
}

// Holder is a process that works on the project.
type Holder struct {
	PID     int    `json:"pid"`
	Host    string `json:"host"`
	Since   string `json:"since"`
	Command string `json:"command"`
}

// Experiment is how far one is.
type Experiment struct {
	Name   string         `json:"name"`
	Counts map[string]int `json:"counts"` // of runs, by state
}

// Run is one that is not done.
type Run struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
	Step   uint64 `json:"step"`
	Steps  uint64 `json:"steps"`
	// Loss, Value and Speed are the newest; null before there is one.
	Loss   *page.Num `json:"loss"`
	Metric string    `json:"metric,omitempty"`
	Value  *page.Num `json:"value"`
	Speed  *page.Num `json:"speed"` // images a second
	// Left is the time that the steps to come take, in seconds; 0: not known, or none.
	Left  int           `json:"left,omitempty"`
	Curve [][2]page.Num `json:"curve,omitempty"`
}

// hub knows the newest state, and wakes those that wait for it.
type hub struct {
	mu      sync.Mutex
	state   []byte
	body    []byte
	data    []byte
	version int
	clients int
	changed chan struct{} // closed with each change
	arrived chan struct{} // a client came while there was none
}

func (h *hub) put(state []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if bytes.Equal(state, h.state) {
		return
	}
	h.state = state
	close(h.changed)
	h.changed = make(chan struct{})
}

// get is the newest state, and what tells that there is a newer one.
func (h *hub) get() ([]byte, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state, h.changed
}

// watching counts a client until the function it returns is called.
func (h *hub) watching() func() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.clients++; h.clients == 1 {
		select {
		case h.arrived <- struct{}{}:
		default:
		}
	}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.clients--
	}
}

func (h *hub) watched() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.clients > 0
}

// watcher looks at a project.
type watcher struct {
	Options
	hub   *hub
	tails map[string]*tail // of runs, by identity
	lines []string
	load  meter
	// looked is when it looked last; zero: never.
	looked time.Time

	shown    string // what the page shows, as a stamp
	building chan built
	searches []Search
	fault    string // why there is no page
}

// built is a page that is made.
type built struct {
	body, data []byte
	searches   []Search
	err        error
}

// watch looks at the project until the context ends.
func (w *watcher) watch(ctx context.Context) {
	every := cmp.Or(w.Every, time.Second)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if w.hub.watched() {
			w.tick(ctx)
		}
		select {
		case <-ctx.Done():
			if w.building != nil {
				<-w.building
			}
			return
		case <-ticker.C:
		case <-w.hub.arrived:
		}
	}
}

// tick looks once.
func (w *watcher) tick(ctx context.Context) {
	s := State{Holders: []Holder{}, Experiments: []Experiment{}, Runs: []Run{}, Load: w.load.read()}
	known, holders, err := w.Read(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return
		}
		s.Error = err.Error()
	} else {
		w.gap(known, time.Now())
		w.renew(ctx, known)
		w.look(&s, known, holders)
	}
	for _, f := range w.searches {
		s.Searches = append(s.Searches, f.Text)
	}
	s.Lines = slices.Clone(w.lines)
	if s.Error == "" {
		s.Error = w.fault
	}
	w.hub.mu.Lock()
	s.Version = w.hub.version
	w.hub.mu.Unlock()
	text, err := json.Marshal(s)
	if err != nil {
		return // it is made of numbers and texts
	}
	w.hub.put(text)
}

// longGap is after which time without a look the log says that it has a gap.
const longGap = 10 * time.Second

// gap says in the log that it does not have what happened while no browser looked.
func (w *watcher) gap(known *store.Snapshot, now time.Time) {
	since := now.Sub(w.looked)
	first := w.looked.IsZero()
	w.looked = now
	done := 0
	for _, run := range known.Runs {
		if run.State == store.Done {
			done++
		}
	}
	switch {
	case first && done > 0:
		w.note(fmt.Sprintf("%s %s done before; runner logs shows what was said.", plural.Of(done, "run"), plural.Form(done, "was", "were")))
	case !first && since > longGap:
		w.note(fmt.Sprintf("Nobody looked for %s; runner logs shows what was said.", since.Round(time.Second)))
		if len(w.searches) > 0 { // until the page is made again
			w.searches, w.shown = nil, unknown
		}
	}
}

// look fills in a state.
func (w *watcher) look(s *State, known *store.Snapshot, holders []store.Holder) {
	for _, h := range holders {
		s.Holders = append(s.Holders, Holder{h.PID, h.Host, h.Since.UTC().Format(time.RFC3339), h.Command})
	}
	at := map[string]int{}
	curves := 0
	seen := map[string]bool{}
	for _, l := range w.labels(known) {
		if w.Metrics != nil && w.Metrics[l.Experiment] == "" {
			continue
		}
		i, ok := at[l.Experiment]
		if !ok {
			i = len(s.Experiments)
			at[l.Experiment] = i
			s.Experiments = append(s.Experiments, Experiment{l.Experiment, map[string]int{}})
		}
		run := known.As(l)
		state := StateOf(run, len(holders) > 0)
		if run == nil { // its directory is not there
			run = &store.Run{}
		}
		if state == string(store.Paused) && w.over(l) {
			state = string(study.Pruned)
		}
		s.Experiments[i].Counts[state]++
		if state == string(store.Done) {
			if t := w.tails[run.ID]; t != nil && !seen[run.ID] { // its last words
				t.read(w.note)
				delete(w.tails, run.ID)
			}
			continue
		}
		if state == string(study.Pruned) { // it is over
			continue
		}
		if len(s.Runs) == mostRuns {
			s.More++
			continue
		}
		r := Run{Name: l.Name(), State: state, Reason: run.Reason, Step: run.Step, Steps: run.Steps}
		if run.Damage != nil {
			r.Reason = run.Damage.String()
		}
		if state == string(store.Running) && !seen[run.ID] {
			t := w.tails[run.ID]
			path := rundir.Dir(filepath.Join(w.Root, filepath.FromSlash(run.Working()))).Path(rundir.Journal)
			if t == nil || t.path != path {
				t = &tail{name: l.Name(), path: path}
				w.tails[run.ID] = t
			}
			t.metric, t.named = cmp.Or(w.Metrics[l.Experiment], "dice/mean"), run.Named
			t.read(w.note)
			t.fill(&r)
			if curves++; curves > mostCurves {
				r.Curve = nil
			}
		}
		seen[run.ID] = true
		s.Runs = append(s.Runs, r)
	}
	slices.SortStableFunc(s.Runs, func(a, b Run) int { return cmp.Compare(rank[a.State], rank[b.State]) })
}

// labels are the runs to show: those that are there, and those that were asked for and are
// not.
func (w *watcher) labels(known *store.Snapshot) []store.Label {
	all := known.Newest()
	there := map[string]bool{}
	for _, l := range all {
		there[l.Name()] = true
	}
	add := func(l store.Label) {
		if known.Runs[l.Run] == nil && !there[l.Name()] {
			there[l.Name()] = true
			all = append(all, l)
		}
	}
	for _, l := range w.Planned {
		add(l)
	}
	for _, e := range slices.Sorted(maps.Keys(known.Asked)) {
		if w.Planned == nil {
			for _, asked := range known.Asked[e].Runs {
				add(asked.Label)
			}
		}
	}
	return all
}

// over reports whether a run is a trial of a search that is over: where it paused it was
// pruned.
func (w *watcher) over(l store.Label) bool {
	cell, _, trial := experiment.CutTrial(l.Cell)
	return trial && slices.ContainsFunc(w.searches, func(s Search) bool { return s.Over && s.Experiment == l.Experiment && s.Cell == cell })
}

// rank is the order in which runs are shown.
var rank = map[string]int{"running": 0, "failed": 1, "damaged": 1, "interrupted": 2, "stopped": 2, "paused": 3, "queued": 4, "not started": 5}

// StateOf is the state of a run in the words of `runner status`.
func StateOf(run *store.Run, current bool) string {
	switch {
	case run == nil:
		return "not started"
	case run.Damage != nil:
		return "damaged"
	case run.State == store.Running && run.Holder == nil:
		return "interrupted"
	case run.State == store.Queued && !current:
		return "not started"
	}
	return string(run.State)
}

func (w *watcher) note(line string) {
	w.lines = append(w.lines, line)
	if n := len(w.lines) - mostLines; n > 0 {
		w.lines = slices.Delete(w.lines, 0, n)
	}
}

// renew takes a page that is made, and has one made where what is done has changed. One
// is made at a time.
func (w *watcher) renew(ctx context.Context, known *store.Snapshot) {
	if w.Page == nil {
		return
	}
	if w.building != nil {
		select {
		case b := <-w.building:
			w.building = nil
			w.take(b)
		default:
			return
		}
	}
	stamp := stampOf(known)
	if stamp == w.shown {
		return
	}
	w.shown = stamp
	w.building = make(chan built, 1)
	go func(to chan<- built) {
		var b built
		made, searches, err := w.Page(ctx, known)
		if b.err = err; err == nil {
			b.searches = searches
			if b.body, b.err = made.Body(); b.err == nil {
				b.data, b.err = made.Data()
			}
		}
		to <- b
	}(w.building)
}

func (w *watcher) take(b built) {
	if b.err != nil {
		w.fault = b.err.Error()
		w.shown = unknown // it is tried again
		return
	}
	w.fault, w.searches = "", b.searches
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.hub.version++
	w.hub.body, w.hub.data = b.body, b.data
}

// unknown is no stamp.
const unknown = "-"

// stampOf is what the page of a project follows from, but for curves of what trains.
func stampOf(known *store.Snapshot) string {
	var b bytes.Buffer
	for _, l := range known.Labels {
		run := known.Runs[l.Run]
		if run == nil {
			continue
		}
		state := run.State
		if state == store.Queued || state == store.Running || state == store.Stopped {
			state = "" // nothing of it is in the table
		}
		fmt.Fprintln(&b, l.Run, l.Name(), state, run.Summary != nil, len(run.Evaluations), len(run.Rungs))
	}
	return b.String()
}

// tail follows the journal of a run.
type tail struct {
	name, path string
	metric     string
	named      func(*spec.Metrics) *spec.Metrics

	at    int64 // how much is read
	curve [][2]page.Num
	skip  int // steps between points of the curve
	step  *spec.Step
	value *page.Num
	speed float64

	first, last seen // the first and the newest step that was found as it came
}

// seen is when a step was found.
type seen struct {
	step uint64
	at   time.Time
}

// left is how long the steps up to the last one take, at the pace since the first was
// found; 0 if that is not known.
func (t *tail) left(steps uint64) time.Duration {
	done := t.last.step - t.first.step
	if t.first.step == 0 || done == 0 || steps <= t.last.step {
		return 0
	}
	return t.last.at.Sub(t.first.at) * time.Duration(steps-t.last.step) / time.Duration(done)
}

// read reads what was written since. A resumed run cuts its journal back to its
// checkpoint and writes the steps after it again, so a journal that has become shorter
// is read from its start.
func (t *tail) read(note func(string)) {
	f, err := os.OpenFile(t.path, os.O_RDONLY, 0)
	if err != nil {
		return // it is not there yet, or no more
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	if info.Size() < t.at {
		*t = tail{name: t.name, path: t.path, metric: t.metric, named: t.named}
	}
	// A tick reads a part of a large journal, and the next what follows.
	text, err := io.ReadAll(io.NewSectionReader(f, t.at, min(info.Size()-t.at, 16<<20)))
	if err != nil && !errors.Is(err, io.EOF) {
		return
	}
	end := bytes.LastIndexByte(text, '\n') + 1
	t.at += int64(end)
	for line := range bytes.Lines(text[:end]) {
		event, err := rundir.UnmarshalEvent(line)
		if err == nil {
			t.take(event, note)
		}
	}
	if step := t.step.GetStep(); step > t.last.step {
		t.last = seen{step, time.Now()}
		if t.first.step == 0 {
			t.first = t.last
		}
	}
}

func (t *tail) take(event *spec.Event, note func(string)) {
	switch e := event.GetEvent().(type) {
	case *spec.Event_Started:
		note(fmt.Sprintf("%s  started at step %d", t.name, e.Started.GetStep()))
	case *spec.Event_Step:
		if t.step != nil && e.Step.GetStep() <= t.step.GetStep() { // resumed: it counts from here
			for len(t.curve) > 0 && uint64(t.curve[len(t.curve)-1][0]) >= e.Step.GetStep() {
				t.curve = t.curve[:len(t.curve)-1]
			}
		}
		t.step = e.Step
		if v := e.Step.GetImagesPerSecond(); v > 0 {
			t.speed = v
		}
		if t.skip = max(t.skip, 1); !e.Step.GetUncounted() && e.Step.GetStep()%uint64(t.skip) == 0 {
			if t.curve = append(t.curve, [2]page.Num{page.Num(e.Step.GetStep()), page.Num(e.Step.GetLoss())}); len(t.curve) > mostPoints {
				t.curve = thin(t.curve)
				t.skip *= 2
			}
		}
	case *spec.Event_Validation:
		text := fmt.Sprintf("%s  step %d", t.name, e.Validation.GetStep())
		if t.step != nil {
			text += fmt.Sprintf("  loss %.4f", t.step.GetLoss())
		}
		if v, ok := metric.Value(t.named(e.Validation.GetMetrics()), t.metric); ok {
			n := page.Num(v)
			t.value = &n
			text += fmt.Sprintf("  validation %s %.4f", t.metric, v)
		}
		if e.Validation.GetBest() {
			text += " (best)"
		}
		note(text)
	case *spec.Event_Evaluated:
		text := fmt.Sprintf("%s  evaluated on %s", t.name, e.Evaluated.GetDomain())
		if v, ok := metric.Value(t.named(e.Evaluated.GetMetrics()), t.metric); ok {
			text += fmt.Sprintf(": %s %.4f", t.metric, v)
		}
		note(text)
	case *spec.Event_Note:
		note(t.name + "  " + e.Note.GetText())
	}
}

// thin keeps every second point, and of each pair the one that is farther from the
// point before.
func thin(points [][2]page.Num) (out [][2]page.Num) {
	for i := 0; i+1 < len(points); i += 2 {
		a, b := points[i], points[i+1]
		if len(out) > 0 && abs(b[1]-out[len(out)-1][1]) > abs(a[1]-out[len(out)-1][1]) {
			a = b
		}
		out = append(out, a)
	}
	return out
}

func abs(n page.Num) page.Num { return max(n, -n) }

// fill adds the newest of a run.
func (t *tail) fill(r *Run) {
	r.Metric, r.Value, r.Curve = t.metric, t.value, t.curve
	if t.step == nil {
		return
	}
	loss := page.Num(t.step.GetLoss())
	r.Loss, r.Step = &loss, max(r.Step, t.step.GetStep())
	r.Left = int(t.left(r.Steps).Round(time.Second).Seconds())
	if t.speed > 0 {
		speed := page.Num(t.speed)
		r.Speed = &speed
	}
}
