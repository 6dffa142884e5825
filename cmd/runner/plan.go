package main

import (
	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/plan"
	"github.com/loralab/loralab/runner/store"
)

func (a *app) planCommand() *cobra.Command {
	var asJSON, detailed, all bool
	c := &cobra.Command{
		Use:   "plan FILE...",
		Short: "Show what apply would do, and why",
		Long: `Plan holds the runs that the files ask for against what is done:

  +  new
  =  done (shown with -all)
  »  resumes at a step, or is scored on domains that miss
  !  failed, is tried again
  ~  stale: the cell has results, though of another specification; says what moved
  -  orphaned: has results, though no file asks for it any more

Nothing is run or written.`,
		Example: "  runner plan experiments/ablation_rank.cue\n  runner plan -detailed-exitcode experiments/ablation_rank.cue",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			p, err := a.sound(c.Context(), files, false)
			if err != nil {
				return err
			}
			defer p.close()
			known, err := store.Read(c.Context(), p.root)
			if err != nil {
				return err
			}
			made, err := plan.Make(p.experiments, known)
			if err != nil {
				return err
			}
			if asJSON {
				err = a.view.PlanJSON(made)
			} else {
				a.view.Plan(made, all)
			}
			if err == nil && detailed && len(made.Work()) > 0 {
				err = exitCode(2)
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	c.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit with 0: nothing to do, 1: error, 2: something to do")
	c.Flags().BoolVar(&all, "all", false, "list runs that are done, too")
	a.setFlag(c)
	return c
}
