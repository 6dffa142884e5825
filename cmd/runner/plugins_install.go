package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/trust"
	"github.com/loralab/loralab/runner/variant"
)

func (a *app) pluginsInstallCommand() *cobra.Command {
	var project bool
	c := &cobra.Command{
		Use:   "install PATH",
		Short: "Put a plug-in where experiments find it",
		Long: `Install copies the file of a plug-in into the user's data directory, where all
projects find it, or with --project into plugins.d beside the experiments. It asks
the plug-in what it is first, and replaces one of the same name in one step. To
install a plug-in is to trust it: see "runner plugins trust -h".`,
		Example: "  runner plugins install ./gain\n  runner plugins install --project ./gain",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path, o, err := pluginFile(args[0])
			if err != nil {
				return err
			}
			name := filepath.Base(path)
			o.Dev = map[string]string{name: path}
			r := variant.Open(o)
			defer r.Close()
			d, err := r.Describe(c.Context(), name)
			if err != nil {
				return err
			}
			found, err := r.Find(name)
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
			to, err := variant.Install(path, dir, found.SHA256)
			if err != nil {
				return err
			}
			if project {
				trusted, err := openTrust()
				if err != nil {
					return err
				}
				entry := trust.Entry{SHA256: found.SHA256, Name: name, Path: to, Date: time.Now().UTC().Truncate(time.Second)}
				if err := trusted.Add(entry); err != nil {
					return err
				}
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
