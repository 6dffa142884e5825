package data_test

import (
	"errors"
	"image"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/spec"
)

// published makes a data set as it is published: pictures in place of files
// that end as such, and lists.
func published(t *testing.T, files map[string]string, pictures ...string) string {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	root := t.TempDir()
	for name, content := range files {
		write(t, filepath.Join(root, name), []byte(content))
	}
	for _, name := range pictures {
		writePNG(t, filepath.Join(root, name), grey(4, 4, func(_, _ int) byte { return 1 }))
	}
	return root
}

type publishedSet struct {
	name     string
	files    map[string]string
	pictures []string
	want     map[string][]string // images by role
	mask     string              // of the first that is trained on
}

// first is the part that is trained on.
func (s publishedSet) first() string {
	if _, ok := s.want["train"]; ok {
		return "train"
	}
	return data.All
}

var publishedSets = []publishedSet{
	{
		name: "pets",
		files: map[string]string{
			"annotations/trainval.txt": "# Image CLASS SPECIES BREED\nBombay_2 2 1 2\nAbyssinian_1 1 1 1\n",
			"annotations/test.txt":     "beagle_3 3 2 1\n\n",
		},
		pictures: []string{
			"images/Abyssinian_1.jpg", "images/Bombay_2.jpg", "images/beagle_3.jpg", "images/unlisted_4.jpg",
			"annotations/trimaps/Abyssinian_1.png", "annotations/trimaps/Bombay_2.png", "annotations/trimaps/beagle_3.png",
			"annotations/trimaps/._beagle_3.png",
		},
		want: map[string][]string{"train": {"images/Abyssinian_1.jpg", "images/Bombay_2.jpg"}, "test": {"images/beagle_3.jpg"}},
		mask: "annotations/trimaps/Abyssinian_1.png",
	},
	{
		name: "voc",
		files: map[string]string{
			"ImageSets/Segmentation/train.txt": "2007_000032\n", "ImageSets/Segmentation/val.txt": "2007_000033\r\n",
			"ImageSets/Segmentation/trainval.txt": "2007_000032\n2007_000033\n",
		},
		pictures: []string{
			"JPEGImages/2007_000032.jpg", "JPEGImages/2007_000033.jpg", "JPEGImages/2007_000027.jpg",
			"SegmentationClass/2007_000032.png", "SegmentationClass/2007_000033.png",
		},
		want: map[string][]string{"train": {"JPEGImages/2007_000032.jpg"}, "test": {"JPEGImages/2007_000033.jpg"}},
		mask: "SegmentationClass/2007_000032.png",
	},
	{
		name: "vocAug", // without VOC's own masks, and the list as DeepLab calls it
		files: map[string]string{
			"ImageSets/Segmentation/train_aug.txt": "2007_000032\n2008_000008\n", "ImageSets/Segmentation/val.txt": "2007_000033\n",
		},
		pictures: []string{
			"JPEGImages/2007_000032.jpg", "JPEGImages/2007_000033.jpg", "JPEGImages/2008_000008.jpg", "JPEGImages/2007_000027.jpg",
			"SegmentationClassAug/2007_000032.png", "SegmentationClassAug/2007_000033.png", "SegmentationClassAug/2008_000008.png",
		},
		want: map[string][]string{"train": {"JPEGImages/2007_000032.jpg", "JPEGImages/2008_000008.jpg"}, "test": {"JPEGImages/2007_000033.jpg"}},
		mask: "SegmentationClassAug/2007_000032.png",
	},
	{
		name: "cityscapes",
		pictures: []string{
			"leftImg8bit/train/aachen/aachen_0_1_leftImg8bit.png", "leftImg8bit/train/bochum/bochum_0_1_leftImg8bit.png",
			"leftImg8bit/val/lindau/lindau_0_1_leftImg8bit.png", "leftImg8bit/test/berlin/berlin_0_1_leftImg8bit.png",
			"gtFine/train/aachen/aachen_0_1_gtFine_labelIds.png", "gtFine/train/aachen/aachen_0_1_gtFine_color.png",
			"gtFine/train/bochum/bochum_0_1_gtFine_labelIds.png", "gtFine/train/bochum/bochum_0_1_gtFine_instanceIds.png",
			"gtFine/val/lindau/lindau_0_1_gtFine_labelIds.png",
		},
		want: map[string][]string{
			"train": {"leftImg8bit/train/aachen/aachen_0_1_leftImg8bit.png", "leftImg8bit/train/bochum/bochum_0_1_leftImg8bit.png"},
			"test":  {"leftImg8bit/val/lindau/lindau_0_1_leftImg8bit.png"},
		},
		mask: "gtFine/train/aachen/aachen_0_1_gtFine_labelIds.png",
	},
	{
		name: "ade20k",
		pictures: []string{
			"images/training/ADE_train_1.jpg", "images/validation/ADE_val_1.jpg",
			"annotations/training/ADE_train_1.png", "annotations/validation/ADE_val_1.png",
		},
		want: map[string][]string{"train": {"images/training/ADE_train_1.jpg"}, "test": {"images/validation/ADE_val_1.jpg"}},
		mask: "annotations/training/ADE_train_1.png",
	},
	{
		name: "pets", // as the original project has resized it
		pictures: []string{
			"resized_images/beagle_3.jpg", "resized_images/Bombay_2.jpg", "resized_masks/beagle_3.png", "resized_masks/Bombay_2.png",
			"resized_masks/._beagle_3.png",
		},
		want: map[string][]string{"all": {"resized_images/Bombay_2.jpg", "resized_images/beagle_3.jpg"}},
		mask: "resized_masks/Bombay_2.png",
	},
	{
		name: "camvid", // of Cambridge
		files: map[string]string{
			"label_colors.txt": "64 128 64\tAnimal\n192 0 128\tArchway\n", "701_StillsRaw_full/Thumbs.db": "x",
		},
		pictures: []string{
			"701_StillsRaw_full/0001TP_006690.png", "701_StillsRaw_full/Seq05VD_f00000.png",
			"LabeledApproved_full/0001TP_006690_L.png", "LabeledApproved_full/Seq05VD_f00000_L.png",
		},
		want: map[string][]string{"all": {"701_StillsRaw_full/0001TP_006690.png", "701_StillsRaw_full/Seq05VD_f00000.png"}},
		mask: "LabeledApproved_full/0001TP_006690_L.png",
	},
	{
		name: "camvid", // of Cambridge, divided
		files: map[string]string{
			"class_dict.csv": "name,r,g,b\nAnimal,64,128,64\n",
		},
		pictures: []string{
			"train/0001TP_006690.png", "train_labels/0001TP_006690_L.png", "val/0016E5_07959.png", "val_labels/0016E5_07959_L.png",
			"test/Seq05VD_f00000.png", "test_labels/Seq05VD_f00000_L.png",
		},
		want: map[string][]string{"train": {"train/0001TP_006690.png"}, "val": {"val/0016E5_07959.png"}, "test": {"test/Seq05VD_f00000.png"}},
		mask: "train_labels/0001TP_006690_L.png",
	},
	{
		name: "camvid", // of SegNet's tutorial, whose lists name other machines' folders
		files: map[string]string{
			"train.txt": "/SegNet/CamVid/train/0001TP_006690.png /SegNet/CamVid/trainannot/0001TP_006690.png\n",
		},
		pictures: []string{
			"train/0001TP_006690.png", "trainannot/0001TP_006690.png", "val/0016E5_07959.png", "valannot/0016E5_07959.png",
			"test/Seq05VD_f00000.png", "testannot/Seq05VD_f00000.png",
		},
		want: map[string][]string{"train": {"train/0001TP_006690.png"}, "val": {"val/0016E5_07959.png"}, "test": {"test/Seq05VD_f00000.png"}},
		mask: "trainannot/0001TP_006690.png",
	},
	{
		name:     "folders",
		pictures: []string{"train/images/a.png", "train/masks/a.png", "val/images/b.png", "val/masks/b.png"},
		want:     map[string][]string{"train": {"images/a.png"}, "val": {"images/b.png"}},
		mask:     "masks/a.png",
	},
}

