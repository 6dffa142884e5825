package adapter

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/vit/design"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
)

const (
	// probeRows is how many inputs go through a layer at once: a program may
	// keep dozens of intermediate values for each.
	probeRows = 256
	// checkRows is how many random inputs a merged layer is checked on.
	checkRows = 64
)

// Merged is a linear layer with its adapter, and that of the stream before it,
// folded in: y = x Wᵀ + B.
type Merged struct {
	Site *protocol.Site // of a linear layer or the patch embedding
	// W [out, in] and B [out], fp32, kept: whoever merged frees them. B is nil
	// if the layer has no bias and needs none; Site.Bias says whether it had one.
	W, B *torch.Tensor
	// Difference of adapted and merged outputs on random inputs, in fp64 but for
	// W and B: the largest |a − b| over the largest |b|.
	Difference float64
}

// behind lists the linear layers that read a stream.
var behind = map[string][]string{design.SiteAttnIn: qkvSites, design.SiteMLPIn: {design.SiteFC1}}

// Affine is the adapted layer of placement i as y = x wᵀ + b, found by asking
// it: b = F(0), w = (F(I) − b)ᵀ; w [out, in] and b [out] in the set's type. It
// means something only where the program is affine in x (Site(i).Mergeable).
func (s *Set) Affine(i int) (w, b *torch.Tensor) {
	train := s.train
	s.train = false
	defer func() { s.train = train }()
	return s.affine(int64(s.layers[i].typed.Site.In), func(x *torch.Tensor) *torch.Tensor { return s.Forward(i, x) })
}

func (s *Set) affine(in int64, f func(*torch.Tensor) *torch.Tensor) (w, b *torch.Tensor) {
	wb := s.dev.YieldAll(func() []*torch.Tensor {
		var rows []*torch.Tensor
		var zero *torch.Tensor
		s.dev.NoGrad(func() {
			zero = f(s.dev.Zeros(s.dtype, 1, in))
			eye := s.dev.Eye(s.dtype, in)
			for at := int64(0); at < in; at += probeRows {
				rows = append(rows, f(eye.Narrow(0, at, min(probeRows, in-at))).Sub(zero))
			}
		})
		return []*torch.Tensor{torch.Cat(0, rows...).T().Contiguous(), zero.Reshape(-1).Clone()}
	})
	return wb[0], wb[1]
}

// Merge folds every adapter into its linear layer, computing in fp64, and those
// of streams into the layers that read them. It needs no code of a variant:
// whether a program is affine in x is seen from its graph. If one is not, or a
// merged layer differs by more than tolerance, nothing is merged and the error
// lists all such places. The set stays as it is; free the results.
func (s *Set) Merge(tolerance float64) (merged []Merged, err error) {
	whole := false
	defer func() {
		if !whole {
			FreeMerged(merged)
			merged = nil
		}
	}()
	faults := map[string][]string{} // reason -> places
	fault := func(site *protocol.Site, reason string) {
		faults[reason] = append(faults[reason], program.SiteName(site))
	}
	streams := map[string]*layer{}
	var linear []*protocol.Site
	at := map[string]*layer{}
	for _, l := range s.layers {
		site := l.typed.Site
		if !l.typed.Mergeable() {
			fault(site, "not affine in x: "+l.typed.Bend())
		}
		if site.Kind == protocol.Site_STREAM {
			streams[program.SiteName(site)] = l
			continue
		}
		at[program.SiteName(site)] = l
		linear = append(linear, site)
	}
	if len(faults) > 0 {
		return nil, mergeError(faults)
	}
	// Layers that are merged only because of the stream that they read.
	before := map[string]*layer{}
	for _, l := range s.layers {
		for _, name := range behind[l.typed.Site.Name] {
			site := &protocol.Site{Name: name, Block: l.typed.Site.Block, Kind: protocol.Site_LINEAR, In: l.typed.Site.In}
			if at[program.SiteName(site)] == nil {
				s.dev.Scope(func() {
					w := s.current(site)
					site.Out, site.Bias = uint32(w.W.Dim(0)), w.B != nil
				})
				linear = append(linear, site)
			}
			before[program.SiteName(site)] = l
		}
	}
	for _, site := range linear {
		name := program.SiteName(site)
		s.dev.Scope(func() { merged = append(merged, s.mergeOne(site, before[name], at[name])) })
		if m := merged[len(merged)-1]; !(m.Difference <= tolerance) {
			fault(site, fmt.Sprintf("the merged layer differs by %.2g, more than %.2g", m.Difference, tolerance))
		}
	}
	if len(faults) > 0 {
		return merged, mergeError(faults)
	}
	whole = true
	return merged, nil
}

func mergeError(faults map[string][]string) error {
	var lines []string
	for reason, sites := range faults {
		text := strings.Join(sites[:min(len(sites), 4)], ", ")
		if n := len(sites) - 4; n > 0 {
			text += fmt.Sprintf(" and %d more", n)
		}
		lines = append(lines, "  "+text+": "+reason)
	}
	slices.Sort(lines)
	return errors.New("the adapters cannot be merged:\n" + strings.Join(lines, "\n"))
}

// FreeMerged gives the tensors of merged layers back.
func FreeMerged(ms []Merged) {
	for _, m := range ms {
		m.W.Free()
		m.B.Free()
	}
}

