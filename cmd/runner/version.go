package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/spec"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which version this is",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			a.view.Say("%s", versionLine())
			return nil
		},
	}
}

func versionLine() string {
	return fmt.Sprintf("loralab %s (%s, %s/%s)", spec.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
