package replacefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// linkTries bounds how often Link begins anew where others make the same link.
const linkTries = 100

// Link makes path a symbolic link to target, and its folder if need be. What
// was there is replaced in one step; a link to target is left alone.
func Link(target, path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	// Links cannot be locked. So all writers of path share one temporary name,
	// and begin anew if another one got in between.
	temp := filepath.Join(dir, "."+filepath.Base(path)+".tmp-link")
	for range linkTries {
		if is, err := os.Readlink(path); err == nil && is == target {
			return nil
		}
		if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Symlink(target, temp); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := os.Rename(temp, path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return fmt.Errorf("linking %s to %s: others make other links of it all the time", path, target)
}
