package main

import (
	"context"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/variant"
)

func (a *app) pluginsLockCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "lock [NAME...]",
		Short: "Pin variants to their files by checksum",
		Long: `Lock writes version and SHA-256 of the named plug-ins, or of all that are found,
into runner.lock beside the experiments. Once there is such a file, only plug-ins
that it lists, with these sums, are started. Commit it.`,
		Example: "  runner plugins lock lora",
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
	if len(names) == 0 {
		names = r.Names()
	}
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
