package data

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/raster"
)

// fixtures are what Pillow made of the same bytes; see testdata/make_fixtures.py.
type fixtures struct {
	Resize []struct {
		W, H, ToW, ToH                    int
		Pixels, Bilinear, Labels, Nearest []byte
	}
	Pictures map[string]struct {
		W, H int
		RGB  []byte
	}
	Masks map[string]struct {
		W, H   int
		Values []uint32
	}
}

func loadFixtures(t *testing.T) fixtures {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", "fixtures.json"))
	if err != nil {
		t.Fatal(err)
	}
	var f fixtures
	if err := json.Unmarshal(content, &f); err != nil {
		t.Fatal(err)
	}
	if len(f.Resize) == 0 || len(f.Pictures) == 0 || len(f.Masks) == 0 {
		t.Fatal("the fixtures are empty")
	}
	return f
}

func TestResizeIsPillowsToTheByte(t *testing.T) {
	for _, c := range loadFixtures(t).Resize {
		from, to := raster.Size{H: c.H, W: c.W}, raster.Size{H: c.ToH, W: c.ToW}
		image := raster.Image{Size: from, RGB: slices.Repeat(c.Pixels, 3)}
		if got := image.Resized(to); got.Size != to || !slices.Equal(got.RGB, slices.Repeat(c.Bilinear, 3)) {
			t.Errorf("bilinear %d×%d → %d×%d differs", c.W, c.H, c.ToW, c.ToH)
		}
		labels := raster.Labels{Size: from, Pix: c.Labels}
		if got := labels.Resized(to); got.Size != to || !slices.Equal(got.Pix, c.Nearest) {
			t.Errorf("nearest %d×%d → %d×%d differs", c.W, c.H, c.ToW, c.ToH)
		}
	}
}

func TestEveryStorageFormReadsLikePillow(t *testing.T) {
	for name, want := range loadFixtures(t).Pictures {
		p, err := readImage(filepath.Join("testdata", "pictures", name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.W != want.W || p.H != want.H {
			t.Errorf("%s: %d×%d, want %d×%d", name, p.W, p.H, want.W, want.H)
			continue
		}
		// JPEG and lossy WebP leave the rounding of their transforms, and of
		// colors at half the resolution, to the decoder.
		tolerance := 0
		switch {
		case name == "lossy.webp":
			tolerance = 12
		case filepath.Ext(name) == ".jpg" && name != "gif.jpg":
			tolerance = 2
		}
		for i := range p.W * p.H {
			for c := range 3 {
				got, exp := int(p.RGB[c*p.Area()+i]), int(want.RGB[3*i+c])
				if max(got-exp, exp-got) > tolerance {
					t.Fatalf("%s: pixel %d channel %d is %d, want %d", name, i, c, got, exp)
				}
			}
		}
	}
}

func TestMasksAreTheStoredNumbers(t *testing.T) {
	for name, want := range loadFixtures(t).Masks {
		m, err := readMask(filepath.Join("testdata", "pictures", name), asIndices)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if m.W != want.W || m.H != want.H || !slices.Equal(m.values, want.Values) {
			t.Errorf("%s: %d×%d %v, want %d×%d %v", name, m.W, m.H, m.values, want.W, want.H, want.Values)
		}
	}
}

func TestColorsAndJPEGAreNoMask(t *testing.T) {
	for _, name := range []string{"rgb.png", "rgba.png", "rgb.tif", "rgb.bmp", "grey.jpg", "gif.jpg", "lossless.webp"} {
		if _, err := readMask(filepath.Join("testdata", "pictures", name), asIndices); err == nil {
			t.Errorf("%s was read as a mask", name)
		}
	}
}

// Damaged EXIF does not hide sound pixels, and nobody's EXIF makes the reader
// panic.
func TestDamagedEXIF(t *testing.T) {
	sound, err := os.ReadFile(filepath.Join("testdata", "pictures", "turned6.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(sound, []byte("Exif\x00\x00"))
	rapid.Check(t, func(t *rapid.T) {
		content := bytes.Clone(sound)
		for range rapid.IntRange(1, 4).Draw(t, "faults") {
			content[at+6+rapid.IntRange(0, 25).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		p, err := decodeImage(content)
		if err != nil {
			t.Fatalf("not read: %v", err)
		}
		if p.H*p.W != 9*13 {
			t.Fatalf("%d×%d", p.H, p.W)
		}
	})
}
