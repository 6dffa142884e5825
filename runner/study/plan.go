package study

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/loralab/loralab/runner/plan"
	"github.com/loralab/loralab/runner/search/space"
)

// Planned is the search as a plan has it: how far it is and what is left.
func (s *Study) Planned() (plan.Search, error) {
	digest, err := s.digest()
	if err != nil {
		return plan.Search{}, err
	}
	p := plan.Search{Name: s.Name(), Digest: digest, Made: len(s.Trials), States: map[string]int{}, Like: s.Untuned[0]}
	for _, t := range s.Trials {
		p.States[string(t.State)]++
	}
	if s.Over() {
		return p, nil
	}
	seeds := uint64(len(s.Seeds))
	used := uint64(0)
	for _, t := range s.Trials {
		used += t.Steps
		whole := s.total * uint64(len(t.Runs))
		if t.State == Open || t.State == Paused {
			p.Left += whole - min(t.Steps, whole)
		}
		if t.State == Open {
			p.Runs += len(t.Runs)
		}
	}
	p.AtMost = s.Pruner.Kind != "none"
	if more := s.Study.Trials - len(s.Trials); more > 0 {
		p.Runs += more * len(s.Seeds)
		p.Left += uint64(more) * seeds * s.total
	}
	if s.Steps > 0 { // the last trial begins within the budget and ends after it
		budget := s.Steps - min(used, s.Steps) + seeds*s.total
		if s.Study.Trials == 0 || p.Left > budget {
			p.Left, p.AtMost = budget, true
			p.Runs = max(p.Runs, int((budget+s.total-1)/max(s.total, 1)))
		}
	}
	p.Runs += s.Top * len(s.RetestSeeds)
	p.Left += uint64(s.Top*len(s.RetestSeeds)) * s.total
	return p, nil
}

// digest is what a search is: two with the same draw the same trials of the same runs.
func (s *Study) digest() (string, error) {
	var params []space.Param
	for i := range s.Space.Len() {
		params = append(params, s.Space.Param(i))
	}
	text, err := json.Marshal([]any{
		s.Key(), params, s.Objective, s.Minimize, s.Trainable, s.Sampler, s.Pruner, s.Study.Trials, s.Steps, s.Seeds, s.RetestSeeds, s.Top, s.Seed, s.Start,
	})
	if err != nil {
		return "", fmt.Errorf("planning the search of %s: %w", s.Name(), err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16]), nil
}
