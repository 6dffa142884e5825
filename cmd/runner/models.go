package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/hub"
	"github.com/loralab/loralab/runner/view"
)

func (a *app) modelsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "models",
		Short: "List and fetch pretrained backbones",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, args []string) error { return c.Help() },
	}
	c.AddCommand(
		&cobra.Command{
			Use:   "list",
			Short: "List the backbones that loralab knows, and which are here",
			Long: `List shows the backbones that loralab can fetch. Besides these, an experiment may
name a directory with model.safetensors and config.json, or org/name of a model
that is in the cache of Hugging Face's tools.`,
			Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return a.listModels() },
		},
		&cobra.Command{
			Use:     "fetch NAME",
			Short:   "Download a backbone into the cache and check it",
			Example: "  runner models fetch dinov2-small",
			Args:    cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				h, err := hub.Default()
				if err != nil {
					return err
				}
				b, err := h.Fetch(c.Context(), args[0], func(text string) { a.view.Say("%s", text) })
				if err != nil {
					return err
				}
				a.view.Say("%s: %s", b.Name, b.Path)
				return nil
			},
		},
	)
	return c
}

func (a *app) listModels() error {
	h, err := hub.Default()
	if err != nil {
		return err
	}
	var models []view.Model
	for _, name := range hub.Known() {
		m := view.Model{Name: name}
		var missing *hub.MissingError
		switch b, err := h.Resolve(name); {
		case err == nil:
			m.Backbone = b
		case errors.As(err, &missing):
			m.Missing = missing.Cure
		default:
			return err
		}
		models = append(models, m)
	}
	a.view.Models(models)
	return nil
}