func TestLayoutsAreRecognised(t *testing.T) {
	for _, set := range publishedSets {
		root := published(t, set.files, set.pictures...)
		layout, err := data.FindLayout(root, "auto")
		if err != nil || layout.Name != set.name {
			t.Errorf("%s is taken for %v, %v", set.name, layout, err)
			continue
		}
		parts, err := layout.Parts(root)
		if err != nil {
			t.Errorf("%s: %v", set.name, err)
			continue
		}
		got := map[string][]string{}
		for role, f := range parts {
			got[role] = f.Images
		}
		first := set.first()
		if !reflect.DeepEqual(got, set.want) || parts[first].Masks[0] != set.mask {
			t.Errorf("%s: %v, first mask %s", set.name, got, parts[first].Masks[0])
		}
		for role, f := range parts {
			if problems := data.Check(t.Context(), data.NewIndex(data.Look{}), f, &spec.Data{Values: map[uint32]int32{1: 0}}); len(problems) > 0 {
				t.Errorf("%s %s: %v", set.name, role, problems)
			}
		}
	}
}

// What a published set lacks is told at once, the rest is found all the same.
func TestLayoutsTellWhatIsMissing(t *testing.T) {
	for _, set := range publishedSets {
		root := published(t, set.files, set.pictures...)
		mask := filepath.Join(root, set.mask)
		if set.name == "folders" {
			mask = filepath.Join(root, "train", set.mask)
		}
		if err := os.Remove(mask); err != nil {
			t.Fatal(err)
		}
		layout, err := data.FindLayout(root, "auto")
		if err != nil || layout.Name != set.name {
			t.Errorf("%s is taken for %v, %v", set.name, layout, err)
			continue
		}
		parts, err := layout.Parts(root)
		var scan *data.ScanError
		if !errors.As(err, &scan) || !strings.Contains(strings.Join(scan.Faults, "\n"), set.want[set.first()][0]) {
			t.Errorf("%s: %v", set.name, err)
		}
		if n := parts[set.first()].Len(); n != len(set.want[set.first()])-1 {
			t.Errorf("%s: %d images left to train on", set.name, n)
		}
	}
	if _, err := data.FindLayout(t.TempDir(), "voc"); err == nil || !strings.Contains(err.Error(), "it lacks JPEGImages, SegmentationClass, ImageSets/Segmentation/train.txt") {
		t.Errorf("an empty folder as voc: %v", err)
	}
}

