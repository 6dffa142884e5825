// Package train runs one run: it trains what a RunSpec says, keeps it safe on
// disk, and scores it.
//
//	request ── data, backbone, adapters, head ──▶ session
//	session ── epochs of steps, validation, checkpoints ──▶ best weights
//	best weights ── domains ──▶ metrics, pictures, result.json
//
// A Trainer belongs to one device and takes one run after another. It keeps
// what runs share: the frozen backbone, and for every picture the tokens that
// enter the first block that trains. Those tokens depend on nothing that a run
// can change, so epochs, seeds and cells all start from them.
//
// Everything random draws from named streams (core/rng) or from the device's
// generator, whose state is part of a checkpoint. A run that is killed and
// resumed therefore ends, on the CPU, with the same bits.
package train

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/engine/vit"
	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
)

// ErrStopped is the result of a run that was asked to stop: its checkpoint is
// on disk.
var ErrStopped = errors.New("stopped")

// ErrPaused is the result of a run that is at the step where its request has it
// pause: its checkpoint is on disk.
var ErrPaused = errors.New("paused")

// Trainer runs runs on one device, one at a time.
type Trainer struct {
	dev   *torch.Device
	model cachedModel
	cache *tokenCache
	files *data.Index
	// probeFile remembers what the probes chose, "" for nowhere. The forms
	// that a probe chooses from differ in the last bits, so without it a second
	// process might not repeat the first one's numbers.
	probeFile string
	running   sync.Mutex
	unkept    bool // the warning that choices of probes cannot be kept was given
}

// New makes a trainer. Choices of probes are kept below dir, "" keeps none.
func New(dev *torch.Device, dir string) *Trainer {
	t := &Trainer{dev: dev, cache: newTokenCache(dev), files: data.NewIndex(data.Look{})}
	if dir != "" {
		t.probeFile = filepath.Join(dir, "probes-"+kindOf(dev)+"-"+torch.Version()+".json")
	}
	return t
}

// kindOf is a device in the name of a file. Machines with other GPUs may share the
// directory, and GPUs of one kind choose alike.
func kindOf(dev *torch.Device) string {
	facts, ok := dev.Facts()
	if !ok {
		return strings.ReplaceAll(dev.String(), ":", "")
	}
	return "cuda-" + strings.Map(func(r rune) rune {
		if r < 128 && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return unicode.ToLower(r)
		}
		return '-'
	}, facts.Name)
}

// Close gives back what runs shared.
func (t *Trainer) Close() error {
	return t.dev.Do(func() error {
		t.cache.drop()
		return t.model.drop()
	})
}

