// Package pilot runs jobs on a cluster whose nodes share the disk of the project, and
// nothing else.
//
// A Cluster is the launcher: it writes the jobs of an apply below runs/.slurm, submits an
// array of workers, breaks the claims of workers that the cluster says are gone, and
// reports how runs end. A Worker is one element of the array: it takes run after run that
// nobody works on, so that an engine, its weights and its cached tokens stay warm. Who
// works on what is decided by package claim; Slurm says only what lives.
//
//	runs/.slurm/20261128-221500-4f2a90/
//	  array.json         what was submitted; written before it is
//	  slices/0003.json   some of the jobs
//	  shared/*.json      what many jobs have in common, by digest
//	  events/*.jsonl     what workers did, a file for each process: an index of
//	                     generations, for those who look on
//	  notes              what workers have seen of the jobs, a byte for each
//	  turn.json          when the scheduler was asked last
//	  beats/*            written to by workers that live
//	  log/*.txt          output of the elements
//	  cancelled          somebody has cancelled the array
//	  ended              the array has no element any more
package pilot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/claim"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/launch"
	"github.com/loralab/loralab/runner/plan"
	"github.com/loralab/loralab/runner/provenance"
	"github.com/loralab/loralab/runner/store"
)

const (
	arrayFormat = 1
	// sliceMost is how many jobs a slice has at most: a worker reads it whole.
	sliceMost = 50
)

// Array is what was handed to the workers of an array of jobs.
type Array struct {
	Format int       `json:"format"`
	Name   string    `json:"name"` // unique; that of the directory, and of the jobs
	Root   string    `json:"root"` // of the project, absolute
	Made   time.Time `json:"made"`
	// Command is what was typed.
	Command []string `json:"command"`
	Engine  string   `json:"engine"` // path of the binary
	Workers int      `json:"workers"`
	// Chunk is how many elements one submission may have; 0: all.
	Chunk int `json:"chunk,omitempty"`
	// Limit is how long an element may take; workers end before.
	Limit      time.Duration `json:"limit_ns"`
	Retries    int           `json:"retries"`
	Silence    time.Duration `json:"silence_ns"`
	Checkpoint time.Duration `json:"checkpoint_ns"`
	Jobs       int           `json:"jobs"`
	Slices     int           `json:"slices"`
	// Exclude is the nodes that get no worker, since workers ended there for no fault
	// of a run.
	Exclude []string `json:"exclude,omitempty"`
	// Resources is the digest of what its workers get, to be compared.
	Resources string `json:"resources,omitempty"`
	// Asks is of the searches that workers carry out; nil for none.
	Asks *Asks `json:"asks,omitempty"`
}

// Asks is what a worker needs to ask searches for their trials: the experiments, as they
// were given to apply.
type Asks struct {
	plan.Ask
	Smoke bool `json:"smoke,omitempty"`
	// Searches are the digests of the searches, by their names: see plan.Search.
	Searches map[string]string `json:"searches"`
}

// has reports whether its searches are, among others, those of other.
func (a *Asks) has(other *Asks) bool {
	if other == nil {
		return true
	}
	for name, digest := range other.Searches {
		if a == nil || a.Searches[name] != digest {
			return false
		}
	}
	return true
}

// saved is a job in a slice.
type saved struct {
	ID         string          `json:"id"`
	Experiment string          `json:"experiment"`
	Cell       string          `json:"cell"`
	Fold       name.Fold       `json:"fold,omitzero"`
	Seed       uint64          `json:"seed"`
	Dir        string          `json:"dir"` // relative to the project, with slashes
	Request    json.RawMessage `json:"request"`
	// Evaluations are the identities of those of the request, in its order.
	Evaluations []string `json:"evaluations,omitempty"`
	Places      string   `json:"places"`           // digest of a shared file
	Source      string   `json:"source,omitempty"` // the same
	Attempts    int      `json:"attempts,omitempty"`
	// After is the generation that the run had when the array was made: how that
	// ended is no news.
	After int `json:"after,omitempty"`
}

// ArrayDir is the directory of an array of the project at root.
func ArrayDir(root, name string) string { return filepath.Join(root, "runs", store.Arrays, name) }

// newName is a name that no other array has; names are in the order of time.
func newName() string {
	return time.Now().UTC().Format("20060102-150405-") + claim.Nonce()[:6]
}

