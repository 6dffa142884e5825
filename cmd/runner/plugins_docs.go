package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/variant"
	"github.com/loralab/loralab/runner/view"
)

func (a *app) pluginsDocsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "docs [NAME...]",
		Short: "Write the table of variants as Markdown",
		Long: `Docs writes what variants say of themselves as a table in Markdown: formula,
parameters, whether they can be merged, their names in PEFT, their papers. The
table in docs/variants.md is made so.`,
		RunE: func(c *cobra.Command, names []string) error {
			r, _, err := a.openPlugins()
			if err != nil {
				return err
			}
			defer r.Close()
			if len(names) == 0 {
				names = r.Names()
			}
			var rows []view.Variant
			for _, name := range names {
				row, err := variantRow(c.Context(), r, name)
				if err != nil {
					return err
				}
				rows = append(rows, row)
			}
			a.view.VariantTable(rows)
			return nil
		},
	}
}

// variantRow builds the examples of a variant on query and value of a ViT-B/16.
func variantRow(ctx context.Context, r *variant.Registry, name string) (view.Variant, error) {
	d, err := r.Describe(ctx, name)
	if err != nil {
		return view.Variant{}, err
	}
	schema, err := variant.ReadSchema(d)
	if err != nil {
		return view.Variant{}, err
	}
	m := &protocol.Model{Family: "vit", Dim: 768, Depth: 12, Heads: 12, Mlp: 3072}
	var sites []*protocol.Site
	for block := range m.Depth {
		for _, layer := range []string{"query", "value"} {
			sites = append(sites, &protocol.Site{Name: layer, Block: block, Kind: protocol.Site_LINEAR, In: m.Dim, Out: m.Dim, Bias: true})
		}
	}
	row := view.Variant{Description: d}
	merging, examples := 0, d.GetExamples()
	if len(examples) == 0 {
		examples = []string{""}
	}
	for i, example := range examples {
		params, err := schema.Complete(example)
		if err != nil {
			return row, err
		}
		reply, err := r.Build(ctx, name, params, m, sites)
		if err != nil {
			return row, err
		}
		if len(reply.GetProblems()) > 0 {
			p := reply.GetProblems()[0]
			return row, fmt.Errorf("variant %s cannot adapt a ViT-B/16 with its example {%s}: %s: %s", name, example, p.GetParam(), p.GetMessage())
		}
		placed, err := program.CheckAll(reply.GetPrograms(), sites, reply.GetProgramOfSite(), m)
		if err != nil {
			return row, fmt.Errorf("checking the programs of variant %s: %w", name, err)
		}
		if i == 0 {
			row.Example, row.Trainable = example, placed.Trainable
		}
		if placed.Sites[0].Mergeable() {
			merging++
		}
	}
	switch merging {
	case 0:
		row.Merge = "no"
	case len(examples):
		row.Merge = "yes"
	default:
		row.Merge = "sometimes"
	}
	return row, nil
}
