package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/view"
)

func (a *app) evaluateCommand() *cobra.Command {
	var named []string
	var from weightOptions
	var seen seenOptions
	var asJSON, asCSV bool
	c := &cobra.Command{
		Use:   "evaluate RUN|DIR --domain NAME=SOURCE",
		Short: "Score a trained run on further data",
		Long: `Evaluate scores a trained run on data that its experiment does not name. SOURCE is a
directory with images/ and masks/, looked for as data.source of an experiment is; the
masks mean what those of the run's data do. RUN is the beginning of an id or a name,
as status shows them.

The scores are kept with the run: inspect, compare and diff show them under NAME.
What was scored already, also by an experiment with that domain, is not scored
again.

With --resolution original each mask counts as it lies in its file, and NAME becomes
NAME@original; with --window too, NAME@window-STRIDE. See: runner help
large-images. With --flip and --scales it is followed by ms-SCALES and flip, as in
NAME@ms-0.75-1-flip, and with --strength by that. See: runner help scoring.

DIR is a directory that export wrote with -merged or -peft, here or elsewhere, or
that of a run. It is enough by itself, but for -peft without the backbone, which is
found on this machine or downloaded. Nothing is written to it: its scores are shown
and kept nowhere.`,
		Example:           "  runner evaluate ablation_rank/rank=8/seed=1 --domain clinic=/data/clinic\n  runner evaluate rank=8/seed=1 --domain a=data/a --domain b=data/b --csv\n  runner evaluate rank=8/seed=1 --domain clinic=/data/clinic --resolution original --window 126\n  runner evaluate model --domain clinic=/data/clinic --json",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeWeights,
		RunE: func(c *cobra.Command, args []string) error {
			if err := needs(c, "domain"); err != nil {
				return err
			}
			scores, err := a.evaluate(c.Context(), args[0], named, from, seen)
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
	from.flag(c)
	seen.flags(c)
	flags.BoolVar(&asJSON, "json", false, "write JSON")
	flags.BoolVar(&asCSV, "csv", false, "write CSV, a line for each domain")
	c.MarkFlagsMutuallyExclusive("json", "csv")
	return c
}

// seenOptions are flags that say how an evaluation sees images.
type seenOptions struct {
	resolution, precision string
	window                windowOptions
	testTime              testTimeOptions
	strength              float64
}

func (o *seenOptions) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.resolution, "resolution", "model", "compare pixels at the model's size, or at that of each mask: `model|original`")
	c.Flags().StringVar(&o.precision, "precision", "", "compute in `fp32|bf16|tf32`; default: what the run was trained in")
	o.window.flags(c)
	o.testTime.flags(c)
	c.Flags().Float64Var(&o.strength, "strength", 1, "the strength of the adapter, `0…2`: 0 is the frozen backbone, 1 is as trained")
}

// of is an evaluation as the flags ask for it.
func (o *seenOptions) of(s *spec.RunSpec) (*spec.Evaluation, error) {
	e := &spec.Evaluation{Precision: cmp.Or(o.precision, s.GetTrain().GetPrecision())}
	switch {
	case o.resolution == spec.Original:
		e.Resolution = spec.Original
	case o.resolution != "model":
		return nil, fmt.Errorf("--resolution %q is not one of model, original", o.resolution)
	case o.window.stride != "":
		return nil, errors.New("--window: windows are scored at the original resolution; give --resolution original too")
	}
	switch o.precision {
	case "", "fp32", "bf16", "tf32":
	default:
		return nil, fmt.Errorf("--precision %q is not one of fp32, bf16, tf32", o.precision)
	}
	var err error
	if e.Window, err = o.window.of(s.GetData()); err != nil {
		return nil, err
	}
	if !(o.strength >= 0 && o.strength <= spec.MostStrength) {
		return nil, fmt.Errorf("--strength %g: must be from 0 to %d", o.strength, spec.MostStrength)
	}
	if len(s.GetAdapter().GetPlacements()) == 0 && o.strength != 1 {
		return nil, fmt.Errorf("--strength %g: the run has no adapter", o.strength)
	}
	e.SetStrength(o.strength)
	e.TestTime, err = o.testTime.of()
	return e, err
}

// evaluate scores a run on named sources, as far as that is not done.
func (a *app) evaluate(ctx context.Context, ref string, named []string, o weightOptions, seen seenOptions) (_ *view.Scores, err error) {
	w, err := a.weights(ctx, ref, o)
	if err != nil {
		return nil, err
	}
	defer func(of *weightSource) { err = errors.Join(err, of.close()) }(w)
	how, err := seen.of(w.req.Spec)
	if err != nil {
		return nil, err
	}
	known := map[string]*spec.Evaluated{}
	if w.run != nil {
		known = w.run.Evaluations
	}
	asked, err := a.domains(ctx, w, known, named, how)
	if err != nil {
		return nil, err
	}
	a.warnOfOverlap(ctx, w.req, asked)
	var missing []*spec.Evaluation
	for _, e := range asked {
		if known[e.ID] == nil {
			missing = append(missing, e.Spec)
		}
	}
	if len(missing) > 0 {
		if w.run != nil && !store.Writable(w.root) {
			// Of somebody else, or an archive: scored without writing there.
			a.view.Warn("the project may not be written: the scores are shown and kept nowhere")
			files := w.req.Places.Files
			known = maps.Clone(known)
			var c *weightSource
			if c, err = a.carried(ctx, filepath.Join(w.root, filepath.FromSlash(w.run.Dir)), o); err != nil {
				return nil, err
			}
			defer func() { err = errors.Join(err, c.close()) }()
			c.name, c.checkpoint = w.name, w.checkpoint
			c.req.Places.Files = files
			w = c
		}
		w.req.Train, w.req.Evaluations = false, missing // the engine remembers those before
		if w.run != nil {
			known, err = a.score(ctx, w.root, w.run, w.req)
		} else {
			err = launch.Ask(ctx, func(ctx context.Context, engine spec.EngineClient) error {
				return scores(ctx, engine, w.req, func(e *spec.Evaluated) error { known[e.GetId()] = e; return nil })
			})
		}
		if err != nil {
			return nil, fmt.Errorf("evaluating %s: %w", w.name, err)
		}
	}
	s := &view.Scores{Run: w.name, Checkpoint: w.checkpoint, Classes: w.req.Spec.GetData().GetClasses()}
	for _, e := range asked {
		s.Domains = append(s.Domains, view.Domain{Name: e.Spec.Domain, ID: e.ID, Metrics: metric.Named(known[e.ID].GetMetrics(), s.Classes)})
	}
	return s, nil
}

