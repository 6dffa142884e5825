package data_test

import (
	"context"
	"errors"
	"image"
	"image/color"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/raster"
)

// found are the images of a folder by part.
func found(t *testing.T, root string) (*data.Layout, map[string]data.Files) {
	t.Helper()
	layout, err := data.FindLayout(root, "auto")
	if err != nil {
		t.Fatal(err)
	}
	parts, err := layout.Parts(root)
	if err != nil {
		t.Fatal(err)
	}
	return layout, parts
}

// trial-data F10: pictures in subfolders are read, by their paths.
func TestFoldersInFoldersAreRead(t *testing.T) {
	root := published(t, nil,
		"images/001.png", "images/patient1/001.png", "images/patient1/deep/002.PNG", "images/patient2/001.png", "images/.ipynb_checkpoints/001-checkpoint.png",
		"masks/001.png", "masks/patient1/001.png", "masks/patient1/deep/002.png", "masks/patient2/001.png")
	if err := os.Rename(filepath.Join(root, "images", "patient2"), filepath.Join(root, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../elsewhere", filepath.Join(root, "images", "patient2")); err != nil {
		t.Fatal(err)
	}
	layout, parts := found(t, root)
	f := parts[data.All]
	if want := []string{"images/001.png", "images/patient1/001.png", "images/patient1/deep/002.PNG", "images/patient2/001.png"}; !slices.Equal(f.Images, want) {
		t.Errorf("images %v, want %v", f.Images, want)
	}
	if want := []string{"masks/001.png", "masks/patient1/001.png", "masks/patient1/deep/002.png", "masks/patient2/001.png"}; !slices.Equal(f.Masks, want) {
		t.Errorf("masks %v, want %v", f.Masks, want)
	}
	if unused := layout.Unused(root); len(unused) > 0 {
		t.Errorf("not used: %v", unused)
	}
	// Lists name pictures by paths.
	list := filepath.Join(t.TempDir(), "list.csv")
	write(t, list, []byte("\ufeffimage,part\npatient1/001,train\nimages/patient2/001.png,test\n"))
	lists, err := data.ReadParts(list)
	if err != nil {
		t.Fatal(err)
	}
	divided, rest, err := f.Divide(lists)
	if err != nil || !slices.Equal(divided["train"].Images, []string{"images/patient1/001.png"}) || rest.Len() != 2 {
		t.Errorf("divided as %v and %v, %v", divided, rest.Images, err)
	}
	// A copy keeps the folders.
	dir := t.TempDir()
	c := &data.Copy{Files: f, Size: raster.Size{H: 8, W: 8}}
	if err := c.Write(context.Background(), data.NewIndex(data.Look{}), dir, func() {}); err != nil {
		t.Fatal(err)
	}
	if again := scan(t, dir); again.Len() != 4 || again.Images[2] != "images/patient1/deep/002.png" {
		t.Errorf("copied %v", again.Images)
	}
}

func TestALinkInACircleEnds(t *testing.T) {
	root := published(t, nil, "images/a.png", "masks/a.png")
	if err := os.Symlink("..", filepath.Join(root, "images", "up")); err != nil {
		t.Fatal(err)
	}
	if _, err := data.Scan(root); err == nil || !strings.Contains(err.Error(), "it is a link to a folder above it") {
		t.Errorf("got %v", err)
	}
}

// trial-data F11: other names of val, wherever parts are divided.
func TestPartsHaveOtherNames(t *testing.T) {
	for _, val := range []string{"val", "valid", "Validation", "dev"} {
		for _, form := range []string{"PART/KIND", "KIND/PART"} {
			var pictures []string
			for _, part := range []string{"train", val, "test"} {
				for _, kind := range []string{"images", "masks"} {
					pictures = append(pictures, strings.NewReplacer("PART", part, "KIND", kind).Replace(form)+"/a.png")
				}
			}
			root := published(t, nil, pictures...)
			layout, parts := found(t, root)
			if len(parts) != 3 || parts["val"].Len() != 1 || len(layout.Unused(root)) > 0 {
				t.Errorf("%s as %s: %v, not used: %v", form, val, parts, layout.Unused(root))
			}
		}
	}
	root := published(t, nil, "train/images/a.png", "train/masks/a.png", "valid/images/a.png", "valid/masks/a.png", "validation/images/a.png", "validation/masks/a.png")
	layout, err := data.FindLayout(root, "auto")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := layout.Parts(root); err == nil || !strings.Contains(err.Error(), "valid/ and validation/, which both are val") {
		t.Errorf("got %v", err)
	}
}

// Unused names what is left out of a data set.
func TestWhatIsNotUsedIsTold(t *testing.T) {
	for _, c := range []struct {
		pictures []string
		want     string
	}{
		{[]string{"images/a.png", "masks/a.png", "b.png", "c.dng"}, "2 pictures outside images/"},
		{[]string{"images/a.png", "masks/a.png", "val/images/b.png", "val/masks/b.png"}, "val/, as there is no train/ and no test/"},
		{[]string{"images/a.png", "masks/a.png", "more/images/b.png", "more/masks/b.png"}, "more/, which has images/ in it and is not called train, val or test"},
		{[]string{"train/images/a.png", "train/masks/a.png", "images/b.png"}, "images/ in addition to train/"},
		{[]string{"train/images/a.png", "train/masks/a.png", "train/b.png"}, "1 picture outside train/images/"},
		{[]string{"images/train/a.png", "masks/train/a.png", "images/b.png", "images/more/c.png"}, "2 pictures in images/ outside the folders of parts"},
		{[]string{"images/a.png", "masks/a.png", "annotations/trimaps/a.png"}, "annotations/trimaps/ in addition to masks/"},
		{[]string{"images/a.png", "images/b.raw", "images/c", "images/Thumbs.db", "masks/a.png"}, "2 files in images/ that have no ending of a picture (b.raw, c)"},
		{[]string{"images/a.png", "masks/a.png", "images/a.txt", "readme.md", "scripts/x.py"}, ""},
	} {
		root := published(t, nil, c.pictures...)
		layout, _ := found(t, root)
		if got := strings.Join(layout.Unused(root), "; "); got != c.want {
			t.Errorf("%v: %q, want %q", c.pictures, got, c.want)
		}
	}
}

// Pictures that are not read, and names of two pictures, are errors in every
// layout.
func TestNothingIsLeftOutOfPublishedSets(t *testing.T) {
	for _, c := range []struct {
		pictures []string
		want     string
	}{
		{[]string{"images/a.png", "masks/a.png", "images/b.jp2"}, "images/b.jp2: images of this kind are not read"},
		{[]string{"images/training/a.jpg", "images/training/a.png", "images/validation/b.jpg", "annotations/training/a.png", "annotations/validation/b.png"}, "images/training/a.png: the same stem as images/training/a.jpg"},
		{[]string{"resized_images/a.png", "resized_masks/a.png", "resized_images/b.heic"}, "resized_images/b.heic: images of this kind are not read"},
		{[]string{"images/a.png", "images/dev/a.png", "masks/a.png", "masks/dev/a.png"}, "the same name as images/a.png"},
		{[]string{"images/a.png", "masks/a.png", "images/f\xe9.png", "masks/f\xe9.png"}, `images/f\xe9.png: the name is not UTF-8; rename it`},
		{[]string{"images/a.png", "masks/a.png", "images/d\xe9/b.png"}, `images/d\xe9/b.png: the name is not UTF-8; rename it`},
		{[]string{"resized_images/a.png", "resized_masks/a.png", "resized_images/\xff.jpg"}, `resized_images/\xff.jpg: the name is not UTF-8; rename it`},
		{[]string{"images/\u00e9.png", "images/e\u0301.png", "masks/\u00e9.png"}, `in another form of Unicode: "e\u0301.png" and "\u00e9.png"`},
	} {
		root := published(t, nil, c.pictures...)
		layout, err := data.FindLayout(root, "auto")
		if err != nil {
			t.Fatal(err)
		}
		var scan *data.ScanError
		if _, err := layout.Parts(root); !errors.As(err, &scan) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.pictures, err, c.want)
		}
	}
}

