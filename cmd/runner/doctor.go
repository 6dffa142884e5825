package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/doctor"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/variant"
)

func (a *app) doctorCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look whether this machine can run experiments",
		Long: `Doctor looks at all that running needs: the engine and its libtorch, processor,
CUDA, threads, memory, disk, backbones, plug-ins. For what is missing it says what
to do, and exits with 1.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			root, err := rootOf(nil)
			if err != nil {
				return err
			}
			h, err := a.backbones(root)
			if err != nil {
				return err
			}
			dir, err := os.Getwd()
			if err != nil {
				return fmt.Errorf("finding the current directory: %w", err)
			}
			trusted, err := variant.TrustFile()
			if err != nil {
				return err
			}
			registry, err := a.variants(root)
			if err != nil {
				return err
			}
			defer registry.Close()
			// One that keeps nothing asks each variant again.
			fresh := variant.Open(variant.Options{Root: root, Trust: trusted, NoLock: true})
			defer fresh.Close()
			checks := doctor.Examine(c.Context(), doctor.Options{
				Version: spec.Version(), WorkDir: dir, Hub: h, Plugins: variant.DefaultDirs(root),
				Untrusted: registry.Untrusted(), Engine: launch.Probe,
				Variant: func(ctx context.Context, name string) error {
					_, err := fresh.Describe(ctx, name)
					return err
				},
			})
			if asJSON {
				err = a.view.JSON(checks)
			} else {
				a.view.Doctor(checks)
			}
			if err == nil && !doctor.Healthy(checks) {
				err = exitCode(1)
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}
