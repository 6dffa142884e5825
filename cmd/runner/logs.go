package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/store"
)

const followEvery = 200 * time.Millisecond

func (a *app) logsCommand() *cobra.Command {
	var follow, raw, engine bool
	c := &cobra.Command{
		Use:   "logs RUN",
		Short: "Show what a run has said",
		Long: `Logs shows the steps, validations and scores of a run. RUN is the beginning of its
id or its name, as status shows them; of a name, an end that no other run has will
do.`,
		Example: "  runner logs ablation_rank/rank=8/seed=1\n  runner logs -f 3fa1b2\n  runner logs -engine rank=8/seed=1",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			root, err := rootOf(nil)
			if err != nil {
				return err
			}
			known, err := store.Read(c.Context(), root)
			if err != nil {
				return err
			}
			run, err := known.Find(args[0])
			if err != nil {
				return err
			}
			name, show := "metrics.jsonl", a.view.Log
			if engine {
				name = "log.txt"
			}
			if raw || engine {
				show = a.view.Line
			}
			err = tail(c.Context(), root, run, name, follow, show)
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s has said nothing yet", run.Name())
			}
			if err == nil && run.State == store.Failed && !raw && !follow {
				a.view.Failed(run.Reason)
			}
			return err
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on as the run goes on, until it ends")
	c.Flags().BoolVar(&raw, "json", false, "the lines of metrics.jsonl as they are")
	c.Flags().BoolVar(&engine, "engine", false, "what the engine wrote to its standard error")
	return c
}

// tail shows the lines of a file in a run directory, and if follow is true
// those to come.
func tail(ctx context.Context, root string, run *store.Run, name string, follow bool, show func([]byte)) error {
	dir := filepath.Join(root, filepath.FromSlash(run.Dir))
	var file *os.File
	var lines *bufio.Reader
	var part []byte
	for {
		// Asked before reading: what was written until then is read below.
		going := false
		if follow {
			var err error
			if going, err = isGoing(ctx, root, dir, run.ID); err != nil {
				return err
			}
		}
		if file == nil {
			opened, err := os.Open(filepath.Join(dir, name))
			if err != nil && !(going && errors.Is(err, fs.ErrNotExist)) {
				return fmt.Errorf("reading the log of %s: %w", run.Name(), err)
			}
			if err == nil {
				file, lines = opened, bufio.NewReader(opened)
				defer file.Close()
			}
		}
		for file != nil {
			line, err := lines.ReadBytes('\n')
			part = append(part, line...)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("reading the log of %s: %w", run.Name(), err)
			}
			show(bytes.TrimRight(part, "\n"))
			part = part[:0]
		}
		if !going {
			if len(part) > 0 {
				show(part)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followEvery):
		}
	}
}

// isGoing reports whether a run may still say something.
func isGoing(ctx context.Context, root, dir, id string) (bool, error) {
	if working, err := store.EngineAt(dir); working || err != nil {
		return working, err
	}
	holders, err := store.Holders(root)
	if len(holders) == 0 || err != nil {
		return false, err
	}
	known, err := store.Read(ctx, root)
	if err != nil {
		return false, err
	}
	run := known.Runs[id]
	return run != nil && (run.State == store.Running || run.State == store.Queued), nil
}
