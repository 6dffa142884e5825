// Package tuna has goptuna's interfaces over the samplers and pruners of package
// search, and a storage for goptuna's studies in memory.
//
// Its [Storage] runs goptuna's own samplers unchanged. It differs from goptuna's
// in what is unsafe there: what it returns are copies, a value that is not finite
// is never the best, a step or parameter that is set twice has to be the same, and
// each change takes a time that does not depend on the number of trials.
package tuna

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/c-bata/goptuna"

	"github.com/loralab/loralab/runner/search"
	"github.com/loralab/loralab/runner/search/pruner"
	"github.com/loralab/loralab/runner/search/sampler"
	"github.com/loralab/loralab/runner/search/space"
)

var (
	_ goptuna.Storage         = (*Storage)(nil)
	_ goptuna.Sampler         = (*Sampler)(nil)
	_ goptuna.RelativeSampler = (*Sampler)(nil)
	_ goptuna.Pruner          = (*Pruner)(nil)
)

// Distributions are the parameters of a space as goptuna has them, for
// goptuna.StudyOptionDefineSearchSpace and for Suggest. goptuna has no
// logarithmic integers: they are integers, which [Sampler] draws by the logarithm
// all the same. Choices are written as text.
func Distributions(s *space.Space) map[string]any {
	all := map[string]any{}
	for i := range s.Len() {
		p := s.Param(i)
		all[p.Name] = distribution(p)
	}
	return all
}

func distribution(p space.Param) any {
	switch {
	case p.Kind == space.Choice:
		choices := make([]string, len(p.Choices))
		for i, c := range p.Choices {
			choices[i] = fmt.Sprint(c)
		}
		return goptuna.CategoricalDistribution{Choices: choices}
	case p.Kind == space.Int && p.Step == 1:
		return goptuna.IntUniformDistribution{Low: int(p.Low), High: int(p.High)}
	case p.Kind == space.Int:
		return goptuna.StepIntUniformDistribution{Low: int(p.Low), High: int(p.High), Step: int(p.Step)}
	case p.Log:
		return goptuna.LogUniformDistribution{Low: p.Low, High: p.High}
	case p.Step > 0:
		return goptuna.DiscreteUniformDistribution{Low: p.Low, High: p.High, Q: p.Step}
	}
	return goptuna.UniformDistribution{Low: p.Low, High: p.High}
}

// Sampler is a sampler for goptuna's studies: as goptuna.StudyOptionSampler, and
// with goptuna.StudyOptionDefineSearchSpace also as StudyOptionRelativeSampler.
// All parameters of a trial are drawn together when the first is asked for, and
// kept in the trial's system attribute "loralab:point".
type Sampler struct {
	sampler sampler.Sampler
	space   *space.Space
	seed    uint64
}

// NewSampler makes a sampler of a space.
func NewSampler(s sampler.Sampler, on *space.Space, seed uint64) *Sampler {
	return &Sampler{s, on, seed}
}

const pointAttr = "loralab:point"

// Sample draws one parameter. It fails when the parameter is not of the space.
func (s *Sampler) Sample(study *goptuna.Study, trial goptuna.FrozenTrial, name string, _ any) (float64, error) {
	i := s.space.Index(name)
	if i < 0 {
		return 0, fmt.Errorf("parameter %q is not in the space of the sampler", name)
	}
	p, err := s.point(study, trial)
	if err != nil {
		return 0, err
	}
	if !space.Active(p[i]) {
		return 0, fmt.Errorf("parameter %q does not exist for the other parameters of trial %d: its condition does not hold", name, trial.Number)
	}
	return p[i], nil
}

// SampleRelative draws all parameters of a trial.
func (s *Sampler) SampleRelative(study *goptuna.Study, trial goptuna.FrozenTrial, _ map[string]any) (map[string]float64, error) {
	p, err := s.point(study, trial)
	if err != nil {
		return nil, err
	}
	return s.internal(p), nil
}

