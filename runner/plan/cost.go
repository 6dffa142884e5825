package plan

import (
	"fmt"
	"iter"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/store"
)

// Cell is what a plan knows of one cell, whatever the seed: how its tensors are
// trained, and what training costs.
type Cell struct {
	Experiment string         `json:"experiment"`
	Cell       string         `json:"cell"`
	Groups     []params.Group `json:"groups"`
	Trainable  int64          `json:"trainable"` // weights
	Steps      uint64         `json:"steps"`     // of one run
	// What is left to train: runs, and the steps of all of them.
	Runs int    `json:"runs"`
	Left uint64 `json:"steps_left"`
	Cost Cost   `json:"cost"` // of what is left
	// Cached is the number of blocks that training images pass through once, and
	// Uncached why they pass through all of them in each step.
	Cached   int    `json:"cached_blocks"`
	Uncached string `json:"uncached,omitempty"`
	// Search says that it is what a search of the cell has left, which is at most so
	// much where AtMost is set.
	Search bool `json:"search,omitempty"`
	AtMost bool `json:"at_most,omitempty"`
}

// Cost is an estimate from runs that were trained in this project.
type Cost struct {
	// From is how many runs it is taken from; 0: none was like it, and nothing
	// is known.
	From int `json:"from"`
	// Alike is true if those had the same shape: all that a step computes.
	// Otherwise only the adapters' inner form was another.
	Alike bool `json:"alike"`
	// Seconds of training, and the standard deviation of that estimate; it is
	// unknown, 0, from one run alone.
	Seconds float64 `json:"seconds"`
	SD      float64 `json:"sd"`
	// Memory is the largest peak of those runs, bytes of the engine's process.
	Memory uint64 `json:"memory"`
}

// Cells describes the cells of the plan that are asked for, in their order, and what is
// left of its searches.
func (p *Plan) Cells(known *store.Snapshot) ([]Cell, error) {
	rates := measure(known)
	var cells []Cell
	at := map[[2]string]int{}
	for _, a := range p.Actions {
		if a.Run == nil {
			continue
		}
		key := [2]string{a.Run.Experiment, a.Run.Cell}
		i, ok := at[key]
		if !ok {
			c, err := describe(a.Run)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", a.Name, err)
			}
			i, at[key] = len(cells), len(cells)
			cells = append(cells, c)
		}
		if c := &cells[i]; a.Shared == nil && a.Train {
			c.Runs++
			c.Left += c.Steps - min(a.Step, c.Steps)
		}
	}
	for _, a := range p.Actions {
		if a.Run == nil {
			continue
		}
		if c := &cells[at[[2]string{a.Run.Experiment, a.Run.Cell}]]; c.Cost.From == 0 && c.Runs > 0 {
			c.Cost = rates.estimate(a.Run.Spec, c.Left, c.Runs)
		}
	}
	for _, s := range p.Searches {
		c, err := rates.searchCell(s)
		if err != nil {
			return nil, err
		}
		cells = append(cells, c)
	}
	return cells, nil
}

// training goes through the cells that are to train, each once, with the tensors of
// its model. Of a cell whose tensors cannot be listed it says nothing: that is reported
// where they are asked for.
func (p *Plan) training() iter.Seq2[*Action, []params.Tensor] {
	return func(yield func(*Action, []params.Tensor) bool) {
		seen := map[[2]string]bool{}
		for _, a := range p.Actions {
			if a.Run == nil || a.Shared != nil || !a.Train {
				continue
			}
			key := [2]string{a.Run.Experiment, a.Run.Cell}
			if seen[key] {
				continue
			}
			seen[key] = true
			if tensors, err := params.Of(a.Run.Spec); err == nil && !yield(a, tensors) {
				return
			}
		}
	}
}

// Uncached are the reasons why frozen blocks are computed again in each step of runs
// that are to train, each once. It says nothing of those without frozen blocks.
func (p *Plan) Uncached() (reasons []string) {
	for a, tensors := range p.training() {
		c, err := params.CacheOf(a.Run.Spec, tensors, params.CacheBytes)
		if err == nil && c.Blocks > 0 && c.Off != "" && !slices.Contains(reasons, c.Off) {
			reasons = append(reasons, c.Off)
		}
	}
	return reasons
}

// TooLarge names the cell with the largest adapters, of those that are to train, if
// they do not fit in memory, which is in bytes; "" if all fit. It counts the values
// of parameters, derived ones too, and the gradients of those that train; a step
// takes more.
func (p *Plan) TooLarge(memory uint64) string {
	var name, tensor string // the largest
	var most, of float64
	var tensors, cells int
	for a, all := range p.training() {
		var bytes, largest float64
		var count int
		var at string
		for i := range all {
			t := &all[i]
			if t.Part != params.Adapter {
				continue
			}
			n := 4 * float64(t.Elements())
			if t.Trains {
				n *= 2
			}
			count++
			if bytes += n; n > largest {
				largest, at = n, t.Name
			}
		}
		if bytes <= float64(memory) {
			continue
		}
		if cells++; bytes > most {
			name, tensor, most, of, tensors = a.Run.Experiment+"/"+a.Run.Cell, at, bytes, largest, count
		}
	}
	if cells == 0 {
		return ""
	}
	more := ""
	if cells > 1 {
		more = fmt.Sprintf("; other cells with too large adapters: %d", cells-1)
	}
	return fmt.Sprintf("the adapters of %s take at least %.1f GB (%d tensors; %s alone takes %.2f GB), and the memory of this machine is %.1f GB%s: "+
		"adapt fewer layers, or choose parameters that make smaller tensors", name, most/1e9, tensors, tensor, of/1e9, float64(memory)/1e9, more)
}

