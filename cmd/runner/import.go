package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/archive"
)

func (a *app) importCommand() *cobra.Command {
	var large bool
	c := &cobra.Command{
		Use:   "import ARCHIVE...",
		Short: "Take in runs that runner export --archive wrote",
		Long: `Import takes runs from archives into the project that the current directory belongs
to. Each file is checked against its digest, the run against its identity, and all of
it is read before it appears. A run that is here already is left as it is.

An archive that unpacks to more than 8 GB is taken in with --large only.`,
		Example: "  runner import rank8-seed1.tar.zst",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			most := int64(archive.Most)
			if large {
				most = math.MaxInt64
			}
			return a.importRuns(c.Context(), files, most)
		},
	}
	c.Flags().BoolVar(&large, "large", false, "take in archives of any size that there is room for")
	return c
}

func (a *app) importRuns(ctx context.Context, files []string, most int64) (err error) {
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
		m, err := archive.Import(ctx, root, runs, file, most)
		var known *archive.KnownError
		if errors.As(err, &known) {
			a.view.Warn(err.Error())
			continue
		}
		var large *archive.LargeError
		if errors.As(err, &large) {
			err = fmt.Errorf("%w; with --large it is taken in", err)
		}
		if err != nil {
			return err
		}
		a.view.Imported(m)
	}
	return nil
}
