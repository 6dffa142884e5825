package backbone

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Weights are found by what they are where the name does not lead to them.
func TestFind(t *testing.T) {
	h := newFinder(t)
	dir := filepath.Join(h.Root, "tiny")
	model(t, dir, 1)
	trained, err := h.Resolve("tiny")
	if err != nil {
		t.Fatal(err)
	}
	find := func(name string) (*Backbone, error) { return h.Find(t.Context(), name, trained.Digest, nil) }
	if b, err := find("tiny"); err != nil || b.Path != trained.Path {
		t.Errorf("by its name: %v, %v", b, err)
	}
	if b, err := find("./gone"); err != nil || b.Path != trained.Path || b.Name != "./gone" {
		t.Errorf("by its digest: %v, %v", b, err)
	}
	model(t, filepath.Join(h.Root, "other"), 2)
	if b, err := find("other"); err != nil || b.Path != trained.Path {
		t.Errorf("under a name that others have: %v, %v", b, err)
	}
	// In the cache that Python shares, names are links to contents.
	moved := filepath.Join(h.HuggingFace.Cache, "models--lab--tiny", "blobs", "weights")
	snapshot := filepath.Join(h.HuggingFace.Cache, "models--lab--tiny", "snapshots", strings.Repeat("a", 40))
	put(t, filepath.Join(snapshot, "config.json"), tinyConfig)
	put(t, filepath.Join(h.HuggingFace.Cache, "models--lab--tiny", "refs", "main"), strings.Repeat("a", 40))
	put(t, moved, "")
	if err := os.Rename(trained.Path, moved); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(moved, filepath.Join(snapshot, "model.safetensors")); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Resolve("lab/tiny"); err != nil { // it is hashed
		t.Fatal(err)
	}
	if b, err := find("./gone"); err != nil || b.Path != filepath.Join(snapshot, "model.safetensors") {
		t.Errorf("in the cache of Hugging Face: %v, %v", b, err)
	}
	if err := os.Remove(moved); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"./gone": "is no directory here", "other": "has other weights"} {
		if _, err := find(name); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), trained.Digest) {
			t.Errorf("%s: %v, want %q and the digest", name, err, want)
		}
	}
}
