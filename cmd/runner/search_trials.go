package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/study"
)

func (a *app) searchTrialsCommand() *cobra.Command {
	var asJSON, asCSV bool
	var cell string
	c := &cobra.Command{
		Use:   "trials FILE...",
		Short: "List the trials of searches",
		Long: `Trials lists the trials of each search: what became of them, the value of the
objective, the steps that they have trained, and their parameters.

The value of a complete trial is that at its best checkpoint; a trial that is paused
or pruned has that of its last rung.`,
		Example: "  runner search trials experiments/ablation_rank.cue\n" +
			"  runner search trials --csv experiments/ablation_rank.cue >trials.csv",
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			p, studies, err := a.searched(c.Context(), files, cell)
			if err != nil {
				return err
			}
			defer p.close()
			all := listings(studies)
			switch {
			case asJSON:
				return a.view.SearchTrialsJSON(all)
			case asCSV:
				return a.view.SearchTrialsCSV(all)
			case !slices.ContainsFunc(all, func(l study.Listing) bool { return len(l.Trials) > 0 }):
				return without("trial", files)
			}
			a.view.SearchTrials(all)
			return nil
		},
	}
	flags := c.Flags()
	flags.BoolVar(&asJSON, "json", false, "write JSON")
	flags.BoolVar(&asCSV, "csv", false, "write CSV, a line for each trial")
	c.MarkFlagsMutuallyExclusive("json", "csv")
	cellFlag(c, &cell)
	a.setFlag(c)
	return c
}

// listings are the trials of searches.
func listings(studies []*study.Study) (all []study.Listing) {
	for _, s := range studies {
		all = append(all, s.Listing())
	}
	return all
}