// mergeOne folds a linear layer's adapter (nil: none) and that of the stream
// before it (nil: none).
func (s *Set) mergeOne(site *protocol.Site, stream, l *layer) Merged {
	d := &Set{dev: s.dev, dtype: torch.Float64, model: nil, strength: 1}
	defer d.Free()
	stages := []func(x *torch.Tensor) *torch.Tensor{}
	base := s.current(site)
	base = vit.Linear{W: base.W.To(d.dtype), B: double(base.B)}
	for _, from := range []*layer{stream, l} {
		if from == nil {
			continue
		}
		stage := from.in(d, base)
		defer stage.unfold()
		stages = append(stages, func(x *torch.Tensor) *torch.Tensor { return stage.forward(x, stage.pretrained) })
	}
	if l == nil {
		stages = append(stages, base.Forward)
	}
	f := func(x *torch.Tensor) *torch.Tensor {
		for _, stage := range stages {
			x = stage(x)
		}
		return x
	}
	m := Merged{Site: site}
	w, b := d.affine(int64(site.In), f)
	m.W = w.To(torch.Float32).Keep()
	if zero := b.Norm(false, 0).Item() == 0; site.Bias || !zero {
		m.B = b.To(torch.Float32).Keep()
	}
	d.dev.NoGrad(func() {
		v := make([]float32, checkRows*int(site.In))
		rng.New(0, "merge", program.SiteName(site)).Normal(v, 1)
		x := torch.Of(d.dev, v, checkRows, int64(site.In)).To(d.dtype)
		want := f(x)
		diff := torch.Linear(x, m.W.To(d.dtype), double(m.B)).Sub(want)
		m.Difference = largest(diff)
		if size := largest(want); size > 0 {
			m.Difference /= size
		}
	})
	return m
}

func double(t *torch.Tensor) *torch.Tensor {
	if t == nil {
		return nil
	}
	return t.To(torch.Float64)
}

// largest is max |t|, NaN if there is one.
func largest(t *torch.Tensor) float64 {
	m := 0.0
	for _, v := range t.Doubles() {
		if v = math.Abs(v); !(v <= m) {
			m = v
		}
	}
	return m
}

// current is the layer of a site as it is now, in fp32: the pretrained one
// unless the backbone trains.
func (s *Set) current(site *protocol.Site) vit.Linear {
	if s.model != nil {
		return s.model.Current(int(site.Block), site.Name)
	}
	return s.frozen(site)
}

// in is layer l over another base, in the type of set d, with the values that
// its parameters have now.
func (l *layer) in(d *Set, base vit.Linear) *layer {
	e := &layer{set: d, typed: l.typed, params: map[string]*Param{}, folded: tensors(len(l.folded))}
	if l.typed.Site.Kind != protocol.Site_STREAM {
		e.pretrained = base
	}
	for name, p := range l.params {
		q := *p
		q.T = d.keep(p.T.Detach())
		if q.T.DType() != torch.Int64 {
			q.T = d.keep(q.T.To(d.dtype))
		}
		e.params[name] = &q
	}
	e.compile()
	return e
}

// UseMerged puts merged layers in place of the adapters, computing as the plain
// backbone does, until restore is called.
func (s *Set) UseMerged(ms []Merged) (restore func()) {
	var kept []*torch.Tensor
	use := func(l vit.Linear, dt torch.DType) vit.Adapter {
		l.W = l.W.To(dt).Keep()
		kept = append(kept, l.W)
		if l.B != nil {
			l.B = l.B.To(dt).Keep()
			kept = append(kept, l.B)
		}
		return func(x *torch.Tensor, _ vit.Linear) *torch.Tensor { return l.Forward(x) }
	}
	s.uninstall()
	s.dev.Scope(func() {
		qkv := map[uint32]map[string]vit.Linear{}
		for _, m := range ms {
			l := vit.Linear{W: m.W, B: m.B}
			switch {
			case m.Site.Kind == protocol.Site_PATCH:
				s.model.PatchAdapter = use(l, torch.Float32)
			case !slices.Contains(qkvSites, m.Site.Name):
				s.model.Blocks[m.Site.Block].Adapters[m.Site.Name] = use(l, s.model.Precision())
			case qkv[m.Site.Block] == nil:
				qkv[m.Site.Block] = map[string]vit.Linear{m.Site.Name: l}
			default:
				qkv[m.Site.Block][m.Site.Name] = l
			}
		}
		// Query, key and value are one product, as without adapters.
		for block, of := range qkv {
			var w, b []*torch.Tensor
			bias := false
			for _, name := range qkvSites {
				l, ok := of[name]
				if !ok {
					l = s.model.Current(int(block), name)
				}
				bias = bias || l.B != nil
				w, b = append(w, l.W), append(b, l.B)
			}
			all := vit.Linear{W: torch.Cat(0, w...)}
			if bias {
				for i := range b {
					if b[i] == nil {
						b[i] = s.dev.Zeros(torch.Float32, w[i].Dim(0))
					}
				}
				all.B = torch.Cat(0, b...)
			}
			s.model.Blocks[block].Adapters[vit.SiteQKV] = use(all, s.model.Precision())
		}
	})
	return func() {
		for _, t := range kept {
			t.Free()
		}
		s.uninstall()
		s.install()
	}
}
