package replacefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// The names within a temporary directory. What is written goes to a directory
// of its own there, because the temporary one is private and this one follows
// the umask.
const (
	heldFile   = "lock"   // held by the process that writes
	innerDir   = "new"    // is to become the directory
	beforeName = "before" // what was at its place, while it is replaced
)

// Dir has fill write a directory next to path and puts it there when it is
// complete. A path that is taken by anything but an empty directory is an
// error that wraps fs.ErrExist, unless replace is true; what was there is lost
// then. If fill fails, all stays as it was. What a killed process left of the
// same directory is removed.
func Dir(path string, replace bool, fill func(dir string) error) (err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return err
	}
	parent, err := folder(path)
	if err != nil {
		return err
	}
	defer parent.Close()
	name := filepath.Base(path)
	temp, release, err := temporaryDir(parent, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	files, err := os.ReadDir(path)
	taken := !errors.Is(err, fs.ErrNotExist)
	switch {
	case taken && err != nil:
		return err
	case len(files) > 0 && !replace:
		return fmt.Errorf("%s has files in it: %w", path, fs.ErrExist)
	}
	inner := filepath.Join(temp, innerDir)
	if err := parent.Mkdir(inner, 0o777); err != nil {
		return err
	}
	if err := fill(filepath.Join(parent.Name(), inner)); err != nil {
		return err
	}
	if taken {
		if err := exchange(parent, inner, name); err != nil {
			return err
		}
	} else if err := parent.Rename(inner, name); err != nil {
		return err
	}
	return syncDir(parent)
}

// exchange puts a new directory in place of another one, in one step where the
// file system can do that. Where it cannot, a process that is killed between
// the two leaves the old one where the next writer finds it.
func exchange(parent *os.Root, inner, name string) error {
	dir, err := parent.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	at := int(dir.Fd())
	if exchangeNames(at, inner, name) == nil {
		return nil
	}
	if err := parent.Rename(name, filepath.Join(filepath.Dir(inner), beforeName)); err != nil {
		return err
	}
	return parent.Rename(inner, name)
}

// temporaryDir makes and locks a directory for what is to become the one called
// name, empty but for its lock, until release.
func temporaryDir(parent *os.Root, name string) (temp string, release func() error, err error) {
	for i := 0; ; i++ {
		temp = fmt.Sprint(temporaryPrefix(name), i)
		err := parent.Mkdir(temp, 0o700)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return "", nil, err
		}
		info, err := parent.Lstat(temp)
		if errors.Is(err, fs.ErrNotExist) {
			i-- // its writer has just ended
			continue
		}
		if err != nil {
			return "", nil, err
		}
		if sys, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || ok && int(sys.Uid) != os.Geteuid() {
			continue // a link, or left by another user
		}
		lock, err := hold(parent, filepath.Join(temp, heldFile))
		if errors.Is(err, fs.ErrNotExist) {
			i--
			continue
		}
		if err != nil {
			return "", nil, err
		}
		if lock == nil {
			continue
		}
		release := func() error {
			// Removed while it is locked: who waits for the lock finds that its
			// name was removed.
			return errors.Join(parent.RemoveAll(temp), lock.Close())
		}
		if err := clear(parent, temp, name); err != nil {
			return "", nil, errors.Join(err, lock.Close())
		}
		return temp, release, nil
	}
}

// hold opens and locks a file, or returns nil where another process holds it.
func hold(parent *os.Root, name string) (*os.File, error) {
	f, err := parent.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, f.Close()
	}
	if err == nil {
		var now, opened fs.FileInfo
		if now, err = parent.Lstat(name); err == nil {
			if opened, err = f.Stat(); err == nil && !os.SameFile(now, opened) {
				err = fs.ErrNotExist // removed between opening and locking
			}
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// clear removes what a killed process left in a temporary directory. The
// directory that it was about to replace goes back to its place.
func clear(parent *os.Root, temp, name string) error {
	if _, err := parent.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		err := parent.Rename(filepath.Join(temp, beforeName), name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, left := range []string{beforeName, innerDir} {
		if err := parent.RemoveAll(filepath.Join(temp, left)); err != nil {
			return err
		}
	}
	return nil
}
