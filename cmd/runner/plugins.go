package main

import (
	"context"
	"fmt"
	"path/filepath"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
	"github.com/spf13/cobra"

	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/variant"
	"github.com/loralab/loralab/runner/view"
)

func (a *app) pluginsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "plugins",
		Short: "List, show and pin variant plug-ins",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, args []string) error { return c.Help() },
	}
	c.AddCommand(a.pluginsListCommand(), a.pluginsShowCommand(), a.pluginsLockCommand())
	return c
}

// openPlugins opens the registry of the current directory's project.
func (a *app) openPlugins() (*variant.Registry, string, error) {
	root, err := rootOf(nil)
	if err != nil {
		return nil, "", err
	}
	r, err := a.variants(root)
	return r, root, err
}

func (a *app) pluginsListCommand() *cobra.Command {
	return &cobra.Command{
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
				p := view.Plugin{Name: name}
				found, err := r.Find(name)
				if err == nil {
					p.Path = found.Path
					p.Description, err = r.Describe(c.Context(), name)
				}
				p.Err = err
				plugins = append(plugins, p)
			}
			a.view.Plugins(plugins, r.Dirs())
			return nil
		},
	}
}

func (a *app) pluginsShowCommand() *cobra.Command {
	var params string
	m := &protocol.Model{Family: "vit", Depth: 12}
	c := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a variant: what it is, its parameters, its program",
		Long: `Show prints what a variant says of itself and the schema of its parameters. With
-params it also prints the adapter program for the query layer of a block, typed:
what the engine computes.`,
		Example: `  runner plugins show lora` + "\n" + `  runner plugins show lora -params '{"rank": 8, "alpha": 16}'`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r, _, err := a.openPlugins()
			if err != nil {
				return err
			}
			defer r.Close()
			d, err := r.Describe(c.Context(), args[0])
			if err != nil {
				return err
			}
			a.view.Plugin(d)
			if params == "" {
				return nil
			}
			complete, err := completeParams(d, params)
			if err != nil {
				return err
			}
			site := &protocol.Site{Name: "query", Kind: protocol.Site_LINEAR, In: m.Dim, Out: m.Dim, Bias: true}
			reply, err := r.Build(c.Context(), args[0], complete, m, []*protocol.Site{site})
			if err != nil {
				return err
			}
			for _, problem := range reply.GetProblems() {
				return fmt.Errorf("%s: %s\n%s", problem.GetParam(), problem.GetMessage(), problem.GetHint())
			}
			typed, err := program.Check(reply.GetPrograms()[reply.GetProgramOfSite()[0]], site, m)
			if err != nil {
				return err
			}
			a.view.Program(typed.Text())
			return nil
		},
	}
	c.Flags().StringVar(&params, "params", "", "print the program for these parameters, a `JSON` object")
	c.Flags().Uint32Var(&m.Dim, "dim", 384, "width of the layer for -params")
	c.PreRun = func(*cobra.Command, []string) { m.Heads, m.Mlp = max(1, m.Dim/64), 4*m.Dim }
	return c
}

func (a *app) pluginsLockCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "lock NAME...",
		Short: "Pin variants to their files by checksum",
		Long: `Lock writes the version and SHA-256 of the named plug-ins into runner.lock beside
the experiments. Once there is such a file, only plug-ins that it lists, with these
sums, are started. Commit it.`,
		Example: "  runner plugins lock lora",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, names []string) error {
			root, err := rootOf(nil)
			if err != nil {
				return err
			}
			return a.lockPlugins(c.Context(), root, names)
		},
	}
}

func (a *app) lockPlugins(ctx context.Context, root string, names []string) error {
	// Without a root the registry obeys no lock: this one is to be replaced.
	r := variant.Open(variant.Options{Dirs: variant.DefaultDirs(root)})
	defer r.Close()
	path := filepath.Join(root, variant.LockFile)
	lock, err := variant.ReadLock(path)
	if err != nil {
		return err
	}
	if lock == nil {
		lock = &variant.Lock{Variants: map[string]variant.Pin{}}
	}
	for _, name := range names {
		found, err := r.Find(name)
		if err != nil {
			return err
		}
		d, err := r.Describe(ctx, name)
		if err != nil {
			return err
		}
		lock.Variants[name] = variant.Pin{Version: d.GetVersion(), Protocol: protocol.Version, SHA256: []string{found.SHA256}}
	}
	if err := variant.WriteLock(path, lock); err != nil {
		return err
	}
	for _, name := range names {
		pin := lock.Variants[name]
		a.view.Pinned(name, pin.Version, pin.SHA256[0], path)
	}
	return nil
}

// completeParams fills in the defaults of a variant's schema.
func completeParams(d *protocol.DescribeReply, params string) (string, error) {
	ctx := cuecontext.New()
	schema := ctx.CompileString(d.GetSchema(), cue.Filename(d.GetName()+"/schema.cue")).LookupPath(cue.ParsePath("#Params"))
	given := ctx.CompileString(params, cue.Filename("-params"))
	text, err := schema.Unify(given).MarshalJSON()
	if err != nil {
		return "", fmt.Errorf("-params: %w", err)
	}
	return string(text), nil
}
