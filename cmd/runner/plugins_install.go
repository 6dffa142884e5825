package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/variant"
)

func (a *app) pluginsInstallCommand() *cobra.Command {
	var project bool
	c := &cobra.Command{
		Use:   "install PATH",
		Short: "Put a plug-in where experiments find it",
		Long: `Install copies the file of a plug-in into the user's data directory, where all
projects find it, or with --project into plugins.d beside the experiments. It asks
the plug-in what it is first, and replaces one of the same name in one step.`,
		Example: "  runner plugins install ./gain\n  runner plugins install --project ./gain",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return fmt.Errorf("finding the plug-in: %w", err)
			}
			r, name, err := a.openPlugin(path)
			if err != nil {
				return err
			}
			defer r.Close()
			d, err := r.Describe(c.Context(), name)
			if err != nil {
				return err
			}
			root, err := rootOf(nil)
			if err != nil {
				return err
			}
			dir := variant.ProjectDir(root)
			if !project {
				if dir, err = variant.UserDir(); err != nil {
					return err
				}
			}
			_, err = os.Stat(filepath.Join(dir, name))
			replaced := !errors.Is(err, fs.ErrNotExist)
			to, err := variant.Install(path, dir)
			if err != nil {
				return err
			}
			a.view.Installed(name, d.GetVersion(), to, replaced)
			return a.checkInstalled(root, name, to)
		},
	}
	c.Flags().BoolVar(&project, "project", false, "into plugins.d of this project")
	return c
}

// checkInstalled warns if this project's experiments would not use the file.
func (a *app) checkInstalled(root, name, path string) error {
	r, err := a.variants(root)
	if err != nil {
		return err
	}
	defer r.Close()
	found, err := r.Find(name)
	switch {
	case err != nil:
		a.view.Warn(err.Error())
	case found.Path != path:
		a.view.Warn(fmt.Sprintf("experiments here use %s, which is found first", found.Path))
	}
	return nil
}
