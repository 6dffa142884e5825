package main

import (
	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/view"
)

func (a *app) pluginsListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the variants that experiments can use",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, _, err := a.openPlugins()
			if err != nil {
				return err
			}
			defer r.Close()
			var plugins []view.Plugin
			for _, name := range r.Names() {
				plugins = append(plugins, a.plugin(c, r, name))
			}
			if asJSON {
				return a.view.PluginsJSON(plugins, r.Dirs())
			}
			a.view.Plugins(plugins, r.Dirs())
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}
