// Package optim updates parameters: AdamW over groups with rates of their own,
// the schedule that all rates follow, and a state that is saved and restored
// exactly.
package optim

import (
	"fmt"
	"math"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/torch"
)

// Param is a parameter to be updated.
type Param struct {
	Name string
	T    *torch.Tensor
}

// Group is parameters with one learning rate and one weight decay.
type Group struct {
	Name   string
	LR     float64
	Decay  float64
	Params []Param
}

// Optimizer is AdamW (Loshchilov and Hutter, arXiv:1711.05101) over groups.
type Optimizer struct {
	cfg    *spec.Optim
	groups []group
	all    []*torch.Tensor
}

type group struct {
	Group
	tensors []*torch.Tensor
	states  []torch.AdamWState
}

// New makes an optimiser with zero moments. Groups without parameters are
// fine; a parameter in two groups is an error. Call it inside Device.Do; Free
// gives the moments back.
func New(dev *torch.Device, cfg *spec.Optim, groups []Group) (*Optimizer, error) {
	if cfg.Kind != "adamw" {
		return nil, fmt.Errorf("unknown optimiser %q, want adamw", cfg.Kind)
	}
	o := &Optimizer{cfg: cfg}
	seen := map[string]string{}
	for _, g := range groups {
		h := group{Group: g}
		for _, p := range g.Params {
			if other, ok := seen[p.Name]; ok {
				o.Free()
				return nil, fmt.Errorf("parameter %s is in group %s and in group %s", p.Name, other, g.Name)
			}
			seen[p.Name] = g.Name
			h.tensors = append(h.tensors, p.T)
			h.states = append(h.states, torch.AdamWState{
				M: p.T.Detach().ZerosLike().Keep(), V: p.T.Detach().ZerosLike().Keep(), Step: dev.Zeros(torch.Float32).Keep(),
			})
			o.all = append(o.all, p.T)
		}
		o.groups = append(o.groups, h)
	}
	return o, nil
}

// Step clips the gradients by their common norm, updates all parameters at
// factor times their rates, and drops the gradients. It returns the norm before
// clipping.
func (o *Optimizer) Step(factor float64) float64 {
	norm := torch.ClipGrads(o.all, o.cfg.ClipNorm)
	for _, g := range o.groups {
		torch.AdamW(g.tensors, g.states, g.LR*factor, o.cfg.Beta1, o.cfg.Beta2, g.Decay, o.cfg.Eps)
	}
	torch.DropGrads(o.all)
	return norm
}

// State lists the tensors that a checkpoint must hold to go on exactly, by
// name; writing into them restores.
func (o *Optimizer) State() []Param {
	var out []Param
	for _, g := range o.groups {
		for i, p := range g.Params {
			s := g.states[i]
			out = append(out, Param{"optim." + p.Name + ".m", s.M}, Param{"optim." + p.Name + ".v", s.V}, Param{"optim." + p.Name + ".step", s.Step})
		}
	}
	return out
}

// Free gives the state back.
func (o *Optimizer) Free() {
	for _, g := range o.groups {
		for _, s := range g.states {
			s.M.Free()
			s.V.Free()
			s.Step.Free()
		}
	}
	o.groups, o.all = nil, nil
}

// Factor is what rates are multiplied with at update step (0-based) of total:
// linear warm-up over the given fraction of all steps, whose first update has
// rate 1/W and not 0, then
//
//	constant  1
//	linear    1 → floor
//	cosine    floor + (1−floor) (1 + cos πt)/2, t from 0 to 1
func Factor(s *spec.Schedule, step, total int) float64 {
	warm := int(math.Round(s.GetWarmup() * float64(total)))
	if step < warm {
		return float64(step+1) / float64(warm)
	}
	t := 0.0
	if rest := total - warm; rest > 1 {
		t = float64(step-warm) / float64(rest)
	}
	floor := s.GetFloor()
	switch s.GetKind() {
	case "linear":
		return floor + (1-floor)*(1-t)
	case "cosine":
		return floor + (1-floor)*(1+math.Cos(math.Pi*t))/2
	default:
		return 1
	}
}

// CheckSchedule reports what is wrong with a schedule.
func CheckSchedule(s *spec.Schedule) error {
	switch s.GetKind() {
	case "constant", "linear", "cosine":
		return nil
	}
	return fmt.Errorf("unknown schedule %q, want constant, linear or cosine", s.GetKind())
}
