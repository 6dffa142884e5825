package main

import (
	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/experiment"
)

func (a *app) validateCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "validate [FILE...]",
		Short: "Check experiment files",
		Long: `Validate checks experiment files and all they refer to: fields, types and bounds,
variants and their parameters, backbones, data and classes, in every cell of the
matrix. Every mistake is reported at once, with its place. Nothing is run or
written.

Without a file it checks all of experiments/ of the project; of a directory, the
files in it.`,
		Example: "  runner validate experiments/ablation_rank.cue\n  runner validate -json experiments/*.cue",
		RunE: func(c *cobra.Command, files []string) error {
			files, err := experimentFiles(files)
			if err != nil {
				return err
			}
			p, err := a.load(c.Context(), files, experiment.Env{CheckData: true})
			if err != nil {
				return err
			}
			defer p.close()
			if asJSON {
				err = a.view.ValidatedJSON(p.root, p.experiments, p.found)
			} else {
				a.view.Validated(p.experiments, p.found)
			}
			if err == nil && p.found.HasErrors() {
				err = exitCode(1)
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	a.setFlag(c)
	return c
}