// As many classes as a set is scored on are those; any other number counts from
// 0, as masks of a processed form do.
func TestLayoutsLabelMasks(t *testing.T) {
	pets, err := data.FindLayout(published(t, publishedSets[0].files, publishedSets[0].pictures...), "pets")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pets.Label(map[uint32]int32{0: 0, 1: 1, 2: -1, 255: -1}, 3); err != nil || !reflect.DeepEqual(got, map[uint32]int32{1: 0, 2: 1, 3: -1, 255: -1}) {
		t.Errorf("three classes: %v", got)
	}
	if got, err := pets.Label(map[uint32]int32{0: -1, 1: 0, 2: 1, 3: 2}, 4); err != nil || !reflect.DeepEqual(got, map[uint32]int32{0: -1, 1: 0, 2: 1, 3: 2}) {
		t.Errorf("four classes: %v", got)
	}
	city, err := data.FindLayout(published(t, nil, publishedSets[3].pictures...), "cityscapes")
	if err != nil {
		t.Fatal(err)
	}
	values := map[uint32]int32{}
	for i := range uint32(19) {
		values[i] = int32(i)
	}
	got, err := city.Label(values, 19)
	if err != nil || got[7] != 0 || got[26] != 13 || got[33] != 18 || got[0] != -1 || got[255] != -1 || len(got) != 35 {
		t.Errorf("19 classes: %v", got)
	}
}

