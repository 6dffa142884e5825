package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/track"
	"github.com/loralab/loralab/runner/wandb"
)

func (a *app) trackSyncCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "sync [DIR...]",
		Short: "Send what was logged for W&B offline, or while its server was away",
		Long: `Sync sends the logs of W&B in directories of runs, or without any all in wandb/ of the
project, or in $WANDB_DIR, that were not sent. It can be killed and repeated: it continues
at the last line that the server has acknowledged, and sends none twice. Reports link the
pages of the runs then.`,
		Example: "  runner track sync\n  runner track sync wandb/offline-run-*",
		RunE: func(c *cobra.Command, dirs []string) error {
			root := os.Getenv("WANDB_DIR")
			if root == "" {
				var err error
				if root, err = rootOf(nil); err != nil {
					return err
				}
			}
			settings, err := wandb.Environment(root, os.Getenv)
			if err != nil {
				return fmt.Errorf("settings of W&B: %w", err)
			}
			settings.Root = root
			results, err := wandb.Sync(c.Context(), settings, dirs...)
			failed := slices.ContainsFunc(results, func(r wandb.Result) bool { return r.Err != nil })
			if err != nil && !failed {
				return err
			}
			a.view.Synced(results)
			if err := track.KeepPages(root, results); err != nil {
				return err
			}
			if failed {
				return exitCode(1)
			}
			return nil
		},
	}
}
