package main

import (
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDomainsPage does all that docs/domains.md says to do, and holds its
// picture against the one that comes out. LORALAB_UPDATE=1 replaces it.
func TestDomainsPage(t *testing.T) {
	dir, out := followed(t, "../../docs/domains.md", 8)
	if dir == "" {
		return
	}
	for _, want := range []string{
		"ok, images: train 128, val 40, test 60, histology 40",
		"+ shifted/fog-3  60 images", "+ shifted/fog-5  60 images", "+ shifted/color  60 images", "ok, images: all 60",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	made := filepath.Join(dir, "shifts", "domains.png")
	const shown = "../../docs/images/domains.png"
	if os.Getenv("LORALAB_UPDATE") != "" {
		content, err := os.ReadFile(made)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(shown, content, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	a, b := decoded(t, made), decoded(t, shown)
	if a.Bounds() != b.Bounds() {
		t.Fatalf("the picture is %v, the page's %v", a.Bounds(), b.Bounds())
	}
	// Processors differ in how they round.
	var sum float64
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			r, g, _, _ := a.At(x, y).RGBA()
			s, h, _, _ := b.At(x, y).RGBA()
			sum += (math.Abs(float64(r)-float64(s)) + math.Abs(float64(g)-float64(h))) / 2 / 257
		}
	}
	if mean := sum / float64(a.Bounds().Dx()*a.Bounds().Dy()); mean > 1 {
		t.Errorf("the page shows another picture, %.1f levels off; LORALAB_UPDATE=1 replaces it", mean)
	}
}

func decoded(t *testing.T, path string) image.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