// domains reads NAME=SOURCE arguments, to be seen as how says. Where their files are is added to the
// request. All that is wrong is told at once.
func (a *app) domains(ctx context.Context, w *weightSource, known map[string]*spec.Evaluated, named []string, how *spec.Evaluation) ([]experiment.Evaluation, error) {
	var asked []experiment.Evaluation
	var faults []error
	// A name is shown for one evaluation only.
	taken := map[string]string{"validation": ""}
	for id, e := range known {
		taken[e.GetDomain()] = id
	}
	if w.req.Places.Files == nil {
		w.req.Places.Files = map[string]*spec.Files{}
	}
	for _, arg := range named {
		called, source, ok := strings.Cut(arg, "=")
		if !ok || source == "" {
			faults = append(faults, fmt.Errorf("--domain %s: must be NAME=SOURCE", arg))
			continue
		}
		if err := name.Domain(called); err != nil {
			faults = append(faults, fmt.Errorf("--domain %s: %w", arg, err))
			continue
		}
		called = how.ColumnName(called)
		e, files, err := experiment.Domain(ctx, a.index, w.root, w.req.Spec, called, source)
		if err != nil {
			faults = append(faults, fmt.Errorf("--domain %s: %w", arg, err))
			continue
		}
		e.Checkpoint, e.Precision, e.Resolution, e.Window = w.checkpoint, how.Precision, how.Resolution, how.Window
		e.TestTime, e.Strength = how.TestTime, how.Strength
		id := spec.EvaluationIdentity(w.req.Id, e)
		if other, is := taken[called]; is && other != id {
			faults = append(faults, fmt.Errorf("--domain %s: the run has another evaluation called %s; choose another name", arg, called))
			continue
		}
		taken[called] = id
		w.req.Places.Files[e.Data.Splits["test"].Digest] = files
		asked = append(asked, experiment.Evaluation{ID: id, Spec: e})
	}
	return asked, errors.Join(faults...)
}

// warnOfOverlap tells of domains with images that the run was trained on, by
// content, or that were made of such. Where that cannot be found out, it tells
// that.
func (a *app) warnOfOverlap(ctx context.Context, req *spec.RunRequest, asked []experiment.Evaluation) {
	files := func(d *spec.Data, role string) data.Files {
		f := req.GetPlaces().GetFiles()[d.GetSplits()[role].GetDigest()]
		return data.Files{Root: f.GetRoot(), Images: f.GetImages(), Masks: f.GetMasks()}
	}
	if req.GetSpec().GetData().GetSplits()["train"].GetProcedural() != nil {
		return // drawn
	}
	train := files(req.GetSpec().GetData(), "train")
	if train.Len() == 0 {
		a.view.Warn("it is not known here which images the run was trained on: whether the domains have images of them was not looked at")
		return
	}
	// Other images may lie there by now.
	digest, unknown := train.Digest(ctx, a.index)
	if unknown == nil && digest != req.GetSpec().GetData().GetSplits()["train"].GetDigest() {
		unknown = fmt.Errorf("what lies at %s has changed", train.Root)
	}
	for _, e := range asked {
		domain := files(e.Spec.GetData(), "test")
		same, err := [][2]string(nil), unknown
		if err == nil {
			same, err = domain.Repeated(ctx, a.index, train)
		}
		if err != nil {
			a.view.Warn(fmt.Sprintf("domain %q could not be compared with the training images (%v): whether it has images of them is not known", e.Spec.GetDomain(), err))
		} else if len(same) > 0 {
			a.view.Warn(fmt.Sprintf("%d of %d images of domain %q are in the training split, or were made of images that are", len(same), domain.Len(), e.Spec.GetDomain()))
		}
	}
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
	// The run may have no record yet: one of an older version, or copied here.
	if _, err := runs.Reconcile(ctx); err != nil {
		return nil, err
	}
	claimed, err := runs.Claim(ctx, run.ID)
	if err != nil {
		return nil, err
	}
	// What was done is written down also when the user asks to stop.
	keep := context.WithoutCancel(ctx)
	defer func() { err = errors.Join(err, runs.Unclaim(keep, run.ID)) }()
	known := claimed.Evaluations
	err = launch.Ask(ctx, func(ctx context.Context, engine spec.EngineClient) error {
		return scores(ctx, engine, req, func(e *spec.Evaluated) error {
			known[e.GetId()] = e // the engine has written it
			return nil
		})
	})
	return known, err
}

// scores has an engine do the evaluations of a request, and hands on each result.
func scores(ctx context.Context, engine spec.EngineClient, req *spec.RunRequest, each func(*spec.Evaluated) error) error {
	stream, err := engine.Run(ctx, req)
	for err == nil {
		var event *spec.Event
		if event, err = stream.Recv(); err != nil {
			break
		}
		switch e := event.GetEvent().(type) {
		case *spec.Event_Evaluated:
			err = each(e.Evaluated)
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
}
