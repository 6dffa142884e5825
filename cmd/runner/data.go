package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/runner/experiment"
)

func (a *app) dataCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "data",
		Short: "Check, count, show and divide images and masks",
		Long: `Data looks at images and masks before anything is trained on them: those of a
source, a folder found as in experiments, or those that the experiments of a file
use, with their classes, limits and fractions.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, args []string) error { return c.Help() },
	}
	c.AddCommand(a.dataCheckCommand(), a.dataStatsCommand(), a.dataShowCommand(), a.dataSplitCommand(), a.dataStylizeCommand())
	return c
}

// verifyFlag is for commands that trust what is known of images and masks.
func verifyFlag(c *cobra.Command, verify *bool) {
	c.Flags().BoolVar(verify, "verify", false, "read every image and mask again, whatever is known by size and times")
}

// mostUnlike is how many files are named whose content has moved unseen.
const mostUnlike = 20

// afresh has files read again if verify asks for it, and warns of those that are
// not what they were though size and times say so.
func (a *app) afresh(verify bool) {
	if !verify {
		return
	}
	n := 0
	a.index = data.NewIndex(data.Look{Afresh: true, Read: a.view.Reading(), Unlike: func(file string) {
		if n++; n <= mostUnlike {
			a.view.Warn(file + ": another content than was read before, under the same size and times")
		}
	}})
}

// parts are the images of a source or of the experiments of a file. Beside a
// data.ScanError those of a source are returned all the same.
func (a *app) parts(ctx context.Context, arg string) ([]experiment.Part, error) {
	if !strings.HasSuffix(arg, ".cue") {
		root, err := rootOf(nil)
		if err != nil {
			return nil, err
		}
		return experiment.SourceParts(ctx, a.index, root, arg)
	}
	root, err := rootOf([]string{arg})
	if err != nil {
		return nil, err
	}
	// Backbones and variants do not matter here and need not be there.
	experiments, found := experiment.Load(ctx, []string{arg}, experiment.Env{Root: root, Index: a.index, Tags: a.tags, Set: a.set})
	if ctx.Err() != nil {
		return nil, errors.New("interrupted")
	}
	a.view.Diagnostics(found)
	if found.HasErrors() {
		return nil, exitCode(1)
	}
	var parts []experiment.Part
	for _, e := range experiments {
		of, err := e.Parts()
		if err != nil {
			return nil, fmt.Errorf("finding the data of %s: %w", e.Name, err)
		}
		parts = append(parts, of...)
	}
	return parts, nil
}

// distinct leaves out parts whose files were seen, with the same classes: what
// is damaged or styled from them is no other data.
func distinct(parts []experiment.Part) []experiment.Part {
	seen := map[string]int{} // places in out
	var out []experiment.Part
	for _, p := range parts {
		key := fmt.Sprint(p.Files.Root, p.Split.GetDigest(), p.Data.GetClasses(), p.Data.GetValues())
		i, twice := seen[key]
		switch {
		case !twice:
			seen[key] = len(out)
			out = append(out, p)
		case out[i].Name == "val" && p.Name == "test": // see data.split.val
			out[i] = p
		}
	}
	return out
}

// unpaired are the files that have no counterpart, if that is what err says.
func unpaired(err error) (*data.ScanError, error) {
	var scan *data.ScanError
	if errors.As(err, &scan) {
		return scan, nil
	}
	return &data.ScanError{}, err
}
