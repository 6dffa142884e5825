package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/cache"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/peft"
	"github.com/loralab/loralab/runner/plugintest"
)

func (a *app) pluginsTestCommand() *cobra.Command {
	var asJSON, withPEFT bool
	c := &cobra.Command{
		Use:   "test NAME|PATH",
		Short: "Try a plug-in: does it keep what variants promise",
		Long: `Test runs the conformance suite on a plug-in, anyone's: protocol, schema, programs
for layers of odd sizes, gradients against finite differences, seeds, merging,
saving, PEFT files. Programs are run by the engine; without one, those checks are
left out. A fault says what was expected, what was found and how to see it; the
exit code is 1.

With --peft the library PEFT loads an export of each example over a small ViT, and
has to compute the same tokens. It runs in python3, or in the interpreter that
LORALAB_PYTHON names, with the packages peft, torch, transformers and safetensors.`,
		Example: "  runner plugins test ./gain\n  runner plugins test --peft ./gain",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r, name, err := a.openPlugin(args[0])
			if err != nil {
				return err
			}
			found, err := r.Find(name)
			r.Close()
			if err != nil {
				return err
			}
			o := plugintest.Options{Name: name, Path: found.Path}
			if !asJSON {
				o.Watch = a.view.Tried
			}
			var peftVersion string
			if withPEFT {
				python, err := plugintest.Python()
				if err != nil {
					return fmt.Errorf("comparing with PEFT: %w", err)
				}
				real, err := plugintest.StartPEFT(c.Context(), python)
				if err != nil {
					return fmt.Errorf("comparing with PEFT: %w", err)
				}
				defer real.Close()
				o.PEFT, peftVersion = real.Compare, real.Version
			}
			report, err := a.conform(c.Context(), o)
			if err == nil && report.Compared() {
				err = rememberPEFT(found.SHA256, peftVersion)
			}
			switch {
			case err != nil:
				return err
			case asJSON:
				err = a.view.JSON(report)
			default:
				a.view.Conformed(report)
				a.view.Printed(report.Printed)
			}
			if report.Failed() {
				return exitCode(1)
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	c.Flags().BoolVar(&withPEFT, "peft", false, "have PEFT load and compute exports")
	return c
}

// rememberPEFT notes for exports that PEFT computes what this plug-in writes.
func rememberPEFT(sum, version string) error {
	dir, err := cache.Dir()
	if err != nil {
		return err
	}
	return peft.Remember(dir, sum, version)
}

// conform runs the suite, with an engine if there is one.
func (a *app) conform(ctx context.Context, o plugintest.Options) (report *plugintest.Report, err error) {
	if _, err := launch.EnginePath(); err != nil {
		a.view.Warn(err.Error())
		return plugintest.Run(ctx, o)
	}
	err = launch.Ask(ctx, func(ctx context.Context, engine spec.EngineClient) error {
		o.Try = func(ctx context.Context, request *spec.ConformRequest) (*spec.ConformReply, error) {
			return engine.Conform(ctx, request)
		}
		o.Sample = func(ctx context.Context, request *spec.SampleRequest) error {
			_, err := engine.Sample(ctx, request)
			return err
		}
		report, err = plugintest.Run(ctx, o)
		return err
	})
	return report, err
}
