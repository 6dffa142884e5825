package data

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"os"
	"path/filepath"
	"testing"

	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/spec"
)

// source writes a small set of n pictures of w×h with masks of three values.
func source(t *testing.T, n, h, w int) Files {
	t.Helper()
	dir := t.TempDir()
	for _, folder := range []string{"images", "masks"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		im := raster.NewImage(raster.Size{H: h, W: w})
		for k := range im.RGB {
			im.RGB[k] = byte(37*i + k*7 + k/w*3)
		}
		mask := image.NewGray(image.Rect(0, 0, w, h))
		for k := range mask.Pix {
			mask.Pix[k] = byte((k%w/4 + k/w/5 + i) % 3)
		}
		name := fmt.Sprintf("p%d.png", i)
		if err := WriteImage(filepath.Join(dir, "images", name), im); err != nil {
			t.Fatal(err)
		}
		if err := encodePNG(filepath.Join(dir, "masks", name), mask); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// batch is all of a set.
func batch(t *testing.T, f Files, d *spec.Data, styles Files) *Batch {
	t.Helper()
	files, err := f.Contents(t.Context(), NewIndex(Look{}))
	if err != nil {
		t.Fatal(err)
	}
	of, err := styles.Contents(t.Context(), NewIndex(Look{}))
	if err != nil {
		t.Fatal(err)
	}
	set, err := Open(files, d, of)
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for i := range set.Len() {
		all = append(all, i)
	}
	b, err := set.Batch(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is written scores as what is shifted on the way: the same bytes reach
// the model where sizes agree, be they those of the files or of the model.
func TestCopyIsWhatASetServes(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	const h, w = 40, 52
	f, styles := source(t, 3, h, w), source(t, 2, 30, 30)
	styleDigest, err := styles.Digest(t.Context(), NewIndex(Look{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range [][2]int{{h, w}, {28, 28}} {
		for _, c := range []Copy{
			{Corruption: &spec.Corruption{Kind: "gaussian_noise", Severity: 3, Seed: 5}},
			{Corruption: &spec.Corruption{Kind: "elastic_transform", Severity: 5}},
			{Style: &spec.Style{Kind: "texture", Strength: 1, Digest: styleDigest}, Styles: styles},
			{Style: &spec.Style{Kind: "fourier", Strength: 0.5, Seed: 2, Digest: styleDigest}, Styles: styles},
		} {
			what := fmt.Sprint(size, c.Corruption, c.Style)
			c.Files = f
			if size != [2]int{h, w} {
				c.Size = raster.Size{H: size[0], W: size[1]}
			}
			dir := t.TempDir()
			if err := c.Write(t.Context(), NewIndex(Look{}), dir, func() {}); err != nil {
				t.Fatal(err)
			}
			copied, err := Scan(dir)
			if err != nil {
				t.Fatal(err)
			}
			d := &spec.Data{Classes: []string{"a", "b", "c"}, Values: map[uint32]int32{0: 0, 1: 1, 2: 2}, Height: uint32(size[0]), Width: uint32(size[1])}
			got := batch(t, copied, d, Files{})
			d.Corruption, d.Style = c.Corruption, c.Style
			want := batch(t, f, d, c.Styles)
			if !bytes.Equal(got.Images, want.Images) {
				t.Errorf("%s: other images", what)
			}
			if !bytes.Equal(got.Labels, want.Labels) {
				t.Errorf("%s: other labels", what)
			}
			same := true
			for i := range f.Masks {
				a, _ := os.ReadFile(f.path(f.Masks[i]))
				b, _ := os.ReadFile(copied.path(copied.Masks[i]))
				same = same && bytes.Equal(a, b)
			}
			if moves := c.Size.H > 0 || c.Corruption.GetKind() == "elastic_transform"; same == moves {
				t.Errorf("%s: masks are byte for byte those of the source: %v", what, same)
			}
		}
	}
}

// Numbers above 255, and colors, move as those below do.
func TestCopyOfWideMasks(t *testing.T) {
	f := source(t, 1, 40, 40)
	narrow, err := readMask(f.path(f.Masks[0]), asIndices)
	if err != nil {
		t.Fatal(err)
	}
	wide, colors := image.NewGray16(image.Rect(0, 0, 40, 40)), image.NewRGBA(image.Rect(0, 0, 40, 40))
	for i, v := range narrow.values {
		wide.SetGray16(i%40, i/40, color.Gray16{Y: uint16(301 * v)})
		colors.SetRGBA(i%40, i/40, color.RGBA{R: byte(90 * v), G: byte(v), B: 7, A: 0xff})
	}
	moved := func(as kind) []uint32 {
		c := Copy{Files: f, Corruption: &spec.Corruption{Kind: "elastic_transform", Severity: 4}}
		dir := t.TempDir()
		if err := c.Write(t.Context(), NewIndex(Look{}), dir, func() {}); err != nil {
			t.Fatal(err)
		}
		m, err := readMask(filepath.Join(dir, "masks", "p0.png"), as)
		if err != nil {
			t.Fatal(err)
		}
		return m.values
	}
	before := moved(asIndices)
	for _, c := range []struct {
		mask image.Image
		as   kind
		of   func(v uint32) uint32
	}{
		{wide, asIndices, func(v uint32) uint32 { return 301 * v }},
		{colors, asColors, func(v uint32) uint32 { return 90*v<<16 | v<<8 | 7 }},
	} {
		if err := encodePNG(f.path(f.Masks[0]), c.mask); err != nil {
			t.Fatal(err)
		}
		for i, v := range moved(c.as) {
			if v != c.of(before[i]) {
				t.Fatalf("pixel %d is %#x, by the narrow mask %#x", i, v, c.of(before[i]))
			}
		}
	}
}

// A copy tells what it was made of, and its masks mean what they did.
func TestOrigin(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	f := source(t, 3, 20, 20)
	copyOf := func(f Files) Files {
		c := Copy{Files: f, Corruption: &spec.Corruption{Kind: "fog", Severity: 2}}
		dir := t.TempDir()
		if err := c.Write(t.Context(), NewIndex(Look{}), dir, func() {}); err != nil {
			t.Fatal(err)
		}
		o, err := NewOrigin(t.Context(), NewIndex(Look{}), &c)
		if err != nil {
			t.Fatal(err)
		}
		o.Layout = "pets"
		if err := o.Write(dir); err != nil {
			t.Fatal(err)
		}
		copied, err := Scan(dir)
		if err != nil {
			t.Fatal(err)
		}
		return copied
	}
	once := copyOf(f)
	for _, copied := range []Files{once, copyOf(once)} {
		same, err := copied.Repeated(t.Context(), NewIndex(Look{}), f.pick([]int{0, 2}))
		if err != nil {
			t.Fatal(err)
		}
		if len(same) != 2 {
			t.Errorf("two of three images were made of these: %v", same)
		}
		l, err := FindLayout(copied.Root, "auto")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := l.Label(map[uint32]int32{0: 0, 1: 1, 2: 2}, 3); err != nil || got[3] != 2 || len(got) != 3 {
			t.Errorf("masks of pets count from 1: %v", got)
		}
	}
	if err := os.WriteFile(filepath.Join(once.Root, originFile), []byte("{"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := FindLayout(once.Root, "auto"); err == nil {
		t.Error("a damaged origin was passed over")
	}
}
