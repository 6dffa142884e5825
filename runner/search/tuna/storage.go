package tuna

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"time"

	"github.com/c-bata/goptuna"
)

// Storage keeps goptuna's studies in memory. It may be used by several
// goroutines. The zero value is empty.
type Storage struct {
	mu      sync.Mutex
	studies map[int]*study
	names   map[string]int
	trials  []*goptuna.FrozenTrial // by ID
	next    int                    // ID of the last study that was made
}

type study struct {
	id               int
	name             string
	direction        goptuna.StudyDirection
	user, system     map[string]string
	trials           []*goptuna.FrozenTrial
	minimum, maximum *goptuna.FrozenTrial // of the complete trials
}

func (s *Storage) study(id int) (*study, error) {
	if st, ok := s.studies[id]; ok {
		return st, nil
	}
	return nil, goptuna.ErrInvalidStudyID
}

// with calls f with a study.
func (s *Storage) with(id int, f func(*study) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, err := s.study(id)
	if err != nil {
		return err
	}
	return f(st)
}

// trial calls f with a trial.
func (s *Storage) trial(id int, f func(*goptuna.FrozenTrial) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id < 0 || id >= len(s.trials) || s.trials[id] == nil {
		return goptuna.ErrInvalidTrialID
	}
	return f(s.trials[id])
}

// change calls f with a trial that has not ended.
func (s *Storage) change(id int, f func(*goptuna.FrozenTrial) error) error {
	return s.trial(id, func(t *goptuna.FrozenTrial) error {
		if t.State.IsFinished() {
			return goptuna.ErrTrialCannotBeUpdated
		}
		return f(t)
	})
}

// frozen is a copy that shares nothing.
func frozen(t *goptuna.FrozenTrial) goptuna.FrozenTrial {
	c := *t
	c.IntermediateValues = maps.Clone(t.IntermediateValues)
	c.InternalParams = maps.Clone(t.InternalParams)
	c.Params = maps.Clone(t.Params)
	c.Distributions = maps.Clone(t.Distributions)
	c.UserAttrs = maps.Clone(t.UserAttrs)
	c.SystemAttrs = maps.Clone(t.SystemAttrs)
	return c
}

// CreateNewStudy makes a study. An empty name gets a number.
func (s *Storage) CreateNewStudy(name string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.studies == nil {
		s.studies, s.names = map[int]*study{}, map[string]int{}
	}
	if name == "" {
		name = fmt.Sprint(goptuna.DefaultStudyNamePrefix, s.next+1)
	}
	if _, ok := s.names[name]; ok {
		return -1, fmt.Errorf("there is a study %q", name)
	}
	s.next++
	s.studies[s.next] = &study{
		id: s.next, name: name, direction: goptuna.StudyDirectionMinimize, user: map[string]string{}, system: map[string]string{},
	}
	s.names[name] = s.next
	return s.next, nil
}

// DeleteStudy deletes a study and its trials.
func (s *Storage) DeleteStudy(id int) error {
	return s.with(id, func(st *study) error {
		for _, t := range st.trials {
			s.trials[t.ID] = nil
		}
		delete(s.names, st.name)
		delete(s.studies, id)
		return nil
	})
}

// SetStudyDirection sets which values are better.
func (s *Storage) SetStudyDirection(id int, d goptuna.StudyDirection) error {
	return s.with(id, func(st *study) error { st.direction = d; return nil })
}

// SetStudyUserAttr sets an attribute of the user.
func (s *Storage) SetStudyUserAttr(id int, key, value string) error {
	return s.with(id, func(st *study) error { st.user[key] = value; return nil })
}

// SetStudySystemAttr sets an attribute of the system.
func (s *Storage) SetStudySystemAttr(id int, key, value string) error {
	return s.with(id, func(st *study) error { st.system[key] = value; return nil })
}

// GetStudyIDFromName finds a study.
func (s *Storage) GetStudyIDFromName(name string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id, ok := s.names[name]; ok {
		return id, nil
	}
	return -1, fmt.Errorf("there is no study %q", name)
}

// GetStudyIDFromTrialID finds the study of a trial.
func (s *Storage) GetStudyIDFromTrialID(id int) (study int, err error) {
	study = -1
	err = s.trial(id, func(t *goptuna.FrozenTrial) error { study = t.StudyID; return nil })
	return study, err
}