// CamVid's colors mean the 32 classes of its own list, and for the 11 that
// are usually scored, where void is ignored; its masks cannot mean others.
func TestCamVidsColors(t *testing.T) {
	for _, set := range publishedSets {
		if set.name != "camvid" {
			continue
		}
		camvid, err := data.FindLayout(published(t, set.files, set.pictures...), "camvid")
		if err != nil {
			t.Fatal(err)
		}
		identity := func(classes int) map[uint32]int32 {
			values := map[uint32]int32{}
			for i := range uint32(classes) {
				values[i] = int32(i)
			}
			return values
		}
		eleven, err := camvid.Label(identity(11), 11)
		if err != nil {
			t.Fatal(err)
		}
		if !camvid.Colors {
			if eleven[0] != 0 || eleven[11] != -1 || len(eleven) != 12 {
				t.Errorf("indices: %v", eleven)
			}
			continue
		}
		const sky, wall, trafficCone, void, bicyclist = 0x808080, 0x40c000, 0x000040, 0, 0x0080c0
		if eleven[sky] != 0 || eleven[wall] != 1 || eleven[trafficCone] != 2 || eleven[void] != -1 || eleven[bicyclist] != 10 || len(eleven) != 32 {
			t.Errorf("11 classes: %v", eleven)
		}
		all, err := camvid.Label(identity(32), 32)
		if err != nil || all[sky] != 21 || all[void] != 30 || all[wall] != 31 || len(all) != 32 {
			t.Errorf("32 classes: %v, %v", all, err)
		}
		if _, err := camvid.Label(identity(5), 5); err == nil || !strings.Contains(err.Error(), "the colors of 32 or 11 classes, but 5 are named") {
			t.Errorf("5 classes: %v", err)
		}
	}
}

// Where VOC's own masks and those of the augmented set are both there, the former are
// taken, and the layout has to be named: a folder that was laid out as voc stays so.
func TestVOCWithTheAugmentedMasks(t *testing.T) {
	for name, lists := range map[string]map[string]string{
		"one list":  {"trainaug.txt": "b\na\nc\n"},
		"two lists": {"aug.txt": "c\nb\n"},
	} {
		files := map[string]string{"ImageSets/Segmentation/train.txt": "a\n", "ImageSets/Segmentation/val.txt": "d\n"}
		for list, content := range lists {
			files["ImageSets/Segmentation/"+list] = content
		}
		root := published(t, files, "JPEGImages/a.jpg", "JPEGImages/b.jpg", "JPEGImages/c.jpg", "JPEGImages/d.jpg",
			"SegmentationClass/a.png", "SegmentationClass/d.png", "SegmentationClassAug/a.png", "SegmentationClassAug/b.png", "SegmentationClassAug/c.png")
		if l, err := data.FindLayout(root, "auto"); err != nil || l.Name != "voc" {
			t.Errorf("%s is taken for %v, %v", name, l, err)
		}
		l, err := data.FindLayout(root, "vocAug")
		if err != nil {
			t.Fatal(err)
		}
		parts, err := l.Parts(root)
		want := []string{"SegmentationClass/a.png", "SegmentationClassAug/b.png", "SegmentationClassAug/c.png"}
		if err != nil || !slices.Equal(parts["train"].Masks, want) || !slices.Equal(parts["test"].Masks, []string{"SegmentationClass/d.png"}) {
			t.Errorf("%s: %v, %v", name, parts, err)
		}
	}
}

// A folder that is nearly laid out as published says what it lacks, and one that has
// such a folder in it which that is.
func TestLayoutsThatAreNearlyThere(t *testing.T) {
	for _, c := range []struct {
		remove, want string
		set          int
	}{
		{"ImageSets/Segmentation", "is like voc, but lacks ImageSets/Segmentation/train.txt, ImageSets/Segmentation/val.txt", 1},
		{"gtFine", "is like cityscapes, but lacks gtFine/train, gtFine/val", 3},
		{"annotations/validation", "is like ade20k, but lacks annotations/validation", 4},
	} {
		set := publishedSets[c.set]
		root := published(t, set.files, set.pictures...)
		if err := os.RemoveAll(filepath.Join(root, c.remove)); err != nil {
			t.Fatal(err)
		}
		if _, err := data.FindLayout(root, "auto"); err == nil || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%s without %s: %v", set.name, c.remove, err)
		}
	}
	outer := t.TempDir()
	if err := os.Symlink(published(t, publishedSets[1].files, publishedSets[1].pictures...), filepath.Join(outer, "VOC2012")); err != nil {
		t.Fatal(err)
	}
	if _, err := data.FindLayout(outer, "auto"); err == nil || !strings.Contains(err.Error(), "VOC2012/ in it is laid out as voc") {
		t.Errorf("a folder with VOC2012: %v", err)
	}
	// One that is like nothing is looked at as before, and images/ and masks/ are no
	// data set of another layout, whatever else lies there.
	plain := published(t, nil, "images/a.png", "masks/a.png", "JPEGImages/a.jpg", "SegmentationClass/a.png")
	for _, dir := range []string{t.TempDir(), plain} {
		if l, err := data.FindLayout(dir, "auto"); err != nil || l.Name != "folders" {
			t.Errorf("%s is taken for %v, %v", dir, l, err)
		}
	}
}

