// Package adapter turns adapter programs into layers.
//
// A program (plugins/protocol) says, for one place of the backbone, which
// parameters there are and how they and the frozen layer make the output. Load
// checks the programs of a run, makes the parameters from their initialisers,
// folds what never changes, and puts a compiled form at each site of the model:
//
//   - the low-rank form base(x) + s·x Aᵀ Bᵀ, recognised from the graph, as one
//     fused operation; those of query, key and value share one product;
//   - anything else node by node.
//
// No variant has a name here, and no plug-in is called.
package adapter

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/torch"
	"github.com/loralab/loralab/core/vit"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
)

// Param is one parameter of the adapters.
type Param struct {
	Name      string // "blocks.6.query.lora_A", "blocks.6.A" shared in a block, "A" in the model
	T         *torch.Tensor
	Trainable bool
	// Derived ones come again from their initialiser and need not be stored.
	Derived bool
	// Multiples of the adapter's learning rate and of the weight decay.
	LRMult, DecayMult float64
}

// Set is all adapters of a model.
type Set struct {
	Params []*Param
	// Sites is the number of adapted places.
	Sites int
	// Fused is how many of them take the low-rank form.
	Fused int

	dev    *torch.Device
	model  *vit.Model
	first  int
	byName map[string]*Param
	layers []*layer
	kept   []*torch.Tensor
	train  bool
}

// Load makes the adapters of a run and installs them in m. Random parameters
// draw from rng streams of seed. Call it inside dev.Do; Free gives all back.
func Load(dev *torch.Device, m *vit.Model, a *spec.Adapter, seed uint64) (*Set, error) {
	s := &Set{dev: dev, model: m, byName: map[string]*Param{}, first: len(m.Blocks)}
	if len(a.GetPlacements()) == 0 {
		return s, nil
	}
	sites := make([]*protocol.Site, len(a.Placements))
	of := make([]uint32, len(a.Placements))
	for i, p := range a.Placements {
		sites[i], of[i] = p.Site, p.Program
	}
	placed, err := program.CheckAll(a.Programs, sites, of, &protocol.Model{
		Family: m.Arch.Family, Dim: m.Arch.Dim, Depth: uint32(len(m.Blocks)), Heads: m.Arch.Heads, Mlp: m.Arch.Mlp,
	})
	if err != nil {
		return nil, fmt.Errorf("checking adapter programs: %w", err)
	}
	init := newInitialiser(dev, m, seed)
	defer init.free()
	for _, typed := range placed.Sites {
		if err := s.place(typed, init); err != nil {
			s.Free()
			return nil, fmt.Errorf("%s: %w", program.SiteName(typed.Site), err)
		}
	}
	s.install()
	return s, nil
}

// place makes the parameters of one site and compiles its program.
func (s *Set) place(t *program.Typed, init *initialiser) error {
	site := t.Site
	switch {
	case int(site.Block) >= len(s.model.Blocks):
		return fmt.Errorf("the backbone has %d blocks in use", len(s.model.Blocks))
	case site.Kind == protocol.Site_PATCH:
		s.first = -1
	default:
		s.first = min(s.first, int(site.Block))
	}
	l := &layer{set: s, typed: t, params: map[string]*Param{}, folded: make([]*torch.Tensor, len(t.Program.Nodes))}
	for _, q := range t.Program.Params {
		name := paramName(site, q)
		p, ok := s.byName[name]
		if !ok {
			value, err := init.value(site, q)
			if err != nil {
				return fmt.Errorf("parameter %s: %w", q.Name, err)
			}
			p = &Param{
				Name: name, T: value.Keep(), Trainable: q.Trainable, Derived: q.Derived,
				LRMult: orOne(q.LrMult), DecayMult: orOne(q.DecayMult),
			}
			if p.Trainable {
				p.T.RequireGrad(true)
			}
			s.byName[name] = p
			s.Params = append(s.Params, p)
		}
		l.params[q.Name] = p
	}
	if site.Kind != protocol.Site_STREAM {
		// Views of the mapped file: they cost no memory until they are read.
		base := s.model.Pretrained(int(site.Block), site.Name)
		l.pretrained = vit.Linear{W: s.keep(base.W)}
		if base.B != nil {
			l.pretrained.B = s.keep(base.B)
		}
	}
	for _, x := range t.Program.Aux {
		if t.From[x.Node]&program.FromX != 0 {
			return errors.New("an auxiliary loss that depends on the input is not supported")
		}
	}
	l.fold()
	l.low = matchLowRank(l)
	s.layers = append(s.layers, l)
	s.Sites++
	return nil
}

func orOne(v *float64) float64 {
	if v == nil {
		return 1
	}
	return *v
}

func (s *Set) keep(t *torch.Tensor) *torch.Tensor {
	s.kept = append(s.kept, t)
	return t.Keep()
}

// paramName is the parameter's name in the model, by its scope.
func paramName(site *protocol.Site, q *protocol.Param) string {
	block := "blocks." + strconv.Itoa(int(site.Block)) + "."
	switch {
	case q.Scope == protocol.Param_MODEL:
		return q.Name
	case site.Kind == protocol.Site_PATCH:
		return site.Name + "." + q.Name
	case q.Scope == protocol.Param_BLOCK:
		return block + q.Name
	default:
		return block + site.Name + "." + q.Name
	}
}

// install puts the layers at their sites. Where every adapted one of query, key
// and value of a block has the low-rank form, they become one layer.
func (s *Set) install() {
	qkv := map[int][]*layer{}
	for _, l := range s.layers {
		site := l.typed.Site
		if site.Kind == protocol.Site_PATCH {
			s.model.PatchAdapter = l.forward
			continue
		}
		s.model.Blocks[site.Block].Adapters[site.Name] = l.forward
		if slices.Contains(qkvSites, site.Name) {
			qkv[int(site.Block)] = append(qkv[int(site.Block)], l)
		} else if l.low != nil {
			s.Fused++
		}
	}
	for block, ls := range qkv {
		if slices.ContainsFunc(ls, func(l *layer) bool { return l.low == nil }) {
			continue
		}
		s.Fused += len(ls)
		group := newGroup(ls, int64(s.model.Arch.Dim))
		s.model.Blocks[block].Adapters[vit.SiteQKV] = group.forward
	}
}

// FirstBlock is the first adapted block, -1 if the patch embedding is adapted,
// the number of blocks if nothing is.
func (s *Set) FirstBlock() int { return s.first }

// Train switches dropout on or off.
func (s *Set) Train(on bool) { s.train = on }

// Trainable is the number of trainable elements.
func (s *Set) Trainable() int64 {
	var n int64
	for _, p := range s.Params {
		if p.Trainable {
			n += p.T.Numel()
		}
	}
	return n
}

// Aux is the weighted sum of the programs' auxiliary losses, nil if there are
// none.
func (s *Set) Aux() *torch.Tensor {
	var total *torch.Tensor
	for _, l := range s.layers {
		if len(l.typed.Program.Aux) == 0 {
			continue
		}
		a := l.aux()
		if total != nil {
			a = total.Add(a)
		}
		total = a
	}
	return total
}

// Free takes the adapters out of the model and gives their tensors back.
func (s *Set) Free() {
	for _, b := range s.model.Blocks {
		clear(b.Adapters)
	}
	s.model.PatchAdapter = nil
	for _, p := range s.Params {
		p.T.Free()
	}
	for _, t := range s.kept {
		t.Free()
	}
	s.Params, s.kept, s.layers = nil, nil, nil
}