// GetStudyNameFromID gives the name of a study.
func (s *Storage) GetStudyNameFromID(id int) (name string, err error) {
	err = s.with(id, func(st *study) error { name = st.name; return nil })
	return name, err
}

// GetStudyDirection says which values are better.
func (s *Storage) GetStudyDirection(id int) (d goptuna.StudyDirection, err error) {
	d = goptuna.StudyDirectionMinimize
	err = s.with(id, func(st *study) error { d = st.direction; return nil })
	return d, err
}

// GetStudyUserAttrs gives the attributes of the user.
func (s *Storage) GetStudyUserAttrs(id int) (attrs map[string]string, err error) {
	err = s.with(id, func(st *study) error { attrs = maps.Clone(st.user); return nil })
	return attrs, err
}

// GetStudySystemAttrs gives the attributes of the system.
func (s *Storage) GetStudySystemAttrs(id int) (attrs map[string]string, err error) {
	err = s.with(id, func(st *study) error { attrs = maps.Clone(st.system); return nil })
	return attrs, err
}

// GetAllStudySummaries lists the studies by ID.
func (s *Storage) GetAllStudySummaries() ([]goptuna.StudySummary, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []goptuna.StudySummary
	for id := 1; id <= s.next; id++ {
		st, ok := s.studies[id]
		if !ok {
			continue
		}
		summary := goptuna.StudySummary{
			ID: id, Name: st.name, Direction: st.direction, UserAttrs: maps.Clone(st.user), SystemAttrs: maps.Clone(st.system),
		}
		if best := st.best(); best != nil {
			summary.BestTrial = frozen(best)
		}
		if len(st.trials) > 0 {
			summary.DatetimeStart = st.trials[0].DatetimeStart
		}
		all = append(all, summary)
	}
	return all, nil
}

func (st *study) best() *goptuna.FrozenTrial {
	if st.direction == goptuna.StudyDirectionMaximize {
		return st.maximum
	}
	return st.minimum
}

// ended notes a trial that has ended.
func (st *study) ended(t *goptuna.FrozenTrial) {
	if t.State != goptuna.TrialStateComplete || !finite(t.Value) {
		return
	}
	if st.minimum == nil || t.Value < st.minimum.Value {
		st.minimum = t
	}
	if st.maximum == nil || t.Value > st.maximum.Value {
		st.maximum = t
	}
}

// CreateNewTrial makes a trial that runs.
func (s *Storage) CreateNewTrial(id int) (int, error) {
	return s.CloneTrial(id, goptuna.FrozenTrial{State: goptuna.TrialStateRunning, DatetimeStart: time.Now()})
}

// CloneTrial makes a trial like another one.
func (s *Storage) CloneTrial(id int, base goptuna.FrozenTrial) (trial int, err error) {
	trial = -1
	err = s.with(id, func(st *study) error {
		t := frozen(&base)
		t.ID, t.StudyID, t.Number = len(s.trials), id, len(st.trials)
		made(&t.IntermediateValues)
		made(&t.InternalParams)
		made(&t.Params)
		made(&t.Distributions)
		made(&t.UserAttrs)
		made(&t.SystemAttrs)
		s.trials = append(s.trials, &t)
		st.trials = append(st.trials, &t)
		st.ended(&t)
		trial = t.ID
		return nil
	})
	return trial, err
}

func made[K comparable, V any](m *map[K]V) {
	if *m == nil {
		*m = map[K]V{}
	}
}

// SetTrialValue sets the objective.
func (s *Storage) SetTrialValue(id int, value float64) error {
	return s.change(id, func(t *goptuna.FrozenTrial) error { t.Value = value; return nil })
}

// SetTrialIntermediateValue sets the value at a step, once.
func (s *Storage) SetTrialIntermediateValue(id, step int, value float64) error {
	return s.change(id, func(t *goptuna.FrozenTrial) error {
		if old, ok := t.IntermediateValues[step]; ok && old != value && !(math.IsNaN(old) && math.IsNaN(value)) {
			return fmt.Errorf("step %d of trial %d has the value %v, which cannot become %v", step, t.Number, old, value)
		}
		t.IntermediateValues[step] = value
		return nil
	})
}

