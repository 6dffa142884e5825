package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/ensemble"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/foreign"
	"github.com/loralab/loralab/runner/report"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/study"
	"github.com/loralab/loralab/runner/track"
)

func (a *app) reportCommand() *cobra.Command {
	var asJSON, asPage bool
	c := &cobra.Command{
		Use:   "report FILE...",
		Short: "Write tables and figures of what is done",
		Long: `Report writes, for each experiment, report/<experiment>/ (Markdown, CSV and one
HTML file that holds all and can be sent) and plots/<experiment>/ (PNG and SVG),
from the runs that are done, and shows the table. Apply does the same at its end.

With --html it also writes report/report.html, one page of all the experiments.`,
		Example: "  runner report experiments/ablation_rank.cue\n  runner report --html experiments",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) (err error) {
			p, err := a.sound(c.Context(), files, experiment.Env{})
			if err != nil {
				return err
			}
			defer p.close()
			if asPage {
				defer func() {
					if err == nil {
						err = a.page(c.Context(), p, asJSON)
					}
				}()
			}
			if !asJSON {
				return a.report(c.Context(), p, true)
			}
			paths, err := a.made(c.Context(), p)
			if err != nil {
				return err
			}
			return a.view.JSON(paths)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	c.Flags().BoolVar(&asPage, "html", false, "write one page of all experiments, report/report.html")
	a.setFlag(c)
	return c
}

// page writes one page of all experiments of a project.
func (a *app) page(ctx context.Context, p *project, quiet bool) error {
	results, searches, err := a.results(ctx, p)
	if err != nil {
		return err
	}
	made, err := report.Page(ctx, p.root, filepath.Join(p.root, "report"), p.experiments, results, searches, a.askedFor())
	if err != nil {
		return err
	}
	path, err := report.WritePage(p.root, made)
	if readOnly(err) {
		a.view.Warn(fmt.Sprintf("the page of all experiments is not written: %v", err))
		return nil
	}
	if err == nil && !quiet {
		a.view.Page(p.root, path)
	}
	return err
}

// askedFor is what was said on the command line next to the files.
func (a *app) askedFor() (asked []string) {
	for _, tag := range a.tags {
		asked = append(asked, "-t "+foreign.Word(tag))
	}
	for _, value := range a.set {
		asked = append(asked, "--set "+foreign.Word(value))
	}
	return asked
}

// report shows the tables of a project, after writing them and the figures if
// something changed, or if they are not there yet.
func (a *app) report(ctx context.Context, p *project, changed bool) error {
	if !changed {
		results, _, err := a.results(ctx, p)
		if err != nil {
			return err
		}
		if tables, there, err := written(p, results); err != nil {
			return err
		} else if there {
			a.view.Results(p.root, tables)
			return nil
		}
	}
	paths, err := a.made(ctx, p)
	if err != nil {
		return err
	}
	a.view.Results(p.root, paths.Experiments)
	return nil
}

// made writes tables and figures. In a project that may not be written it makes the
// tables alone.
func (a *app) made(ctx context.Context, p *project) (*report.Paths, error) {
	paths, err := a.buildReport(ctx, p)
	if !readOnly(err) {
		return paths, err
	}
	a.view.Warn(fmt.Sprintf("the tables are only shown, and no figures are drawn: %v", err))
	results, _, err := a.results(ctx, p)
	if err != nil {
		return nil, err
	}
	paths = &report.Paths{}
	for _, e := range p.experiments {
		table, err := report.Tabulate(e, results)
		if err != nil {
			return nil, err
		}
		paths.Experiments = append(paths.Experiments, report.Written{Experiment: e.Name, Table: table})
	}
	return paths, nil
}

// readOnly reports whether an error says that a project may not be written.
func readOnly(err error) bool { return errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) }

func (a *app) buildReport(ctx context.Context, p *project) (*report.Paths, error) {
	results, searches, err := a.results(ctx, p)
	if err != nil {
		return nil, err
	}
	return report.Build(ctx, p.root, p.experiments, results, searches, a.askedFor())
}

