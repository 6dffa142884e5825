package data

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// form is a picture in some storage form; see testdata/make_forms.py.
type form struct {
	File   []byte
	W, H   int
	RGB    []byte // null where Pillow cannot read it
	Values []uint32
	Pages  int
}

func loadForms(t testing.TB) map[string]form {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", "forms.json"))
	if err != nil {
		t.Fatal(err)
	}
	var f struct{ Forms map[string]form }
	if err := json.Unmarshal(content, &f); err != nil {
		t.Fatal(err)
	}
	if len(f.Forms) < 100 {
		t.Fatalf("%d forms", len(f.Forms))
	}
	return f.Forms
}

// refused are the forms that are not read, with words of the reason.
var refused = map[string]string{
	"animated.webp":                    "animated",
	"bigtiff.tif":                      "BigTIFF",
	"cmyk.tif":                         "CMYK",
	"float-predictor.tif":              "predictor 3",
	"float32.tif":                      "floating-point",
	"gray-alpha-one-bits.tif":          "2 channels with [8] bits",
	"gray-alpha.tif":                   "with 2 channels",
	"gray1-fill2.tif":                  "FillOrder",
	"gray1-white0.tif":                 "0 is white",
	"gray16-big-c32773-p2.tif":         "predictor 2, compression 32773",
	"gray16-little-c32773-p2.tif":      "predictor 2, compression 32773",
	"gray16-white0.tif":                "0 is white",
	"gray2.tif":                        "gray TIFF of 2 bits",
	"gray32.tif":                       "gray TIFF of 32 bits",
	"gray4.tif":                        "gray TIFF of 4 bits",
	"gray8-big-c32773-p2.tif":          "predictor 2, compression 32773",
	"gray8-fill2.tif":                  "FillOrder",
	"gray8-little-c32773-p2.tif":       "predictor 2, compression 32773",
	"gray8-no-photometric.tif":         "0 is white",
	"gray8-predictor-uncompressed.tif": "predictor 2, compression 1 ",
	"gray8-white0.tif":                 "0 is white",
	"group3.tif":                       "CCITT",
	"group4.tif":                       "CCITT",
	"jpeg.tif":                         "with JPEG compression",
	"lab.tif":                          "L*a*b*",
	"palette16.tif":                    "palette TIFF of 16 bits",
	"palette4.tif":                     "palette TIFF of 4 bits",
	"partial.gif":                      "covers a part",
	"rgb16-big-c32773-p2.tif":          "predictor 2, compression 32773",
	"rgb16-little-c32773-p2.tif":       "predictor 2, compression 32773",
	"rgb8-big-c32773-p2.tif":           "predictor 2, compression 32773",
	"rgb8-little-c32773-p2.tif":        "predictor 2, compression 32773",
	"rgb8-one-bits.tif":                "3 channels with [8] bits",
	"rgb8-planar-deflate.tif":          "planar",
	"rgb8-planar-strips.tif":           "planar",
	"rgb8-planar.tif":                  "planar",
	"rgba16-big-c32773-p2.tif":         "predictor 2, compression 32773",
	"rgba16-little-c32773-p2.tif":      "predictor 2, compression 32773",
	"rgba16-premultiplied.tif":         "multiplied by alpha",
	"rgba8-no-extra.tif":               "fourth channel",
	"rgba8-unspecified.tif":            "fourth channel",
	"signed16.tif":                     "without sign",
	"signed8.tif":                      "without sign",
	"tiff_ccitt.tif":                   "CCITT",
	"void8.tif":                        "without sign",
	"ycbcr.tif":                        "YCbCr",
	"zstd.tif":                         "zstd",
}

// Every form is read as Pillow reads it or refused in words: trial-data F2, F3,
// F6, F19, F24.
func TestEveryFormIsPillowsOrRefused(t *testing.T) {
	for name, f := range loadForms(t) {
		p, err := decodeImage(f.File)
		if words, ok := refused[name]; ok {
			if err == nil || !strings.Contains(err.Error(), words) {
				t.Errorf("%s: want an error with %q, got %v", name, words, err)
			}
			if _, err := decodeMask(f.File, asIndices); err == nil || !strings.Contains(err.Error(), words) {
				t.Errorf("%s as a mask: want an error with %q, got %v", name, words, err)
			}
			continue
		}
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
			continue
		case f.RGB == nil:
			t.Errorf("%s is read, but not by Pillow", name)
			continue
		case p.W != f.W || p.H != f.H:
			t.Errorf("%s: %d×%d pixels, want %d×%d", name, p.W, p.H, f.W, f.H)
			continue
		case p.pages != f.Pages:
			t.Errorf("%s: %d pictures, want %d", name, p.pages, f.Pages)
		}
		worst := 0
		for i := range p.W * p.H {
			for c := range 3 {
				got, want := int(p.RGB[c*p.Area()+i]), int(f.RGB[3*i+c])
				worst = max(worst, got-want, want-got)
			}
		}
		if worst > tolerance(name) {
			t.Errorf("%s differs from Pillow by %d", name, worst)
		}
	}
}

// tolerance is what decoders of lossy formats may differ in.
func tolerance(name string) int {
	switch {
	case strings.HasSuffix(name, ".jpg"):
		return 2
	case name == "turn-lossy.webp":
		return 12
	}
	return 0
}

func TestMasksOfEveryForm(t *testing.T) {
	for name, f := range loadForms(t) {
		if f.Values == nil || refused[name] != "" {
			continue
		}
		m, err := decodeMask(f.File, asIndices)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if m.W != f.W || m.H != f.H || !slices.Equal(m.values, f.Values) {
			t.Errorf("%s: %v, want %v", name, m.values, f.Values)
		}
	}
}

// Colors of masks are those that images have, whatever alpha says.
func TestColorsOfEveryForm(t *testing.T) {
	for name, f := range loadForms(t) {
		m, err := decodeMask(f.File, asColors)
		if err != nil || f.Values != nil && strings.Contains(name, "16") {
			continue // refused, which the other tests see; gray of 16 bits has no color
		}
		for i := range m.values {
			if want := uint32(f.RGB[3*i])<<16 | uint32(f.RGB[3*i+1])<<8 | uint32(f.RGB[3*i+2]); m.values[i] != want {
				t.Errorf("%s: pixel %d is %s, want %s", name, i, ColorName(m.values[i]), ColorName(want))
				break
			}
		}
	}
}
