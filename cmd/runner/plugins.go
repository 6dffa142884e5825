package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/cache"
	"github.com/loralab/loralab/runner/variant"
	"github.com/loralab/loralab/runner/view"
)

func (a *app) pluginsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "plugins",
		Short: "Write, test, install, show and pin variant plug-ins",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, args []string) error { return c.Help() },
	}
	c.AddCommand(
		a.pluginsListCommand(), a.pluginsInfoCommand(), a.pluginsSchemaCommand(), a.pluginsShowCommand(),
		a.pluginsNewCommand(), a.pluginsTestCommand(), a.pluginsInstallCommand(), a.pluginsLockCommand(),
		a.pluginsDocsCommand(),
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
// its file. Who gives a path wants that file, whatever runner.lock says.
func (a *app) openPlugin(arg string) (*variant.Registry, string, error) {
	info, err := os.Stat(arg)
	isPath := strings.ContainsRune(arg, filepath.Separator)
	switch {
	case err != nil && isPath:
		return nil, "", fmt.Errorf("finding the plug-in: %w", err)
	case err == nil && info.IsDir() && isPath:
		return nil, "", fmt.Errorf("%s is a directory: name the program that is built from it", arg)
	case !isPath:
		r, _, err := a.openPlugins()
		return r, arg, err
	}
	path, err := filepath.Abs(arg)
	if err != nil {
		return nil, "", fmt.Errorf("finding the plug-in: %w", err)
	}
	dir, err := cache.Dir()
	if err != nil {
		return nil, "", err
	}
	name := filepath.Base(path)
	return variant.Open(variant.Options{CacheDir: dir, Dirs: []string{}, Dev: map[string]string{name: path}}), name, nil
}

// plugin is what is known of one.
func (a *app) plugin(c *cobra.Command, r *variant.Registry, name string) view.Plugin {
	p := view.Plugin{Name: name}
	if p.Found, p.Err = r.Find(name); p.Err == nil {
		p.Description, p.Err = r.Describe(c.Context(), name)
	}
	return p
}