// SetTrialParam sets a parameter, once.
func (s *Storage) SetTrialParam(id int, name string, internal float64, distribution any) error {
	return s.change(id, func(t *goptuna.FrozenTrial) error {
		if old, ok := t.InternalParams[name]; ok && old != internal {
			return fmt.Errorf("parameter %q of trial %d is %v and cannot become %v", name, t.Number, old, internal)
		}
		external, err := goptuna.ToExternalRepresentation(distribution, internal)
		if err != nil {
			return err
		}
		t.InternalParams[name], t.Params[name], t.Distributions[name] = internal, external, distribution
		return nil
	})
}

// SetTrialState sets the state. A trial that has ended keeps its own, and one that
// runs cannot be started again, so that one of several processes gets a trial that
// waits.
func (s *Storage) SetTrialState(id int, state goptuna.TrialState) error {
	return s.change(id, func(t *goptuna.FrozenTrial) error {
		if state == goptuna.TrialStateRunning && t.State == goptuna.TrialStateRunning {
			return goptuna.ErrTrialCannotBeUpdated
		}
		t.State = state
		if state.IsFinished() {
			t.DatetimeComplete = time.Now()
			s.studies[t.StudyID].ended(t)
		}
		return nil
	})
}

// SetTrialUserAttr sets an attribute of the user.
func (s *Storage) SetTrialUserAttr(id int, key, value string) error {
	return s.change(id, func(t *goptuna.FrozenTrial) error { t.UserAttrs[key] = value; return nil })
}

// SetTrialSystemAttr sets an attribute of the system.
func (s *Storage) SetTrialSystemAttr(id int, key, value string) error {
	return s.change(id, func(t *goptuna.FrozenTrial) error { t.SystemAttrs[key] = value; return nil })
}

// GetTrialNumberFromID gives the number of a trial in its study.
func (s *Storage) GetTrialNumberFromID(id int) (number int, err error) {
	number = -1
	err = s.trial(id, func(t *goptuna.FrozenTrial) error { number = t.Number; return nil })
	return number, err
}

// GetTrialParam gives the internal number of a parameter.
func (s *Storage) GetTrialParam(id int, name string) (x float64, err error) {
	err = s.trial(id, func(t *goptuna.FrozenTrial) error {
		var ok bool
		if x, ok = t.InternalParams[name]; !ok {
			x = -1
			return errors.New("the trial has no such parameter")
		}
		return nil
	})
	return x, err
}

// GetTrial gives a trial.
func (s *Storage) GetTrial(id int) (copied goptuna.FrozenTrial, err error) {
	err = s.trial(id, func(t *goptuna.FrozenTrial) error { copied = frozen(t); return nil })
	return copied, err
}

// GetAllTrials lists the trials of a study by number.
func (s *Storage) GetAllTrials(id int) (all []goptuna.FrozenTrial, err error) {
	err = s.with(id, func(st *study) error {
		all = make([]goptuna.FrozenTrial, len(st.trials))
		for i, t := range st.trials {
			all[i] = frozen(t)
		}
		return nil
	})
	return all, err
}

// GetBestTrial gives the best complete trial with a finite value.
func (s *Storage) GetBestTrial(id int) (best goptuna.FrozenTrial, err error) {
	err = s.with(id, func(st *study) error {
		t := st.best()
		if t == nil {
			return goptuna.ErrNoCompletedTrials
		}
		best = frozen(t)
		return nil
	})
	return best, err
}

// GetTrialParams gives the parameters of a trial.
func (s *Storage) GetTrialParams(id int) (params map[string]any, err error) {
	err = s.trial(id, func(t *goptuna.FrozenTrial) error { params = maps.Clone(t.Params); return nil })
	return params, err
}

// GetTrialUserAttrs gives the attributes of the user.
func (s *Storage) GetTrialUserAttrs(id int) (attrs map[string]string, err error) {
	err = s.trial(id, func(t *goptuna.FrozenTrial) error { attrs = maps.Clone(t.UserAttrs); return nil })
	return attrs, err
}

// GetTrialSystemAttrs gives the attributes of the system.
func (s *Storage) GetTrialSystemAttrs(id int) (attrs map[string]string, err error) {
	err = s.trial(id, func(t *goptuna.FrozenTrial) error { attrs = maps.Clone(t.SystemAttrs); return nil })
	return attrs, err
}
