package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// trash begins the names of run directories that are being removed.
const trash = ".trash-"

// Remove removes runs with their directories, labels and links in logs/. A run
// that somebody works on is left, with a *ClaimedError. Whenever it is
// interrupted, a run is there or it is not.
func (s *Store) Remove(ctx context.Context, runs []*Run) error {
	for _, run := range runs {
		if err := s.remove(ctx, run); err != nil {
			return fmt.Errorf("removing %s: %w", run.Name(), err)
		}
	}
	return nil
}

func (s *Store) remove(ctx context.Context, run *Run) error {
	if run.Holder != nil {
		return &ClaimedError{Run: run.ID, Holder: *run.Holder}
	}
	dir := filepath.Join(s.root, filepath.FromSlash(run.Dir))
	if working, err := EngineAt(dir); err != nil || working {
		return errors.Join(err, errors.New("an engine works on it"))
	}
	gone := filepath.Join(s.root, "runs", trash+short(run.ID))
	if err := os.Rename(dir, gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.Forget(ctx, []string{run.ID}); err != nil {
		return err
	}
	if err := os.RemoveAll(gone); err != nil {
		return err
	}
	links, err := filepath.Glob(filepath.Join(globEscape(s.root), "logs", "*", "*-"+run.ID[:min(8, len(run.ID))]+".jsonl"))
	if err != nil {
		return err
	}
	for _, link := range links {
		if err := os.Remove(link); err != nil {
			return err
		}
	}
	// The directory of an experiment without runs goes too.
	for _, parent := range []string{filepath.Dir(dir), filepath.Join(s.root, "logs", run.Experiment)} {
		_ = os.Remove(parent) // it is not empty, or not there
	}
	return nil
}
