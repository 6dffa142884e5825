package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/cache"
	"github.com/loralab/loralab/runner/provenance"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/variant"
	"github.com/loralab/loralab/runner/view"
)

func (a *app) pluginsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "plugins",
		Short: "Write, test, install, trust, show and pin variant plug-ins",
		Long: `A variant plug-in is a program that runs with your rights. Runner starts those in
your data directory and next to itself, and those in the plugins.d of a project
once you have trusted them: see "runner plugins trust -h".`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, args []string) error { return c.Help() },
	}
	c.AddCommand(
		a.pluginsListCommand(), a.pluginsInfoCommand(), a.pluginsSchemaCommand(), a.pluginsShowCommand(),
		a.pluginsNewCommand(), a.pluginsTestCommand(), a.pluginsInstallCommand(), a.pluginsTrustCommand(),
		a.pluginsLockCommand(), a.pluginsDocsCommand(),
	)
	return c
}

// openPlugins opens the registry of the current directory's project.
func (a *app) openPlugins() (*variant.Registry, string, error) {
	root, err := rootOf(nil)
	if err != nil {
		return nil, "", err
	}
	r, err := a.variants(root)
	return r, root, err
}

// openPlugin opens a registry for one plug-in, named or given by the path of
// its file. A path means that file, whatever runner.lock says; if it is in the
// plugins.d of a project, it needs trust all the same.
func (a *app) openPlugin(arg string) (*variant.Registry, string, error) {
	if !strings.ContainsRune(arg, filepath.Separator) {
		r, _, err := a.openPlugins()
		return r, arg, err
	}
	path, o, err := pluginFile(arg)
	if err != nil {
		return nil, "", err
	}
	if a.asking {
		o.CacheDir = ""
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil && dir == variant.ProjectDir(filepath.Dir(dir)) {
		o.Root, o.Dirs, o.NoLock = filepath.Dir(dir), []string{dir}, true
		if o.Trust, err = variant.TrustFile(); err != nil {
			return nil, "", err
		}
	} else {
		o.Dev = map[string]string{filepath.Base(path): path}
	}
	return variant.Open(o), filepath.Base(path), nil
}

// pluginFile is the absolute path of a plug-in's file, and what a registry needs
// that knows no other.
func pluginFile(arg string) (string, variant.Options, error) {
	o := variant.Options{Dirs: []string{}}
	path, err := filepath.Abs(arg)
	if err != nil {
		return "", o, fmt.Errorf("finding the plug-in: %w", err)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", o, fmt.Errorf("finding the plug-in: %w", err)
	case info.IsDir():
		return "", o, fmt.Errorf("%s is a directory: name the program that is built from it", arg)
	}
	o.CacheDir, err = cache.Dir()
	return path, o, err
}

// plugin is what is known of one.
func (a *app) plugin(c *cobra.Command, r *variant.Registry, name string) view.Plugin {
	p := view.Plugin{Name: name}
	if p.Found, p.Err = r.Find(name); p.Err == nil {
		p.Description, p.Err = r.Describe(c.Context(), name)
	}
	return p
}

// trainedWith is the version of a variant that runs of an experiment were trained
// with, as the newest of them says; "" if none does.
func trainedWith(ctx context.Context, root, experiment, name string) string {
	const most = 100 // records that are read for a hint
	known, err := store.Read(ctx, root)
	if err != nil {
		return ""
	}
	read := 0
	for _, label := range known.Newest() {
		run := known.Run(label.Run)
		if label.Experiment != experiment || run == nil || run.Summary == nil {
			continue
		}
		if read++; read > most {
			break
		}
		record, err := provenance.Read(filepath.Join(root, filepath.FromSlash(run.Dir)))
		if err != nil {
			continue
		}
		for _, attempt := range slices.Backward(record.Attempts) {
			if attempt.Variant.Name == name {
				return attempt.Variant.Version
			}
		}
	}
	return ""
}
