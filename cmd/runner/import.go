package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/archive"
)

func (a *app) importCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "import ARCHIVE...",
		Short: "Take in runs that runner export --archive wrote",
		Long: `Import takes runs from archives into the project that the current directory belongs
to. Each file is checked against its digest, and the run against its identity. A run
that is here already is left as it is.`,
		Example: "  runner import rank8-seed1.tar.zst",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			return a.importRuns(c.Context(), files)
		},
	}
}

func (a *app) importRuns(ctx context.Context, files []string) (err error) {
	root, err := rootOf(nil)
	if err != nil {
		return err
	}
	runs, done, err := change(ctx, root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	for _, file := range files {
		m, err := archive.Import(ctx, root, runs, file)
		var known *archive.KnownError
		if errors.As(err, &known) {
			a.view.Warn(err.Error())
			continue
		}
		if err != nil {
			return err
		}
		a.view.Imported(m)
	}
	return nil
}
