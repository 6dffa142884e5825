package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/pilot"
	"github.com/loralab/loralab/runner/plan"
	"github.com/loralab/loralab/runner/provenance"
	"github.com/loralab/loralab/runner/slurm"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/study"
	"github.com/loralab/loralab/runner/view"
)

// applyOptions are the flags of apply.
type applyOptions struct {
	slots      int
	retries    int
	silence    time.Duration
	checkpoint time.Duration
	failFast   bool
	join       bool
	smoke      bool
	verify     bool
	track      []string
	on         string
	dry        bool
	detach     bool
	only       plan.Selection
	// tracking shows the runs in trackers; nil: in none.
	tracking *tracking
}

func (a *app) applyCommand() *cobra.Command {
	var o applyOptions
	c := &cobra.Command{
		Use:   "apply FILE... | PLAN",
		Short: "Run what is missing, then report",
		Long: `Apply runs what the files ask for and is not done yet:

  1. checks the files like validate, and every image and mask in use
  2. makes the plan and shows it
  3. trains and scores the runs, one after another on each device
  4. writes tables and figures

Nothing is done twice. The first Ctrl-C writes a checkpoint and stops, the second
kills; SIGTERM and a terminal that is closed do the same. Either way, and after any crash, the next apply continues where this
one ended. A run that crashes, hangs or runs out of memory is tried again from its last
checkpoint; any other failure ends that run alone.

With --join several applies share the work of a project, whatever their files: each
run is done by one of them, and what one leaves behind when it dies another takes.

With --smoke every cell runs two steps on a few images, under names of their own
(ablation_rank.smoke): it shows in a minute whether all of them work, and touches
nothing of the real runs.

With --on slurm the runs are done by workers that Slurm places, and apply watches them;
it may end, and the next one continues to watch. See: runner help slurm.

A plan that "runner plan --out" has saved is applied as it was shown, or refused if
anything moved since: what was to be run, what it is made of, or what is done.`,
		Example: "  runner apply experiments/ablation_rank.cue\n" +
			"  runner apply --smoke experiments/ablation_rank.cue\n" +
			"  runner apply -j 2 --set train.epochs=10 experiments/ablation_rank.cue",
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			a.afresh(o.verify)
			return a.apply(c.Context(), files, o)
		},
	}
	flags := c.Flags()
	flags.IntVarP(&o.slots, "jobs", "j", 0, "runs at once, each with an engine; 0: one on each device")
	flags.IntVar(&o.retries, "retry", 1, "how often a run is tried again that crashed, hung or ran out of memory")
	flags.DurationVar(&o.silence, "silence", time.Hour, "how long an engine may say nothing before it is killed as hung; 0: for ever")
	flags.DurationVar(&o.checkpoint, "checkpoint", time.Minute, "how much work a crash may cost; every epoch ends with a checkpoint too, and with train.evalSteps every validation instead")
	flags.BoolVar(&o.failFast, "fail-fast", false, "stop everything after the first run that failed")
	flags.BoolVar(&o.join, "join", false, "share the work with applies that are running")
	flags.BoolVar(&o.smoke, "smoke", false, "two steps of every cell, apart from the real runs")
	verifyFlag(c, &o.verify)
	trackFlag(c, "track", &o.track)
	flags.StringVar(&o.on, "on", onLocal, "where runs are done: local or slurm")
	flags.BoolVar(&o.dry, "dry-run", false, "with --on slurm, show what would be submitted, and submit nothing")
	flags.BoolVar(&o.detach, "detach", false, "with --on slurm, end when all is submitted")
	selectFlags(c, &o.only)
	a.setFlag(c)
	return c
}

