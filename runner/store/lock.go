package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/rundir"
)

// Two kinds of locks lie next to the database, both taken back by the
// operating system when their process ends, however it ends.
//
// runs/.lock is held alone by who wants a project for himself, and shared by
// those who let others join. runs/.workers has one locked file for each
// process at work, with who it is. A claim of a run (see Store.Claim) names
// such a file, so it is a lease that ends with its process: no clock, no
// heartbeat, and none that expires under a process which is only slow.

// Holder is who works on a project.
type Holder struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	Since   time.Time `json:"since"`
	Command string    `json:"command"`
	// Array and Element are of a worker of a cluster; "" on this machine.
	Array   string `json:"array,omitempty"`
	Element int    `json:"element,omitempty"`
	worker  string
}

// String says who it is: "process 12 on host", or "element 3 of array A on node".
func (h Holder) String() string {
	if h.Array != "" {
		return fmt.Sprintf("element %d of array %s on %s", h.Element, h.Array, h.Host)
	}
	return fmt.Sprintf("process %d on %s", h.PID, h.Host)
}

// HeldError says that someone else works on the project.
type HeldError struct {
	Path    string
	Holders []Holder // oldest first; none where they could not be read
}

func (e *HeldError) Error() string {
	if len(e.Holders) == 0 {
		return fmt.Sprintf("another runner works on this project (it holds %s)", e.Path)
	}
	var text []string
	for _, h := range e.Holders {
		text = append(text, fmt.Sprintf("%s, since %s (%s)", h, h.Since.Local().Format(time.DateTime), h.Command))
	}
	return "another runner works on this project: " + strings.Join(text, " and ")
}

// Lock is the right to change a project's runs.
type Lock struct {
	workers         *os.Root // the directory of the files of workers
	project, worker *os.File
	id              string // of the worker
}

// joinTimeout covers those who hold a project alone for a moment: while they
// start, or remove something.
const joinTimeout = 10 * time.Second

// LockProject takes the project at root for this process alone, or returns a
// *HeldError. Command is shown to those who come later. See Share.
func LockProject(root, command string) (*Lock, error) {
	l, err := enter(root, command)
	if err != nil {
		return nil, err
	}
	if err := l.take(root, unix.LOCK_EX); err != nil {
		return nil, errors.Join(err, l.Release())
	}
	return l, nil
}

