// Package study carries out the searches of experiments: it draws trials, reads what
// became of them, and says which trial trains next and when a search is over.
//
// A study is a directory below its experiment, runs/<experiment>/studies/<cell>, with
// one small file for each trial: its values, its runs, and what the sampler had seen.
// What happens to a trial afterwards is in the directories of its runs, which are runs
// like any other. So everything else follows from files that are made in one step, and
// a killed process loses nothing of a study.
package study

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"time"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/search"
	"github.com/loralab/loralab/runner/search/pruner"
	"github.com/loralab/loralab/runner/search/sampler"
	"github.com/loralab/loralab/runner/search/space"
	"github.com/loralab/loralab/runner/store"
)

// State is the state of a trial.
type State string

const (
	Open     State = "open"     // to be trained, or in training
	Paused   State = "paused"   // at a rung
	Pruned   State = "pruned"   // ended early
	Complete State = "complete" // trained to its end
	Failed   State = "failed"   // crashed, ran out of memory, or has no finite value
)

// A Trial is one point of a study.
type Trial struct {
	Number int
	Point  Point
	Start  bool // given by the experiment
	State  State
	// Step is how far a paused or pruned trial has trained.
	Step uint64
	// Value is the objective of a complete trial, or of the last rung of a paused or
	// pruned one, as a mean over its seeds.
	Value float64
	// Rungs are the values at the steps where it paused.
	Rungs []Rung
	// Reason is why it failed.
	Reason string
	// Steps are the updates of all its seeds so far.
	Steps uint64
	// Runs are its runs by seed.
	Runs []Member
	// Began and Ended are when the first of them began and the last ended, as far as
	// they have.
	Began, Ended time.Time

	at     space.Point
	pruned bool // has been, for good
}

// A Rung is the value of a trial at a step.
type Rung struct {
	Step  uint64
	Value float64
}

// A Member is the run of a trial with one of its seeds.
type Member struct {
	Seed uint64
	ID   string
}

// Cell is the name of the cell of a trial in status, logs and so on.
func (t *Trial) Cell(cell string) string { return experiment.TrialCell(cell, t.Number) }

// A Study is a search with its trials.
type Study struct {
	*experiment.Study
	// Trials are those of the search as the file has it now, by number. Others of
	// its directory, of an earlier form of the file, are Foreign.
	Trials  []*Trial
	Foreign int

	dir  *directory
	key  string // of the search as it is now
	next int    // the first number that is free
	// told is what the sampler had seen when it drew the last trial, by number.
	told map[int]Seen
	// exhausted says that all points of a finite space are trials.
	exhausted bool
	pruner    pruner.Pruner
	total     uint64 // steps of a whole training
}

// lookUp finds a run; where there is none it returns nil, or store.ErrRemoved.
type lookUp func(id string) (*store.Run, error)

// in looks runs up in a snapshot.
func in(known *store.Snapshot) lookUp {
	return func(id string) (*store.Run, error) { return known.Run(id), nil }
}

// openStudy prepares a study and reads its trials. Without create there may be none.
func openStudy(ctx context.Context, root string, lookUp lookUp, of *experiment.Study, create bool) (s *Study, err error) {
	s = &Study{Study: of, key: of.Key(), told: map[int]Seen{}, total: params.Steps(of.Untuned[0].Spec)}
	p := of.Pruner
	s.pruner, err = pruner.New(p.Kind, pruner.Settings{
		Last: int(s.total), First: int(max(p.Min, p.Warmup)), Factor: p.Eta, Every: int(p.Every), Percentile: p.Percentile, Startup: p.Startup,
	})
	if err != nil {
		return nil, fmt.Errorf("the pruner of %s/%s: %w", of.Experiment, of.Cell, err)
	}
	if s.dir, err = open(root, of.Experiment, of.Cell, create); err != nil || s.dir == nil {
		return s, err
	}
	if err := s.read(ctx, lookUp); err != nil {
		return s, err
	}
	s.exhausted, err = s.hasAll(ctx)
	return s, err
}

