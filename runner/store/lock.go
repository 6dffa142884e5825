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
)

// Two kinds of locks stand beside the database, both taken back by the
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
	worker  string
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
		text = append(text, fmt.Sprintf("process %d on %s, since %s (%s)", h.PID, h.Host, h.Since.Local().Format(time.DateTime), h.Command))
	}
	return "another runner works on this project: " + strings.Join(text, " and ")
}

// Lock is the right to change a project's runs.
type Lock struct {
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
	dir := workersDir(root)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("making the directory of runs: %w", err)
	}
	sweep(dir)
	host, err := os.Hostname()
	if err != nil {
		host = "this machine"
	}
	text, err := json.Marshal(Holder{PID: os.Getpid(), Host: host, Since: time.Now().Truncate(time.Second), Command: command})
	if err != nil {
		return nil, fmt.Errorf("entering the project: %w", err)
	}
	random := make([]byte, 4)
	rand.Read(random) // never fails
	l := &Lock{id: fmt.Sprintf("%d-%s", os.Getpid(), hex.EncodeToString(random))}
	path := filepath.Join(dir, l.id)
	if l.project, err = os.OpenFile(filepath.Join(root, "runs", ".lock"), os.O_RDWR|os.O_CREATE, 0o666); err != nil {
		return nil, fmt.Errorf("opening the lock of the project: %w", err)
	}
	// It gets its name when it is locked: whoever finds it unlocked under that
	// name knows that its process is gone.
	if l.worker, err = os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666); err == nil {
		_, err = l.worker.Write(append(text, '\n'))
		if err == nil {
			err = unix.Flock(int(l.worker.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		}
		if err == nil {
			err = os.Rename(path+".new", path)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("entering the project: %w", err), l.Release())
	}
	return l, nil
}

// sweep removes the files of workers that are gone. What it cannot remove is in
// nobody's way.
func sweep(dir string) {
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		if strings.HasSuffix(path, ".new") {
			if info, err := f.Info(); err != nil || time.Since(info.ModTime()) < time.Minute {
				continue // somebody just enters
			}
		}
		if file, err := held(path); err == nil && file == nil {
			_ = os.Remove(path)
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
		for _, name := range []string{strings.TrimSuffix(l.worker.Name(), ".new"), l.worker.Name()} {
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
		errs = append(errs, l.worker.Close())
	}
	return errors.Join(append(errs, l.project.Close())...)
}

func workersDir(root string) string { return filepath.Join(root, "runs", ".workers") }

// Holders is who works on the project at root, oldest first. It makes no file.
func Holders(root string) ([]Holder, error) {
	files, err := os.ReadDir(workersDir(root))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking who works on the project: %w", err)
	}
	var holders []Holder
	for _, f := range files {
		if strings.HasSuffix(f.Name(), ".new") {
			continue
		}
		file, err := held(filepath.Join(workersDir(root), f.Name()))
		if err != nil {
			return nil, fmt.Errorf("looking who works on the project: %w", err)
		}
		if file == nil {
			continue
		}
		h := Holder{}
		if text, err := io.ReadAll(file); err == nil {
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
	file, err := held(filepath.Join(dir, "lock"))
	if err != nil {
		return false, fmt.Errorf("looking whether an engine works on the run: %w", err)
	}
	if file == nil {
		return false, nil
	}
	return true, file.Close()
}

// held opens a file if someone holds a lock on it, and returns nil if nobody
// does or there is none.
func held(path string) (*os.File, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
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
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o666)
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
