// Package optim updates parameters: AdamW, Adam or SGD over groups with rates of
// their own, the schedule that all rates follow, and a state that is saved and
// restored exactly.
package optim

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/spec"
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

// Optimizer updates the parameters of groups.
type Optimizer struct {
	cfg    *spec.Optim
	rule   rule
	groups []*group
	all    []*torch.Tensor
}

type group struct {
	Group
	tensors []*torch.Tensor
	state   [][]*torch.Tensor // by parameter, in the order of the rule's names
}

// rule is one kind of optimiser.
type rule struct {
	// state names what is remembered of a parameter: of its shape, but "step",
	// which is one number.
	state []string
	decay float64 // where none is given, in PyTorch
	// step moves nothing if a norm is given that is not finite.
	step func(cfg *spec.Optim, g *group, norm *torch.Tensor, lr float64)
}

var rules = map[string]rule{
	"adamw": {[]string{"m", "v", "step"}, 0.01, func(c *spec.Optim, g *group, norm *torch.Tensor, lr float64) {
		torch.AdamW(g.tensors, g.moments(), norm, lr, c.Beta1, c.Beta2, g.Decay, c.Eps)
	}},
	"adam": {[]string{"m", "v", "step"}, 0, func(c *spec.Optim, g *group, norm *torch.Tensor, lr float64) {
		torch.Adam(g.tensors, g.moments(), norm, lr, c.Beta1, c.Beta2, g.Decay, c.Eps)
	}},
	"sgd": {[]string{"momentum"}, 0, func(c *spec.Optim, g *group, norm *torch.Tensor, lr float64) {
		momenta := make([]*torch.Tensor, len(g.state))
		for i, s := range g.state {
			momenta[i] = s[0]
		}
		torch.SGD(g.tensors, momenta, norm, lr, c.Momentum, g.Decay, c.Nesterov)
	}},
}

func (g *group) moments() []torch.AdamWState {
	out := make([]torch.AdamWState, len(g.state))
	for i, s := range g.state {
		out[i] = torch.AdamWState{M: s[0], V: s[1], Step: s[2]}
	}
	return out
}

// Kinds lists the optimisers by name.
func Kinds() []string { return slices.Sorted(maps.Keys(rules)) }

// New makes an optimiser with its state at zero. Groups without parameters are
// fine; a parameter in two groups is an error. Call it inside Device.Do; Free
// gives the state back.
func New(dev *torch.Device, cfg *spec.Optim, groups []Group) (*Optimizer, error) {
	r, ok := rules[cfg.Kind]
	if !ok {
		return nil, fmt.Errorf("unknown optimiser %q, want one of %s", cfg.Kind, strings.Join(Kinds(), ", "))
	}
	o := &Optimizer{cfg: cfg, rule: r}
	seen := map[string]string{}
	for _, g := range groups {
		h := &group{Group: g}
		o.groups = append(o.groups, h)
		for _, p := range g.Params {
			if other, ok := seen[p.Name]; ok {
				o.Free()
				return nil, fmt.Errorf("parameter %s is in group %s and in group %s", p.Name, other, g.Name)
			}
			seen[p.Name] = g.Name
			h.tensors = append(h.tensors, p.T)
			var state []*torch.Tensor
			for _, name := range r.state {
				if name == "step" {
					state = append(state, dev.Zeros(torch.Float32).Keep())
				} else {
					state = append(state, p.T.Detach().ZerosLike().Keep())
				}
			}
			h.state = append(h.state, state)
			o.all = append(o.all, p.T)
		}
	}
	return o, nil
}

// Step clips the gradients by their common norm, updates all parameters at
// factor times their rates, and drops the gradients. It returns the norm before
// clipping. If that is no finite number, ok is false, nothing is updated, and the
// gradients stay, to be looked at.
func (o *Optimizer) Step(factor float64) (norm float64, ok bool) {
	norm = torch.ClipGrads(o.all, o.cfg.ClipNorm)
	if math.IsNaN(norm) || math.IsInf(norm, 0) {
		return norm, false
	}
	for _, g := range o.groups {
		o.rule.step(o.cfg, g, nil, g.LR*factor)
	}
	torch.DropGrads(o.all)
	return norm, true
}

// StepThere is Step that does not wait for the device: the norm is a scalar there.
// Where it or the loss, another, is not finite, nothing is updated. The gradients are
// dropped in any case.
func (o *Optimizer) StepThere(factor float64, loss *torch.Tensor) (norm *torch.Tensor) {
	norm = torch.ClipGradsThere(o.all, o.cfg.ClipNorm)
	both := norm.Add(loss)
	for _, g := range o.groups {
		o.rule.step(o.cfg, g, both, g.LR*factor)
	}
	torch.DropGrads(o.all)
	return norm
}

// Default drops the decay of all groups and the betas for those that PyTorch's
// optimisers have where none are given.
func (o *Optimizer) Default() {
	o.cfg = proto.CloneOf(o.cfg)
	o.cfg.Beta1, o.cfg.Beta2 = 0.9, 0.999
	for _, g := range o.groups {
		g.Decay = o.rule.decay
	}
}

