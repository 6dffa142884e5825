package claim

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/rundir"
	"github.com/loralab/loralab/core/safetensors"
)

// Files that a worker replaces and never changes, so another name of them stays what it
// is. Result is the last: what it names is there before it is.
var replaced = []string{
	rundir.NextBest, rundir.Best, rundir.Last, rundir.Request, rundir.Environment, rundir.Adapter, rundir.Program, rundir.Head,
}

// Files that a worker appends to.
var appended = []string{rundir.Journal, rundir.Log}

// Directories whose files are replaced.
var folders = []string{rundir.Samples, rundir.Evaluations}

// A place is a directory with what was computed of a run so far.
type place struct {
	name string // below the run directory; "." for itself
	step int64  // of the last checkpoint; -1: none
	done bool
}

// Step is the step of the last checkpoint of a generation, 0 if it has none.
func Step(run *os.Root, generation int) uint64 {
	return uint64(max(placeAt(run, Name(generation)).step, 0))
}

func newest(run *os.Root) (place, error) {
	names, err := list(run)
	if err != nil {
		return place{}, fmt.Errorf("looking for the newest checkpoint: %w", err)
	}
	best := placeAt(run, ".")
	slices.Sort(names)
	for _, name := range names {
		n, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		p := placeAt(run, path.Join(Directory, name))
		if p.done {
			// A worker that has lost the run may not know it yet, and go on to the end.
			e := End{}
			err := decode(run, number(n)+endSuffix, &e)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return place{}, err
			}
			p.done = e.How == Done
		}
		if p.done && !best.done || p.done == best.done && p.step >= best.step {
			best = p
		}
	}
	return best, nil
}

func placeAt(run *os.Root, name string) place {
	p := place{name: name, step: -1}
	_, err := run.Lstat(path.Join(name, rundir.Result))
	p.done = err == nil
	if step, err := stepAt(run, path.Join(name, rundir.Last)); err == nil {
		p.step = int64(step)
	}
	return p
}

// stepAt is the step of a checkpoint.
func stepAt(run *os.Root, name string) (uint64, error) {
	f, err := run.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	file, err := safetensors.Map(f)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return rundir.StepOf(file.Metadata())
}

// Seed makes the directory of a generation, with what the newest place has of the run.
func Seed(run *os.Root, generation int) error {
	from, err := newest(run)
	if err == nil {
		to := Name(generation)
		if err = run.MkdirAll(to, 0o777); err == nil {
			err = bring(run, from.name, to)
		}
	}
	if err != nil {
		return fmt.Errorf("continuing the run in generation %d: %w", generation, err)
	}
	return nil
}

// Publish puts what the newest place has of the run into the run directory itself. It may
// be done again and by several, as they do the same.
func Publish(run *os.Root) error {
	from, err := newest(run)
	if err == nil && from.name != "." {
		err = bring(run, from.name, ".")
	}
	if err != nil {
		return fmt.Errorf("showing what the cluster has computed of the run: %w", err)
	}
	return nil
}

// Remove removes the directories of generations whose content is in the run directory.
// Claims and ends stay.
func Remove(run *os.Root) error {
	names, err := list(run)
	for _, name := range names {
		if _, e := strconv.Atoi(name); e == nil {
			err = errors.Join(err, run.RemoveAll(path.Join(Directory, name)))
		}
	}
	return err
}

// bringTries bounds how often files are taken again that somebody replaces meanwhile: a
// worker that has lost the run, and does not know it yet.
const bringTries = 100

// bring makes the files of one directory those of another.
func bring(run *os.Root, from, to string) error {
	for _, name := range append([]string{rundir.Checkpoints}, folders...) {
		if err := run.Mkdir(path.Join(to, name), 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	files := slices.Clone(replaced)
	for _, folder := range folders {
		entries, err := readNames(run, path.Join(from, folder))
		if err != nil {
			return err
		}
		for _, name := range entries {
			files = append(files, path.Join(folder, name))
		}
	}
	top, err := readNames(run, from)
	if err != nil {
		return err
	}
	for _, name := range top {
		if rundir.IsPatch(name) {
			files = append(files, name)
		}
	}
	// The checkpoints belong together: while the last one stays, so do the others.
	for try := 0; ; try++ {
		before, _ := run.Lstat(path.Join(from, rundir.Last))
		for _, name := range replaced[:3] {
			if err := link(run, from, to, name); err != nil {
				return err
			}
		}
		after, _ := run.Lstat(path.Join(from, rundir.Last))
		if before == nil && after == nil || before != nil && after != nil && os.SameFile(before, after) && before.ModTime().Equal(after.ModTime()) {
			break
		}
		if try == bringTries {
			return fmt.Errorf("%s changes all the time", path.Join(from, rundir.Last))
		}
	}
	for _, name := range files[3:] {
		if err := link(run, from, to, name); err != nil {
			return err
		}
	}
	for _, name := range appended {
		if err := copyFile(run, from, to, name); err != nil {
			return err
		}
	}
	return link(run, from, to, rundir.Result)
}

// readNames is the names in a directory, none where it is not there. Those of temporary
// files are left out.
func readNames(run *os.Root, name string) ([]string, error) {
	d, err := run.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return slices.DeleteFunc(names, func(s string) bool { return strings.HasPrefix(s, ".") }), err
}

// link gives a file of from the same name in to, in place of what is there. What from does
// not have stays in to: it may be that somebody has just removed from, which is in to.
func link(run *os.Root, from, to, name string) error {
	source, target := path.Join(from, name), path.Join(to, name)
	info, err := run.Lstat(source)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	if there, err := run.Lstat(target); err == nil && os.SameFile(info, there) {
		return nil
	}
	temp := path.Join(path.Dir(target), "."+path.Base(target)+"."+Nonce())
	if err := run.Link(source, temp); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // replaced just now, and looked at again
		}
		return copyFile(run, from, to, name) // a file system without links
	}
	err = run.Rename(temp, target)
	// It stays where both names are of one file already.
	if e := run.Remove(temp); !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	return err
}

// copyFile is link for a file that may still be appended to.
func copyFile(run *os.Root, from, to, name string) error {
	source, target := path.Join(from, name), path.Join(to, name)
	in, err := run.OpenFile(source, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	temp := path.Join(path.Dir(target), "."+path.Base(target)+"."+Nonce())
	out, err := run.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err == nil {
		err = run.Rename(temp, target)
	}
	if err != nil {
		return errors.Join(err, run.Remove(temp))
	}
	return nil
}
