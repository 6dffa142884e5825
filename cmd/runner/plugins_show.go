package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/design"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/variant"
)

// showing is what the show verb is asked.
type showing struct {
	params, site, backbone, size string
	block                        uint32
	json                         bool
}

func (a *app) pluginsShowCommand() *cobra.Command {
	s := showing{}
	c := &cobra.Command{
		Use:   "show NAME|PATH",
		Short: "Show the program of an adapted layer: what the engine computes",
		Long: `Show prints the adapter program of a variant for one layer, with the shape of every
value (T is the number of tokens), and what PEFT would store of it. Parameters are
written as in adapter.params.`,
		Example: `  runner plugins show lora --params 'rank: 8' --site query
  runner plugins show lora --params 'rank: 8' --site fc1 --backbone dinov2-small`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			a.asking = true // what it prints is shown each time
			r, name, err := a.openPlugin(args[0])
			if err != nil {
				return err
			}
			defer r.Close()
			if err := a.showProgram(c.Context(), r, name, s); err != nil {
				return err
			}
			r.Close()
			a.view.Printed(r.Printed())
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&s.params, "params", "", "`parameters` of the variant, 'rank: 8' or JSON")
	f.StringVar(&s.site, "site", "query", "the `place`: "+strings.Join(design.Targets, " "))
	f.Uint32Var(&s.block, "block", 0, "the block of the layer, from 0 on")
	f.StringVar(&s.backbone, "backbone", "", "the backbone by `name`; without it, the sizes of a ViT-S/16")
	f.StringVar(&s.size, "size", "", "`OUTxIN` of the layer instead of the backbone's, 60x24")
	f.BoolVar(&s.json, "json", false, "write JSON")
	c.MarkFlagsMutuallyExclusive("backbone", "size")
	return c
}

func (a *app) showProgram(ctx context.Context, r *variant.Registry, name string, s showing) error {
	arch := &spec.Architecture{Family: "vit", Dim: 384, Depth: 12, Heads: 6, Mlp: 1536, Patch: 16, QkvBias: true}
	if s.backbone != "" {
		root, err := rootOf(nil)
		if err != nil {
			return err
		}
		h, err := a.backbones(root)
		if err != nil {
			return err
		}
		b, err := h.Resolve(s.backbone)
		if err != nil {
			return err
		}
		arch = b.Arch
	}
	site, ok := design.Site(arch, s.block, s.site)
	if !ok {
		return fmt.Errorf("there is no place %q; there are %s", s.site, strings.Join(design.Targets, ", "))
	}
	if s.block >= arch.GetDepth() {
		return fmt.Errorf("there is no block %d: the backbone has blocks 0 to %d", s.block, arch.GetDepth()-1)
	}
	if s.size != "" {
		if _, err := fmt.Sscanf(s.size, "%dx%d", &site.Out, &site.In); err != nil {
			return fmt.Errorf("--size %s: want OUTxIN, 60x24 for example", s.size)
		}
	}
	schema, err := r.Schema(ctx, name)
	if err != nil {
		return err
	}
	params, err := schema.Complete(s.params)
	if err != nil {
		return err
	}
	m := &protocol.Model{Family: arch.GetFamily(), Dim: arch.GetDim(), Depth: arch.GetDepth(), Heads: arch.GetHeads(), Mlp: arch.GetMlp()}
	reply, err := r.Build(ctx, name, params, m, []*protocol.Site{site})
	if err != nil {
		return err
	}
	if len(reply.GetProblems()) > 0 {
		lines := []string{fmt.Sprintf("variant %s cannot adapt %s with these parameters:", name, program.SiteName(site))}
		for _, p := range reply.GetProblems() {
			lines = append(lines, strings.TrimPrefix(p.GetParam()+": "+p.GetMessage(), ": "))
			if p.GetHint() != "" {
				lines = append(lines, "  "+p.GetHint())
			}
		}
		return fmt.Errorf("%s", strings.Join(lines, "\n"))
	}
	placed, err := program.CheckAll(reply.GetPrograms(), []*protocol.Site{site}, reply.GetProgramOfSite(), m)
	if err != nil {
		return fmt.Errorf("checking the program of variant %s: %w", name, err)
	}
	var stored *program.Stored
	if reply.GetPeft() != nil && site.GetKind() != protocol.Site_PATCH { // a convolution in PEFT, which export does not write
		all, err := program.CheckPeftAll(reply.GetPeft(), placed, reply.GetProgramOfSite())
		if err != nil {
			return fmt.Errorf("checking what PEFT stores of variant %s: %w", name, err)
		}
		stored = all[0]
	}
	config := reply.GetPeft().GetConfigJson()
	if s.json {
		return a.view.ProgramJSON(placed.Sites[0], stored, config)
	}
	a.view.Program(placed.Sites[0], stored, config)
	return nil
}