func (a *app) apply(ctx context.Context, files []string, o applyOptions) (err error) {
	if o.slots < 0 || o.retries < 0 || o.silence < 0 || o.checkpoint < 0 {
		return errors.New("-j, --retry, --silence and --checkpoint take no negative numbers")
	}
	if err := o.places(); err != nil {
		return err
	}
	saved, files, only, err := a.saved(files, o.only)
	if err != nil {
		return err
	}
	o.only = only
	if slices.Contains(o.track, "wandb") && saved == nil {
		values, err := sweepValues(a.set, os.Getenv)
		if err != nil {
			return err
		}
		a.set = append(a.set, values...)
	}
	if saved != nil && o.smoke {
		return errors.New("a saved plan is of real runs: leave out --smoke")
	}
	p, err := a.ready(ctx, files, o)
	if err != nil {
		return err
	}
	if searches(p.experiments) {
		defer p.close() // trials are resolved as they are drawn
	} else {
		// Not needed beyond the plan, and not to be held for hours.
		p.close()
	}
	if o.on == onSlurm {
		if err := slurm.CheckRoot(p.root); err != nil {
			return err
		}
	}
	if o.smoke {
		if p.experiments, err = experiment.Smoke(ctx, a.index, p.experiments); err != nil {
			return err
		}
	}
	if o.dry {
		return a.dry(ctx, p, only, o)
	}
	lock, err := share(ctx, p.root, o.join)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	runs, err := store.Open(ctx, p.root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, runs.Close()) }()
	runs.As(lock)
	known, err := runs.Reconcile(ctx)
	if err != nil {
		return err
	}
	a.tell(known)
	made, studies, err := planned(ctx, p.experiments, known, only)
	if err != nil {
		return err
	}
	if saved != nil {
		if err := saved.Holds(made); err != nil {
			return err
		}
	}
	if err := a.computable(ctx, made, studies); err != nil {
		return err
	}
	if o.on == onSlurm {
		if _, err := resources(p.experiments, made); err != nil {
			return err
		}
	}
	a.view.Plan(made, view.PlanOptions{Searches: progressOf(studies)})
	if err := enqueue(ctx, runs, known, p.experiments, made); err != nil {
		return err
	}
	if err := settle(ctx, runs, made); err != nil {
		return err
	}
	if err := linkLogs(p.root, made); err != nil {
		return err
	}
	if err := lock.Share(); err != nil {
		return err
	}
	var totals launch.Totals
	works := len(made.Work()) > 0 || len(made.Searches) > 0
	if works {
		if o.tracking, err = a.follow(ctx, p, made, o); err != nil {
			return err
		}
		totals, err = a.execute(ctx, p, runs, known, made, studies, o)
		if o.tracking != nil {
			if behind := o.tracking.tracker.Close(closeGrace); behind > 0 {
				a.view.Behind(behind, slices.Concat(a.askedFor(), p.files))
			}
			o.tracking.before(ctx, p.root)
			a.view.Tracked(o.tracking.where())
		}
		if n := cancelledArrays(0); errors.As(err, &n) {
			a.view.Cancelled(int(n))
			return exitCode(1)
		}
		var cancelled *pilot.CancelledError
		if errors.As(err, &cancelled) {
			a.view.WereCancelled(cancelled.Error())
			return exitCode(1)
		}
		if err != nil && o.on == onSlurm {
			if left, e := pilot.Unended(p.root); e == nil && len(left) > 0 {
				a.view.Left()
			}
		}
		if err != nil {
			return err
		}
	}
	if totals.Stopped && o.on == onSlurm {
		a.view.Submitted()
		if o.detach && ctx.Err() == nil {
			return nil
		}
		return exitCode(1)
	}
	if totals.Stopped && (totals.Failed == 0 || !o.failFast) {
		a.view.Stopped(totals)
		return exitCode(1)
	}
	if len(made.Searches) > 0 {
		if made, err = compared(ctx, p, runs, only); err != nil {
			return err
		}
	}
	unscored := 0
	if len(made.Ensembles) > 0 {
		if unscored, err = a.scoreEnsembles(ctx, p, made.Ensembles); err != nil {
			return err
		}
		works = true
	}
	if err := a.report(ctx, p, works); err != nil {
		return err
	}
	if totals.Failed > 0 {
		a.view.SomeFailed(totals)
		return exitCode(1)
	}
	if unscored > 0 {
		return exitCode(1)
	}
	if out := leftOut(p.experiments); len(out) > 0 {
		a.view.LeftOut(out)
		return exitCode(1)
	}
	if n := made.Counts().Broken; n > 0 {
		a.view.Damaged(n)
		return exitCode(1)
	}
	return nil
}

