package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/environ"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/pilot"
	"github.com/loralab/loralab/runner/plan"
	"github.com/loralab/loralab/runner/slurm"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/study"
)

// Where apply runs: the values of --on.
const (
	onLocal = "local"
	onSlurm = "slurm"
)

// defaultChunk is how many elements an array has at most where Slurm is not asked: its own
// default.
const defaultChunk = 1000

// resources are what workers of experiments get: what one says that has work, if all that
// have some say the same.
func resources(experiments []*experiment.Experiment, made *plan.Plan) (*experiment.Resources, error) {
	var of *experiment.Experiment
	for _, e := range experiments {
		switch {
		case !hasWork(e, made):
		case of != nil && !reflect.DeepEqual(of.Resources, e.Resources):
			return nil, fmt.Errorf("%s and %s have different resources: apply them one after another", of.Name, e.Name)
		default:
			of = e
		}
	}
	if of == nil {
		return nil, nil
	}
	return of.Resources, nil
}

// placesOfWorkers are variables of the environment that name places on the shared disk.
var placesOfWorkers = []string{"LORALAB_DATA", "LORALAB_ENGINE", "LORALAB_RESOURCES", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "XDG_DATA_HOME"}

// slurmJob is the script of workers with resources, for the project at root.
func slurmJob(root string, r *experiment.Resources) (slurm.Job, error) {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return slurm.Job{}, fmt.Errorf("finding this program for the nodes: %w", err)
	}
	job := slurm.Job{Resources: r, Runner: self, Env: map[string]string{}}
	for _, e := range environ.ForEngine(os.Environ()) {
		name, value, _ := strings.Cut(e, "=")
		place := slices.Contains(placesOfWorkers, name)
		if !place && !strings.HasPrefix(name, "LORALAB_") {
			continue
		}
		// Workers run in the root of the project, and this command need not.
		program := name == "LORALAB_ENGINE" || name == "LORALAB_PYTHON" // which PATH may have
		if value != "" && (place || program) && (!program || strings.Contains(value, "/")) {
			if value, err = filepath.Abs(value); err != nil {
				return slurm.Job{}, fmt.Errorf("finding $%s for the nodes: %w", name, err)
			}
		}
		job.Env[name] = value
		if place && value != "" {
			job.Bind = bind(job.Bind, root, value)
		}
	}
	if runs, err := filepath.EvalSymlinks(filepath.Join(root, "runs")); err == nil { // it may be on another disk
		job.Bind = bind(job.Bind, root, runs)
	}
	return job, nil
}

// bind adds a place to those that an image of a project is to see, where it does not yet. Of a
// file that is its directory.
func bind(all []string, root, place string) []string {
	info, err := os.Stat(place)
	if err != nil {
		return all // Apptainer refuses to start with it
	}
	if !info.IsDir() {
		place = filepath.Dir(place)
	}
	for _, dir := range append([]string{root}, all...) {
		if rel, err := filepath.Rel(dir, place); err == nil && filepath.IsLocal(rel) {
			return all
		}
	}
	return append(all, place)
}

// submission is what an apply submits: a script, and what its arrays have in common.
type submission struct {
	slurm.Job
	array pilot.Array
}

// submission is what is submitted for the work of a plan; nil where there is none.
func (a *app) submission(p *project, made *plan.Plan, o applyOptions) (*submission, error) {
	r, err := resources(p.experiments, made)
	if r == nil || err != nil {
		return nil, err
	}
	s := &submission{}
	if s.Job, err = slurmJob(p.root, r); err != nil {
		return nil, err
	}
	limit, err := r.Limit()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("reading the resources of workers: %w", err)
	}
	engine, _ := launch.EnginePath() // the nodes have to have it, and this machine need not
	s.array = pilot.Array{
		Command: os.Args[1:], Engine: engine, Workers: r.Workers, Limit: limit, Retries: o.retries, Silence: o.silence, Checkpoint: o.checkpoint,
		Resources: fmt.Sprintf("%x", sha256.Sum256(text)),
	}
	if len(made.Searches) > 0 {
		ask, err := a.ask(p, o.only)
		if err != nil {
			return nil, err
		}
		s.array.Asks = &pilot.Asks{Ask: ask, Smoke: o.smoke, Searches: map[string]string{}}
		for _, search := range made.Searches {
			s.array.Asks.Searches[search.Name] = search.Digest
		}
	}
	return s, nil
}

