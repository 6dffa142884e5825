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

	"github.com/loralab/loralab/core/head/design"
	"github.com/loralab/loralab/core/spec"
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

// layers of a family's block by their Hugging Face names: each has weight and
// bias, but for the scales, which are vectors.
type layers struct {
	fc1, fc2, norm1, norm2 string
	scales                 []string
}

var families = map[string]layers{
	"vit":    {fc1: "intermediate.dense", fc2: "output.dense", norm1: "layernorm_before", norm2: "layernorm_after"},
	"deit":   {fc1: "intermediate.dense", fc2: "output.dense", norm1: "layernorm_before", norm2: "layernorm_after"},
	"dinov2": {fc1: "mlp.fc1", fc2: "mlp.fc2", norm1: "norm1", norm2: "norm2", scales: []string{"layer_scale1.lambda1", "layer_scale2.lambda1"}},
}

func backbone(s *spec.RunSpec) ([]Tensor, error) {
	a := s.GetBackbone().GetArch()
	family, ok := families[a.GetFamily()]
	if !ok {
		return nil, fmt.Errorf("listing the tensors of the backbone: unknown family %q", a.GetFamily())
	}
	depth := int(s.GetBackbone().GetDepth())
	if depth == 0 {
		depth = int(a.GetDepth())
	}
	freeze := s.GetBackbone().GetFreeze()
	all := freeze.GetKind() == spec.Freeze_NONE
	trains := func(block int) bool {
		return all || freeze.GetKind() == spec.Freeze_BLOCKS && slices.Contains(freeze.GetTrainable(), uint32(block))
	}
	var out []Tensor
	add := func(block int, trains bool, rest string, shape ...int64) {
		name := rest
		if block >= 0 {
			name = fmt.Sprintf("encoder.layer.%d.%s", block, rest)
		}
		t := Tensor{Name: "backbone." + name, Part: Backbone, Shape: shape, Trains: trains, block: block, rest: rest}
		if trains {
			t.LR, t.Decay = s.GetOptim().GetLrBackbone(), s.GetOptim().GetWeightDecay()
		}
		out = append(out, t)
	}
	d, mlp, p := int64(a.GetDim()), int64(a.GetMlp()), int64(a.GetPatch())
	add(-1, all, "embeddings.cls_token", 1, 1, d)
	if a.Distilled() {
		add(-1, all, "embeddings.distillation_token", 1, 1, d)
	}
	add(-1, all, "embeddings.position_embeddings", 1, a.Placed()+int64(a.GetGridH())*int64(a.GetGridW()), d)
	if r := int64(a.GetRegisters()); r > 0 {
		add(-1, all, "embeddings.register_tokens", 1, r, d)
	}
	add(-1, all, "embeddings.patch_embeddings.projection.weight", d, 3*p*p)
	add(-1, all, "embeddings.patch_embeddings.projection.bias", d)
	for b := range depth {
		linear := func(name string, out, in int64, bias bool) {
			add(b, trains(b), name+".weight", out, in)
			if bias {
				add(b, trains(b), name+".bias", out)
			}
		}
		linear("attention.attention.qkv", 3*d, d, a.GetQkvBias())
		linear("attention.output.dense", d, d, true)
		linear(family.fc1, mlp, d, true)
		linear(family.fc2, d, mlp, true)
		for _, norm := range []string{family.norm1, family.norm2} {
			add(b, trains(b), norm+".weight", d)
			add(b, trains(b), norm+".bias", d)
		}
		for _, scale := range family.scales {
			add(b, trains(b), scale, d)
		}
	}
	add(-1, trains(depth-1), "layernorm.weight", d)
	add(-1, trains(depth-1), "layernorm.bias", d)
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
	list, err := design.Of(h, int(s.GetBackbone().GetArch().GetDim()), len(s.GetData().GetClasses()))
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

// Steps is how many updates a run makes at most: full passes over the training
// images, the last batch of each being what is left, up to a limit.
func Steps(s *spec.RunSpec) uint64 {
	batch := uint64(max(1, s.GetTrain().GetBatch())) * uint64(max(1, s.GetTrain().GetAccumulate()))
	perEpoch := (uint64(s.GetData().GetSplits()["train"].GetCount()) + batch - 1) / batch
	steps := perEpoch * uint64(s.GetTrain().GetEpochs())
	if most := uint64(s.GetTrain().GetMaxSteps()); most > 0 {
		steps = min(steps, most)
	}
	return steps
}
