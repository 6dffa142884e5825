package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/experiment"
)

func (a *app) validateCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "validate [FILE...]",
		Short: "Check experiment files",
		Long: `Validate checks experiment files and all they refer to: fields, types and bounds,
variants and their parameters, backbones, data and classes, in every cell of the
matrix. Every mistake is reported at once, with its place. Nothing is run or
written.

Without a file it checks all of experiments/ of the project; of a directory, the
files in it.`,
		Example: "  runner validate experiments/ablation_rank.cue\n  runner validate -json experiments/*.cue",
		RunE: func(c *cobra.Command, files []string) error {
			files, err := experimentFiles(files)
			if err != nil {
				return err
			}
			p, err := a.load(c.Context(), files, experiment.Env{CheckData: true})
			if err != nil {
				return err
			}
			defer p.close()
			if asJSON {
				err = a.view.ValidatedJSON(p.root, p.experiments, p.found)
			} else {
				a.view.Validated(p.experiments, p.found)
			}
			if err == nil && p.found.HasErrors() {
				err = exitCode(1)
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	a.setFlag(c)
	return c
}

// experimentFiles are the files that are named, those in directories that are named,
// or without a name those of the project.
func experimentFiles(named []string) ([]string, error) {
	if len(named) == 0 {
		root, err := rootOf(nil)
		if err != nil {
			return nil, err
		}
		wd, err := os.Getwd()
		if err != nil {
			return nil, fmt.Errorf("finding the current directory: %w", err)
		}
		dir, err := filepath.Rel(wd, filepath.Join(root, "experiments"))
		if err != nil {
			return nil, fmt.Errorf("finding the experiments of the project: %w", err)
		}
		if _, err := os.Stat(dir); err != nil {
			return nil, fmt.Errorf("there is no directory %s: name the files to check, or make a project with `runner init`", dir)
		}
		named = []string{dir}
	}
	var files []string
	for _, name := range named {
		info, err := os.Stat(name)
		if err != nil || !info.IsDir() {
			files = append(files, name) // a file that is not there is reported with near names
			continue
		}
		entries, err := os.ReadDir(name)
		if err != nil {
			return nil, fmt.Errorf("reading the directory: %w", err)
		}
		var in []string
		for _, e := range entries {
			if filepath.Ext(e.Name()) == ".cue" && !e.IsDir() {
				in = append(in, filepath.Join(name, e.Name()))
			}
		}
		if len(in) == 0 {
			return nil, fmt.Errorf("there are no experiment files in the directory %s", name)
		}
		files = append(files, in...)
	}
	return files, nil
}
