// Package params lists the tensors of a run before anything runs: which
// there are, how large, which train and at which rate.
//
// The engine makes them (core/engine/vit, core/engine/adapter, core/engine/head) and gives them to
// its optimiser (core/engine/train); this package says the same from the
// specification alone, in pure Go, so that a plan can show it on a machine
// without libtorch. A test in core/engine/train holds the two together.
package params

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	headdesign "github.com/loralab/loralab/core/head/design"
	"github.com/loralab/loralab/core/spec"
	vitdesign "github.com/loralab/loralab/core/vit/design"
	"github.com/loralab/loralab/plugins/protocol"
)

// The parts of a model, each with a learning rate of its own.
const (
	Backbone = "backbone"
	Adapter  = "adapter"
	Head     = "head"
)

// Tensor is one tensor of a run by its name in a checkpoint.
type Tensor struct {
	Name  string // "adapter.blocks.6.query.lora_A"
	Part  string
	Shape []int64
	// Trains is false for what takes no gradient; LR and Decay are then 0.
	Trains bool
	LR     float64 // highest of the schedule
	Decay  float64 // per step times the rate
	// Until is the epoch, counted from 0, that it trains from.
	Until uint32
	// param is the adapter's parameter, which may ask for multiples of its rate
	// and decay; nil elsewhere.
	param *protocol.Param
	// Names of one group differ in block and site alone.
	block int    // -1: in none
	at    int    // of the backbone: the block, -1 before them, their number behind them
	site  string // "": in none
	rest  string // the name without part, block and site
	token bool   // learned tokens of a head
}

// Elements is the number of weights.
func (t *Tensor) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Of lists the tensors of a run: backbone in use, adapters, head. Query, key
// and value of the backbone are one tensor, as they are in the engine.
func Of(s *spec.RunSpec) ([]Tensor, error) {
	out, err := backbone(s)
	if err != nil {
		return nil, err
	}
	adapters, err := adapter(s)
	if err != nil {
		return nil, err
	}
	heads, err := head(s)
	if err != nil {
		return nil, err
	}
	out = slices.Concat(out, adapters, heads)
	if err := settle(out, s.GetOptim()); err != nil {
		return nil, err
	}
	if !s.GetOptim().GetDecayVectors() {
		for i := range out {
			if out[i].vector() {
				out[i].Decay = 0
			}
		}
	}
	return out, nil
}

// vector reports whether a tensor is a bias, a norm, a scale or a token. Decay
// is not meant for these. A matrix of rank 1 of an adapter is a matrix.
func (t *Tensor) vector() bool {
	long := 0
	for _, n := range t.Shape {
		if n > 1 {
			long++
		}
	}
	return len(t.Shape) <= 1 || t.Part == Backbone && long <= 1 || t.token
}

func backbone(s *spec.RunSpec) ([]Tensor, error) {
	a := s.GetBackbone().GetArch()
	depth := int(s.GetBackbone().GetDepth())
	if depth == 0 {
		depth = int(a.GetDepth())
	}
	list, err := vitdesign.Tensors(a, depth)
	if err != nil {
		return nil, fmt.Errorf("listing the tensors of the backbone: %w", err)
	}
	var out []Tensor
	for i := range list {
		x := &list[i]
		t := Tensor{
			Name: "backbone." + x.Name, Part: Backbone, Shape: x.Shape, Trains: x.Trains(s.GetBackbone().GetFreeze(), depth),
			block: x.Block, at: x.Block, rest: x.Rest,
		}
		if x.Block == depth {
			t.block = -1
			t.Trains = t.Trains && !s.GetBackbone().GetWithoutNorm() // nothing depends on it
		}
		if t.Trains {
			t.LR, t.Decay = s.GetOptim().GetLrBackbone(), s.GetOptim().GetWeightDecay()
		}
		out = append(out, t)
	}
	return out, nil
}

