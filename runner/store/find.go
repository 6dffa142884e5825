package store

import (
	"fmt"
	"slices"
	"strings"
)

// Find is the run that people mean by ref: the beginning of its identity (at
// least four digits), its name ("ablation_rank/rank=8/seed=1"), or an end of
// that which only one name has ("rank=8/seed=1"). A name that had several runs
// means the newest. The error says what there is.
func (s *Snapshot) Find(ref string) (*Run, error) {
	if len(ref) >= 4 && strings.Trim(ref, "0123456789abcdef") == "" {
		var found []string
		for id := range s.Runs {
			if strings.HasPrefix(id, ref) {
				found = append(found, id)
			}
		}
		if len(found) == 1 {
			return s.Runs[found[0]], nil
		}
		if len(found) > 1 {
			slices.Sort(found)
			return nil, fmt.Errorf("%q is the beginning of %d runs:\n%s", ref, len(found), list(found))
		}
	}
	byName := map[string]*Run{}
	for _, l := range s.Labels {
		if run := s.Runs[l.Run]; run != nil {
			byName[l.Name()] = run
		}
	}
	if run := byName[ref]; run != nil {
		return run, nil
	}
	var found, all []string
	for name := range byName {
		all = append(all, name)
		if strings.HasSuffix(name, "/"+ref) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	slices.Sort(all)
	switch {
	case len(found) == 1:
		return byName[found[0]], nil
	case len(found) > 1:
		return nil, fmt.Errorf("%q is the end of %d names:\n%s", ref, len(found), list(found))
	case len(all) == 0:
		return nil, fmt.Errorf("there is no run %q: nothing was run in this project yet", ref)
	}
	return nil, fmt.Errorf("there is no run %q; there are:\n%s", ref, list(all))
}

func list(names []string) string {
	const most = 12
	if more := len(names) - most; more > 0 {
		names = append(names[:most:most], fmt.Sprintf("… and %d more; see: runner status", more))
	}
	return strings.Join(names, "\n")
}