// write writes the array and its jobs. Jobs of one shape come one after another, so that
// one worker has them. The array file is the last: without it there is no array.
func (a *Array) write(jobs []*launch.Job) error {
	a.Format, a.Jobs = arrayFormat, len(jobs)
	a.Slices = max((len(jobs)+sliceMost-1)/sliceMost, min(a.Workers, len(jobs)))
	dir := ArrayDir(a.Root, a.Name)
	for _, sub := range []string{"slices", "shared", "events", "beats", "log"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o777); err != nil {
			return fmt.Errorf("writing the jobs of an array: %w", err)
		}
	}
	shapes := map[*launch.Job]string{}
	for _, job := range jobs {
		shapes[job] = shapeOf(job)
	}
	jobs = slices.Clone(jobs)
	order := map[string]int{}
	for _, job := range jobs {
		if _, there := order[shapes[job]]; !there {
			order[shapes[job]] = len(order)
		}
	}
	slices.SortStableFunc(jobs, func(x, y *launch.Job) int { return order[shapes[x]] - order[shapes[y]] })
	w := writer{dir: dir, written: map[string]bool{}}
	for i := range a.Slices {
		first, end := a.part(i)
		if err := w.slice(a.Root, i, jobs[first:end]); err != nil {
			return fmt.Errorf("writing the jobs of an array: %w", err)
		}
	}
	text, err := json.MarshalIndent(a, "", "  ")
	if err == nil {
		err = replacefile.Write(filepath.Join(dir, arrayFile), append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("writing the jobs of an array: %w", err)
	}
	return nil
}

// part is the numbers of the jobs of a slice: the first, and that after the last.
func (a *Array) part(slice int) (first, end int) {
	return slice * a.Jobs / a.Slices, (slice + 1) * a.Jobs / a.Slices
}

const arrayFile = "array.json"

// Ended is a file in the directory of an array that has no element any more.
const Ended = "ended"

// shapeOf is what runs have in common that share weights and cached tokens in an engine.
func shapeOf(job *launch.Job) string {
	h := sha256.New()
	text, err := rundir.Marshal(job.Run.Spec.GetBackbone())
	if err == nil {
		h.Write(text)
		text, err = rundir.Marshal(job.Run.Spec.GetData())
	}
	if err != nil {
		return job.Run.ID
	}
	h.Write(text)
	return string(h.Sum(nil))
}

// writer writes slices, and what their jobs share once.
type writer struct {
	dir     string
	written map[string]bool
}

func (w *writer) slice(root string, i int, jobs []*launch.Job) error {
	var all []saved
	for _, job := range jobs {
		s, err := w.job(root, job)
		if err != nil {
			return err
		}
		all = append(all, s)
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return replacefile.Write(slicePath(w.dir, i), text)
}

func slicePath(dir string, i int) string {
	return filepath.Join(dir, "slices", fmt.Sprintf("%04d.json", i))
}

func (w *writer) job(root string, job *launch.Job) (saved, error) {
	run := job.Run
	request := &spec.RunRequest{Id: run.ID, Spec: run.Spec, Train: job.Train, Label: run.Label, Peft: run.PEFT, Pause: job.Pause}
	rel, err := filepath.Rel(root, job.Dir)
	if err != nil {
		return saved{}, err
	}
	s := saved{ID: run.ID, Experiment: run.Experiment, Cell: run.Cell, Fold: run.Fold, Seed: run.Seed, Dir: filepath.ToSlash(rel), Attempts: job.Attempts}
	for _, e := range job.Evaluations {
		request.Evaluations = append(request.Evaluations, e.Spec)
		s.Evaluations = append(s.Evaluations, e.ID)
	}
	if s.Request, err = rundir.Marshal(request); err != nil {
		return s, err
	}
	text, err := rundir.Marshal(run.Places)
	if err == nil {
		s.Places, err = w.share(text)
	}
	if err == nil && job.Source != nil {
		if text, err = json.Marshal(job.Source); err == nil {
			s.Source, err = w.share(text)
		}
	}
	if err != nil {
		return s, err
	}
	at, err := store.OpenRun(root, s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil // its record is written before it is handed out
	}
	if err != nil {
		return s, err
	}
	defer at.Close()
	state, err := claim.Read(at)
	s.After = state.Generation
	if state.Open() {
		s.After-- // how that ends is news
	}
	return s, err
}

// share writes a text once, and returns its digest.
func (w *writer) share(text []byte) (string, error) {
	// Texts of protocol buffers differ in spaces from time to time.
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return "", err
	}
	sum := sha256.Sum256(b.Bytes())
	digest := hex.EncodeToString(sum[:16])
	if w.written[digest] {
		return digest, nil
	}
	w.written[digest] = true
	return digest, replacefile.Write(sharedPath(w.dir, digest), b.Bytes())
}

