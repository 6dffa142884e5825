package variant

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/loralab/loralab/core/regular"
	"github.com/loralab/loralab/core/replacefile"
)

// Install copies the file of a plug-in into a directory, in place of one of
// that name, and returns where it is now. A process that runs the old file
// keeps it. The copy has the sum that is given, or there is none.
func Install(path, dir, sum string) (string, error) {
	from, err := regular.Open(path)
	if err != nil {
		return "", fmt.Errorf("installing a plug-in: %w", err)
	}
	defer from.Close()
	to := filepath.Join(dir, filepath.Base(path))
	err = replacefile.WriteProgram(to, func(w io.Writer) error {
		h := sha256.New()
		if _, err := io.Copy(io.MultiWriter(w, h), from); err != nil {
			return err
		}
		if hex.EncodeToString(h.Sum(nil)) != sum {
			return errors.New("the file changed meanwhile; run the command again")
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("installing %s: %w", path, err)
	}
	return to, nil
}
