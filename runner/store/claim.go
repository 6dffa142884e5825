package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// ClaimedError says that another process works on a run.
type ClaimedError struct {
	Run    string // its identity
	Holder Holder
}

func (e *ClaimedError) Error() string {
	return fmt.Sprintf("process %d on %s works on run %s (%s)", e.Holder.PID, e.Holder.Host, short(e.Run), e.Holder.Command)
}

// As makes claims from now on for the process that holds lock, and refuses to
// write about runs that another process has claimed.
func (s *Store) As(lock *Lock) { s.worker = lock.id }

// Claim takes a run for this process, until it is recorded as finished, failed
// or stopped, or the process ends. It returns what is known of the run at that
// moment, from the database and from its directory: others may have worked on
// it. Where another process works on it now the error is a *ClaimedError.
func (s *Store) Claim(ctx context.Context, id string) (*Run, error) {
	err := s.change(ctx, "claiming run "+short(id), func(tx *sql.Tx) error {
		if err := s.fence(tx, id); err != nil {
			return err
		}
		_, err := tx.Exec("INSERT INTO claims (run, worker) VALUES (?, ?) ON CONFLICT (run) DO UPDATE SET worker = excluded.worker", id, s.worker)
		return err
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
	return s.change(ctx, "giving back run "+short(id), func(tx *sql.Tx) error { return unclaim(tx, id) })
}

// Get is what database and directory know of one run. It is an error if the
// database does not know it.
func (s *Store) Get(ctx context.Context, id string) (*Run, error) {
	snapshot, err := s.query(ctx, "WHERE id = ?", id)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", databasePath(s.root), err)
	}
	run := snapshot.Runs[id]
	if run == nil {
		return nil, fmt.Errorf("run %s was removed from the project", short(id))
	}
	return run, readDir(s.root, run)
}

// fence refuses to go on where a living process other than this one has
// claimed the run.
func (s *Store) fence(tx *sql.Tx, id string) error {
	var worker string
	err := tx.QueryRow("SELECT worker FROM claims WHERE run = ?", id).Scan(&worker)
	if errors.Is(err, sql.ErrNoRows) || err == nil && worker == s.worker {
		return nil
	}
	if err != nil {
		return err
	}
	holders, err := Holders(s.root)
	if err != nil {
		return err
	}
	for _, h := range holders {
		if h.worker == worker {
			return &ClaimedError{Run: id, Holder: h}
		}
	}
	return nil
}

func unclaim(tx *sql.Tx, id string) error {
	_, err := tx.Exec("DELETE FROM claims WHERE run = ?", id)
	return err
}
