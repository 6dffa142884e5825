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
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/runner/pilot"
	"github.com/loralab/loralab/runner/store"
)

const followEvery = 200 * time.Millisecond

func (a *app) logsCommand() *cobra.Command {
	var follow, raw, engine bool
	c := &cobra.Command{
		Use:   "logs NAME...",
		Short: "Show what runs have said",
		Long: `Logs shows the steps, validations and scores of runs. NAME is the beginning of an id
or the name of a run, as status shows them; of a name, an end that no other run has
will do. The name of a cell or of an experiment stands for all its runs.

With -f it goes on with what they say until all of them have ended, or nobody works
on them any more.`,
		Example:           "  runner logs ablation_rank/rank=8/seed=1\n  runner logs -f ablation_rank\n  runner logs -engine rank=8/seed=1",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeRuns,
		RunE: func(c *cobra.Command, refs []string) error {
			root, known, err := a.known(c.Context())
			if err != nil {
				return err
			}
			var followed []*tail
			seen := map[string]bool{}
			for _, ref := range refs {
				labels, _, err := known.Select(ref)
				if err != nil {
					return err
				}
				for _, l := range labels {
					if !seen[l.Run] {
						seen[l.Run] = true
						followed = append(followed, &tail{run: known.Runs[l.Run], name: l.Name()})
					}
				}
			}
			several := len(followed) > 1
			if several && raw {
				return fmt.Errorf("-json is for one run, and these are %d", len(followed))
			}
			file, show := rundir.Journal, a.view.Log
			if engine {
				file = rundir.Log
			}
			if raw || engine {
				show = a.view.Line
			}
			for _, t := range followed {
				t.path = filepath.Join(root, filepath.FromSlash(t.run.Working()), file)
				t.show = func(line []byte) { show("", line) }
				if several {
					t.show = func(line []byte) { show(t.name, line) }
				}
				defer t.close()
			}
			if err := tails(c.Context(), root, followed, follow); err != nil {
				return err
			}
			for _, t := range followed {
				if t.file == nil && !several {
					return fmt.Errorf("%s has said nothing yet", t.name)
				}
				name := ""
				if several {
					name = t.name
				}
				switch {
				case raw || follow:
				case t.run.State == store.Failed:
					a.view.Failed(name, t.run.Reason)
				case t.run.State == store.Paused:
					a.view.Paused(name, t.run)
				}
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is to come, until the runs end")
	c.Flags().BoolVar(&raw, "json", false, "the lines of metrics.jsonl as they are")
	c.Flags().BoolVar(&engine, "engine", false, "what the engine wrote to its standard error")
	return c
}

// tail is a file of a run that is shown while it grows.
type tail struct {
	run  *store.Run
	name string
	path string
	show func(line []byte)

	file  *os.File
	lines *bufio.Reader
	part  []byte // of a line
}

func (t *tail) close() {
	if t.file != nil {
		t.file.Close()
	}
}

// move continues at the same place of the same file of another directory: a worker of a
// cluster has taken the run over, or has shown it.
func (t *tail) move(path string) {
	if path == t.path {
		return
	}
	t.path = path
	if t.file == nil {
		return
	}
	at, err := t.file.Seek(0, io.SeekCurrent)
	file, e := os.Open(path)
	if err != nil || e != nil {
		return
	}
	at -= int64(t.lines.Buffered() + len(t.part))
	if _, err := file.Seek(at, io.SeekStart); err != nil {
		file.Close()
		return
	}
	t.file.Close()
	t.file, t.lines, t.part = file, bufio.NewReader(file), nil
}

// read shows the lines that are there. A file that is not there yet has none.
func (t *tail) read() error {
	if t.file == nil {
		file, err := os.Open(t.path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the log of %s: %w", t.name, err)
		}
		t.file, t.lines = file, bufio.NewReader(file)
	}
	for {
		line, err := t.lines.ReadBytes('\n')
		t.part = append(t.part, line...)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the log of %s: %w", t.name, err)
		}
		t.show(bytes.TrimRight(t.part, "\n"))
		t.part = t.part[:0]
	}
}

// tails shows the files of runs, and if follow is true what is to come.
func tails(ctx context.Context, root string, followed []*tail, follow bool) error {
	for {
		// Asked before reading: what was written until then is read below.
		going := false
		if follow {
			var err error
			if going, err = anyGoing(ctx, root, followed); err != nil {
				return err
			}
		}
		for _, t := range followed {
			if err := t.read(); err != nil {
				return err
			}
			if !going && len(t.part) > 0 {
				t.show(t.part)
			}
		}
		if !going {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followEvery):
		}
	}
}

// anyGoing reports whether one of the runs may still say something.
func anyGoing(ctx context.Context, root string, followed []*tail) (bool, error) {
	for _, t := range followed {
		if working, err := store.EngineAt(filepath.Dir(t.path)); working || err != nil {
			return working, err
		}
	}
	holders, err := store.Holders(root)
	if err != nil {
		return false, err
	}
	if len(holders) == 0 && !slices.ContainsFunc(followed, func(t *tail) bool { return t.run.Holder != nil }) {
		// Workers on a cluster may wait.
		if arrays, err := pilot.Unended(root); err != nil || len(arrays) == 0 {
			return false, err
		}
	}
	known, err := store.Read(ctx, root)
	if err != nil {
		return false, err
	}
	for _, t := range followed {
		run := known.Runs[t.run.ID]
		if run != nil {
			t.run = run
			t.move(filepath.Join(root, filepath.FromSlash(run.Working()), filepath.Base(t.path)))
		}
		if run != nil && (run.State == store.Running || run.State == store.Queued) {
			return true, nil
		}
	}
	return false, nil
}
