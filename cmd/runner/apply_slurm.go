package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/loralab/loralab/runner/environ"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/pilot"
	"github.com/loralab/loralab/runner/plan"
	"github.com/loralab/loralab/runner/slurm"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/view"
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
		works := false
		for _, a := range made.Work() {
			works = works || a.Run.Experiment == e.Name
		}
		switch {
		case !works:
		case e.Resources == nil || e.Resources.Time == "":
			return nil, fmt.Errorf("%s says nothing of the time of workers; write resources: time: \"4h\" into %s", e.Name, filepath.Base(e.File))
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

// slurmJob is the script of workers with resources.
func slurmJob(r *experiment.Resources) (slurm.Job, error) {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return slurm.Job{}, fmt.Errorf("finding this program for the nodes: %w", err)
	}
	env := map[string]string{}
	for _, e := range environ.ForEngine(os.Environ()) {
		name, value, _ := strings.Cut(e, "=")
		if strings.HasPrefix(name, "LORALAB_") || name == "HF_HOME" || name == "XDG_CACHE_HOME" {
			env[name] = value
		}
	}
	return slurm.Job{Resources: r, Runner: self, Env: env}, nil
}

// template is what the arrays of an apply have in common.
func template(r *experiment.Resources, o applyOptions, engine string) (pilot.Array, error) {
	limit, err := r.Limit()
	if err != nil {
		return pilot.Array{}, err
	}
	return pilot.Array{
		Command: os.Args[1:], Engine: engine, Workers: r.Workers, Limit: limit,
		Retries: o.retries, Silence: o.silence, Checkpoint: o.checkpoint,
	}, nil
}

// drySlurm shows what would be submitted. It asks no Slurm.
func (a *app) drySlurm(root string, experiments []*experiment.Experiment, made *plan.Plan, o applyOptions) error {
	r, err := resources(experiments, made)
	if err != nil {
		return err
	}
	if r == nil {
		a.view.Say("Nothing would be submitted: no run has anything to do.")
		return nil
	}
	job, err := slurmJob(r)
	if err != nil {
		return err
	}
	engine, _ := launch.EnginePath() // the nodes have to have it, and this machine need not
	array, err := template(r, o, engine)
	if err != nil {
		return err
	}
	runs := map[string]bool{}
	for _, action := range made.Work() {
		runs[action.Run.ID] = true
	}
	array.Name, array.Root, array.Chunk = "NAME", root, defaultChunk
	array.Workers = max(1, min(array.Workers, len(runs)))
	var scripts [][]string
	for _, chunk := range slurm.Chunks(&array) {
		text, err := job.Script(&array, chunk)
		if err != nil {
			return err
		}
		scripts = append(scripts, strings.Split(strings.TrimSuffix(text, "\n"), "\n"))
	}
	a.view.Scripts(scripts, array.Workers, len(runs))
	return nil
}

// onCluster runs jobs by workers of Slurm.
func (a *app) onCluster(ctx context.Context, p *project, runs *store.Store, made *plan.Plan, jobs []*launch.Job, metrics map[string]string, o applyOptions) (launch.Totals, error) {
	r, err := resources(p.experiments, made)
	if err != nil {
		return launch.Totals{}, err
	}
	engine, err := launch.EnginePath()
	if err != nil {
		return launch.Totals{}, err
	}
	job, err := slurmJob(r)
	if err != nil {
		return launch.Totals{}, err
	}
	array, err := template(r, o, engine)
	if err != nil {
		return launch.Totals{}, err
	}
	client := &slurm.Client{Script: job.Script}
	if array.Chunk, err = client.MaxArray(ctx); err != nil {
		return launch.Totals{}, fmt.Errorf("asking Slurm for its limits: %w", err)
	}
	for _, job := range jobs {
		if err := runs.Free(ctx, job.Run.ID); err != nil {
			return launch.Totals{}, err
		}
	}
	progress := a.view.Progress(jobs, nil, metrics)
	defer progress.Close()
	ctx, kill, release := a.watching(ctx, progress)
	defer release()
	watch := progress.Watch
	if t := o.tracking; t != nil {
		watch = func(e launch.Event) {
			t.watch(e)
			progress.Watch(e)
		}
		t.sayBy(progress.Note)
		defer t.sayBy(a.view.Warn)
	}
	cluster := &pilot.Cluster{
		Root: p.root, Runs: runs, Scheduler: client, Template: array, Watch: watch, Say: progress.Note,
		Every: pollEvery(), Silence: silentAfter(), FailFast: o.failFast, Detach: o.detach,
	}
	totals, err := cluster.Run(ctx, jobs)
	if err != nil {
		var refused *slurm.RefusedError
		if errors.As(err, &refused) {
			return totals, fmt.Errorf("%w\nsee resources of the experiment: %s", err, relativeFile(p, made))
		}
		return totals, err
	}
	if ctx.Err() != nil {
		select {
		case <-kill:
			if _, err := pilot.Cancel(context.WithoutCancel(ctx), p.root, client); err != nil {
				return totals, err
			}
		case <-time.After(leaveGrace):
		}
	}
	return totals, nil
}

// relativeFile is the file of the experiment with work.
func relativeFile(p *project, made *plan.Plan) string {
	for _, e := range p.experiments {
		for _, action := range made.Work() {
			if action.Run.Experiment != e.Name {
				continue
			}
			if rel, err := filepath.Rel(p.root, e.File); err == nil {
				return rel
			}
			return e.File
		}
	}
	return ""
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

// watching is interrupts for an apply that only looks on.
func (a *app) watching(ctx context.Context, progress *view.Progress) (context.Context, <-chan struct{}, func()) {
	return a.interrupted(ctx, progress, func() {}, "leaving: workers continue (again within 3 s: cancel them)", "cancelling the workers")
}