// Where no image at all has a mask, that is one fault, with what is there instead.
func TestImagesWithoutAnyMask(t *testing.T) {
	city := published(t, nil, "leftImg8bit/train/a/a_1_leftImg8bit.png", "leftImg8bit/train/a/a_2_leftImg8bit.png", "leftImg8bit/val/b/b_1_leftImg8bit.png",
		"gtFine/train/a/a_1_gtFine_labelTrainIds.png", "gtFine/train/a/a_2_gtFine_labelTrainIds.png", "gtFine/val/b/b_1_gtFine_labelIds.png")
	voc := published(t, map[string]string{"ImageSets/Segmentation/train.txt": "a\nb\n", "ImageSets/Segmentation/val.txt": "c\n"},
		"JPEGImages/a.jpg", "JPEGImages/b.jpg", "JPEGImages/c.jpg", "SegmentationClass/c.png")
	for root, want := range map[string]string{
		city: "leftImg8bit/train: none of its 2 images has a mask in gtFine/train, a file that ends in _gtFine_labelIds.png; other files are not read, such as gtFine/train/a/a_1_gtFine_labelTrainIds.png",
		voc:  "ImageSets/Segmentation/train.txt: none of its 2 images is in JPEGImages with a mask of the same stem in SegmentationClass",
	} {
		l, err := data.FindLayout(root, "auto")
		if err != nil {
			t.Fatal(err)
		}
		_, err = l.Parts(root)
		var scan *data.ScanError
		if !errors.As(err, &scan) || !slices.Equal(scan.Faults, []string{want}) {
			t.Errorf("%s: %v", l.Name, err)
		}
	}
}

// Masks of another form than the published one are noticed as a whole, where a mask
// alone says nothing; masks of that form, and of own classes, are not.
func TestMistakesWithPublishedMasks(t *testing.T) {
	index := data.NewIndex(data.Look{})
	masks := func(values ...byte) data.Files {
		root := t.TempDir()
		f := data.Files{Root: root}
		for i := range 2 {
			name := string(rune('a'+i)) + ".png"
			writePNG(t, filepath.Join(root, name), grey(4, 4, func(x, y int) byte { return values[(x+4*y+i)%len(values)] }))
			f.Images, f.Masks = append(f.Images, name), append(f.Masks, name)
		}
		return f
	}
	colored := data.Files{Root: t.TempDir(), Images: []string{"a.png"}, Masks: []string{"a.png"}}
	rgb := image.NewRGBA(image.Rect(0, 0, 2, 2))
	for i := range rgb.Pix {
		rgb.Pix[i] = []byte{128, 0, 64, 255}[i%4]
	}
	writePNG(t, filepath.Join(colored.Root, "a.png"), rgb)
	for _, c := range []struct {
		set     int
		files   data.Files
		classes int
		want    string
	}{
		{3, masks(7, 26, 1, 21), 19, ""},
		{3, masks(0, 13, 18, 255), 19, "train ids"},
		{3, masks(0, 13, 18, 255), 20, ""},
		{3, masks(7, 8, 11), 19, ""}, // a street without cars
		{4, masks(0, 1, 150), 150, ""},
		{4, masks(0, 149, 255), 150, "reduced already"},
		{4, masks(0, 149, 255), 12, ""},
		{1, masks(0, 20, 255), 21, ""},
		{1, colored, 21, "masks hold colors"},
		{9, colored, 3, ""},
	} {
		set := publishedSets[c.set]
		l, err := data.FindLayout(published(t, set.files, set.pictures...), "auto")
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Mistake(t.Context(), index, c.files, l.Colors, c.classes); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s, %d classes, %v: %q, want %q", set.name, c.classes, c.files, got, c.want)
		}
	}
}
