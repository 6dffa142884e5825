package train

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/spec"
)

// BenchmarkWindows takes steps of DINOv2-small on windows of the nuclei in data/, ten
// in an epoch, in turn with images that are loaded meanwhile and with images that
// were loaded before: the difference is what loading costs. It needs the backbone in
// the user's cache.
func BenchmarkWindows(b *testing.B) {
	cache, err := os.UserCacheDir()
	if err != nil {
		b.Skip(err)
	}
	model := filepath.Join(cache, "loralab", "backbones", "dinov2-small", "model.safetensors")
	digest, err := filehash.Of(model)
	if err != nil {
		b.Skip(err)
	}
	root := filepath.Join("..", "..", "..", "data", "nuclei", "fluorescence")
	d := &spec.Data{
		Classes: []string{"background", "nucleus"}, Values: map[uint32]int32{0: 0, 1: 1, 2: 1}, Height: 252, Width: 252,
		Mean: []float64{0.485, 0.456, 0.406}, Std: []float64{0.229, 0.224, 0.225}, Splits: map[string]*spec.Split{},
		Augment: []*spec.Augment{
			{Kind: "resize", P: 1, Low: 1, High: 3}, {Kind: "window", P: 1, MaxClass: 0.9}, {Kind: "flip", P: 0.5}, {Kind: "photometric", P: 1},
		},
	}
	req := &spec.RunRequest{
		Spec: &spec.RunSpec{
			Revision: spec.Revision, Seed: 1, Data: d,
			Backbone: &spec.Backbone{Digest: digest, Depth: 10, Freeze: &spec.Freeze{Kind: spec.Freeze_ALL}, Arch: &spec.Architecture{
				Family: "dinov2", Dim: 384, Depth: 12, Heads: 6, Mlp: 1536, Patch: 14, GridH: 37, GridW: 37, Eps: 1e-6, QkvBias: true,
			}},
			Head:  &spec.Head{Kind: "conv"},
			Loss:  []*spec.Loss{{Kind: "cross_entropy", Weight: 1}},
			Optim: &spec.Optim{Kind: "adamw", LrHead: 1e-3, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, Schedule: &spec.Schedule{Kind: "constant"}},
			Train: &spec.Train{Epochs: 1000, Batch: 8, Precision: "fp32", Monitor: "dice/mean", EvalEvery: 1000},
		},
		Places: &spec.Places{RunDir: b.TempDir(), Backbone: model, Files: map[string]*spec.Files{}},
	}
	for role, n := range map[string]int{"train": 80, "val": 2} {
		files, err := data.Scan(filepath.Join(root, role))
		if err != nil {
			b.Fatal(err)
		}
		files = files.Sample(n, 0)
		digest, err := files.Digest(b.Context(), data.NewIndex(data.Look{}))
		if err != nil {
			b.Fatal(err)
		}
		d.Splits[role] = &spec.Split{Digest: digest, Count: uint32(files.Len())}
		place(req, digest, files)
	}
	req.Id = spec.Identity(req.Spec)

	tr := New(cpu, "")
	dir, err := openDir(b.Context(), req)
	if err != nil {
		b.Fatal(err)
	}
	defer dir.close()
	s := &session{t: tr, req: req, spec: req.Spec, dir: dir, emit: func(*spec.Event) {}}
	defer func() {
		s.close()
		if err := tr.Close(); err != nil {
			b.Error(err)
		}
	}()
	r, err := s.begin(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	var loaded, before time.Duration
	epoch := 0
	for b.Loop() {
		start := time.Now()
		if err := r.updates(b.Context(), epoch, r.step+r.perEpoch); err != nil {
			b.Fatal(err)
		}
		loaded += time.Since(start)
		epoch++
		var updates []*update
		for _, images := range cut(rng.New(1, "bench").Permutation(r.set.Len()), 8) {
			u, err := r.read(b.Context(), r.src, images, epoch)
			if err != nil {
				b.Fatal(err)
			}
			updates = append(updates, u)
		}
		start = time.Now()
		for _, u := range updates {
			if err := r.update(u, r.src, epoch); err != nil {
				b.Fatal(err)
			}
		}
		before += time.Since(start)
		epoch++
	}
	steps := float64(10 * b.N)
	b.ReportMetric(loaded.Seconds()/steps, "s/step")
	b.ReportMetric(before.Seconds()/steps, "s/step-loaded-before")
}
