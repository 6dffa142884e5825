package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/claim"
)

// Records is what workers write: the records in the directories of runs that are in
// a project already. It needs no database, so a worker may be on any machine that has
// the directory. Its methods may be called from several goroutines.
type Records struct {
	root   string
	runs   *os.Root
	worker string // for whom claims are made, "" for nobody; see As

	mu   sync.Mutex        // taken before lock
	lock *os.File          // held while records are changed
	dirs map[string]string // below runs/, by identity, where they were last
	// changed is called with a run whose claim has ended; nil: there is no index.
	changed func(context.Context, *found)
}

// lockFile of runs/ is locked while records are changed: they are read, changed
// and written.
const lockFile = ".records"

// What may have become of a run while others are worked on.
var (
	ErrRemoved = errors.New("it was removed from the project")
	ErrDamaged = errors.New("its record cannot be read")
)

// OpenRecords opens the records of the project at root.
func OpenRecords(root string) (*Records, error) {
	dir := filepath.Join(root, "runs")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("making the directory of runs: %w", err)
	}
	s := &Records{root: root, dirs: map[string]string{}}
	var err error
	if s.runs, err = os.OpenRoot(dir); err != nil {
		return nil, fmt.Errorf("opening the directory of runs: %w", err)
	}
	if s.lock, err = s.runs.OpenFile(lockFile, os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK, 0o666); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the lock of records: %w", err), s.Close())
	}
	return s, nil
}

