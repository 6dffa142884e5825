package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/runner/plan"
)

// selectFlags lets a verb take a part of a plan.
func selectFlags(c *cobra.Command, only *plan.Selection) {
	c.Flags().StringArrayVar(&only.Target, "target", nil, "only runs that match a `pattern`; may be repeated")
	c.Flags().StringArrayVar(&only.Exclude, "exclude", nil, "not the runs that match a `pattern`; may be repeated")
}

// saved opens the saved plan among the arguments of apply, if there is one, and
// returns the files and the selection that it was made with. The program's tags,
// values and plug-ins become those of the plan.
func (a *app) saved(files []string, only plan.Selection) (*plan.Saved, []string, plan.Selection, error) {
	if !slices.ContainsFunc(files, plan.IsSaved) {
		return nil, files, only, nil
	}
	if len(files) > 1 {
		return nil, nil, only, errors.New("a saved plan is applied alone: name no other file")
	}
	s, err := plan.ReadSaved(files[0])
	if err != nil {
		return nil, nil, only, err
	}
	if len(a.tags)+len(a.set)+len(a.plugins)+len(only.Target)+len(only.Exclude) > 0 {
		return nil, nil, only, errors.New("a saved plan says what it was made with: leave out -t, --set, --dev-plugin, --target and --exclude, or plan again with them")
	}
	if err := trustedDev(s.Ask.DevPlugins); err != nil {
		return nil, nil, only, fmt.Errorf("applying %s: %w", files[0], err)
	}
	a.tags, a.set, a.plugins = s.Ask.Tags, s.Ask.Set, s.Ask.DevPlugins
	wd, err := os.Getwd()
	if err != nil {
		return nil, nil, only, fmt.Errorf("finding the files of the plan: %w", err)
	}
	named := slices.Clone(s.Ask.Files)
	for i, file := range named {
		// As a user would name it, for messages.
		if rel, err := filepath.Rel(wd, file); err == nil && !strings.HasPrefix(rel, "..") {
			named[i] = rel
		}
	}
	return s, named, s.Selection(), nil
}

// trustedDev refuses plug-ins that a plan names and the user does not trust: the
// plan may be somebody else's.
func trustedDev(plugins []string) error {
	if len(plugins) == 0 {
		return nil
	}
	trusted, err := openTrust()
	if err != nil {
		return err
	}
	for _, entry := range plugins {
		_, path, _ := strings.Cut(entry, "=")
		sum, err := filehash.Of(path)
		if err != nil {
			return fmt.Errorf("reading the plug-in of --dev-plugin %s: %w", entry, err)
		}
		if !trusted.Has(sum) {
			return fmt.Errorf("the plan was made with --dev-plugin %s, and you have not trusted that file: a plug-in runs with your rights\n"+
				"if you know what it does: runner plugins trust %s", entry, pathArgument(path))
		}
	}
	return nil
}

// pathArgument is a path as verbs take it that take names too.
func pathArgument(path string) string {
	if !strings.ContainsRune(path, filepath.Separator) {
		return "." + string(filepath.Separator) + path
	}
	return path
}
