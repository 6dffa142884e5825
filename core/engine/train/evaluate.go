package train

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/engine/adapter"
	"github.com/loralab/loralab/core/engine/loss"
	"github.com/loralab/loralab/core/engine/stylenet"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/samplesheet"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/stylize"
)

// shots receives each image that was scored, as the model saw it, with what was
// predicted of it.
type shots func(name string, seen raster.Labelled, predicted raster.Labels)

// scoreAs scores a split at a resolution, by windows if there are, over all views of
// its images. shots may be nil.
func (s *session) scoreAs(ctx context.Context, set *data.Set, sources []*source, resolution string, w *spec.Window, shots shots) (*spec.Metrics, error) {
	switch {
	case w != nil:
		return s.scoreWindows(ctx, set, sources, w, shots)
	case resolution == spec.Original:
		return s.scoreOriginal(ctx, set, sources, shots)
	}
	return s.score(ctx, set, sources, shots)
}

// score runs a split through the network and counts pixels. shots may be nil.
func (s *session) score(ctx context.Context, set *data.Set, sources []*source, shots shots) (*spec.Metrics, error) {
	counts := metric.NewCounts(s.spec.Data.Classes)
	var sure metric.Calibration
	batches := inOrder(set.Len(), int(s.spec.Train.Batch))
	var mean loss.Mean
	var dice, iou, weight float64
	i := 0
	err := each(ctx, reader(set, sources, false), batches, func(b *seen) error {
		indices := batches[i]
		i++
		var sc *scored
		err := s.t.dev.Do(func() error {
			var err error
			s.t.dev.NoGrad(func() {
				var logits *torch.Tensor
				if logits, err = s.together(sources, b, indices); err == nil {
					sc = s.scored(&mean, b.Batch, logits, s.net.target(b.Batch))
				}
			})
			return err
		})
		if err != nil {
			return err
		}
		// A batch with nothing but ignored pixels has no scores of its own.
		if slices.ContainsFunc(b.Pixels, func(n uint64) bool { return n > 0 }) {
			dice += sc.dice * float64(b.N)
			iou += sc.iou * float64(b.N)
			weight += float64(b.N)
		}
		counts.Add(sc.predicted, b.Labels)
		sure.Add(sc.predicted, b.Labels, sc.highest, sc.ofTruth, sc.squares)
		for k := range b.N {
			seen, predicted := b.At(k), raster.Labels{Size: b.Size, Pix: sc.predicted[k*b.Area() : (k+1)*b.Area()]}
			counts.Boundary(predicted, seen.Labels)
			if shots != nil {
				shots(b.Names[k], seen, predicted)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if weight > 0 {
		dice, iou = dice/weight, iou/weight
	}
	m := counts.Metrics(mean.Of(s.loss), set.Len())
	m.Confusion = counts.Matrix()
	sure.Report(m)
	if weight > 0 {
		m.OriginalDice, m.OriginalIou = &dice, &iou
	}
	return m, nil
}

// scored is what metrics need of a batch, off the device.
type scored struct {
	dice, iou                 float64 // as the original project has them
	predicted                 []byte
	highest, ofTruth, squares []float32 // of probabilities, by pixel
}

// scored scores a batch, and adds its loss to mean. It is called on the device's
// thread, without gradients.
func (s *session) scored(mean *loss.Mean, b *data.Batch, logits, target *torch.Tensor) *scored {
	p := logits.Softmax(1)
	sc := pixels(logits, p, target)
	mean.Add(s.loss, loss.Masses(s.loss, b.N, b.Pixels), logits, p, target)
	dice, iou := loss.Original(p, target)
	sc.dice, sc.iou = dice.Item(), iou.Item()
	return sc
}

// pixels is what is scored of each pixel: of logits and their softmax p,
// [N, C, H, W], and targets [N, H, W].
func pixels(logits, p, target *torch.Tensor) *scored {
	predicted := logits.ArgMax(1)
	at := func(index *torch.Tensor) []float32 { return p.Gather(1, index.Unsqueeze(1)).Floats() }
	return &scored{
		predicted: predicted.To(torch.Uint8).Bytes(),
		highest:   at(predicted),
		ofTruth:   at(target.Mul(target.NotEqual(raster.Ignored).To(torch.Int64))), // ignored pixels look at class 0
		squares:   p.Mul(p).SumDims(false, 1).Floats(),
	}
}

// evaluate scores every domain that has no result yet.
func (s *session) evaluate(ctx context.Context, summary *spec.Summary) error {
	for _, e := range s.req.Evaluations {
		id := spec.EvaluationIdentity(s.req.Id, e)
		done, err := s.dir.Evaluation(id)
		var damaged *rundir.DamagedError
		switch {
		case errors.As(err, &damaged):
			s.warn(fmt.Sprintf("%v; %s is scored again", err, e.Domain))
		case err != nil:
			return fmt.Errorf("evaluating %s: %w", e.Domain, err)
		case done.GetId() == id:
			done.Domain, done.Metrics = e.Domain, metric.Named(done.Metrics, s.spec.Data.Classes)
			s.emit(&spec.Event{Event: &spec.Event_Evaluated{Evaluated: done}})
			summary.Evaluations = append(summary.Evaluations, done)
			continue
		}
		if err := s.ready(e, summary); err != nil {
			return fmt.Errorf("evaluating %s: %w", e.Domain, err)
		}
		if done, err = s.domain(ctx, id, e); err == nil {
			err = s.vouch()
		}
		if err != nil {
			if ctx.Err() != nil {
				return ErrStopped
			}
			return fmt.Errorf("evaluating %s: %w", e.Domain, err)
		}
		done.Digest = spec.SealedDigest(done)
		if err := s.dir.replace(rundir.Evaluation(id), done); err != nil {
			return err
		}
		s.emit(&spec.Event{Event: &spec.Event_Evaluated{Evaluated: done}})
		summary.Evaluations = append(summary.Evaluations, done)
	}
	return nil
}

// ready loads the weights of an evaluation, those of all members of an ensemble, in
// its precision.
func (s *session) ready(e *spec.Evaluation, summary *spec.Summary) error {
	for _, m := range s.members {
		if err := m.ready(e, m.trained); err != nil {
			return fmt.Errorf("run %s: %w", rundir.Short(m.req.Id), err)
		}
		s.net, s.loss = s.members[0].net, s.members[0].loss
	}
	if len(s.members) > 0 {
		return nil
	}
	file := rundir.Best
	if e.Checkpoint == rundir.LastName {
		file = rundir.Last
	}
	if err := s.compute(cmp.Or(e.Precision, s.spec.Train.Precision)); err != nil {
		return err
	}
	at := s.net.precision + " " + file
	if s.loaded == at {
		return nil
	}
	p, err := s.weights(file, summary)
	if err != nil {
		return err
	}
	s.step = p.Step
	if _, err := s.t.probes(s.warn, s.net.model, int(s.spec.Train.Batch), data.SizeOf(e.Data), p.Probes); err != nil {
		return err
	}
	s.loaded = at
	return nil
}

func (s *session) domain(ctx context.Context, id string, e *spec.Evaluation) (*spec.Evaluated, error) {
	set, err := s.t.openSplit(ctx, s.req, e.Data, "test")
	if err != nil {
		return nil, err
	}
	if style := e.Data.Style; style.GetKind() == stylize.Network {
		net, err := stylenet.Open(s.t.dev, style, s.req.Places.Networks[style.Weights])
		if err != nil {
			return nil, err
		}
		defer net.Close()
		set.UseNetwork(net.Apply)
	}
	// What training and other domains used may make room for this one.
	if err := s.t.dev.Do(func() error { s.t.cache.release(); return nil }); err != nil {
		return nil, err
	}
	sources, err := s.sources(ctx, e, set)
	if err != nil {
		return nil, err
	}
	if e.Merged {
		unmerge, err := s.merge()
		if err != nil {
			return nil, fmt.Errorf("with merged adapters: %w", err)
		}
		defer unmerge()
	}
	if t := spec.StrengthOf(e); t != 1 {
		restore, err := s.strength(t)
		if err != nil {
			return nil, err
		}
		defer restore()
	}
	size := data.SizeOf(e.Data)
	kept := s.samples(size)
	m, err := s.scoreAs(ctx, set, sources, e.Resolution, e.Window, kept.take)
	if err != nil {
		return nil, err
	}
	if len(kept.rows) > 0 {
		if err := s.dir.there(); err != nil {
			return nil, err
		}
		what := "run"
		if len(s.members) > 0 {
			what = "ensemble"
		}
		drawn := samplesheet.Samples(s.spec.Data.Classes, size).Draw(fmt.Sprintf("%s of %s %.12s", e.Domain, what, s.req.Id), kept.rows)
		if err := writePNG(s.dir.Path(rundir.Sample(e.Domain, id)), drawn); err != nil {
			return nil, fmt.Errorf("drawing samples: %w", err)
		}
	}
	return &spec.Evaluated{Id: id, Domain: e.Domain, Metrics: m, Run: s.req.Id}, nil
}

// sources are the images of an evaluation, in each of its views. Windows are cut at the
// same size in all of them.
func (s *session) sources(ctx context.Context, e *spec.Evaluation, set *data.Set) ([]*source, error) {
	var sources []*source
	for _, v := range e.TestTime.Views() {
		if v.Scale != 1 && e.Window == nil {
			if err := s.probeAt(e.Data, v); err != nil {
				return nil, err
			}
		}
		src, err := s.t.newSource(ctx, s.net, s.spec, e.Data, "test", set, e.Window, v)
		if err != nil {
			return nil, err
		}
		sources = append(sources, src)
	}
	return sources, nil
}

// probeAt settles how attention is computed at the size of a view. The checkpoint has
// the choice for the size of the training alone.
func (s *session) probeAt(d *spec.Data, v spec.View) error {
	size := data.SizeOf(d).Times(v.Scale, int(s.net.model.Arch.Patch))
	_, err := s.t.probes(s.warn, s.net.model, int(s.spec.Train.Batch), size, nil)
	return err
}

// sample is an image with what was predicted of it, at a size, captioned with name
// and Dice. It keeps nothing of the batch.
func sample(name string, seen raster.Labelled, predicted raster.Labels, size raster.Size, classes []string) samplesheet.Row {
	image, labels, predicted := seen.Image.Resized(size), seen.Labels.Resized(size), predicted.Resized(size)
	image.RGB, labels.Pix, predicted.Pix = slices.Clone(image.RGB), slices.Clone(labels.Pix), slices.Clone(predicted.Pix)
	counts := metric.NewCounts(classes)
	counts.Add(predicted.Pix, labels.Pix)
	caption := name + "   all ignored"
	if m := counts.Metrics(0, 1); m.Pixels > 0 {
		caption = fmt.Sprintf("%s   Dice %.3f", name, m.Dice)
	}
	return samplesheet.Row{Labelled: raster.Labelled{Image: image, Labels: labels}, Predicted: predicted, Caption: caption}
}

// strength gives the adapters a strength until restore is called.
func (s *session) strength(t float64) (restore func(), err error) {
	set := func(t float64) error {
		return s.t.dev.Do(func() error {
			for _, n := range s.nets() {
				n.adapters.SetStrength(t)
			}
			return nil
		})
	}
	// If the device failed, scoring did too and says so.
	return func() { _ = set(1) }, set(t)
}

// mergeTolerance is how far a merged layer may be from the adapted one,
// relative to its outputs, to be scored in its place: some ten times what
// rounding W to fp32 makes of it.
const mergeTolerance = 1e-5

// merge puts merged layers in place of the adapters until unmerge is called.
func (s *session) merge() (unmerge func(), err error) {
	var restore func()
	var merged []adapter.Merged
	err = s.t.dev.Do(func() error {
		var err error
		if merged, err = s.net.adapters.Merge(mergeTolerance); err != nil {
			return err
		}
		restore = s.net.adapters.UseMerged(merged)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return func() {
		// If the device failed, scoring did too and says so.
		_ = s.t.dev.Do(func() error {
			restore()
			adapter.FreeMerged(merged)
			return nil
		})
	}, nil
}

// export writes the best weights for others: adapters with their program, and
// the head, each in a file of its own. It returns the SHA-256 of what it wrote, and
// of the checkpoint, by their paths in the run's directory.
func (s *session) export() (map[string]string, error) {
	if err := s.dir.there(); err != nil {
		return nil, err
	}
	f, err := s.dir.Checkpoint(rundir.Best)
	if err != nil {
		return nil, fmt.Errorf("exporting the best weights: %w", err)
	}
	defer f.Close()
	if f.Seal() != s.bestSeal {
		return nil, fmt.Errorf("exporting the best weights: %s is not the one that was written after step %d", s.dir.Path(rundir.Best), s.best)
	}
	if err := s.restore(&checkpointed{File: f, path: s.dir.Path(rundir.Best)}, false); err != nil {
		return nil, fmt.Errorf("exporting the best weights: %w", err)
	}
	files := map[string]string{rundir.Best: f.Sum()}
	var adapters, heads []safetensors.Tensor
	err = s.t.dev.Do(func() error {
		adapters = s.net.adapters.Tensors()
		var ns []named
		for _, p := range slices.Concat(s.net.head.Params(), s.net.head.Buffers()) {
			ns = append(ns, named{p.Name, p.T})
		}
		heads = tensorsOf(ns)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("exporting the best weights: %w", err)
	}
	meta := map[string]string{"format": "pt", "run": s.req.Id}
	write := func(name string, ts []safetensors.Tensor) error {
		if _, err := safetensors.WriteSealed(s.dir.Path(name), ts, meta); err != nil {
			return fmt.Errorf("exporting the best weights: %w", err)
		}
		var err error
		files[name], err = filehash.Of(s.dir.Path(name))
		return err
	}
	if err := write(rundir.Head, heads); err != nil {
		return nil, err
	}
	if len(adapters) == 0 {
		return files, nil
	}
	if err := s.dir.replace(rundir.Program, s.spec.Adapter); err != nil {
		return nil, err
	}
	return files, write(rundir.Adapter, adapters)
}
