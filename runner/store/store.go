// Package store remembers what was run, so that nothing is lost and nothing is
// done twice.
//
// A run directory is the truth about a run. The engine writes what it computes
// there: checkpoints, result.json, one file for each evaluation. Runner writes
// record.json next to them: the names of the run, its state, attempts, times
// and specification. .asked.json in the directory of an experiment says what its
// newest apply asked for. All of them are replaced in one step.
//
// The database runs/loralab.db is an index of the directories: it makes reading
// ten thousand of them fast, and it is made again where it is missing or
// damaged. No command needs it.
//
// A run is known by its identity alone. Cells of several experiments may be
// the same run: it is done once, and its labels tell where it shows.
package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/loralab/loralab/core/metric"
	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/tempdir"
	"github.com/loralab/loralab/runner/claim"
)

// State is where a run stands.
type State string

const (
	Queued  State = "queued"  // asked for, not started
	Running State = "running" // started, and not heard to have ended
	Done    State = "done"    // trained, and scored on all that was asked
	Failed  State = "failed"
	Stopped State = "stopped" // ended on request, resumes at the last checkpoint
	Paused  State = "paused"  // at a rung of a search, which decides whether it continues
)

// Run is what is known of one run.
type Run struct {
	ID string
	// Experiment, Cell, Fold and Seed are its oldest name, or that of As.
	Experiment string
	Cell       string
	Fold       name.Fold // none without cross-validation
	Seed       uint64

	State    State
	Step     uint64 // as far as was heard
	Steps    uint64 // 0: not known yet
	Attempts int
	Reason   string // of failing, one line
	Dir      string // relative to the root of the project, with slashes

	// Checkpoint is the step to resume at, as the run directory says.
	Checkpoint uint64

	// Rungs are the validations at which a search paused the run, by step.
	Rungs []Rung

	Summary     *spec.Summary              // nil: not trained
	Evaluations map[string]*spec.Evaluated // by identity of the evaluation

	Created time.Time
	Started time.Time // of the last attempt
	Ended   time.Time // of the last attempt

	// Holder is who works on the run now; nil for nobody.
	Holder *Holder
	// Damage is what of the run cannot be read; nil: all can.
	Damage *Damage

	about    about
	working  string          // below Dir, see Working
	names    []string        // of classes, see NameClasses
	root     string          // of the project
	wanted   map[string]bool // evaluations that applies asked for last, under any name
	mine     map[string]bool // those asked for under the name in question; nil: any
	domains  map[string]bool // of these
	specJSON []byte          // empty: in the directory
}

// A Rung is a validation at which a search paused a run.
type Rung struct {
	Step    uint64
	Metrics *spec.Metrics
}

// about is what a specification says that is asked of every run, and is known
// without reading the rest of it.
type about struct {
	Revision uint32   `json:"revision,omitempty"`
	Classes  []string `json:"classes,omitempty"`
}

// aboutSpec reads what is asked of a specification, nothing where it cannot be
// read.
func aboutSpec(text []byte) about {
	var s struct {
		Revision uint32 `json:"revision"`
		Data     struct {
			Classes []string `json:"classes"`
		} `json:"data"`
	}
	if json.Unmarshal(text, &s) != nil {
		return about{}
	}
	return about{s.Revision, s.Data.Classes}
}

// Named are metrics of the run under the names that its classes have now. Names
// are no part of a run's identity, so results may have been recorded under others.
func (r *Run) Named(m *spec.Metrics) *spec.Metrics {
	names := r.names
	if names == nil {
		names = r.about.Classes
	}
	if m == nil || names == nil {
		return m
	}
	return metric.Named(m, names)
}

// NameClasses sets the names that Named uses: those of the experiment that asks.
func (r *Run) NameClasses(names []string) { r.names = names }

// Damage is a file of a run that cannot be read.
type Damage struct {
	File string `json:"file"` // relative to the project
	Why  string `json:"why"`
	// Again says that the next apply makes again what the file held, from
	// what is whole.
	Again bool `json:"again"`
	// Do is what else helps, "" for nothing.
	Do string `json:"do,omitempty"`
}

