package main

import (
	"context"
	"io"
	"os/exec"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/status"

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
			engine, err := startEngine()
			if err != nil {
				a.view.Warn(err.Error())
			} else {
				defer engine.Close()
				o.Try = engine.try
			}
			report, err := conformance.Run(c.Context(), o)
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

// engine runs programs for the conformance suite.
type engine struct{ *spec.EngineProcess }

// startEngine starts the engine of this installation.
func startEngine() (*engine, error) {
	path, err := launch.EnginePath()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path)
	cmd.Env = []string{"OMP_WAIT_POLICY=PASSIVE"} // as for runs
	p, err := spec.StartEngine(cmd, io.Discard, time.Minute)
	if err != nil {
		return nil, err
	}
	return &engine{p}, nil
}

func (e *engine) try(ctx context.Context, request *spec.ConformRequest) (*spec.ConformReply, error) {
	reply, err := e.Conform(ctx, request)
	if err != nil {
		return nil, status.Convert(err).Err()
	}
	return reply, nil
}
