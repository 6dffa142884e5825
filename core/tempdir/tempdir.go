// Package tempdir makes temporary directories that do not outlive their process
// for long: each has a locked file in it, and the process that makes the next
// directory removes those that no process holds any more.
package tempdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// prefix begins the names of all directories.
const prefix = "loralab-"

// lockName is the file that a directory is held by.
const lockName = ".loralab-lock"

// Dir is a temporary directory of this process.
type Dir struct {
	Path string // absolute
	lock *os.File
}

// New makes a directory for some purpose, "weights", in the system's directory
// for temporary files, and removes what killed processes have left there.
func New(purpose string) (*Dir, error) {
	parent, err := filepath.Abs(os.TempDir())
	if err != nil {
		return nil, fmt.Errorf("making a temporary directory: %w", err)
	}
	sweep(parent)
	path, err := os.MkdirTemp(parent, prefix+purpose+"-")
	if err != nil {
		return nil, fmt.Errorf("making a temporary directory: %w", err)
	}
	d := &Dir{Path: path}
	// The lock gets its name when it is held: a file of this name that nobody
	// holds is one of a process that has ended.
	name := filepath.Join(path, lockName)
	d.lock, err = os.OpenFile(name+".new", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		err = unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making a temporary directory: %w", err), d.Remove())
	}
	return d, nil
}

// Remove removes the directory with all that is in it. A nil Dir has nothing.
func (d *Dir) Remove() error {
	if d == nil {
		return nil
	}
	err := os.RemoveAll(d.Path)
	if d.lock != nil {
		err = errors.Join(err, d.lock.Close())
	}
	return err
}

// Keep makes the directory one that nobody removes.
func (d *Dir) Keep() error {
	return errors.Join(os.Remove(filepath.Join(d.Path, lockName)), d.lock.Close())
}

// sweep removes directories of processes that have ended. What it cannot remove
// is in nobody's way.
func sweep(parent string) {
	entries, _ := os.ReadDir(parent)
	for _, e := range entries {
		path := filepath.Join(parent, e.Name())
		if e.IsDir() && strings.HasPrefix(e.Name(), prefix) && ours(path) && abandoned(path) {
			_ = os.RemoveAll(path)
		}
	}
}

// ours reports whether a directory belongs to this user: others may put
// anything into a shared directory.
func ours(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() {
		return false
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(sys.Uid) == os.Geteuid()
}

func abandoned(path string) bool {
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false // it is being made, is kept, or was never ours
	}
	defer lock.Close()
	if info, err := lock.Stat(); err != nil || info.Mode()&fs.ModeType != 0 {
		return false
	}
	return unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
}

// socketMost is how long the path of a directory may be in which sockets are
// made: the system takes 107 bytes for a socket, and its name is some 20.
const socketMost = 88

// ForSockets makes a directory for the sockets of a program that go-plugin
// starts, and adds to the environment of that program where it is. Without it
// the socket of each process that was killed stays in the system's directory.
// Where the path is too long for a socket, the directory is nil.
func ForSockets(env []string) (*Dir, []string, error) {
	d, err := New("sockets")
	if err != nil {
		return nil, env, err
	}
	if len(d.Path) > socketMost {
		return nil, env, d.Remove()
	}
	return d, append(env, "PLUGIN_UNIX_SOCKET_DIR="+d.Path), nil
}
