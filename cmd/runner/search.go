package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/study"
)

func (a *app) searchCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "search",
		Short: "Show and exchange what searches have found",
		Long: `Search shows the trials of searches and the best of them, and writes and reads
journal files of Optuna. The searches themselves are run by apply. Nothing is run or
changed here. See also: runner help search.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, args []string) error { return c.Help() },
	}
	c.AddCommand(a.searchBestCommand(), a.searchTrialsCommand(), a.searchExportCommand(), a.searchImportCommand())
	return c
}

// cellFlag chooses one search.
func cellFlag(c *cobra.Command, cell *string) {
	c.Flags().StringVar(cell, "cell", "", "the search of one `cell`")
}

// searched reads the searches of files, or those of one cell. The project is to be
// closed.
func (a *app) searched(ctx context.Context, files []string, cell string) (*project, []*study.Study, error) {
	p, err := a.sound(ctx, files, experiment.Env{})
	if err != nil {
		return nil, nil, err
	}
	studies, err := a.studiesOf(ctx, p, cell)
	if err != nil {
		p.close()
		return nil, nil, err
	}
	return p, studies, nil
}

func (a *app) studiesOf(ctx context.Context, p *project, cell string) ([]*study.Study, error) {
	known, err := a.snapshot(ctx, p.root)
	if err != nil {
		return nil, err
	}
	all, err := study.Read(ctx, known, p.experiments)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no experiment of %s has a search; see: runner help search", strings.Join(p.files, ", "))
	}
	if cell == "" {
		return all, nil
	}
	var chosen []*study.Study
	var names []string
	for _, s := range all {
		names = append(names, s.Cell)
		if cell == s.Cell || cell == s.Name() {
			chosen = append(chosen, s)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no cell %q is searched; %s", cell, diagnostic.Suggest(cell, "searched are", names))
	}
	return chosen, nil
}

// without says what searches do not have yet.
func without(what string, files []string) error {
	return errors.New("the search has no " + what + " yet; it is run by: runner apply " + strings.Join(files, " "))
}
