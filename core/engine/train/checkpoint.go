package train

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/saved"
	"github.com/loralab/loralab/core/spec"
)

// progress is where a training stands besides its tensors; the metadata of a
// checkpoint.
type progress struct {
	Step       int
	Journal    int64  // length of metrics.jsonl
	JournalSum string // SHA-256 of it
	Seconds    float64
	Best       int           // step of the best validation so far
	BestOf     *spec.Metrics // nil: there was none
	BestSeal   string        // of the checkpoint with its weights
	Stale      int           // validations since one that was better by minDelta
	Against    *float64      // the monitor's value of that one; nil: none
	Recent     []float64     // losses of the last steps
	Pixels     []uint64      // of each class in the training split, if losses weigh by them
	Uncounted  int           // updates in which no pixel counted
	Moves      *moves
	Probes     map[string]string
}

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
func (s *session) save(name string, whole bool, p progress) (seal string, err error) {
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
	meta := map[string]string{
		"format": "pt", "id": s.req.Id,
		"step": strconv.Itoa(p.Step), "steps": strconv.Itoa(s.total),
		"journal": strconv.FormatInt(p.Journal, 10), "journal_sha256": p.JournalSum,
		"seconds": strconv.FormatFloat(p.Seconds, 'g', -1, 64),
		"best":    strconv.Itoa(p.Best), "best_metrics": "{}", "best_sha256": p.BestSeal,
		"stale": strconv.Itoa(p.Stale), "uncounted": strconv.Itoa(p.Uncounted),
	}
	if p.BestOf != nil {
		b, err := compactJSON(p.BestOf)
		if err != nil {
			return "", fmt.Errorf("checkpoint: %w", err)
		}
		meta["best_metrics"] = string(b)
	}
	for key, value := range map[string]any{
		"probes": p.Probes, "pixels": p.Pixels, "recent": p.Recent, "against": p.Against, "moves": p.Moves,
	} {
		b, err := json.Marshal(value)
		if err != nil {
			return "", fmt.Errorf("checkpoint: %w", err)
		}
		meta[key] = string(b)
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
	progress
}

// resumable is the last checkpoint, if the training can continue from it to the
// same end: the best weights so far have to exist too. Otherwise it is nil, and why
// says what is wrong; "" where nothing was trained yet.
func (s *session) resumable() (last *checkpointed, why string, err error) {
	var damaged *saved.DamagedError
	f, err := s.dir.Checkpoint(saved.Last)
	switch {
	case errors.As(err, &damaged):
		return nil, damaged.Error(), nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, "", nil
	case err != nil:
		return nil, "", fmt.Errorf("reading checkpoint: %w", err)
	}
	last = &checkpointed{File: f, path: s.dir.Path(saved.Last)}
	if last.progress, err = parseProgress(f.Metadata()); err != nil {
		f.Close()
		return nil, (&saved.DamagedError{Path: last.path, Err: err}).Error(), nil
	}
	if last.BestOf == nil {
		return last, "", s.settleBest("")
	}
	if err := s.settleBest(last.BestSeal); err != nil {
		f.Close()
		return nil, "", err
	}
	best, err := s.dir.Checkpoint(saved.Best)
	switch {
	case errors.As(err, &damaged):
		why = damaged.Error()
	case errors.Is(err, fs.ErrNotExist):
		why = s.dir.Path(saved.Best) + " is missing"
	case err != nil:
		f.Close()
		return nil, "", fmt.Errorf("reading checkpoint: %w", err)
	default:
		defer best.Close()
		switch step := best.Metadata()["step"]; {
		case step != strconv.Itoa(last.Best):
			why = fmt.Sprintf("%s is of step %s, and the best validation was after step %d", s.dir.Path(saved.Best), step, last.Best)
		case best.Seal() != last.BestSeal:
			why = fmt.Sprintf("%s is not the one that was written with %s", s.dir.Path(saved.Best), saved.Last)
		default:
			return last, "", nil
		}
	}
	return nil, why, f.Close()
}

// settleBest finishes what a process that was killed had begun: a best checkpoint
// that waits takes its place if the last one knows of it, and goes otherwise.
func (s *session) settleBest(seal string) error {
	f, err := s.dir.Checkpoint(nextBest)
	var damaged *saved.DamagedError
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
	return os.Remove(s.dir.Path(nextBest))
}

// weights reads Best or Last of a finished run into the network.
func (s *session) weights(name string, summary *spec.Summary) (p progress, err error) {
	f, err := s.dir.Weights(name, summary)
	if err != nil {
		return p, fmt.Errorf("reading weights: %w", err)
	}
	defer f.Close()
	c := &checkpointed{File: f, path: s.dir.Path(name)}
	if c.progress, err = parseProgress(f.Metadata()); err != nil {
		return p, fmt.Errorf("reading checkpoint %s: %w", c.path, err)
	}
	want := summary.GetSteps()
	if name == saved.Best {
		want = summary.GetBestStep()
	}
	if summary.GetDigest() != "" && uint64(c.Step) != want {
		return p, fmt.Errorf("%s is of step %d, and %s is of step %d; %s", c.path, c.Step, saved.Result, want, s.dir.Cure())
	}
	return c.progress, s.restore(c, false)
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
			s.t.dev.SetGeneratorState(slices.Clone(g.Data))
		}
		if len(c.Pixels) > 0 {
			return s.weighed(c.Pixels)
		}
		return nil
	})
}

func parseProgress(meta map[string]string) (p progress, err error) {
	fail := func(e error) {
		if err == nil {
			err = e
		}
	}
	number := func(key string) int64 {
		v, e := strconv.ParseInt(meta[key], 10, 64)
		fail(e)
		return v
	}
	p.Step, p.Journal, p.Best, p.Stale = int(number("step")), number("journal"), int(number("best")), int(number("stale"))
	p.JournalSum, p.BestSeal = meta["journal_sha256"], meta["best_sha256"]
	var e error
	p.Seconds, e = strconv.ParseFloat(meta["seconds"], 64)
	fail(e)
	fail(json.Unmarshal([]byte(meta["probes"]), &p.Probes))
	fail(json.Unmarshal([]byte(meta["pixels"]), &p.Pixels))
	if _, ok := meta["uncounted"]; ok { // from revision 3 on
		p.Uncounted = int(number("uncounted"))
		fail(json.Unmarshal([]byte(meta["recent"]), &p.Recent))
		fail(json.Unmarshal([]byte(meta["against"]), &p.Against))
		fail(json.Unmarshal([]byte(meta["moves"]), &p.Moves))
	}
	if best := meta["best_metrics"]; best != "{}" {
		p.BestOf = &spec.Metrics{}
		fail(protojson.Unmarshal([]byte(best), p.BestOf))
	}
	return p, err
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
