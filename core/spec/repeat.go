package spec

import "github.com/loralab/loralab/core/name"

// RepeatOf is what tells a run from the others of its cell: its seed, and its fold in a
// cross-validation.
func RepeatOf(s *RunSpec) name.Repeat {
	r := name.Repeat{Seed: s.GetSeed()}
	if f := s.GetFolds(); f != nil {
		r.Fold = name.NewFold(f.GetFold())
	}
	return r
}
