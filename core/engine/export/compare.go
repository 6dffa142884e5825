package export

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/engine/adapter"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/program"
	"github.com/loralab/loralab/plugins/protocol"
)

// compareTokens is how many random tokens go through a layer.
const compareTokens = 8

// Compare computes the adapters of a run and others at the same layers on random
// inputs in fp64: what was written for PEFT, and read back, has to be what was
// trained.
func Compare(ctx context.Context, dev *torch.Device, req *spec.CompareRequest) (*spec.CompareReply, error) {
	if err := checkRun(req.GetRun(), req.GetCheckpoint()); err != nil {
		return nil, err
	}
	if n, m := len(req.GetOther().GetPlacements()), len(req.Run.Spec.GetAdapter().GetPlacements()); n != m {
		return nil, fmt.Errorf("%d layers are to be compared with the %d of the run", n, m)
	}
	x, err := open(dev, req.Run, req.Checkpoint)
	if err != nil {
		return nil, err
	}
	defer x.file.Close()
	others, err := safetensors.Open(req.Values)
	if err != nil {
		return nil, err
	}
	defer others.Close()
	var values []safetensors.Tensor
	for _, name := range others.Names() {
		t, _ := others.Get(name)
		values = append(values, t)
	}
	reply := &spec.CompareReply{}
	return reply, dev.Do(func() error {
		b := req.Run.Spec.Backbone
		m, err := vit.Load(dev, req.Run.Places.Backbone, b.Arch, vit.Options{Depth: int(b.Depth), Digest: b.Digest})
		if err != nil {
			return err
		}
		defer m.Free()
		// One layer at a time: in fp64 all of them take twice the backbone.
		for i, p := range req.Run.Spec.Adapter.Placements {
			if err := ctx.Err(); err != nil {
				return err
			}
			q := req.Other.Placements[i]
			if !proto.Equal(p.Site, q.Site) {
				return fmt.Errorf("%s is to be compared with %s", program.SiteName(q.Site), program.SiteName(p.Site))
			}
			c := &spec.Comparison{}
			reply.Sites = append(reply.Sites, c)
			err := x.alone(m, x.spec.Adapter, i, x.parts["adapter"], func(ours *adapter.Set) error {
				return x.alone(m, req.Other, i, values, func(theirs *adapter.Set) error {
					x.compareOne(m, p.Site, ours, theirs, c)
					return nil
				})
			})
			if err != nil {
				return fmt.Errorf("%s: %w", program.SiteName(p.Site), err)
			}
		}
		return nil
	})
}

// alone makes the adapter of one placement, with its values among all.
func (x *export) alone(m *vit.Model, a *spec.Adapter, i int, values []safetensors.Tensor, use func(*adapter.Set) error) (err error) {
	one := &spec.Adapter{Programs: a.Programs, Placements: a.Placements[i : i+1]}
	x.dev.Scope(func() {
		var set *adapter.Set
		set, err = adapter.New(x.dev, x.model(), one, torch.Float64, x.spec.Seed, func(site *protocol.Site) vit.Linear {
			return m.Pretrained(int(site.Block), site.Name)
		})
		if err != nil {
			return
		}
		defer set.Free()
		err = set.Assign(slices.DeleteFunc(slices.Clone(values), func(t safetensors.Tensor) bool {
			return !slices.ContainsFunc(set.Stored(), func(p *adapter.Param) bool { return p.Name == t.Name })
		}))
		if err == nil {
			err = use(set)
		}
	})
	return err
}

func (x *export) compareOne(m *vit.Model, site *protocol.Site, ours, theirs *adapter.Set, c *spec.Comparison) {
	c.SameProgram = proto.Equal(computed(ours.Site(0).Program), computed(theirs.Site(0).Program))
	if c.SameProgram {
		for i, p := range ours.Params { // in the order of the program's
			// What follows from W is in fp64 here, and in fp32 in a file.
			q := theirs.Params[i]
			if p.Name != q.Name || !p.Derived && !slices.Equal(p.T.Bytes(), q.T.Bytes()) {
				c.OtherValue = p.Name
				break
			}
		}
	}
	x.dev.NoGrad(func() {
		v := make([]float32, compareTokens*int(site.In))
		rng.New(0, "compare", program.SiteName(site)).Normal(v, 1)
		in := torch.Of(x.dev, v, compareTokens, int64(site.In)).To(torch.Float64)
		base := m.Pretrained(int(site.Block), site.Name)
		if base.B != nil {
			base.B = base.B.To(torch.Float64)
		}
		a, b := ours.Forward(0, in).Doubles(), theirs.Forward(0, in).Doubles()
		plain := torch.Linear(in, base.W.To(torch.Float64), base.B).Doubles()
		for i := range a {
			c.Difference = largest(c.Difference, math.Abs(a[i]-b[i]))
			c.Effect = largest(c.Effect, math.Abs(a[i]-plain[i]))
			c.Output = largest(c.Output, math.Abs(a[i]))
		}
	})
}

// largest is the larger number, and NaN if there is one.
func largest(a, b float64) float64 {
	if math.IsNaN(a) || math.IsNaN(b) {
		return math.NaN()
	}
	return max(a, b)
}

// computed is what a program computes: how its parameters start, learn and are
// kept does not matter.
func computed(p *protocol.Program) *protocol.Program {
	p = proto.CloneOf(p)
	for _, q := range p.Params {
		q.Init, q.LrMult, q.DecayMult, q.Derived, q.Stream, q.Trainable = nil, nil, nil, false, "", false
	}
	for _, n := range p.Nodes {
		n.Name = ""
	}
	return p
}

// checkRun reports what is missing of a run that is to be read.
func checkRun(r *spec.RunRequest, checkpoint string) error {
	s := r.GetSpec()
	switch {
	case s.GetBackbone().GetArch() == nil || s.GetHead() == nil || s.GetData() == nil:
		return errors.New("the specification of the run is not complete")
	case !spec.Readable(s.Revision):
		return fmt.Errorf("the run is of revision %d of the arithmetic, this engine computes revision %d: run it again", s.Revision, spec.Revision)
	case r.GetPlaces().GetRunDir() == "" || r.GetPlaces().GetBackbone() == "":
		return errors.New("a place is missing")
	}
	if _, ok := rundir.Checkpoint(checkpoint); !ok {
		return fmt.Errorf("checkpoint %q is not one of best, last", checkpoint)
	}
	return nil
}
