package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/tempdir"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/weights"
)

// weightSource is what evaluate and predict work with: a run's of the project, or a
// directory's that somebody carried here.
type weightSource struct {
	name       string // for people
	root       string // where data is looked for from
	req        *spec.RunRequest
	checkpoint string     // best | last
	run        *store.Run // nil: of a directory
	close      func() error
}

// weightOptions are flags of the verbs that take weights.
type weightOptions struct {
	checkpoint string // "": best, or the one that there is
}

func (o *weightOptions) flag(c *cobra.Command) {
	c.Flags().StringVar(&o.checkpoint, "checkpoint", "", "the weights of the best validation, or `best|last`; default: best, or what was exported")
}

// weights finds what ref means: a directory with weights in it, else a run.
func (a *app) weights(ctx context.Context, ref string, o weightOptions) (*weightSource, error) {
	if _, ok := rundir.Checkpoint(o.checkpoint); !ok && o.checkpoint != "" {
		return nil, fmt.Errorf("--checkpoint %q is not one of best, last", o.checkpoint)
	}
	if weights.Is(ref) {
		return a.carried(ctx, ref, o)
	}
	root, run, err := a.findRun(ctx, ref)
	if err != nil {
		switch info, e := os.Stat(ref); {
		case e != nil:
		case info.IsDir():
			err = fmt.Errorf("%w; and the directory %s has no %s as runner export writes it", err, ref, spec.ExportedFile)
		default:
			err = fmt.Errorf("%s is a file: name a run or a directory; a file of `runner export -archive` is taken into a project with `runner import`", ref)
		}
		return nil, err
	}
	w := &weightSource{name: run.Name(), root: root, checkpoint: rundir.BestName, run: run, close: func() error { return nil }}
	if o.checkpoint != "" {
		w.checkpoint = o.checkpoint
	}
	w.req, err = a.trained(ctx, root, run)
	return w, err
}

// carried are the weights of a directory, made into a run in a place that lasts
// until close.
func (a *app) carried(ctx context.Context, dir string, o weightOptions) (_ *weightSource, err error) {
	root, err := rootOf(nil)
	if err != nil {
		return nil, err
	}
	place, err := tempdir.New("weights")
	if err != nil {
		return nil, fmt.Errorf("making a place for the weights of %s: %w", dir, err)
	}
	w := &weightSource{name: dir, root: root, close: place.Remove}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	m, err := weights.Open(dir, place.Path, o.checkpoint)
	if err != nil {
		return nil, err
	}
	w.req, w.checkpoint = m.Request, m.Checkpoint
	if w.req.Places.Backbone == "" {
		if err := a.findBackbone(ctx, root, w.req); err != nil {
			return nil, fmt.Errorf("finding the backbone of %s: %w", dir, err)
		}
	}
	return w, nil
}

// trained is the request of a run whose weights this engine can use.
func (a *app) trained(ctx context.Context, root string, run *store.Run) (*spec.RunRequest, error) {
	if run.Summary == nil && run.Damage != nil {
		return nil, fmt.Errorf("%s is damaged: %s; %s", run.Name(), run.Damage, run.Cure())
	}
	if run.Summary == nil {
		return nil, fmt.Errorf("%s is not trained yet; see: runner status", run.Name())
	}
	req, err := a.request(ctx, root, run)
	if err != nil {
		return nil, err
	}
	if of := req.GetSpec().GetRevision(); !spec.Readable(of) {
		return nil, fmt.Errorf("%s is of revision %d of the engine's arithmetic, and this loralab computes revision %d: run it again, or use the loralab that made it; runner inspect names it", run.Name(), of, spec.Revision)
	}
	return req, nil
}

// completeWeights completes a run, or files.
func (a *app) completeWeights(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	runs, directive := a.completeRuns(c, args, typed)
	if len(runs) == 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return runs, directive
}
