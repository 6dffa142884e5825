package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/filename"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/view"
)

func (a *app) predictCommand() *cobra.Command {
	var out string
	var from weightOptions
	var window windowOptions
	var testTime testTimeOptions
	var probabilities, asJSON bool
	c := &cobra.Command{
		Use:   "predict RUN|DIR PICTURE... -o OUT",
		Short: "Segment pictures with a trained run",
		Long: `Predict segments pictures of any size. PICTURE is a file, or a directory of pictures or
with images/ in it; folders in it are looked into. RUN is the beginning of an id or a name, as status shows them;
DIR a directory that export wrote with -merged or -peft, here or elsewhere, or that
of a run.

Into the directory it writes, for each picture and of its size, upright (NAME has the
folders below the directory that was given):

  masks/NAME.png                  class indices, with the colors as palette
  overlays/NAME.png               the picture with the classes in color
  probabilities/NAME.safetensors  with --probabilities: float32 [classes, height, width]

Large pictures may be seen by windows instead of being resized to the size that the
run was trained at; see: runner help large-images. With --flip and --scales the probabilities
of several views of a picture are averaged; see: runner help scoring.

Pictures that cannot be read are listed, as are those of one NAME, and the rest is
segmented; the exit code is 1 then.`,
		Example:           "  runner predict ablation_rank/rank=8/seed=1 photos -o segmented\n  runner predict rank=8/seed=1 cat.jpg dog.png -o segmented --probabilities\n  runner predict exports/3fa1b2c4d5e6-merged photos -o segmented\n  runner predict rank=8/seed=1 panorama.jpg -o segmented --window 126 --scale 0.5",
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.completePredict,
		RunE: func(c *cobra.Command, args []string) (err error) {
			if err := needs(c, "out"); err != nil {
				return err
			}
			w, err := a.weights(c.Context(), args[0], from)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, w.close()) }()
			images, unused, err := picturesOf(args[1:], out)
			if err != nil {
				return err
			}
			for _, note := range unused {
				a.view.Warn(note)
			}
			req := &spec.PredictRequest{Run: w.req, Checkpoint: w.checkpoint}
			if req.Window, err = window.of(w.req.Spec.GetData()); err != nil {
				return err
			}
			if req.TestTime, err = testTime.of(); err != nil {
				return err
			}
			images, refused := refusedPictures(images)
			if req.Pictures, err = pictureFiles(images, out, probabilities); err != nil {
				return err
			}
			p := view.Predicted{Run: w.name, Checkpoint: w.checkpoint, Directory: out, Classes: req.Run.Spec.Data.Classes}
			each := func(one view.Picture) {
				if p.Pictures = append(p.Pictures, one); !asJSON {
					a.view.Picture(p.Classes, one)
				}
			}
			for _, one := range refused {
				each(one)
			}
			if len(images) > 0 {
				if err := predict(c.Context(), req, images, each); err != nil {
					return fmt.Errorf("predicting with %s: %w", w.name, err)
				}
			}
			if !asJSON {
				a.view.Predicted(p)
			} else if err := a.view.PredictedJSON(p); err != nil {
				return err
			}
			if p.Failed() > 0 {
				return exitCode(1)
			}
			return nil
		},
	}
	c.Flags().StringVarP(&out, "out", "o", "", "the `directory` to write into; files of the same names are replaced")
	from.flag(c)
	window.flags(c)
	testTime.flags(c)
	c.Flags().BoolVar(&probabilities, "probabilities", false, "write the probabilities of all classes too")
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

// completePredict completes a run, then files.
func (a *app) completePredict(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.completeWeights(c, args, typed)
	}
	return nil, cobra.ShellCompDirectiveDefault
}

// input is a picture to segment, and what is made of it is called.
type input struct{ path, name string }

// picturesOf are the files that arguments name, and those in directories that
// they name and in the folders in these, each once. Pictures below a directory
// are called by their paths in it, and what was written to out before is none of
// them. unused names what else lies there.
func picturesOf(args []string, out string) (images []input, unused []string, err error) {
	var faults []error
	for _, arg := range args {
		// What is not there is told as a picture that cannot be read.
		if info, err := os.Stat(arg); err != nil || !info.IsDir() {
			images = append(images, input{arg, withoutEnding(filepath.Base(arg))})
			continue
		}
		folder, names, err := data.Pictures(arg)
		if err != nil {
			faults = append(faults, err)
		}
		for _, name := range names {
			name = filepath.FromSlash(name)
			if !liesIn(out, arg) && liesIn(out, filepath.Join(folder, name)) {
				continue
			}
			images = append(images, input{filepath.Join(folder, name), withoutEnding(name)})
		}
		for _, note := range data.UnusedPictures(arg) {
			unused = append(unused, fmt.Sprintf("%s: not used: %s", arg, note))
		}
	}
	seen := map[string]bool{}
	images = slices.DeleteFunc(images, func(i input) bool {
		again := seen[filepath.Clean(i.path)]
		seen[filepath.Clean(i.path)] = true
		return again
	})
	return images, unused, errors.Join(faults...)
}