// written is what report.Build wrote earlier, if all of it is there and says
// what is known now. The files of an experiment have one place, so a run at
// another scale may have taken it since.
func written(p *project, results []report.Result) ([]report.Written, bool, error) {
	var all []report.Written
	for _, e := range p.experiments {
		table, err := report.Tabulate(e, results)
		if err != nil {
			return nil, false, err
		}
		w := report.Written{Experiment: e.Name, Table: table, Page: filepath.Join(p.root, "report", e.Name, "report.md")}
		w.HTML = strings.TrimSuffix(w.Page, ".md") + ".html"
		for _, file := range []string{w.Page, w.HTML} {
			if _, err := os.Stat(file); err != nil {
				return nil, false, nil
			}
		}
		// Together they have all that the page says, and how wide the figures are.
		for name, now := range map[string]string{"table.csv": table.CSV(), "table.tex": table.LaTeX()} {
			was, err := os.ReadFile(filepath.Join(p.root, "report", e.Name, name))
			if err != nil || string(was) != now {
				return nil, false, nil
			}
		}
		for _, kind := range []string{"*.png", "*.svg"} {
			figures, err := filepath.Glob(filepath.Join(p.root, "plots", e.Name, kind))
			if err != nil {
				return nil, false, err
			}
			w.Figures = append(w.Figures, figures...)
		}
		if len(w.Figures) == 0 {
			return nil, false, nil
		}
		all = append(all, w)
	}
	return all, true, nil
}

// results is what is known of the runs and searches of a project, for a report.
func (a *app) results(ctx context.Context, p *project) (all []report.Result, searches []report.Search, err error) {
	known, err := store.Read(ctx, p.root)
	if err != nil {
		return nil, nil, err
	}
	return a.resultsIn(ctx, p, known)
}

// resultsIn is results of runs that are known.
func (a *app) resultsIn(ctx context.Context, p *project, known *store.Snapshot) (all []report.Result, searches []report.Search, err error) {
	studies, err := study.Read(ctx, known, p.experiments)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range studies {
		var untuned []report.Result
		for _, run := range s.Untuned {
			untuned = append(untuned, result(p.root, run, known.Run(run.ID)))
		}
		searches = append(searches, report.SearchOf(s, untuned))
	}
	pages := track.Pages(p.root, os.Getenv)
	for _, e := range p.experiments {
		for _, run := range e.Runs {
			r := result(p.root, run, known.Run(run.ID))
			r.Page = pages[run.ID]
			all = append(all, r)
		}
		for _, one := range ensemble.Of(e) {
			scored, err := one.Scored(p.root)
			if err != nil {
				return nil, nil, err
			}
			metrics := map[string]*spec.Metrics{}
			for _, x := range one.Evaluations {
				if done := scored[x.ID]; done != nil {
					metrics[x.Spec.GetDomain()] = metric.Named(done.GetMetrics(), one.Members[0].Spec.GetData().GetClasses())
				}
			}
			for i := range all {
				if r := &all[i]; r.Run.Experiment == e.Name && r.Run.Cell == one.Cell {
					r.Ensemble = metrics
				}
			}
		}
	}
	return all, searches, nil
}

func result(root string, run *experiment.Run, stored *store.Run) report.Result {
	r := report.Result{Run: run}
	if stored == nil {
		return r
	}
	r.Dir = rundir.Dir(filepath.Join(root, filepath.FromSlash(stored.Dir)))
	stored.NameClasses(run.Spec.GetData().GetClasses())
	if r.Summary = stored.Summary; r.Summary != nil {
		r.Summary = proto.CloneOf(r.Summary)
		r.Summary.Validation = stored.Named(r.Summary.Validation)
	}
	if stored.State == store.Failed {
		r.Failed = stored.Reason
	}
	if stored.Damage != nil {
		r.Failed = stored.Damage.String()
	}
	r.Evaluations, r.SampleClasses = map[string]*spec.Metrics{}, map[string][]string{}
	for _, e := range run.Evaluations {
		// By identity: what a domain is called may have changed since.
		if evaluated := stored.Evaluations[e.ID]; evaluated != nil {
			r.Evaluations[e.Spec.GetDomain()] = stored.Named(evaluated.GetMetrics())
			var classes []string
			for _, c := range evaluated.GetMetrics().GetClasses() {
				classes = append(classes, c.GetName())
			}
			r.SampleClasses[e.Spec.GetDomain()] = classes
		}
	}
	return r
}
