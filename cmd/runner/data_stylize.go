package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/stylize"
	"github.com/loralab/loralab/runner/view"
)

func (a *app) dataStylizeCommand() *cobra.Command {
	var (
		asJSON, whole    bool
		shifts           experiment.Shifts
		named            []string
		out, sheet, size string
	)
	c := &cobra.Command{
		Use:   "stylize SOURCE|FILE -o DIR",
		Short: "Write test images, damaged or in another look, as further domains",
		Long: `Stylize writes domains as folders, DIR/NAME with images/, masks/ and origin.json, which
an experiment takes as any other: evaluate: domains: NAME: source: "DIR/NAME". Of a
source, flags say which; of an experiment's file, all that it says with
evaluate.corruptions and evaluate.styles, or those that --domain names.

Only test images are taken, never those of train or val. origin.json tells what each
image was made of, so that plans warn where runs are trained on that.

Images are lossless. Of a file they have data.size, and score exactly as the same
domain in the file does; of a source they keep their sizes, unless --size says
otherwise. Masks are copied byte for byte where size and damage leave pixels in their
places. Each folder appears when it is complete.`,
		Example: `  runner data stylize nuclei/fluorescence --corruption noise,fog --severity 1,3,5 -o shifted
  runner data stylize nuclei/fluorescence --style texture --images nuclei/histology/test -o shifted
  runner data stylize pets --style network --weights candy.safetensors -o shifted
  runner data stylize experiments/domains.cue --domain fog-3 -o shifted`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if out == "" && sheet == "" {
				return errors.New("no output is given\npass -o DIR, or --sheet FILE")
			}
			domains, err := a.shifted(c, args[0], named, whole, shifts)
			if err != nil {
				return err
			}
			if err := sized(domains, size); err != nil {
				return err
			}
			done := view.Stylized{Sheet: sheet}
			if out != "" {
				if asJSON {
					a.view.ProgressToError()
				}
				progress := a.view.Counting()
				done.Written, err = stylize.Write(c.Context(), a.index, out, domains, func(s stylize.Step) {
					progress(s.Domain, s.Done, s.Of)
				})
				progress("", 0, 0) // it may have ended in the middle
				if err != nil {
					return err
				}
			}
			if sheet != "" {
				if err := stylize.Sheet(c.Context(), a.index, sheet, domains, shifts.Seed); err != nil {
					return err
				}
			}
			if asJSON {
				return a.view.JSON(done)
			}
			a.view.Stylized(done)
			return nil
		},
	}
	f := c.Flags()
	f.StringVarP(&out, "out", "o", "", "the `directory` to write domains into")
	f.StringVar(&sheet, "sheet", "", "draw one image in all these domains into a PNG `file`")
	f.StringSliceVar(&shifts.Kinds, "corruption", nil, "damages, or `families` of them: noise, blur, weather, digital")
	f.IntSliceVar(&shifts.Severities, "severity", []int{3}, "how much damage, `1 to 5`")
	f.StringSliceVar(&shifts.Styles, "style", nil, "looks: `texture|color|fourier|network`")
	f.StringVar(&shifts.Images, "images", "", "the `folder` of images to take looks of")
	f.StringVar(&shifts.Weights, "weights", "", "the `file` of a style network")
	f.Float64Var(&shifts.Strength, "strength", 1, "how much of a look, up to 1")
	f.Uint64Var(&shifts.Seed, "seed", 0, "decides what is random")
	f.StringSliceVar(&named, "domain", nil, "of an experiment's file: these `names`, all by default")
	f.StringVar(&size, "size", "", "bring images to a size before, `N|HxW|original`")
	f.BoolVar(&whole, "all", false, "take all images of a source that has no test split")
	f.BoolVar(&asJSON, "json", false, "write JSON")
	a.setFlag(c)
	return c
}

// ofSource are the flags that a file says otherwise.
var ofSource = []string{"corruption", "severity", "style", "images", "weights", "strength", "all"}

