// Package replacefile puts a file in place of another in one step: after a
// crash there is the old file or the new one, whole, and never a part.
package replacefile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
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

func inPlace(path string, mode os.FileMode, fn func(io.Writer) error) error {
	if err := write(path, mode, fn); err != nil {
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
	// Not os.CreateTemp: its files are private, ours follow the umask.
	temp := filepath.Join(dir, "."+filepath.Base(path)+".tmp-"+strconv.FormatUint(rand.Uint64(), 36))
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(temp))
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
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return syncDir(dir)
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