// Close closes the records.
func (s *Records) Close() error {
	err := s.runs.Close()
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// locked calls change while no other process changes records.
func (s *Records) locked(ctx context.Context, change func() error) error {
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
func (s *Records) amend(ctx context.Context, id, doing string, change func(r *record) error) error {
	return s.amendAt(ctx, id, doing, func(_ *os.Root, r *record) error { return change(r) })
}

// amendAt is amend for a change that needs the directory of the run.
func (s *Records) amendAt(ctx context.Context, id, doing string, change func(at *os.Root, r *record) error) error {
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
		if err := s.fence(at, r); err != nil {
			return err
		}
		if err := change(at, r); err != nil {
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
func (s *Records) at(id string) (*os.Root, error) {
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

// fence refuses where a living process other than this one works on the run, or a worker
// of a cluster.
func (s *Records) fence(at *os.Root, r *record) error {
	if arrays(s.runs) {
		state, err := claim.Read(at)
		if err != nil {
			return err
		}
		if state.Open() && state.Cluster() {
			return &ClaimedError{Run: r.ID, Holder: HolderOf(state.Worker)}
		}
	}
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

// ClaimedError says that another process works on a run.
type ClaimedError struct {
	Run    string // its identity
	Holder Holder
}

func (e *ClaimedError) Error() string {
	return fmt.Sprintf("%s works on run %s (%s)", e.Holder, rundir.Short(e.Run), e.Holder.Command)
}

// As makes claims from now on for the process that holds lock, and refuses to
// write about runs that another process has claimed.
func (s *Records) As(lock *Lock) { s.worker = lock.id }

// Claim takes a run for this process, until it is recorded as finished, failed
// or stopped, or the process ends. It returns what is known of the run at that
// moment: others may have worked on it. Where another process works on it now
// the error is a *ClaimedError; where it was removed, ErrRemoved.
func (s *Records) Claim(ctx context.Context, id string) (*Run, error) {
	err := s.amendAt(ctx, id, "claiming", func(at *os.Root, r *record) error {
		if err := s.begin(at, r); err != nil {
			return err
		}
		r.Worker = s.worker
		return nil
	})
	if err != nil {
		return nil, err
	}
	run, err := s.Get(ctx, id)
	if err != nil {
		return nil, errors.Join(err, s.Unclaim(ctx, id))
	}
	return run, nil
}

// Unclaim gives a claimed run back without a word about it.
func (s *Records) Unclaim(ctx context.Context, id string) error {
	err := s.amendAt(ctx, id, "giving back", func(at *os.Root, r *record) error {
		r.Worker = ""
		return s.finish(at, r, claim.Stopped)
	})
	if err == nil {
		s.reindex(ctx, id)
	}
	return err
}

// Get is what the directory of one run says. The error wraps ErrRemoved where
// there is none.
func (s *Records) Get(ctx context.Context, id string) (*Run, error) {
	s.mu.Lock()
	at, err := s.at(id)
	dir := s.dirs[id]
	s.mu.Unlock()
	if err == nil {
		err = at.Close()
	}
	if err == nil {
		if f := s.read(dir, nil); f != nil {
			return f.run, nil
		}
		err = ErrRemoved
	}
	return nil, fmt.Errorf("run %s: %w", rundir.Short(id), err)
}

// Start records that an attempt at a run begins.
func (s *Records) Start(ctx context.Context, id string) error {
	return s.amend(ctx, id, "recording the start of", func(r *record) error {
		r.State, r.Reason, r.Started, r.Ended, r.Worker = Running, "", now(), time.Time{}, s.worker
		r.Attempts++
		return nil
	})
}

// Begun records how many steps a run takes, and at which it resumes.
func (s *Records) Begun(ctx context.Context, id string, step, steps uint64) error {
	return s.amend(ctx, id, "recording the state of", func(r *record) error {
		r.Step, r.Steps = step, steps
		return nil
	})
}

// Stop records that a run ended on request and resumes at step. It ends the
// claim of the run, as Fail and Finish do.
func (s *Records) Stop(ctx context.Context, id string, step uint64) error {
	return s.end(ctx, id, claim.Stopped, func(r *record) { r.State, r.Step = Stopped, step })
}

// Pause records that a run paused at a step, and its validation there. Another pause
// at a step leaves the first validation.
func (s *Records) Pause(ctx context.Context, id string, step uint64, m *spec.Metrics) error {
	text, err := rundir.Marshal(m)
	if err != nil {
		return fmt.Errorf("recording the pause of run %s: %w", rundir.Short(id), err)
	}
	return s.end(ctx, id, claim.Paused, func(r *record) {
		r.State, r.Reason, r.Step = Paused, "", step
		if m != nil {
			r.rung(step, text)
		}
	})
}

// Fail records that a run failed, and why in one line. It resumes at step if it
// is tried again.
func (s *Records) Fail(ctx context.Context, id string, step uint64, reason string) error {
	return s.end(ctx, id, claim.Failed, func(r *record) { r.State, r.Step, r.Reason = Failed, step, reason })
}

// Finish records that all that was asked of a run is done.
func (s *Records) Finish(ctx context.Context, id string, summary *spec.Summary) error {
	return s.end(ctx, id, claim.Done, func(r *record) {
		r.State, r.Reason, r.Step, r.Steps = Done, "", summary.GetSteps(), summary.GetSteps()
	})
}

func (s *Records) end(ctx context.Context, id string, how claim.How, change func(r *record)) error {
	err := s.amendAt(ctx, id, "recording the end of", func(at *os.Root, r *record) error {
		change(r)
		r.Ended, r.Worker = now(), ""
		// Before the record, which is what a process that is killed here leaves as it
		// was, and the next one finds.
		return s.finish(at, r, how)
	})
	if err == nil {
		s.reindex(ctx, id)
	}
	return err
}

// reindex reports that one run was changed, for the index.
func (s *Records) reindex(ctx context.Context, id string) {
	if s.changed == nil {
		return
	}
	s.mu.Lock()
	dir := s.dirs[id]
	s.mu.Unlock()
	if f := s.read(dir, nil); f != nil {
		s.changed(ctx, f)
	}
}

// make opens a directory below runs/, and makes it if need be.
func (s *Records) make(dir string) (*os.Root, error) {
	if err := s.runs.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	return s.runs.OpenRoot(dir)
}

// read reads a run directory, as it is now. Was is how it was before, if that
// is known.
func (s *Records) read(dir string, was *found) *found {
	first, _ := cutPath(dir)
	parent, err := s.runs.OpenRoot(first)
	if err != nil {
		return nil
	}
	defer parent.Close()
	f := look(s.root, parent, dir, nil, arrays(s.runs))
	if f != nil && was != nil {
		f.run.Holder = was.run.Holder
	}
	return f
}
