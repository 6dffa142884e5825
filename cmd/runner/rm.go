package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/gc"
	"github.com/loralab/loralab/runner/store"
)

func (a *app) rmCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "rm RUN...",
		Short: "Remove runs",
		Long: `Rm removes runs with all they left. RUN is the beginning of an id or a name, as
status shows them. The name of a cell or of an experiment stands for all its runs:
these are shown, and removed with --yes.

A run that other cells or experiments share is kept: only the names that were given
are taken off it. By its id it is removed under all its names, with --yes.`,
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
	items, ask, err := choose(known, refs)
	if err != nil {
		return err
	}
	if ask && !yes {
		a.view.Garbage(root, items, false)
		return nil
	}
	return a.remove(ctx, root, items)
}

// choose finds what refs mean: runs, and names of runs that are kept. Ask
// says that it is more than the one run that a reference names.
func choose(known *store.Snapshot, refs []string) (items []gc.Item, ask bool, err error) {
	var ids []string
	names := map[string][]store.Label{} // by run
	whole := map[string]bool{}
	for _, ref := range refs {
		labels, meant, err := known.Select(ref)
		if err != nil {
			return nil, false, err
		}
		if meant == store.Several {
			ask = true
			labels = known.All(labels)
		}
		for _, l := range labels {
			if names[l.Run] == nil {
				ids = append(ids, l.Run)
			}
			names[l.Run] = append(names[l.Run], l)
			whole[l.Run] = whole[l.Run] || meant == store.ByID
		}
	}
	for _, id := range ids {
		others := slices.DeleteFunc(known.Names(id), func(l store.Label) bool {
			return slices.ContainsFunc(names[id], func(n store.Label) bool { return n.Name() == l.Name() })
		})
		switch {
		case len(others) > 0 && whole[id]:
			ask = true
			items = append(items, gc.Run(known, known.Runs[id], "named by its id; also "+listed(others)))
		case len(others) > 0:
			items = append(items, gc.Names(known.Runs[id], names[id], "only this name: the run is also "+listed(others)))
		default:
			why := "named"
			if !slices.ContainsFunc(known.Newest(), func(l store.Label) bool { return l.Run == id }) {
				why = "named, of an older specification"
			}
			items = append(items, gc.Run(known, known.Runs[id], why))
		}
	}
	return items, ask, nil
}

// listed names runs in a sentence.
func listed(labels []store.Label) string {
	const most = 2
	var names []string
	for _, l := range labels[:min(most, len(labels))] {
		names = append(names, l.Name())
	}
	text := strings.Join(names, " and ")
	if more := len(labels) - most; more > 0 {
		text = fmt.Sprintf("%s and %d more", strings.Join(names, ", "), more)
	}
	return text
}

// remove removes items from the project at root, alone.
func (a *app) remove(ctx context.Context, root string, items []gc.Item) (err error) {
	runs, done, err := change(ctx, root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	left, err := gc.Remove(ctx, root, runs, items)
	for _, text := range left {
		a.view.Warn(text)
	}
	if err != nil {
		return err
	}
	a.view.Garbage(root, items, true)
	return nil
}
