package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/loralab/loralab/core/rundir"
)

// ClaimedError says that another process works on a run.
type ClaimedError struct {
	Run    string // its identity
	Holder Holder
}

func (e *ClaimedError) Error() string {
	return fmt.Sprintf("process %d on %s works on run %s (%s)", e.Holder.PID, e.Holder.Host, rundir.Short(e.Run), e.Holder.Command)
}

// As makes claims from now on for the process that holds lock, and refuses to
// write about runs that another process has claimed.
func (s *Store) As(lock *Lock) { s.worker = lock.id }

// Claim takes a run for this process, until it is recorded as finished, failed
// or stopped, or the process ends. It returns what is known of the run at that
// moment: others may have worked on it. Where another process works on it now
// the error is a *ClaimedError; where it was removed, ErrRemoved.
func (s *Store) Claim(ctx context.Context, id string) (*Run, error) {
	err := s.amend(ctx, id, "claiming", func(r *record) error {
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
func (s *Store) Unclaim(ctx context.Context, id string) error {
	err := s.amend(ctx, id, "giving back", func(r *record) error {
		r.Worker = ""
		return nil
	})
	if err == nil {
		s.reindex(ctx, id)
	}
	return err
}

// Get is what the directory of one run says. The error wraps ErrRemoved where
// there is none.
func (s *Store) Get(ctx context.Context, id string) (*Run, error) {
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