// places checks the flags that say where runs are done.
func (o applyOptions) places() error {
	switch {
	case o.on != onLocal && o.on != onSlurm:
		return fmt.Errorf("--on takes local or slurm, not %q", o.on)
	case o.on == onLocal && (o.dry || o.detach):
		return errors.New("--dry-run and --detach are for --on slurm; see what would be run with: runner plan")
	case o.on == onSlurm && o.slots > 0:
		return errors.New("-j is of this machine; how many workers a cluster has is resources.workers of the experiment")
	}
	return nil
}

// dry shows what would be submitted to a cluster. It changes nothing.
func (a *app) dry(ctx context.Context, p *project, only plan.Selection, o applyOptions) error {
	known, err := a.snapshot(ctx, p.root)
	if err != nil {
		return err
	}
	made, _, err := planned(ctx, p.experiments, known, only)
	if err != nil {
		return err
	}
	return a.drySlurm(p, made, o)
}

// searches reports whether experiments have searches.
func searches(experiments []*experiment.Experiment) bool {
	return slices.ContainsFunc(experiments, func(e *experiment.Experiment) bool { return len(e.Studies) > 0 })
}

// planned is the plan of the selected runs of experiments, with what their searches have
// found, and the searches that are selected.
func planned(ctx context.Context, experiments []*experiment.Experiment, known *store.Snapshot, only plan.Selection) (*plan.Plan, []*study.Study, error) {
	studies, err := study.Read(ctx, known, experiments)
	if err != nil {
		return nil, nil, err
	}
	made, err := plan.Make(experiments, known, only)
	if err != nil {
		return nil, nil, err
	}
	var chosen []*study.Study
	for _, s := range studies {
		if !only.HasSearch(s.Study) {
			made.UnselectedSearches++
			continue
		}
		chosen = append(chosen, s)
		if s.Over() {
			continue
		}
		p, err := s.Planned()
		if err != nil {
			return nil, nil, err
		}
		made.Searches = append(made.Searches, p)
	}
	return made, chosen, nil
}

// progressOf is how far searches are.
func progressOf(studies []*study.Study) (all []study.Progress) {
	for _, s := range studies {
		all = append(all, s.Progress())
	}
	return all
}

// compared records that the experiments ask for what their searches have found.
func compared(ctx context.Context, p *project, runs *store.Store, only plan.Selection) (*plan.Plan, error) {
	known, err := runs.Reconcile(ctx)
	if err != nil {
		return nil, err
	}
	made, _, err := planned(ctx, p.experiments, known, only)
	if err != nil {
		return nil, err
	}
	if err := enqueue(ctx, runs, known, p.experiments, made); err != nil {
		return nil, err
	}
	return made, linkLogs(p.root, made)
}

// ready loads the files and refuses any error except failing plug-ins. If
// missing backbones are the only errors, it downloads them and loads again.
func (a *app) ready(ctx context.Context, files []string, o applyOptions) (*project, error) {
	env := experiment.Env{CheckData: true, KeepGoing: !o.failFast, Cluster: o.on == onSlurm}
	p, err := a.load(ctx, files, env)
	if err != nil {
		return nil, err
	}
	if p.found.OnlyErrorsAre(diagnostic.MissingBackbone) {
		p.close()
		env.Fetch = func(text string) { a.view.Say("%s", text) }
		if p, err = a.load(ctx, files, env); err != nil {
			return nil, err
		}
	}
	return a.accepted(p)
}