func (d *Damage) String() string { return d.File + " cannot be read: " + d.Why }

// Unrecorded reports whether the record of the run is damaged, and with it what
// Enqueue writes.
func (r *Run) Unrecorded() bool { return r.Damage != nil && path.Base(r.Damage.File) == rundir.Record }

// Cure is what to do about the damage of a run.
func (r *Run) Cure() string {
	remove := "remove the run with: runner rm " + rundir.Short(r.ID)
	switch {
	case r.Damage.Do != "":
		return r.Damage.Do + ", or " + remove
	case r.Damage.Again:
		return "the next apply of its experiment makes it again, or " + remove
	}
	return remove
}

// Name is how people refer to a run: "ablation_rank/rank=8/seed=1".
func (r *Run) Name() string {
	return name.Run(r.Experiment, r.Cell, name.Repeat{Fold: r.Fold, Seed: r.Seed})
}

// Spec is what determined the run. It is read only when asked for: a plan needs
// it for stale runs alone.
func (r *Run) Spec() (*spec.RunSpec, error) {
	text := r.specJSON
	if len(text) == 0 {
		var err error
		if text, err = r.readSpec(); err != nil {
			return nil, fmt.Errorf("reading the specification of run %s: %w", r.Name(), err)
		}
	}
	s := &spec.RunSpec{}
	if err := rundir.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("reading the specification of run %s: %w", r.Name(), err)
	}
	return s, nil
}

func (r *Run) readSpec() ([]byte, error) {
	at, err := r.open()
	if err != nil {
		return nil, err
	}
	defer at.Close()
	if record, err := readRecord(at); err == nil && len(record.Spec) > 0 {
		return record.Spec, nil
	}
	request := &spec.RunRequest{}
	if _, _, err := readMessage(at, rundir.Request, request); err != nil {
		return nil, err
	}
	return rundir.Marshal(request.GetSpec())
}

// open opens the directory of a run.
func (r *Run) open() (*os.Root, error) { return openBelow(r.root, r.Dir) }

// openBelow opens a directory of a project by its path below it, "runs/e/0123".
// Only the first part of the path may be a link out of the project.
func openBelow(root, dir string) (*os.Root, error) {
	first, rest := cutPath(dir)
	top, err := os.OpenRoot(filepath.Join(root, first))
	if err != nil || rest == "" {
		return top, err
	}
	defer top.Close()
	return top.OpenRoot(rest)
}

func cutPath(dir string) (first, rest string) {
	for i := range len(dir) {
		if dir[i] == '/' {
			return dir[:i], dir[i+1:]
		}
	}
	return dir, ""
}

