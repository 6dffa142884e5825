package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/view"
)

func (a *app) dataSplitCommand() *cobra.Command {
	var asJSON bool
	var cell, out string
	c := &cobra.Command{
		Use:   "split SOURCE|FILE",
		Short: "Show or write which image is in which part",
		Long: `Split tells how many images train, val and test have, and the digest that runs record
of each. With --out it writes a CSV with a line for every image: its name below the
source, its part, and the SHA-256 of image and mask. Published beside results, it
divides the data for others in the same way:

  data: split: from: "splits.csv"

Of folds the CSV has the fold of each image in place of its part: the one that it is
tested in. It divides the data with from: "folds.csv" next to folds.

Of an experiment file, only what its runs use is listed; fractions and limits count.`,
		Example: "  runner data split experiments/ablation_rank.cue\n  runner data split --out splits.csv experiments/ablation_rank.cue",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			parts, err := a.parts(c.Context(), args[0])
			if err != nil {
				return err
			}
			split := view.DataSplit{Parts: distinct(parts), File: out}
			if out != "" {
				write, err := a.division(c.Context(), parts, split.Parts, cell)
				if err != nil {
					return err
				}
				if err := replacefile.WriteFunc(out, write); err != nil {
					return fmt.Errorf("writing the parts: %w", err)
				}
			}
			if asJSON {
				return a.view.DataSplitJSON(split)
			}
			a.view.DataSplit(split)
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "write JSON")
	f.StringVar(&cell, "cell", "", "the `cell` whose division is written, where cells differ")
	f.StringVarP(&out, "out", "o", "", "write the list of all images to a `file`")
	a.setFlag(c)
	return c
}

// division writes which image is in which part, or in which fold.
func (a *app) division(ctx context.Context, parts, seen []experiment.Part, cell string) (func(io.Writer) error, error) {
	if slices.ContainsFunc(parts, func(p experiment.Part) bool { return p.Folds > 0 }) {
		folds, err := dealt(parts, cell)
		if err != nil {
			return nil, err
		}
		root := ""
		for _, f := range folds {
			root = above(root, f.Root)
		}
		return func(w io.Writer) error { return data.WriteFolds(ctx, a.index, w, root, folds) }, nil
	}
	files, root, err := divided(seen, cell)
	if err != nil {
		return nil, err
	}
	return func(w io.Writer) error { return data.WriteParts(ctx, a.index, w, root, files) }, nil
}

// dealt are the folds of a cell: the images that its runs are tested on.
func dealt(parts []experiment.Part, cell string) ([]data.Files, error) {
	var cells []string
	for _, p := range parts {
		if p.Experiment != parts[0].Experiment {
			return nil, errSeveral
		}
		if p.Name == "test" && !slices.Contains(cells, p.Cell) {
			cells = append(cells, p.Cell)
		}
	}
	of, err := cellThatDivides(cell, cells, len(cells) > 1)
	if err != nil {
		return nil, err
	}
	var folds []data.Files
	for n := range parts[0].Folds {
		at := slices.IndexFunc(parts, func(p experiment.Part) bool {
			return p.Name == "test" && p.Fold == name.NewFold(n) && (p.Cell == of || of == "")
		})
		if at < 0 {
			return nil, fmt.Errorf("--out: a list has all %d folds, and fold %d is not in use: leave out data.split.fold", parts[0].Folds, n)
		}
		folds = append(folds, parts[at].Files)
	}
	return folds, nil
}

var errSeveral = errors.New("--out: the file has several experiments: say which data with a file of one")

// cellThatDivides is the cell that is asked for, "" where all divide alike.
func cellThatDivides(cell string, cells []string, differ bool) (string, error) {
	slices.Sort(cells)
	cells = slices.Compact(cells)
	switch {
	case cell != "" && !(differ && slices.Contains(cells, cell)):
		return "", fmt.Errorf("--cell: no cell %q divides the data in its own way\n%s", cell, diagnostic.Suggest(cell, "these do", cells))
	case cell == "" && differ:
		return "", fmt.Errorf("cells divide the data in different ways: say which with --cell: %s", strings.Join(cells, ", "))
	}
	return cell, nil
}

// above is the folder that holds both a folder and a directory, "" for none yet.
func above(folder, dir string) string {
	if folder == "" {
		return dir
	}
	for !below(folder, dir) {
		folder = filepath.Dir(folder)
	}
	return folder
}

// divided are train, val and test of a cell, and the folder that holds them all.
// A part of which there is one belongs to every cell.
func divided(parts []experiment.Part, cell string) (map[string]data.Files, string, error) {
	files := map[string]data.Files{}
	var cells []string
	root := ""
	for _, p := range parts {
		if p.Experiment != parts[0].Experiment {
			return nil, "", errSeveral
		}
		if !slices.Contains(data.Roles, p.Name) {
			continue
		}
		if p.Split.GetProcedural() != nil {
			return nil, "", errors.New("--out: the images are drawn and have no files; seed and number say all")
		}
		if varies(parts, p) {
			cells = append(cells, p.Cell)
			if p.Cell != cell {
				continue
			}
		}
		files[p.Name] = p.Files
		root = above(root, p.Files.Root)
	}
	if _, err := cellThatDivides(cell, cells, len(cells) > 0); err != nil {
		return nil, "", err
	}
	if len(files) == 0 {
		return nil, "", errors.New("the source is not divided: an experiment file divides it, with data.split")
	}
	return files, root, nil
}

// below reports whether a path lies below a directory, or is it.
func below(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
