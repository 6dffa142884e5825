package main

import (
	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/study"
)

func (a *app) searchBestCommand() *cobra.Command {
	var cell string
	c := &cobra.Command{
		Use:   "best FILE...",
		Short: "Write the best values of searches as CUE",
		Long: `Best writes the point of the best trial of each search as a part of its experiment.
Put it into the file, remove the search, and the cells have those values: their runs
are those that the search compares, and nothing is trained again.

A line that says "in place of FILE:LINE" replaces the value that is there.`,
		Example: "  runner search best experiments/ablation_rank.cue\n" +
			"  runner search best --cell lora experiments/ablation_rank.cue",
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			p, studies, err := a.searched(c.Context(), files, cell)
			if err != nil {
				return err
			}
			defer p.close()
			var winners []*study.Winner
			var none []string
			for _, s := range studies {
				w, err := s.Winner()
				if err != nil {
					return err
				}
				if w == nil {
					none = append(none, s.Name())
				} else {
					winners = append(winners, w)
				}
			}
			if len(winners) == 0 {
				return without("complete trial", files)
			}
			return a.view.SearchBest(winners, none)
		},
	}
	cellFlag(c, &cell)
	a.setFlag(c)
	return c
}
