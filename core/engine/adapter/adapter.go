// Package adapter turns adapter programs into layers.
//
// A program (plugins/protocol) says, for one place of the backbone, which
// parameters there are and how they and the frozen layer make the output. Load
// checks the programs of a run, makes the parameters from their initialisers,
// folds what never changes, and puts a compiled form at each site of the model:
//
//   - updates by matrix products, base(x) + Σ x Aᵀ Bᵀ, and the serial form,
//     base(x + Σ x Aᵀ Bᵀ), recognised from the graph, as one fused operation;
//     those of query, key and value share one product (lowrank.go);
//   - in bf16, any other base(x) + δ(x) with a linear δ as one product
//     (inside.go);
//   - anything else node by node (layer.go).
//
// No variant has a name here, and no plug-in is called.
package adapter

import (
	"errors"
	"fmt"
	"slices"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/spec"
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
	// Fused is how many of them take the low-rank or the serial form.
	Fused int

	dev    *torch.Device
	dtype  torch.DType
	model  *vit.Model // nil: installed nowhere
	frozen Frozen
	byName map[string]*Param
	layers []*layer // in the order of the placements
	kept   []*torch.Tensor
	train  bool
	// strength: see SetStrength.
	strength float64
}

// Frozen gives the frozen layer of a site that is not a stream: W [out, in] and
// B [out], nil without one. The tensors belong to the current scope.
type Frozen func(*protocol.Site) vit.Linear

// Load makes the adapters of a run and installs them in m. Random parameters
// draw from rng streams of seed. Call it inside dev.Do; Free gives all back.
func Load(dev *torch.Device, m *vit.Model, a *spec.Adapter, seed uint64) (*Set, error) {
	s, err := New(dev, &protocol.Model{
		Family: m.Arch.Family, Dim: m.Arch.Dim, Depth: uint32(len(m.Blocks)), Heads: m.Arch.Heads, Mlp: m.Arch.Mlp,
	}, a, torch.Float32, seed, func(site *protocol.Site) vit.Linear { return m.Pretrained(int(site.Block), site.Name) })
	if err != nil {
		return nil, err
	}
	s.model = m
	s.install()
	return s, nil
}

// New makes adapters over layers of any size, in Float32 or Float64, that are
// installed nowhere: Forward calls them. m may be nil if there is no model.
func New(dev *torch.Device, m *protocol.Model, a *spec.Adapter, dt torch.DType, seed uint64, frozen Frozen) (*Set, error) {
	s := &Set{dev: dev, dtype: dt, frozen: frozen, byName: map[string]*Param{}, strength: 1}
	if len(a.GetPlacements()) == 0 {
		return s, nil
	}
	sites := make([]*protocol.Site, len(a.Placements))
	of := make([]uint32, len(a.Placements))
	for i, p := range a.Placements {
		sites[i], of[i] = p.Site, p.Program
	}
	placed, err := program.CheckAll(a.Programs, sites, of, m)
	if err != nil {
		return nil, fmt.Errorf("checking adapter programs: %w", err)
	}
	init := newInitialiser(dev, frozen, dt, seed)
	defer init.free()
	whole := false
	defer func() {
		if !whole { // an operation may have panicked
			s.Free()
		}
	}()
	for _, typed := range placed.Sites {
		if err := s.place(typed, init); err != nil {
			return nil, fmt.Errorf("%s: %w", program.SiteName(typed.Site), err)
		}
	}
	whole = true
	return s, nil
}

