package main

import (
	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/inspect"
)

func (a *app) diffCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "diff RUN RUN",
		Short: "Show what tells two runs apart: configuration, versions, scores",
		Long: `Diff shows the values that two runs were given differently, what else went into them,
and their scores side by side. RUN is the beginning of an id or a name, as status
shows them. For means over seeds see: runner compare -h`,
		Example:           "  runner diff ablation_rank/rank=4/seed=1 ablation_rank/rank=8/seed=1",
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeRuns,
		RunE: func(c *cobra.Command, args []string) error {
			_, first, err := a.look(c.Context(), args[0])
			if err != nil {
				return err
			}
			_, second, err := a.look(c.Context(), args[1])
			if err != nil {
				return err
			}
			d := inspect.Diff(first, second)
			if asJSON {
				return a.view.DiffJSON(first, second, d)
			}
			a.view.Diff(first, second, d)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}