// hasAll reports whether all points of a grid are trials.
func (s *Study) hasAll(ctx context.Context) (bool, error) {
	if s.Sampler != "grid" || s.spent() {
		return false, nil
	}
	if s.Share.Whole {
		points := map[string]bool{}
		for _, t := range s.Trials {
			points[fmt.Sprint(t.at)] = true
		}
		return len(points) >= s.Share.Valid, nil
	}
	f := &file{Number: s.next, Seed: s.Seed, Seen: s.news()}
	ask, err := s.question(ctx, f, told(s.told, f.Seen))
	if err != nil {
		return false, err
	}
	_, err = sampler.Grid{}.Ask(ask)
	return errors.Is(err, sampler.ErrExhausted), nil
}

// Read reads the searches of experiments, known being the runs of the project. The
// runs of retests become runs of their experiments as far as they are known: those of
// each search that is over.
func Read(ctx context.Context, known *store.Snapshot, experiments []*experiment.Experiment) (studies []*Study, err error) {
	for _, e := range experiments {
		for _, of := range e.Studies {
			s, err := openStudy(ctx, known.Root, in(known), of, false)
			if err := errors.Join(err, s.dir.close()); err != nil {
				return nil, err
			}
			s.dir = nil
			studies = append(studies, s)
			if !s.Over() {
				continue
			}
			s.close()
			runs, err := s.retested(ctx)
			if err != nil {
				return nil, err
			}
			e.Add(of, runs)
		}
	}
	return studies, nil
}

// close calls the trials of a search that is over pruned where they are paused: none
// continues unless the search gets more trials.
func (s *Study) close() {
	for _, t := range s.Trials {
		if t.State == Paused {
			t.State = Pruned
		}
	}
}

// retested are the runs of the best trials on the seeds of the experiment.
func (s *Study) retested(ctx context.Context) (runs []*experiment.Run, err error) {
	best := s.Best()
	for rank, t := range best[:min(s.Top, len(best))] {
		of, found := s.Retest(ctx, rank, t.Point)
		if len(of) == 0 {
			return nil, fmt.Errorf("the best point of %s/%s: %w", s.Experiment, s.Cell, errors.New(inWords(found)))
		}
		runs = append(runs, of...)
	}
	return runs, nil
}

// Over reports whether a search has ended: its budget is used up, and no trial is to
// train.
func (s *Study) Over() bool {
	return s.spent() && len(s.verdict().Continue) == 0 && !slices.ContainsFunc(s.Trials, func(t *Trial) bool { return t.State == Open })
}

// read reads the trials of the directory that are not known yet.
func (s *Study) read(ctx context.Context, lookUp lookUp) error {
	var all []*Trial
	keys := map[*Trial]string{}
	for n, err := range s.dir.from(s.next) {
		if err != nil {
			return err
		}
		f, err := s.dir.read(n)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed while we look
		}
		if err != nil {
			return err
		}
		s.next = n + 1
		if f.Cell != s.Cell {
			continue // its name is the same as that of a file
		}
		tell(s.told, f.Seen)
		t := &Trial{Number: n, Point: f.Point, Start: f.Start, State: Open}
		for _, r := range f.Runs {
			t.Runs = append(t.Runs, Member{r.Seed, r.Run})
		}
		t.pruned = s.dir.isPruned(n)
		all, keys[t] = append(all, t), f.Key
	}
	belong := s.belonging(ctx, all, keys)
	for _, t := range all {
		if !belong[t] {
			s.Foreign++
			continue
		}
		if err := s.update(t, lookUp); err != nil {
			return err
		}
		s.Trials = append(s.Trials, t)
	}
	return nil
}

// belonging says which trials are of the search as it is now: their points lie in the
// space, and their runs are those that the file makes of them. Keys are those of their
// files; a trial with the key of the search is one of it.
func (s *Study) belonging(ctx context.Context, all []*Trial, keys map[*Trial]string) map[*Trial]bool {
	belong := map[*Trial]bool{}
	var unsure []*Trial
	var points []space.Point
	for _, t := range all {
		var err error
		if t.at, err = s.Encode(t.Point); err != nil {
			continue
		}
		if belong[t] = keys[t] == s.key; belong[t] {
			continue
		}
		if slices.EqualFunc(t.Runs, s.Seeds, func(m Member, seed uint64) bool { return m.Seed == seed }) {
			unsure, points = append(unsure, t), append(points, t.at)
		}
	}
	if len(unsure) == 0 {
		return belong
	}
	ids, err := s.IDs(ctx, points, s.Seeds)
	if err != nil {
		return belong // which a point that is resolved by itself says as well
	}
	for i, t := range unsure {
		belong[t] = slices.EqualFunc(t.Runs, ids[i], func(m Member, id string) bool { return m.ID == id })
	}
	return belong
}

