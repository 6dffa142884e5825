package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/scaffold"
)

func (a *app) pluginsNewCommand() *cobra.Command {
	var inPython bool
	c := &cobra.Command{
		Use:   "new NAME",
		Short: "Write a plug-in that works, to start from",
		Long: `New writes a variant into a new directory of its name: a low-rank update with its
schema and its test, in Go or with --python in Python. It builds, passes its test
and runner plugins test; change it from there. See docs/plugins.md.`,
		Example: "  runner plugins new gain\n  runner plugins new --python gain",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			written, err := scaffold.New(".", args[0], inPython)
			if err != nil {
				return err
			}
			a.view.Initialised(written.Files, written.Next)
			return a.checkName(args[0])
		},
	}
	c.Flags().BoolVar(&inPython, "python", false, "in Python, without Go")
	return c
}

// checkName warns of a name that a plug-in has which is there already.
func (a *app) checkName(name string) error {
	root, err := rootOf(nil)
	if err != nil {
		return err
	}
	r, err := a.variants(root)
	if err != nil {
		return err
	}
	defer r.Close()
	if found, err := r.Find(name); err == nil {
		a.view.Warn(fmt.Sprintf("a plug-in %q is there already, %s: once this one is installed, experiments use it instead", name, found.Path))
	}
	return nil
}
