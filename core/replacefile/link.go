package replacefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// linkTries bounds how often Link begins again where others make the same link.
const linkTries = 100

// Link makes path a symbolic link to target, and its folder if need be. What
// was there is replaced in one step; a link to target is left alone.
func Link(target, path string) error {
	dir, err := folder(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return link(dir, target, filepath.Base(path))
}

// LinkIn is Link below root. Where the link leads is not looked at.
func LinkIn(root *os.Root, target, name string) error {
	dir, err := folderIn(root, name)
	if err != nil {
		return err
	}
	defer dir.Close()
	return link(dir, target, filepath.Base(name))
}

func link(dir *os.Root, target, name string) error {
	// Links cannot be locked. So all writers of a link share one temporary name,
	// and begin again if another one got in between.
	temp := temporaryPrefix(name) + "link"
	for range linkTries {
		if is, err := dir.Readlink(name); err == nil && is == target {
			return nil
		}
		if err := dir.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := dir.Symlink(target, temp); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := dir.Rename(temp, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("linking %s to %s: others make other links of it all the time", filepath.Join(dir.Name(), name), target)
}
