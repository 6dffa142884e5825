package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/rundir"
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
of them, with a column for each value: train/loss, val/dice/mean and so on. A history
that was changed or cut after its run ended is shown with a warning, and exit status 1.`,
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
			faulty := false
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
					dir := filepath.Join(root, filepath.FromSlash(known.Runs[l.Run].Working()))
					rows, err := track.History(dir)
					if err != nil {
						return fmt.Errorf("%s: %w", l.Name(), err)
					}
					if fault := rundir.JournalFault(rundir.Dir(dir).Path(rundir.Journal), known.Runs[l.Run].Summary); fault != "" {
						faulty = true
						a.view.Warn(fmt.Sprintf("%s: %s: its history is not whole", l.Name(), fault))
					}
					all = append(all, view.History{Run: l.Name(), Rows: rows})
				}
			}
			switch {
			case asJSON:
				err = a.view.HistoryJSON(all)
			case asCSV:
				err = a.view.HistoryCSV(all)
			default:
				a.view.Histories(all)
			}
			if err == nil && faulty {
				return exitCode(1)
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	c.Flags().BoolVar(&asCSV, "csv", false, "write CSV, a line for each step")
	return c
}
