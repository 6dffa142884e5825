package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/view"
)

func (a *app) dataStatsCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "stats SOURCE|FILE",
		Short: "Count images, sizes and the pixels of each class",
		Long: `Stats counts images and their sizes in each part, and the pixels of each class with
the images that show it, at the size of the files. A class with less than 1 % of the
pixels is rare. The classes of a source without an experiment are not known; the
values of its masks stand for them.`,
		Example: "  runner data stats nuclei/histology\n  runner data stats --json experiments/ablation_rank.cue",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			parts, err := a.parts(c.Context(), args[0])
			if err != nil {
				return err
			}
			var counted []view.DataStats
			for _, p := range distinct(parts) {
				s := view.DataStats{Part: p}
				if p.Split.GetProcedural() == nil {
					s.Stats, err = p.Files.Stats(c.Context(), a.index, p.Data)
				} else if set, fault := p.Open(c.Context(), a.index); fault != nil {
					err = fault
				} else {
					s.Stats, err = set.Stats(c.Context(), p.Data)
				}
				if c.Context().Err() != nil {
					return errors.New("interrupted")
				}
				if err != nil {
					return err
				}
				counted = append(counted, s)
			}
			if asJSON {
				return a.view.DataCountedJSON(counted)
			}
			a.view.DataCounted(counted)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	a.setFlag(c)
	return c
}
