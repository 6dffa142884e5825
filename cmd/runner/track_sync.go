package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/track"
	"github.com/loralab/loralab/runner/wandb"
)

func (a *app) trackSyncCommand() *cobra.Command {
	wait := time.Minute
	c := &cobra.Command{
		Use:   "sync [DIR...]",
		Short: "Send what was logged for W&B offline, or while its server was away",
		Long: `Sync sends the logs of W&B in directories of runs, or without any all in wandb/ of the
project, or in $WANDB_DIR/wandb, that were not sent. It can be killed and repeated: it
continues at the last line that the server has acknowledged, and sends none twice. Reports
link the pages of the runs then. A server that does not answer is tried again for --wait;
then, and at once where it is not a server of W&B, sync ends with exit status 1.`,
		Example: "  runner track sync\n  runner track sync wandb/offline-run-*",
		RunE: func(c *cobra.Command, dirs []string) error {
			if wait <= 0 {
				return errors.New("--wait is a time above 0: 90s or 5m")
			}
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
			settings.Root, settings.Wait = root, wait
			settings.Notice = func(n wandb.Notice) {
				if n.Kind == wandb.Away || n.Kind == wandb.Renamed { // all else is in the results
					a.view.Aside("W&B: %s", n.Text)
				}
			}
			results, err := wandb.Sync(c.Context(), settings, dirs...)
			failed := slices.ContainsFunc(results, func(r wandb.Result) bool { return r.Err != nil })
			if err != nil && !failed {
				return err
			}
			a.view.Synced(root, results)
			if err := track.KeepPages(root, results); err != nil {
				return err
			}
			if failed {
				return exitCode(1)
			}
			return nil
		},
	}
	c.Flags().DurationVar(&wait, "wait", wait, "wait this long for a server that does not answer")
	return c
}
