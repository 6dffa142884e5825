// Package programtest tries adapter programs: what `runner plugins test` asks of
// the engine.
//
// Each program is put on a frozen layer with random W and b, of any size, and
// runs through the same code as in training (core/engine/adapter), but in fp64, so
// that a finite difference and a merged weight can be told from rounding:
//
//	start    F(x) against the frozen layer
//	begin    three steps of training: all values are finite, also for unusual x,
//	         and every trainable parameter leaves its start (begin.go)
//	move     the trainable parameters take a random step, because at the start
//	         many factors are zero and would hide what is wrong behind them
//	gradient autograd against central differences, in training mode
//	merge    F(x) against x W'ᵀ + b'
//
// That values start the same, and come back from a file the same, is a matter
// of bits; it is tried in fp32, as in training. Sites are tried one by one: what
// goes wrong at one of them says nothing about the others.
package programtest

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"github.com/loralab/loralab/core/engine/adapter"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/tempdir"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
)

// tokens that go through a layer at once.
const tokens = 6

// Try tries every placement of a request and answers in their order. It fails
// only if ctx ends; what is wrong with a program is said where it is placed.
func Try(ctx context.Context, dev *torch.Device, req *spec.ConformRequest) (*spec.ConformReply, error) {
	t := &trial{dev: dev, req: req, layers: map[string]layer{}}
	reply := &spec.ConformReply{}
	for i := range req.GetAdapter().GetPlacements() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c := &spec.Conformance{}
		if err := t.site(i, c); err != nil {
			c.Failure = err.Error()
		}
		reply.Sites = append(reply.Sites, c)
	}
	t.together(reply.Sites)
	return reply, nil
}

type trial struct {
	dev    *torch.Device
	req    *spec.ConformRequest
	layers map[string]layer // by site
}

// layer is the frozen layer of a site.
type layer struct{ w, b []float32 }

// frozen makes the layer of a site, the same at every call.
func (t *trial) frozen(s *protocol.Site) vit.Linear {
	key := program.SiteName(s)
	l, ok := t.layers[key]
	if !ok {
		l = layer{w: make([]float32, int(s.In)*int(s.Out)), b: make([]float32, s.Out)}
		rng.New(t.req.Seed, "conform", key, "W").Normal(l.w, 1/math.Sqrt(float64(s.In)))
		rng.New(t.req.Seed, "conform", key, "b").Normal(l.b, 0.5)
		t.layers[key] = l
	}
	out := vit.Linear{W: torch.Of(t.dev, l.w, int64(s.Out), int64(s.In))}
	if s.Bias {
		out.B = torch.Of(t.dev, l.b, int64(s.Out))
	}
	return out
}

// with makes the adapters at some of the placements.
func (t *trial) with(dt torch.DType, seed uint64, at ...int) (*adapter.Set, error) {
	a := &spec.Adapter{Programs: t.req.Adapter.Programs}
	for _, i := range at {
		a.Placements = append(a.Placements, t.req.Adapter.Placements[i])
	}
	return adapter.New(t.dev, t.req.Model, a, dt, seed, t.frozen)
}

// random is a tensor of draws from N(0, std²).
func (t *trial) random(dt torch.DType, std float64, what string, shape ...int64) *torch.Tensor {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	v := make([]float32, n)
	rng.New(t.req.Seed, "conform", what).Normal(v, std)
	return torch.Of(t.dev, v, shape...).To(dt)
}

// finite passes values on, and notes in c the first that is not a number or has
// no bound.
func finite(c *spec.Conformance, what string, v []float64) []float64 {
	for _, x := range v {
		if !math.IsNaN(x) && !math.IsInf(x, 0) {
			continue
		}
		if c.Finite = false; c.NotFinite == "" {
			c.NotFinite = what
		}
		break
	}
	return v
}

// site tries one placement by itself.
func (t *trial) site(i int, c *spec.Conformance) error {
	if err := t.dev.Do(func() error { return t.exact(i, c) }); err != nil {
		return err
	}
	if err := t.dev.Do(func() error { return t.begin(i, c) }); err != nil {
		return err
	}
	return t.dev.Do(func() error { return t.bits(i, c) })
}

// exact is what is tried in fp64.
func (t *trial) exact(i int, c *spec.Conformance) error {
	state := t.dev.GeneratorState() // a run may be in the middle of its dropouts
	defer func() { t.dev.SetGeneratorState(state) }()
	set, err := t.with(torch.Float64, t.req.Seed, i)
	if err != nil {
		return err
	}
	defer set.Free()
	typed := set.Site(0)
	c.Trainable, c.Mergeable, c.Form = uint64(typed.TrainableCount), typed.Mergeable(), set.Form(0)
	c.Finite = true
	finite := func(what string, v []float64) []float64 { return finite(c, what, v) }

	x := t.random(torch.Float64, 1, "x", tokens, int64(typed.Site.In))
	base := x
	if typed.Site.Kind != protocol.Site_STREAM {
		l := t.frozen(typed.Site)
		if l.B != nil {
			l.B = l.B.To(torch.Float64)
		}
		base = torch.Linear(x, l.W.To(torch.Float64), l.B)
	}
	t.dev.NoGrad(func() {
		c.Start = relative(finite("the output, at the start", set.Forward(0, x).Doubles()), base.Doubles(), 0)
		t.move(set)
		c.TokensApart = true
		y := set.Forward(0, x)
		finite("the output, after a random step", y.Doubles())
		for k := range int64(tokens) {
			alone := set.Forward(0, x.Narrow(0, k, 1)).Doubles()
			// Products of other sizes are summed in another order.
			c.TokensApart = c.TokensApart && relative(alone, y.Narrow(0, k, 1).Doubles(), 0) < 1e-9
		}
	})
	t.gradients(set, c, finite)
	if c.Mergeable {
		t.dev.NoGrad(func() {
			w, b := set.Affine(0)
			finite("the merged weight", w.Doubles())
			other := t.random(torch.Float64, 2, "merge", tokens, int64(typed.Site.In))
			c.Merge = relative(set.Forward(0, other).Doubles(), torch.Linear(other, w, b).Doubles(), 0)
		})
	}
	return nil
}

