package data_test

import (
	"image"
	"image/color"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/spec"
)

// painted makes one pair of 4×4 pixels with a mask of colors.
func painted(t *testing.T, mask image.Image) data.Files {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	root := t.TempDir()
	writePNG(t, filepath.Join(root, "images", "a.png"), grey(4, 4, func(_, _ int) byte { return 9 }))
	writePNG(t, filepath.Join(root, "masks", "a.png"), mask)
	return scan(t, root)
}

var (
	road = color.NRGBA{0x80, 0x40, 0x80, 0xff}
	car  = color.NRGBA{0x40, 0, 0x80, 0xff}
	void = color.NRGBA{0, 0, 0, 0xff}
)

// street is road, with a car in its upper left pixel and void in the last row.
func street(img interface {
	image.Image
	Set(x, y int, c color.Color)
},
) image.Image {
	for y := range 4 {
		for x := range 4 {
			switch {
			case x == 0 && y == 0:
				img.Set(x, y, car)
			case y == 3:
				img.Set(x, y, void)
			default:
				img.Set(x, y, road)
			}
		}
	}
	return img
}

var streetClasses = &spec.Data{
	Classes: []string{"road", "car"}, Colours: true, Height: 4, Width: 4,
	Values: map[uint32]int32{0x804080: 0, 0x400080: 1, 0: -1},
}

// Colors are read from RGB, RGBA and through palettes alike.
func TestColorMasks(t *testing.T) {
	bounds := image.Rect(0, 0, 4, 4)
	translucent := image.NewNRGBA(bounds)
	street(translucent)
	for i := 3; i < len(translucent.Pix); i += 4 {
		translucent.Pix[i] = 0x7f // as labelling tools save overlays
	}
	for name, img := range map[string]image.Image{
		"RGB": street(image.NewRGBA(bounds)), "16-bit": street(image.NewNRGBA64(bounds)), "translucent": translucent,
		"palette": street(image.NewPaletted(bounds, color.Palette{void, car, road})),
	} {
		f := painted(t, img)
		if problems := data.Check(t.Context(), data.NewIndex(data.Look{}), f, streetClasses); len(problems) > 0 {
			t.Errorf("%s: %v", name, problems)
		}
		set, err := data.Open(contents(t, f), streetClasses, data.Contents{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := set.Batch(t.Context(), []int{0})
		if err != nil {
			t.Fatal(err)
		}
		if l := b.Labels; l[0] != 1 || l[1] != 0 || l[11] != 0 || l[12] != raster.Ignored {
			t.Errorf("%s: labels %v", name, l)
		}
		stats, err := f.Stats(t.Context(), data.NewIndex(data.Look{}), streetClasses)
		if err != nil || stats.Pixels[0] != 11 || stats.Pixels[1] != 1 || stats.Ignored != 4 {
			t.Errorf("%s: %+v, %v", name, stats, err)
		}
		if colored := f.Colored(); colored != (name != "palette") {
			t.Errorf("%s: is in color: %v", name, colored)
		}
	}
}

// A color of no class is reported with its pixels and the nearest that has one; a
// mask that was resized smoothly has many, which are counted.
func TestUnknownColors(t *testing.T) {
	img := image.NewRGBA(image.Rect(0, 0, 4, 4))
	street(img)
	img.Set(1, 0, color.NRGBA{0x81, 0x40, 0x80, 0xff})
	img.Set(2, 0, color.NRGBA{0x81, 0x40, 0x80, 0xff})
	img.Set(3, 0, color.NRGBA{0, 2, 0, 0xff})
	f := painted(t, img)
	var told []string
	for _, p := range data.Check(t.Context(), data.NewIndex(data.Look{}), f, streetClasses) {
		told = append(told, strings.TrimPrefix(p.String(), filepath.Join(f.Root, "masks", "a.png")+": "))
	}
	want := []string{
		"the color #000200, in 1 pixel, belongs to no class; the nearest is #000000, ignored",
		"the color #814080, in 2 pixels, belongs to no class; the nearest is #804080, road",
	}
	if strings.Join(told, "\n") != strings.Join(want, "\n") {
		t.Errorf("told %q", told)
	}
	for i := range 6 {
		img.Set(i%4, i/4, color.NRGBA{byte(10 + i), 0, 0, 0xff})
	}
	problems := data.Check(t.Context(), data.NewIndex(data.Look{}), painted(t, img), streetClasses)
	if n := len(problems); n != 4 || !strings.Contains(problems[3].Message, "and 3 more colors without a class, in 3 pixels") {
		t.Errorf("of six colors: %v", problems)
	}
	// Where it is met while training, it is an error that names the place.
	set, err := data.Open(contents(t, f), streetClasses, data.Contents{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := set.Batch(t.Context(), []int{0}); err == nil || !strings.Contains(err.Error(), "color #814080 at x=1, y=0 belongs to no class") {
		t.Errorf("a batch: %v", err)
	}
}
