package reproduce

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/spec"
)

// Files that were renamed are found by their contents, or named:
// trial-reliability 1.
func TestFound(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	root := t.TempDir()
	for _, folder := range []string{"images", "masks"} {
		for i, name := range []string{"a.png", "b.png", "c.png"} {
			path := filepath.Join(root, folder, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte{byte(i), byte(len(folder))}, 0o666)); err != nil {
				t.Fatal(err)
			}
		}
	}
	scanned, err := data.Scan(root)
	if err != nil {
		t.Fatal(err)
	}
	x := data.NewIndex(data.Look{})
	digest, err := scanned.Digest(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	files := &spec.Files{Root: root, Images: scanned.Images, Masks: scanned.Masks}
	if now, err := Found(t.Context(), x, files, digest); err != nil || !proto.Equal(now, files) {
		t.Fatalf("got %v, %v", now, err)
	}
	rename := func(from, to string) {
		for _, folder := range []string{"images", "masks"} {
			if err := os.Rename(filepath.Join(root, folder, from), filepath.Join(root, folder, to)); err != nil {
				t.Fatal(err)
			}
		}
	}
	rename("b.png", "bb.png") // the order stays
	if now, err := Found(t.Context(), x, files, digest); err != nil || now.Images[1] != "images/bb.png" || now.Masks[1] != "masks/bb.png" {
		t.Errorf("got %v, %v", now, err)
	}
	rename("bb.png", "z.png") // and does not
	_, err = Found(t.Context(), x, files, digest)
	var moved *MovedError
	if !errors.As(err, &moved) || !strings.Contains(err.Error(), "2 of 6 files below "+root+" were renamed, moved or removed: images/b.png, masks/b.png;") {
		t.Errorf("got %v", err)
	}
}
