package main

import (
	"context"
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
	known, err := store.Read(ctx, root)
	return root, known, err
}

// completeRuns offers names of experiments, of cells and of runs, each only
// when what stands before it is there: three short lists instead of a long one.
func (a *app) completeRuns(c *cobra.Command, _ []string, start string) ([]string, cobra.ShellCompDirective) {
	_, known, err := a.known(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	depth := strings.Count(start, "/")
	var names []string
	for _, l := range known.Newest() {
		parts := strings.SplitN(l.Name(), "/", 3)
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
