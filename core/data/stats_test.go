package data_test

import (
	"image"
	"image/color"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/spec"
)

// What masks hold is counted by class at the size of the files, a second time
// from what is remembered.
func TestStats(t *testing.T) {
	root := folder(t, 3)
	writePNG(t, filepath.Join(root, "images", "wide.png"), grey(5, 10, func(_, _ int) byte { return 9 }))
	writePNG(t, filepath.Join(root, "masks", "wide.png"), grey(5, 10, func(x, y int) byte {
		switch {
		case y == 0:
			return 255
		case x == 0:
			return 7
		case x == 1:
			return 2
		}
		return 0
	}))
	writePNG(t, filepath.Join(root, "images", "bad.png"), grey(5, 10, func(_, _ int) byte { return 9 }))
	write(t, filepath.Join(root, "masks", "bad.png"), []byte("no picture"))
	d := identity(8, 8)
	d.Values[255] = -1
	want := data.Stats{
		Images: 5, Unread: 1,
		Sizes:   []data.SizeCount{{Width: 8, Height: 6, Images: 3}, {Width: 10, Height: 5, Images: 1}},
		Pixels:  []uint64{3*24 + 32, 3 * 24, 4},
		Shown:   []int{4, 3, 1},
		Ignored: 10, Classless: 4,
	}
	for range 2 {
		got, err := scan(t, root).Stats(t.Context(), d)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v, %v\nwant %v", got, err, want)
		}
	}
	if f := want.Fraction(2); f != 4.0/180 {
		t.Errorf("class 2 is %v of the pixels", f)
	}
}

// Drawn pictures are counted as they are drawn.
func TestStatsOfDrawnPictures(t *testing.T) {
	d := identity(8, 8)
	set, err := data.OpenProcedural(&spec.Procedural{Count: 3, Size: 32}, d, data.Files{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := set.Stats(t.Context(), d)
	if err != nil || got.Images != 3 || !reflect.DeepEqual(got.Shown, []int{3, 3, 3}) || got.Pixels[0]+got.Pixels[1]+got.Pixels[2] != 3*32*32 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestRepeatedImages(t *testing.T) {
	a, b := folder(t, 3), folder(t, 5)
	got, err := scan(t, b).Repeated(t.Context(), scan(t, a))
	if err != nil || len(got) != 3 || got[2] != [2]string{filepath.Join(b, "images", "p002.png"), filepath.Join(a, "images", "p002.png")} {
		t.Errorf("%v, %v", got, err)
	}
}

func TestOverlaySheet(t *testing.T) {
	sheet := data.OverlaySheet([]byte{100, 0, 200, 100, 10, 0}, []byte{1, 255}, 1, 1, 2)
	blue := data.ClassColour(1)
	over := color.RGBA{(100 + blue.R) / 2, byte((200 + int(blue.G)) / 2), byte((10 + int(blue.B)) / 2), 0xff}
	for at, want := range map[image.Point]color.RGBA{
		{0, 0}:                       {100, 200, 10, 0xff},
		{1, 0}:                       {0, 100, 0, 0xff},
		{2 + data.SheetGap, 0}:       blue,
		{3 + data.SheetGap, 0}:       data.ClassColour(data.Ignored),
		{2 + 2 + 2*data.SheetGap, 0}: over,
	} {
		if got := sheet.RGBAAt(at.X, at.Y); got != want {
			t.Errorf("pixel %v is %v, want %v", at, got, want)
		}
	}
}
