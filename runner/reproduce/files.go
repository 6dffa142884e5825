package reproduce

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/spec"
)

// MovedError lists files that are no longer where a run had them.
type MovedError struct {
	Root  string
	Files []string // below it
	Of    int
}

func (e *MovedError) Error() string {
	const most = 3
	text := strings.Join(e.Files[:min(most, len(e.Files))], ", ")
	if more := len(e.Files) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("%d of %d files below %s were renamed, moved or removed: %s; put them back under these names", len(e.Files), e.Of, e.Root, text)
}

// Found are files of a digest as they lie now: where they were, or under other
// names in the same folders, with the same contents in the same order. The error
// is a *MovedError if they are neither.
func Found(ctx context.Context, x *data.Index, files *spec.Files, digest string) (*spec.Files, error) {
	all := slices.Concat(files.GetImages(), files.GetMasks())
	var gone []string
	for _, name := range all {
		_, err := os.Stat(filepath.Join(files.GetRoot(), filepath.FromSlash(name)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			gone = append(gone, name)
		case err != nil:
			return nil, err
		}
	}
	if len(gone) == 0 {
		return files, nil
	}
	moved := &MovedError{files.GetRoot(), gone, len(all)}
	scan := data.Scan
	if len(files.GetMasks()) == 0 { // images of a style
		scan = data.ScanImages
	}
	now, err := scan(files.GetRoot())
	if err != nil || now.Len() != len(files.GetImages()) {
		return nil, moved
	}
	is, err := now.Digest(ctx, x)
	if err != nil {
		return nil, err
	}
	if is != digest {
		return nil, moved
	}
	return &spec.Files{Root: now.Root, Images: now.Images, Masks: now.Masks}, nil
}
