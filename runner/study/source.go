package study

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/search/sampler"
	"github.com/loralab/loralab/runner/search/space"
	"github.com/loralab/loralab/runner/store"
)

// A Source gives the jobs of searches to a launcher: trials while there is budget,
// then the best of each study on the seeds of the experiment. A trial is drawn when a
// slot is free for it, so that it knows of all that ended before.
type Source struct {
	studies []*active
	runs    Runs
	by      string
	job     func(run *experiment.Run, cell string) (*launch.Job, error)
	given   map[string]bool        // runs that are jobs now, by identity
	asked   map[string]*launch.Job // that Asked has returned, by run
	jobs    map[string]string      // the searches of those that are or were, by identity
	names   map[string]string      // runs by the names that they have

	mu sync.Mutex // of all of it, for Expected
}

// Runs is what searches ask of the runs of a project: of store.Store on the machine of an
// apply, of pilot.Worker on a node of a cluster.
type Runs interface {
	// Get is what the directory of a run says; the error wraps store.ErrRemoved where
	// there is none.
	Get(ctx context.Context, id string) (*store.Run, error)
	// Ask records that a run is asked for under a name. What is known of it stays.
	Ask(ctx context.Context, run *store.Run, as store.Label) error
	// Finish records that all that was asked of a run is there.
	Finish(ctx context.Context, id string, summary *spec.Summary) error
}

// Here is the by of processes whose files a lock keeps apart: those of one machine. Any
// other has a text that no other process has.
const Here = ""

// active is a study in progress.
type active struct {
	*Study
	source  *Source
	retests []*retest
	judged  bool // retests are known
	over    bool
	first   int // trial that was not there when the source was made
}

type retest struct {
	run   *experiment.Run
	given bool
}

// NewSource prepares searches. By says who asks, see Here. Known is the runs of the project as
// far as they are known; others are looked up. Job makes the job of a run of a cell of the file.
func NewSource(ctx context.Context, runs Runs, by string, known *store.Snapshot, studies []*experiment.Study,
	job func(run *experiment.Run, cell string) (*launch.Job, error),
) (*Source, error) {
	src := &Source{runs: runs, by: by, job: job, given: map[string]bool{}, asked: map[string]*launch.Job{}, jobs: map[string]string{}, names: map[string]string{}}
	for _, l := range known.Labels {
		src.names[l.Name()] = l.Run
	}
	for _, of := range studies {
		look := func(id string) (*store.Run, error) {
			run := known.Run(id)
			if run == nil {
				var err error
				if run, err = runs.Get(ctx, id); err != nil {
					return nil, err
				}
			}
			return run, src.settle(ctx, run)
		}
		of, err := openStudy(ctx, known.Root, look, of, true)
		src.studies = append(src.studies, &active{Study: of, source: src})
		if err != nil {
			return nil, errors.Join(err, src.Close())
		}
		of.dir.by = by
		src.studies[len(src.studies)-1].first = of.next
		of.dir.sweep()
	}
	return src, nil
}

// settle records the end of a run that is trained, but whose process was killed before
// it could say so.
func (src *Source) settle(ctx context.Context, run *store.Run) error {
	if run == nil || run.Summary == nil || run.State == store.Done || run.Holder != nil || run.Damage != nil {
		return nil
	}
	err := src.runs.Finish(ctx, run.ID, run.Summary)
	var other *store.ClaimedError
	if errors.As(err, &other) || errors.Is(err, store.ErrRemoved) {
		return nil
	}
	return err
}

// Close closes the directories of the studies.
func (src *Source) Close() error {
	var errs []error
	for _, a := range src.studies {
		if a.dir != nil {
			a.dir.sweep()
		}
		errs = append(errs, a.dir.close())
	}
	return errors.Join(errs...)
}

// Next is the next job; nil where there is none for now. Done says that there will be
// none.
func (src *Source) Next(ctx context.Context) (job *launch.Job, done bool, err error) {
	src.mu.Lock()
	defer src.mu.Unlock()
	done = true
	for _, a := range src.studies {
		if a.over {
			continue
		}
		job, err := a.job(ctx)
		if job != nil || err != nil {
			return job, false, err
		}
		done = done && a.over
	}
	return nil, done, nil
}

