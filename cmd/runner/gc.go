package main

import (
	"context"

	"github.com/loralab/loralab/runner/experiment"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/gc"
)

func (a *app) gcCommand() *cobra.Command {
	var yes, checkpoints, asJSON bool
	c := &cobra.Command{
		Use:   "gc [FILE...]",
		Short: "Show what nobody needs any more, and remove it with --yes",
		Long: `Gc shows what can be removed from a project, and why:

  with FILEs     runs of their experiments that the files, with the tags and
                 values given, do not ask for: cells that are gone, and older
                 specifications of cells that are there
  always         runs of apply --smoke with their reports, arrays of workers on
                 a cluster that have ended, and what killed processes left behind
  --checkpoints  the last checkpoint of runs that are done; the best one stays

Nothing is removed without --yes.`,
		Example: "  runner gc experiments/ablation_rank.cue\n  runner gc --yes --checkpoints",
		RunE: func(c *cobra.Command, files []string) error {
			root, items, err := a.garbage(c.Context(), files, checkpoints)
			if err != nil {
				return err
			}
			if asJSON && !yes {
				return a.view.JSON(gcJSON(items))
			}
			if !yes || len(items) == 0 {
				a.view.Garbage(root, items, false)
				return nil
			}
			return a.remove(c.Context(), root, items)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "remove what is shown")
	c.Flags().BoolVar(&checkpoints, "checkpoints", false, "last checkpoints of runs that are done, too")
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	c.MarkFlagsMutuallyExclusive("json", "yes")
	a.setFlag(c)
	return c
}

func (a *app) garbage(ctx context.Context, files []string, checkpoints bool) (string, []gc.Item, error) {
	var p *project
	if len(files) > 0 {
		var err error
		if p, err = a.sound(ctx, files, experiment.Env{}); err != nil {
			return "", nil, err
		}
		defer p.close()
	}
	root, known, err := a.known(ctx, files...)
	if err != nil {
		return "", nil, err
	}
	var items []gc.Item
	if p != nil {
		if items, err = gc.Runs(known, p.experiments); err != nil {
			return "", nil, err
		}
	}
	var experiments []*experiment.Experiment
	if p != nil {
		experiments = p.experiments
	}
	ensembles, err := gc.Ensembles(known, experiments)
	if err != nil {
		return "", nil, err
	}
	items = append(items, ensembles...)
	items = append(items, gc.Studies(known, experiments)...)
	items = append(items, gc.Smokes(known)...)
	if checkpoints {
		items = append(items, gc.Checkpoints(known, items)...)
	}
	left, err := gc.Leftovers(known)
	if err != nil {
		return "", nil, err
	}
	items = append(items, left...)
	return root, items, nil
}

func gcJSON(items []gc.Item) any {
	type item struct {
		Name  string `json:"name"`
		Run   string `json:"run,omitempty"`
		Why   string `json:"why"`
		Bytes int64  `json:"bytes"`
	}
	all := []item{}
	for _, i := range items {
		j := item{Name: i.Name, Why: i.Why, Bytes: i.Bytes}
		if i.Stored != nil {
			j.Run = i.Stored.ID
		}
		all = append(all, j)
	}
	return all
}
