// Package replacefile puts a file in place of another in one step: after a
// crash there is the old file or the new one, whole, and never a part.
//
// A link is never followed: one with the name of a temporary
// file is left alone, and a link with the name of the file is replaced. The
// functions that end in In write below a directory and nowhere else, whatever
// links there are.
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
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/filename"
)

// Write makes content the file at path, and its folder if need be.
func Write(path string, content []byte) error {
	return WriteFunc(path, bytesTo(content))
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

// WriteIn is Write below root.
func WriteIn(root *os.Root, name string, content []byte) error {
	return WriteFuncIn(root, name, bytesTo(content))
}

// WriteFuncIn is WriteFunc below root.
func WriteFuncIn(root *os.Root, name string, fn func(io.Writer) error) error {
	path := filepath.Join(root.Name(), name)
	dir, err := folderIn(root, name)
	if err != nil {
		return named(path, err)
	}
	defer dir.Close()
	return named(path, write(dir, filepath.Base(name), 0o666, true, fn))
}

// Many is WriteIn for one of thousands of files that are easily made again: a
// killed process leaves each of them whole or not at all, but a loss of power
// soon afterwards may leave some of them empty.
func Many(root *os.Root, name string, content []byte) error {
	path := filepath.Join(root.Name(), name)
	dir, err := folderIn(root, name)
	if err != nil {
		return named(path, err)
	}
	defer dir.Close()
	return named(path, write(dir, filepath.Base(name), 0o666, false, bytesTo(content)))
}

// CreateIn is WriteIn for a file that is not there yet. Where one is, it stays and the
// error wraps fs.ErrExist. Of several processes that create a file one succeeds.
func CreateIn(root *os.Root, name string, content []byte) error {
	path := filepath.Join(root.Name(), name)
	dir, err := folderIn(root, name)
	if err != nil {
		return named(path, err)
	}
	defer dir.Close()
	return named(path, create(dir, filepath.Base(name), content))
}

func create(dir *os.Root, name string, content []byte) error {
	f, temp, err := temporary(dir, name, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = dir.Link(temp, name)
	}
	if err = errors.Join(err, dir.Remove(temp), f.Close()); err != nil {
		return err
	}
	return syncDir(dir)
}

func bytesTo(content []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	}
}

func inPlace(path string, mode os.FileMode, fn func(io.Writer) error) error {
	dir, err := folder(path)
	if err != nil {
		return named(path, err)
	}
	defer dir.Close()
	return named(path, write(dir, filepath.Base(path), mode, true, fn))
}

// folder opens the folder of a file, which it makes if need be.
func folder(path string) (*os.Root, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	return os.OpenRoot(dir)
}

// folderIn is folder below root.
func folderIn(root *os.Root, name string) (*os.Root, error) {
	dir := filepath.Dir(name)
	if err := root.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	return root.OpenRoot(dir)
}

// named says which file an error is of. Who reads of it knows the file, not
// what is to become it.
func named(path string, err error) error {
	if err == nil {
		return nil
	}
	var at *fs.PathError
	if errors.As(err, &at) && strings.HasPrefix(filepath.Base(at.Path), temporaryPrefix(filepath.Base(path))) {
		err = at.Err
	}
	return fmt.Errorf("writing %s: %w", path, err)
}

// write makes the file called name in dir, with mode less the umask. Where safe
// is true it is on the disk afterwards.
func write(dir *os.Root, name string, mode os.FileMode, safe bool, fn func(io.Writer) error) (err error) {
	f, temp, err := temporary(dir, name, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, dir.Remove(temp), f.Close())
		}
	}()
	w := bufio.NewWriter(f)
	if err := fn(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if safe {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := dir.Rename(temp, name); err != nil {
		return err
	}
	if err := f.Close(); err != nil || !safe {
		return err
	}
	return syncDir(dir)
}

// temporaryPrefix begins the names of what is to become a file. It has room for
// a number below the 255 bytes that file systems take.
func temporaryPrefix(name string) string {
	return "." + filename.Fit(name, filename.Most) + ".tmp-"
}

// temporary opens the file that is to become the one called name, empty and
// locked. The lock ends with its process, however that ends, so what a killed
// writer left behind is taken over by the next one of the same file, and never
// piles up.
func temporary(dir *os.Root, name string, mode os.FileMode) (*os.File, string, error) {
	for i := 0; ; i++ {
		temp := fmt.Sprint(temporaryPrefix(name), i)
		if info, err := dir.Lstat(temp); err == nil && !own(info) {
			continue // a link, say, to something that is not to be written
		}
		f, err := dir.OpenFile(temp, os.O_WRONLY|os.O_CREATE|unix.O_NONBLOCK, mode)
		if errors.Is(err, fs.ErrPermission) {
			if _, e := dir.Lstat(temp); e == nil {
				continue // left by another user
			}
		}
		if err != nil {
			return nil, "", err
		}
		taken, err := take(dir, temp, f)
		if err == nil && taken {
			// It may be left of a file that more may read.
			if info, err := f.Stat(); err == nil && info.Mode().Perm()&^mode != 0 {
				return f, temp, f.Chmod(info.Mode().Perm() & mode)
			}
			return f, temp, nil
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, "", err
		}
	}
}

// own reports whether a file has one name and is what a writer leaves.
func own(info fs.FileInfo) bool {
	sys, ok := info.Sys().(*syscall.Stat_t)
	return info.Mode().IsRegular() && (!ok || sys.Nlink == 1)
}

// take locks and empties a file, unless another process has it or has made it
// something else meanwhile.
func take(dir *os.Root, temp string, f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("locking: %w", err)
	}
	// Lstat, so that a link which took the name meanwhile is another file.
	now, err := dir.Lstat(temp)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // it was renamed or removed between opening and locking
	}
	if err != nil {
		return false, err
	}
	opened, err := f.Stat()
	if err != nil || !os.SameFile(now, opened) || !own(opened) {
		return false, err
	}
	return true, f.Truncate(0)
}

// syncDir makes the new name safe: until then a crash may bring the old file
// back, which is still whole.
func syncDir(dir *os.Root) error {
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// IsTemporary reports whether a name is one that this package gives to what is
// to become a file or directory.
func IsTemporary(name string) bool {
	return strings.HasPrefix(name, ".") && strings.Contains(name, ".tmp-")
}

// InUse reports whether a process writes what has a temporary name below root.
// It is known of what this package has made, and of nothing else.
func InUse(root *os.Root, name string) (inUse, known bool) {
	info, err := root.Lstat(name)
	if err == nil && info.IsDir() {
		name = filepath.Join(name, heldFile)
		info, err = root.Lstat(name)
	}
	if err != nil || !info.Mode().IsRegular() {
		return false, err == nil // a link is there for a moment only
	}
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil, true
}
