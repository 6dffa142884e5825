package main

import "github.com/spf13/cobra"

func (a *app) pluginsSchemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "schema NAME|PATH",
		Short:   "Show the parameters of a variant: its schema, in CUE",
		Example: "  runner plugins schema lora",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r, name, err := a.openPlugin(args[0])
			if err != nil {
				return err
			}
			defer r.Close()
			d, err := r.Describe(c.Context(), name)
			if err != nil {
				return err
			}
			a.view.Schema(d.GetSchema())
			return nil
		},
	}
}
