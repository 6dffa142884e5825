package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/track"
	"github.com/loralab/loralab/runner/view"
)

func (a *app) metricsCommand() *cobra.Command {
	var asJSON, asCSV bool
	c := &cobra.Command{
		Use:   "metrics NAME...",
		Short: "Show the history of runs: losses and validations by step",
		Long: `Metrics shows what was logged at each step of runs. NAME is as for logs: a run, a cell
or an experiment. The table has the steps with a validation; --csv and --json have all
of them, with a column for each value: train/loss, val/dice/mean and so on.`,
		Example:           "  runner metrics rank=8/seed=1\n  runner metrics --csv ablation_rank > history.csv",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeRuns,
		RunE: func(c *cobra.Command, refs []string) error {
			if asJSON && asCSV {
				return fmt.Errorf("--json and --csv exclude each other")
			}
			root, known, err := a.known(c.Context())
			if err != nil {
				return err
			}
			var all []view.History
			seen := map[string]bool{}
			for _, ref := range refs {
				labels, _, err := known.Select(ref)
				if err != nil {
					return err
				}
				for _, l := range labels {
					if seen[l.Run] {
						continue
					}
					seen[l.Run] = true
					rows, err := track.History(filepath.Join(root, filepath.FromSlash(known.Runs[l.Run].Working())))
					if err != nil {
						return fmt.Errorf("%s: %w", l.Name(), err)
					}
					all = append(all, view.History{Run: l.Name(), Rows: rows})
				}
			}
			switch {
			case asJSON:
				return a.view.HistoryJSON(all)
			case asCSV:
				return a.view.HistoryCSV(all)
			}
			a.view.Histories(all)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	c.Flags().BoolVar(&asCSV, "csv", false, "write CSV, a line for each step")
	return c
}
