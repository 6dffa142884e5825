package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Holder is who works on a project.
type Holder struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	Since   time.Time `json:"since"`
	Command string    `json:"command"`
}

// HeldError says that someone else works on the project.
type HeldError struct {
	Path   string
	Holder Holder // zero where the holder could not be read
}

func (e *HeldError) Error() string {
	if e.Holder.PID == 0 {
		return fmt.Sprintf("another runner works on this project (it holds %s)", e.Path)
	}
	return fmt.Sprintf("another runner works on this project: process %d on %s, since %s (%s); wait for it or stop it",
		e.Holder.PID, e.Holder.Host, e.Holder.Since.Local().Format(time.DateTime), e.Holder.Command)
}

// Lock is the right to change a project's runs. The operating system takes it
// back when the process ends, however it ends.
type Lock struct{ file *os.File }

// LockProject takes the lock of the project at root, or returns a *HeldError.
// Command is shown to those who come later.
func LockProject(root, command string) (*Lock, error) {
	path := filepath.Join(root, "runs", ".lock")
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, fmt.Errorf("making the directory of runs: %w", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the project: %w", err)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer file.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		held := &HeldError{Path: path}
		// Half-written information is as good as none.
		if text, err := io.ReadAll(file); err == nil {
			_ = json.Unmarshal(text, &held.Holder)
		}
		return nil, held
	}
	host, err := os.Hostname()
	if err != nil {
		host = "this machine"
	}
	text, err := json.Marshal(Holder{PID: os.Getpid(), Host: host, Since: time.Now().Truncate(time.Second), Command: command})
	if err == nil {
		err = file.Truncate(0)
	}
	if err == nil {
		_, err = file.WriteAt(append(text, '\n'), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("writing %s: %w", path, err), file.Close())
	}
	return &Lock{file: file}, nil
}

// HolderOf is who works on the project at root, nil for nobody. It makes no
// file.
func HolderOf(root string) (*Holder, error) {
	file, err := held(filepath.Join(root, "runs", ".lock"))
	if err != nil {
		return nil, fmt.Errorf("looking who works on the project: %w", err)
	}
	if file == nil {
		return nil, nil
	}
	defer file.Close()
	holder := &Holder{}
	if text, err := io.ReadAll(file); err == nil {
		_ = json.Unmarshal(text, holder)
	}
	return holder, nil
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

// Release gives the lock back.
func (l *Lock) Release() error { return l.file.Close() }

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