// An image that is not read is the only fault: its mask is right.
func TestMasksOfImagesThatAreNotRead(t *testing.T) {
	for _, pictures := range [][]string{
		{"images/a.jp2", "masks/a.png"},
		{"images/a\xe9.png", "masks/a\xe9.png"},
		{"resized_images/a.png", "resized_masks/a.png", "resized_images/b.heic", "resized_masks/b.png"},
	} {
		root := published(t, nil, pictures...)
		layout, err := data.FindLayout(root, "auto")
		if err != nil {
			t.Fatal(err)
		}
		var scan *data.ScanError
		if _, err := layout.Parts(root); !errors.As(err, &scan) || strings.Contains(err.Error(), "no image") {
			t.Errorf("%q: %v", pictures, err)
		}
	}
}

// A mask that is JPEG is one fault, and its pair is not used.
func TestMasksOfJPEG(t *testing.T) {
	root := published(t, nil, "images/a.png", "masks/a.jpg", "images/b.png", "masks/b.png")
	f, err := data.Scan(root)
	var scan *data.ScanError
	if !errors.As(err, &scan) || len(scan.Faults) != 1 || !slices.Equal(f.Images, []string{"images/b.png"}) {
		t.Errorf("%v, with %v", err, f.Images)
	}
}

// Images may be GIF, as docs/help/data.md says.
func TestImagesOfGIF(t *testing.T) {
	root := published(t, nil)
	write(t, filepath.Join(root, "images", "a.gif"), data.Form(t, "plain.gif"))
	write(t, filepath.Join(root, "masks", "a.tif"), data.Form(t, "pages.tif"))
	if f := scan(t, root); !slices.Equal(f.Images, []string{"images/a.gif"}) {
		t.Errorf("found %v", f.Images)
	}
	write(t, filepath.Join(root, "masks", "a.gif"), data.Form(t, "plain.gif"))
	if err := os.Remove(filepath.Join(root, "masks", "a.tif")); err != nil {
		t.Fatal(err)
	}
	if _, err := data.Scan(root); err == nil || !strings.Contains(err.Error(), "masks/a.gif: a mask must be PNG, TIFF or BMP") {
		t.Errorf("a mask of GIF: %v", err)
	}
}

