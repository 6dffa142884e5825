package store

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
)

// Newest is the label of every cell and seed that has a run: what the names of
// runs mean now. Experiments are in the order in which they were first asked for;
// what the newest apply of an experiment asked for is in the order of its file,
// and what it no longer asked for follows.
func (s *Snapshot) Newest() []Label {
	type key struct {
		experiment, cell string
		seed             uint64
	}
	of := func(l Label) key { return key{l.Experiment, l.Cell, l.Seed} }
	newest := map[key]Label{}
	has := map[Label]bool{} // without time and position
	plain := func(l Label) Label { return Label{Experiment: l.Experiment, Cell: l.Cell, Seed: l.Seed, Run: l.Run} }
	var experiments []string
	byExperiment := map[string][]key{}
	for _, l := range s.Labels {
		if s.Runs[l.Run] == nil {
			continue
		}
		k := of(l)
		if byExperiment[l.Experiment] == nil {
			experiments = append(experiments, l.Experiment)
		}
		if _, there := newest[k]; !there {
			byExperiment[l.Experiment] = append(byExperiment[l.Experiment], k)
		}
		newest[k] = l
		has[plain(l)] = true
	}
	all := make([]Label, 0, len(newest))
	for _, e := range experiments {
		listed := map[key]bool{}
		if asked := s.Asked[e]; asked != nil {
			for _, l := range asked.Runs {
				k := of(l.Label)
				if now, there := newest[k]; there && !listed[k] {
					if has[plain(l.Label)] {
						now = l.Label
					}
					listed[k] = true
					all = append(all, now)
				}
			}
		}
		for _, k := range byExperiment[e] {
			if !listed[k] {
				all = append(all, newest[k])
			}
		}
	}
	return all
}

// Current reports whether the newest apply of an experiment asked for this run
// under this name. Where no apply was recorded, all runs are.
func (s *Snapshot) Current() func(Label) bool {
	asked := map[string]string{}
	for _, a := range s.Asked {
		for _, l := range a.Runs {
			asked[l.Name()] = l.Run
		}
	}
	return func(l Label) bool {
		return s.Asked[l.Experiment] == nil || asked[l.Name()] == l.Run
	}
}

// As is a run under one of its names. Several cells, of one experiment or of
// more, may be the same run with scores on other images: the result has what the
// newest apply asked for under that name, and its methods leave out what was asked
// for under other names only.
func (s *Snapshot) As(l Label) *Run {
	run := s.Runs[l.Run]
	if run == nil {
		return nil
	}
	wanted := Wanted{}
	if asked := s.Asked[l.Experiment]; asked != nil {
		for _, w := range asked.Runs {
			if w.Run == l.Run && w.Name() == l.Name() {
				wanted = w
			}
		}
	}
	run = run.For(wanted)
	run.Experiment, run.Cell, run.Seed = l.Experiment, l.Cell, l.Seed
	return run
}

// For is the run as asked for with the evaluations of w. Without any it is the run
// with all that was ever asked for.
func (r *Run) For(w Wanted) *Run {
	run := *r
	if len(w.Evaluations) > 0 {
		run.mine, run.domains = map[string]bool{}, map[string]bool{}
		for _, id := range w.Evaluations {
			run.mine[rundir.Short(id)] = true
		}
		for _, domain := range w.Domains {
			run.domains[domain] = true
		}
	}
	return &run
}

// Scored is what the run was scored, by domain. Where a domain has had several
// evaluations, of other images for example, that which the newest apply asked for
// counts: the earlier one is not shown in its place until it is made. See As for runs
// with several names.
func (r *Run) Scored() map[string]*spec.Evaluated {
	scored := map[string]*spec.Evaluated{}
	for _, id := range slices.Sorted(maps.Keys(r.Evaluations)) {
		e := r.Evaluations[id]
		if r.mine != nil && !r.mine[rundir.Short(id)] && (r.wanted[rundir.Short(id)] || r.domains[e.GetDomain()]) {
			continue // asked for under another name, or of other images
		}
		domain := e.GetDomain()
		if domain == "validation" { // of a run from before the name was refused
			domain = "domain validation"
		}
		if other := scored[domain]; other == nil || r.prefers(id, other.GetId()) {
			scored[domain] = e
		}
	}
	return scored
}

// prefers reports whether an evaluation counts rather than another of the same
// domain.
func (r *Run) prefers(id, other string) bool {
	for _, set := range []map[string]bool{r.mine, r.wanted} {
		if a, b := set[rundir.Short(id)], set[rundir.Short(other)]; a != b {
			return a
		}
	}
	return false
}

// All is the labels that cells have, or ever had: those given, and older runs
// under the same names.
func (s *Snapshot) All(labels []Label) []Label {
	given := map[string]string{}
	for _, l := range labels {
		given[l.Name()] = l.Run
	}
	all := slices.Clone(labels)
	for _, l := range s.Labels {
		if run, is := given[l.Name()]; is && run != l.Run && s.Runs[l.Run] != nil {
			all = append(all, l)
		}
	}
	return all
}

