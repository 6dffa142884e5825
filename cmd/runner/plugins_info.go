package main

import "github.com/spf13/cobra"

func (a *app) pluginsInfoCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "info NAME|PATH",
		Short:   "Show what a variant says of itself",
		Example: "  runner plugins info lora",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r, name, err := a.openPlugin(args[0])
			if err != nil {
				return err
			}
			defer r.Close()
			p := a.plugin(c, r, name)
			switch {
			case p.Err != nil:
				return p.Err
			case asJSON:
				return a.view.PluginJSON(p)
			}
			a.view.Plugin(p)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON, with the schema")
	return c
}
