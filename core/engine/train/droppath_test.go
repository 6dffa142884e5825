package train

import (
	"math"
	"slices"
	"testing"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/spec"
)

// dropping is a network that leaves out branches, in training alone.
func dropping(t *testing.T, do func(n *network, h *torch.Tensor) error, edit ...func(*spec.RunRequest)) {
	t.Helper()
	tr := trainer(t)
	req := request(t, append([]func(*spec.RunRequest){func(r *spec.RunRequest) {
		r.Spec.Backbone.Freeze, r.Spec.Backbone.DropPath = &spec.Freeze{Kind: spec.Freeze_NONE}, 0.4
		r.Spec.Adapter, r.Spec.Head = nil, &spec.Head{Kind: "linear", Norm: true}
	}}, edit...)...)
	err := cpu.Do(func() error {
		n, err := newNetwork(tr, req, "fp32")
		if err != nil {
			return err
		}
		defer n.free()
		images := make([]float32, 3*3*16*16)
		rng.New(1, "images").Normal(images, 1)
		return do(n, n.tokens(torch.Of(cpu, images, 3, 3, 16, 16)))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A branch is left out with the probability of its block, for each image by itself,
// and keeps its mean.
func TestDropPathKeepsTheMean(t *testing.T) {
	dropping(t, func(n *network, h *torch.Tensor) error {
		if want := []float64{0, 0.1, 0.2, 0.3, 0.4}; !slices.EqualFunc(n.drop, want, func(a, b float64) bool { return math.Abs(a-b) < 1e-12 }) {
			t.Fatalf("rates %v, want %v", n.drop, want)
		}
		const images = 4096
		n.drawPaths(1, 7)
		end := n.dropping()
		block := n.model.Blocks[4]
		drop := block.Drop
		var factors []float32
		attention := true
		block.Drop = func(n int64) *torch.Tensor { // the MLP alone, of which the output is a linear function
			f := drop(n)
			if attention {
				attention = false
				return f.ZerosLike()
			}
			factors = f.Floats()
			return f
		}
		one := h.Narrow(0, 0, 1)
		cpu.NoGrad(func() {
			mean := n.model.Block(4, one.Expand(images, -1, -1).Contiguous()).MeanDims(false, 0).Floats()
			attention = true
			block.Drop = func(n int64) *torch.Tensor {
				f := drop(n).ZerosLike()
				if attention {
					attention = false
					return f
				}
				return f.Add(torch.Of(cpu, []float32{1}, 1))
			}
			plain, in := n.model.Block(4, one).Floats(), one.Floats()
			for i := range mean {
				// 0.013 is the standard deviation of the mean of the factors.
				if d := math.Abs(float64(mean[i] - plain[i])); d > 5*0.013*math.Abs(float64(plain[i]-in[i]))+1e-4 {
					t.Errorf("value %d is %g in the mean of %d draws, want %g", i, mean[i], images, plain[i])
					break
				}
			}
		})
		out := 0
		for _, f := range factors {
			switch f {
			case 0:
				out++
			case float32(1 / 0.6):
			default:
				t.Fatalf("a factor of %g", f)
			}
		}
		if p := float64(out) / images; math.Abs(p-0.4) > 5*math.Sqrt(0.4*0.6/images) {
			t.Errorf("%g of the images were left out, want 0.4", p)
		}
		end()
		for i, b := range n.model.Blocks {
			if b.Drop != nil {
				t.Errorf("block %d still leaves out branches", i)
			}
		}
		return nil
	})
}

// Gradients are those of the network with the branches that a step draws, and an
// evaluation leaves out none.
func TestDropPathGradients(t *testing.T) {
	size := raster.Size{H: 16, W: 16}
	dropping(t, func(n *network, h *torch.Tensor) error {
		h = h.Detach()
		weights := make([]float32, 3*3*16*16)
		rng.New(2, "weights").Normal(weights, 0.1)
		loss := func(step int) *torch.Tensor {
			n.drawPaths(3, step)
			return n.logits(h, size, true).Mul(torch.Of(cpu, weights, 3, 3, 16, 16)).Sum()
		}
		if a, again, b := loss(1).Item(), loss(1).Item(), loss(2).Item(); a != again || a == b {
			t.Errorf("step 1 gives %g and %g, step 2 %g", a, again, b)
		}
		b, _, _ := n.trained()
		loss(1).Backward()
		checked := 0
		for _, p := range b {
			g := p.t.Grad()
			if g == nil || p.t.Numel() < 24*24 {
				continue
			}
			checked++
			direction := make([]float32, p.t.Numel())
			rng.New(3, p.name).Normal(direction, 1)
			d := torch.Of(cpu, direction, p.t.Shape()...)
			want := g.Mul(d).Sum().Item()
			before := p.t.Detach().Clone()
			at := func(by float64) (v float64) {
				cpu.NoGrad(func() {
					p.t.Assign(before.Add(d.Scale(by)))
					v = loss(1).Item()
					p.t.Assign(before)
				})
				return v
			}
			const e = 1e-3
			if got := (at(e) - at(-e)) / (2 * e); math.Abs(got-want) > 0.02*math.Abs(want)+0.02 {
				t.Errorf("%s: the gradient along a direction is %g, by differences %g", p.name, want, got)
			}
		}
		if checked < 10 {
			t.Errorf("%d gradients were looked at", checked)
		}
		cpu.NoGrad(func() {
			a := n.logits(h, size, false).Floats()
			n.drop = nil
			if !slices.Equal(a, n.logits(h, size, false).Floats()) {
				t.Error("an evaluation leaves out branches")
			}
		})
		return nil
	})
}