// leftOut are the cells whose plug-in fails.
func leftOut(experiments []*experiment.Experiment) []string {
	var names []string
	for _, e := range experiments {
		for _, cell := range e.LeftOut {
			names = append(names, e.Name+"/"+cell)
		}
	}
	return names
}

// share takes the lock of a project for an apply, beside others if it joins them.
func share(ctx context.Context, root string, join bool) (*store.Lock, error) {
	if join {
		return store.JoinProject(ctx, root, commandLine())
	}
	lock, err := store.LockProject(root, commandLine())
	var held *store.HeldError
	if errors.As(err, &held) {
		err = fmt.Errorf("%w; wait for it, stop it, or share the work with: runner apply --join", err)
	}
	return lock, err
}

// enqueue records what is asked for, and which cells known runs serve.
func enqueue(ctx context.Context, runs *store.Store, known *store.Snapshot, experiments []*experiment.Experiment, made *plan.Plan) error {
	var queue []*store.Run
	var labels []store.Label
	for _, action := range made.Actions {
		run := action.Run
		if run == nil {
			continue
		}
		if action.Symbol == plan.Broken {
			continue // it keeps what names it has
		}
		labels = append(labels, labelOf(run))
		if action.Stored != nil && action.Stored.Damage == nil {
			if err := runs.Rename(ctx, action.Stored, run.Spec); err != nil {
				return err
			}
		}
		if action.Stored != nil && !action.Stored.Unrecorded() || action.Shared != nil {
			continue
		}
		queued := &store.Run{
			ID: run.ID, Experiment: run.Experiment, Cell: run.Cell, Fold: run.Fold, Seed: run.Seed,
			Dir: store.DirOf(run.Experiment, run.ID),
		}
		if err := queued.SetSpec(run.Spec); err != nil {
			return err
		}
		queue = append(queue, queued)
	}
	var asked []*store.Asked
	for _, e := range experiments {
		all := &store.Asked{Experiment: e.Name}
		for _, run := range e.Runs {
			wanted := store.Wanted{Label: labelOf(run)}
			for _, e := range run.Evaluations {
				wanted.Evaluations = append(wanted.Evaluations, e.ID)
				wanted.Domains = append(wanted.Domains, e.Spec.GetDomain())
			}
			all.Runs = append(all.Runs, wanted)
		}
		asked = append(asked, all)
	}
	return runs.Enqueue(ctx, known, queue, labels, asked...)
}

func labelOf(run *experiment.Run) store.Label {
	return store.Label{Experiment: run.Experiment, Cell: run.Cell, Fold: run.Fold, Seed: run.Seed, Run: run.ID}
}

// settle records the end of runs that have all that was asked of them, but whose
// process was killed before it could say so.
func settle(ctx context.Context, runs *store.Store, made *plan.Plan) error {
	for _, action := range made.Actions {
		run := action.Stored
		if action.Symbol != plan.Done || run.State == store.Done || run.Holder != nil {
			continue
		}
		err := runs.Finish(ctx, run.ID, run.Summary)
		var other *store.ClaimedError
		if err != nil && !errors.As(err, &other) { // whoever has begun on it since says so himself
			return err
		}
	}
	return nil
}

