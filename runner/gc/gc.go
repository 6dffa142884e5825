// Package gc finds what nobody needs any more in a project, and removes it.
// Finding changes nothing: people look before they say yes.
//
// Runs are only found for experiments that are given, since nothing else tells
// what is wanted: a run at another scale or of an older file may be precious.
package gc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/store"
)

// Item is one thing that can be removed.
type Item struct {
	Name  string // of the run, or the path below the project
	Why   string
	Bytes int64

	Stored *store.Run // nil: a file or directory that is of no run
	path   string
}

// Run is the item of a run.
func Run(root string, known *store.Snapshot, run *store.Run, why string) Item {
	return Item{Name: run.Name(), Why: why, Bytes: size(filepath.Join(root, filepath.FromSlash(run.Dir))), Stored: run}
}

// Runs lists runs that only the given experiments ever asked for, and that they
// do not ask for now.
func Runs(root string, known *store.Snapshot, experiments []*experiment.Experiment) ([]Item, error) {
	named, wanted := map[string]bool{}, map[string]bool{}
	now := map[string]*experiment.Run{} // by name
	for _, e := range experiments {
		named[e.Name] = true
		for _, run := range e.Runs {
			wanted[run.ID] = true
			now[run.Name()] = run
		}
	}
	ours := map[string]store.Label{}
	others := map[string]bool{}
	for _, l := range known.Labels {
		if named[l.Experiment] {
			ours[l.Run] = l
		} else {
			others[l.Run] = true
		}
	}
	var items []Item
	for id, l := range ours {
		run := known.Runs[id]
		if run == nil || wanted[id] || others[id] || run.Holder != nil {
			continue
		}
		why := "no longer asked for"
		if successor := now[l.Name()]; successor != nil {
			old, err := run.Spec()
			if err != nil {
				return nil, err
			}
			why = "superseded"
			if changes := spec.Diff(old, successor.Spec); len(changes) > 0 {
				why = fmt.Sprintf("superseded: %s was %s, is %s", changes[0].Path, brief(changes[0].From), brief(changes[0].To))
			}
		}
		items = append(items, Run(root, known, run, why))
	}
	sortItems(items)
	return items, nil
}

// Smokes lists runs of apply --smoke that nobody works on.
func Smokes(root string, known *store.Snapshot) []Item {
	var items []Item
	for _, run := range known.Runs {
		if experiment.IsSmoke(run.Experiment) && run.Holder == nil {
			items = append(items, Run(root, known, run, "smoke run"))
		}
	}
	sortItems(items)
	return items
}

// Checkpoints lists the last checkpoints of runs that are done: they hold the
// optimiser's state, and the weights after the last step, which another domain
// may want to be scored with. The best weights stay.
//
// Those of runs among others, which go as a whole, are left out.
func Checkpoints(root string, known *store.Snapshot, others []Item) []Item {
	var items []Item
	going := map[string]bool{}
	for _, item := range others {
		if item.Stored != nil {
			going[item.Stored.ID] = true
		}
	}
	for _, run := range known.Runs {
		path := filepath.Join(root, filepath.FromSlash(run.Dir), "checkpoints", "last.safetensors")
		info, err := os.Stat(path)
		if err != nil || run.State != store.Done || run.Holder != nil || going[run.ID] {
			continue
		}
		items = append(items, Item{
			Name: run.Name() + " last.safetensors", Why: "last checkpoint",
			Bytes: info.Size(), path: path,
		})
	}
	sortItems(items)
	return items
}

// fresh is how old a file must be to be nobody's work in progress.
const fresh = time.Minute

// Leftovers lists what killed processes left: run directories in which nothing
// was begun, halves of files, removed and imported runs halfway, and links to
// logs that are gone.
func Leftovers(root string, known *store.Snapshot) ([]Item, error) {
	runs := filepath.Join(root, "runs")
	dirs := map[string]bool{}
	for _, run := range known.Runs {
		dirs[filepath.Join(root, filepath.FromSlash(run.Dir))] = true
	}
	var items []Item
	add := func(path, why string) {
		rel, err := filepath.Rel(root, path)
		if err != nil {
			rel = path
		}
		items = append(items, Item{Name: filepath.ToSlash(rel), Why: why, Bytes: size(path), path: path})
	}
	err := filepath.WalkDir(runs, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // removed while we look
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || time.Since(info.ModTime()) < fresh {
			return nil
		}
		rel, err := filepath.Rel(runs, path)
		if err != nil {
			return err
		}
		name, depth := d.Name(), strings.Count(filepath.ToSlash(rel), "/")
		switch {
		case strings.HasPrefix(name, ".trash-") || strings.HasPrefix(name, ".import-"):
			add(path, "interrupted while it was removed or imported")
		case d.IsDir() && name == ".workers":
		case d.IsDir() && depth == 1 && !dirs[path]:
			if _, err := os.Stat(filepath.Join(path, "request.json")); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if working, err := store.EngineAt(path); err != nil || working {
				return err
			}
			add(path, "no run was begun in it")
		case !d.IsDir() && strings.HasPrefix(name, ".") && strings.Contains(name, ".tmp-"):
			add(path, "half a file of a process that was killed")
			return nil
		default:
			return nil
		}
		return filepath.SkipDir
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking for leftovers: %w", err)
	}
	logs := filepath.Join(root, "logs")
	err = filepath.WalkDir(logs, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink == 0 {
			return err
		}
		// A run that was not begun has no metrics yet, though a directory or a
		// place in the database.
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		dir := filepath.Dir(filepath.Join(filepath.Dir(path), target))
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && !dirs[dir] {
			add(path, "the run is gone")
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("looking for leftovers: %w", err)
	}
	sortItems(items)
	return items, nil
}

// Remove removes items. The project must be locked.
func Remove(ctx context.Context, root string, runs *store.Store, items []Item) error {
	known, err := runs.Reconcile(ctx)
	if err != nil {
		return err
	}
	for _, item := range items {
		if item.Stored == nil {
			if err := os.RemoveAll(item.path); err != nil {
				return fmt.Errorf("removing %s: %w", item.Name, err)
			}
			continue
		}
		// As it is now, not as it was when it was found.
		if run := known.Runs[item.Stored.ID]; run != nil {
			if err := runs.Remove(ctx, []*store.Run{run}); err != nil {
				return err
			}
		}
	}
	return nil
}

// size is how much a file or directory holds, as far as it can be read.
func size(path string) (sum int64) {
	_ = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}

func sortItems(items []Item) {
	slices.SortFunc(items, func(a, b Item) int { return strings.Compare(a.Name, b.Name) })
}

func brief(value string) string {
	if len(value) == 64 && strings.Trim(value, "0123456789abcdef") == "" {
		return value[:8]
	}
	return value
}
