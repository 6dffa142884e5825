package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc/status"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/plan"
	"github.com/loralab/loralab/runner/store"
)

// scoreEnsembles has one engine score the ensembles of a plan. It returns how many
// could not be scored; of these and of those whose members are not all trained it says
// why.
func (a *app) scoreEnsembles(ctx context.Context, p *project, ensembles []plan.Ensemble) (failed int, err error) {
	known, err := store.Read(ctx, p.root)
	if err != nil {
		return 0, err
	}
	metrics := map[string]string{}
	for _, e := range p.experiments {
		metrics[e.Name] = e.Metric
	}
	var ready []plan.Ensemble
	dirs := map[string]string{}
	for _, e := range ensembles {
		untrained := 0
		for _, m := range e.Members {
			if run := known.Run(m.ID); run == nil || run.Summary == nil || run.Damage != nil {
				untrained++
			} else {
				dirs[m.ID] = run.Dir
			}
		}
		if untrained > 0 {
			a.view.Warn(fmt.Sprintf("%s is not scored: %d of its %d runs are not trained, or damaged", e.Name(), untrained, len(e.Members)))
			continue
		}
		ready = append(ready, e)
	}
	if len(ready) == 0 {
		return 0, nil
	}
	err = launch.Ask(ctx, func(ctx context.Context, engine spec.EngineClient) error {
		for _, e := range ready {
			classes := e.Members[0].Spec.GetData().GetClasses()
			err := e.Score(ctx, p.root, dirs, e.Missing, engine, func(event *spec.Event) {
				if done := event.GetEvaluated(); done != nil {
					a.view.Ensemble(e.Name(), len(e.Members), metrics[e.Experiment], classes, done)
				}
			})
			if ctx.Err() != nil {
				return err
			}
			if err != nil {
				failed++
				a.view.Warn(fmt.Sprintf("scoring %s: %s", e.Name(), status.Convert(err).Message()))
			}
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("scoring ensembles: %w", err)
	}
	return failed, err
}