// JoinProject works on the project at root beside others who share it.
func JoinProject(ctx context.Context, root, command string) (*Lock, error) {
	l, err := enter(root, command)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(joinTimeout)
	for {
		err := l.take(root, unix.LOCK_SH)
		var held *HeldError
		if err == nil {
			return l, nil
		}
		if !errors.As(err, &held) || time.Now().After(deadline) || ctx.Err() != nil {
			return nil, errors.Join(err, l.Release())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// enter makes the file of this process among the workers.
func enter(root, command string) (*Lock, error) {
	if err := os.MkdirAll(filepath.Join(root, "runs"), 0o777); err != nil {
		return nil, fmt.Errorf("making the directory of runs: %w", err)
	}
	l := &Lock{}
	if err := l.enter(root, command); err != nil {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
			err = fmt.Errorf("the project may not be written here, only read: %w", err)
		}
		return nil, errors.Join(fmt.Errorf("entering the project: %w", err), l.Release())
	}
	return l, nil
}

func (l *Lock) enter(root, command string) error {
	runs, err := os.OpenRoot(filepath.Join(root, "runs"))
	if err != nil {
		return err
	}
	defer runs.Close()
	if err := runs.MkdirAll(workers, 0o777); err != nil {
		return err
	}
	if l.workers, err = runs.OpenRoot(workers); err != nil {
		return err
	}
	sweep(l.workers)
	host, err := os.Hostname()
	if err != nil {
		host = "this machine"
	}
	text, err := json.Marshal(Holder{PID: os.Getpid(), Host: host, Since: time.Now().Truncate(time.Second), Command: command})
	if err != nil {
		return err
	}
	random := make([]byte, 4)
	rand.Read(random) // never fails
	if l.project, err = runs.OpenFile(".lock", os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK, 0o666); err != nil {
		return fmt.Errorf("opening the lock of the project: %w", err)
	}
	// It gets its name when it is locked: whoever finds it unlocked under that
	// name knows that its process has ended.
	l.id = fmt.Sprintf("%d-%s", os.Getpid(), hex.EncodeToString(random))
	if l.worker, err = l.workers.OpenFile(l.id+".new", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666); err != nil {
		return err
	}
	if _, err = l.worker.Write(append(text, '\n')); err != nil {
		return err
	}
	if err := unix.Flock(int(l.worker.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	return l.workers.Rename(l.id+".new", l.id)
}

// sweep removes the files of workers that have ended. What it cannot remove is
// in nobody's way.
func sweep(workers *os.Root) {
	files, _ := fs.ReadDir(workers.FS(), ".")
	for _, f := range files {
		if strings.HasSuffix(f.Name(), ".new") {
			if info, err := f.Info(); err != nil || time.Since(info.ModTime()) < time.Minute {
				continue // somebody just enters
			}
		}
		if file, err := held(workers, f.Name()); err == nil && file == nil {
			_ = workers.Remove(f.Name())
		} else if file != nil {
			file.Close()
		}
	}
}

// take takes the lock of the project, or returns a *HeldError.
func (l *Lock) take(root string, how int) error {
	err := unix.Flock(int(l.project.Fd()), how|unix.LOCK_NB)
	if err == nil {
		return nil
	}
	path := l.project.Name()
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("locking %s: %w", path, err)
	}
	e := &HeldError{Path: path}
	if e.Holders, err = Holders(root); err != nil {
		return err
	}
	e.Holders = slices.DeleteFunc(e.Holders, func(h Holder) bool { return h.worker == l.id })
	return e
}

// Share lets others join.
func (l *Lock) Share() error {
	if err := unix.Flock(int(l.project.Fd()), unix.LOCK_SH); err != nil {
		return fmt.Errorf("sharing %s: %w", l.project.Name(), err)
	}
	return nil
}

// Release gives the lock back, and with it all claims.
func (l *Lock) Release() error {
	var errs []error
	if l.worker != nil {
		// Removed while it is locked: no other process can have taken the name.
		for _, name := range []string{l.id, l.id + ".new"} {
			if err := l.workers.Remove(name); err != nil && !absent(err) {
				errs = append(errs, err)
			}
		}
		errs = append(errs, l.worker.Close())
	}
	if l.workers != nil {
		errs = append(errs, l.workers.Close())
	}
	if l.project != nil {
		errs = append(errs, l.project.Close())
	}
	return errors.Join(errs...)
}

// workers is the directory below runs/ with a file for each process at work.
const workers = ".workers"

func workersDir(root string) string { return filepath.Join(root, "runs", workers) }

// Holders is who works on the project at root, oldest first. It makes no file.
func Holders(root string) ([]Holder, error) {
	dir, err := openBelow(root, "runs/"+workers)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking who works on the project: %w", err)
	}
	defer dir.Close()
	files, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("looking who works on the project: %w", err)
	}
	var holders []Holder
	for _, f := range files {
		if strings.HasSuffix(f.Name(), ".new") {
			continue
		}
		file, err := held(dir, f.Name())
		if err != nil {
			return nil, fmt.Errorf("looking who works on the project: %w", err)
		}
		if file == nil {
			continue
		}
		h := Holder{}
		if text, err := io.ReadAll(io.LimitReader(file, 1<<20)); err == nil {
			_ = json.Unmarshal(text, &h) // that somebody is there counts
		}
		h.worker = f.Name()
		holders = append(holders, h)
		file.Close()
	}
	slices.SortStableFunc(holders, func(a, b Holder) int { return a.Since.Compare(b.Since) })
	return holders, nil
}

// EngineAt reports whether an engine works in a run directory.
func EngineAt(dir string) (bool, error) {
	at, err := os.OpenRoot(dir)
	if absent(err) {
		return false, nil
	}
	var file *os.File
	if err == nil {
		defer at.Close()
		file, err = held(at, rundir.Lock)
	}
	if err != nil {
		return false, fmt.Errorf("looking whether an engine works on the run: %w", err)
	}
	if file == nil {
		return false, nil
	}
	return true, file.Close()
}

// held opens a file if someone holds a lock on it, and returns nil if nobody
// does, if there is none, or if it is no regular file.
func held(dir *os.Root, name string) (*os.File, error) {
	info, err := dir.Lstat(name)
	if absent(err) || err == nil && !info.Mode().IsRegular() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	file, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return file, nil
	}
	return nil, errors.Join(err, file.Close()) // closing gives the lock back
}

// AwaitEngine waits until no engine works in a run directory: one whose runner
// was killed takes a moment to notice.
func AwaitEngine(dir string, limit time.Duration) error {
	file, err := os.OpenFile(filepath.Join(dir, rundir.Lock), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o666)
	if err != nil {
		return fmt.Errorf("opening the lock of the run: %w", err)
	}
	defer file.Close()
	for deadline := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil // closing gives it back
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("locking %s: %w", file.Name(), err)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("another engine still works in %s; end it (see: ps -C runner-engine) and try again", dir)
		}
	}
}
