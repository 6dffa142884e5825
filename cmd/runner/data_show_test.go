package main

import (
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
)

// Images of a source are drawn in their own shape.
func TestShownInShape(t *testing.T) {
	root := t.TempDir()
	f, err := os.Create(filepath.Join(root, "a.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := png.Encode(f, image.NewGray(image.Rect(0, 0, 64, 48))); err != nil {
		t.Fatal(err)
	}
	shared := &spec.Data{Height: 224, Width: 224}
	p := experiment.Part{Data: shared, Files: data.Files{Root: root, Images: []string{"a.png"}, Masks: []string{"a.png"}}}
	if err := inShape(&p); err != nil {
		t.Fatal(err)
	}
	if p.Data.Height != 168 || p.Data.Width != 224 || shared.Height != 224 {
		t.Errorf("drawn as %d×%d", p.Data.Height, p.Data.Width)
	}
}