// Forget sets the state back to zero.
func (o *Optimizer) Forget() {
	for _, p := range o.State() {
		p.T.Device().Scope(func() { p.T.Assign(p.T.ZerosLike()) })
	}
}

// State lists the tensors that a checkpoint must hold to go on exactly, by
// name; writing into them restores.
func (o *Optimizer) State() []Param {
	var out []Param
	for _, g := range o.groups {
		for i, p := range g.Params {
			for j, name := range o.rule.state {
				out = append(out, Param{"optim." + p.Name + "." + name, g.state[i][j]})
			}
		}
	}
	return out
}

// Free gives the state back.
func (o *Optimizer) Free() {
	for _, g := range o.groups {
		for _, state := range g.state {
			for _, t := range state {
				t.Free()
			}
		}
	}
	o.groups, o.all = nil, nil
}

// shape is one kind of schedule after the warm-up: the factor at t, from 0 at
// its first step to 1 behind its last.
type shape func(s *spec.Schedule, t float64) float64

var shapes = map[string]shape{
	"constant": func(*spec.Schedule, float64) float64 { return 1 },
	"linear":   func(s *spec.Schedule, t float64) float64 { return down(s, 1-t) },
	"cosine":   func(s *spec.Schedule, t float64) float64 { return down(s, (1+math.Cos(math.Pi*t))/2) },
	"polynomial": func(s *spec.Schedule, t float64) float64 {
		return down(s, math.Pow(1-t, s.GetPower()))
	},
}

// down goes from 1 to the floor as v goes from 1 to 0.
func down(s *spec.Schedule, v float64) float64 { return s.GetFloor() + (1-s.GetFloor())*v }

// Schedules lists the kinds by name.
func Schedules() []string {
	return slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(shapes)), "step", "trapezoid")))
}

// Factor is what rates are multiplied with at update step (0-based) of total:
// linear warm-up over the given fraction of all steps or number of steps W, whose
// first update has rate 1/W and not 0, then
//
//	constant    1
//	linear      1 → floor
//	cosine      floor + (1−floor) (1 + cos πt)/2, t from 0 to 1
//	polynomial  floor + (1−floor) (1−t)^power
//	step        γ^(milestones reached), milestones being fractions of all steps
//	trapezoid   1, then in a line to the floor over the last `decay` of all steps
//
// A lagging trapezoid is stepped as the original project does: update k has the
// factor that belongs to k−1, which warms up from 0, so that the first two
// updates change nothing.
func Factor(s *spec.Schedule, step, total int) float64 {
	if s.GetKind() == "trapezoid" && s.GetLagging() {
		return lagging(s, max(step-1, 0), total)
	}
	warm := int(math.Round(s.GetWarmup() * float64(total)))
	if n := int(s.GetWarmupSteps()); n > 0 {
		warm = n
	}
	if step < warm {
		return float64(step+1) / float64(warm)
	}
	switch s.GetKind() {
	case "step":
		f := 1.0
		for _, m := range s.GetMilestones() {
			if step >= int(math.Round(m*float64(total))) {
				f *= s.GetGamma()
			}
		}
		return f
	case "trapezoid":
		end := max(int(math.Round(s.GetDecay()*float64(total))), 1)
		if left := total - step; left < end {
			return down(s, float64(left)/float64(end))
		}
		return 1
	}
	t := 0.0
	if rest := total - warm; rest > 1 {
		t = float64(step-warm) / float64(rest)
	}
	return shapes[s.GetKind()](s, t)
}

// lagging is the original project's trapezoid, its roundings included.
func lagging(s *spec.Schedule, step, total int) float64 {
	warm, end := int(s.GetWarmup()*float64(total)), int(s.GetDecay()*float64(total))
	if n := int(s.GetWarmupSteps()); n > 0 {
		warm = n
	}
	switch {
	case step < warm:
		return float64(step) / float64(max(1, warm))
	case step < total-end:
		return 1
	default:
		return max(0, float64(total-step)/float64(max(1, end)))
	}
}

// CheckSchedule reports what is wrong with a schedule.
func CheckSchedule(s *spec.Schedule) error {
	if !slices.Contains(Schedules(), s.GetKind()) {
		return fmt.Errorf("unknown schedule %q, want one of %s", s.GetKind(), strings.Join(Schedules(), ", "))
	}
	switch s.GetKind() {
	case "polynomial":
		if !(s.GetPower() > 0) {
			return fmt.Errorf("power %g of the polynomial schedule, want a positive number", s.GetPower())
		}
	case "step":
		if !(s.GetGamma() > 0 && s.GetGamma() <= 1) || len(s.GetMilestones()) == 0 || !slices.IsSorted(s.GetMilestones()) {
			return fmt.Errorf("step schedule with factor %g at %v, want a factor above 0, at most 1, and rising fractions of all steps", s.GetGamma(), s.GetMilestones())
		}
	case "trapezoid":
		if !(s.GetDecay() >= 0 && s.GetWarmup()+s.GetDecay() <= 1) {
			return fmt.Errorf("trapezoid with warm-up %g and decay %g, want fractions of all steps that add up to 1 at most", s.GetWarmup(), s.GetDecay())
		}
	}
	return nil
}
