package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/pilot"
	"github.com/loralab/loralab/runner/slurm"
)

func (a *app) cancelCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel",
		Short: "End the workers of the project on a cluster",
		Long: `Cancel ends all workers that "runner apply --on slurm" has submitted for the project, those
that wait included, and each apply that watches them. A worker writes a checkpoint before it
ends; the next apply continues there.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.cancel(c.Context()) },
	}
}

func (a *app) cancel(ctx context.Context) error {
	root, err := rootOf(nil)
	if err != nil {
		return err
	}
	n, err := pilot.Cancel(ctx, root, &slurm.Client{})
	if err != nil {
		return err
	}
	a.view.Cancelled(n)
	return nil
}
