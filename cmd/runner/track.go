package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/plan"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/track"
)

func (a *app) trackCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "track",
		Short: "Show runs in TensorBoard or Weights & Biases",
		Long: `Track shows runs that are done in trackers, and sends what was logged offline.
Runs are shown while they train where the experiment says so, or with
"runner apply --track". See also: runner help tracking.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, args []string) error { return c.Help() },
	}
	c.AddCommand(a.trackPushCommand(), a.trackSyncCommand())
	return c
}

// trackers are what runs can be shown in.
var trackers = []string{"tensorboard", "wandb"}

func trackFlag(c *cobra.Command, name string, to *[]string) {
	c.Flags().StringSliceVar(to, name, nil, "show runs in `tensorboard` or wandb, in addition to what the files say; may be repeated")
	if err := c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(trackers, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is there
	}
}

func (a *app) trackPushCommand() *cobra.Command {
	var to []string
	wait := time.Minute
	c := &cobra.Command{
		Use:   "push FILE...",
		Short: "Show runs that are done",
		Long: `Push shows the trained runs of experiments, and trials that were pruned, in the trackers
that they name and in those of --to: each step, the scores of the domains, samples and the
end. What a tracker has already is left out, so pushing twice adds nothing. What W&B lacks
of logs on disk is sent as "track sync" does, unless its mode is offline. The history of a run has no times:
its steps are spread evenly over the time that the run took.`,
		Example: "  runner track push --to tensorboard experiments/ablation_rank.cue",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			if wait <= 0 {
				return errors.New("--wait is a time above 0: 90s or 5m")
			}
			return a.push(c.Context(), files, to, wait)
		},
	}
	c.Flags().DurationVar(&wait, "wait", wait, "wait this long for a server that does not answer")
	trackFlag(c, "to", &to)
	a.setFlag(c)
	return c
}

func (a *app) push(ctx context.Context, files, to []string, wait time.Duration) error {
	p, err := a.sound(ctx, files, experiment.Env{})
	if err != nil {
		return err
	}
	defer p.close()
	known, err := a.snapshot(ctx, p.root)
	if err != nil {
		return err
	}
	var labels []store.Label
	listed := map[store.Label]bool{}
	over := func(l store.Label) bool {
		run := known.Runs[l.Run]
		return run != nil && (run.Summary != nil || run.State == store.Paused) && run.Damage == nil && run.Holder == nil
	}
	experiments := map[string]*experiment.Experiment{}
	for _, e := range p.experiments {
		experiments[e.Name] = e
		for _, run := range e.Runs { // also those that another experiment has trained
			if l := labelOf(run); over(l) {
				labels = append(labels, l)
				listed[l] = true
			}
		}
	}
	for _, l := range known.Newest() { // trials, and what is trained after them
		if e := experiments[l.Experiment]; e != nil && e.Searches(l.Cell) && over(l) && !listed[l] {
			labels = append(labels, l)
		}
	}
	t, err := newTracking(p, to, len(labels) == 1, func(text string) { a.view.Aside("%s", text) })
	if err != nil {
		return err
	}
	if len(t.sinks) == 0 {
		return errors.New(`the experiments name no tracker: write "track: tensorboard: true", or add --to tensorboard`)
	}
	for _, sinks := range t.sinks {
		for _, s := range sinks {
			if w, ok := s.(*track.WandB); ok {
				w.WaitFor(wait)
			}
		}
	}
	var shown []track.Shown
	for _, l := range labels {
		shown = append(shown, t.shown(l, filepath.Join(p.root, filepath.FromSlash(known.Runs[l.Run].Dir)), slices.Sorted(maps.Keys(known.Runs[l.Run].Evaluations)))...)
	}
	failures := track.Failures{Most: 5}
	type run struct{ sink, id string }
	pushed := map[run]bool{}
	err = track.Push(ctx, p.root, shown, func(s track.Shown, err error) {
		if err != nil {
			if line := failures.Add(s, err); line != "" {
				a.view.Warn(line)
			}
			return
		}
		t.shows(s)
		pushed[run{t.shownIn(s.Sink), s.Run.ID}] = true
	})
	for _, more := range failures.More() {
		a.view.Warn(more)
	}
	counts := map[string]int{}
	for r := range pushed {
		counts[r.sink]++
	}
	if len(shown) == 0 {
		a.view.Say("no run of these experiments is done")
	}
	a.view.Pushed(counts)
	a.view.Tracked(t.where())
	if err != nil {
		return err
	}
	if failures.Any() {
		return exitCode(1)
	}
	return nil
}

// tracking is the sinks of the experiments of a command.
type tracking struct {
	project     *project
	experiments map[string]*experiment.Experiment
	sinks       map[string][]track.Sink // by experiment
	single      bool
	names       map[string][]track.Shown // by run
	done        []track.Shown            // of runs that were done before
	reached     map[track.Sink][]string  // experiments with a run in the sink
	tracker     *track.Tracker           // nil: runs are not followed

	mu    sync.Mutex
	say   func(string)
	stops map[string]chan struct{} // by run, closed when somebody has stopped it
	// stopAll stops the whole command after checkpoints.
	stopAll func()
}

// stopOf is closed when somebody stops a run in a tracker.
func (t *tracking) stopOf(run string) <-chan struct{} {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stopOfLocked(run)
}

func (t *tracking) stopOfLocked(run string) chan struct{} {
	if t.stops[run] == nil {
		t.stops[run] = make(chan struct{})
	}
	return t.stops[run]
}

// stop ends a run after a checkpoint. Of a trial it ends the command, since the search
// would continue the trial at once.
func (t *tracking) stop(run track.Run) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if run.Search && t.stopAll != nil {
		t.stopAll()
		return
	}
	select {
	case <-t.stopOfLocked(run.ID):
	default:
		close(t.stops[run.ID])
	}
}

// sayBy changes how lines for people are shown: while runs train, by their progress.
func (t *tracking) sayBy(say func(string)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.say = say
}

// stopBy says what stops the command.
func (t *tracking) stopBy(stop func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopAll = stop
}

// tell shows a line.
func (t *tracking) tell(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.say(text)
}

// newTracking makes the sinks that experiments name, and those of a flag. Single says
// that there is one run.
func newTracking(p *project, flag []string, single bool, say func(string)) (*tracking, error) {
	for _, name := range flag {
		if !slices.Contains(trackers, name) {
			return nil, fmt.Errorf("there is no tracker %q; %s", name, diagnostic.Suggest(name, "there are", trackers))
		}
	}
	t := &tracking{
		project: p, single: single, say: say, experiments: map[string]*experiment.Experiment{}, sinks: map[string][]track.Sink{}, names: map[string][]track.Shown{},
		stops: map[string]chan struct{}{},
	}
	pages := map[experiment.TrackWandB]track.Sink{} // one says where it is
	for _, e := range p.experiments {
		t.experiments[e.Name] = e
		var sinks []track.Sink
		if e.Track.TensorBoard || slices.Contains(flag, "tensorboard") {
			sinks = append(sinks, track.TensorBoard{})
		}
		w := e.Track.WandB
		if w == nil && slices.Contains(flag, "wandb") {
			w = &experiment.TrackWandB{}
		}
		if w != nil {
			if _, ok := pages[*w]; !ok {
				sink, err := track.NewWandB(p.root, *w, os.Getenv, single, t.tell)
				if err != nil {
					return nil, fmt.Errorf("settings of W&B: %w", err)
				}
				pages[*w] = nil
				if sink != nil {
					pages[*w] = sink
				}
			}
			if sink := pages[*w]; sink != nil {
				sinks = append(sinks, sink)
			}
		}
		if len(sinks) > 0 {
			t.sinks[e.Name] = sinks
		}
	}
	return t, nil
}

// shows keeps for where that a sink has a run.
func (t *tracking) shows(s track.Shown) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reached == nil {
		t.reached = map[track.Sink][]string{}
	}
	if of := t.reached[s.Sink]; !slices.Contains(of, s.Run.Experiment) {
		t.reached[s.Sink] = append(of, s.Run.Experiment)
	}
}

// shownIn is what shows the runs that a sink has: the logs on disk, where nothing is sent.
func (t *tracking) shownIn(s track.Sink) string {
	if w, ok := s.(*track.WandB); ok && w.Offline() {
		return "the log of " + s.Name()
	}
	return s.Name()
}

// where is how people see the runs, in the sinks that have any.
func (t *tracking) where() (lines []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var sinks []track.Sink
	for _, e := range t.project.experiments {
		for _, s := range t.sinks[e.Name] {
			if t.reached[s] != nil && !slices.Contains(sinks, s) {
				sinks = append(sinks, s)
			}
		}
	}
	for _, s := range sinks {
		for _, line := range s.Where(t.reached[s]) {
			lines = append(lines, s.Name()+": "+line)
		}
	}
	return lines
}

// shown is a run under one name in the sinks of its experiment. Evaluations are those to
// show where the file does not name the run.
func (t *tracking) shown(l store.Label, dir string, evaluations []string) (all []track.Shown) {
	e := t.experiments[l.Experiment]
	if e == nil || len(t.sinks[e.Name]) == 0 {
		return nil
	}
	run := track.Run{
		ID: l.Run, Experiment: l.Experiment, Cell: l.Cell, Fold: l.Fold, Seed: l.Seed, Dir: dir,
		Metric: e.Metric, Varied: varied(e), Single: t.single,
	}
	for _, id := range evaluations {
		run.Evaluations = append(run.Evaluations, track.Evaluation{ID: id})
	}
	_, _, run.Search = experiment.CutTrial(l.Cell)
	for _, r := range e.Runs {
		if r.ID == l.Run && r.Cell == l.Cell {
			var ids []string
			var specs []*spec.Evaluation
			for _, evaluation := range r.Evaluations {
				ids, specs = append(ids, evaluation.ID), append(specs, evaluation.Spec)
			}
			run.Evaluations = track.Asked(ids, specs)
		}
	}
	if t.tracker != nil {
		run.Stop = func() { t.stop(run) }
	}
	for _, sink := range t.sinks[e.Name] {
		all = append(all, track.Shown{Run: run, Sink: sink})
	}
	return all
}

// varied are the paths that tell the cells and trials of an experiment apart.
func varied(e *experiment.Experiment) []string {
	paths := slices.Clone(e.Axes)
	for _, s := range e.Studies {
		for i := range s.Space.Len() {
			if path := s.Space.Param(i).Name; !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// closeGrace is how long an apply waits at its end for trackers.
const closeGrace = 15 * time.Second

// follow begins to show what an apply works on, nil where no experiment is tracked.
func (a *app) follow(ctx context.Context, p *project, made *plan.Plan, o applyOptions) (*tracking, error) {
	single := len(made.Work()) == 1 && len(made.Searches) == 0
	t, err := newTracking(p, o.track, single, a.view.Warn)
	if err != nil || len(t.sinks) == 0 || o.smoke {
		return nil, err
	}
	t.tracker = track.New(ctx, p.root, t.tell)
	for _, action := range made.Actions {
		if action.Run == nil {
			continue
		}
		dir := filepath.Join(p.root, filepath.FromSlash(dirOf(action)))
		if action.Shared != nil {
			dir = filepath.Join(p.root, filepath.FromSlash(dirOf(action.Shared)))
		}
		shown := t.shown(labelOf(action.Run), dir, nil)
		t.names[action.Run.ID] = append(t.names[action.Run.ID], shown...)
		if action.Symbol == plan.Done {
			t.done = append(t.done, shown...)
		}
	}
	return t, nil
}

// before shows in TensorBoard what was done before the apply and has no event files, and
// says how many of these runs W&B lacks: sending them is for "runner track push".
func (t *tracking) before(ctx context.Context, root string) {
	for _, s := range t.tracker.Reached() {
		t.shows(s)
	}
	var files []track.Shown
	logged := map[*track.WandB][]track.Run{}
	var sinks []*track.WandB
	for _, s := range t.done {
		switch sink := s.Sink.(type) {
		case track.TensorBoard:
			if !sink.Shows(root, &s.Run) {
				files = append(files, s)
			}
		case *track.WandB:
			if logged[sink] == nil {
				sinks = append(sinks, sink)
			}
			logged[sink] = append(logged[sink], s.Run)
		}
	}
	lacks := map[*track.WandB]int{}
	for _, sink := range sinks {
		if n, err := sink.Lacking(logged[sink]); err == nil { // else push says what is wrong
			lacks[sink] = n
		}
	}
	failures := track.Failures{}
	err := track.Push(ctx, root, files, func(s track.Shown, err error) {
		if err == nil {
			t.shows(s)
		} else if line := failures.Add(s, err); line != "" {
			t.tell(line)
		}
	})
	for _, line := range failures.More() {
		t.tell(line)
	}
	if err != nil {
		return // stopped
	}
	for _, sink := range sinks {
		n := lacks[sink]
		if n == 0 {
			continue
		}
		t.tell(fmt.Sprintf("%s lacks %s that %s done before; \"runner track push\" adds %s", sink.Name(), plural.Of(n, "run"), plural.Form(n, "was", "were"), plural.Form(n, "it", "them")))
	}
}

// watch takes up what happens to the runs of an apply.
func (t *tracking) watch(e launch.Event) {
	switch {
	case e.Start != nil:
		run := e.Job.Run
		shown := t.names[run.ID]
		if shown == nil { // of a search
			var evaluations []string
			for _, e := range run.Evaluations {
				evaluations = append(evaluations, e.ID)
			}
			shown = t.shown(labelOf(run), e.Job.Dir, evaluations)
		}
		t.tracker.Follow(run.ID, shown)
	case e.End != nil:
		t.tracker.Ended(e.Job.Run.ID)
	}
}
