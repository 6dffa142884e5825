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
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/loralab/loralab/core/replacefile"
	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/claim"
	"github.com/loralab/loralab/runner/ensemble"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/pilot"
	"github.com/loralab/loralab/runner/store"
	"github.com/loralab/loralab/runner/study"
)

// Item is one thing that can be removed.
type Item struct {
	Name  string // of the run, or the path below the project
	Why   string
	Bytes int64

	Stored *store.Run // nil: a file or directory that is of no run
	// Names are those of the run when it was found. Where Kept is true they are
	// those that are taken off it.
	Names []store.Label
	Kept  bool // the run itself stays

	path string // relative to the project, with slashes; of no run
}

// Run is the item of a run.
func Run(known *store.Snapshot, run *store.Run, why string) Item {
	return Item{Name: run.Name(), Why: why, Bytes: size(known.Root, run.Dir), Stored: run, Names: known.Names(run.ID)}
}

// Names is the item of names that are taken off a run, which has others.
func Names(run *store.Run, names []store.Label, why string) Item {
	var list []string
	for _, l := range names {
		list = append(list, l.Name())
	}
	return Item{Name: strings.Join(list, ", "), Why: why, Stored: run, Names: names, Kept: true}
}

// Runs lists runs that only the given experiments ever asked for, and that they
// do not ask for now.
func Runs(known *store.Snapshot, experiments []*experiment.Experiment) ([]Item, error) {
	named, wanted := map[string]*experiment.Experiment{}, map[string]bool{}
	now := map[string]*experiment.Run{} // by name
	for _, e := range experiments {
		named[e.Name] = e
		for _, run := range e.Runs {
			wanted[run.ID] = true
			now[run.Name()] = run
		}
	}
	ours := map[string]store.Label{}
	others := map[string]bool{}
	for _, l := range known.Labels {
		if e := named[l.Experiment]; e != nil {
			wanted[l.Run] = wanted[l.Run] || e.Searches(l.Cell)
			ours[l.Run] = l
		} else {
			others[l.Run] = true
		}
	}
	current := known.Current()
	var items []Item
	for id, l := range ours {
		run := known.Runs[id]
		if run == nil || wanted[id] || others[id] || run.Holder != nil {
			continue
		}
		why := "no longer asked for"
		if successor := now[l.Name()]; successor != nil {
			why = "superseded"
			// Of a damaged run it is not known what moved.
			if old, err := run.Spec(); err == nil {
				if changes := spec.Diff(old, successor.Spec); len(changes) > 0 {
					why = fmt.Sprintf("superseded: %s was %s, is %s", changes[0].Path, brief(changes[0].From), brief(changes[0].To))
				}
			}
		}
		// It may have been with other tags or values.
		if known.Asked[l.Experiment] != nil && current(l) {
			why += "; the newest apply did ask for it"
		}
		items = append(items, Run(known, run, why))
	}
	sortItems(items)
	return items, nil
}

// Ensembles lists the scores of ensembles of which a member was removed, and of those
// that the given experiments do not ask for now. Others may be asked for with other
// tags or values.
func Ensembles(known *store.Snapshot, experiments []*experiment.Experiment) ([]Item, error) {
	there, err := ensemble.Known(known.Root)
	if err != nil {
		return nil, err
	}
	named, wanted := map[string]bool{}, map[string]bool{}
	for _, e := range experiments {
		named[e.Name] = true
		for _, one := range ensemble.Of(e) {
			wanted[one.Dir()] = true
		}
	}
	var items []Item
	for at, r := range there {
		gone := slices.ContainsFunc(r.Members, func(m ensemble.Member) bool { return known.Runs[m.ID] == nil })
		why := ""
		switch {
		case gone || len(r.Members) == 0:
			why = "ensemble of runs that were removed"
		case named[path.Base(path.Dir(path.Dir(at)))] && !wanted[at]:
			why = "ensemble that is no longer asked for"
		}
		working, err := store.EngineAt(filepath.Join(known.Root, filepath.FromSlash(at)))
		if why != "" && err == nil && !working {
			items = append(items, Item{Name: at, Why: why, Bytes: size(known.Root, at), path: at})
		}
	}
	sortItems(items)
	return items, nil
}

// Studies lists the directories of searches that the given experiments do not ask for
// now.
func Studies(known *store.Snapshot, experiments []*experiment.Experiment) []Item {
	var items []Item
	for _, e := range experiments {
		wanted := map[string]bool{}
		for _, s := range e.Studies {
			wanted[path.Join("runs", study.Dir(e.Name, s.Cell))] = true
		}
		entries, _ := os.ReadDir(filepath.Join(known.Root, "runs", e.Name, store.Studies))
		for _, entry := range entries {
			if at := path.Join("runs", e.Name, store.Studies, entry.Name()); entry.IsDir() && !wanted[at] {
				items = append(items, Item{Name: at, Why: "search that is no longer asked for", Bytes: size(known.Root, at), path: at})
			}
		}
	}
	sortItems(items)
	return items
}

