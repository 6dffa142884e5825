package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/claim"
)

// What workers of a cluster do is in the generations of a run (see package claim) and not
// in its record: no lock holds on all of their nodes. A reader of a run sees the newest
// generation instead of what the record says, and the next process that changes the
// project takes it into the record.

// Arrays is the directory below runs/ with what was handed to a cluster. Without it no
// run has generations of one.
const Arrays = ".slurm"

// arrays reports whether the project was ever worked on by a cluster.
func arrays(runs *os.Root) bool {
	_, err := runs.Lstat(Arrays)
	return err == nil
}

// HolderOf is a worker as those see it who wait for it.
func HolderOf(w claim.Worker) Holder {
	return Holder{PID: w.PID, Host: w.Host, Since: w.Since, Command: w.Command, Array: w.Array, Element: w.Element, worker: w.Lock}
}

// overlay shows the newest generation of a run, where it is of a cluster and not in the
// record yet.
func (f *found) overlay(at *os.Root) {
	s, err := claim.Read(at)
	if err != nil {
		f.run.damaged(claim.Directory, err, false)
		return
	}
	if !s.Cluster() || f.record == nil || f.record.Generation >= s.Generation {
		return
	}
	r := *f.record
	if err := r.take(at, s); err != nil {
		f.run.damaged(claim.Directory, err, false)
		return
	}
	run := f.run
	f.unfolded = s.End != nil
	run.State, run.Reason, run.Attempts, run.Started, run.Ended = r.State, r.Reason, r.Attempts, r.Started, r.Ended
	if run.Summary == nil {
		run.Step, run.Checkpoint = r.Step, r.Step
		run.Steps = max(run.Steps, r.Steps)
	}
	run.Rungs, _ = r.rungs()
	if s.Open() {
		h := HolderOf(s.Worker)
		run.Holder, run.working = &h, claim.Name(s.Generation)
		if working, err := at.OpenRoot(run.working); err == nil {
			defer working.Close()
			progress(working, run)
			if c, err := checkpointAt(working, rundir.Last); err == nil && c.of > 0 {
				run.Steps = c.of
			}
		}
		return
	}
	if run.State == Done && run.Summary == nil {
		// Its worker is about to show it, or was killed before it could.
		run.State = Stopped
	}
}

// take takes the newest generation into a record that does not know it yet, and the
// validations of those before it.
func (r *record) take(at *os.Root, s claim.State) error {
	for g := r.Generation + 1; g < s.Generation; g++ {
		e, err := claim.EndOf(at, g)
		if err != nil && !absent(err) {
			return err
		}
		if err == nil && e.How == claim.Paused && len(e.Validation) > 0 {
			r.rung(e.Step, e.Validation)
		}
	}
	r.Attempts++
	r.Started, r.Ended, r.Worker, r.Reason = s.Worker.Since, time.Time{}, "", ""
	if s.Open() {
		r.State = Running
		return nil
	}
	e := s.End
	r.Generation, r.Ended, r.Step, r.Steps = s.Generation, e.When, max(r.Step, e.Step), max(r.Steps, e.Steps)
	switch e.How {
	case claim.Done:
		r.State = Done
	case claim.Failed:
		r.State, r.Reason = Failed, e.Reason
	case claim.Paused:
		r.State = Paused
		if len(e.Validation) > 0 {
			r.rung(e.Step, e.Validation)
		}
	default:
		r.State = Stopped
	}
	return nil
}

// fold takes what a cluster did into the record of a run, and its files into the
// directory. Records are locked.
func fold(at *os.Root, r *record, s claim.State) error {
	if !s.Cluster() || s.Open() || r.Generation >= s.Generation {
		return nil
	}
	if err := claim.Publish(at); err != nil {
		return err
	}
	if err := r.take(at, s); err != nil {
		return err
	}
	if last, _, err := resumable(at, false); err == nil && r.State != Done {
		r.Step = last.step // a broken generation says nothing of it
	}
	return nil
}

// begin claims a run for this process in its generations.
func (s *Records) begin(at *os.Root, r *record) error {
	claim.Sweep(at)
	state, err := claim.Read(at)
	if err != nil {
		return err
	}
	if state.Open() {
		holders, err := Holders(s.root)
		if err != nil {
			return err
		}
		// It is of a process that holds a lock as long as it lives: fence has
		// refused where a cluster works.
		if h := holding(holders, state.Worker.Lock); h != nil && state.Worker.Lock != s.worker {
			return &ClaimedError{Run: r.ID, Holder: *h}
		}
		end := claim.End{How: claim.Broken, Reason: "its process ended without a word", By: s.worker, When: now()}
		if state.Worker.Lock == s.worker {
			end.How, end.Reason = claim.Stopped, ""
		}
		if _, _, err := claim.Finish(at, state.Generation, end); err != nil {
			return err
		}
	}
	if err := fold(at, r, state); err != nil {
		return err
	}
	host, _ := os.Hostname()
	mine := claim.Worker{Nonce: s.worker, Lock: s.worker, Host: host, PID: os.Getpid(), Since: now()}
	got, won, err := claim.Take(at, state, mine)
	if err != nil {
		return err
	}
	if !won {
		if got, err = claim.Read(at); err != nil {
			return err
		}
		return &ClaimedError{Run: r.ID, Holder: HolderOf(got.Worker)}
	}
	r.Generation = got.Generation
	return nil
}

// finish ends the generation of this process, if it has one of the run.
func (s *Records) finish(at *os.Root, r *record, how claim.How) error {
	claim.Sweep(at)
	state, err := claim.Read(at)
	if err != nil || !state.Open() || state.Cluster() {
		return err
	}
	_, _, err = claim.Finish(at, state.Generation, claim.End{How: how, Reason: r.Reason, Step: r.Step, Steps: r.Steps, By: s.worker, When: now()})
	return err
}