func sharedPath(dir, digest string) string { return filepath.Join(dir, "shared", digest+".json") }

// ReadArray reads what was handed to an array.
func ReadArray(dir string) (*Array, error) {
	a := &Array{}
	text, err := os.ReadFile(filepath.Join(dir, arrayFile))
	if err == nil {
		err = json.Unmarshal(text, a)
	}
	if err == nil && a.Format != arrayFormat {
		err = fmt.Errorf("it has format %d, this runner knows %d", a.Format, arrayFormat)
	}
	if err == nil && a.Name != filepath.Base(dir) {
		err = fmt.Errorf("it is of array %.40q", a.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the array in %s: %w", dir, err)
	}
	return a, nil
}

// reader reads jobs, and what they share once.
type reader struct {
	dir     string
	root    string
	places  map[string]*spec.Places
	sources map[string]*provenance.Source
}

func newReader(dir, root string) *reader {
	return &reader{dir, root, map[string]*spec.Places{}, map[string]*provenance.Source{}}
}

func (r *reader) slice(i int) ([]saved, error) {
	text, err := os.ReadFile(slicePath(r.dir, i))
	var jobs []saved
	if err == nil {
		err = json.Unmarshal(text, &jobs)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the jobs of the array: %w", err)
	}
	return jobs, nil
}

// job is a job as it was handed out.
func (r *reader) job(s saved) (*launch.Job, error) {
	job, err := r.read(s)
	if err != nil {
		return nil, fmt.Errorf("reading the job for %s: %w", name.Run(s.Experiment, s.Cell, name.Repeat{Fold: s.Fold, Seed: s.Seed}), err)
	}
	return job, nil
}

func (r *reader) read(s saved) (*launch.Job, error) {
	request := &spec.RunRequest{}
	if err := rundir.Unmarshal(s.Request, request); err != nil {
		return nil, err
	}
	if id := spec.Identity(request.GetSpec()); id != s.ID {
		return nil, fmt.Errorf("its specification is that of run %s", rundir.Short(id))
	}
	run := &experiment.Run{
		Experiment: s.Experiment, Cell: s.Cell, Fold: s.Fold, Seed: s.Seed, ID: s.ID,
		Spec: request.GetSpec(), Label: request.GetLabel(), PEFT: request.GetPeft(),
	}
	if len(s.Evaluations) != len(request.GetEvaluations()) {
		return nil, errors.New("its evaluations do not fit their identities")
	}
	job := &launch.Job{Run: run, Train: request.GetTrain(), Pause: request.GetPause(), Attempts: s.Attempts, Dir: filepath.Join(r.root, filepath.FromSlash(s.Dir))}
	for i, e := range request.GetEvaluations() {
		job.Evaluations = append(job.Evaluations, experiment.Evaluation{ID: s.Evaluations[i], Spec: e})
	}
	run.Evaluations = job.Evaluations
	if r.places[s.Places] == nil {
		places := &spec.Places{}
		text, err := os.ReadFile(sharedPath(r.dir, s.Places))
		if err == nil {
			err = rundir.Unmarshal(text, places)
		}
		if err != nil {
			return nil, err
		}
		r.places[s.Places] = places
	}
	run.Places = r.places[s.Places]
	if s.Source != "" && r.sources[s.Source] == nil {
		source := &provenance.Source{}
		text, err := os.ReadFile(sharedPath(r.dir, s.Source))
		if err == nil {
			err = json.Unmarshal(text, source)
		}
		if err != nil {
			return nil, err
		}
		r.sources[s.Source] = source
	}
	job.Source = r.sources[s.Source]
	return job, nil
}
