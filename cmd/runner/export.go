package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/archive"
	"github.com/loralab/loralab/runner/backbone"
	"github.com/loralab/loralab/runner/cache"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/peft"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/view"
)

func (a *app) exportCommand() *cobra.Command {
	var asPEFT, merged, archived, patch, force, asJSON bool
	var out string
	req := &spec.ExportRequest{}
	c := &cobra.Command{
		Use:   "export RUN",
		Short: "Write a run for PEFT, for transformers, or for another project",
		Long: `Export writes a directory that other tools load:

  -peft    adapter_config.json and adapter_model.safetensors, for
           PeftModel.from_pretrained
  -merged  the backbone with the adapters folded in, for
           AutoModel.from_pretrained; refused where a layer with its adapter is
           no linear layer any more, or differs by more than the tolerance

or a file that another project takes in:

  -archive  all that the run left, trained or not, with a digest for each file;
            see runner import. What was not committed when the run was made
            (dirty.patch) is kept back unless -with-patch is given

The segmentation head lies beside what is for other tools in head.safetensors, and
loralab.json says what it all is: evaluate and predict take the directory, here or
elsewhere. RUN is the beginning of an id or a name, as status shows them.`,
		Example:           "  runner export ablation_rank/rank=8/seed=1 -peft\n  runner export rank=8/seed=1 -merged -o model\n  runner export rank=8/seed=1 -archive -o rank8.tar.zst",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeRuns,
		PreRunE: func(*cobra.Command, []string) error { // before cobra looks at its groups of flags
			forms := 0
			for _, form := range []bool{asPEFT, merged, archived} {
				if form {
					forms++
				}
			}
			if forms != 1 {
				return errors.New("there are three forms of an export: name one of -peft, -merged and -archive; see: runner export -h")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			req.Format = spec.ExportRequest_PEFT
			if merged {
				req.Format = spec.ExportRequest_MERGED
			}
			if patch && !archived {
				return errors.New("--with-patch is for --archive")
			}
			root, run, err := a.findRun(c.Context(), args[0])
			if err != nil {
				return err
			}
			if archived {
				out = cmp.Or(out, filepath.Join(root, "exports", rundir.Short(run.ID)+archive.Ending))
				return a.archive(root, run, out, archive.Options{Patches: patch, Replace: force}, asJSON)
			}
			if run.Damage != nil {
				return fmt.Errorf("%s is damaged: %s; %s", run.Name(), run.Damage, run.Cure())
			}
			if run.Summary == nil {
				return fmt.Errorf("%s is not trained yet: it has nothing to export", run.Name())
			}
			if req.Run, err = a.request(c.Context(), root, run); err != nil {
				return err
			}
			out = cmp.Or(out, filepath.Join(root, "exports", rundir.Short(run.ID)+"-"+format(merged)))
			e := view.Export{Run: run.Name(), Format: format(merged), Directory: out, Checkpoint: req.Checkpoint, Variant: req.Run.GetLabel().GetVariant()}
			var check func(ctx context.Context, engine spec.EngineClient) error
			if merged {
				check = func(context.Context, spec.EngineClient) error { return mergedIs(req.Out, req.Run.GetSpec()) }
			} else {
				reader, err := a.adapterReader(root)
				if err != nil {
					return err
				}
				defer reader.Variants.Close()
				check = func(ctx context.Context, engine spec.EngineClient) (err error) {
					e.Checked, err = reader.Check(ctx, req.Out, req.Run, req.Checkpoint, func(ctx context.Context, r *spec.CompareRequest) (*spec.CompareReply, error) {
						return engine.Compare(ctx, r)
					})
					return err
				}
			}
			if e.ExportReply, err = writeExport(c.Context(), out, force, req, check); err != nil {
				return fmt.Errorf("exporting %s: %w", run.Name(), err)
			}
			if asJSON {
				return a.view.ExportJSON(e)
			}
			a.view.Export(e)
			return nil
		},
	}
	flags := c.Flags()
	flags.BoolVar(&asPEFT, "peft", false, "as an adapter for PEFT")
	flags.BoolVar(&merged, "merged", false, "as a model for transformers")
	flags.BoolVar(&archived, "archive", false, "as one file for runner import")
	flags.BoolVar(&patch, "with-patch", false, "with -archive: what was not committed, too")
	c.MarkFlagsOneRequired("peft", "merged", "archive")
	c.MarkFlagsMutuallyExclusive("peft", "merged", "archive")
	flags.StringVarP(&out, "out", "o", "", "the `directory` to write, or the file with -archive; default: in exports/ of the project")
	flags.BoolVar(&force, "force", false, "replace a directory that has files in it, or the file with -archive")
	flags.StringVar(&req.Checkpoint, "checkpoint", rundir.BestName, "the weights of the best validation, or `best|last`")
	flags.Uint32Var(&req.Transformers, "transformers", 0, "with -peft: name modules as in this `version` of transformers, 4 or 5; default: 5")
	flags.Float64Var(&req.Tolerance, "tolerance", 1e-5, "with -merged: how much the outputs of a layer may differ, relative to them")
	flags.BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

// archive writes all that a run left into one file.
func (a *app) archive(root string, run *store.Run, out string, o archive.Options, asJSON bool) error {
	if run.Holder != nil {
		return fmt.Errorf("exporting %s: %w", run.Name(), &store.ClaimedError{Run: run.ID, Holder: *run.Holder})
	}
	if run.Damage != nil {
		return fmt.Errorf("%s is damaged: %s; %s", run.Name(), run.Damage, run.Cure())
	}
	if err := run.Repair(root); err != nil {
		return err
	}
	m, err := archive.Export(filepath.Join(root, filepath.FromSlash(run.Dir)), run, out, o)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; -force replaces it", out)
	}
	if err != nil {
		return err
	}
	if asJSON {
		return a.view.JSON(m)
	}
	a.view.Archived(m, out)
	return nil
}

func format(merged bool) string {
	if merged {
		return "merged"
	}
	return "peft"
}

// findRun is the run that people mean by ref in the current project.
func (a *app) findRun(ctx context.Context, ref string) (root string, run *store.Run, err error) {
	root, known, err := a.known(ctx)
	if err != nil {
		return "", nil, err
	}
	run, err = known.Find(ref)
	return root, run, err
}

// request is what the engine was told of a run, with the places where things
// are now.
func (a *app) request(ctx context.Context, root string, run *store.Run) (*spec.RunRequest, error) {
	r, err := run.Work(root)
	if err != nil {
		return nil, err
	}
	// The names of its classes may have changed since.
	if now, err := run.Spec(); err == nil && spec.Identity(now) == r.GetId() {
		r.Spec = now
	}
	if r.Places == nil {
		r.Places = &spec.Places{}
	}
	if err := run.Here(root, r.Places); err != nil {
		return nil, err
	}
	if _, err := os.Stat(r.Places.Backbone); err == nil {
		return r, nil
	}
	return r, a.findBackbone(ctx, root, r)
}

// findBackbone puts the backbone of a request in its place, from wherever it is
// on this machine; one that is not here is downloaded, as by apply.
func (a *app) findBackbone(ctx context.Context, root string, r *spec.RunRequest) error {
	backbones, err := a.backbones(root)
	if err != nil {
		return err
	}
	b, err := backbones.Find(ctx, r.GetLabel().GetBackbone(), r.GetSpec().GetBackbone().GetDigest(), func(text string) { a.view.Aside("%s", text) })
	if err == nil {
		r.Places.Backbone = b.Path
	}
	return err
}

// mergedIs reports in what the configuration of a merged backbone, read as that
// of any other, is not that of the run.
func mergedIs(dir string, s *spec.RunSpec) error {
	b, err := backbone.Look(dir)
	if err != nil {
		return fmt.Errorf("reading the merged backbone back: %w", err)
	}
	arch := proto.CloneOf(s.GetBackbone().GetArch())
	arch.Depth = s.GetBackbone().GetDepth()
	if !proto.Equal(b.Arch, arch) {
		return fmt.Errorf("the merged backbone, read back, is %v and not %v", b.Arch, arch)
	}
	near := func(a, b []float64) bool {
		return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Abs(x-y) <= 1e-9 })
	}
	if d := s.GetData(); !near(b.Mean, d.GetMean()) || !near(b.Std, d.GetStd()) {
		return fmt.Errorf("the merged backbone, read back, normalizes images by %v and %v and not by %v and %v", b.Mean, b.Std, d.GetMean(), d.GetStd())
	}
	return nil
}

// adapterReader reads adapters with the variants of a project.
func (a *app) adapterReader(root string) (*peft.Reader, error) {
	variants, err := a.variants(root)
	if err != nil {
		return nil, err
	}
	dir, err := cache.Dir()
	return &peft.Reader{Variants: variants, Cache: dir}, err
}

// writeExport has an engine write an export, which is there when it is whole and
// check finds no fault. check may be nil.
func writeExport(ctx context.Context, out string, force bool, req *spec.ExportRequest, check func(context.Context, spec.EngineClient) error) (reply *spec.ExportReply, err error) {
	err = replacefile.Dir(out, force, func(dir string) error {
		return launch.Ask(ctx, func(ctx context.Context, engine spec.EngineClient) error {
			req.Out = dir
			reply, err = engine.Export(ctx, req)
			if err == nil && check != nil {
				err = check(ctx, engine)
			}
			return err
		})
	})
	if errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("%s has files in it; -force replaces them", out)
	}
	return reply, err
}
