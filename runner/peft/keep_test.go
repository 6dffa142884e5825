package peft

import (
	"testing"

	"github.com/loralab/loralab/core/spec"
)

// A head beside an export is taken if it has the tensors of the run's, however
// its width is written, and computes the same.
func TestHeadsThatAreTaken(t *testing.T) {
	arch := &spec.Architecture{Dim: 384}
	for _, c := range []struct {
		a, b *spec.Head
		want bool
	}{
		{&spec.Head{Kind: "conv"}, &spec.Head{Kind: "conv", Hidden: 192, Dropout: 0.1}, true},
		{&spec.Head{Kind: "conv"}, &spec.Head{Kind: "conv", Hidden: 191}, false},
		{&spec.Head{Kind: "conv"}, &spec.Head{Kind: "conv", Norm: true}, false},
		{&spec.Head{Kind: "conv"}, &spec.Head{Kind: "setr_pup", Stages: 1}, false},
		{&spec.Head{Kind: "linear"}, &spec.Head{Kind: "linear", Taps: []uint32{2, 5}}, false},
		{&spec.Head{Kind: "segmenter", Layers: 2}, &spec.Head{Kind: "segmenter", Layers: 2, Width: 384, Heads: 6}, true},
		{&spec.Head{Kind: "segmenter", Layers: 2}, &spec.Head{Kind: "segmenter", Layers: 2, Heads: 3}, false},
		{&spec.Head{Kind: "setr_pup", Stages: 2}, &spec.Head{Kind: "setr_pup", Stages: 3}, false},
		{nil, &spec.Head{Kind: "linear"}, false},
	} {
		if got := sameHead(c.a, c.b, arch); got != c.want {
			t.Errorf("%v for %v: %v", c.a, c.b, got)
		}
	}
}
