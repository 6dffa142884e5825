package train

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/torch"
)

// progress is where a training stands besides its tensors; the metadata of a
// checkpoint.
type progress struct {
	Step    int
	Journal int64 // length of metrics.jsonl
	Seconds float64
	Best    int           // step of the best validation so far
	BestOf  *spec.Metrics // nil: there was none
	Stale   int           // validations since
	Recent  []float64     // losses of the last steps
	Pixels  []uint64      // of each class in the training split, if losses weigh by them
	Probes  map[string]string
}

const (
	lastCheckpoint = "last.safetensors"
	bestCheckpoint = "best.safetensors"
	generatorName  = "generator"
)

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

// save writes a checkpoint in one step. Optimiser and generator are left out of
// one that is only to be scored.
func (s *session) save(name string, whole bool, p progress) error {
	var ts []safetensors.Tensor
	err := s.t.dev.Do(func() error {
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
		return fmt.Errorf("checkpoint: %w", err)
	}
	best := "{}"
	if p.BestOf != nil {
		b, err := compactJSON(p.BestOf)
		if err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		best = string(b)
	}
	probes, err := json.Marshal(p.Probes)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	pixels, err := json.Marshal(p.Pixels)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	recent, err := json.Marshal(p.Recent)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	meta := map[string]string{
		"format": "pt", "id": s.req.Id,
		"step": strconv.Itoa(p.Step), "steps": strconv.Itoa(s.total),
		"journal": strconv.FormatInt(p.Journal, 10),
		"seconds": strconv.FormatFloat(p.Seconds, 'g', -1, 64),
		"best":    strconv.Itoa(p.Best), "best_metrics": best, "probes": string(probes),
		"stale": strconv.Itoa(p.Stale), "pixels": string(pixels), "recent": string(recent),
	}
	if err := safetensors.Write(s.dir.file("checkpoints", name), ts, meta); err != nil {
		return fmt.Errorf("checkpoint after step %d: %w; %s", s.step, err, s.lastGood())
	}
	return nil
}

// restore reads a checkpoint into the network, and the rest of the training's
// state if whole. It reports false where there is no file.
func (s *session) restore(name string, whole bool) (p progress, ok bool, err error) {
	path := s.dir.file("checkpoints", name)
	f, err := safetensors.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, false, nil
	}
	if err != nil {
		return p, false, fmt.Errorf("reading checkpoint: %w", err)
	}
	defer f.Close()
	if p, err = parseProgress(f.Metadata(), s.req.Id); err != nil {
		return p, false, fmt.Errorf("reading checkpoint %s: %w", path, err)
	}
	err = s.t.dev.Do(func() error {
		want := s.net.weights()
		if whole {
			for _, o := range s.opt.State() {
				want = append(want, named{o.Name, o.T})
			}
			want = append(want, s.average.state()...)
		}
		var faults []string
		for _, n := range want {
			t, ok := f.Get(n.name)
			// What is scored of a training is the mean of its weights. The best
			// checkpoint holds that alone.
			if mean, has := f.Get(averageOf(n.name)); has && !whole {
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
			return fmt.Errorf("reading checkpoint %s: %s", path, strings.Join(faults, "; "))
		}
		s.net.adapters.Changed()
		if g, ok := f.Get(generatorName); ok && whole {
			s.t.dev.SetGeneratorState(slices.Clone(g.Data))
		}
		if len(p.Pixels) > 0 {
			return s.weighed(p.Pixels)
		}
		return nil
	})
	return p, err == nil, err
}

func parseProgress(meta map[string]string, id string) (p progress, err error) {
	if meta["id"] != id {
		return p, fmt.Errorf("it is of another run, %q", meta["id"])
	}
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
	var e error
	p.Seconds, e = strconv.ParseFloat(meta["seconds"], 64)
	fail(e)
	fail(json.Unmarshal([]byte(meta["probes"]), &p.Probes))
	fail(json.Unmarshal([]byte(meta["pixels"]), &p.Pixels))
	if recent, ok := meta["recent"]; ok { // older checkpoints have none
		fail(json.Unmarshal([]byte(recent), &p.Recent))
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
