package programtest

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/loralab/loralab/core/engine/adapter"
	"github.com/loralab/loralab/core/engine/export"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

// sampleImages go through the backbone of a sample.
const sampleImages = 2

// Sample writes an adapter for PEFT over a random backbone, and what the two
// compute, for PEFT to do the same: "trial-plugins F2".
func Sample(ctx context.Context, dev *torch.Device, req *spec.SampleRequest) error {
	a := req.GetArch()
	path, err := vit.WriteRandom(filepath.Join(req.Out, "backbone"), a, req.Seed)
	if err != nil {
		return fmt.Errorf("writing a backbone: %w", err)
	}
	digest, err := filehash.Of(path)
	if err != nil {
		return err
	}
	side := a.GridH * a.Patch
	s := &spec.RunSpec{
		Revision: spec.Revision, Seed: req.Seed,
		Backbone: &spec.Backbone{Digest: digest, Arch: a, Depth: a.Depth, Freeze: &spec.Freeze{Kind: spec.Freeze_ALL}},
		Adapter:  req.Adapter, Head: &spec.Head{Kind: "linear"},
		Data: &spec.Data{Classes: []string{"a", "b"}, Height: side, Width: side, Mean: []float64{.5, .5, .5}, Std: []float64{.5, .5, .5}},
	}
	run := filepath.Join(req.Out, "run")
	id := spec.Identity(s)
	err = dev.Do(func() error {
		m, err := vit.Load(dev, path, a, vit.Options{})
		if err != nil {
			return err
		}
		defer m.Free()
		v := make([]float32, sampleImages*3*side*side)
		rng.New(req.Seed, "sample", "pixels").Normal(v, 1)
		pixels := torch.Of(dev, v, sampleImages, 3, int64(side), int64(side))
		named := func(name string, t *torch.Tensor) safetensors.Tensor {
			return safetensors.Tensor{Name: name, DType: safetensors.F32, Shape: t.Shape(), Data: t.Bytes()}
		}
		given := []safetensors.Tensor{named("pixels", pixels)}
		dev.NoGrad(func() { given = append(given, named("plain", m.Forward(pixels))) })
		set, err := adapter.Load(dev, m, req.Adapter, req.Seed)
		if err != nil {
			return err
		}
		defer set.Free()
		if err := Scatter(m, set, pixels); err != nil {
			return err
		}
		dev.NoGrad(func() { given = append(given, named("tokens", m.Forward(pixels))) })
		if err := safetensors.Write(filepath.Join(req.Out, "case.safetensors"), given, nil); err != nil {
			return err
		}
		var checkpoint []safetensors.Tensor
		for _, t := range set.Tensors() {
			t.Name = "adapter." + t.Name
			checkpoint = append(checkpoint, t)
		}
		meta, err := rundir.Progress{ID: id, Step: 1}.Metadata()
		if err != nil {
			return err
		}
		_, err = safetensors.WriteSealed(rundir.Dir(run).Path(rundir.Best), checkpoint, meta)
		return err
	})
	if err != nil {
		return err
	}
	out := filepath.Join(req.Out, "peft")
	if err := os.Mkdir(out, 0o777); err != nil {
		return err
	}
	_, err = export.Run(ctx, dev, &spec.ExportRequest{
		Run: &spec.RunRequest{
			Id: id, Spec: s, Peft: req.Peft, Label: &spec.Label{},
			Places: &spec.Places{RunDir: run, Backbone: path},
		},
		Checkpoint: rundir.BestName, Format: spec.ExportRequest_PEFT, Out: out,
	})
	return err
}

// How far the tokens of a backbone have to move for a difference to show, and
// how far they may before attention saturates and magnifies the rounding of
// fp32.
const (
	leastMove = 0.01
	mostMove  = 2
)

// Scatter makes the trainable parameters of adapters in a model random: far
// enough from their start that the tokens of pixels tell, and not too far.
func Scatter(m *vit.Model, set *adapter.Set, pixels *torch.Tensor) error {
	dev := pixels.Device()
	var err error
	dev.NoGrad(func() {
		dev.Scope(func() {
			tokens := func() []float32 { return m.Forward(pixels).Floats() }
			start := tokens()
			std, had := 0.1, 0.0
			for tries := 0; ; tries++ {
				for _, p := range set.Params {
					if !p.Trainable {
						continue
					}
					// Another size of the same direction.
					v := make([]float32, p.T.Numel())
					rng.New(1, "parity", p.Name).Normal(v, 1)
					dev.Scope(func() { p.T.Assign(p.T.Add(torch.Of(dev, v, p.T.Shape()...).Scale(std - had))) })
				}
				had = std
				d := 0.0
				for i, x := range tokens() {
					d = largest(d, math.Abs(float64(x)-float64(start[i])))
				}
				switch {
				case d >= leastMove && d < mostMove:
					return
				case tries == 20:
					err = fmt.Errorf("random values of the adapter change the tokens by %g, want between %v and %v", d, leastMove, mostMove)
					return
				case d < leastMove:
					std *= 3
				default: // NaN among them
					std /= 2
				}
			}
		})
	})
	return err
}

// largest is the larger number, and NaN if there is one.
func largest(a, b float64) float64 {
	if math.IsNaN(a) || math.IsNaN(b) {
		return math.NaN()
	}
	return max(a, b)
}
