package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/store"
)

// known is what is known of the runs of the project that files, or without any
// the current directory, belong to.
func (a *app) known(ctx context.Context, files ...string) (string, *store.Snapshot, error) {
	root, err := rootOf(files)
	if err != nil {
		return "", nil, err
	}
	known, err := a.snapshot(ctx, root)
	return root, known, err
}

// snapshot is what is known of the runs of the project at root. It warns of what
// was left out.
func (a *app) snapshot(ctx context.Context, root string) (*store.Snapshot, error) {
	known, err := store.Read(ctx, root)
	if err == nil {
		a.tell(known)
	}
	return known, err
}

// tell shows the notes of a snapshot.
func (a *app) tell(known *store.Snapshot) {
	for _, note := range known.Notes {
		a.view.Warn(note)
	}
}

// change opens the store of the project at root for one that changes what others
// may be working with, alone; close gives everything back.
func change(ctx context.Context, root string) (_ *store.Store, close func() error, err error) {
	lock, err := store.LockProject(root, commandLine())
	var held *store.HeldError
	if errors.As(err, &held) {
		err = fmt.Errorf("%w; wait for it or stop it", err)
	}
	if err != nil {
		return nil, nil, err
	}
	runs, err := store.Open(ctx, root)
	if err != nil {
		return nil, nil, errors.Join(err, lock.Release())
	}
	return runs, func() error { return errors.Join(runs.Close(), lock.Release()) }, nil
}

// commandLine is this process for people.
func commandLine() string { return strings.Join(append([]string{"runner"}, os.Args[1:]...), " ") }

// completeRuns offers names of experiments, of cells, of folds and of runs, each only
// when what precedes it is there: short lists instead of a long one.
func (a *app) completeRuns(c *cobra.Command, _ []string, start string) ([]string, cobra.ShellCompDirective) {
	root, err := rootOf(nil)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	known, err := store.Read(c.Context(), root)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	depth := strings.Count(start, "/")
	var names []string
	for _, l := range known.Newest() {
		most := 3
		if !l.Fold.IsZero() {
			most++
		}
		parts := strings.SplitN(l.Name(), "/", most)
		name := strings.Join(parts[:min(depth+1, len(parts))], "/")
		if depth+1 < len(parts) {
			name += "/"
		}
		if strings.HasPrefix(name, start) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}