// trial-data U5 and U6.
func TestRemarks(t *testing.T) {
	root := published(t, nil)
	for name, form := range map[string]string{"images/a.tif": "pages.tif", "masks/a.tif": "pages.tif"} {
		write(t, filepath.Join(root, name), data.Form(t, form))
	}
	f := scan(t, root)
	several, dark := data.Remarks(context.Background(), data.NewIndex(data.Look{}), f, nil)
	if want := "only the first picture is used of 2 files that hold several: images/a.tif, masks/a.tif"; several != want || dark != "" {
		t.Errorf("%q, %q", several, dark)
	}
	root = published(t, nil, "masks/a.png")
	deep := image.NewGray16(image.Rect(0, 0, 4, 4))
	deep.SetGray16(1, 1, color.Gray16{Y: 0xfff})
	writePNG(t, filepath.Join(root, "images", "a.png"), deep)
	several, dark = data.Remarks(context.Background(), data.NewIndex(data.Look{}), scan(t, root), nil)
	if several != "" || !strings.HasPrefix(dark, "no image is brighter than 15 of 255") {
		t.Errorf("%q, %q", several, dark)
	}
}

// trial-data F22: the same name in two forms of Unicode.
func TestNamesInTwoFormsOfUnicode(t *testing.T) {
	root := published(t, nil, "images/Z\u00fcrich.png", "masks/Zu\u0308rich.png")
	f := scan(t, root)
	if f.Len() != 1 || f.Masks[0] != "masks/Zu\u0308rich.png" {
		t.Errorf("found %q", f.Masks)
	}
	list := filepath.Join(t.TempDir(), "list.csv")
	write(t, list, []byte("image,part\nZu\u0308rich,test\n"))
	lists, err := data.ReadParts(list)
	if err != nil {
		t.Fatal(err)
	}
	if parts, _, err := f.Divide(lists); err != nil || parts["test"].Len() != 1 {
		t.Errorf("got %v, %v", parts, err)
	}
}