// Request is all that the engine was told when it last worked on the run, from
// request.json. The error wraps fs.ErrNotExist where there is none.
func (r *Run) Request(root string) (*spec.RunRequest, error) {
	at, err := openBelow(root, r.Dir)
	if err != nil {
		return nil, fmt.Errorf("reading what run %s left: %w", r.Name(), err)
	}
	defer at.Close()
	request := &spec.RunRequest{}
	_, _, err = readMessage(at, rundir.Request, request)
	if err == nil && request.GetId() != r.ID {
		err = fmt.Errorf("it is of run %.12q", request.GetId())
	}
	if err == nil {
		err = determines(request.GetSpec(), r.ID)
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	if err != nil {
		return nil, fmt.Errorf("%s/%s cannot be read: %w; remove the run with: runner rm %s", r.Dir, rundir.Request, err, rundir.Short(r.ID))
	}
	return request, nil
}

// Work is a request to work on the run: Request, or, where that cannot be read, one
// with the specification of record.json and without places and evaluations.
func (r *Run) Work(root string) (*spec.RunRequest, error) {
	request, err := r.Request(root)
	if err == nil {
		return request, nil
	}
	s, e := r.Spec()
	if e != nil || determines(s, r.ID) != nil {
		return nil, err
	}
	return &spec.RunRequest{Id: r.ID, Spec: s, Label: &spec.Label{Experiment: r.Experiment, Cell: r.Cell}}, nil
}

// Repair writes the request.json of a run that has lost it, see Work.
func (r *Run) Repair(root string) error {
	if r.Attempts == 0 && r.Summary == nil {
		return nil // it was never begun
	}
	if _, err := r.Request(root); err == nil {
		return nil
	}
	request, err := r.Work(root)
	if err != nil {
		return err
	}
	text, err := rundir.MarshalFile(request)
	if err != nil {
		return err
	}
	at, err := openBelow(root, r.Dir)
	if err != nil {
		return err
	}
	defer at.Close()
	if err := replacefile.WriteIn(at, rundir.Request, text); err != nil {
		return fmt.Errorf("writing the %s that %s has lost: %w", rundir.Request, r.Name(), err)
	}
	return nil
}

// determines reports that a specification is not that of a run. Of a revision that
// this loralab does not know, it cannot tell.
func determines(s *spec.RunSpec, id string) error {
	if of := s.GetRevision(); of != 0 && !spec.Readable(of) {
		return nil
	}
	if of := spec.Identity(s); of != id {
		return fmt.Errorf("its specification is that of run %s and not of %s: it was changed, or a newer loralab wrote it", rundir.Short(of), rundir.Short(id))
	}
	return nil
}

// SetSpec is the opposite of Spec.
func (r *Run) SetSpec(s *spec.RunSpec) (err error) {
	if r.specJSON, err = rundir.Marshal(s); err != nil {
		return fmt.Errorf("writing the specification of run %s: %w", r.Name(), err)
	}
	r.about = aboutSpec(r.specJSON)
	return nil
}

// Label says that a cell of an experiment, with a seed and, in cross-validation, a
// fold, is served by a run. One cell may have had several: that since the latest time
// is the newest.
type Label struct {
	Experiment string
	Cell       string
	Fold       name.Fold
	Seed       uint64
	Run        string
	Since      time.Time // the cell is served by this run
	Position   int       // of the run in the experiment then
}

// Name is how people refer to a run: "ablation_rank/rank=8/seed=1".
func (l Label) Name() string { return name.Run(l.Experiment, l.Cell, l.Repeat()) }

// Repeat tells it from the other runs of its cell.
func (l Label) Repeat() name.Repeat { return name.Repeat{Fold: l.Fold, Seed: l.Seed} }

// Snapshot is all that is known at one moment.
type Snapshot struct {
	Root   string            // of the project
	Runs   map[string]*Run   // by identity
	Labels []Label           // oldest first
	Asked  map[string]*Asked // by experiment
	// Notes are for the user: what was left out, and why.
	Notes []string
}

// DirOf is where a run of an experiment lies, relative to the root.
func DirOf(experiment, id string) string { return "runs/" + experiment + "/" + rundir.Short(id) }

// Store is what changes the runs of a project: Records, and an index of them. Its
// methods may be called from several goroutines.
type Store struct {
	*Records
	// With mu of Records:
	index  *index // nil: cannot be used
	unread error  // why the index cannot be used, if it is there
	notes  []string
}

// How long programs wait for the database while another program holds it.
// Nothing depends on the database, so this is short.
var busyWait = time.Second

// Open opens the store of the project at root, and makes it where there is
// none. The error says what to do if a newer loralab wrote it.
func Open(ctx context.Context, root string) (*Store, error) {
	records, err := OpenRecords(root)
	if err != nil {
		return nil, err
	}
	s := &Store{Records: records}
	if err := s.openIndex(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", databasePath(root), err), s.Close())
	}
	s.changed = func(ctx context.Context, f *found) { s.remember(ctx, []*found{f}, nil) }
	s.sweep()
	return s, nil
}

// openIndex opens the database and brings it to this format. One that cannot be
// used is done without; one that is damaged is set aside.
func (s *Store) openIndex(ctx context.Context) error {
	x, err := openIndex(ctx, databasePath(s.root), true, busyWait)
	version := 0
	if err == nil {
		version, err = x.version(ctx)
	}
	if err == nil && version < indexFormat {
		err = s.locked(ctx, func() error {
			// Another process may have been faster.
			if version, err = x.version(ctx); err != nil {
				return err
			}
			if version > 0 && version < indexFormat {
				if err := s.migrate(ctx, x); err != nil {
					return err
				}
			}
			return x.prepare(ctx)
		})
	}
	switch {
	case err == nil:
		s.index = x
		return nil
	case errors.Is(err, errNewer) || ctx.Err() != nil:
		return errors.Join(err, x.close())
	case isDamaged(err):
		return errors.Join(x.close(), s.remake(ctx, err))
	case version > 0 && version < indexFormat:
		// What only this database knows must not be passed over.
		return errors.Join(err, x.close())
	}
	s.unread = err
	return x.close()
}

// remake sets a damaged database aside and makes another one.
func (s *Store) remake(ctx context.Context, damage error) error {
	return s.locked(ctx, func() error {
		if s.index != nil {
			_ = s.index.close()
			s.index = nil
		}
		// Another process may have been faster.
		x, err := openIndex(ctx, databasePath(s.root), true, busyWait)
		if err == nil {
			_, err = x.load(ctx)
		}
		if isDamaged(err) {
			_ = x.close()
			note, err := setAside(s.root, damage)
			if err != nil {
				return err
			}
			s.notes = append(s.notes, note)
			if x, err = openIndex(ctx, databasePath(s.root), true, busyWait); err != nil {
				return err
			}
		}
		if err := x.prepare(ctx); err != nil {
			return x.close()
		}
		s.index = x
		return nil
	})
}

// migrate writes records of what only a database of an older version knows.
func (s *Store) migrate(ctx context.Context, x *index) error {
	old, notes, err := x.readOld(ctx, s.root)
	if err != nil {
		return err
	}
	all, _, _, err := scan(s.root, s.runs, nil)
	if err != nil {
		return err
	}
	s.notes = append(s.notes, notes...)
	holders, err := Holders(s.root)
	if err != nil {
		return err
	}
	if len(holders) > 1 || len(holders) == 1 && holders[0].PID != os.Getpid() {
		// It may be of the older version.
		return fmt.Errorf("an older loralab made it, and %w; wait for it", &HeldError{Holders: holders})
	}
	return s.keep(merge(all, old))
}

// keep writes records of runs that have none.
func (s *Store) keep(all []*found) error {
	for _, f := range all {
		if f.record != nil || !isID(f.run.ID) {
			continue
		}
		if err := s.writeFound(f); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) writeFound(f *found) error {
	text, err := f.specification()
	if err != nil {
		return err
	}
	r := &record{
		ID: f.run.ID, State: f.run.State, Reason: f.run.Reason, Step: f.run.Step, Steps: f.run.Steps, Attempts: f.run.Attempts,
		Created: f.run.Created, Started: f.run.Started, Ended: f.run.Ended, Worker: f.worker, Spec: text,
	}
	for _, l := range f.names {
		r.Names = append(r.Names, l.recorded())
	}
	at, err := s.make(f.dir)
	if err != nil {
		return fmt.Errorf("recording run %s: %w", rundir.Short(f.run.ID), err)
	}
	defer at.Close()
	f.record = r
	return writeRecord(at, r)
}

// specification is the JSON of what determined a run.
func (f *found) specification() ([]byte, error) {
	if len(f.run.specJSON) > 0 {
		return f.run.specJSON, nil
	}
	s, err := f.run.Spec()
	if err == nil {
		err = determines(s, f.run.ID)
	}
	if err != nil {
		return nil, err
	}
	return rundir.Marshal(s)
}

// Close closes the store.
func (s *Store) Close() error { return errors.Join(s.index.close(), s.Records.Close()) }

// Read says what is known of the project at root. It writes nothing there and
// makes no file, so it can read a project that may not be written.
func Read(ctx context.Context, root string) (*Snapshot, error) {
	runs, err := os.OpenRoot(filepath.Join(root, "runs"))
	if absent(err) {
		return assemble(root, nil, nil, nil), nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening the directory of runs: %w", err)
	}
	defer runs.Close()
	known, old, notes, unread := readIndex(ctx, root)
	if errors.Is(unread, errNewer) {
		return nil, fmt.Errorf("reading %s: %w", databasePath(root), unread)
	}
	all, asked, more, err := scan(root, runs, known)
	if err != nil {
		return nil, err
	}
	if err := needed(root, all, unread); err != nil {
		return nil, err
	}
	return assemble(root, merge(all, old), asked, append(notes, more...)), nil
}

// needed reports that a database cannot be read which may know what directories
// do not: that of an older version, in which directories have no records.
func needed(root string, all []*found, unread error) error {
	if unread != nil && slices.ContainsFunc(all, func(f *found) bool { return f.record == nil && f.run.Damage == nil }) {
		return fmt.Errorf("reading %s: %w", databasePath(root), unread)
	}
	return nil
}

// readIndex is what the database of a project says: rows of an index, or runs
// of an older version. The error is why it cannot be read, if it is there.
func readIndex(ctx context.Context, root string) (known, old map[string]*found, notes []string, err error) {
	at := databasePath(root)
	if _, err := os.Stat(at); err != nil {
		return nil, nil, nil, nil
	}
	if !Writable(root) {
		dir, err := tempdir.New("database")
		if err != nil {
			return nil, nil, nil, err
		}
		defer dir.Remove()
		if at, err = copyDatabase(root, dir.Path); err != nil {
			return nil, nil, nil, err
		}
	}
	x, err := openIndex(ctx, at, false, busyWait)
	if err == nil {
		defer x.close()
		var version int
		switch version, err = x.version(ctx); {
		case err != nil || version == 0:
		case version == indexFormat:
			known, err = x.load(ctx)
		default:
			old, notes, err = x.readOld(ctx, root)
		}
	}
	if isDamaged(err) {
		note := fmt.Sprintf("the database runs/%s is damaged (%s); run directories are read instead, and the next apply makes it again", databaseName, brief(err))
		return nil, nil, []string{note}, nil
	}
	return known, old, notes, err
}

// ReadDir reads the directory of a run that is in no project. The error says what
// of it cannot be read.
func ReadDir(at *os.Root) (*Run, []Label, error) {
	parent, name := filepath.Split(at.Name())
	f := read(parent, at, name, nil)
	if f == nil {
		return nil, nil, errors.New("it holds no run")
	}
	if d := f.run.Damage; d != nil {
		return nil, nil, fmt.Errorf("reading its %s: %s", strings.TrimPrefix(d.File, f.run.Dir+"/"), d.Why)
	}
	f.run.Dir = name
	return f.run, f.names, nil
}

// assemble makes a snapshot of what was found.
func assemble(root string, all []*found, asked map[string]*Asked, notes []string) *Snapshot {
	s := &Snapshot{Root: root, Runs: map[string]*Run{}, Asked: asked, Notes: notes}
	holders, err := Holders(root)
	if err != nil {
		s.Notes = append(s.Notes, err.Error()) // the rest can be read
	}
	for _, f := range all {
		if f.run.working == "" { // no cluster works on it
			f.run.Holder = holding(holders, f.worker)
		}
		s.Runs[f.run.ID] = f.run
		s.Labels = append(s.Labels, f.names...)
	}
	for _, a := range asked {
		for _, w := range a.Runs {
			run := s.Runs[w.Run]
			if run != nil && run.wanted == nil {
				run.wanted = map[string]bool{}
			}
			for _, e := range w.Evaluations {
				if run != nil {
					run.wanted[rundir.Short(e)] = true
				}
			}
		}
	}
	slices.SortFunc(s.Labels, compareLabels)
	return s
}

func holding(holders []Holder, worker string) *Holder {
	for _, h := range holders {
		if worker != "" && h.worker == worker {
			return &h
		}
	}
	return nil
}

// Reconcile returns what is known and brings records and the index up to it. A
// run that was thought to be running, and that nobody works on, is taken as
// interrupted.
func (s *Store) Reconcile(ctx context.Context) (*Snapshot, error) {
	known := s.load(ctx)
	all, asked, notes, err := scan(s.root, s.runs, known)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	notes = append(slices.Clone(s.notes), notes...)
	unread := s.unread
	s.mu.Unlock()
	if err := needed(s.root, all, unread); err != nil {
		return nil, err
	}
	snapshot := assemble(s.root, all, asked, notes)
	var read []*found
	there := map[string]bool{}
	for i, f := range all {
		there[f.dir] = true
		if was := known[f.dir]; was == nil || was != f {
			read = append(read, f)
		}
		if f.unfolded {
			now, err := s.fold(ctx, f)
			if err != nil {
				return nil, err
			}
			if now != nil && now.run.ID == f.run.ID {
				all[i], f = now, now
				snapshot.Runs[f.run.ID] = now.run
				read = append(read, now)
			}
		}
		interrupted := f.run.State == Running && f.run.Holder == nil
		if !interrupted && f.record != nil || !isID(f.run.ID) {
			continue
		}
		now, notes, err := s.settle(ctx, f)
		if err != nil {
			return nil, err
		}
		snapshot.Notes = append(snapshot.Notes, notes...)
		if now == nil || now.run.ID != f.run.ID {
			continue // it was removed, or is as damaged as before
		}
		all[i] = now
		snapshot.Runs[f.run.ID] = now.run
		read = append(read, now)
	}
	s.mu.Lock()
	for _, f := range all {
		s.dirs[f.run.ID] = f.dir
	}
	s.mu.Unlock()
	var gone []string
	for dir := range known {
		if !there[dir] {
			gone = append(gone, dir)
		}
	}
	s.remember(ctx, read, gone)
	return snapshot, nil
}

// load is what the index knows; nothing where it cannot be read.
func (s *Store) load(ctx context.Context) map[string]*found {
	s.mu.Lock()
	x := s.index
	s.mu.Unlock()
	if x == nil {
		return nil
	}
	known, err := x.load(ctx)
	if isDamaged(err) {
		_ = s.remake(ctx, err) // without it as well
	}
	if err != nil {
		return nil
	}
	return known
}

// remember brings the index up to what was read. It may fail: the rows that are
// not written do not fit their directories, which are then read.
func (s *Store) remember(ctx context.Context, read []*found, gone []string) {
	s.mu.Lock()
	x := s.index
	s.mu.Unlock()
	if x != nil {
		_ = x.update(context.WithoutCancel(ctx), read, gone)
	}
}

// settle writes the record of a run that has none, or that nobody works on any
// more. It returns the run as it is then, nil where it was removed.
func (s *Store) settle(ctx context.Context, f *found) (now *found, notes []string, err error) {
	err = s.locked(ctx, func() error {
		at, err := s.runs.OpenRoot(f.dir)
		if absent(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("recording run %s: %w", rundir.Short(f.run.ID), err)
		}
		defer at.Close()
		r, err := readRecord(at)
		if err != nil { // there is none, or it is damaged
			if f.record != nil {
				return nil // it was removed since
			}
			if _, err := f.specification(); err != nil {
				return nil // it stays damaged
			}
			if f.run.Unrecorded() {
				notes = append(notes, fmt.Sprintf("%s was written again as far as it is known; it could not be read: %s", f.run.Damage.File, f.run.Damage.Why))
			}
			if f.run.State == Running && f.run.Holder == nil {
				f.run.State = Stopped
			}
			return s.writeFound(f)
		}
		holders, err := Holders(s.root)
		if err != nil {
			return err
		}
		if r.State != Running || holding(holders, r.Worker) != nil {
			return nil // another process was faster
		}
		r.State, r.Worker, r.Step = Stopped, "", f.run.Checkpoint
		if f.run.Summary != nil {
			r.Step, r.Steps = f.run.Summary.GetSteps(), f.run.Summary.GetSteps()
		}
		if err := s.finish(at, r, claim.Broken); err != nil {
			return err
		}
		return writeRecord(at, r)
	})
	if err != nil {
		return nil, nil, err
	}
	return s.read(f.dir, f), notes, nil
}
