package main

import (
	_ "embed" // the starter experiment
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/schema"
)

//go:embed starter/first.cue
var starter string

const (
	moduleFile = `module: "experiments.local"
language: version: "v0.17.0"
`
	ignoreFile = `# written by runner apply
/runs/
/logs/
/plots/
/report/
`
)

func (a *app) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init [DIR]",
		Short: "Make a small working project",
		Long: `Init writes a project into a directory, by default the current one: an experiment
on drawn shapes, the schema (so that cue vet and the CUE language server work
without a network), and a .gitignore. It overwrites nothing.`,
		Example: "  runner init my-project",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			return a.init(dir)
		},
	}
}

func (a *app) init(dir string) error {
	files, err := projectFiles()
	if err != nil {
		return err
	}
	var there []string
	for _, f := range files {
		if _, err := os.Lstat(filepath.Join(dir, f.name)); err == nil {
			there = append(there, f.name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("looking at the directory: %w", err)
		}
	}
	if len(there) > 0 {
		return fmt.Errorf("%s has files that init would overwrite; it wrote nothing:\n%s", dir, strings.Join(there, "\n"))
	}
	var written []string
	for _, f := range files {
		name := filepath.Join(dir, f.name)
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			return fmt.Errorf("making the project: %w", err)
		}
		if err := os.WriteFile(name, []byte(f.text), 0o666); err != nil {
			return fmt.Errorf("making the project: %w", err)
		}
		if !strings.HasPrefix(f.name, filepath.Join("cue.mod", "pkg")) {
			written = append(written, name)
		}
	}
	var next []string
	if dir != "." {
		next = append(next, "cd "+dir)
	}
	a.view.Initialised(append(written, filepath.Join(dir, "cue.mod", "pkg")+" (the schema)"),
		append(next, "runner models fetch dinov2-small", "runner plan experiments/first.cue", "runner apply experiments/first.cue"))
	return nil
}

type projectFile struct{ name, text string }

func projectFiles() ([]projectFile, error) {
	files := []projectFile{
		{filepath.Join("experiments", "first.cue"), starter},
		{".gitignore", ignoreFile},
		{filepath.Join("cue.mod", "module.cue"), moduleFile},
	}
	entries, err := schema.Files.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("reading the schema: %w", err)
	}
	for _, e := range entries {
		text, err := schema.Files.ReadFile(e.Name())
		if err != nil {
			return nil, fmt.Errorf("reading the schema: %w", err)
		}
		files = append(files, projectFile{filepath.FromSlash(path.Join("cue.mod/pkg", schema.ImportPath, e.Name())), string(text)})
	}
	return files, nil
}
