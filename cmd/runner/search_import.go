package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/search/optunalog"
	"github.com/loralab/loralab/runner/study"
)

// defaultImported is how many points of a study are written without --top.
const defaultImported = 10

func (a *app) searchImportCommand() *cobra.Command {
	var from, name, cell string
	var top int
	c := &cobra.Command{
		Use:   "import FILE --optuna LOG",
		Short: "Write trials of an Optuna study as points to start with",
		Long: `Import reads a journal file of Optuna and writes its best complete trials as CUE: the
points that a search tries first, search.start of the file. Parameters are found by
their names, which are paths: optim.lr.adapter. Those that are not searched, and values
that no search has, are named and left out.`,
		Example: "  runner search import experiments/ablation_rank.cue --optuna trials.log\n" +
			"  runner search import --top 3 experiments/ablation_rank.cue --optuna trials.log",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			if err := needs(c, "optuna"); err != nil {
				return err
			}
			if top < 0 {
				return errors.New("--top takes no negative number")
			}
			records, err := journal(from, name)
			if err != nil {
				return err
			}
			p, studies, err := a.searched(c.Context(), files, cell)
			if err != nil {
				return err
			}
			defer p.close()
			for _, s := range studies {
				if s.Experiment != studies[0].Experiment {
					return fmt.Errorf("%s has searches of several experiments; choose one with --cell %s", files[0], studies[0].Name())
				}
			}
			var all []study.Imported
			points := 0
			for _, r := range records {
				in := study.Import(studies, r, top)
				points += len(in.Points)
				all = append(all, in)
			}
			for _, in := range all {
				for _, left := range in.Left {
					a.view.Warn(fmt.Sprintf("study %q: %s", in.Study, left))
				}
			}
			if points == 0 {
				return fmt.Errorf("%s has no trial that a search of %s may start with", from, files[0])
			}
			return a.view.SearchImported(studies[0].Experiment, from, all)
		},
	}
	flags := c.Flags()
	flags.StringVar(&from, "optuna", "", "the journal `file` to read")
	flags.StringVar(&name, "study", "", "the `name` of a study of the journal; all by default")
	flags.IntVar(&top, "top", defaultImported, "how many trials of each study; 0: all")
	cellFlag(c, &cell)
	a.setFlag(c)
	return c
}

// journal reads the studies of a journal file, or the one of a name.
func journal(file, name string) ([]optunalog.Record, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("reading the journal: %s is a directory", file)
	}
	records, err := optunalog.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s is no journal of Optuna: %w", file, err)
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("%s has no study", file)
	}
	if name == "" {
		return records, nil
	}
	var names []string
	for _, r := range records {
		if names = append(names, r.Name); r.Name == name {
			return []optunalog.Record{r}, nil
		}
	}
	return nil, fmt.Errorf("%s has no study %q; %s", file, name, diagnostic.Suggest(name, "there are", names))
}
