package replacefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Dir has fill write a directory beside path and puts it there when it is
// complete. A path that is taken by anything but an empty directory is an
// error that wraps fs.ErrExist, unless replace is true; what was there is lost
// then. If fill fails, all stays as it was.
func Dir(path string, replace bool, fill func(dir string) error) (err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return err
	}
	files, err := os.ReadDir(path)
	taken := !errors.Is(err, fs.ErrNotExist)
	switch {
	case taken && err != nil:
		return err
	case len(files) > 0 && !replace:
		return fmt.Errorf("%s has files in it: %w", path, fs.ErrExist)
	}
	parent, name := filepath.Split(path)
	if err := os.MkdirAll(parent, 0o777); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(parent, "."+name+".tmp-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	// What is written goes to a directory within: that of MkdirTemp is private,
	// this one follows the umask.
	inner := filepath.Join(temp, strings.TrimSuffix(name, "/"))
	if err := os.Mkdir(inner, 0o777); err != nil {
		return err
	}
	if err := fill(inner); err != nil {
		return err
	}
	if taken {
		if err := os.Rename(path, filepath.Join(temp, "before")); err != nil {
			return err
		}
	}
	if err := os.Rename(inner, path); err != nil {
		return err
	}
	return syncDir(parent)
}
