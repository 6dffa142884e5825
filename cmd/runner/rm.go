package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/gc"
)

func (a *app) rmCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "rm RUN...",
		Short: "Remove runs",
		Long: `Rm removes runs with all they left. RUN is the beginning of an id or a name, as
status shows them. The name of a cell or of an experiment stands for all its runs:
these are shown, and removed with --yes.`,
		Example:           "  runner rm ablation_rank/rank=8/seed=1\n  runner rm --yes ablation_rank.smoke",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeRuns,
		RunE: func(c *cobra.Command, refs []string) error {
			return a.rm(c.Context(), refs, yes)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "remove all that the names stand for")
	return c
}

func (a *app) rm(ctx context.Context, refs []string, yes bool) error {
	root, known, err := a.known(ctx)
	if err != nil {
		return err
	}
	var items []gc.Item
	seen := map[string]bool{}
	several := false
	for _, ref := range refs {
		labels, err := known.Select(ref)
		if err != nil {
			return err
		}
		several = several || len(labels) > 1
		for _, l := range labels {
			if !seen[l.Run] {
				seen[l.Run] = true
				items = append(items, gc.Run(root, known, known.Runs[l.Run], "named"))
			}
		}
	}
	if several && !yes {
		a.view.Garbage(root, items, false)
		return nil
	}
	return a.remove(ctx, root, items)
}

// remove removes items from the project at root, alone.
func (a *app) remove(ctx context.Context, root string, items []gc.Item) (err error) {
	runs, done, err := change(ctx, root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if err := gc.Remove(ctx, root, runs, items); err != nil {
		return err
	}
	a.view.Garbage(root, items, true)
	return nil
}
