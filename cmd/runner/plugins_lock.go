package main

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/variant"
)

func (a *app) pluginsLockCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "lock [NAME...]",
		Short: "Pin variants to their files by checksum",
		Long: `Lock writes version and SHA-256 of the named plug-ins, or of all that are found
and answer, into runner.lock next to the experiments. Once there is such a file, only
plug-ins that it lists, with these sums, are started. Commit it. It gives no trust:
see "runner plugins trust -h".`,
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

// lockPlugins pins the named plug-ins, of which each must answer. Without names, and
// in a project that has no lock yet, it pins all others that answer too.
func (a *app) lockPlugins(ctx context.Context, root string, names []string) error {
	trusted, err := variant.TrustFile()
	if err != nil {
		return err
	}
	// The lock is to be replaced, so it is not obeyed.
	r := variant.Open(variant.Options{Root: root, NoLock: true, Trust: trusted})
	defer r.Close()
	path := filepath.Join(root, variant.LockFile)
	lock, err := variant.ReadLock(path)
	if err != nil {
		return err
	}
	must := slices.Clone(names)
	if len(names) == 0 || lock == nil {
		// A lock refuses what it does not list: the first one lists all.
		names = slices.Compact(slices.Sorted(slices.Values(append(r.Names(), names...))))
	}
	if lock == nil {
		lock = &variant.Lock{Variants: map[string]variant.Pin{}}
	}
	var pinned []string
	for _, name := range names {
		pin, err := pinOf(ctx, r, name)
		switch {
		case ctx.Err() != nil:
			return errors.New("interrupted")
		case err != nil && slices.Contains(must, name):
			return err
		case err != nil:
			a.view.NotPinned(name, err)
			continue
		}
		lock.Variants[name] = pin
		pinned = append(pinned, name)
	}
	if len(pinned) == 0 {
		return errors.New("there is no plug-in to pin")
	}
	if err := variant.WriteLock(path, lock); err != nil {
		return err
	}
	for _, name := range pinned {
		pin := lock.Variants[name]
		a.view.Pinned(name, pin.Version, pin.SHA256[0], path)
	}
	return nil
}

func pinOf(ctx context.Context, r *variant.Registry, name string) (variant.Pin, error) {
	d, err := r.Describe(ctx, name)
	if err != nil {
		return variant.Pin{}, err
	}
	found, err := r.Find(name)
	if err != nil {
		return variant.Pin{}, err
	}
	return variant.Pin{Version: d.GetVersion(), Protocol: protocol.Version, SHA256: []string{found.SHA256}}, nil
}
