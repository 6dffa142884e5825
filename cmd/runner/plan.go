package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/loralab/loralab/runner/bounded"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/launch"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/plan"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/study"
	"github.com/loralab/loralab/runner/view"
)

func (a *app) planCommand() *cobra.Command {
	var only plan.Selection
	var show view.PlanOptions
	var asJSON, detailed, verify bool
	var out string
	c := &cobra.Command{
		Use:   "plan FILE...",
		Short: "Show what apply would do, and why",
		Long: `Plan holds the runs that the files ask for against what is done:

  +  new
  =  done (shown with --all)
  »  resumes at a step, or is scored on domains that miss
  !  failed, is tried again
  ~  stale: the cell has results, though of another specification; says what moved
  -  orphaned: has results, though no file asks for it any more
  x  damaged: a file of the run cannot be read; says which, and what to do
  ?  a search: its trials so far, the best of them, and what it is made of

--target and --exclude take patterns with * and ?: of a run ("e/rank=8/seed=1"), or
of a part of its name ("e", "rank=8", "seed=1"). --groups shows for every cell which
tensors train and at which rate, --cost what is left to train and how long that took
for earlier runs of the same shape.

--out writes the plan to a file. "runner apply FILE" of such a file does just that,
and refuses if anything moved since. Nothing else is run or written.`,
		Example: `  runner plan experiments/ablation_rank.cue
  runner plan --groups --cost --target 'rank=*' experiments/ablation_rank.cue
  runner plan --out night.plan experiments/ablation_rank.cue && runner apply night.plan
  runner plan --detailed-exitcode experiments/ablation_rank.cue`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			a.afresh(verify)
			made, studies, known, ask, err := a.plan(c.Context(), files, only)
			if err != nil {
				return err
			}
			show.Searches = progressOf(studies)
			if show.Groups || show.Cost {
				if show.Cells, err = made.Cells(known); err != nil {
					return err
				}
			}
			if out != "" {
				if err := made.Write(out, ask); err != nil {
					return err
				}
				show.Saved = out
			}
			if asJSON {
				err = a.view.PlanJSON(made, show)
			} else {
				a.view.Plan(made, show)
			}
			if err == nil && detailed && len(made.Work())+len(made.Ensembles)+len(made.Searches) > 0 {
				err = exitCode(2)
			}
			return err
		},
	}
	flags := c.Flags()
	flags.BoolVar(&asJSON, "json", false, "write JSON")
	flags.BoolVar(&detailed, "detailed-exitcode", false, "exit with 0: nothing to do, 1: error, 2: something to do")
	flags.BoolVar(&show.All, "all", false, "list runs that are done, too")
	flags.BoolVar(&show.Groups, "groups", false, "show which tensors train, and at which rate")
	flags.BoolVar(&show.Cost, "cost", false, "show weights, steps, memory and time of what is left to train")
	flags.StringVar(&out, "out", "", "write the plan to a `file` that apply takes")
	verifyFlag(c, &verify)
	selectFlags(c, &only)
	a.setFlag(c)
	return c
}

// plan is the plan of some files, what is known, and what was asked.
func (a *app) plan(ctx context.Context, files []string, only plan.Selection) (*plan.Plan, []*study.Study, *store.Snapshot, plan.Ask, error) {
	p, err := a.sound(ctx, files, experiment.Env{})
	if err != nil {
		return nil, nil, nil, plan.Ask{}, err
	}
	defer p.close()
	ask, err := a.ask(p, only)
	if err != nil {
		return nil, nil, nil, ask, err
	}
	known, err := a.snapshot(ctx, p.root)
	if err != nil {
		return nil, nil, nil, ask, err
	}
	made, studies, err := planned(ctx, p.experiments, known, only)
	if err == nil {
		err = a.computable(ctx, made, studies)
	}
	return made, studies, known, ask, err
}

// computable reports work of a plan that the engine here cannot do, and warns of
// what this machine has too little memory for: another one may train it.
func (a *app) computable(ctx context.Context, made *plan.Plan, studies []*study.Study) error {
	if memory := bounded.Memory(); memory > 0 {
		if warning := made.TooLarge(memory); warning != "" {
			a.view.Warn(warning)
		}
	}
	var precisions []string
	for _, s := range studies {
		precisions = append(precisions, s.Untuned[0].Spec.GetTrain().GetPrecision())
	}
	for _, action := range made.Work() {
		if action.Train {
			precisions = append(precisions, action.Run.Spec.GetTrain().GetPrecision())
		}
		for _, e := range action.Evaluations {
			precisions = append(precisions, e.Spec.GetPrecision())
		}
	}
	return launch.CheckPrecision(ctx, precisions)
}

// ask is what a plan of a project is made from.
func (a *app) ask(p *project, only plan.Selection) (plan.Ask, error) {
	ask := plan.Ask{Root: p.root, Tags: a.tags, Set: a.set, DevPlugins: a.plugins, Target: only.Target, Exclude: only.Exclude}
	for _, file := range p.files {
		abs, err := filepath.Abs(file)
		if err != nil {
			return ask, fmt.Errorf("finding %s: %w", file, err)
		}
		ask.Files = append(ask.Files, abs)
	}
	return ask, nil
}
