package rundir

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"

	"github.com/loralab/loralab/core/spec"
)

// Progress is the state of a training other than its tensors: the metadata of a
// checkpoint.
type Progress struct {
	ID         string // of the run
	Step       int
	Steps      int    // of the whole training
	Journal    int64  // length of the journal
	JournalSum string // SHA-256 of it
	Seconds    float64
	Best       int           // step of the best validation so far
	BestOf     *spec.Metrics // nil: there was none
	BestSeal   string        // of the checkpoint with its weights
	Unscored   bool          // the validation after Step was interrupted
	Stale      int           // validations since one that was better by minDelta
	Against    *float64      // the monitor's value of that one; nil: none
	Recent     []float64     // losses of the last steps
	Pixels     []uint64      // of each class in the training split, if losses weigh by them
	Uncounted  int           // updates in which no pixel counted
	Moves      *Moves
	Probes     map[string]string // the form of attention that the training computes with
}

// Moves is what a training knows of the tensors of its adapter.
type Moves struct {
	// Start is SHA-256 of each tensor at the start, by name.
	Start map[string]string
	// Still had no gradient other than 0 so far, and may have one.
	Still []string
	// Updates with gradients that Still was looked at in.
	Updates int
}

// Keys that are read without the rest.
const (
	idKey   = "id"
	stepKey = "step"
)

// Metadata is the progress as a checkpoint has it.
func (p Progress) Metadata() (map[string]string, error) {
	meta := map[string]string{
		"format": "pt", idKey: p.ID,
		stepKey: strconv.Itoa(p.Step), "steps": strconv.Itoa(p.Steps),
		"journal": strconv.FormatInt(p.Journal, 10), "journal_sha256": p.JournalSum,
		"seconds": strconv.FormatFloat(p.Seconds, 'g', -1, 64),
		"best":    strconv.Itoa(p.Best), "best_metrics": "{}", "best_sha256": p.BestSeal,
		"stale": strconv.Itoa(p.Stale), "uncounted": strconv.Itoa(p.Uncounted),
	}
	if p.BestOf != nil {
		text, err := Marshal(p.BestOf)
		if err != nil {
			return nil, err
		}
		meta["best_metrics"] = string(text)
	}
	if p.Unscored {
		meta["unscored"] = "true"
	}
	for key, value := range map[string]any{
		"probes": p.Probes, "pixels": p.Pixels, "recent": p.Recent, "against": p.Against, "moves": p.Moves,
	} {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		meta[key] = string(text)
	}
	return meta, nil
}

// ParseProgress is the opposite of Metadata.
func ParseProgress(meta map[string]string) (p Progress, err error) {
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
	p.ID = meta[idKey]
	p.Step, p.Journal, p.Best, p.Stale = int(number(stepKey)), number("journal"), int(number("best")), int(number("stale"))
	if _, ok := meta["steps"]; ok { // nothing depends on it
		p.Steps = int(number("steps"))
	}
	p.Unscored = meta["unscored"] == "true"
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
		fail(Unmarshal([]byte(best), p.BestOf))
	}
	return p, err
}

// StepOf is the step that the checkpoint with this metadata was written after.
func StepOf(meta map[string]string) (uint64, error) {
	step, err := strconv.ParseUint(meta[stepKey], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("its step: %w", err)
	}
	return step, nil
}

// BestSealOf is the seal of the best checkpoint that belongs to the last one with this
// metadata, "" where there was no validation yet.
func BestSealOf(meta map[string]string) string {
	if best := meta["best_metrics"]; best == "" || best == "{}" {
		return ""
	}
	return meta["best_sha256"]
}

// AsOf is the metadata of a checkpoint of another run with the same weights.
func AsOf(id string, meta map[string]string) map[string]string {
	meta = maps.Clone(meta)
	meta[idKey] = id
	return meta
}