// Run executes a request and reports as it goes. The last event is finished,
// paused, stopped or failed; the error says the same. An ended context makes it
// write a checkpoint and return ErrStopped.
func (t *Trainer) Run(ctx context.Context, req *spec.RunRequest, emit func(*spec.Event)) error {
	t.running.Lock()
	defer t.running.Unlock()
	e, err := t.run(ctx, req, emit)
	if changed := (*backboneError)(nil); errors.As(err, &changed) {
		err = errors.Join(err, t.distrust())
	}
	if changed := (*data.ChangedError)(nil); errors.As(err, &changed) && t.files.Mistook(changed.Root, changed.File) {
		for _, places := range req.Places.Files {
			t.files.Forget(places.Root)
		}
		err = fmt.Errorf("%w; its size and times did not change, so all that was remembered of the data set was dropped", err)
	}
	switch {
	case err == nil:
		emit(&spec.Event{Event: &spec.Event_Finished{Finished: &spec.Finished{Summary: e.summary}}})
	case errors.Is(err, ErrPaused):
		emit(&spec.Event{Event: &spec.Event_Paused{Paused: e.paused}})
	case errors.Is(err, ErrStopped):
		emit(&spec.Event{Event: &spec.Event_Stopped{Stopped: &spec.Stopped{Step: uint64(e.step)}}})
	default:
		failed := &spec.Failed{
			Reason: firstLine(err.Error()), Detail: err.Error(), Parts: e.parts,
			Retryable: torch.OutOfMemory(err) || errors.Is(err, torch.ErrLost) || errors.Is(err, filehash.ErrTouched),
		}
		var p *torch.PanicError
		if errors.As(err, &p) {
			failed.Detail += "\n" + string(p.Stack)
		}
		emit(&spec.Event{Event: &spec.Event_Failed{Failed: failed}})
	}
	return err
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// end is what there is to say of a run at its end.
type end struct {
	summary *spec.Summary // of a finished one
	paused  *spec.Paused  // of a paused one
	step    int
	parts   uint32 // of one that had no memory: spec.Failed.Parts
}

func (t *Trainer) run(ctx context.Context, req *spec.RunRequest, emit func(*spec.Event)) (e end, err error) {
	if err := check(req); err != nil {
		return e, fmt.Errorf("checking the request: %w", err)
	}
	dir, err := openDir(ctx, req)
	if err != nil {
		return e, err
	}
	defer dir.close()
	s := &session{t: t, req: req, spec: req.Spec, dir: dir, emit: emit}
	defer s.close()
	defer func() {
		e.step, e.paused = s.step, s.paused
		if torch.OutOfMemory(err) && e.summary == nil { // while it trained
			e.parts, err = s.halves(), s.exhausted(err)
		}
	}()
	if err := s.open(); err != nil {
		return e, err
	}
	e.summary, err = dir.Summary()
	var damaged *rundir.DamagedError
	if errors.As(err, &damaged) {
		return e, fmt.Errorf("%w; %s", err, dir.Cure())
	}
	if err != nil {
		return e, fmt.Errorf("reading the result of an earlier run: %w", err)
	}
	if e.summary == nil {
		if req.Spec.Revision != spec.Revision {
			return e, fmt.Errorf("the run is of revision %d of the arithmetic and is not finished; this engine trains revision %d", req.Spec.Revision, spec.Revision)
		}
		if e.summary, err = s.train(ctx); err != nil {
			return e, err
		}
	}
	return e, s.evaluate(ctx, e.summary)
}

// check finds what the runner should never have sent.
func check(req *spec.RunRequest) error {
	s := req.GetSpec()
	switch {
	case s.GetBackbone().GetArch() == nil || s.GetHead() == nil || s.GetData() == nil || s.GetOptim() == nil || s.GetTrain() == nil:
		return errors.New("the specification is not complete")
	case req.GetPlaces().GetRunDir() == "" || req.GetPlaces().GetBackbone() == "":
		return errors.New("a place is missing")
	case !spec.Readable(s.Revision) || req.Train && s.Revision != spec.Revision:
		return fmt.Errorf("the run is of revision %d of the arithmetic, this engine computes revision %d: runner and engine are of different versions", s.Revision, spec.Revision)
	case spec.Identity(s) != req.Id:
		return errors.New("the identity does not belong to the specification: the specification was changed after the run was made, or runner and engine are of different versions")
	case !(s.Backbone.DropPath >= 0 && s.Backbone.DropPath < 1):
		return fmt.Errorf("a branch is left out with a probability of %g, want one from 0 to below 1", s.Backbone.DropPath)
	case s.Train.Batch == 0:
		return errors.New("no batch size")
	case req.Train && s.Adapter.GetStart() != "" && req.Places.Start == "":
		return errors.New("the place of the starting values is missing")
	case s.Data.Splits["train"] == nil || s.Data.Splits["val"] == nil:
		return errors.New("no split train or no split val")
	}
	if !slices.Contains(metric.Names(s.Data.Classes), s.Train.Monitor) {
		return fmt.Errorf("unknown metric %q to monitor, want one of %s", s.Train.Monitor, strings.Join(metric.Names(s.Data.Classes), ", "))
	}
	if s.Train.Resolution != "" && slices.Contains(metric.OfBatches, s.Train.Monitor) {
		return fmt.Errorf("validations at the resolution %q give %s no value", s.Train.Resolution, s.Train.Monitor)
	}
	if err := checkSeen(s.Train.Resolution, s.Train.Window, s.Data); err != nil {
		return fmt.Errorf("validations %w", err)
	}
	for _, e := range req.Evaluations {
		// Names are labels, and may have changed since a domain was asked for.
		if len(e.GetData().GetClasses()) != len(s.Data.Classes) {
			return fmt.Errorf("domain %s has classes %v, the run %v", e.Domain, e.GetData().GetClasses(), s.Data.Classes)
		}
		if e.Data.Splits["test"] == nil {
			return fmt.Errorf("domain %s has no split test", e.Domain)
		}
		if err := checkSeen(e.Resolution, e.Window, e.Data); err != nil {
			return fmt.Errorf("domain %s: its images %w", e.Domain, err)
		}
		if err := checkViews(e.TestTime); err != nil {
			return fmt.Errorf("domain %s: %w", e.Domain, err)
		}
		switch t := spec.StrengthOf(e); {
		case !(t >= 0 && t <= spec.MostStrength):
			return fmt.Errorf("domain %s: adapters cannot have a strength of %g", e.Domain, t)
		case t != 1 && e.Merged:
			return fmt.Errorf("domain %s: merged adapters have no strength", e.Domain)
		}
	}
	return nil
}

// checkViews reports scales at which there is no image.
func checkViews(t *spec.TestTime) error {
	for _, scale := range t.GetScales() {
		if !(scale > 0 && scale <= spec.MostScale) {
			return fmt.Errorf("images cannot be seen at a scale of %g", scale)
		}
	}
	return nil
}

// checkSeen reports how images cannot be scored.
func checkSeen(resolution string, w *spec.Window, d *spec.Data) error {
	switch {
	case resolution != "" && resolution != spec.Original:
		return fmt.Errorf("are to be scored at resolution %q, which this engine does not know", resolution)
	case w != nil && resolution != spec.Original:
		return errors.New("are seen by windows, but not scored at their original resolution")
	case w != nil:
		if err := checkWindow(w, d); err != nil {
			return fmt.Errorf("cannot be seen: %w", err)
		}
	}
	return nil
}

// checkWindow reports windows that would leave pixels out.
func checkWindow(w *spec.Window, d *spec.Data) error {
	if w.StrideH < 1 || w.StrideW < 1 || w.StrideH > d.Height || w.StrideW > d.Width || !(w.Scale >= 0) {
		return fmt.Errorf("windows of %d×%d cannot go over an image at a stride of %d×%d, scaled by %g", d.Height, d.Width, w.StrideH, w.StrideW, w.Scale)
	}
	return nil
}

// openSplit opens a split and checks that its files are those of the plan.
func (t *Trainer) openSplit(ctx context.Context, req *spec.RunRequest, d *spec.Data, name string) (*data.Set, error) {
	split := d.Splits[name]
	if name != "train" && len(d.Augment) > 0 {
		d = proto.CloneOf(d)
		d.Augment = nil
	}
	var styles data.Contents
	var err error
	if d.Style.GetDigest() != "" {
		if styles, err = t.planned(ctx, req, d.Style.Digest); err != nil {
			return nil, fmt.Errorf("style of split %s: %w", name, err)
		}
	}
	if split.Procedural != nil {
		return data.OpenProcedural(split.Procedural, d, styles)
	}
	files, err := t.planned(ctx, req, split.Digest)
	if err != nil {
		return nil, fmt.Errorf("split %s: %w", name, err)
	}
	return data.Open(files, d, styles)
}

// planned are the files of a digest, if they are still those of the plan.
func (t *Trainer) planned(ctx context.Context, req *spec.RunRequest, digest string) (data.Contents, error) {
	places := req.Places.Files[digest]
	if places == nil {
		return data.Contents{}, errors.New("its files were not named")
	}
	files, err := data.Files{Root: places.Root, Images: places.Images, Masks: places.Masks}.Contents(ctx, t.files)
	if err != nil {
		return data.Contents{}, err
	}
	if files.Digest() != digest {
		return data.Contents{}, fmt.Errorf("the files below %s are no longer those of the plan; plan again", places.Root)
	}
	return files, nil
}

// probes settles how attention is computed: as a checkpoint did, as any run on
// this machine did before, or by measuring now. A trainer warns once if the
// choice cannot be kept: another process may choose otherwise. It returns the choice
// alone that the run computes with, whatever else was measured before.
func (t *Trainer) probes(warn func(string), m *vit.Model, batch int, size raster.Size, checkpoint map[string]string) (map[string]string, error) {
	known := map[string]string{}
	if b, err := os.ReadFile(t.probeFile); err == nil {
		// A damaged file only costs a new measurement.
		_ = json.Unmarshal(b, &known)
	}
	before := len(known)
	maps.Copy(known, checkpoint)
	var now map[string]string
	var choice string
	err := t.dev.Do(func() (err error) {
		t.dev.SetProbes(known)
		choice, err = m.Probe(batch, size.H, size.W)
		now = t.dev.Probes()
		return err
	})
	if err != nil {
		return nil, err
	}
	used := map[string]string{choice: now[choice]}
	if t.probeFile == "" || len(now) == before {
		return used, nil
	}
	b, err := json.Marshal(now)
	if err != nil {
		return nil, err
	}
	if err := replacefile.Write(t.probeFile, b); err != nil && !t.unkept {
		t.unkept = true
		warn(fmt.Sprintf("which form of attention is fastest is measured again by each process, and results may differ in the last bits, because it cannot be kept: %v", err))
	}
	return used, nil
}