// Smokes lists runs of apply --smoke that nobody works on, and that no other
// experiment asked for, and the reports of those experiments that have no other runs.
func Smokes(known *store.Snapshot) []Item {
	smoke, others := map[string]bool{}, map[string]bool{}
	found := map[string]bool{} // runs
	for _, l := range known.Labels {
		if experiment.IsSmoke(l.Experiment) {
			smoke[l.Run] = true
		} else {
			others[l.Run] = true
		}
	}
	var items []Item
	for id := range smoke {
		run := known.Runs[id]
		if run == nil || run.Holder != nil || others[id] {
			continue
		}
		// Older versions let experiments have such names.
		if s, err := run.Spec(); err != nil || !experiment.IsSmokeSpec(s) {
			continue
		}
		items = append(items, Run(known, run, "smoke run"))
		found[id] = true
	}
	left := map[string]bool{} // whether an experiment has other runs
	for _, l := range known.Labels {
		if experiment.IsSmoke(l.Experiment) {
			left[l.Experiment] = left[l.Experiment] || !found[l.Run]
		}
	}
	for name, has := range left {
		for _, top := range []string{"plots", "report"} {
			at := path.Join(top, name)
			if bytes := size(known.Root, at); !has && bytes > 0 {
				items = append(items, Item{Name: at, Why: "report of smoke runs", Bytes: bytes, path: at})
			}
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
func Checkpoints(known *store.Snapshot, others []Item) []Item {
	var items []Item
	going := map[string]bool{}
	for _, item := range others {
		if item.Stored != nil && !item.Kept {
			going[item.Stored.ID] = true
		}
	}
	for _, run := range known.Runs {
		if run.State != store.Done || run.Damage != nil || run.Holder != nil || going[run.ID] {
			continue
		}
		at := path.Join(run.Dir, rundir.Last)
		if bytes := size(known.Root, at); bytes > 0 {
			items = append(items, Item{Name: run.Name() + " " + path.Base(rundir.Last), Why: "last checkpoint", Bytes: bytes, path: at})
		}
	}
	sortItems(items)
	return items
}

// fresh is how old a file must be to be nobody's work in progress, where no lock
// tells; old is that of a directory, which may take hours to fill. Where a lock tells,
// unlocked is enough: a file is locked in the moment in which it is made.
const (
	unlocked = 2 * time.Second
	fresh    = time.Minute
	old      = 24 * time.Hour
)

// tops are the directories of a project in which its commands write. Any of them
// may be a link, to a scratch disk for example; below them no link is followed.
var tops = []string{"runs", "logs", "plots", "report", "exports"}

// Leftovers lists what killed processes left: run directories in which nothing
// was begun, halves of files and directories, runs that were being removed or
// imported, and links to logs of runs that were removed.
func Leftovers(known *store.Snapshot) ([]Item, error) {
	var items []Item
	for _, top := range tops {
		root, err := os.OpenRoot(filepath.Join(known.Root, top))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("looking for leftovers: %w", err)
		}
		l := &leftovers{known: known, top: top, root: root}
		err = fs.WalkDir(root.FS(), ".", l.visit)
		root.Close()
		if err != nil {
			return nil, fmt.Errorf("looking for leftovers: %w", err)
		}
		items = append(items, l.items...)
	}
	sortItems(items)
	return items, nil
}

// leftovers looks through one of the tops.
type leftovers struct {
	known *store.Snapshot
	top   string
	root  *os.Root
	items []Item
}

func (l *leftovers) add(name, why string) {
	at := path.Join(l.top, name)
	l.items = append(l.items, Item{Name: at, Why: why, Bytes: size(l.known.Root, at), path: at})
}

func (l *leftovers) visit(name string, d fs.DirEntry, err error) error {
	if err != nil {
		// Removed while we look, or not to be read by this user: not ours to remove.
		if d != nil && d.IsDir() && name != "." {
			return fs.SkipDir
		}
		return nil
	}
	if name == "." {
		return nil
	}
	info, err := d.Info()
	if err != nil {
		return nil
	}
	age := time.Since(info.ModTime())
	base, depth := d.Name(), strings.Count(name, "/")
	skip := func() error {
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	}
	switch {
	case replacefile.IsTemporary(base):
		inUse, known := replacefile.InUse(l.root, name)
		if !inUse && (age > old || known && age > unlocked) {
			l.add(name, "half of what a process that was killed has written")
		}
		return skip()
	case l.top == "runs" && claim.IsTemporary(base) && !d.IsDir():
		if age > fresh { // written in a moment, and on which node nothing says
			l.add(name, "half of what a worker that was killed has written")
		}
		return nil
	case l.top == "runs" && name == store.Arrays:
		return nil
	case l.top == "runs" && path.Dir(name) == store.Arrays && d.IsDir():
		holds := slices.ContainsFunc(l.known.Workers(), func(h store.Holder) bool { return h.Array == base })
		if age > fresh && l.has(name, pilot.Ended) && !holds {
			l.add(name, "array of workers that has ended")
		}
		return fs.SkipDir
	case l.top == "logs" && d.Type()&fs.ModeSymlink != 0:
		return l.link(name)
	case l.top != "runs":
		return nil
	case depth == 0 && (strings.HasPrefix(base, ".trash-") || strings.HasPrefix(base, ".import-")):
		if age > fresh {
			l.add(name, "interrupted while it was removed or imported")
		}
		return skip()
	case depth == 0 && strings.HasPrefix(base, "loralab.db.damaged-"):
		l.add(name, "a damaged database that was set aside")
		return skip()
	case strings.HasPrefix(base, "."):
		return skip()
	case depth == 1 && d.IsDir() && len(base) == 12 && strings.Trim(base, "0123456789abcdef") == "":
		if age < fresh || l.has(name, rundir.Record) || l.has(name, rundir.Request) {
			return nil
		}
		if working, err := store.EngineAt(filepath.Join(l.root.Name(), name)); err != nil || working {
			return fs.SkipDir
		}
		l.add(name, "no run was begun in it")
		return fs.SkipDir
	}
	return nil
}

func (l *leftovers) has(dir, name string) bool {
	_, err := l.root.Lstat(path.Join(dir, name))
	return !errors.Is(err, fs.ErrNotExist)
}

// link looks at a link to a log: that of a run which was not begun leads
// nowhere yet, but to its directory.
func (l *leftovers) link(name string) error {
	target, err := l.root.Readlink(name)
	if err != nil || path.Base(target) != rundir.Journal {
		return nil // not one of ours
	}
	if !path.IsAbs(target) {
		target = filepath.Join(l.root.Name(), path.Dir(name), target)
	}
	if _, err := os.Stat(filepath.Dir(target)); errors.Is(err, fs.ErrNotExist) {
		l.add(name, "its run was removed")
	}
	return nil
}

// Remove removes items and says what it left, and why. The project must be
// locked.
func Remove(ctx context.Context, root string, runs *store.Store, items []Item) (left []string, err error) {
	known, err := runs.Reconcile(ctx)
	if err != nil {
		return nil, err
	}
	for _, item := range items {
		if item.Stored == nil {
			if err := removeAll(root, item.path); err != nil {
				return left, fmt.Errorf("removing %s: %w", item.Name, err)
			}
			continue
		}
		// As it is now, not as it was when it was found.
		run := known.Runs[item.Stored.ID]
		if run == nil {
			continue
		}
		if item.Kept {
			if err := runs.Unname(ctx, run.ID, item.Names); err != nil {
				return left, err
			}
			continue
		}
		if more := newNames(known.Names(run.ID), item.Names); more != "" {
			left = append(left, fmt.Sprintf("%s was left: %s asks for it since it was looked at", item.Name, more))
			continue
		}
		if err := runs.Remove(ctx, []*store.Run{run}); err != nil {
			return left, err
		}
	}
	return left, runs.Tidy(ctx)
}

// newNames is a name that a run has and had not.
func newNames(is, was []store.Label) string {
	for _, l := range is {
		if !slices.ContainsFunc(was, func(o store.Label) bool { return o.Name() == l.Name() }) {
			return l.Name()
		}
	}
	return ""
}

// below opens one of the tops, and says what of a path comes behind it.
func below(root, at string) (*os.Root, string, error) {
	top, rest, _ := strings.Cut(at, "/")
	r, err := os.OpenRoot(filepath.Join(root, top))
	return r, rest, err
}

func removeAll(root, at string) error {
	r, rest, err := below(root, at)
	if err != nil {
		return err
	}
	defer r.Close()
	return r.RemoveAll(rest)
}

// size is how much a file or directory holds, as far as it can be read.
func size(root, at string) (sum int64) {
	r, rest, err := below(root, at)
	if err != nil {
		return 0
	}
	defer r.Close()
	_ = fs.WalkDir(r.FS(), rest, func(_ string, d fs.DirEntry, err error) error {
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