// update reads what became of a trial from its runs.
func (s *Study) update(t *Trial, lookUp lookUp) error {
	var runs []*store.Run
	for _, m := range t.Runs {
		r, err := lookUp(m.ID)
		if err != nil && !errors.Is(err, store.ErrRemoved) {
			return err
		}
		runs = append(runs, r)
	}
	s.judge(t, runs)
	return nil
}

// judge sets the state of a trial by its runs; nil is one that is not there.
func (s *Study) judge(t *Trial, runs []*store.Run) {
	t.State, t.Step, t.Value, t.Rungs, t.Reason, t.Steps = Open, 0, 0, nil, "", 0
	t.Began, t.Ended = time.Time{}, time.Time{}
	done, paused := 0, 0
	var values []float64
	for _, r := range runs {
		if r == nil {
			continue
		}
		t.Steps += max(r.Summary.GetSteps(), r.Checkpoint)
		if t.Began.IsZero() || r.Started.Before(t.Began) {
			t.Began = r.Started
		}
		if r.Ended.After(t.Ended) {
			t.Ended = r.Ended
		}
		switch {
		case r.Summary != nil:
			done++
			values = append(values, s.value(r, r.Summary.GetValidation()))
		case r.State == store.Failed:
			t.State, t.Reason = Failed, r.Reason
		case r.Damage != nil && !r.Damage.Again:
			t.State, t.Reason = Failed, r.Damage.String()
		case r.State == store.Paused:
			paused++
		}
	}
	t.Rungs = s.rungsOf(runs)
	switch n := len(t.Rungs); {
	case t.State == Failed:
	case done == len(runs):
		t.State, t.Value = Complete, mean(values)
		if math.IsNaN(t.Value) || math.IsInf(t.Value, 0) {
			t.State, t.Reason = Failed, fmt.Sprintf("%s of validation is %v", s.Objective, t.Value)
		}
	case n > 0 && paused+done == len(runs):
		t.State, t.Step, t.Value = Paused, t.Rungs[n-1].Step, t.Rungs[n-1].Value
		if t.pruned {
			t.State = Pruned
		}
	}
}

// rungsOf are the values of a trial at the steps where any of its runs paused. A run
// that went past a step, for another experiment say, counts with what it has next.
func (s *Study) rungsOf(runs []*store.Run) (rungs []Rung) {
	var steps []uint64
	for _, r := range runs {
		if r == nil {
			return nil
		}
		for _, rung := range r.Rungs {
			steps = append(steps, rung.Step)
		}
	}
	slices.Sort(steps)
	for _, step := range slices.Compact(steps) {
		var values []float64
		for _, r := range runs {
			i := slices.IndexFunc(r.Rungs, func(rung store.Rung) bool { return rung.Step >= step })
			switch {
			case i >= 0:
				values = append(values, s.value(r, r.Rungs[i].Metrics))
			case r.Summary != nil:
				values = append(values, s.value(r, r.Summary.GetValidation()))
			}
		}
		if len(values) == len(runs) {
			rungs = append(rungs, Rung{step, mean(values)})
		}
	}
	return rungs
}

