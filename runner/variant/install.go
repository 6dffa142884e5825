package variant

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/loralab/loralab/core/replacefile"
)

// Install copies the file of a plug-in into a directory, in place of one of
// that name, and returns where it is now. A process that runs the old file
// keeps it.
func Install(path, dir string) (string, error) {
	from, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("installing a plug-in: %w", err)
	}
	defer from.Close()
	to := filepath.Join(dir, filepath.Base(path))
	err = replacefile.WriteProgram(to, func(w io.Writer) error {
		_, err := io.Copy(w, from)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("installing %s: %w", path, err)
	}
	return to, nil
}
