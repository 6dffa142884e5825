package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/tempdir"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/inspect"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/reproduce"
	"github.com/loralab/loralab/runner/store"
)

// differs is the exit code of reproduce where a run came out otherwise.
const differs exitCode = 2

func (a *app) reproduceCommand() *cobra.Command {
	var asJSON bool
	var out string
	var tolerance float64
	c := &cobra.Command{
		Use:   "reproduce RUN",
		Short: "Run a run again elsewhere, and say whether it comes out the same",
		Long: `Reproduce runs a run again from its own specification, in a directory of its own, and
holds the weights and the scores on all domains against what it left. On the same kind of processor
with the same engine and as many threads the weights must be the same bit for bit;
elsewhere the scores must agree within the tolerance. Domains whose data is gone or
has changed are named, and count neither way.

Nothing of the run or of the project is changed. The repetition is removed when it
agrees, unless --out names a directory for it, which then is a project: status, logs
and inspect work there.

Exit codes: 0 it agrees, 2 it does not, 1 it could not be run.`,
		Example:           "  runner reproduce ablation_rank/rank=8/seed=1\n  LORALAB_DEVICE=cuda:0 runner reproduce --out again 3fa1b2",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeRuns,
		RunE: func(c *cobra.Command, args []string) error {
			if tolerance < 0 {
				return errors.New("--tolerance takes no negative number")
			}
			return a.reproduce(c.Context(), args[0], out, tolerance, asJSON)
		},
	}
	c.Flags().StringVar(&out, "out", "", "keep the repetition in this `directory`, which must be empty or new")
	c.Flags().Float64Var(&tolerance, "tolerance", 0.02, "how far scores may differ where the bits cannot be the same")
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON, and progress to standard error")
	return c
}

func (a *app) reproduce(ctx context.Context, ref, out string, tolerance float64, asJSON bool) (err error) {
	root, was, err := a.look(ctx, ref)
	if err != nil {
		return err
	}
	if d := was.Run.Damage; d != nil && !d.Again {
		return fmt.Errorf("%s is damaged: %s; %s", was.Run.Name(), d, was.Run.Cure())
	}
	if was.Run.Summary == nil || was.Request == nil {
		return fmt.Errorf("%s is not trained: there is nothing to hold a repetition against; see: runner status", was.Run.Name())
	}
	if of := was.Spec.GetRevision(); of != spec.Revision {
		return fmt.Errorf("%s is of revision %d of the engine's arithmetic, and this loralab computes revision %d: use the loralab that made it; runner inspect names it", was.Run.Name(), of, spec.Revision)
	}
	if was.Request, err = a.request(ctx, root, was.Run); err == nil {
		err = a.there(ctx, was.Request)
	}
	var gone map[string]string
	if err == nil {
		gone, err = a.scoredAgain(ctx, was)
	}
	if err != nil {
		return fmt.Errorf("%s cannot be run again here: %w", was.Run.Name(), err)
	}
	dir, keep := out, out != ""
	var temp *tempdir.Dir // of a repetition that is not to be kept
	if keep {
		if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
			return fmt.Errorf("--out %s is not empty", dir)
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("looking at --out: %w", err)
		}
		err = os.MkdirAll(dir, 0o777)
	} else if temp, err = tempdir.New("reproduce"); err == nil {
		dir = temp.Path
	}
	if err != nil {
		return fmt.Errorf("making a directory for the repetition: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return fmt.Errorf("making a directory for the repetition: %w", err)
	}
	if asJSON {
		a.view.ProgressToError()
	}
	a.view.Reproducing(was, dir)
	now, err := a.again(ctx, was, dir)
	if err != nil {
		var left *leftError
		switch {
		case temp == nil:
		case errors.As(err, &left):
			err = errors.Join(err, temp.Keep())
		default:
			err = errors.Join(err, temp.Remove())
		}
		return err
	}
	verdict := reproduce.Judge(was, now, tolerance, gone)
	kept := ""
	if keep || !verdict.Agrees {
		kept = dir
		if temp != nil {
			err = temp.Keep()
		}
	} else if err := temp.Remove(); err != nil {
		return fmt.Errorf("removing the repetition: %w", err)
	}
	if err != nil {
		return err
	}
	if asJSON {
		err = a.view.JSON(struct {
			Run string `json:"run"`
			*reproduce.Verdict
			Kept string `json:"kept,omitempty"`
		}{was.Run.ID, verdict, kept})
	} else {
		a.view.Verdict(was, verdict, kept)
	}
	if err == nil && !verdict.Agrees {
		err = differs
	}
	return err
}

// there reports whether what a run is trained from is where it was, and notes new
// names of files.
func (a *app) there(ctx context.Context, request *spec.RunRequest) error {
	var errs []error
	if path := request.GetPlaces().GetStart(); path != "" {
		if _, err := os.Stat(path); err != nil {
			errs = append(errs, fmt.Errorf("what its adapter starts with is no longer at %s", path))
		}
	}
	splits := request.GetSpec().GetData().GetSplits()
	for _, role := range slices.Sorted(maps.Keys(splits)) {
		split := splits[role]
		if files := request.GetPlaces().GetFiles()[split.GetDigest()]; files != nil {
			if _, err := os.Stat(files.GetRoot()); err != nil {
				errs = append(errs, fmt.Errorf("its data is no longer at %s", files.GetRoot()))
			} else if now, err := reproduce.Found(ctx, a.index, files, split.GetDigest()); err != nil {
				errs = append(errs, fmt.Errorf("its split %s: %w", role, err))
			} else {
				request.Places.Files[split.GetDigest()] = now
			}
		}
	}
	return errors.Join(errs...)
}

