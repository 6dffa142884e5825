package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/rundir"
)

// trash begins the names of run directories that are being removed.
const trash = ".trash-"

// Remove removes runs with their directories and links in logs/. A run that
// somebody works on is left, with a *ClaimedError. Whenever it is interrupted, a
// run is there or it is not.
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
	if !isRunDir(run.Dir, run.ID) {
		return fmt.Errorf("%q is no directory of a run", run.Dir)
	}
	dir := strings.TrimPrefix(run.Dir, "runs/")
	if working, err := EngineAt(filepath.Join(s.root, filepath.FromSlash(run.Dir))); err != nil || working {
		return errors.Join(err, errors.New("an engine works on it"))
	}
	var gone string
	err := s.locked(ctx, func() error {
		for i := 0; ; i++ {
			gone = fmt.Sprintf("%s%s-%d", trash, rundir.Short(run.ID), i)
			if _, err := s.runs.Lstat(gone); absent(err) {
				break
			}
		}
		delete(s.dirs, run.ID)
		return s.runs.Rename(dir, gone)
	})
	if err != nil && !absent(err) {
		return err
	}
	s.remember(ctx, nil, []string{dir})
	if err := s.runs.RemoveAll(gone); err != nil {
		return err
	}
	return unlinkLogs(s.root, run.ID, nil)
}

// sweep removes what is left of runs whose removal was interrupted. What it cannot
// remove is in nobody's way.
func (s *Store) sweep() {
	entries, _ := fs.ReadDir(s.runs.FS(), ".")
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), trash) {
			_ = s.runs.RemoveAll(e.Name())
		}
	}
}

// Tidy removes the directories of experiments to which no run belongs any more.
func (s *Store) Tidy(ctx context.Context) error {
	known, err := s.Reconcile(ctx)
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, l := range known.Labels {
		used[l.Experiment] = true
	}
	entries, err := fs.ReadDir(s.runs.FS(), ".")
	if err != nil {
		return fmt.Errorf("looking for directories without runs: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || !isElement(e.Name()) {
			continue
		}
		within, err := fs.ReadDir(s.runs.FS(), e.Name())
		if err != nil || used[e.Name()] && len(within) > 0 || slices.ContainsFunc(within, func(d fs.DirEntry) bool {
			return d.Name() != askedFile && d.Name() != Studies && d.Name() != Ensembles // which gc removes
		}) {
			continue
		}
		// What follows may fail: it is tidying.
		_ = s.runs.Remove(path.Join(e.Name(), askedFile))
		_ = s.runs.RemoveAll(path.Join(e.Name(), Studies))
		_ = s.runs.Remove(e.Name())
	}
	return nil
}