// drySlurm shows what would be submitted. It asks no Slurm.
func (a *app) drySlurm(p *project, made *plan.Plan, o applyOptions) error {
	s, err := a.submission(p, made, o)
	if err != nil {
		return err
	}
	if s == nil {
		a.view.Say("Nothing would be submitted: no run has anything to do.")
		return nil
	}
	runs := map[string]bool{}
	for _, action := range made.Work() {
		runs[action.Run.ID] = true
	}
	most := len(runs)
	for _, search := range made.Searches {
		most += search.Runs
	}
	array := s.array
	array.Name, array.Root, array.Chunk = "NAME", p.root, defaultChunk
	array.Workers = max(1, min(array.Workers, most))
	var scripts [][]string
	for _, chunk := range slurm.Chunks(&array) {
		text, err := s.Script(&array, chunk)
		if err != nil {
			return err
		}
		scripts = append(scripts, strings.Split(strings.TrimSuffix(text, "\n"), "\n"))
	}
	a.view.Scripts(scripts, array.Workers, pilot.Work(len(runs), len(made.Searches)))
	return nil
}

// onCluster runs jobs by workers of Slurm.
func (a *app) onCluster(ctx context.Context, p *project, runs *store.Store, made *plan.Plan, jobs []*launch.Job, source *study.Source, o applyOptions) (*placed, error) {
	s, err := a.submission(p, made, o)
	if err != nil {
		return nil, err
	}
	if _, err := launch.EnginePath(); err != nil {
		return nil, err
	}
	client := &slurm.Client{Script: s.Script}
	if s.array.Chunk, err = client.MaxArray(ctx); errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("there is no Slurm here, scontrol is not on PATH: apply where jobs are submitted, on a login node, or look at the script with --dry-run")
	}
	if err != nil {
		return nil, fmt.Errorf("asking Slurm for its limits: %w", err)
	}
	for _, job := range jobs {
		if err := runs.Free(ctx, job.Run.ID); err != nil {
			return nil, err
		}
	}
	return &placed{
		launcher: func(sh launching) launch.Launcher {
			return &pilot.Cluster{
				Root: p.root, Runs: runs, Scheduler: client, Template: s.array, Watch: sh.watch, Say: sh.say,
				Every: pollEvery(), Silence: silentAfter(), FailFast: o.failFast, Detach: o.detach, Searches: source,
			}
		},
		first: "leaving: workers continue (again within 3 s: cancel them)", second: "cancelling the workers",
		preempted: func() {}, continues: true,
		interrupted: func(kill <-chan struct{}) error {
			select {
			case <-kill:
				n, err := pilot.Cancel(context.WithoutCancel(ctx), p.root, client)
				if err == nil {
					err = cancelledArrays(n)
				}
				return err
			case <-time.After(leaveGrace):
				return nil
			}
		},
	}, nil
}

// refused shows what Slurm has refused, at the field that its words are about.
func (a *app) refused(p *project, made *plan.Plan, refused *slurm.RefusedError) error {
	i := slices.IndexFunc(p.experiments, func(e *experiment.Experiment) bool { return hasWork(e, made) })
	if i < 0 {
		return refused
	}
	e := p.experiments[i]
	fields := refused.Fields(e.Resources)
	field, d, err := e.ResourceAt(fields...)
	if err != nil {
		return errors.Join(refused, err)
	}
	d.Message, d.Hint = refused.Error(), slurm.Hint(field)
	if field == "" && len(fields) > 0 {
		d.Hint = fmt.Sprintf("write resources: %s; %s", fields[0], slurm.Hint(fields[0]))
	}
	a.view.Diagnostics(diagnostic.List{d})
	return exitCode(1)
}

// cancelledArrays is how many arrays a second Ctrl-C has cancelled, which ends an apply.
type cancelledArrays int

func (n cancelledArrays) Error() string {
	return fmt.Sprintf("cancelled %s", plural.Of(int(n), "array"))
}

// hasWork reports whether a plan has work of an experiment.
func hasWork(e *experiment.Experiment, made *plan.Plan) bool {
	return slices.ContainsFunc(made.Work(), func(a *plan.Action) bool { return a.Run.Experiment == e.Name }) ||
		slices.ContainsFunc(made.Searches, func(s plan.Search) bool { return s.Like.Experiment == e.Name })
}

// leaveGrace is how long after Ctrl-C a second one cancels the workers.
const leaveGrace = 3 * time.Second

// pollEvery is how often Slurm is asked; tests ask more often.
func pollEvery() time.Duration {
	d, _ := time.ParseDuration(os.Getenv("LORALAB_POLL"))
	return cmp.Or(d, 30*time.Second)
}

// silentAfter is after how long a worker that does not write is ended; tests wait less.
func silentAfter() time.Duration {
	d, _ := time.ParseDuration(os.Getenv("LORALAB_SILENT"))
	return d // 0: as package pilot has it
}