// scoredAgain leaves in the request of a run the evaluations that it has and
// that can be made again; of the others it says why not.
func (a *app) scoredAgain(ctx context.Context, was *inspect.Report) (gone map[string]string, err error) {
	gone = map[string]string{}
	var able []*spec.Evaluation
	for _, e := range was.Request.GetEvaluations() {
		id := spec.EvaluationIdentity(was.Run.ID, e)
		if was.Run.Evaluations[id] == nil {
			continue // it was asked for and never made
		}
		why, err := a.unreadable(ctx, was.Request.GetPlaces(), e.GetData())
		switch {
		case err != nil:
			return nil, err
		case why != "":
			gone[id] = why
		default:
			able = append(able, e)
		}
	}
	was.Request.Evaluations = able
	return gone, nil
}

// unreadable is why a domain cannot be scored, "" if it can.
func (a *app) unreadable(ctx context.Context, places *spec.Places, d *spec.Data) (string, error) {
	var digests []string
	if s := d.GetSplits()["test"]; s.GetProcedural() == nil {
		digests = append(digests, s.GetDigest())
	}
	if s := d.GetStyle(); s.GetDigest() != "" {
		digests = append(digests, s.GetDigest())
	}
	for _, digest := range digests {
		at := places.GetFiles()[digest]
		if at == nil {
			return "it is not known where its data is", nil
		}
		if _, err := os.Stat(at.GetRoot()); err != nil {
			return "its data is no longer at " + at.GetRoot(), nil
		}
		at, err := reproduce.Found(ctx, a.index, at, digest)
		var moved *reproduce.MovedError
		if errors.As(err, &moved) {
			return moved.Error(), nil
		}
		if err != nil {
			return "", err
		}
		places.Files[digest] = at
		files := data.Files{Root: at.GetRoot(), Images: at.GetImages(), Masks: at.GetMasks()}
		now, err := files.Digest(ctx, a.index)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "its data is no longer at " + at.GetRoot(), nil
		case err != nil:
			return "", err
		case now != digest:
			return "its data at " + at.GetRoot() + " has changed", nil
		}
	}
	if weights := d.GetStyle().GetWeights(); weights != "" {
		if _, err := os.Stat(places.GetNetworks()[weights]); err != nil {
			return fmt.Sprintf("its style network is no longer at %q", places.GetNetworks()[weights]), nil
		}
	}
	return "", nil
}

// leftError says that a repetition did not end, and where it lies.
type leftError struct{ text string }

func (e *leftError) Error() string { return e.text }

// again runs a run in a project of its own at dir.
func (a *app) again(ctx context.Context, was *inspect.Report, dir string) (_ *inspect.Report, err error) {
	lock, err := store.LockProject(dir, "runner reproduce")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	runs, err := store.Open(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, runs.Close()) }()
	runs.As(lock)
	request := was.Request
	run := &experiment.Run{
		Experiment: was.Run.Experiment, Cell: was.Run.Cell, Fold: was.Run.Fold, Seed: was.Run.Seed, ID: was.Run.ID, Spec: request.GetSpec(),
		Label: proto.CloneOf(request.GetLabel()), Places: request.GetPlaces(),
	}
	for _, e := range request.GetEvaluations() {
		run.Evaluations = append(run.Evaluations, experiment.Evaluation{ID: spec.EvaluationIdentity(run.ID, e), Spec: e})
	}
	stored := &store.Run{
		ID: run.ID, Experiment: run.Experiment, Cell: run.Cell, Fold: run.Fold, Seed: run.Seed, Dir: store.DirOf(run.Experiment, run.ID),
	}
	if err := stored.SetSpec(was.Spec); err != nil {
		return nil, err
	}
	label := labelOf(run)
	if err := runs.Enqueue(ctx, nil, []*store.Run{stored}, []store.Label{label}); err != nil {
		return nil, err
	}
	job := &launch.Job{Run: run, Train: true, Evaluations: run.Evaluations, Dir: filepath.Join(dir, filepath.FromSlash(stored.Dir))}
	if a := was.Record.Last(); a != nil {
		job.Source = a.Source
	}
	on, err := a.here(ctx, dir, runs, nil, applyOptions{retries: 1, silence: time.Hour, checkpoint: time.Minute})
	if err != nil {
		return nil, err
	}
	totals, err := a.launch(ctx, []*launch.Job{job}, nil, nil, nil, on)
	if err != nil {
		return nil, err
	}
	known, err := runs.Reconcile(ctx)
	if err != nil {
		return nil, err
	}
	switch {
	case totals.Stopped:
		return nil, &leftError{"stopped; what was done is in " + dir}
	case totals.Failed > 0:
		return nil, &leftError{fmt.Sprintf("the repetition failed: %s; its log is in %s", known.Runs[run.ID].Reason, job.Dir)}
	}
	return inspect.Look(dir, known, known.Runs[run.ID])
}
