package store

import (
	"fmt"
	"slices"
	"strings"
)

// Newest is the last label of every cell and seed that has a run: what the
// names of runs stand for now. They are in the order in which the names first
// came up.
func (s *Snapshot) Newest() []Label {
	index := map[string]int{} // by name
	var newest []Label
	for _, l := range s.Labels {
		if s.Runs[l.Run] == nil {
			continue
		}
		if i, there := index[l.Name()]; there {
			newest[i] = l
			continue
		}
		index[l.Name()] = len(newest)
		newest = append(newest, l)
	}
	return newest
}

// Find is the run that people mean by ref: the beginning of its identity (at
// least four digits), its name ("ablation_rank/rank=8/seed=1"), or an end of
// that which only one name has ("rank=8/seed=1"). A name that had several runs
// means the newest. The error says what there is.
func (s *Snapshot) Find(ref string) (*Run, error) {
	l, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	return s.Runs[l.Run], nil
}

// Select is the runs that people mean by ref: the name of an experiment, of a
// cell ("ablation_rank/rank=8", or "rank=8" where one experiment has it), or
// what Find takes.
func (s *Snapshot) Select(ref string) ([]Label, error) {
	var labels, ends []Label
	for _, l := range s.Newest() {
		switch cell := l.Experiment + "/" + l.Cell; {
		case l.Experiment == ref || cell == ref:
			labels = append(labels, l)
		case l.Cell == ref:
			ends = append(ends, l)
		}
	}
	if len(labels) == 0 {
		for _, l := range ends {
			if l.Experiment != ends[0].Experiment {
				return nil, fmt.Errorf("%q is a cell of several experiments, %s and %s: write experiment/cell", ref, ends[0].Experiment, l.Experiment)
			}
		}
		labels = ends
	}
	if len(labels) > 0 {
		return labels, nil
	}
	l, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	return []Label{l}, nil
}

func (s *Snapshot) find(ref string) (Label, error) {
	newest := s.Newest()
	if len(ref) >= 4 && strings.Trim(ref, "0123456789abcdef") == "" {
		var found []string
		for id := range s.Runs {
			if strings.HasPrefix(id, ref) {
				found = append(found, id)
			}
		}
		if len(found) == 1 {
			return s.labelOf(found[0]), nil
		}
		if len(found) > 1 {
			slices.Sort(found)
			return Label{}, fmt.Errorf("%q is the beginning of %d runs:\n%s", ref, len(found), list(found))
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
		return l, nil
	}
	slices.Sort(found)
	slices.Sort(all)
	switch {
	case len(found) == 1:
		return byName[found[0]], nil
	case len(found) > 1:
		return Label{}, fmt.Errorf("%q is the end of %d names:\n%s", ref, len(found), list(found))
	case len(all) == 0:
		return Label{}, fmt.Errorf("there is no run %q: nothing was run in this project yet", ref)
	}
	return Label{}, fmt.Errorf("there is no run %q; there are:\n%s", ref, list(all))
}

// labelOf is the newest label of a run, or what it was first run for.
func (s *Snapshot) labelOf(id string) Label {
	for _, l := range slices.Backward(s.Labels) {
		if l.Run == id {
			return l
		}
	}
	r := s.Runs[id]
	return Label{r.Experiment, r.Cell, r.Seed, id}
}

func list(names []string) string {
	const most = 12
	if more := len(names) - most; more > 0 {
		names = append(names[:most:most], fmt.Sprintf("… and %d more; see: runner status", more))
	}
	return strings.Join(names, "\n")
}