// relative is the largest |a − b| over the largest |b|, which counts as at
// least least.
func relative(a, b []float64, least float64) float64 {
	diff, size := 0.0, least
	for i := range a {
		d := math.Abs(a[i] - b[i])
		if math.IsNaN(d) {
			return math.Inf(1)
		}
		diff, size = max(diff, d), max(size, math.Abs(b[i]))
	}
	if diff == 0 {
		return 0
	}
	return diff / size
}

// move makes a random step of a tenth of each trainable parameter's size, and
// of at least 0.05, so that what starts as zero is zero no more.
func (t *trial) move(set *adapter.Set) {
	for _, p := range set.Params {
		if p.Trainable {
			std := max(0.05, 0.1*rms(p.T.Doubles()))
			p.T.Assign(p.T.Detach().Add(t.random(p.T.DType(), std, "move "+p.Name, p.T.Shape()...)))
		}
	}
}

func rms(v []float64) float64 {
	s := 0.0
	for _, x := range v {
		s += x * x
	}
	return math.Sqrt(s / float64(len(v)))
}

// bits is what is tried bit for bit.
func (t *trial) bits(i int, c *spec.Conformance) error {
	set, err := t.with(torch.Float32, t.req.Seed, i)
	if err != nil {
		return err
	}
	defer set.Free()
	again, err := t.with(torch.Float32, t.req.Seed, i)
	if err != nil {
		return err
	}
	defer again.Free()
	c.Repeats = equal(set, again)

	draws := false
	for _, q := range set.Site(0).Program.Params {
		draws = draws || program.Draws(q.Init)
	}
	c.SeedsDiffer = !draws
	// A permutation of two can come out the same by chance; of five seeds one
	// has to differ.
	for k := uint64(1); k <= 5 && !c.SeedsDiffer; k++ {
		other, err := t.with(torch.Float32, t.req.Seed+k, i)
		if err != nil {
			return err
		}
		c.SeedsDiffer = !equal(set, other)
		other.Free()
	}

	t.move(set)
	c.Saved, err = t.saved(set, again)
	return err
}

// equal reports whether two sets hold the same values, bit for bit.
func equal(a, b *adapter.Set) bool {
	of := map[string]*adapter.Param{}
	for _, p := range b.Params {
		of[p.Name] = p
	}
	for _, p := range a.Params {
		if q := of[p.Name]; q == nil || !bytes.Equal(p.T.Bytes(), q.T.Bytes()) {
			return false
		}
	}
	return true
}

// saved writes a set to a file, reads it into another and compares outputs.
func (t *trial) saved(set, other *adapter.Set) (bool, error) {
	dir, err := tempdir.New("conform")
	if err != nil {
		return false, fmt.Errorf("saving the adapter: %w", err)
	}
	defer dir.Remove()
	path := filepath.Join(dir.Path, rundir.Adapter)
	if err := safetensors.Write(path, set.Tensors(), nil); err != nil {
		return false, err
	}
	f, err := safetensors.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	var values []safetensors.Tensor
	for _, name := range f.Names() {
		v, _ := f.Get(name)
		values = append(values, v)
	}
	if err := other.Assign(values); err != nil {
		return false, fmt.Errorf("reading the saved adapter: %w", err)
	}
	x := t.random(torch.Float32, 1, "x", tokens, int64(set.Site(0).Site.In))
	same := false
	t.dev.NoGrad(func() { same = bytes.Equal(set.Forward(0, x).Bytes(), other.Forward(0, x).Bytes()) })
	return same, nil
}

// together makes all placements at once, in the opposite order, and compares
// with each of them alone.
func (t *trial) together(sites []*spec.Conformance) {
	a := t.req.GetAdapter()
	// Those that fit together: sites that share parameters must agree on them.
	var at []int
	var placed []*protocol.Site
	var of []uint32
	for i := len(sites) - 1; i >= 0; i-- {
		if sites[i].Failure != "" {
			continue
		}
		p := a.Placements[i]
		if _, err := program.CheckAll(a.Programs, append(slices.Clone(placed), p.Site), append(slices.Clone(of), p.Program), t.req.Model); err != nil {
			sites[i].Failure = err.Error()
			continue
		}
		at, placed, of = append(at, i), append(placed, p.Site), append(of, p.Program)
	}
	err := t.dev.Do(func() error {
		all, err := t.with(torch.Float32, t.req.Seed, at...)
		if err != nil {
			return err
		}
		defer all.Free()
		for _, i := range at {
			t.dev.Scope(func() {
				var alone *adapter.Set
				if alone, err = t.with(torch.Float32, t.req.Seed, i); err == nil {
					sites[i].AnyOrder = equal(alone, all)
					alone.Free()
				}
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		for _, i := range at {
			if !sites[i].AnyOrder {
				sites[i].Failure = "among the other sites: " + err.Error()
			}
		}
	}
}
