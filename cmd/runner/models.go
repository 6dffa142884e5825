package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/backbone"
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
			Short: "List the backbones that are here, and those with a short name",
			Long: `List shows the backbones with a short name and the models in the cache of Hugging
Face's tools that can serve as one. An experiment may also name any other model
of Hugging Face, hf:org/name or hf:org/name@revision, or a directory with
model.safetensors and config.json.`,
			Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return a.listModels() },
		},
		&cobra.Command{
			Use:   "fetch NAME",
			Short: "Download a backbone into the cache and check it",
			Long: `Fetch downloads a backbone unless it is here. Models of Hugging Face go into the
cache that its Python tools use, and are found there by both; a download that was
interrupted goes on where it stopped.

It obeys HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and
HTTPS_PROXY as those tools do.`,
			Example: "  runner models fetch dinov2-small\n  runner models fetch hf:google/vit-base-patch16-224",
			Args:    cobra.ExactArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				h, err := backbone.Default()
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
	h, err := backbone.Default()
	if err != nil {
		return err
	}
	var models []view.Model
	names := backbone.Known()
	for _, m := range h.HuggingFace.Models() {
		// Others than vision transformers are not ours to list.
		if _, err := h.Resolve(m.String()); err == nil {
			names = append(names, m.String())
		}
	}
	for _, name := range names {
		m := view.Model{Name: name}
		var missing *backbone.MissingError
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
