package main

import (
	_ "embed" // the starter experiment
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/runner/foreign"
	"github.com/loralab/loralab/schema"
)

//go:embed starter/first.cue
var starter string

const (
	starterBackbone = "dinov2-small" // of starter/first.cue

	moduleFile = `module: "experiments.local"
language: version: "v0.17.0"
`
	ignoreFile = `# written by runner apply
/runs/
/logs/
/plots/
/report/
/exports/
/tensorboard/
/wandb/
`
)

func (a *app) initCommand() *cobra.Command {
	var schemaOnly bool
	c := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Make a small working project",
		Long: `Init writes a project into a directory, by default the current one: an experiment
on drawn shapes, the schema (so that cue vet and the CUE language server work
without a network), and a .gitignore. It overwrites nothing. One that was interrupted
is continued.

With --schema it writes the schema alone, in place of an older one: after an update
of runner.`,
		Example: "  runner init my-project\n  runner init --schema",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			if schemaOnly {
				return a.initSchema(dir)
			}
			return a.init(dir)
		},
	}
	c.Flags().BoolVar(&schemaOnly, "schema", false, "write the schema alone")
	return c
}

func (a *app) init(dir string) error {
	schemaFiles, err := schemaFiles()
	if err != nil {
		return err
	}
	// The module is last: with it the directory is a project, and without it one
	// that was not finished.
	module := projectFile{filepath.Join("cue.mod", "module.cue"), moduleFile}
	files := slices.Concat([]projectFile{
		{filepath.Join("experiments", "first.cue"), starter},
		{".gitignore", ignoreFile},
	}, schemaFiles, []projectFile{module})
	var there []string
	finished, same := false, true
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		switch _, err := os.Lstat(path); {
		case err == nil:
			text, err := os.ReadFile(path)
			there, finished = append(there, f.name), finished || f == module
			same = same && err == nil && string(text) == f.text
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("looking at the directory: %w", err)
		}
	}
	if len(there) > 0 && (finished || !same) {
		return fmt.Errorf("%s has files that init would overwrite; it wrote nothing:\n%s", dir, strings.Join(there, "\n"))
	}
	written, err := writeFiles(dir, files)
	if err != nil {
		return err
	}
	var next []string
	if dir != "." {
		next = append(next, "cd "+foreign.Word(dir))
	}
	// Shapes are drawn; the backbone is all that may have to be fetched.
	backbones, err := a.backbones(dir)
	if err != nil {
		return err
	}
	if _, err := backbones.Resolve(starterBackbone); err != nil {
		next = append(next, "runner models fetch "+starterBackbone)
	}
	a.view.Initialised(written, append(next, "runner plan experiments/first.cue", "runner apply experiments/first.cue"))
	return nil
}

// initSchema puts the schema of this runner in place of another one's.
func (a *app) initSchema(dir string) error {
	module, err := os.ReadFile(filepath.Join(dir, "cue.mod", "module.cue"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is no project: it has no cue.mod/module.cue; runner init makes one", dir)
	case err != nil:
		return fmt.Errorf("looking at the project: %w", err)
	case strings.Contains(string(module), strconv.Quote(path.Dir(schema.ImportPath))):
		return fmt.Errorf("%s holds the schema itself, in %s", dir, path.Base(schema.ImportPath))
	}
	files, err := schemaFiles()
	if err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(dir, filepath.Dir(files[0].name), "*.cue"))
	if err != nil {
		return fmt.Errorf("looking for the old schema: %w", err)
	}
	written, err := writeFiles(dir, files)
	if err != nil {
		return err
	}
	// A file that the schema has no more would be read with the others.
	for _, path := range old {
		if !slices.ContainsFunc(files, func(f projectFile) bool { return filepath.Join(dir, f.name) == path }) {
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("removing the old schema: %w", err)
			}
		}
	}
	a.view.Initialised(written, nil)
	return nil
}

// writeFiles writes files below dir and lists what people should know of.
func writeFiles(dir string, files []projectFile) (written []string, err error) {
	library := filepath.Join("cue.mod", "pkg")
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return nil, fmt.Errorf("making the project: %w", err)
		}
		if err := replacefile.Write(path, []byte(f.text)); err != nil {
			return nil, fmt.Errorf("making the project: %w", err)
		}
		if !strings.HasPrefix(f.name, library) {
			written = append(written, path)
		}
	}
	return append(written, filepath.Join(dir, library)+" (the schema)"), nil
}

type projectFile struct{ name, text string }

// schemaFiles are the schema, where CUE looks for packages that come from no
// registry.
func schemaFiles() ([]projectFile, error) {
	var files []projectFile
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
