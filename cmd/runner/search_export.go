package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/runner/search/optunalog"
)

func (a *app) searchExportCommand() *cobra.Command {
	var out, cell string
	c := &cobra.Command{
		Use:   "export FILE... -o LOG",
		Short: "Write searches as a journal file of Optuna",
		Long: `Export writes a journal file that Optuna 5 and its dashboard open. Each search is a
study, EXPERIMENT/CELL. A trial that is paused is PRUNED there, and one that failed or
has no finite value is FAIL.

--optuna LOG is the same as -o LOG: it names the format, of which there is one.`,
		Example: "  runner search export experiments/ablation_rank.cue -o trials.log\n" +
			"  optuna-dashboard trials.log",
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			if !c.Flags().Changed("optuna") {
				if err := needs(c, "out"); err != nil {
					return err
				}
			}
			if _, err := os.Lstat(out); err == nil {
				return fmt.Errorf("%s is there already: Optuna may have added to it; remove it or name another file", out)
			} else if !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("writing the journal: %w", err)
			}
			p, studies, err := a.searched(c.Context(), files, cell)
			if err != nil {
				return err
			}
			defer p.close()
			var all []optunalog.Study
			trials := 0
			for _, s := range studies {
				all = append(all, s.Journal())
				trials += len(s.Trials)
			}
			if trials == 0 {
				return without("trial", files)
			}
			var b bytes.Buffer
			if err := optunalog.Write(&b, all...); err != nil {
				return fmt.Errorf("writing the journal: %w", err)
			}
			if err := replacefile.Write(out, b.Bytes()); err != nil {
				return fmt.Errorf("writing the journal: %w", err)
			}
			a.view.SearchExported(out, listings(studies))
			return nil
		},
	}
	c.Flags().StringVarP(&out, "out", "o", "", "the journal `file` to write")
	c.Flags().StringVar(&out, "optuna", "", "the same: the journal `file` to write")
	c.MarkFlagsMutuallyExclusive("out", "optuna")
	cellFlag(c, &cell)
	a.setFlag(c)
	return c
}