func adapter(s *spec.RunSpec) ([]Tensor, error) {
	var out []Tensor
	seen := map[string]bool{}
	programs := s.GetAdapter().GetPrograms()
	for _, p := range s.GetAdapter().GetPlacements() {
		if int(p.GetProgram()) >= len(programs) {
			return nil, fmt.Errorf("listing the tensors of the adapters: there is no program %d", p.GetProgram())
		}
		site := p.GetSite()
		for _, q := range programs[p.GetProgram()].GetParams() {
			t := Tensor{Part: Adapter, Shape: q.GetShape(), Trains: q.GetTrainable(), param: q, block: -1, rest: q.GetName()}
			// As core/engine/adapter names them, by their scope.
			var at []string
			if q.GetScope() != protocol.Param_MODEL {
				if site.GetKind() != protocol.Site_PATCH {
					t.block = int(site.GetBlock())
					at = append(at, "blocks", strconv.Itoa(t.block))
				}
				if q.GetScope() != protocol.Param_BLOCK || site.GetKind() == protocol.Site_PATCH {
					t.site = site.GetName()
					at = append(at, t.site)
				}
			}
			t.Name = "adapter." + strings.Join(append(at, q.GetName()), ".")
			if seen[t.Name] {
				continue
			}
			seen[t.Name] = true
			if t.Trains {
				t.LR = s.GetOptim().GetLrAdapter() * t.lrMult()
				t.Decay = s.GetOptim().GetWeightDecay() * t.decayMult()
			}
			out = append(out, t)
		}
	}
	return out, nil
}

func (t *Tensor) lrMult() float64 {
	if t.param == nil || t.param.LrMult == nil {
		return 1
	}
	return *t.param.LrMult
}

func (t *Tensor) decayMult() float64 {
	if t.param == nil || t.param.DecayMult == nil {
		return 1
	}
	return *t.param.DecayMult
}

func head(s *spec.RunSpec) ([]Tensor, error) {
	h := s.GetHead()
	for i, block := range h.GetTaps() {
		if block >= s.GetBackbone().GetDepth() || i > 0 && block <= h.Taps[i-1] {
			return nil, fmt.Errorf("listing the tensors of the head: taps %v are not ascending blocks of %d", h.Taps, s.GetBackbone().GetDepth())
		}
	}
	list, err := headdesign.Of(h, int(s.GetBackbone().GetArch().GetDim()), len(s.GetData().GetClasses()))
	if err != nil {
		return nil, fmt.Errorf("listing the tensors of the head: %w", err)
	}
	var out []Tensor
	for _, t := range list {
		if t.Buffer {
			continue
		}
		out = append(out, Tensor{
			Name: "head." + t.Name, Part: Head, Shape: t.Shape, Trains: true, block: -1, rest: t.Name, token: t.Token,
			LR: s.GetOptim().GetLrHead(), Decay: s.GetOptim().GetWeightDecay(),
		})
	}
	return out, nil
}

// Backbones says of each tensor of a run's backbone, by its name in the model
// ("encoder.layer.3.layernorm_before.weight"), whether it trains.
func Backbones(tensors []Tensor) func(name string) bool {
	trains := map[string]bool{}
	for i := range tensors {
		if t := &tensors[i]; t.Part == Backbone {
			trains[strings.TrimPrefix(t.Name, "backbone.")] = t.Trains
		}
	}
	return func(name string) bool { return trains[name] }
}

// Trained is the number of weights of a part that train.
func Trained(tensors []Tensor, part string) int64 {
	var n int64
	for i := range tensors {
		if t := &tensors[i]; t.Part == part && t.Trains {
			n += t.Elements()
		}
	}
	return n
}

// Steps is how many updates a run makes at most: those of its budget, or full
// passes over the training images, the last batch of each being what is left; up to
// a limit.
func Steps(s *spec.RunSpec) uint64 {
	steps := uint64(s.GetTrain().GetSteps())
	if steps == 0 {
		steps = PerEpoch(s) * uint64(s.GetTrain().GetEpochs())
	}
	if most := uint64(s.GetTrain().GetMaxSteps()); most > 0 {
		steps = min(steps, most)
	}
	return steps
}

// PerEpoch is how many updates one pass over the training images takes.
func PerEpoch(s *spec.RunSpec) uint64 {
	batch := uint64(max(1, s.GetTrain().GetBatch())) * uint64(max(1, s.GetTrain().GetAccumulate()))
	return (uint64(s.GetData().GetSplits()["train"].GetCount()) + batch - 1) / batch
}
