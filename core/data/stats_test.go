package data_test

import (
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
		got, err := scan(t, root).Stats(t.Context(), data.NewIndex(data.Look{}), d)
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
	set, err := data.OpenProcedural(&spec.Procedural{Count: 3, Size: 32}, d, data.Contents{})
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
	got, err := scan(t, b).Repeated(t.Context(), data.NewIndex(data.Look{}), scan(t, a))
	if err != nil || len(got) != 3 || got[2] != [2]string{filepath.Join(b, "images", "p002.png"), filepath.Join(a, "images", "p002.png")} {
		t.Errorf("%v, %v", got, err)
	}
}
