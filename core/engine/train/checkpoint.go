package train

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

const generatorName = "generator"

// tensorsOf copies tensors off the device, on its thread.
func tensorsOf(ns []named) []safetensors.Tensor {
	out := make([]safetensors.Tensor, len(ns))
	for i, n := range ns {
		dt := safetensors.F32
		switch n.t.DType() {
		case torch.Int64:
			dt = safetensors.I64
		case torch.Uint8:
			dt = safetensors.U8
		}
		out[i] = safetensors.Tensor{Name: n.name, DType: dt, Shape: n.t.Shape(), Data: n.t.Bytes()}
	}
	return out
}

// save writes a checkpoint in one step, and returns its seal. Optimizer and
// generator are left out of one that is only to be scored. Weights that are no
// numbers, or came from a backbone that is not the run's, are not written.
func (s *session) save(name string, whole bool, p rundir.Progress) (seal string, err error) {
	if err := s.vouch(); err != nil {
		return "", err
	}
	if err := s.dir.there(); err != nil {
		return "", err
	}
	var ts []safetensors.Tensor
	err = s.t.dev.Do(func() error {
		ns := s.net.weights()
		if whole {
			for _, o := range s.opt.State() {
				ns = append(ns, named{o.Name, o.T})
			}
			ns = append(ns, s.average.state()...)
		}
		ts = tensorsOf(ns)
		if whole {
			state := s.t.dev.GeneratorState()
			ts = append(ts, safetensors.Tensor{Name: generatorName, DType: safetensors.U8, Shape: []int64{int64(len(state))}, Data: state})
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("checkpoint: %w", err)
	}
	for _, t := range ts {
		if !t.Finite() {
			return "", fmt.Errorf("%s is not finite after step %d; %s", t.Name, s.step, s.lastGood())
		}
	}
	meta, err := p.Metadata()
	if err != nil {
		return "", fmt.Errorf("checkpoint: %w", err)
	}
	seal, err = safetensors.WriteSealed(s.dir.Path(name), ts, meta)
	if err != nil {
		return "", fmt.Errorf("checkpoint after step %d: %w; %s", s.step, err, s.lastGood())
	}
	return seal, nil
}

// checkpointed is a verified checkpoint.
type checkpointed struct {
	*safetensors.File
	path string
	rundir.Progress
}

// resumable is the last checkpoint, if the training can continue from it to the
// same end: the best weights so far have to exist too. Otherwise it is nil, and why
// says what is wrong; "" where nothing was trained yet.
func (s *session) resumable() (last *checkpointed, why string, err error) {
	var damaged *rundir.DamagedError
	f, err := s.dir.Checkpoint(rundir.Last)
	switch {
	case errors.As(err, &damaged):
		return nil, damaged.Error(), nil
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(s.dir.Path(rundir.Best)); err == nil {
			why = s.dir.Path(rundir.Last) + " is missing"
		}
		return nil, why, nil
	case err != nil:
		return nil, "", fmt.Errorf("reading checkpoint: %w", err)
	}
	last = &checkpointed{File: f, path: s.dir.Path(rundir.Last)}
	if last.Progress, err = rundir.ParseProgress(f.Metadata()); err != nil {
		f.Close()
		return nil, (&rundir.DamagedError{Path: last.path, Err: err}).Error(), nil
	}
	if last.BestOf == nil {
		return last, "", s.settleBest("")
	}
	if err := s.settleBest(last.BestSeal); err != nil {
		f.Close()
		return nil, "", err
	}
	best, err := s.dir.Checkpoint(rundir.Best)
	switch {
	case errors.As(err, &damaged):
		why = damaged.Error()
	case errors.Is(err, fs.ErrNotExist):
		why = s.dir.Path(rundir.Best) + " is missing"
	case err != nil:
		f.Close()
		return nil, "", fmt.Errorf("reading checkpoint: %w", err)
	default:
		defer best.Close()
		switch step, err := rundir.StepOf(best.Metadata()); {
		case err != nil:
			why = (&rundir.DamagedError{Path: s.dir.Path(rundir.Best), Err: err}).Error()
		case step != uint64(last.Best):
			why = fmt.Sprintf("%s is of step %d, and the best validation was after step %d", s.dir.Path(rundir.Best), step, last.Best)
		case best.Seal() != last.BestSeal:
			why = fmt.Sprintf("%s is not the one that was written with %s", s.dir.Path(rundir.Best), rundir.Last)
		default:
			return last, "", nil
		}
	}
	return nil, why, f.Close()
}

// settleBest finishes what a process that was killed had begun: a best checkpoint
// that waits takes its place if the last one knows of it, and goes otherwise.
func (s *session) settleBest(seal string) error {
	f, err := s.dir.Checkpoint(rundir.NextBest)
	var damaged *rundir.DamagedError
	known := false
	switch {
	case err == nil:
		known = seal != "" && f.Seal() == seal
		if err := f.Close(); err != nil {
			return err
		}
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.As(err, &damaged):
		return fmt.Errorf("reading checkpoint: %w", err)
	}
	if known {
		return s.dir.promote()
	}
	return os.Remove(s.dir.Path(rundir.NextBest))
}

// weights reads Best or Last of a finished run into the network.
func (s *session) weights(name string, summary *spec.Summary) (p rundir.Progress, err error) {
	f, err := s.dir.Weights(name, summary)
	if err != nil {
		return p, fmt.Errorf("reading weights: %w", err)
	}
	defer f.Close()
	c := &checkpointed{File: f, path: s.dir.Path(name)}
	if c.Progress, err = rundir.ParseProgress(f.Metadata()); err != nil {
		return p, fmt.Errorf("reading checkpoint %s: %w", c.path, err)
	}
	want := summary.GetSteps()
	if name == rundir.Best {
		want = summary.GetBestStep()
	}
	if summary.GetDigest() != "" && uint64(c.Step) != want {
		return p, fmt.Errorf("%s is of step %d, and %s is of step %d; %s", c.path, c.Step, rundir.Result, want, s.dir.Cure())
	}
	return c.Progress, s.restore(c, false)
}

// restore reads a checkpoint into the network, and the rest of the training's
// state if whole.
func (s *session) restore(c *checkpointed, whole bool) error {
	return s.t.dev.Do(func() error {
		want := s.net.weights()
		if whole {
			for _, o := range s.opt.State() {
				want = append(want, named{o.Name, o.T})
			}
			want = append(want, s.average.state()...)
		}
		var faults []string
		for _, n := range want {
			t, ok := c.Get(n.name)
			// What is scored of a training is the mean of its weights. The best
			// checkpoint holds that alone.
			if mean, has := c.Get(averageOf(n.name)); has && !whole {
				t = mean
			}
			switch {
			case !ok:
				faults = append(faults, "missing "+n.name)
			case !slices.Equal(t.Shape, n.t.Shape()):
				faults = append(faults, fmt.Sprintf("%s is %v, want %v", n.name, t.Shape, n.t.Shape()))
			default:
				s.t.dev.Scope(func() { n.t.Assign(s.t.dev.View(t.Data, n.t.DType(), t.Shape...)) })
			}
		}
		if len(faults) > 0 {
			return fmt.Errorf("reading checkpoint %s: %s", c.path, strings.Join(faults, "; "))
		}
		s.net.adapters.Changed()
		if g, ok := c.Get(generatorName); ok && whole {
			s.generator(g.Data, c.Step)
		}
		if len(c.Pixels) > 0 {
			return s.weighed(c.Pixels)
		}
		return nil
	})
}

// generator continues the device's generator. That of another kind of device has another
// state: then it begins again, at a seed of the step. It is called on the device's
// thread.
func (s *session) generator(state []byte, step int) {
	if len(state) == len(s.t.dev.GeneratorState()) {
		s.t.dev.SetGeneratorState(slices.Clone(state))
		return
	}
	s.t.dev.Seed(rng.New(s.spec.Seed, "dropout", strconv.Itoa(step)).Uint64())
	s.warn(fmt.Sprintf("the training was begun on another kind of device and continues on %s: dropout draws other numbers than it would have there, and sums have other last bits", s.t.dev))
}

// digest is SHA-256 over names and bytes of all that was trained, sorted.
func digest(ns []named) string {
	ns = slices.Clone(ns)
	slices.SortFunc(ns, func(a, b named) int { return strings.Compare(a.name, b.name) })
	h := sha256.New()
	for _, n := range ns {
		fmt.Fprintf(h, "%s\n%v\n", n.name, n.t.Shape())
		h.Write(n.t.Bytes())
	}
	return hex.EncodeToString(h.Sum(nil))
}
