package main

import (
	"fmt"
	"image/png"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/samplesheet"
	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/view"
)

func (a *app) dataShowCommand() *cobra.Command {
	var (
		asJSON, augmented bool
		part, out         string
		number            int
		seed              uint64
	)
	c := &cobra.Command{
		Use:   "show SOURCE|FILE",
		Short: "Draw images, masks and both over each other into a PNG",
		Long: `Show draws some images of a part into a PNG: a row for each, with the image, its mask
in the colors of the classes, and the mask over the image, with its name and a legend.
Of an experiment file it
shows what the model sees: resized, of a domain damaged or styled, and with
--augmented each training image again below itself as the first epoch changes it.`,
		Example: "  runner data show nuclei/histology\n  runner data show --part test -n 4 -o test.png experiments/ablation_rank.cue",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if number < 1 || number > mostShown {
				return fmt.Errorf("-n %d: must be from 1 to %d images", number, mostShown)
			}
			parts, err := a.parts(c.Context(), args[0])
			if err != nil {
				return err
			}
			p, err := partOf(parts, part)
			if err != nil {
				return err
			}
			if augmented && len(p.Data.GetAugment()) == 0 {
				return fmt.Errorf("--augmented: nothing is augmented in %q; an experiment file says how with data.augment, for training", p.Name)
			}
			shown := view.DataShown{Part: p, File: out}
			if shown.File == "" {
				base := strings.TrimSuffix(filepath.Base(filepath.Clean(args[0])), ".cue")
				shown.File = fmt.Sprintf("data-%s-%s.png", base, strings.ReplaceAll(p.Name, "/", "-"))
			}
			p.Files = p.Files.Sample(number, seed)
			if p.Experiment == "" {
				if err := inShape(&p); err != nil {
					return err
				}
			}
			set, err := p.Open(c.Context(), a.index)
			if err != nil {
				return err
			}
			var rows []samplesheet.Row
			for i := range min(number, set.Len()) {
				b, err := set.Batch(c.Context(), []int{i})
				if err == nil {
					rows = append(rows, samplesheet.Row{Labelled: b.At(0), Caption: b.Names[0]})
					shown.Images = append(shown.Images, b.Names[0])
				}
				if err == nil && augmented {
					if b, err = set.Augmented(c.Context(), []int{i}, seed, 0); err == nil {
						rows = append(rows, samplesheet.Row{Labelled: b.At(0), Caption: b.Names[0] + ", augmented"})
					}
				}
				if err != nil {
					return fmt.Errorf("drawing: %w", err)
				}
			}
			drawn := samplesheet.Masks(p.Data.GetClasses(), raster.Size{H: int(p.Data.GetHeight()), W: int(p.Data.GetWidth())}).Draw(fmt.Sprintf("%s of %s", p.Name, filepath.Base(filepath.Clean(args[0]))), rows)
			if err := replacefile.WriteFunc(shown.File, func(w io.Writer) error { return png.Encode(w, drawn) }); err != nil {
				return fmt.Errorf("writing the picture: %w", err)
			}
			if asJSON {
				return a.view.DataShownJSON(shown)
			}
			a.view.DataShown(shown)
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&asJSON, "json", false, "write JSON")
	f.BoolVar(&augmented, "augmented", false, "show training images as augmentation changes them, too")
	f.StringVar(&part, "part", "", "train, val, test or a `domain`; the first there is by default")
	f.IntVarP(&number, "number", "n", 8, "so many images")
	f.Uint64Var(&seed, "seed", 0, "decides which images, and how they are augmented")
	f.StringVarP(&out, "out", "o", "", "the `file` to write; data-NAME-PART.png by default")
	a.setFlag(c)
	return c
}

// mostShown keeps the picture at a size that viewers open.
const mostShown = 64

// partOf is the part with a name, or the first.
func partOf(parts []experiment.Part, name string) (experiment.Part, error) {
	var known []string
	for _, p := range parts {
		if p.Name == name || name == "" {
			return p, nil
		}
		if !slices.Contains(known, p.Name) {
			known = append(known, p.Name)
		}
	}
	return experiment.Part{}, fmt.Errorf("there is no part %q of the data\n%s", name, diagnostic.Suggest(name, "there are", known))
}

// inShape gives a part of a source, which no experiment brings to a size, the shape of
// its first image.
func inShape(p *experiment.Part) error {
	if p.Files.Len() == 0 {
		return nil
	}
	first, err := data.ReadImage(filepath.Join(p.Files.Root, filepath.FromSlash(p.Files.Images[0])))
	if err != nil {
		return fmt.Errorf("drawing: %w", err)
	}
	longer := float64(max(p.Data.GetHeight(), p.Data.GetWidth()))
	scale := longer / float64(max(first.H, first.W))
	p.Data = proto.CloneOf(p.Data)
	p.Data.Height = uint32(max(1, math.Round(float64(first.H)*scale)))
	p.Data.Width = uint32(max(1, math.Round(float64(first.W)*scale)))
	return nil
}
