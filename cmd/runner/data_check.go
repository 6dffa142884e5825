package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/view"
)

func (a *app) dataCheckCommand() *cobra.Command {
	var asJSON, verify bool
	c := &cobra.Command{
		Use:   "check SOURCE|FILE",
		Short: "Read every image and mask and list all that is wrong",
		Long: `Check reads every image and mask and lists at once the files that do not pair up,
those that cannot be read, masks of another size than their image and, for an
experiment file, values of masks that have no class. Of published data sets it knows
the classes and what is ignored, and the usual mistakes with their masks. It warns of images that are
trained on and stand in another part as well. What was read once is known by size
and times and not read again, unless --verify asks for it.`,
		Example: "  runner data check nuclei/histology\n  runner data check experiments/ablation_rank.cue",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			a.afresh(verify)
			ctx := c.Context()
			parts, err := a.parts(ctx, args[0])
			scan, err := unpaired(err)
			if err != nil {
				return err
			}
			checked := view.DataCheck{Parts: distinct(parts)}
			for _, fault := range scan.Faults {
				file, message, _ := strings.Cut(fault, ": ")
				checked.Problems = append(checked.Problems, data.Problem{File: filepath.Join(scan.Root, filepath.FromSlash(file)), Value: -1, Message: message})
			}
			told := map[string]bool{}
			var sound []experiment.Part
			for _, p := range checked.Parts {
				if mistake := a.mistake(ctx, p); mistake != "" {
					checked.Problems = append(checked.Problems, data.Problem{
						File: filepath.Join(p.Files.Root, filepath.Dir(p.Files.Masks[0])), Value: -1, Message: fmt.Sprintf("of %s, %s", p.Name, mistake),
					})
					continue
				}
				sound = append(sound, p)
				for _, problem := range data.Check(ctx, a.index, p.Files, p.Data) {
					if !told[problem.String()] {
						checked.Problems = append(checked.Problems, problem)
					}
					told[problem.String()] = true
				}
			}
			if c.Context().Err() != nil {
				return errors.New("interrupted")
			}
			if checked.Repeated, err = a.repeated(ctx, parts); err != nil {
				return err
			}
			if checked.Counts, err = a.counts(ctx, sound); err != nil {
				return err
			}
			checked.Remarks = a.remarks(ctx, checked.Parts)
			if asJSON {
				err = a.view.DataCheckedJSON(checked)
			} else {
				a.view.DataChecked(checked)
			}
			if err == nil && len(checked.Problems) > 0 {
				err = exitCode(1)
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	verifyFlag(c, &verify)
	a.setFlag(c)
	return c
}

// mistake is what is wrong with the masks of a part as a whole.
func (a *app) mistake(ctx context.Context, p experiment.Part) string {
	if p.Laid == nil || p.Files.Len() == 0 {
		return ""
	}
	if p.Experiment != "" {
		return p.Laid.Mistake(ctx, a.index, p.Files, p.Data.GetColours(), p.Named)
	}
	classes := len(p.Laid.Scored().GetClasses())
	return p.Laid.Mistake(ctx, a.index, p.Files, p.Laid.Colors, classes)
}

// counts are the pixels of classes in parts of published data sets: those of an
// experiment, or all that the data set is scored on.
func (a *app) counts(ctx context.Context, parts []experiment.Part) ([]view.DataStats, error) {
	var list []view.DataStats
	for _, p := range parts {
		if p.Laid == nil || p.Laid.Scored() == nil || p.Files.Len() == 0 {
			continue
		}
		if p.Experiment == "" {
			p.Data = p.Laid.Scored()
		}
		s, err := p.Files.Stats(ctx, a.index, p.Data)
		if err != nil {
			return nil, err
		}
		list = append(list, view.DataStats{Part: p, Stats: s})
	}
	return list, nil
}

// remarks are what is not used of the sources, and what may not be meant.
func (a *app) remarks(ctx context.Context, parts []experiment.Part) []string {
	var list []string
	add := func(text string) {
		if !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	for _, p := range parts {
		for _, unused := range p.Unused {
			add(fmt.Sprintf("%s: not used: %s", p.Source, unused))
		}
	}
	for _, p := range parts {
		several, dark := data.Remarks(ctx, a.index, p.Files, p.Data)
		for _, remark := range []string{several, dark} {
			if remark != "" {
				add(fmt.Sprintf("%s, %s: %s", p.Source, p.Name, remark))
			}
		}
	}
	return list
}

// repeated are images of other parts that their experiment trains on.
func (a *app) repeated(ctx context.Context, parts []experiment.Part) ([]data.Problem, error) {
	var found []data.Problem
	told := map[string]bool{}
	for _, train := range parts {
		for _, p := range parts {
			// Where cells divide differently, one may test on what another trains on.
			if train.Name != "train" || p.Name == "train" || p.Experiment != train.Experiment || p.Cell != train.Cell && varies(parts, p) {
				continue
			}
			if p.Fold != train.Fold && slices.Contains(data.Roles, p.Name) {
				continue
			}
			same, err := p.Files.Repeated(ctx, a.index, train.Files)
			if err != nil {
				return nil, err
			}
			for _, pair := range same {
				if !told[pair[0]] {
					found = append(found, data.Problem{File: pair[0], Value: -1, Message: fmt.Sprintf("the same as %s, which is trained on", pair[1])})
				}
				told[pair[0]] = true
			}
		}
	}
	return found, nil
}

// varies reports whether cells of an experiment differ in a part.
func varies(parts []experiment.Part, of experiment.Part) bool {
	n := 0
	for _, p := range parts {
		if p.Name == of.Name && p.Experiment == of.Experiment {
			n++
		}
	}
	return n > 1
}
