// Package ensemble is ensembles of runs: the members of a cell, whose probabilities
// are averaged. An ensemble spans runs, so it has an identity of its own, over those of
// its members, and a directory of its own, runs/EXPERIMENT/ensembles/ID:
//
//	ensemble.json        what it is
//	evaluations/*.json   as in the directory of a run
//	samples/*.png
//
// Nothing of it is in the directories of the members, and nothing is trained for it.
package ensemble

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/store"
)

const (
	// folder is where the ensembles of an experiment are, in its directory of runs.
	folder = store.Ensembles
	// record says what an ensemble is.
	record = "ensemble.json"
)

// Ensemble is one of an experiment: its members are the runs of a cell.
type Ensemble struct {
	ID         string
	Experiment string
	Cell       string
	Members    []*experiment.Run
	// Evaluations are those that all members have, with the adapter as trained. Their
	// identities are those of the ensemble.
	Evaluations []experiment.Evaluation
}

// Of are the ensembles that an experiment asks for: of each cell with two different
// runs or more.
func Of(e *experiment.Experiment) (all []*Ensemble) {
	if e.Ensemble == "" {
		return nil
	}
	byCell := map[string]*Ensemble{}
	for _, run := range e.Runs {
		one := byCell[run.Cell]
		if one == nil {
			one = &Ensemble{Experiment: e.Name, Cell: run.Cell}
			byCell[run.Cell] = one
			all = append(all, one)
		}
		one.Members = append(one.Members, run)
	}
	var several []*Ensemble
	for _, one := range all {
		if one.settle() {
			several = append(several, one)
		}
	}
	return several
}

// settle finds the identity and the evaluations; false if there are too few members.
func (e *Ensemble) settle() bool {
	var ids []string
	seen := map[string]bool{}
	var members []*experiment.Run
	for _, m := range e.Members {
		if !seen[m.ID] {
			seen[m.ID] = true
			ids, members = append(ids, m.ID), append(members, m)
		}
	}
	e.Members = members
	if len(ids) < 2 {
		return false
	}
	e.ID = spec.EnsembleIdentity(ids)
	// The same images in the same way: a member whose data was divided otherwise may
	// have been trained on what another is tested on.
	shared := map[string]int{}
	same := func(x *spec.Evaluation) string { return spec.EvaluationIdentity("", x) }
	for _, m := range members {
		for _, x := range m.Evaluations {
			shared[same(x.Spec)]++
		}
	}
	for _, x := range members[0].Evaluations {
		if x.Spec.Strength == nil && shared[same(x.Spec)] == len(members) {
			e.Evaluations = append(e.Evaluations, experiment.Evaluation{ID: spec.EvaluationIdentity(e.ID, x.Spec), Spec: x.Spec})
		}
	}
	return true
}

// Name is what the ensemble is called: "e/rank=8/ensemble".
func (e *Ensemble) Name() string { return e.Experiment + "/" + e.Cell + "/ensemble" }

// Dir is its directory, relative to the project, with slashes.
func (e *Ensemble) Dir() string { return path.Join("runs", e.below()) }

func (e *Ensemble) below() string { return path.Join(e.Experiment, folder, rundir.Short(e.ID)) }

// Scored is what the ensemble was scored in a project, by identity of the evaluation.
// What is damaged is not among it, and is scored again.
func (e *Ensemble) Scored(root string) (map[string]*spec.Evaluated, error) {
	scored := map[string]*spec.Evaluated{}
	at := rundir.Run{Dir: rundir.Dir(filepath.Join(root, filepath.FromSlash(e.Dir()))), ID: e.ID, Revision: spec.Revision}
	for _, x := range e.Evaluations {
		done, err := at.Evaluation(x.ID)
		var damaged *rundir.DamagedError
		switch {
		case errors.As(err, &damaged):
		case err != nil:
			return nil, fmt.Errorf("reading ensemble %s: %w", e.Name(), err)
		case done.GetId() == x.ID:
			scored[x.ID] = done
		}
	}
	return scored, nil
}

