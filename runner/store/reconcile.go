package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

// requestFile of a run directory holds all that the engine was told.
const requestFile = "request.json"

// changes is what the directories said that the database did not.
type changes struct {
	runs   map[string]*Run
	gone   map[string]bool
	labels []Label
}

// reconcile brings snapshot up to what the run directories below root say.
func reconcile(root string, snapshot *Snapshot) (changes, error) {
	changed := changes{runs: map[string]*Run{}, gone: map[string]bool{}}
	dirs := map[string]bool{} // known
	for id, run := range snapshot.Runs {
		dirs[run.Dir] = true
		result := filepath.Join(root, filepath.FromSlash(run.Dir), "result.json")
		if run.State == Done {
			if _, err := os.Stat(result); err == nil {
				continue
			} else if !errors.Is(err, fs.ErrNotExist) {
				return changed, fmt.Errorf("looking for the result of run %s: %w", run.Name(), err)
			}
			// Someone removed it: it has to be run again.
			delete(snapshot.Runs, id)
			changed.gone[id] = true
			dirs[run.Dir] = false
			continue
		}
		before := run.clone()
		if err := readDir(root, run); err != nil {
			return changed, err
		}
		if !run.same(before) {
			changed.runs[id] = run
		}
	}
	found, err := filepath.Glob(filepath.Join(globEscape(root), "runs", "*", "*", requestFile))
	if err != nil {
		return changed, fmt.Errorf("looking for run directories: %w", err)
	}
	for _, path := range found {
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return changed, fmt.Errorf("looking for run directories: %w", err)
		}
		if rel = filepath.ToSlash(rel); dirs[rel] {
			continue
		}
		run, label, err := adopt(root, rel)
		if err != nil {
			return changed, err
		}
		if known := snapshot.Runs[run.ID]; known != nil {
			continue // a copy of a run that lies elsewhere
		}
		snapshot.Runs[run.ID] = run
		delete(changed.gone, run.ID)
		changed.runs[run.ID] = run
		if !hasLabel(snapshot.Labels, label) {
			snapshot.Labels = append(snapshot.Labels, label)
			changed.labels = append(changed.labels, label)
		}
	}
	return changed, nil
}

// adopt makes the record of a run that the database does not know from its
// directory.
func adopt(root, dir string) (*Run, Label, error) {
	path := filepath.Join(root, filepath.FromSlash(dir), requestFile)
	request := &spec.RunRequest{}
	info, err := readMessage(path, request)
	if err != nil {
		return nil, Label{}, err
	}
	run := &Run{
		ID:          request.GetId(),
		Experiment:  request.GetLabel().GetExperiment(),
		Cell:        request.GetLabel().GetCell(),
		Seed:        request.GetSpec().GetSeed(),
		State:       Stopped,
		Attempts:    1,
		Dir:         dir,
		Evaluations: map[string]*spec.Evaluated{},
		Created:     info.ModTime(),
	}
	if err := run.SetSpec(request.GetSpec()); err != nil {
		return nil, Label{}, err
	}
	if err := readDir(root, run); err != nil {
		return nil, Label{}, err
	}
	if run.Summary != nil {
		run.State = Done
	}
	return run, Label{run.Experiment, run.Cell, run.Seed, run.ID}, nil
}

// readDir sets what the directory of a run says: summary, evaluations, the
// step to go on at. The state stays: whether all was done that was asked is
// for the plan to say.
func readDir(root string, run *Run) error {
	dir := filepath.Join(root, filepath.FromSlash(run.Dir))
	summary := &spec.Summary{}
	info, err := readMessage(filepath.Join(dir, "result.json"), summary)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		run.Summary = nil
	case err != nil:
		return err
	case summary.GetId() == run.ID:
		if err := spec.Intact(summary, run.revision()); err != nil {
			return fmt.Errorf("%s is damaged: %w; remove the run with `runner rm %.12s`, then apply its experiment again", filepath.Join(dir, "result.json"), err, run.ID)
		}
		run.Summary, run.Step, run.Steps = summary, summary.GetSteps(), summary.GetSteps()
		if run.Ended.IsZero() {
			run.Ended = info.ModTime().Truncate(time.Millisecond)
		}
	}
	files, err := filepath.Glob(filepath.Join(globEscape(dir), "evaluations", "*.json"))
	if err != nil {
		return fmt.Errorf("looking for evaluations of run %s: %w", run.Name(), err)
	}
	evaluations := map[string]*spec.Evaluated{}
	for _, file := range files {
		e := &spec.Evaluated{}
		if _, err := readMessage(file, e); err != nil {
			return err
		}
		// The engine scores again what was changed.
		if spec.Intact(e, run.revision()) == nil {
			evaluations[e.GetId()] = e
		}
	}
	run.Evaluations = evaluations
	if run.Summary != nil {
		return nil
	}
	run.Checkpoint, err = checkpointStep(filepath.Join(dir, "checkpoints", "last.safetensors"))
	if run.State != Running {
		run.Step = run.Checkpoint
	}
	return err
}

// revision is that of the engine's arithmetic, without decoding the rest of the
// specification.
func (r *Run) revision() uint32 {
	var s struct {
		Revision uint32 `json:"revision"`
	}
	if json.Unmarshal(r.SpecJSON, &s) != nil {
		return spec.Revision // Spec says what is wrong
	}
	return s.Revision
}

// checkpointStep is the step a checkpoint was written after, 0 where there is
// none. The engine replaces checkpoints atomically, so a damaged one is an
// error and not a run to be begun anew.
func checkpointStep(path string) (uint64, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	file, err := safetensors.Open(path)
	if err != nil {
		return 0, fmt.Errorf("reading checkpoint: %w; remove the file to begin this run anew", err)
	}
	defer file.Close()
	step, err := strconv.ParseUint(file.Metadata()["step"], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("reading the step of checkpoint %s: %w; remove the file to begin this run anew", path, err)
	}
	return step, nil
}

func readMessage(path string, m proto.Message) (fs.FileInfo, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading what a run left: %w", err)
	}
	if err := decode(text, m); err != nil {
		return nil, fmt.Errorf("reading %s: %w; remove the run directory to run it anew", path, err)
	}
	return os.Stat(path)
}

func (r *Run) clone() *Run {
	c := *r
	return &c
}

// same reports whether readDir changed nothing of a run.
func (r *Run) same(b *Run) bool {
	if r.Step != b.Step || r.Steps != b.Steps || !proto.Equal(r.Summary, b.Summary) ||
		(r.Summary == nil) != (b.Summary == nil) || len(r.Evaluations) != len(b.Evaluations) {
		return false
	}
	for id, e := range r.Evaluations {
		if !proto.Equal(e, b.Evaluations[id]) {
			return false
		}
	}
	return true
}

func hasLabel(labels []Label, l Label) bool {
	for _, known := range labels {
		if known == l {
			return true
		}
	}
	return false
}

// globEscape makes a path stand for itself in a pattern.
func globEscape(path string) string {
	escaped := make([]byte, 0, len(path))
	for i := range len(path) {
		switch path[i] {
		case '*', '?', '[', '\\':
			escaped = append(escaped, '\\')
		}
		escaped = append(escaped, path[i])
	}
	return string(escaped)
}