// liesIn reports whether a path lies in a directory, as both are written.
func liesIn(dir, path string) bool {
	dir, err := filepath.Abs(dir)
	path, err2 := filepath.Abs(path)
	if err != nil || err2 != nil {
		return false
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// withoutEnding is a path without the ending of the file, with room for other
// endings.
func withoutEnding(path string) string {
	dir, name := filepath.Split(path)
	return dir + filename.Fit(strings.TrimSuffix(name, filepath.Ext(name)), filename.Most)
}

// refusedPictures takes out what the engine is not asked for: names that no message
// can hold, and pictures whose files would replace each other's.
func refusedPictures(images []input) (rest []input, refused []view.Picture) {
	refuse := func(i input, why string) {
		refused = append(refused, view.Picture{Image: filename.Shown(i.path), Prediction: &spec.Prediction{Failure: why}})
	}
	called := map[string][]string{}
	for _, i := range images {
		called[i.name] = append(called[i.name], i.path)
	}
	for _, i := range images {
		abs, err := filepath.Abs(i.path)
		if err == nil {
			err = filename.CheckUTF8(abs)
		}
		other := slices.DeleteFunc(slices.Clone(called[i.name]), func(path string) bool { return path == i.path })
		switch {
		case err != nil:
			refuse(i, err.Error())
		case len(other) > 0:
			refuse(i, fmt.Sprintf("%s would be written as %s too: rename one, or predict them into different directories", filename.Shown(other[0]), i.name))
		default:
			rest = append(rest, i)
		}
	}
	return rest, refused
}

// pictureFiles says where the files of each picture go, and makes the directories.
func pictureFiles(images []input, out string, probabilities bool) ([]*spec.Picture, error) {
	// The engine is told absolute paths: it need not work where we do.
	out, err := filepath.Abs(out)
	if err != nil {
		return nil, fmt.Errorf("finding --out: %w", err)
	}
	folders := []string{"masks", "overlays"}
	if probabilities {
		folders = append(folders, "probabilities")
	}
	dirs := map[string]bool{}
	var pictures []*spec.Picture
	var faults []error
	for _, i := range images {
		p := &spec.Picture{Mask: filepath.Join(out, "masks", i.name+".png"), Overlay: filepath.Join(out, "overlays", i.name+".png")}
		if probabilities {
			p.Probabilities = filepath.Join(out, "probabilities", i.name+".safetensors")
		}
		if p.Image, err = filepath.Abs(i.path); err != nil {
			return nil, fmt.Errorf("finding %s: %w", i.path, err)
		}
		for k, folder := range folders {
			// It would be overwritten by its own mask, or a later run would read masks.
			if k < 2 && liesIn(filepath.Join(out, folder), p.Image) {
				faults = append(faults, fmt.Errorf("%s lies where masks and overlays are written to: choose another directory with -o", i.path))
				break
			}
			dirs[filepath.Dir(filepath.Join(out, folder, i.name))] = true
		}
		pictures = append(pictures, p)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	for dir := range dirs {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return nil, fmt.Errorf("making the directory for predictions: %w", err)
		}
	}
	return pictures, nil
}

// predict has an engine segment pictures, and tells of each when it is done.
func predict(ctx context.Context, req *spec.PredictRequest, images []input, each func(view.Picture)) error {
	return launch.Ask(ctx, func(ctx context.Context, engine spec.EngineClient) error {
		stream, err := engine.Predict(ctx, req)
		for err == nil {
			var said *spec.Prediction
			if said, err = stream.Recv(); err == nil {
				i := said.GetPicture()
				// The name as it was given says enough.
				said.Failure = strings.ReplaceAll(said.Failure, " "+req.Pictures[i].Image, "")
				each(view.Picture{Image: images[i].path, Picture: req.Pictures[i], Prediction: said})
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
}