// Missing are the evaluations that a project does not have yet.
func (e *Ensemble) Missing(root string) (missing []experiment.Evaluation, err error) {
	scored, err := e.Scored(root)
	for _, x := range e.Evaluations {
		if scored[x.ID] == nil {
			missing = append(missing, x)
		}
	}
	return missing, err
}

// sampleImages are drawn of each evaluation, as of those of a run.
const sampleImages = 4

// Score has an engine score an ensemble on what a project misses. dirs are the
// directories of the members, relative to the project, by identity of the run.
func (e *Ensemble) Score(ctx context.Context, root string, dirs map[string]string, missing []experiment.Evaluation, engine spec.EngineClient, each func(*spec.Event)) error {
	if err := e.write(root); err != nil {
		return err
	}
	req := &spec.EnsembleRequest{Id: e.ID, Dir: filepath.Join(root, filepath.FromSlash(e.Dir())), SampleImages: sampleImages}
	for _, m := range e.Members {
		places := proto.CloneOf(m.Places)
		if places == nil {
			places = &spec.Places{}
		}
		places.RunDir = filepath.Join(root, filepath.FromSlash(dirs[m.ID]))
		req.Members = append(req.Members, &spec.RunRequest{Id: m.ID, Spec: m.Spec, Label: m.Label, Places: places})
	}
	for _, x := range missing {
		req.Evaluations = append(req.Evaluations, x.Spec)
	}
	stream, err := engine.Ensemble(ctx, req)
	for err == nil {
		var event *spec.Event
		if event, err = stream.Recv(); err == nil {
			each(event)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Record is what ensemble.json says.
type Record struct {
	ID         string   `json:"id"`
	Experiment string   `json:"experiment"`
	Cell       string   `json:"cell"`
	Members    []Member `json:"members"`
}

// Member is a run of an ensemble, as it was called when the ensemble was scored.
type Member struct {
	Name string `json:"name"`
	ID   string `json:"id"`
}

// write makes the directory and says what the ensemble is. No link below runs/ is
// followed.
func (e *Ensemble) write(root string) error {
	r := Record{ID: e.ID, Experiment: e.Experiment, Cell: e.Cell}
	for _, m := range e.Members {
		r.Members = append(r.Members, Member{m.Name(), m.ID})
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	runs, err := os.OpenRoot(filepath.Join(root, "runs"))
	if err != nil {
		return fmt.Errorf("making the directory of ensemble %s: %w", e.Name(), err)
	}
	defer runs.Close()
	if err := runs.MkdirAll(e.below(), 0o777); err != nil {
		return fmt.Errorf("making the directory of ensemble %s: %w", e.Name(), err)
	}
	return replacefile.WriteIn(runs, path.Join(e.below(), record), append(text, '\n'))
}

// Known are the ensembles that a project has directories of, by the paths of these,
// relative to the project. One whose record cannot be read has no members.
func Known(root string) (map[string]*Record, error) {
	known := map[string]*Record{}
	runs, err := os.OpenRoot(filepath.Join(root, "runs"))
	if errors.Is(err, fs.ErrNotExist) {
		return known, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for ensembles: %w", err)
	}
	defer runs.Close()
	dirs, err := fs.Glob(runs.FS(), "*/"+folder+"/*")
	if err != nil {
		return nil, fmt.Errorf("looking for ensembles: %w", err)
	}
	for _, dir := range dirs {
		id := path.Base(dir)
		info, err := runs.Lstat(dir)
		if err != nil || !info.IsDir() || len(id) != 12 || strings.Trim(id, "0123456789abcdef") != "" {
			continue
		}
		r := &Record{}
		if text, err := runs.ReadFile(path.Join(dir, record)); err != nil || json.Unmarshal(text, r) != nil || rundir.Short(r.ID) != id {
			r = &Record{}
		}
		known[path.Join("runs", dir)] = r
	}
	return known, nil
}
