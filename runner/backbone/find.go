package backbone

import (
	"context"
	"fmt"
	"path/filepath"
)

// Find is Fetch for weights of which the digest is known as well. Where the name
// stands for nothing here, or for others, any copy will do that this machine has
// hashed before.
func (h *Finder) Find(ctx context.Context, name, digest string, progress func(string)) (*Backbone, error) {
	b, err := h.Resolve(name)
	if err == nil && b.Digest == digest {
		return b, nil
	}
	if copied := h.hashed(name, digest); copied != nil {
		return copied, nil
	}
	elsewhere := fmt.Sprintf("if the weights are elsewhere, `runner models fetch DIRECTORY` makes them known; their SHA-256 is %s", digest)
	if err != nil {
		if b, err = h.Fetch(ctx, name, progress); err != nil {
			return nil, fmt.Errorf("%w; %s", err, elsewhere)
		}
	}
	if b.Digest != digest {
		return nil, fmt.Errorf("the backbone %s has other weights, SHA-256 %s; %s", b.Path, b.Digest, elsewhere)
	}
	return b, nil
}

// hashed is the backbone with a digest among the files that were hashed before,
// nil if none is what it was.
func (h *Finder) hashed(name, digest string) *Backbone {
	notes, err := filepath.Glob(filepath.Join(h.Cache, "digests", "*.json"))
	if err != nil {
		return nil // the cache's name is a pattern: nothing is found in it
	}
	for _, note := range notes {
		then, ok := readNote(note)
		if !ok || then.SHA256 != digest {
			continue
		}
		for _, dir := range h.holding(then.Path) {
			// It may have changed, or gone, since.
			if b, err := h.read(name, dir, "directory"); err == nil && b.Digest == digest {
				return b
			}
		}
	}
	return nil
}

// holding are the directories whose weights are a file: its own, and the
// snapshots of Hugging Face that link to it.
func (h *Finder) holding(path string) []string {
	if filepath.Base(path) == weightFile {
		return []string{filepath.Dir(path)}
	}
	var dirs []string
	for _, m := range h.HuggingFace.Models() {
		dir, _, ok := h.HuggingFace.Snapshot(m)
		if !ok {
			continue
		}
		if real, err := filepath.EvalSymlinks(filepath.Join(dir, weightFile)); err == nil && real == path {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}
