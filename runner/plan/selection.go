package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/experiment"
)

// Selection is the part of a plan that a user wants: patterns of names, in
// which * and ? stand for anything. A pattern means a run if it matches its
// name ("ablation_rank/rank=8/seed=1"), an end or a beginning of that at a
// slash ("rank=8", "ablation_rank", "seed=1"), or one value of its cell
// ("rank=8" of "rank=8,alpha=4").
type Selection struct {
	Target  []string // empty: everything
	Exclude []string
}

// Has reports whether the run of a name belongs to the selection.
func (s Selection) Has(name string) bool {
	in := func(patterns []string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return means(p, name) })
	}
	return (len(s.Target) == 0 || in(s.Target)) && !in(s.Exclude)
}

// means reports whether a pattern means a run. A broken pattern means none;
// check reports it.
func means(pattern, name string) bool {
	match := func(s string) bool {
		ok, _ := path.Match(pattern, s)
		return ok || pattern == s // a cell's name may hold brackets
	}
	parts := strings.Split(name, "/")
	for from := range parts {
		for to := from + 1; to <= len(parts); to++ {
			if match(strings.Join(parts[from:to], "/")) {
				return true
			}
		}
	}
	if len(parts) < 3 {
		return false
	}
	// Names of cells may hold slashes, those of experiments and seeds not.
	cell := strings.Join(parts[1:len(parts)-1], "/")
	return slices.ContainsFunc(strings.Split(cell, ","), match)
}

// check reports patterns that mean nothing: a run left out by a typing error
// is found out days later.
func (s Selection) check(experiments []*experiment.Experiment) error {
	for _, pattern := range slices.Concat(s.Target, s.Exclude) {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("%q is no pattern: %w", pattern, err)
		}
		var known []string
		found := false
		for _, e := range experiments {
			known = append(known, e.Name)
			runs := slices.Clone(e.Runs)
			for _, of := range e.Studies {
				runs = append(runs, of.Untuned...)
			}
			for _, run := range runs {
				found = found || means(pattern, run.Name())
				if cell := run.Cell; !slices.Contains(known, cell) {
					known = append(known, cell)
				}
			}
		}
		if !found {
			return fmt.Errorf("%q means no run of the files\n%s", pattern, diagnostic.Suggest(pattern, "cells and experiments", known))
		}
	}
	return nil
}
