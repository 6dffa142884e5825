package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/data"
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
				files, root, err := divided(split.Parts, cell)
				if err != nil {
					return err
				}
				if err := replacefile.WriteFunc(out, func(w io.Writer) error { return data.WriteParts(c.Context(), a.index, w, root, files) }); err != nil {
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

// divided are train, val and test of a cell, and the folder that holds them all.
// A part of which there is one belongs to every cell.
func divided(parts []experiment.Part, cell string) (map[string]data.Files, string, error) {
	files := map[string]data.Files{}
	var cells []string
	root := ""
	for _, p := range parts {
		if p.Experiment != parts[0].Experiment {
			return nil, "", errors.New("--out: the file has several experiments: say which data with a file of one")
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
		for root == "" || !below(root, p.Files.Root) {
			if root == "" {
				root = p.Files.Root
			} else {
				root = filepath.Dir(root)
			}
		}
	}
	slices.Sort(cells)
	cells = slices.Compact(cells)
	switch {
	case cell != "" && !slices.Contains(cells, cell):
		return nil, "", fmt.Errorf("--cell: no cell %q divides the data in its own way\n%s", cell, diagnostic.Suggest(cell, "these do", cells))
	case cell == "" && len(cells) > 0:
		return nil, "", fmt.Errorf("cells divide the data in different ways: say which with --cell: %s", strings.Join(cells, ", "))
	case len(files) == 0:
		return nil, "", errors.New("the source is not divided: an experiment file divides it, with data.split")
	}
	return files, root, nil
}

// below reports whether a path lies below a directory, or is it.
func below(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
