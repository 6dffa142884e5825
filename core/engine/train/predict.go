package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/window"
)

// Predict segments pictures of any size with the weights of a trained run: they
// are resized as the run's data was, or seen by windows, and the logits are
// interpolated to the size they came in. A corruption or style of the run's
// data is not applied. A picture that cannot be read, or is too large for the
// memory, is told like any other and the rest goes on; an error ends it all.
//
// The directory of the run is only read, so nothing is locked.
func (t *Trainer) Predict(ctx context.Context, req *spec.PredictRequest, emit func(*spec.Prediction) error) error {
	t.running.Lock()
	defer t.running.Unlock()
	run := req.GetRun()
	if err := check(run); err != nil {
		return fmt.Errorf("checking the request: %w", err)
	}
	file, ok := rundir.Checkpoint(req.Checkpoint)
	if !ok {
		return fmt.Errorf("checkpoint %q is not one of best, last", req.Checkpoint)
	}
	s := &session{t: t, req: run, spec: run.Spec, dir: &runDir{Run: rundir.Of(run)}, emit: func(*spec.Event) {}}
	err := t.predict(ctx, s, req, file, emit)
	s.close()
	if changed := (*backboneError)(nil); errors.As(err, &changed) {
		err = errors.Join(err, t.distrust())
	}
	return err
}

func (t *Trainer) predict(ctx context.Context, s *session, req *spec.PredictRequest, file string, emit func(*spec.Prediction) error) error {
	run := req.Run
	if err := s.open(); err != nil {
		return err
	}
	if w := req.Window; w != nil {
		if err := checkWindow(w, run.Spec.Data); err != nil {
			return err
		}
	}
	precision := run.Spec.Train.Precision
	if precision == "tf32" && !t.dev.IsCUDA() {
		precision = "fp32" // the same, only more exact
	}
	if err := s.compute(precision); err != nil {
		return err
	}
	summary, err := s.dir.Summary()
	if err != nil {
		return fmt.Errorf("%w; %s", err, s.dir.Cure())
	}
	p, err := s.weights(file, summary)
	if err != nil {
		return err
	}
	s.step = p.Step
	d := run.Spec.Data
	views := req.TestTime.Views()
	if err := checkViews(req.TestTime); err != nil {
		return err
	}
	if _, err := t.probes(s.warn, s.net.model, int(run.Spec.Train.Batch), data.SizeOf(d), p.Probes); err != nil {
		return err
	}
	for _, v := range views {
		if v.Scale != 1 && req.Window == nil {
			if err := s.probeAt(d, v); err != nil {
				return err
			}
		}
	}
	for i, picture := range req.Pictures {
		if err := ctx.Err(); err != nil {
			return err
		}
		said, err := s.predict(ctx, picture, req.Window, views)
		if err != nil {
			return fmt.Errorf("segmenting %s: %w", picture.Image, err)
		}
		said.Picture = uint32(i)
		if err := emit(said); err != nil {
			return err
		}
	}
	return nil
}

// predict segments one picture and writes its files.
func (s *session) predict(ctx context.Context, picture *spec.Picture, w *spec.Window, views []spec.View) (*spec.Prediction, error) {
	im, err := data.ReadImage(picture.Image)
	if err != nil {
		return &spec.Prediction{Failure: err.Error()}, nil
	}
	classes, p, err := s.segment(ctx, im, w, views, picture.Probabilities != "")
	if broken := (*nonFiniteError)(nil); errors.As(err, &broken) {
		return &spec.Prediction{Failure: "the outputs are NaN or infinite, so no pixel has a class"}, nil
	}
	if torch.OutOfMemory(err) {
		return &spec.Prediction{Failure: fmt.Sprintf("there is not memory enough for %v pixels", im.Size)}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := s.vouch(); err != nil {
		return nil, err
	}
	names := s.spec.Data.Classes
	said := &spec.Prediction{Height: uint32(im.H), Width: uint32(im.W), Pixels: make([]uint64, len(names))}
	for _, class := range classes.Pix {
		said.Pixels[class]++
	}
	if picture.Mask != "" {
		if err := writePNG(picture.Mask, data.MaskImage(classes, len(names))); err != nil {
			return nil, err
		}
	}
	if picture.Overlay != "" {
		if err := writePNG(picture.Overlay, data.Overlay(im, classes)); err != nil {
			return nil, err
		}
	}
	if picture.Probabilities != "" {
		list, err := json.Marshal(names)
		if err != nil {
			return nil, err
		}
		t := safetensors.FromFloat32("probabilities", p, int64(len(names)), int64(im.H), int64(im.W))
		meta := map[string]string{"format": "pt", "run": s.req.Id, "classes": string(list)}
		if err := safetensors.Write(picture.Probabilities, []safetensors.Tensor{t}, meta); err != nil {
			return nil, err
		}
	}
	return said, nil
}

// segment gives every pixel of a picture its class, and, if wanted, the
// probabilities of all classes, [C, H, W]. Logits at the size of the run's data,
// or of windows, are resized to the picture's own, as they are when scored there.
func (s *session) segment(ctx context.Context, im raster.Image, w *spec.Window, views []spec.View, probabilities bool) (classes raster.Labels, p []float32, err error) {
	d := s.spec.Data
	classes = raster.NewLabels(im.Size)
	if probabilities {
		p = make([]float32, len(d.Classes)*im.Area())
	}
	emit := func(y int, logits *torch.Tensor) {
		at := y * im.W
		copy(classes.Pix[at:], logits.ArgMax(1).To(torch.Uint8).Bytes())
		if !probabilities {
			return
		}
		values, n := logits.Softmax(1).Floats(), int(logits.Dim(2))*im.W
		for c := range d.Classes {
			copy(p[c*im.Area()+at:], values[c*n:(c+1)*n])
		}
	}
	all := &blend{dev: s.t.dev, size: im.Size, passes: len(views), emit: emit}
	// If the device failed, segmenting did too and says so.
	defer func() { _ = s.t.dev.Do(func() error { all.free(); return nil }) }()
	if w != nil {
		panes := s.panes(d, w)
		defer panes.free()
		for i, v := range views {
			seen := im.Resized(panes.scaled(im.Size).Times(v.Scale, 1))
			if err := panes.add(ctx, []*canvas{newCanvas(s.t.dev, panes.over(seen.Size), im.Size, all.pass(i, v))}, seen, v); err != nil {
				return classes, nil, err
			}
		}
		return classes, p, panes.flush()
	}
	for i, v := range views {
		b := &data.Batch{Size: data.SizeOf(d), N: 1}
		if v.Scale != 1 {
			b.Size = b.Times(v.Scale, int(s.net.model.Arch.Patch))
		}
		if b.Images = im.Resized(b.Size).RGB; v.Flip {
			b = b.Mirrored()
		}
		err = s.t.dev.Do(func() error {
			var err error
			s.t.dev.NoGrad(func() {
				logits := s.net.logits(s.net.tokens(s.net.input(b, d)), b.Size, false)
				if nonFinite(logits) >= 0 {
					err = &nonFiniteError{step: s.step}
					return
				}
				newCanvas(s.t.dev, window.Whole(b.Size), im.Size, all.pass(i, v)).add(logits.Select(0, 0))
			})
			return err
		})
		if err != nil {
			return classes, nil, err
		}
	}
	return classes, p, nil
}

func writePNG(path string, m image.Image) error {
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		return fmt.Errorf("encoding %s: %w", path, err)
	}
	return replacefile.Write(path, b.Bytes())
}