// execute runs the work of a plan.
func (a *app) execute(ctx context.Context, p *project, runs *store.Store, known *store.Snapshot, made *plan.Plan, studies []*study.Study, o applyOptions) (_ launch.Totals, err error) {
	m := maker{p, func(ctx context.Context, id string) (*store.Run, error) { return runs.Get(ctx, id) }, o.tracking, map[string]*provenance.Source{}}
	var jobs []*launch.Job
	for _, action := range made.Work() {
		job, err := m.job(ctx, action.Run, m.experiment(action.Run).CellOf(action.Run))
		if err != nil {
			return launch.Totals{}, err
		}
		job.Train, job.Evaluations = action.Train, action.Evaluations
		jobs = append(jobs, job)
	}
	var source *study.Source
	var searching []*experiment.Study
	for _, s := range studies {
		if !s.Over() { // the plan has the runs of those that are
			searching = append(searching, s.Study)
		}
	}
	if len(searching) > 0 {
		source, err = study.NewSource(ctx, runs, study.Here, known, searching, func(run *experiment.Run, cell string) (*launch.Job, error) { return m.job(ctx, run, cell) })
		if err != nil {
			return launch.Totals{}, err
		}
		defer func() { err = errors.Join(err, source.Close()) }()
	}
	var on *placed
	if o.on == onSlurm {
		on, err = a.onCluster(ctx, p, runs, made, jobs, source, o)
	} else {
		on, err = a.here(ctx, p.root, runs, source, o)
	}
	if err != nil {
		return launch.Totals{}, err
	}
	metrics := map[string]string{}
	for _, e := range p.experiments {
		metrics[e.Name] = e.Metric
	}
	totals, err := a.launch(ctx, jobs, source, metrics, o.tracking, on)
	var refused *slurm.RefusedError
	if errors.As(err, &refused) {
		return totals, a.refused(p, made, refused)
	}
	return totals, err
}

// maker makes jobs of runs.
type maker struct {
	*project
	get      func(ctx context.Context, id string) (*store.Run, error)
	tracking *tracking
	sources  map[string]*provenance.Source // by experiment and cell
}

// experiment is that of a run.
func (m *maker) experiment(run *experiment.Run) *experiment.Experiment {
	i := slices.IndexFunc(m.experiments, func(e *experiment.Experiment) bool { return e.Name == run.Experiment })
	return m.experiments[i]
}

// job is the job of a run, in a cell of the file.
func (m *maker) job(ctx context.Context, run *experiment.Run, cell string) (job *launch.Job, err error) {
	of := run.Experiment + "/" + cell
	job = &launch.Job{
		Run: run, Stop: m.tracking.stopOf(run.ID), Dir: filepath.Join(m.root, filepath.FromSlash(store.DirOf(run.Experiment, run.ID))), Source: m.sources[of],
	}
	if job.Source == nil {
		if job.Source, err = provenance.ReadSource(m.root, m.experiment(run), cell); err != nil {
			return nil, err
		}
		m.sources[of] = job.Source
	}
	if run.Point != nil { // it has other values than the cell
		own := *job.Source
		if own.Values, err = m.experiment(run).ValuesOf(ctx, run); err != nil {
			return nil, err
		}
		job.Source = &own
	}
	if stored, err := m.get(ctx, run.ID); err == nil {
		job.Attempts = stored.Attempts
		job.Dir = filepath.Join(m.root, filepath.FromSlash(stored.Dir))
	}
	return job, nil
}

// placed is a launcher that is ready.
type placed struct {
	launcher func(launching) launch.Launcher
	// first and second are said after the first signal and the second.
	first, second string
	preempted     func()
	// continues says that a run that stops continues in another worker.
	continues bool
	// interrupted ends what a signal has begun to end; kill is closed after the second.
	interrupted func(kill <-chan struct{}) error
}

// launching is what a launcher tells of.
type launching struct {
	watch func(launch.Event)
	say   func(text string)
	kill  <-chan struct{}
	stop  func() // as a signal does
}

// launch runs jobs by a launcher and shows how they go.
func (a *app) launch(ctx context.Context, jobs []*launch.Job, source *study.Source, metrics map[string]string, t *tracking, on *placed) (launch.Totals, error) {
	var expected view.Expected
	if source != nil {
		expected = source
	}
	progress := a.view.Progress(jobs, expected, metrics)
	defer progress.Close()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ctx, kill, release := a.interrupts(ctx, progress, on)
	defer release() // before the progress, which a blocked output may hold
	watch := progress.Watch
	if t != nil {
		watch = func(e launch.Event) {
			if !on.continues || e.End == nil || e.End.Outcome != launch.Stopped {
				t.watch(e)
			}
			progress.Watch(e)
		}
		t.sayBy(progress.Note)
		defer t.sayBy(a.view.Warn)
	}
	totals, err := on.launcher(launching{watch, progress.Note, kill, stop}).Run(ctx, jobs)
	if totals.Stopped && ctx.Err() != nil {
		err = errors.Join(err, on.interrupted(kill))
	}
	return totals, err
}

