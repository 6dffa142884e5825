package study

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/search"
	"github.com/loralab/loralab/runner/search/optunalog"
)

// Journal is the search as Optuna's journal files have it.
func (s *Study) Journal() optunalog.Study {
	out := optunalog.Study{
		Name: s.Name(), Direction: s.direction(), Space: s.Space, Metric: s.Objective,
		Attrs: map[string]any{"experiment": s.Experiment, "cell": s.Cell, "sampler": s.Sampler, "pruner": s.Pruner.Kind, "seeds": s.Seeds},
	}
	known := s.history()
	for i, t := range s.Trials {
		trial := optunalog.Trial{Trial: known[i], Values: map[int]float64{}, Start: t.Began, End: t.Ended, Attrs: map[string]any{"number": t.Number, "steps": t.Steps}}
		for _, r := range t.Rungs {
			trial.Values[int(r.Step)] = r.Value
		}
		var runs []string
		for _, m := range t.Runs {
			runs = append(runs, m.ID)
		}
		trial.Attrs["runs"] = runs
		if t.Reason != "" {
			trial.Attrs["reason"] = t.Reason
		}
		out.Trials = append(out.Trials, trial)
	}
	return out
}

// Name is the name of a study: "search_lora/dora".
func (s *Study) Name() string { return s.Experiment + "/" + s.Cell }

// Imported are points of a study of Optuna that an experiment may start with.
type Imported struct {
	Study  string // its name
	Points []ImportedPoint
	// Left says which trials and parameters are not among the points, and why.
	Left []string
}

// An ImportedPoint is the point of one trial.
type ImportedPoint struct {
	Trial int
	Value float64
	Point Point
}

// Import reads the complete trials of a study of Optuna as points of searches, the best
// first, not more than most of them; 0 is all. Parameters are found by their names, which are paths.
// A point belongs to one search at least.
func Import(studies []*Study, record optunalog.Record, most int) Imported {
	in := Imported{Study: record.Name}
	leave := func(format string, args ...any) {
		if text := fmt.Sprintf(format, args...); !slices.Contains(in.Left, text) {
			in.Left = append(in.Left, text)
		}
	}
	var trials []search.Trial
	of := map[int]optunalog.RecordedTrial{}
	for _, t := range record.Trials {
		if t.State == search.Complete {
			trials = append(trials, search.Trial{Number: t.Number, State: t.State, Value: t.Value})
			of[t.Number] = t
		}
	}
	if len(trials) == 0 {
		leave("no trial is complete")
	}
	slices.SortFunc(trials, func(a, b search.Trial) int { return search.Compare(record.Direction, a, b) })
	for _, trial := range trials {
		t := of[trial.Number]
		point, problems := pointOf(studies, t.Params)
		for _, p := range problems {
			if p.whole {
				leave("trial %d: %s", t.Number, p.text)
			} else {
				leave("%s", p.text)
			}
		}
		switch {
		case point == nil:
		case slices.ContainsFunc(in.Points, func(p ImportedPoint) bool { return sameSettings(p.Point, point) }):
		case most == 0 || len(in.Points) < most:
			in.Points = append(in.Points, ImportedPoint{t.Number, t.Value, point})
		}
	}
	return in
}

// A problem is of a parameter of a trial; whole says that the trial cannot be used.
type problem struct {
	text  string
	whole bool
}

// pointOf is the parameters of a trial as a point that one of the searches has; nil if
// none has it.
func pointOf(studies []*Study, params map[string]any) (point Point, problems []problem) {
	var known []string
	for _, s := range studies {
		for i := range s.Space.Len() {
			if name := s.Space.Param(i).Name; !slices.Contains(known, name) {
				known = append(known, name)
			}
		}
	}
	for name := range params {
		if !slices.Contains(known, name) {
			problems = append(problems, problem{text: fmt.Sprintf("%q is not searched", name)})
		}
	}
	slices.SortFunc(problems, func(a, b problem) int { return strings.Compare(a.text, b.text) })
	for _, name := range known {
		value, ok := params[name]
		if !ok {
			continue
		}
		v, err := valueIn(studies, name, value)
		if err != nil {
			return nil, append(problems, problem{fmt.Sprintf("%s: %v", name, err), true})
		}
		point = append(point, experiment.Setting{Path: name, Value: v})
	}
	switch {
	case len(point) == 0:
		return nil, append(problems, problem{"it has no value of a path that is searched", true})
	case !slices.ContainsFunc(studies, func(s *Study) bool { return s.Starts(point) }):
		return nil, append(problems, problem{"no cell is searched at this point", true})
	}
	return point, problems
}

// valueIn is a value as a search has it. A list is a text in a journal.
func valueIn(studies []*Study, name string, value any) (any, error) {
	err := errors.New("it is not searched")
	for _, s := range studies {
		i := s.Space.Index(name)
		if i < 0 {
			continue
		}
		p := s.Space.Param(i)
		x, fault := p.Encode(value)
		if text, ok := value.(string); fault != nil && ok {
			var v any
			if json.Unmarshal([]byte(text), &v) == nil {
				if y, other := p.Encode(v); other == nil {
					x, fault = y, nil
				}
			}
		}
		if fault == nil {
			return p.Decode(x), nil
		}
		err = fault
	}
	return nil, err
}

func sameSettings(a, b Point) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}
