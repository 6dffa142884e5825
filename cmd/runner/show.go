package main

import (
	"github.com/loralab/loralab/runner/experiment"
	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/view"
)

func (a *app) showCommand() *cobra.Command {
	var asJSON, origin bool
	var cell string
	c := &cobra.Command{
		Use:   "show FILE...",
		Short: "Show the resolved configuration of cells",
		Long: `Show writes what the cells of an experiment come down to, defaults included, as
CUE: first what all cells have in common, then what is each cell's own. With --cell
it is the whole configuration of one cell.

With --origin every value is followed by who gives it: a line of your file, a value
of vary or of a case, the command line, or a default of the schema or of a variant.`,
		Example: `  runner show experiments/ablation_rank.cue
  runner show --cell rank=8 --origin experiments/ablation_rank.cue`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			p, err := a.sound(c.Context(), files, experiment.Env{})
			if err != nil {
				return err
			}
			defer p.close()
			shown, err := resolved(p, cell)
			if err != nil {
				return err
			}
			if asJSON {
				return a.view.JSON(shown)
			}
			a.view.Resolved(shown, origin)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	c.Flags().BoolVar(&origin, "origin", false, "say who gives each value, and where")
	c.Flags().StringVar(&cell, "cell", "", "the whole configuration of one `cell`")
	a.setFlag(c)
	return c
}

// resolved are the values of all cells, or of those with a name.
func resolved(p *project, cell string) ([]view.ResolvedCell, error) {
	var list []view.ResolvedCell
	var missing error
	for _, e := range p.experiments {
		names := cellsOf(e)
		if cell != "" {
			names = []string{cell}
		}
		for _, name := range names {
			values, err := e.Values(name)
			if err != nil {
				missing = err // another experiment may have it
				continue
			}
			list = append(list, view.ResolvedCell{Experiment: e.Name, Cell: name, Values: values})
		}
	}
	if len(list) == 0 {
		return nil, missing
	}
	return list, nil
}
