package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/view"
)

func (a *app) evaluateCommand() *cobra.Command {
	var named []string
	var checkpoint string
	var asJSON, asCSV bool
	c := &cobra.Command{
		Use:   "evaluate RUN --domain NAME=SOURCE",
		Short: "Score a trained run on further data",
		Long: `Evaluate scores a trained run on data that its experiment does not name. SOURCE is a
directory with images/ and masks/, looked for as data.source of an experiment is; the
masks mean what those of the run's data do. RUN is the beginning of an id or a name,
as status shows them.

The scores are kept with the run: inspect, compare and diff show them under NAME.
What was scored already, also by an experiment with that domain, is not scored
again.`,
		Example:           "  runner evaluate ablation_rank/rank=8/seed=1 --domain clinic=/data/clinic\n  runner evaluate rank=8/seed=1 --domain a=data/a --domain b=data/b --csv",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeRuns,
		RunE: func(c *cobra.Command, args []string) error {
			scores, err := a.evaluate(c.Context(), args[0], named, checkpoint)
			if err != nil {
				return err
			}
			switch {
			case asJSON:
				return a.view.ScoresJSON(scores)
			case asCSV:
				return a.view.ScoresCSV(scores)
			}
			a.view.Scores(scores)
			return nil
		},
	}
	flags := c.Flags()
	flags.StringArrayVar(&named, "domain", nil, "what to score on, `NAME=SOURCE`; may be repeated")
	flags.StringVar(&checkpoint, "checkpoint", "best", "the weights of the best validation, or `best|last`")
	flags.BoolVar(&asJSON, "json", false, "write JSON")
	flags.BoolVar(&asCSV, "csv", false, "write CSV, a line for each domain")
	c.MarkFlagsMutuallyExclusive("json", "csv")
	if err := c.MarkFlagRequired("domain"); err != nil {
		panic(err) // the flag is there
	}
	return c
}

// evaluate scores a run on named sources, as far as that is not done.
func (a *app) evaluate(ctx context.Context, ref string, named []string, checkpoint string) (*view.Scores, error) {
	if checkpoint != "best" && checkpoint != "last" {
		return nil, fmt.Errorf("--checkpoint %q is not one of best, last", checkpoint)
	}
	root, run, err := findRun(ctx, ref)
	if err != nil {
		return nil, err
	}
	req, err := a.trained(root, run)
	if err != nil {
		return nil, err
	}
	asked, err := domains(ctx, root, run, req, named, checkpoint)
	if err != nil {
		return nil, err
	}
	known := run.Evaluations
	var missing []*spec.Evaluation
	for _, e := range asked {
		if known[e.ID] == nil {
			missing = append(missing, e.Spec)
		}
	}
	if len(missing) > 0 {
		// With those there are: the request is what the run is known by.
		req.Train, req.Evaluations = false, append(req.Evaluations, missing...)
		if known, err = a.score(ctx, root, run, req); err != nil {
			return nil, fmt.Errorf("evaluating %s: %w", run.Name(), err)
		}
	}
	s := &view.Scores{Run: run.Name(), Checkpoint: checkpoint, Classes: req.Spec.GetData().GetClasses()}
	for _, e := range asked {
		s.Domains = append(s.Domains, view.Domain{Name: e.Spec.Domain, ID: e.ID, Metrics: known[e.ID].GetMetrics()})
	}
	return s, nil
}

// trained is the request of a run whose weights this engine can use.
func (a *app) trained(root string, run *store.Run) (*spec.RunRequest, error) {
	if run.Summary == nil {
		return nil, fmt.Errorf("%s is not trained yet; see: runner status", run.Name())
	}
	req, err := a.request(root, run)
	if err != nil {
		return nil, err
	}
	if of := req.GetSpec().GetRevision(); of != spec.Revision {
		return nil, fmt.Errorf("%s is of revision %d of the engine's arithmetic, and this loralab computes revision %d: run it again, or use the loralab that made it; runner inspect names it", run.Name(), of, spec.Revision)
	}
	return req, nil
}

// domains reads NAME=SOURCE arguments. Where their files are is added to the
// request. All that is wrong is told at once.
func domains(ctx context.Context, root string, run *store.Run, req *spec.RunRequest, named []string, checkpoint string) ([]experiment.Evaluation, error) {
	var asked []experiment.Evaluation
	var faults []error
	// A name is shown, and samples/NAME.png written, for one evaluation only.
	taken := map[string]string{"validation": ""}
	for id, e := range run.Evaluations {
		taken[e.GetDomain()] = id
	}
	if req.Places.Files == nil {
		req.Places.Files = map[string]*spec.Files{}
	}
	for _, arg := range named {
		name, source, ok := strings.Cut(arg, "=")
		if !ok || name == "" || source == "" || filepath.Base(name) != name || strings.HasPrefix(name, ".") {
			faults = append(faults, fmt.Errorf("--domain %s: must be NAME=SOURCE, and the name that of a file", arg))
			continue
		}
		e, files, err := experiment.Domain(ctx, root, req.Spec, name, source)
		if err != nil {
			faults = append(faults, fmt.Errorf("--domain %s: %w", arg, err))
			continue
		}
		e.Checkpoint = checkpoint
		id := spec.EvaluationIdentity(run.ID, e)
		if other, is := taken[name]; is && other != id {
			faults = append(faults, fmt.Errorf("--domain %s: the run has another evaluation called %s; choose another name", arg, name))
			continue
		}
		taken[name] = id
		req.Places.Files[e.Data.Splits["test"].Digest] = files
		asked = append(asked, experiment.Evaluation{ID: id, Spec: e})
	}
	return asked, errors.Join(faults...)
}

// score has an engine evaluate a run, which nobody else may work on meanwhile,
// and records each result. It returns all evaluations that the run has then.
func (a *app) score(ctx context.Context, root string, run *store.Run, req *spec.RunRequest) (_ map[string]*spec.Evaluated, err error) {
	lock, err := store.JoinProject(ctx, root, commandLine())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	runs, err := store.Open(ctx, root)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, runs.Close()) }()
	runs.As(lock)
	claimed, err := runs.Claim(ctx, run.ID)
	if err != nil {
		return nil, err
	}
	// What was done is written down also when the user asks to stop.
	keep := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, runs.Unclaim(keep, run.ID)) }()
	known := claimed.Evaluations
	err = launch.Ask(ctx, func(ctx context.Context, engine spec.EngineClient) error {
		stream, err := engine.Run(ctx, req)
		for err == nil {
			var event *spec.Event
			if event, err = stream.Recv(); err != nil {
				break
			}
			switch e := event.GetEvent().(type) {
			case *spec.Event_Evaluated:
				known[e.Evaluated.GetId()] = e.Evaluated
				err = runs.Evaluate(keep, run.ID, e.Evaluated)
			case *spec.Event_Failed:
				err = errors.New(e.Failed.GetReason())
			case *spec.Event_Stopped:
				err = errors.New("the engine stopped")
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
	return known, err
}