// Ended takes up how a job ended.
func (src *Source) Ended(job *launch.Job, end *launch.End) error {
	src.mu.Lock()
	defer src.mu.Unlock()
	id := job.Run.ID
	delete(src.given, id)
	for _, a := range src.studies {
		for _, t := range a.Trials {
			if slices.ContainsFunc(t.Runs, func(m Member) bool { return m.ID == id }) {
				if err := a.look(context.Background(), t); err != nil {
					return err
				}
				if end != nil && end.Outcome == launch.Finished && t.State == Open {
					if err := a.trained(t, id); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// trained checks that the directory of a run that has ended says so. Otherwise it
// would be trained again and again.
func (a *active) trained(t *Trial, id string) error {
	r, err := a.source.runs.Get(context.Background(), id)
	if err != nil || r.Summary != nil {
		return err
	}
	why := errors.New("it has no result")
	if r.Damage != nil {
		why = errors.New(r.Damage.String())
	}
	return fmt.Errorf("%s/%s has been trained, but its directory does not say so: %w", a.Experiment, t.Cell(a.Cell), why)
}

// Expected is how many runs of all studies are jobs, those included that were and, as far
// as is known, those that will be, and the best value so far.
func (src *Source) Expected() (runs int, note string) {
	src.mu.Lock()
	defer src.mu.Unlock()
	for _, a := range src.studies {
		runs += a.expected()
		if best := a.Best(); len(best) > 0 && !a.over {
			note = fmt.Sprintf("best %.3f", best[0].Value)
			if len(src.studies) > 1 {
				note += " of " + a.Cell
			}
		}
	}
	return runs, note
}

// expected is how many runs of a study are jobs. What was trained before is none, so a
// search that continues counts what it has left.
func (a *active) expected() (runs int) {
	for _, name := range a.source.jobs {
		if name == a.Name() {
			runs++
		}
	}
	if a.over {
		return runs
	}
	for _, t := range a.Trials {
		for _, m := range t.Runs {
			if t.State == Open && a.source.jobs[m.ID] == "" {
				runs++
			}
		}
	}
	if more := a.Study.Study.Trials - len(a.Trials); more > 0 && !a.exhausted {
		runs += more * len(a.Seeds)
	}
	if !a.judged {
		return runs + a.Top*len(a.RetestSeeds)
	}
	for _, r := range a.retests {
		if !r.given {
			runs++
		}
	}
	return runs
}

// look reads what became of a trial.
func (a *active) look(ctx context.Context, t *Trial) error {
	return a.update(t, func(id string) (*store.Run, error) { return a.source.runs.Get(ctx, id) })
}

// job is the next job of a study. Unfinished trials are first, in their order; then a
// trial that may continue; then a new one.
func (a *active) job(ctx context.Context) (*launch.Job, error) {
	for ctx.Err() == nil {
		if err := a.refresh(ctx); err != nil {
			return nil, err
		}
		for _, t := range a.Trials {
			if t.State == Open {
				if job, err := a.of(ctx, t); job != nil || err != nil {
					return job, err
				}
			}
		}
		if t, err := a.judge(); err != nil {
			return nil, err
		} else if t != nil {
			t.State = Open
			if job, err := a.of(ctx, t); job != nil || err != nil {
				return job, err
			}
			continue // another process has trained it on
		}
		if !a.spent() {
			ok, err := a.draw(ctx)
			if errors.Is(err, errUnseen) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			if ok {
				continue
			}
		}
		if slices.ContainsFunc(a.Trials, func(t *Trial) bool { return t.State == Open }) {
			return nil, nil // what ends may make others continue
		}
		if moved, err := a.settled(ctx); err != nil {
			return nil, err
		} else if moved {
			continue
		}
		return a.retest(ctx)
	}
	return nil, ctx.Err()
}

// judge has the pruner decide on the paused trials. It returns one that continues.
func (a *active) judge() (*Trial, error) {
	v := a.verdict()
	for _, number := range v.Stop {
		if t, _ := a.trial(number); t.State == Paused {
			if err := a.dir.prune(t.Number); err != nil {
				return nil, err
			}
			t.State, t.pruned = Pruned, true
		}
	}
	if len(v.Continue) == 0 {
		return nil, nil
	}
	t, _ := a.trial(v.Continue[0])
	if a.dir.isPruned(t.Number) {
		// By another process, which knew less.
		t.State, t.pruned = Pruned, true
		return a.judge()
	}
	return t, nil
}

// refresh reads the trials that other processes have drawn, and what became of those
// that are open and no job of this one.
func (a *active) refresh(ctx context.Context) error {
	if err := a.read(ctx, func(id string) (*store.Run, error) { return a.source.runs.Get(ctx, id) }); err != nil {
		return err
	}
	for _, t := range a.Trials {
		if t.State == Open && !slices.ContainsFunc(t.Runs, func(m Member) bool { return a.source.given[m.ID] }) {
			if err := a.look(ctx, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// settled looks a last time at the trials that wait before the best are known:
// another process may have continued some. It reports whether one has.
func (a *active) settled(ctx context.Context) (moved bool, err error) {
	if a.judged {
		return false, nil
	}
	return a.moved(ctx, a.Trials)
}

// moved looks at those of some trials that wait, and reports whether one has continued.
func (a *active) moved(ctx context.Context, of []*Trial) (moved bool, err error) {
	for _, t := range of {
		if t.State != Paused {
			continue
		}
		step := t.Step
		if err := a.look(ctx, t); err != nil {
			return false, err
		}
		moved = moved || t.State != Paused || t.Step != step
	}
	return moved, nil
}

// of is a job of an open trial; nil if all that it needs is in progress.
func (a *active) of(ctx context.Context, t *Trial) (*launch.Job, error) {
	for _, m := range t.Runs {
		if a.source.given[m.ID] {
			continue
		}
		stored, err := a.source.runs.Get(ctx, m.ID)
		if err != nil && !errors.Is(err, store.ErrRemoved) {
			return nil, err
		}
		pause := a.pause(t)
		if stored != nil && (stored.Summary != nil || pause != nil && slices.ContainsFunc(stored.Rungs, func(r store.Rung) bool { return r.Step >= pause.Step })) {
			continue
		}
		run, err := a.resolve(ctx, t, m)
		if err != nil {
			return nil, err
		}
		job, err := a.source.begin(ctx, run, a.Cell, true, nil)
		if err != nil {
			return nil, err
		}
		job.Pause, job.Trial = pause, true
		return job, nil
	}
	return nil, nil
}

// resolve makes the run of a trial again.
func (a *active) resolve(ctx context.Context, t *Trial, m Member) (*experiment.Run, error) {
	run, found := a.Resolve(ctx, t.Cell(a.Cell), t.Point, m.Seed)
	switch {
	case run == nil:
		return nil, fmt.Errorf("making trial %d of %s/%s again: %w", t.Number, a.Experiment, a.Cell, errors.New(inWords(found)))
	case run.ID != m.ID:
		return nil, fmt.Errorf("trial %d of %s/%s is another run than it was: what it is made of has moved; apply again", t.Number, a.Experiment, a.Cell)
	}
	run.Evaluations = nil
	return run, nil
}

// begin records that a run is asked for and makes its job.
func (src *Source) begin(ctx context.Context, run *experiment.Run, cell string, train bool, evaluations []experiment.Evaluation) (*launch.Job, error) {
	queued := &store.Run{ID: run.ID, Experiment: run.Experiment, Cell: run.Cell, Seed: run.Seed, Dir: store.DirOf(run.Experiment, run.ID)}
	if err := queued.SetSpec(run.Spec); err != nil {
		return nil, err
	}
	label := store.Label{Experiment: run.Experiment, Cell: run.Cell, Seed: run.Seed, Run: run.ID}
	_, err := src.runs.Get(ctx, run.ID)
	fresh := errors.Is(err, store.ErrRemoved)
	if err != nil && !fresh {
		return nil, err
	}
	// A run that continues keeps its name, and with it its place among others.
	if fresh || src.names[label.Name()] != run.ID {
		if err := src.runs.Ask(ctx, queued, label); err != nil {
			return nil, err
		}
		src.names[label.Name()] = run.ID
	}
	job, err := src.job(run, cell)
	if err != nil {
		return nil, err
	}
	job.Train, job.Evaluations = train, evaluations
	src.given[run.ID] = true
	if train || len(evaluations) > 0 {
		src.jobs[run.ID] = run.Experiment + "/" + cell
	}
	return job, nil
}

// errUnseen says that another process has made the next trial, and that the file system
// does not show it here yet.
var errUnseen = errors.New("the trial is not seen yet")

// draw makes a new trial, or reads one that another process has made meanwhile. It reports
// false where the space has no further point.
func (a *active) draw(ctx context.Context) (bool, error) {
	f := &file{Number: a.next, Cell: a.Cell, Key: a.key, Sampler: a.Sampler, Seed: a.Seed, Seen: a.news()}
	var runs []*experiment.Run
	for _, p := range a.Start {
		at, err := a.Encode(p)
		if err != nil {
			return false, fmt.Errorf("the point to start with, %v: %w", p, err)
		}
		if !slices.ContainsFunc(a.Trials, func(t *Trial) bool { return t.Start && t.at.Equal(at) }) {
			f.Point, f.Start = p, true
			break
		}
	}
	if f.Start {
		var why error
		if runs, why = a.runsOf(ctx, f.Number, f.Point); why != nil {
			return false, fmt.Errorf("the point to start with, %v: %w", f.Point, why)
		}
	} else {
		var err error
		if f.Point, runs, err = a.ask(ctx, f); err != nil || f.Point == nil {
			return false, err
		}
	}
	for _, r := range runs {
		f.Runs = append(f.Runs, run{r.Seed, r.ID})
	}
	err := a.dir.create(f)
	if err != nil && !errors.Is(err, errTaken) {
		return false, err
	}
	// What another process has made is read as well.
	if err := a.refresh(ctx); err != nil {
		return false, err
	}
	if a.next == f.Number {
		return false, errUnseen
	}
	return true, nil
}

// ask draws the point of a trial, and makes its runs; nil where the space has no
// further point.
func (a *active) ask(ctx context.Context, f *file) (Point, []*experiment.Run, error) {
	s, err := sampler.New(f.Sampler)
	if err != nil {
		return nil, nil, err
	}
	ask, err := a.question(ctx, f, told(a.told, f.Seen))
	if err != nil {
		return nil, nil, err
	}
	number := f.Number
	var runs []*experiment.Run
	var why error
	ask.Refuse = func(p space.Point) bool {
		runs, why = a.runsOf(ctx, number, a.Decode(p))
		return why != nil
	}
	p, err := s.Ask(ask)
	var refused *sampler.RefusedError
	switch {
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case errors.Is(err, sampler.ErrExhausted):
		a.exhausted = true
		return nil, nil, nil
	case errors.As(err, &refused):
		return nil, nil, fmt.Errorf("drawing trial %d of %s/%s: %w; the last: %w", number, a.Experiment, a.Cell, err, why)
	case err != nil:
		return nil, nil, fmt.Errorf("drawing trial %d of %s/%s: %w", number, a.Experiment, a.Cell, err)
	}
	return a.Decode(p), runs, nil
}

// runsOf makes the runs of a point; the error says why it has none.
func (s *Study) runsOf(ctx context.Context, number int, p []experiment.Setting) (runs []*experiment.Run, err error) {
	for _, seed := range s.Seeds {
		run, found := s.Resolve(ctx, experiment.TrialCell(s.Cell, number), p, seed)
		if run == nil {
			return nil, errors.New(inWords(found))
		}
		if s.Trainable > 0 {
			n, err := experiment.Trainable(run.Spec)
			if err != nil {
				return nil, err
			}
			if n > s.Trainable {
				return nil, fmt.Errorf("it trains %d parameters, and %d are allowed", n, s.Trainable)
			}
		}
		runs = append(runs, run)
	}
	return runs, nil
}

// compare makes the comparison of a study whose trials have ended.
func (a *active) compare(ctx context.Context) error {
	if a.judged {
		return nil
	}
	runs, err := a.retested(ctx)
	if err != nil {
		return err
	}
	for _, run := range runs {
		a.retests = append(a.retests, &retest{run: run})
	}
	a.judged = true
	return nil
}

// retest is the next job of the comparison.
func (a *active) retest(ctx context.Context) (*launch.Job, error) {
	if err := a.compare(ctx); err != nil {
		return nil, err
	}
	for _, r := range a.retests {
		if r.given {
			continue
		}
		if a.source.given[r.run.ID] {
			return nil, nil
		}
		if job, err := a.again(ctx, r); job != nil || err != nil {
			return job, err
		}
	}
	a.over = true
	return nil, nil
}

// again is the job of a run of the comparison; nil if all of it is there.
func (a *active) again(ctx context.Context, r *retest) (*launch.Job, error) {
	r.given = true
	stored, err := a.source.runs.Get(ctx, r.run.ID)
	if err != nil && !errors.Is(err, store.ErrRemoved) {
		return nil, err
	}
	train, missing := stored == nil || stored.Summary == nil, []experiment.Evaluation(nil)
	for _, e := range r.run.Evaluations {
		if train || stored.Evaluations[e.ID] == nil {
			missing = append(missing, e)
		}
	}
	job, err := a.source.begin(ctx, r.run, a.Cell, train, missing)
	if err != nil {
		return nil, err
	}
	if train || len(missing) > 0 {
		return job, nil
	}
	delete(a.source.given, r.run.ID)
	return nil, a.source.settle(ctx, stored)
}

// Asked is for a process that looks on while workers of a cluster ask: a job for each run
// of a trial that is to train or that was drawn since the source was made, and, once all trials of a study have ended, for each run of
// its comparison, that is there already or not. It records the names of these runs, which workers
// cannot. Over says that no trial of any study is to be drawn or trained. A job that was
// returned before is the same one.
func (src *Source) Asked(ctx context.Context) (jobs []*launch.Job, over bool, err error) {
	src.mu.Lock()
	defer src.mu.Unlock()
	over = true
	for _, a := range src.studies {
		of, err := a.asked(ctx)
		if err != nil {
			return nil, false, err
		}
		jobs = append(jobs, of...)
		over = over && a.judged
	}
	return jobs, over, nil
}

func (a *active) asked(ctx context.Context) (jobs []*launch.Job, err error) {
	add := func(id string, make func() (*launch.Job, error)) error {
		job := a.source.asked[id]
		if job == nil {
			if job, err = make(); err != nil {
				return err
			}
			delete(a.source.given, id) // to others
			a.source.asked[id] = job
		}
		jobs = append(jobs, job)
		return nil
	}
	if !a.judged {
		if err := a.refresh(ctx); err != nil {
			return nil, err
		}
		for moved := true; moved; {
			// Those that may continue have done so, as far as workers were there.
			var next []*Trial
			for _, number := range a.verdict().Continue {
				t, _ := a.trial(number)
				next = append(next, t)
			}
			if moved, err = a.moved(ctx, next); err != nil {
				return nil, err
			}
		}
		for _, t := range a.Trials {
			if t.State != Open && t.Number < a.first {
				continue
			}
			for _, m := range t.Runs {
				if err := add(m.ID, func() (*launch.Job, error) {
					run, err := a.resolve(ctx, t, m)
					if err != nil {
						return nil, err
					}
					job, err := a.source.begin(ctx, run, a.Cell, true, nil)
					if err == nil {
						job.Trial = true
					}
					return job, err
				}); err != nil {
					return nil, err
				}
			}
		}
		open := slices.ContainsFunc(a.Trials, func(t *Trial) bool { return t.State == Open })
		if !open && !a.exhausted {
			if a.exhausted, err = a.hasAll(ctx); err != nil {
				return nil, err
			}
		}
		if !a.Over() {
			return jobs, nil
		}
		if moved, err := a.settled(ctx); moved || err != nil {
			return jobs, err
		}
		if err := a.compare(ctx); err != nil {
			return nil, err
		}
	}
	for _, r := range a.retests {
		if err := add(r.run.ID, func() (*launch.Job, error) {
			r.given = true
			return a.source.begin(ctx, r.run, a.Cell, true, r.run.Evaluations)
		}); err != nil {
			return nil, err
		}
	}
	return jobs, nil
}

// Digests say what the searches are, by their names: see [plan.Search].
func (src *Source) Digests() (map[string]string, error) {
	all := map[string]string{}
	for _, a := range src.studies {
		digest, err := a.digest()
		if err != nil {
			return nil, err
		}
		all[a.Name()] = digest
	}
	return all, nil
}