// Run is the run with an identity, nil if it is not known. Of a damaged one only
// the beginning of the identity may be known.
func (s *Snapshot) Run(id string) *Run {
	if run := s.Runs[id]; run != nil {
		return run
	}
	return s.Runs[rundir.Short(id)]
}

// Names are all names of a run, oldest first.
func (s *Snapshot) Names(id string) []Label {
	var names []Label
	for _, l := range s.Labels {
		if l.Run == id {
			names = append(names, l)
		}
	}
	return names
}

// Find is the run that people mean by ref: the beginning of its identity (at
// least four digits), its name ("ablation_rank/rank=8/seed=1"), or an end of
// that which only one name has ("rank=8/seed=1"). A name that had several runs
// means the newest. The error says what there is.
func (s *Snapshot) Find(ref string) (*Run, error) {
	l, _, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	return s.As(l), nil
}

// Meant is what a reference to runs means.
type Meant int

const (
	Several Meant = iota // an experiment or a cell, though it may have one run
	Named                // one run by name
	ByID                 // one run by its identity
)

// Select is the runs that people mean by ref: the name of an experiment, of a
// cell ("ablation_rank/rank=8", or "rank=8" where one experiment has it), or
// what Find takes.
func (s *Snapshot) Select(ref string) ([]Label, Meant, error) {
	labels, err := s.several(ref)
	if len(labels) > 0 || err != nil {
		return labels, Several, err
	}
	l, meant, err := s.find(ref)
	if err != nil {
		return nil, meant, err
	}
	return []Label{l}, meant, nil
}

// several is the runs of an experiment or of a cell.
func (s *Snapshot) several(ref string) ([]Label, error) {
	var labels, ends []Label
	for _, l := range s.Newest() {
		switch cell := l.Experiment + "/" + l.Cell; {
		case l.Experiment == ref || cell == ref:
			labels = append(labels, l)
		case l.Cell == ref:
			ends = append(ends, l)
		}
	}
	if len(labels) > 0 {
		return labels, nil
	}
	for _, l := range ends {
		if l.Experiment != ends[0].Experiment {
			return nil, fmt.Errorf("%q is a cell of several experiments, %s and %s: write experiment/cell", ref, ends[0].Experiment, l.Experiment)
		}
	}
	return ends, nil
}

func (s *Snapshot) find(ref string) (Label, Meant, error) {
	newest := s.Newest()
	if len(ref) >= 4 && isHex(ref) {
		var found []string
		for id := range s.Runs {
			if strings.HasPrefix(id, ref) {
				found = append(found, id)
			}
		}
		if len(found) == 1 {
			return s.labelOf(found[0]), ByID, nil
		}
		if len(found) > 1 {
			slices.Sort(found)
			return Label{}, 0, fmt.Errorf("%q is the beginning of %d runs:\n%s", ref, len(found), list(found))
		}
	}
	byName := map[string]Label{}
	var found, all []string
	for _, l := range newest {
		name := l.Name()
		byName[name] = l
		all = append(all, name)
		if strings.HasSuffix(name, "/"+ref) {
			found = append(found, name)
		}
	}
	if l, ok := byName[ref]; ok {
		return l, Named, nil
	}
	slices.Sort(found)
	switch {
	case len(found) == 1:
		return byName[found[0]], Named, nil
	case len(found) > 1:
		return Label{}, 0, fmt.Errorf("%q is the end of %d names:\n%s", ref, len(found), list(found))
	case strings.HasSuffix(ref, ".cue"):
		return Label{}, 0, fmt.Errorf("%q is a file, and a run has a name: runner status lists those of its experiments", ref)
	case len(all) == 0:
		return Label{}, 0, fmt.Errorf("there is no run %q: nothing was run in this project yet", ref)
	}
	if several, _ := s.several(ref); len(several) > 0 {
		var names []string
		for _, l := range several {
			names = append(names, l.Name())
		}
		return Label{}, 0, fmt.Errorf("%q is no single run; its runs are:\n%s", ref, list(names))
	}
	slices.Sort(all)
	return Label{}, 0, fmt.Errorf("there is no run %q; there are:\n%s", ref, list(all))
}

// labelOf is the newest label of a run that is in use, or its newest.
func (s *Snapshot) labelOf(id string) Label {
	for _, l := range s.Newest() {
		if l.Run == id {
			return l
		}
	}
	for _, l := range slices.Backward(s.Labels) {
		if l.Run == id {
			return l
		}
	}
	r := s.Runs[id]
	return Label{Experiment: r.Experiment, Cell: r.Cell, Seed: r.Seed, Run: id}
}

func list(names []string) string {
	const most = 12
	if more := len(names) - most; more > 0 {
		names = append(names[:most:most], fmt.Sprintf("… and %d more; see: runner status", more))
	}
	return strings.Join(names, "\n")
}