func (s *Sampler) point(study *goptuna.Study, trial goptuna.FrozenTrial) (space.Point, error) {
	if p, ok := s.known(trial); ok {
		return p, nil
	}
	trials, err := study.GetTrials()
	if err != nil {
		return nil, err
	}
	var seen []search.Trial
	for _, t := range trials {
		if p, ok := s.known(t); ok && t.ID != trial.ID {
			step, _ := t.GetLatestStep()
			seen = append(seen, search.Trial{Number: t.Number, Point: p, State: state(t.State), Step: step, Value: t.Value})
		}
	}
	p, err := s.sampler.Ask(sampler.Ask{Seed: s.seed, Number: trial.Number, Space: s.space, Direction: direction(study), Seen: seen})
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(s.internal(p))
	if err != nil {
		return nil, err
	}
	return p, study.Storage.SetTrialSystemAttr(trial.ID, pointAttr, string(text))
}

// known is the point of a trial: what it was evaluated with, or what was drawn.
func (s *Sampler) known(t goptuna.FrozenTrial) (space.Point, bool) {
	if p := s.fromInternal(t.InternalParams); s.space.Contains(p) {
		return p, true
	}
	var params map[string]float64
	if json.Unmarshal([]byte(t.SystemAttrs[pointAttr]), &params) != nil {
		return nil, false
	}
	p := s.fromInternal(params)
	return p, s.space.Contains(p)
}

func (s *Sampler) internal(p space.Point) map[string]float64 {
	params := map[string]float64{}
	for i, x := range p {
		if space.Active(x) {
			params[s.space.Param(i).Name] = x
		}
	}
	return params
}

func (s *Sampler) fromInternal(params map[string]float64) space.Point {
	p := make(space.Point, s.space.Len())
	for i := range p {
		p[i] = space.Inactive
		if x, ok := params[s.space.Param(i).Name]; ok {
			p[i] = x
		}
	}
	return p
}

func state(s goptuna.TrialState) search.State {
	switch s {
	case goptuna.TrialStateComplete:
		return search.Complete
	case goptuna.TrialStatePruned:
		return search.Pruned
	case goptuna.TrialStateFail:
		return search.Failed
	}
	return search.Running
}

func direction(study *goptuna.Study) search.Direction {
	if study.Direction() == goptuna.StudyDirectionMaximize {
		return search.Maximize
	}
	return search.Minimize
}

// Pruner is a pruner for goptuna's studies. goptuna cannot continue a trial
// later, so one that would wait is pruned, unless it is the best so far at its
// pause: as in Optuna, some trial has to get to the end.
type Pruner struct{ pruner pruner.Pruner }

// NewPruner makes a goptuna pruner.
func NewPruner(p pruner.Pruner) *Pruner { return &Pruner{p} }

// Prune judges a trial at the first reported step of each pause.
func (p *Pruner) Prune(study *goptuna.Study, trial goptuna.FrozenTrial) (bool, error) {
	trials, err := study.GetTrials()
	if err != nil {
		return false, err
	}
	d := direction(study)
	var all []pruner.Trial
	own, pause := p.atPauses(trial)
	if pause == 0 {
		return false, nil
	}
	best := !math.IsInf(d.Loss(own.Values[pause]), 1)
	for _, t := range trials {
		seen, _ := p.atPauses(t)
		if t.ID == trial.ID {
			seen.State = search.Paused
		} else if x, ok := seen.Values[pause]; ok && d.Loss(x) <= d.Loss(own.Values[pause]) {
			best = false
		}
		all = append(all, seen)
	}
	return !best && !slices.Contains(p.pruner.Judge(d, all, false).Continue, trial.Number), nil
}

// atPauses gives the values of a trial at the pauses of the pruner, each that of
// the first step reported from there on, and the last pause for which that is the
// last report, or 0.
func (p *Pruner) atPauses(t goptuna.FrozenTrial) (seen pruner.Trial, newest int) {
	seen = pruner.Trial{Number: t.Number, State: state(t.State), Values: map[int]float64{}}
	steps := slices.Sorted(maps.Keys(t.IntermediateValues))
	for pause, last := p.pruner.Pause(t.Number, 0), 0; pause > last; pause, last = p.pruner.Pause(t.Number, pause), pause {
		i, _ := slices.BinarySearch(steps, pause)
		if i == len(steps) {
			break
		}
		seen.Values[pause] = t.IntermediateValues[steps[i]]
		// At the last step there is nothing left to prune.
		if i == len(steps)-1 && p.pruner.Pause(t.Number, pause) > pause {
			newest = pause
		}
	}
	return seen, newest
}

// finite reports whether a value can be the best.
func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
