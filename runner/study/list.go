package study

import "github.com/loralab/loralab/runner/experiment"

// A Listing is the trials of a search for people and programs.
type Listing struct {
	Experiment, Cell string
	Objective        string
	Over             bool
	Best             *int     // the number of a trial; nil: none is complete
	Paths            []string // that are searched
	Trials           []*Trial
	Foreign          int // trials of an earlier form of the file, which are not listed
}

// Listing lists the trials of the search.
func (s *Study) Listing() Listing {
	l := Listing{Experiment: s.Experiment, Cell: s.Cell, Objective: s.Objective, Over: s.Over(), Trials: s.Trials, Foreign: s.Foreign}
	for i := range s.Space.Len() {
		l.Paths = append(l.Paths, s.Space.Param(i).Name)
	}
	if best := s.Best(); len(best) > 0 {
		l.Best = &best[0].Number
	}
	return l
}

// Name is the name of the search: "search_lora/dora".
func (l Listing) Name() string { return l.Experiment + "/" + l.Cell }

// A Winner is the best trial of a search.
type Winner struct {
	Listing
	Trial *Trial
	// Excerpt is its point as a part of the file.
	Excerpt experiment.Excerpt
}

// Winner is the best trial of the search; nil if none is complete.
func (s *Study) Winner() (*Winner, error) {
	best := s.Best()
	if len(best) == 0 {
		return nil, nil
	}
	part, err := s.Excerpt(best[0].Point)
	if err != nil {
		return nil, err
	}
	return &Winner{s.Listing(), best[0], *part}, nil
}