// place makes the parameters of one site and compiles its program.
func (s *Set) place(t *program.Typed, init *initialiser) error {
	site := t.Site
	l := &layer{set: s, typed: t, params: map[string]*Param{}, folded: make([]*torch.Tensor, len(t.Program.Nodes))}
	for _, q := range t.Program.Params {
		name := program.ParamName(site, q)
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
		base := s.frozen(site)
		l.pretrained = vit.Linear{W: s.keep(base.W.To(s.dtype))}
		if base.B != nil {
			l.pretrained.B = s.keep(base.B.To(s.dtype))
		}
	}
	for _, x := range t.Program.Aux {
		if t.From[x.Node]&program.FromX != 0 {
			return errors.New("an auxiliary loss that depends on the input is not supported")
		}
	}
	s.layers = append(s.layers, l)
	l.compile()
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

// install puts the layers at their sites. Where every adapted one of query, key
// and value of a block has the low-rank form, they become one layer.
func (s *Set) install() {
	s.Fused = 0
	qkv := map[int][]*layer{}
	for _, l := range s.layers {
		site := l.typed.Site
		if site.Kind == protocol.Site_PATCH {
			s.model.PatchAdapter = s.between(l.forward)
			continue
		}
		s.model.Blocks[site.Block].Adapters[site.Name] = s.between(l.forward)
		if slices.Contains(qkvSites, site.Name) {
			qkv[int(site.Block)] = append(qkv[int(site.Block)], l)
		} else if l.low != nil {
			s.Fused++
		}
	}
	for block, ls := range qkv {
		for _, l := range ls {
			if l.low != nil {
				s.Fused++
			}
		}
		if group := newGroup(ls, int64(s.model.Arch.Dim)); group != nil {
			s.model.Blocks[block].Adapters[vit.SiteQKV] = s.between(group.forward)
		}
	}
}

// uninstall leaves the plain backbone.
func (s *Set) uninstall() {
	if s.model == nil {
		return
	}
	for _, b := range s.model.Blocks {
		clear(b.Adapters)
	}
	s.model.PatchAdapter = nil
}

// FirstBlock is the first adapted block, -1 if the patch embedding is adapted,
// the number of blocks if nothing is.
func (s *Set) FirstBlock() int {
	first := 0
	if s.model != nil {
		first = len(s.model.Blocks)
	}
	for _, l := range s.layers {
		if l.typed.Site.Kind == protocol.Site_PATCH {
			return -1
		}
		first = min(first, int(l.typed.Site.Block))
	}
	return first
}

// Site is the checked program of placement i.
func (s *Set) Site(i int) *program.Typed { return s.layers[i].typed }

// Forward is the adapted layer of placement i over the frozen one: x [T, in],
// [T, out].
func (s *Set) Forward(i int, x *torch.Tensor) *torch.Tensor {
	return s.between(s.layers[i].forward)(x, s.layers[i].pretrained)
}

// Form is how placement i was compiled: "low-rank", "serial", "inside", or
// "nodes" for node by node.
func (s *Set) Form(i int) string {
	switch l := s.layers[i]; {
	case l.low != nil && l.low.serial:
		return "serial"
	case l.low != nil:
		return "low-rank"
	case l.inside != nil:
		return "inside"
	}
	return "nodes"
}

// Hold fixes what the DETACH nodes of placement i pass on at what they pass on
// for x, until release is called. Autograd differentiates the output as if they
// were constants, so a finite difference that is to agree must hold them too.
func (s *Set) Hold(i int, x *torch.Tensor) (release func()) {
	l := s.layers[i]
	held := map[*protocol.Node]*torch.Tensor{}
	s.dev.Scope(func() {
		c := l.call(x, l.pretrained)
		c.node(l.typed.Program.Output) // draws dropouts in the order of a pass
		for j, n := range l.typed.Program.Nodes {
			if n.Op == protocol.Op_DETACH && l.typed.Live[j] {
				held[n] = c.node(uint32(j)).Detach().Keep()
			}
		}
	})
	l.held = held
	return func() {
		l.held = nil
		for _, t := range held {
			t.Free()
		}
	}
}

// Train switches dropout on or off.
func (s *Set) Train(on bool) { s.train = on }

// Changed has to be called when parameters that do not train were given other
// values: what was computed from them once is computed again.
func (s *Set) Changed() {
	for _, l := range s.layers {
		l.unfold()
		l.fold()
	}
}

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

// Unused lists the trainable parameters that no output and no auxiliary loss
// depends on: they train nothing and are counted all the same.
func (s *Set) Unused() []string {
	used := map[*Param]bool{}
	for _, l := range s.layers {
		for i, n := range l.typed.Program.Nodes {
			if n.Op == protocol.Op_PARAM && l.typed.Live[i] {
				used[l.params[n.Param]] = true
			}
		}
	}
	var names []string
	for _, p := range s.Params {
		if p.Trainable && !used[p] {
			names = append(names, p.Name)
		}
	}
	return names
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
	s.uninstall()
	for _, p := range s.Params {
		p.T.Free()
	}
	for _, t := range s.kept {
		t.Free()
	}
	for _, l := range s.layers {
		l.unfold()
	}
	s.Params, s.kept, s.layers = nil, nil, nil
}