// Free ends what a process of this machine has left of its work on a run when it was
// killed, so that workers of a cluster find the run free. It does nothing where somebody
// works on it.
func (s *Records) Free(ctx context.Context, id string) error {
	var other *ClaimedError
	err := s.amendAt(ctx, id, "freeing", func(at *os.Root, r *record) error {
		return s.finish(at, r, claim.Broken)
	})
	if errors.As(err, &other) {
		return nil
	}
	return err
}

// Working is where the files are that are written of the run now: its directory, or that
// of a generation of a cluster. It is relative to the root of the project, with slashes.
func (r *Run) Working() string { return path.Join(r.Dir, r.working) }

// Workers are the workers of clusters that have a run, each once, in the order of their
// arrays.
func (s *Snapshot) Workers() []Holder {
	var all []Holder
	for _, run := range s.Runs {
		if h := run.Holder; h != nil && h.Array != "" {
			all = append(all, *h)
		}
	}
	slices.SortFunc(all, func(a, b Holder) int { return cmp.Or(cmp.Compare(a.Array, b.Array), cmp.Compare(a.Element, b.Element)) })
	return slices.CompactFunc(all, func(a, b Holder) bool { return a.Array == b.Array && a.Element == b.Element })
}

// Path is the directory that Working names, absolute if the root of the project is.
func (r *Run) Path() string { return filepath.Join(r.root, filepath.FromSlash(r.Working())) }

// ReadWork is what a directory has of a run with a specification, which is in no project
// or is that of a generation. Dir is relative to root.
func ReadWork(root, dir string, id string, s *spec.RunSpec) (*Run, error) {
	run := &Run{ID: id, State: Stopped, Dir: dir, Evaluations: map[string]*spec.Evaluated{}, root: root}
	if err := run.SetSpec(s); err != nil {
		return nil, err
	}
	at, err := os.OpenRoot(filepath.Join(root, filepath.FromSlash(dir)))
	if err != nil {
		return nil, fmt.Errorf("reading what is there of run %s: %w", rundir.Short(id), err)
	}
	defer at.Close()
	run.read(at)
	return run, nil
}

// fold takes into the record of a run what a cluster has done.
func (s *Store) fold(ctx context.Context, f *found) (*found, error) {
	err := s.locked(ctx, func() error {
		at, err := s.runs.OpenRoot(f.dir)
		if absent(err) {
			return nil
		}
		if err != nil {
			return err
		}
		defer at.Close()
		r, err := readRecord(at)
		if err != nil {
			return nil // it was removed, or is damaged: others say so
		}
		state, err := claim.Read(at)
		if err != nil || state.Open() {
			return err
		}
		was := r.Generation
		if err := fold(at, r, state); err != nil || was == r.Generation {
			return err
		}
		if err := writeRecord(at, r); err != nil || r.State != Done {
			return err
		}
		return claim.Remove(at)
	})
	if err != nil {
		return nil, fmt.Errorf("recording what the cluster did of run %s: %w", rundir.Short(f.run.ID), err)
	}
	return s.read(f.dir, f), nil
}

// Ask records that a run is asked for under a name, where none is recorded.
func (s *Store) Ask(ctx context.Context, run *Run, as Label) error {
	var fresh []*Run
	if _, err := s.Get(ctx, run.ID); errors.Is(err, ErrRemoved) {
		fresh = append(fresh, run)
	} else if err != nil {
		return err
	}
	return s.Enqueue(ctx, nil, fresh, []Label{as})
}

// Create is Ask for a process that no lock reaches: a worker of a cluster. Of several one
// makes the record, and a record that is there stays as it is. By is as in claim.Create.
func (s *Records) Create(ctx context.Context, run *Run, as Label, by string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, err := s.at(run.ID)
	if errors.Is(err, ErrRemoved) {
		s.dirs[run.ID] = path.Join(run.Experiment, rundir.Short(run.ID))
		at, err = s.make(s.dirs[run.ID])
	}
	if err == nil {
		defer at.Close()
		as.Since = now()
		r := &record{Format: recordFormat, ID: run.ID, State: Queued, Created: as.Since, Spec: run.specJSON, Names: []recordName{as.recorded()}}
		var text []byte
		if text, err = r.encode(); err == nil {
			_, err = claim.Create(at, rundir.Record, by, text)
		}
	}
	if err != nil {
		return fmt.Errorf("recording that run %s is asked for: %w", rundir.Short(run.ID), err)
	}
	return nil
}

// OpenRun opens the directory of a run of the project at root.
func OpenRun(root, dir string) (*os.Root, error) { return openBelow(root, dir) }

// ArraysOf is the names of the directories of arrays of the project at root, oldest
// first: their names begin with the time.
func ArraysOf(root string) ([]string, error) {
	d, err := openBelow(root, "runs/"+Arrays)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := fs.ReadDir(d.FS(), ".")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && e.Name()[0] != '.' {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Fold takes into the record of a run what a cluster has done, if it has ended, and returns
// the run as it is then.
func (s *Store) Fold(ctx context.Context, id string) (*Run, error) {
	s.mu.Lock()
	at, err := s.at(id)
	dir := s.dirs[id]
	s.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", rundir.Short(id), err)
	}
	if err := at.Close(); err != nil {
		return nil, err
	}
	f := s.read(dir, nil)
	if f != nil && f.unfolded {
		if f, err = s.fold(ctx, f); err != nil {
			return nil, err
		}
		if f != nil {
			s.remember(ctx, []*found{f}, nil)
		}
	}
	if f == nil {
		return nil, fmt.Errorf("run %s: %w", rundir.Short(id), ErrRemoved)
	}
	return f.run, nil
}