// value is the objective of a run; NaN where it has none.
func (s *Study) value(r *store.Run, m *spec.Metrics) float64 {
	v, ok := metric.Value(r.Named(m), s.Objective)
	if !ok {
		return math.NaN()
	}
	return v
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

// Best lists the complete trials, the best first; of equals, that which was drawn
// first.
func (s *Study) Best() []*Trial {
	var all []*Trial
	for _, t := range s.Trials {
		if t.State == Complete {
			all = append(all, t)
		}
	}
	slices.SortStableFunc(all, func(a, b *Trial) int {
		return cmp.Compare(s.direction().Loss(a.Value), s.direction().Loss(b.Value))
	})
	return all
}

// Progress is how far a search is.
type Progress struct {
	Experiment string        `json:"experiment"`
	Cell       string        `json:"cell"`
	Sampler    string        `json:"sampler"`
	Pruner     string        `json:"pruner"`
	Parameters int           `json:"parameters"`
	Objective  string        `json:"objective"`
	Trials     int           `json:"trials,omitempty"` // the budget, 0 for none
	Steps      uint64        `json:"steps,omitempty"`  // the same in steps
	Counts     map[State]int `json:"counts"`
	// Foreign are trials of an earlier form of the file, which do not count.
	Foreign int `json:"foreign,omitempty"`
	// Best is the best complete trial, nil for none.
	Best *Best `json:"best"`
	// Share is how much of the space can be trained.
	Share experiment.Share `json:"share"`
	Over  bool             `json:"over"`
}

// Best is the best trial of a search.
type Best struct {
	Trial int     `json:"trial"`
	Value float64 `json:"value"`
	Point Point   `json:"point"`
}

// Progress is how far the search is.
func (s *Study) Progress() Progress {
	p := Progress{
		Experiment: s.Experiment, Cell: s.Cell, Sampler: s.Sampler, Pruner: s.Pruner.Kind, Parameters: s.Space.Len(), Objective: s.Objective,
		Trials: s.Study.Trials, Steps: s.Steps, Counts: map[State]int{}, Foreign: s.Foreign, Share: s.Share, Over: s.Over(),
	}
	for _, t := range s.Trials {
		p.Counts[t.State]++
	}
	if best := s.Best(); len(best) > 0 {
		p.Best = &Best{best[0].Number, best[0].Value, best[0].Point}
	}
	return p
}

// spent reports whether the budget of a study is used up.
func (s *Study) spent() bool {
	if s.exhausted || s.Study.Trials > 0 && len(s.Trials) >= s.Study.Trials {
		return true
	}
	if s.Steps == 0 {
		return false
	}
	used := uint64(0)
	for _, t := range s.Trials {
		// An open trial will have trained as long. One that fails counts as much, so
		// that a study ends whose trials all fail before their first step.
		if t.State == Open || t.State == Failed {
			used += s.until(t)
		} else {
			used += t.Steps
		}
	}
	return used >= s.Steps
}

// until is how far a trial trains next, with all its seeds.
func (s *Study) until(t *Trial) uint64 {
	end := s.total
	if p := s.pause(t); p != nil {
		end = p.Step
	}
	return end * uint64(len(t.Runs))
}

// pause is where a trial pauses next; nil: it trains to its end.
func (s *Study) pause(t *Trial) *spec.Pause {
	last := uint64(0)
	if n := len(t.Rungs); n > 0 {
		last = t.Rungs[n-1].Step
	}
	if step := uint64(s.pruner.Pause(t.Number, int(last))); step < s.total {
		return &spec.Pause{Step: step, Validate: true}
	}
	return nil
}

// verdict is what the pruner says of the paused trials.
func (s *Study) verdict() pruner.Verdict {
	var all []pruner.Trial
	for _, t := range s.Trials {
		p := pruner.Trial{Number: t.Number, State: states[t.State], Values: map[int]float64{}}
		for _, r := range t.Rungs {
			p.Values[int(r.Step)] = r.Value
		}
		all = append(all, p)
	}
	return s.pruner.Judge(s.direction(), all, s.spent())
}

// states are those of a trial as samplers and pruners call them.
var states = map[State]search.State{
	Open: search.Running, Paused: search.Paused, Pruned: search.Pruned, Complete: search.Complete, Failed: search.Failed,
}

// direction says which values are better.
func (s *Study) direction() search.Direction {
	if s.Minimize {
		return search.Minimize
	}
	return search.Maximize
}

// inWords is the first mistake that was found.
func inWords(found diagnostic.List) string {
	for _, d := range found {
		if !d.Warning {
			return d.Message
		}
	}
	return "it has no run"
}
