package store

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/loralab/loralab/core/spec"
)

// Here brings the places of a request to where the project is now. A request
// names files by absolute paths; the project may have been moved, copied or
// taken to another machine since. What lay inside of it is looked for at the
// same place below root. The engine compares what is found with its
// digest.
func (r *Run) Here(root string, places *spec.Places) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	was, ok := strings.CutSuffix(places.GetRunDir(), string(filepath.Separator)+filepath.FromSlash(r.Dir))
	places.RunDir = filepath.Join(root, filepath.FromSlash(r.Dir))
	if !ok || was == "" || was == root {
		return nil
	}
	here := func(path string) string {
		rel, err := filepath.Rel(was, path)
		if path == "" || err != nil || !filepath.IsLocal(rel) {
			return path
		}
		moved := filepath.Join(root, rel)
		if _, err := os.Stat(moved); err != nil {
			return path
		}
		return moved
	}
	places.Backbone, places.Start = here(places.Backbone), here(places.Start)
	for _, files := range places.Files {
		files.Root = here(files.Root)
	}
	for digest, file := range places.Networks {
		places.Networks[digest] = here(file)
	}
	return nil
}
