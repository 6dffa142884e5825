package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/pilot"
	"github.com/loralab/loralab/runner/slurm"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/study"
	"github.com/loralab/loralab/runner/view"
)

func (a *app) statusCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status [FILE...]",
		Short: "Show where runs stand",
		Long: `Status shows the runs that the files ask for, or without files all runs of the
project that the current directory belongs to.`,
		Example: "  runner status\n  runner status -json experiments/ablation_rank.cue",
		RunE: func(c *cobra.Command, files []string) error {
			experiments, holders, on, err := a.status(c.Context(), files)
			if err != nil {
				return err
			}
			if asJSON {
				return a.view.StatusJSON(experiments, holders, on)
			}
			a.view.Status(experiments, holders, on)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	a.setFlag(c)
	return c
}

func (a *app) status(ctx context.Context, files []string) ([]view.Status, []store.Holder, view.Cluster, error) {
	root, experiments, holders, err := a.states(ctx, files)
	if err != nil {
		return nil, nil, view.Cluster{}, err
	}
	on, err := onClusterOf(ctx, root, experiments, holders)
	return experiments, holders, on, err
}

// patience is how long status waits for Slurm.
const patience = 10 * time.Second

// onClusterOf is what is known of the workers that were submitted for a project.
func onClusterOf(ctx context.Context, root string, experiments []view.Status, holders []store.Holder) (view.Cluster, error) {
	on := view.Cluster{}
	arrays, err := pilot.Unended(root)
	if err != nil {
		return on, err
	}
	elements, err := (&slurm.Client{Patience: patience}).Poll(ctx, arrays)
	if err != nil {
		on.Unknown = err.Error()
	}
	live := 0
	for _, a := range arrays {
		of := view.ClusterArray{Name: a.Name}
		of.Running, of.Waiting, of.Reasons = pilot.Count(a, elements)
		live += of.Running + of.Waiting
		on.Arrays = append(on.Arrays, of)
	}
	command, err := pilot.LastCommand(root)
	if live == 0 && on.Unknown == "" && len(holders) == 0 && command != nil {
		on.Left, on.Command = view.Left(experiments), "runner"
		for _, word := range command {
			on.Command += " " + slurm.Quote(word)
		}
	}
	return on, err
}

// states are those of runs, and who works on them.
func (a *app) states(ctx context.Context, files []string) (string, []view.Status, []store.Holder, error) {
	var p *project
	root, err := rootOf(files)
	if err == nil && len(files) > 0 {
		if p, err = a.sound(ctx, files, experiment.Env{}); err == nil {
			defer p.close()
		}
	}
	if err != nil {
		return "", nil, nil, err
	}
	known, err := a.snapshot(ctx, root)
	if err != nil {
		return "", nil, nil, err
	}
	holders, err := store.Holders(root)
	if err != nil {
		return "", nil, nil, err
	}
	holders = append(holders, known.Workers()...)
	if p == nil {
		return root, all(known, len(holders) > 0), holders, nil
	}
	searches, err := study.Read(ctx, known, p.experiments)
	if err != nil {
		return "", nil, nil, err
	}
	var experiments []view.Status
	for _, e := range p.experiments {
		s := view.Status{Experiment: e.Name, Metric: e.Metric}
		for _, run := range e.Runs {
			stored := known.Run(run.ID)
			if stored != nil {
				wanted := store.Wanted{}
				for _, e := range run.Evaluations {
					wanted.Evaluations = append(wanted.Evaluations, e.ID)
					wanted.Domains = append(wanted.Domains, e.Spec.GetDomain())
				}
				stored = stored.For(wanted)
				stored.NameClasses(run.Spec.GetData().GetClasses())
			}
			s.Runs = append(s.Runs, view.StatusRun{
				Name: run.Name(), ID: run.ID, Stored: stored, Current: len(holders) > 0,
			})
		}
		for _, of := range searches {
			if of.Experiment != e.Name {
				continue
			}
			s.Searches = append(s.Searches, of.Progress())
			for _, t := range of.Trials {
				for _, m := range t.Runs {
					l := store.Label{Experiment: e.Name, Cell: t.Cell(of.Cell), Seed: m.Seed, Run: m.ID}
					s.Runs = append(s.Runs, view.StatusRun{Name: l.Name(), ID: m.ID, Stored: known.As(l), Current: len(holders) > 0, Over: of.Over()})
				}
			}
		}
		experiments = append(experiments, s)
	}
	return root, experiments, holders, nil
}

// all is the newest run of every cell that ever had one, by experiment.
func all(known *store.Snapshot, current bool) []view.Status {
	over := map[string]bool{} // searches, by experiment and cell
	for _, asked := range known.Asked {
		for _, l := range asked.Runs { // what a search has found is asked for once it is over
			cell := l.Cell
			if cell == experiment.BestCell {
				cell = experiment.BaseCell
			}
			over[l.Experiment+"/"+cell] = true
		}
	}
	var experiments []view.Status
	for _, l := range known.Newest() {
		i := slices.IndexFunc(experiments, func(s view.Status) bool { return s.Experiment == l.Experiment })
		if i < 0 {
			i = len(experiments)
			experiments = append(experiments, view.Status{Experiment: l.Experiment, Metric: "dice/mean"})
		}
		of, _, trial := experiment.CutTrial(l.Cell)
		experiments[i].Runs = append(experiments[i].Runs, view.StatusRun{
			Name: l.Name(), ID: l.Run, Stored: known.As(l), Current: current, Over: trial && over[l.Experiment+"/"+of],
		})
	}
	return experiments
}
