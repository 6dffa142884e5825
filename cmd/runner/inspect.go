package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/inspect"
)

func (a *app) inspectCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "inspect RUN",
		Short: "Show all that made a run, and what it left",
		Long: `Inspect shows the resolved configuration of a run with the place of each value, the
data by digest, the adapter, the versions, machine and device of every attempt, the
state of the version control, the scores, and the files. RUN is the beginning of an
id or a name, as status shows them.`,
		Example:           "  runner inspect ablation_rank/rank=8/seed=1\n  runner inspect --json 3fa1b2",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeRuns,
		RunE: func(c *cobra.Command, args []string) error {
			_, report, err := a.look(c.Context(), args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return a.view.InspectJSON(report)
			}
			a.view.Inspect(report)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

// look gathers what is known of the run that ref means.
func (a *app) look(ctx context.Context, ref string) (root string, _ *inspect.Report, err error) {
	root, known, err := a.known(ctx)
	if err != nil {
		return "", nil, err
	}
	run, err := known.Find(ref)
	if err != nil {
		return "", nil, err
	}
	report, err := inspect.Look(root, known, run)
	return root, report, err
}
