package train

import (
	"slices"
	"testing"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/spec"
)

// What the head sees is the output of each tapped block, normalized, one behind
// the other, wherever training begins.
func TestTaps(t *testing.T) {
	for _, c := range []struct {
		taps   []uint32
		prefix int
		plain  bool
	}{
		{nil, 3, false},
		{[]uint32{4}, 3, false},
		{[]uint32{1, 3, 4}, 3, false},
		{[]uint32{0, 2}, 3, false},
		{[]uint32{0, 1, 2, 4}, 3, false},
		{[]uint32{0, 1}, 2, false},
		{nil, 3, true},
		{[]uint32{1, 3, 4}, 3, true},
	} {
		tr := trainer(t)
		req := request(t, func(r *spec.RunRequest) {
			r.Spec.Head = &spec.Head{Kind: "linear", Taps: c.taps}
			r.Spec.Backbone.WithoutNorm = c.plain
		})
		s := &session{t: tr, req: req, spec: req.Spec}
		if err := s.open(); err != nil {
			t.Fatal(err)
		}
		if err := s.compute(s.spec.Train.Precision); err != nil {
			t.Fatal(err)
		}
		err := cpu.Do(func() error {
			images := torch.Of(cpu, make([]float32, 2*3*48*32), 2, 3, 48, 32).AddScalar(0.3)
			got := s.net.features(s.net.tokens(images))
			h := s.net.model.Embed(images)
			var levels []*torch.Tensor
			for i := range 5 {
				h = s.net.model.Block(i, h)
				if slices.Contains(c.taps, uint32(i)) || c.taps == nil && i == 4 {
					if c.plain {
						levels = append(levels, h.Narrow(1, int64(s.net.model.Prefix()), 6*4))
						continue
					}
					levels = append(levels, s.net.model.Features(h))
				}
			}
			want := torch.Cat(-1, levels...)
			if s.net.prefix != c.prefix || !slices.Equal(got.Shape(), want.Shape()) || !slices.Equal(got.Floats(), want.Floats()) {
				t.Errorf("taps %v: prefix %d, features %v, want prefix %d and features %v with the same values", c.taps, s.net.prefix, got.Shape(), c.prefix, want.Shape())
			}
			return nil
		})
		s.close()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Without the final norm nothing depends on its weights, so they do not train.
func TestRunWithoutNorm(t *testing.T) {
	var backbone [2]uint64
	for i, plain := range []bool{false, true} {
		req := request(t, func(r *spec.RunRequest) {
			r.Spec.Backbone.Freeze, r.Spec.Adapter, r.Spec.Train.Epochs = &spec.Freeze{Kind: spec.Freeze_NONE}, nil, 1
			r.Spec.Backbone.WithoutNorm, r.Spec.Optim.LrBackbone = plain, 1e-4
		})
		events, err := run(t, trainer(t), req, 0)
		backbone[i] = finished(t, events, err).BackboneParams
	}
	if backbone[0]-backbone[1] != 2*24 { // weight and bias
		t.Errorf("%d weights of the backbone train with its final norm, %d without", backbone[0], backbone[1])
	}
}

// A run with taps trains, caches what is frozen, and is scored.
func TestRunWithTaps(t *testing.T) {
	req := request(t, func(r *spec.RunRequest) {
		r.Spec.Head, r.Spec.Train.Epochs = &spec.Head{Kind: "conv", Norm: true, Taps: []uint32{1, 4}}, 1
	})
	events, err := run(t, trainer(t), req, 0)
	sum := finished(t, events, err)
	// Half of 24 channels wide, over two taps.
	if want := uint64(9*2*24*12 + 12 + 2*12 + 12*3 + 3); sum.HeadParams != want || events[0].GetStarted().CachedBlocks != 3 {
		t.Errorf("%d weights of the head, want %d; %d cached blocks, want 3", sum.HeadParams, want, events[0].GetStarted().CachedBlocks)
	}
	if len(sum.Evaluations) != 2 {
		t.Errorf("evaluations %v", sum.Evaluations)
	}
}