// here runs jobs on this machine.
func (a *app) here(ctx context.Context, root string, runs *store.Store, source *study.Source, o applyOptions) (*placed, error) {
	engine, err := launch.EnginePath()
	if err != nil {
		return nil, err
	}
	origin, err := provenance.Capture(ctx, root, engine, slices.Concat([]string{"runner"}, os.Args[1:]))
	if err != nil {
		return nil, err
	}
	devices, err := launch.Devices(ctx)
	if err != nil {
		return nil, err
	}
	local := &launch.Local{
		Engine: engine, Records: runs.Records, Slots: launch.Divide(cmp.Or(o.slots, devices), devices), Retries: o.retries,
		FailFast: o.failFast, Silence: o.silence, Checkpoint: o.checkpoint, Origin: origin,
	}
	if source != nil {
		local.Source = source
	}
	return &placed{
		launcher: func(s launching) launch.Launcher {
			local.Watch, local.Kill = s.watch, s.kill
			if o.tracking != nil {
				o.tracking.stopBy(s.stop)
			}
			return local
		},
		first: "stopping after a checkpoint (again to kill)", second: "killing the engine",
		preempted: func() {
			if o.tracking != nil {
				o.tracking.tracker.Preempt()
			}
		},
		interrupted: func(<-chan struct{}) error {
			// All is written down: only a blocked output can keep it from ending.
			go func() {
				time.Sleep(endGrace)
				os.Exit(1)
			}()
			return nil
		},
	}, nil
}

// interrupts takes signals from the rest of the program: the first cancels the
// context, the second closes kill, and a third ends this process the hard way. No
// signal waits for the output, which may be blocked. Once released, any signal
// ends this process. On.preempted is called before the context is canceled, if a SIGTERM
// of Slurm says that the machine is taken away.
func (a *app) interrupts(ctx context.Context, progress *view.Progress, on *placed) (_ context.Context, kill <-chan struct{}, release func()) {
	close(a.taken)
	ctx, stop := context.WithCancel(ctx)
	hard, done := make(chan struct{}), make(chan struct{})
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, syscall.SIGQUIT) // Ctrl-\ ends it, without a page of goroutines
	heard := func() bool {
		select {
		case s := <-a.signals:
			if s == syscall.SIGTERM && os.Getenv("SLURM_JOB_ID") != "" {
				on.preempted()
			}
			return true
		case <-quit:
			os.Exit(128 + int(syscall.SIGQUIT))
			return true
		case <-done:
			return false
		}
	}
	go func() {
		if !heard() {
			return
		}
		stop()
		go progress.Note(on.first)
		if !heard() {
			return
		}
		signal.Stop(a.signals)
		signal.Stop(quit)
		close(hard)
		progress.Note(on.second)
	}()
	return ctx, hard, func() {
		signal.Stop(a.signals)
		signal.Stop(quit)
		close(done)
		stop()
	}
}

func dirOf(action *plan.Action) string {
	if action.Stored != nil {
		return action.Stored.Dir
	}
	return store.DirOf(action.Run.Experiment, action.Run.ID)
}

// linkLogs makes logs/<experiment>/<cell>-seed<seed>-<id>.jsonl (with folds,
// <cell>-fold<fold>-seed<seed>-<id>.jsonl) a link to the
// metrics of each run, which may not be there yet.
func linkLogs(root string, made *plan.Plan) error {
	var names []store.Label
	dirs := map[string]string{}
	for _, action := range made.Actions {
		if action.Run == nil {
			continue
		}
		names = append(names, labelOf(action.Run))
		if action.Shared == nil {
			dirs[action.Run.ID] = dirOf(action)
		}
	}
	return store.LinkLogs(root, names, dirs)
}
