package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/view"
)

func (a *app) explainCommand() *cobra.Command {
	var asJSON bool
	var variant, preset string
	c := &cobra.Command{
		Use:   "explain [PATH] [FILE...]",
		Short: "Say what a field of an experiment means",
		Long: `Explain says what the schema knows of a field: what it means, its type, bounds and
default, and where it is defined. Parameters of a variant are explained from the
variant's own schema. With --preset NAME it lists all that a preset sets, with the reason
and the default; with --preset alone, the presets. With files it also says what each of them sets the field to,
where, and in which cells. A path leads into lists and cases, too: data.augment.0.kind,
data.augment[].kind for all elements, cases.NAME.optim.lr.

Without a path it lists what an experiment may have.`,
		Example: `  runner explain optim.lr
  runner explain adapter.params.rank experiments/ablation_rank.cue
  runner explain adapter.params --variant dora
  runner explain --preset linear_probe`,
		RunE: func(c *cobra.Command, args []string) error {
			if preset != "" {
				return a.explainPreset(c.Context(), preset, args, asJSON)
			}
			path := ""
			if len(args) > 0 && !strings.HasSuffix(args[0], ".cue") {
				path, args = args[0], args[1:]
			}
			explained, err := a.explain(c.Context(), path, variant, args)
			if err != nil {
				return err
			}
			if asJSON {
				return a.view.JSON(explained)
			}
			a.view.Explained(explained)
			return nil
		},
	}
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if missing := (*pflag.ValueRequiredError)(nil); errors.As(err, &missing) && missing.GetSpecifiedName() == "preset" {
			return a.listPresets(c.Context())
		}
		return unknownFlag(c, err)
	})
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	c.Flags().StringVar(&variant, "variant", "", "the `variant` whose parameters are meant")
	c.Flags().StringVar(&preset, "preset", "", "what a `preset` sets, and why")
	a.setFlag(c)
	return c
}

// listPresets names the presets with what each is.
func (a *app) listPresets(ctx context.Context) error {
	schema, err := experiment.OpenSchema(ctx, experiment.Env{})
	if err != nil {
		return err
	}
	field, err := schema.Field("preset", "")
	if err != nil {
		return err
	}
	a.view.Presets(schema.Presets(), field.Doc)
	return nil
}

// explainPreset says what a preset sets.
func (a *app) explainPreset(ctx context.Context, name string, args []string, asJSON bool) error {
	if len(args) > 0 {
		return fmt.Errorf("--preset %s: a preset is explained as a whole; leave %q out", name, args[0])
	}
	schema, err := experiment.OpenSchema(ctx, experiment.Env{})
	if err != nil {
		return err
	}
	settings, err := schema.Preset(name)
	if err != nil {
		return err
	}
	if asJSON {
		return a.view.JSON(settings)
	}
	a.view.Preset(settings)
	return nil
}

// explain finds a field in the schema, once for every variant that may be
// meant, and where files set it.
func (a *app) explain(ctx context.Context, path, variant string, files []string) ([]view.Explained, error) {
	root, err := rootOf(files)
	if err != nil {
		return nil, err
	}
	registry, err := a.variants(root)
	if err != nil {
		return nil, err
	}
	defer registry.Close()
	schema, err := experiment.OpenSchema(ctx, experiment.Env{Root: root, Variants: registry})
	if err != nil {
		return nil, err
	}
	if variant != "" && variant != "none" {
		if _, err := registry.Describe(ctx, variant); err != nil {
			return nil, err
		}
	}
	var set []view.Setting
	var used []string // variants
	if len(files) > 0 {
		p, err := a.sound(ctx, files, experiment.Env{})
		if err != nil {
			return nil, err
		}
		defer p.close()
		if set, used, err = settings(p, path); err != nil {
			return nil, err
		}
	}
	var names []string
	switch below := path == "adapter.params" || strings.HasPrefix(path, "adapter.params."); {
	case !below:
		names = []string{""}
	case variant != "":
		names = []string{variant}
	case len(used) > 0:
		names = used
	default:
		var silent []string
		for _, name := range registry.Names() {
			if _, err := registry.Describe(ctx, name); err != nil {
				silent = append(silent, name)
			} else {
				names = append(names, name)
			}
		}
		if len(silent) > 0 {
			a.view.Warn("left out: " + strings.Join(silent, ", ") + "; runner plugins list says why")
		}
		if len(names) == 0 {
			names = []string{""}
		}
	}
	var explained []view.Explained
	var wrong error
	for _, name := range names {
		e, err := explainField(schema, path, name)
		if err != nil {
			// Of several variants one may have the parameter.
			if wrong == nil {
				wrong = err
			}
			continue
		}
		for _, s := range set {
			if name == "" || s.Variant == name {
				e.Set = append(e.Set, s)
			}
		}
		explained = append(explained, e)
	}
	if len(explained) == 0 {
		return nil, wrong
	}
	return explained, nil
}

// explainField is one field with what is below it.
func explainField(schema *experiment.Schema, path, variant string) (view.Explained, error) {
	f, names := &experiment.Field{By: "schema"}, schema.Top()
	prefix := ""
	if path != "" {
		var err error
		if f, err = schema.Field(path, variant); err != nil {
			return view.Explained{}, err
		}
		names, prefix = f.Fields, path+"."
	}
	if path == "adapter.params" {
		names = nil
		for _, full := range schema.Fields(variant) {
			if name, ok := strings.CutPrefix(full, prefix); ok {
				names = append(names, name)
			}
		}
	}
	e := view.Explained{Field: f, Variant: variant, Types: schema.Definitions(f.Type)}
	for _, name := range names {
		under, err := schema.Field(prefix+name, variant)
		if err != nil {
			return view.Explained{}, err
		}
		e.Below = append(e.Below, under)
	}
	return e, nil
}

// settings are the values that the cells of a project give to a path and below
// it, each with the cells that share it, and the variants in use.
func settings(p *project, path string) (list []view.Setting, variants []string, err error) {
	for _, e := range p.experiments {
		names := cellsOf(e)
		for _, cell := range names {
			values, err := e.Values(cell)
			if err != nil {
				return nil, nil, err
			}
			variant := ""
			ofVariant := path == "adapter.params" || strings.HasPrefix(path, "adapter.params.")
			for _, v := range values {
				if v.Path == "adapter.variant" {
					variant = strings.Trim(string(v.Value), `"`)
				}
			}
			if !slices.Contains(variants, variant) && variant != "none" {
				variants = append(variants, variant)
			}
			if !ofVariant {
				variant = ""
			}
			if values, err = e.Within(path, cell, values); err != nil {
				return nil, nil, err
			}
			for _, v := range values {
				i := slices.IndexFunc(list, func(s view.Setting) bool {
					return s.Experiment == e.Name && s.Variant == variant && s.Path == v.Path && string(s.Value.Value) == string(v.Value) && s.At == v.At
				})
				if i < 0 {
					i = len(list)
					list = append(list, view.Setting{Experiment: e.Name, Variant: variant, Of: len(names), Value: v})
				}
				list[i].Cells = append(list[i].Cells, cell)
			}
		}
	}
	return list, variants, nil
}

// cellsOf names the cells of an experiment in their order.
func cellsOf(e *experiment.Experiment) []string {
	var cells []string
	for _, r := range e.Runs {
		if len(cells) == 0 || cells[len(cells)-1] != r.Cell {
			cells = append(cells, r.Cell)
		}
	}
	return cells
}