// shifted are the domains of a source or a file.
func (a *app) shifted(c *cobra.Command, arg string, named []string, whole bool, shifts experiment.Shifts) ([]stylize.Domain, error) {
	if strings.HasSuffix(arg, ".cue") {
		for _, name := range ofSource {
			if c.Flags().Changed(name) {
				return nil, fmt.Errorf("--%s is for a source\n%s says what is done, with evaluate.corruptions and evaluate.styles; --set changes it", name, arg)
			}
		}
		return a.shiftedOf(c.Context(), arg, named)
	}
	switch {
	case len(named) > 0:
		return nil, errors.New("--domain is for an experiment's file")
	case len(shifts.Kinds) == 0 && len(shifts.Styles) == 0:
		return nil, errors.New("no change of the images is given\npass --corruption, or --style with --images or --weights")
	}
	root, err := rootOf(nil)
	if err != nil {
		return nil, err
	}
	parts, err := experiment.ShiftedParts(c.Context(), a.index, root, arg, whole, shifts)
	if err != nil {
		return nil, err
	}
	var domains []stylize.Domain
	for _, p := range parts {
		domains = append(domains, stylize.Domain{Part: p})
	}
	return domains, nil
}

// shiftedOf are the domains of an experiment's file that are made of its test
// images.
func (a *app) shiftedOf(ctx context.Context, file string, named []string) ([]stylize.Domain, error) {
	parts, err := a.parts(ctx, file)
	if err != nil {
		return nil, err
	}
	var domains []stylize.Domain
	var known []string
	for _, p := range parts {
		if p.Data.GetCorruption() == nil && p.Data.GetStyle() == nil {
			continue
		}
		if p.Split.GetProcedural() != nil {
			return nil, fmt.Errorf("the data of %s is drawn, not read: its domains are made on the way", file)
		}
		if i := slices.Index(known, p.Name); i >= 0 {
			if other := domains[i].Part; other.Split.GetDigest() != p.Split.GetDigest() || !proto.Equal(other.Data, p.Data) {
				if other.Fold != p.Fold {
					return nil, fmt.Errorf("folds of %s differ in what the domain %s is\nname one of them with --set data.split.fold=0", file, p.Name)
				}
				return nil, fmt.Errorf("cells or experiments of %s differ in what the domain %s is\nname their source instead, %s, with --corruption or --style and --size", file, p.Name, p.Source)
			}
			continue
		}
		known = append(known, p.Name)
		domains = append(domains, stylize.Domain{Part: p, Height: int(p.Data.GetHeight()), Width: int(p.Data.GetWidth())})
	}
	if len(domains) == 0 {
		return nil, fmt.Errorf("no domain of %s is made of its test images\nevaluate.corruptions and evaluate.styles are", file)
	}
	for _, name := range named {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("no domain %q of %s is made of its test images\n%s", name, file, diagnostic.Suggest(name, "there are", known))
		}
	}
	return slices.DeleteFunc(domains, func(d stylize.Domain) bool {
		return len(named) > 0 && !slices.Contains(named, d.Part.Name)
	}), nil
}

// sized sets the size of all images, unless text is empty.
func sized(domains []stylize.Domain, text string) error {
	var h, w uint64
	switch high, wide, both := strings.Cut(text, "x"); {
	case text == "":
		return nil
	case text == "original":
	default:
		var err, err2 error
		h, err = strconv.ParseUint(high, 10, 16)
		w, err2 = h, nil
		if both {
			w, err2 = strconv.ParseUint(wide, 10, 16)
		}
		if err != nil || err2 != nil || h == 0 || w == 0 {
			return fmt.Errorf("--size %s: want original, a number of pixels, or height and width as 240x320", text)
		}
	}
	for i := range domains {
		domains[i].Height, domains[i].Width = int(h), int(w)
	}
	return nil
}