func describe(run *experiment.Run) (Cell, error) {
	tensors, err := params.Of(run.Spec)
	if err != nil {
		return Cell{}, err
	}
	c := Cell{
		Experiment: run.Experiment, Cell: run.Cell,
		Groups: params.Groups(tensors), Steps: params.Steps(run.Spec),
	}
	cache, err := params.CacheOf(run.Spec, tensors, params.CacheBytes)
	if err != nil {
		return Cell{}, err
	}
	if c.Uncached = cache.Off; c.Uncached == "" {
		c.Cached = cache.Blocks
	}
	for _, part := range []string{params.Backbone, params.Adapter, params.Head} {
		c.Trainable += params.Trained(tensors, part)
	}
	return c, nil
}

// rates are what steps of trained runs took, by their shape.
type rates struct{ exact, near map[string]*rate }

type rate struct {
	steps  []float64 // seconds of one step, a number for each run
	memory uint64
}

func measure(known *store.Snapshot) *rates {
	r := &rates{map[string]*rate{}, map[string]*rate{}}
	for _, run := range known.Runs {
		s := run.Summary
		if s.GetSteps() == 0 || s.GetSeconds() <= 0 {
			continue
		}
		trained, err := run.Spec()
		if err != nil {
			continue // damaged: others tell
		}
		exact, near := shape(trained)
		r.exact[exact] = r.exact[exact].with(s)
		r.near[near] = r.near[near].with(s)
	}
	return r
}

func (r *rate) with(s *spec.Summary) *rate {
	if r == nil {
		r = &rate{}
	}
	r.steps = append(r.steps, s.GetSeconds()/float64(s.GetSteps()))
	r.memory = max(r.memory, s.GetPeakMemory())
	return r
}

// estimate is what so many steps in so many runs of a shape take. The error is
// that of the mean over all steps, and that of every run around it.
func (r *rates) estimate(s *spec.RunSpec, steps uint64, runs int) Cost {
	exact, near := shape(s)
	of, alike := r.exact[exact], true
	if of == nil {
		if of, alike = r.near[near], false; of == nil {
			return Cost{}
		}
	}
	n := float64(len(of.steps))
	var mean, square float64
	for _, s := range of.steps {
		mean += s / n
	}
	for _, s := range of.steps {
		square += (s - mean) * (s - mean)
	}
	c := Cost{From: len(of.steps), Alike: alike, Seconds: mean * float64(steps), Memory: of.memory}
	if n > 1 {
		c.SD = math.Sqrt(square/(n-1)) * float64(steps) * math.Sqrt(1/n+1/float64(runs))
	}
	return c
}

// shape is what the work of a step depends on: not the seed, the rates or which
// images there are. Near, the adapters count only by where they sit.
func shape(s *spec.RunSpec) (exact, near string) {
	s = proto.CloneOf(s)
	s.Seed, s.Folds, s.Optim = 0, nil, nil
	if b := s.GetBackbone(); b != nil {
		b.Digest = ""
	}
	if d := s.GetData(); d != nil {
		d.Values, d.Mean, d.Std, d.Splits = nil, nil, nil, nil
		if d.Views != nil {
			d.Views.Seed = 0
		}
		for i := range d.Classes {
			d.Classes[i] = ""
		}
	}
	for _, l := range s.GetLoss() {
		l.Weight = 1
	}
	if t := s.GetTrain(); t != nil {
		t.Epochs, t.Steps, t.MaxSteps, t.Monitor = 0, 0, 0, ""
	}
	if s.GetAdapter() != nil {
		s.Adapter.Start = ""
	}
	exact = spec.Identity(s)
	if s.GetAdapter() != nil {
		s.Adapter.Programs = nil
		for _, p := range s.Adapter.Placements {
			p.Program = 0
		}
	}
	return exact, spec.Identity(s)
}

// Total adds up costs of cells that are trained one after another. It is known
// only if all are, and taken from as few runs as any of them.
func Total(cells []Cell) (c Cost, steps uint64, runs int) {
	known := true
	c.Alike, c.From = true, math.MaxInt
	var square float64
	for _, cell := range cells {
		steps += cell.Left
		if runs += cell.Runs; cell.Runs == 0 {
			continue
		}
		known = known && cell.Cost.From > 0
		c.From = min(c.From, cell.Cost.From)
		c.Alike = c.Alike && cell.Cost.Alike
		c.Seconds += cell.Cost.Seconds
		square += cell.Cost.SD * cell.Cost.SD
		c.Memory = max(c.Memory, cell.Cost.Memory)
	}
	if !known || runs == 0 {
		return Cost{}, steps, runs
	}
	c.SD = math.Sqrt(square)
	return c, steps, runs
}
