// Package replacefile puts a file in place of another in one step: after a
// crash there is the old file or the new one, whole, and never a part.
package replacefile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Write makes content the file at path, and its folder if need be.
func Write(path string, content []byte) error {
	return WriteFunc(path, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// WriteFunc is Write for content that fn writes. If fn fails, the file stays as
// it was.
func WriteFunc(path string, fn func(io.Writer) error) error {
	return inPlace(path, 0o666, fn)
}

// WriteProgram is WriteFunc for a file that can be executed.
func WriteProgram(path string, fn func(io.Writer) error) error {
	return inPlace(path, 0o777, fn)
}

// WritePrivate is WriteFunc for a file that only its user can read.
func WritePrivate(path string, fn func(io.Writer) error) error {
	return inPlace(path, 0o600, fn)
}

func inPlace(path string, mode os.FileMode, fn func(io.Writer) error) error {
	err := write(path, mode, fn)
	// Who reads of it knows the file, not what is to become it.
	var at *fs.PathError
	if errors.As(err, &at) && strings.HasPrefix(filepath.Base(at.Path), "."+filepath.Base(path)+".tmp-") {
		err = at.Err
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// write makes the file with mode, less the umask.
func write(path string, mode os.FileMode, fn func(io.Writer) error) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	f, err := temporary(path, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()), f.Close())
		}
	}()
	w := bufio.NewWriter(f)
	if err := fn(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return syncDir(dir)
}

// temporary opens the file that is to become path, empty and locked. The lock
// ends with its process, however that ends, so what a killed writer left behind
// is taken over by the next one of the same file, and never piles up.
func temporary(path string, mode os.FileMode) (*os.File, error) {
	for i := 0; ; i++ {
		name := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.tmp-%d", filepath.Base(path), i))
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, mode)
		if errors.Is(err, fs.ErrPermission) {
			if _, e := os.Lstat(name); e == nil {
				continue // left by another user
			}
		}
		if err != nil {
			return nil, err
		}
		taken, err := take(f)
		if err == nil && taken {
			return f, nil
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
}

// take locks and empties a file, unless another process has it or has made it
// something else meanwhile.
func take(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("locking: %w", err)
	}
	named, err := os.Stat(f.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // it was renamed or removed between opening and locking
	}
	if err != nil {
		return false, err
	}
	opened, err := f.Stat()
	if err != nil || !os.SameFile(named, opened) {
		return false, err
	}
	return true, f.Truncate(0)
}

// syncDir makes the new name safe: until then a crash may bring the old file
// back, which is still whole.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
