package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/conformance"
	"github.com/loralab/loralab/runner/launch"
)

func (a *app) pluginsTestCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "test NAME|PATH",
		Short: "Try a plug-in: does it keep what variants promise",
		Long: `Test runs the conformance suite on a plug-in, anyone's: protocol, schema, programs
for layers of odd sizes, gradients against finite differences, seeds, merging,
saving, PEFT files. Programs are run by the engine; without one, those checks are
left out. A fault says what was expected, what was found and how to see it; the
exit code is 1.`,
		Example: "  runner plugins test ./gain",
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
			o := conformance.Options{Name: name, Path: found.Path}
			if !asJSON {
				o.Watch = a.view.Tried
			}
			report, err := a.conform(c.Context(), o)
			switch {
			case err != nil:
				return err
			case asJSON:
				err = a.view.JSON(report)
			default:
				a.view.Conformed(report)
			}
			if report.Failed() {
				return exitCode(1)
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

// conform runs the suite, with an engine if there is one.
func (a *app) conform(ctx context.Context, o conformance.Options) (report *conformance.Report, err error) {
	if _, err := launch.EnginePath(); err != nil {
		a.view.Warn(err.Error())
		return conformance.Run(ctx, o)
	}
	err = launch.Ask(ctx, func(ctx context.Context, engine spec.EngineClient) error {
		o.Try = func(ctx context.Context, request *spec.ConformRequest) (*spec.ConformReply, error) {
			return engine.Conform(ctx, request)
		}
		report, err = conformance.Run(ctx, o)
		return err
	})
	return report, err
}
