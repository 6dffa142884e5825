package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
)

// What may have become of a run while others are worked on.
var (
	ErrRemoved = errors.New("it was removed from the project")
	ErrDamaged = errors.New("its record cannot be read")
)

// writers is how many records are written at once where there are many: a disk
// makes many of them safe in the time of one.
const writers = 16

// locked calls change while no other process changes records.
func (s *Store) locked(ctx context.Context, change func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// In turns, so that ctx is looked at: a process that holds the lock may have
	// been stopped.
	for {
		err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("locking %s: %w", s.lock.Name(), err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", s.lock.Name(), ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	err := change()
	return errors.Join(err, unix.Flock(int(s.lock.Fd()), unix.LOCK_UN))
}

// amend changes the record of a run, unless another process has claimed it.
func (s *Store) amend(ctx context.Context, id, doing string, change func(r *record) error) error {
	err := s.locked(ctx, func() error {
		at, err := s.at(id)
		if err != nil {
			return err
		}
		defer at.Close()
		r, err := readRecord(at)
		if absent(err) {
			return ErrRemoved
		}
		if err != nil {
			return fmt.Errorf("%w: %s: %w", ErrDamaged, rundir.Record, err)
		}
		if err := s.fence(r); err != nil {
			return err
		}
		if err := change(r); err != nil {
			return err
		}
		return writeRecord(at, r)
	})
	if err != nil {
		return fmt.Errorf("%s run %s: %w", doing, rundir.Short(id), err)
	}
	return nil
}

// at opens the directory of a run.
func (s *Store) at(id string) (*os.Root, error) {
	dir, known := s.dirs[id]
	if known {
		at, err := s.runs.OpenRoot(dir)
		if !absent(err) {
			return at, err
		}
	}
	entries, err := fs.ReadDir(s.runs.FS(), ".")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.IsDir() || !isElement(e.Name()) {
			continue
		}
		dir := path.Join(e.Name(), rundir.Short(id))
		at, err := s.runs.OpenRoot(dir)
		if absent(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.dirs[id] = dir
		return at, nil
	}
	return nil, ErrRemoved
}

// fence refuses where a living process other than this one works on the run.
func (s *Store) fence(r *record) error {
	if r.Worker == "" || r.Worker == s.worker {
		return nil
	}
	holders, err := Holders(s.root)
	if err != nil {
		return err
	}
	if h := holding(holders, r.Worker); h != nil {
		return &ClaimedError{Run: r.ID, Holder: *h}
	}
	return nil
}

// Enqueue records that runs are asked for, which cells they serve, and all that
// their experiments ask for. What is known of a run stays; known is what was
// known before, nil for nothing.
func (s *Store) Enqueue(ctx context.Context, known *Snapshot, runs []*Run, labels []Label, asked ...*Asked) error {
	// A label is written where it is new, or where its cell had another run.
	current := map[string]string{}
	positions := map[string]int{}
	if known != nil {
		for _, l := range known.Labels {
			current[l.Name()] = l.Run
		}
	}
	for _, a := range asked {
		for i, l := range a.Runs {
			positions[l.Name()] = i
		}
	}
	since := now()
	names := map[string][]Label{}
	for i, l := range labels {
		if current[l.Name()] == l.Run {
			continue
		}
		l.Since, l.Position = since, i
		if p, there := positions[l.Name()]; there {
			l.Position = p
		}
		if !slices.ContainsFunc(names[l.Run], func(o Label) bool { return o.Name() == l.Name() }) {
			names[l.Run] = append(names[l.Run], l)
		}
	}
	var jobs []*queued
	for _, run := range runs {
		j := &queued{run: run, names: names[run.ID]}
		if known != nil {
			if was := known.Runs[run.ID]; was != nil && was.Unrecorded() {
				j.names = append(known.Names(run.ID), j.names...)
			}
		}
		if len(j.names) == 0 {
			j.names = []Label{{run.Experiment, run.Cell, run.Seed, run.ID, since, 0}}
		}
		delete(names, run.ID)
		jobs = append(jobs, j)
	}
	for id, more := range names {
		jobs = append(jobs, &queued{run: &Run{ID: id}, names: more, there: true})
	}
	var written []*found
	err := s.locked(ctx, func() error {
		var dirs []string
		for _, j := range jobs {
			dir, err := s.place(j)
			if err != nil {
				return err
			}
			dirs = append(dirs, dir)
		}
		var err error
		if written, err = s.writeAll(ctx, jobs, dirs); err != nil {
			return err
		}
		for _, a := range asked {
			if err := s.writeAsked(a, since); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("recording what is to be run: %w", err)
	}
	s.remember(ctx, written, nil)
	return nil
}

// queued is a run that is asked for, under new names.
type queued struct {
	run   *Run
	names []Label
	there bool // it was known before
}

// place is where the directory of a run is, or is to be.
func (s *Store) place(j *queued) (string, error) {
	if at, err := s.at(j.run.ID); err == nil {
		return s.dirs[j.run.ID], at.Close()
	} else if !errors.Is(err, ErrRemoved) || j.there {
		return "", fmt.Errorf("run %s: %w", rundir.Short(j.run.ID), err)
	}
	if !isRunDir(j.run.Dir, j.run.ID) {
		return "", fmt.Errorf("run %s cannot lie in %q", rundir.Short(j.run.ID), j.run.Dir)
	}
	dir := strings.TrimPrefix(j.run.Dir, "runs/")
	s.dirs[j.run.ID] = dir
	return dir, nil
}

func (s *Store) writeAll(ctx context.Context, jobs []*queued, dirs []string) ([]*found, error) {
	written := make([]*found, len(jobs))
	errs := make([]error, min(writers, len(jobs)))
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for i := w; i < len(jobs) && errs[w] == nil; i += len(errs) {
				if errs[w] = ctx.Err(); errs[w] == nil {
					written[i], errs[w] = s.enqueue(jobs[i], dirs[i])
				}
			}
		})
	}
	wg.Wait()
	return slices.DeleteFunc(written, func(f *found) bool { return f == nil }), errors.Join(errs...)
}

// enqueue writes the record of one run and returns the run as it is then.
func (s *Store) enqueue(j *queued, dir string) (*found, error) {
	at, err := s.make(dir)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	r, err := readRecord(at)
	begun := err == nil
	if err != nil {
		if !absent(err) && j.there {
			return nil, nil // it is damaged, as the plan says
		}
		r = &record{ID: j.run.ID, State: Queued, Created: now(), Spec: json.RawMessage(j.run.specJSON)}
	}
	for _, l := range j.names {
		if i := r.index(l); i >= 0 {
			r.Names[i].Since, r.Names[i].Position = l.Since, l.Position
			continue
		}
		r.Names = append(r.Names, l.recorded())
	}
	if begun {
		if err := writeRecord(at, r); err != nil {
			return nil, err
		}
		return s.read(dir, nil), nil
	}
	// Ten thousand of them are written in seconds, and lost they are written again
	// by the next apply.
	if err := r.write(at, replacefile.Many); err != nil {
		return nil, err
	}
	return s.read(dir, nil), nil
}

func (s *Store) writeAsked(a *Asked, when time.Time) error {
	if !isElement(a.Experiment) {
		return fmt.Errorf("%q is no name of an experiment", a.Experiment)
	}
	a.When = when
	text, err := a.encode()
	if err != nil {
		return err
	}
	return replacefile.WriteIn(s.runs, path.Join(a.Experiment, askedFile), text)
}

// Start records that an attempt at a run begins.
func (s *Store) Start(ctx context.Context, id string) error {
	return s.amend(ctx, id, "recording the start of", func(r *record) error {
		r.State, r.Reason, r.Started, r.Ended, r.Worker = Running, "", now(), time.Time{}, s.worker
		r.Attempts++
		return nil
	})
}

// Begun records how many steps a run takes, and at which it resumes.
func (s *Store) Begun(ctx context.Context, id string, step, steps uint64) error {
	return s.amend(ctx, id, "recording the state of", func(r *record) error {
		r.Step, r.Steps = step, steps
		return nil
	})
}

// Stop records that a run ended on request and resumes at step. It ends the
// claim of the run, as Fail and Finish do.
func (s *Store) Stop(ctx context.Context, id string, step uint64) error {
	return s.end(ctx, id, func(r *record) { r.State, r.Step = Stopped, step })
}

// Fail records that a run failed, and why in one line. It resumes at step if it
// is tried again.
func (s *Store) Fail(ctx context.Context, id string, step uint64, reason string) error {
	return s.end(ctx, id, func(r *record) { r.State, r.Step, r.Reason = Failed, step, reason })
}

// Finish records that all that was asked of a run is done.
func (s *Store) Finish(ctx context.Context, id string, summary *spec.Summary) error {
	return s.end(ctx, id, func(r *record) {
		r.State, r.Reason, r.Step, r.Steps = Done, "", summary.GetSteps(), summary.GetSteps()
	})
}

func (s *Store) end(ctx context.Context, id string, change func(r *record)) error {
	err := s.amend(ctx, id, "recording the end of", func(r *record) error {
		change(r)
		r.Ended, r.Worker = now(), ""
		return nil
	})
	if err == nil {
		s.reindex(ctx, id)
	}
	return err
}

// reindex brings the index up to one run.
func (s *Store) reindex(ctx context.Context, id string) {
	s.mu.Lock()
	dir := s.dirs[id]
	s.mu.Unlock()
	if f := s.read(dir, nil); f != nil {
		s.remember(ctx, []*found{f}, nil)
	}
}

// Rename records the names that classes have now, where they have others than run
// was recorded with. They are no part of its identity.
func (s *Store) Rename(ctx context.Context, run *Run, now *spec.RunSpec) error {
	if slices.Equal(run.about.Classes, now.GetData().GetClasses()) || spec.Identity(now) != run.ID {
		return nil
	}
	if err := run.SetSpec(now); err != nil {
		return err
	}
	run.names = nil
	err := s.amend(ctx, run.ID, "recording names of classes of", func(r *record) error {
		r.Spec = json.RawMessage(run.specJSON)
		return nil
	})
	if err == nil {
		s.reindex(ctx, run.ID)
	}
	return err
}

// Unname takes names off a run that has others.
func (s *Store) Unname(ctx context.Context, id string, names []Label) error {
	err := s.amend(ctx, id, "taking names off", func(r *record) error {
		left := slices.DeleteFunc(slices.Clone(r.Names), func(n recordName) bool {
			return slices.ContainsFunc(names, func(l Label) bool { return l.Name() == n.label("").Name() })
		})
		if len(left) == 0 {
			return errors.New("it would have no name")
		}
		r.Names = left
		return nil
	})
	if err != nil {
		return err
	}
	s.reindex(ctx, id)
	return unlinkLogs(s.root, id, names)
}
