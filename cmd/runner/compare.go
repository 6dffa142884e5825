package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/compare"
	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/inspect"
	"github.com/loralab/loralab/runner/store"
)

func (a *app) compareCommand() *cobra.Command {
	var asJSON, asCSV bool
	var of, baseline string
	var domains []string
	c := &cobra.Command{
		Use:   "compare NAME...",
		Short: "Hold runs, cells or experiments side by side",
		Long: `Compare shows mean and spread over seeds, and the differences from the first (or from
the one that --baseline names) with a 95 % interval, the size of the effect and a
p-value. NAME is an experiment, for all its cells, a cell, or a run.

Runs of the same seed are paired where two groups share at least two seeds; else the
test is Welch's. Both are t tests, p is two-sided and adjusted after Holm over all
differences shown, and there is none where a cell has fewer than three runs: a few seeds
show the size of an effect better than its significance.

In cross-validation runs of the same fold and seed are paired, and the fold is what is
tested over. Folds share training images: the interval is wider by that (Nadeau and
Bengio 2003). Spreads over folds and over the seeds of a fold are shown apart.

Cells are in the order of the file, as the newest apply of the experiment read it.
Runs that this apply did not ask for are left out where the experiment is named, and
a line says so; a cell or a run of them can be named.`,
		Example: "  runner compare ablation_rank\n" +
			"  runner compare --baseline head_only --metric iou/mean ablation_rank\n" +
			"  runner compare first/rank=8 second/rank=8",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeRuns,
		RunE: func(c *cobra.Command, refs []string) error {
			made, err := a.compare(c.Context(), refs, metric.Canonical(of), baseline, domains)
			if err != nil {
				return err
			}
			switch {
			case asJSON:
				return a.view.JSON(made)
			case asCSV:
				for _, note := range made.Notes {
					a.view.Warn(note)
				}
				return a.view.CompareCSV(made)
			}
			a.view.Compare(made)
			return nil
		},
	}
	flags := c.Flags()
	flags.StringVar(&of, "metric", "dice/mean", "what to compare, as in report: dice/mean, iou/mean, dice/CLASS, accuracy, loss, …")
	flags.StringVar(&baseline, "baseline", "", "cell or run that differences are from; the first by default")
	flags.StringSliceVar(&domains, "domain", nil, "only these domains; also \"validation\"")
	flags.BoolVar(&asJSON, "json", false, "write JSON")
	flags.BoolVar(&asCSV, "csv", false, "write CSV, a line for each group and domain")
	c.MarkFlagsMutuallyExclusive("json", "csv")
	return c
}

func (a *app) compare(ctx context.Context, refs []string, of, baseline string, domains []string) (*compare.Comparison, error) {
	_, known, err := a.known(ctx)
	if err != nil {
		return nil, err
	}
	var labels []store.Label
	index := map[string]int{} // of groups
	var groups []compare.Group
	all, metrics := map[string]*spec.Metrics{}, map[string]bool{}
	var specs [][]*spec.RunSpec // of groups with folds
	add := func(key string, l store.Label) error {
		i, there := index[key]
		if !there {
			i = len(groups)
			index[key] = i
			groups = append(groups, compare.Group{Name: key, Runs: map[string]map[name.Repeat]float64{}})
			specs = append(specs, nil)
		}
		scored := map[string]*spec.Metrics{}
		run := known.As(l)
		if !l.Fold.IsZero() {
			s, err := run.Spec()
			if err != nil {
				return err
			}
			groups[i].Folds = s.GetFolds().GetCount()
			specs[i] = append(specs[i], s)
			groups[i].Repeated = compare.Repeated(specs[i])
		}
		if m := run.Summary.GetValidation(); m != nil {
			scored["validation"] = run.Named(m)
		}
		for domain, e := range run.Scored() {
			scored[domain] = run.Named(e.GetMetrics())
		}
		for domain, m := range scored {
			all[domain] = m
			var classes []string
			for _, c := range m.GetClasses() {
				classes = append(classes, c.GetName())
			}
			for _, n := range metric.Names(classes) {
				metrics[n] = true
			}
			value, ok := metric.Value(m, of)
			if !ok {
				continue
			}
			if groups[i].Runs[domain] == nil {
				groups[i].Runs[domain] = map[name.Repeat]float64{}
			}
			groups[i].Runs[domain][l.Repeat()] = value
		}
		return nil
	}
	if baseline != "" && !slices.Contains(refs, baseline) {
		refs = append(slices.Clone(refs), baseline)
	}
	base := ""
	experiments := map[string]bool{}
	selected, alone := make([][]store.Label, len(refs)), make([]bool, len(refs))
	current := known.Current()
	var notes []string
	for i, ref := range refs {
		labels, meant, err := known.Select(ref)
		if err != nil {
			return nil, err
		}
		selected[i], alone[i] = labels, meant != store.Several
		if old := slices.DeleteFunc(slices.Clone(labels), current); len(old) > 0 {
			if ref == old[0].Experiment && len(old) < len(labels) {
				// An experiment is what its newest apply asked for.
				selected[i] = slices.DeleteFunc(slices.Clone(labels), func(l store.Label) bool { return !current(l) })
				notes = append(notes, "Left out: "+orphaned(old)+".")
			} else {
				notes = append(notes, "Taken in: "+orphaned(old)+".")
			}
		}
		for _, l := range selected[i] {
			experiments[l.Experiment] = true
			if run := known.Runs[l.Run]; run.Damage != nil {
				notes = append(notes, fmt.Sprintf("%s is damaged: %s; %s.", l.Name(), run.Damage, run.Cure()))
			}
		}
	}
	for i, ref := range refs {
		for _, l := range selected[i] {
			key := l.Cell
			if len(experiments) > 1 {
				key = l.Experiment + "/" + l.Cell
			}
			// A run that is named alone stands alone.
			if alone[i] {
				key += "/" + l.Repeat().String()
			}
			if ref == baseline {
				base = key
			}
			if err := add(key, l); err != nil {
				return nil, err
			}
			labels = append(labels, l)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s scored yet; see: runner status", plural.Form(len(labels), "the run was not", fmt.Sprintf("none of the %d runs was", len(labels))))
	}
	if !metrics[of] {
		var names []string
		for n := range metrics {
			names = append(names, n)
		}
		slices.Sort(names)
		return nil, fmt.Errorf("there is no metric %q; %s", of, diagnostic.Suggest(of, "there are", names))
	}
	order := inspect.Order(all)
	if len(domains) == 0 {
		order = slices.DeleteFunc(order, func(d string) bool { return d == "validation" && len(all) > 1 })
	}
	for _, d := range domains {
		if all[d] == nil {
			return nil, fmt.Errorf("no run was scored on %q; there are: %s", d, strings.Join(order, ", "))
		}
	}
	if len(domains) > 0 {
		order = domains
	}
	made := compare.Make(of, order, groups, index[base])
	made.Notes = append(made.Notes, notes...)
	return made, nil
}

// orphaned says of runs that the newest apply of their experiment does not ask
// for them.
func orphaned(labels []store.Label) string {
	const most = 3
	var cells []string
	for _, l := range labels {
		if cell := l.Experiment + "/" + l.Cell; !slices.Contains(cells, cell) {
			cells = append(cells, cell)
		}
	}
	text := strings.Join(cells[:min(most, len(cells))], ", ")
	if more := len(cells) - most; more > 0 {
		text += fmt.Sprintf(" and %d more cells", more)
	}
	return fmt.Sprintf("%s that the newest apply of %s does not ask for (%s)", plural.Of(len(labels), "run"), labels[0].Experiment, text)
}
