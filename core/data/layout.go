package data

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/regular"
)

// Roles are the parts that data sets are published in.
var Roles = []string{"train", "val", "test"}

// All is the part of a source that is not divided.
const All = "all"

// Layout is how a data set lies on disk. Where masks of the test images are
// kept back, the published validation images are the part "test".
type Layout struct {
	Name string
	// Needs is what it is recognised by.
	Needs []string
	// Legends are the sets of classes that the data set is scored on; none where
	// classes count from 0.
	Legends []Legend
	// Ignored are values of no class.
	Ignored []uint32
	// Colors: masks hold colors, and these are the values.
	Colors bool

	masks string // of a copy: the layout of its source; of a form whose masks are others: its own
	parts func(dir string) (map[string]Files, error)
}

// Legend has, for each class in order, the values of masks that stand for it.
type Legend [][]uint32

// each is the legend of classes with one value.
func each(values ...uint32) (l Legend) {
	for _, v := range values {
		l = append(l, []uint32{v})
	}
	return l
}

// layouts in the order in which they are recognised; the last is any other.
// Some data sets are published in several forms.
var layouts = []*Layout{
	{
		Name: "pets", Needs: []string{"images", "annotations/trimaps", "annotations/trainval.txt", "annotations/test.txt"},
		Legends: []Legend{each(1, 2, 3)}, // animal, background, boundary
		parts: func(dir string) (map[string]Files, error) {
			return listed(dir, "images", "annotations/trimaps", map[string]string{"train": "annotations/trainval.txt", "test": "annotations/test.txt"})
		},
	},
	{
		// Resized once, with all values one less: as the project of the original
		// variants keeps it.
		Name: "pets", masks: "pets resized", Needs: []string{"resized_images", "resized_masks"},
		parts: func(dir string) (map[string]Files, error) {
			return beside(dir, map[string][2]string{All: {"resized_images", "resized_masks"}}, "")
		},
	},
	{
		Name: "voc", Needs: []string{"JPEGImages", "SegmentationClass", "ImageSets/Segmentation/train.txt", "ImageSets/Segmentation/val.txt"},
		Ignored: []uint32{255}, // borders of objects
		parts: func(dir string) (map[string]Files, error) {
			return listed(dir, "JPEGImages", "SegmentationClass", map[string]string{
				"train": "ImageSets/Segmentation/train.txt", "test": "ImageSets/Segmentation/val.txt",
			})
		},
	},
	{
		Name: "cityscapes", Needs: []string{"leftImg8bit/train", "leftImg8bit/val", "gtFine/train", "gtFine/val"},
		// Of road, sidewalk, building, wall, fence, pole, traffic light, traffic
		// sign, vegetation, terrain, sky, person, rider, car, truck, bus, train,
		// motorcycle, bicycle.
		Legends: []Legend{each(7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)},
		Ignored: []uint32{0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30, 255},
		parts: func(dir string) (map[string]Files, error) {
			return foldered(dir, map[string]string{"train": "train", "test": "val"}, "leftImg8bit/", "_leftImg8bit", "gtFine/", "_gtFine_labelIds")
		},
	},
	{
		Name: "ade20k", Needs: []string{"images/training", "images/validation", "annotations/training", "annotations/validation"},
		Legends: []Legend{each(counting(1, 150)...)}, Ignored: []uint32{0},
		parts: func(dir string) (map[string]Files, error) {
			return foldered(dir, map[string]string{"train": "training", "test": "validation"}, "images/", "", "annotations/", "")
		},
	},
	{
		// As its authors publish it, undivided.
		Name: "camvid", Needs: []string{"701_StillsRaw_full", "LabeledApproved_full"},
		Legends: camVid, Ignored: []uint32{0}, Colors: true, // void is black
		parts: func(dir string) (map[string]Files, error) {
			return beside(dir, map[string][2]string{All: {"701_StillsRaw_full", "LabeledApproved_full"}}, "_L")
		},
	},
	{
		// The same divided, as it is often passed on.
		Name: "camvid", Needs: []string{"train", "train_labels", "val", "val_labels", "test", "test_labels"},
		Legends: camVid, Ignored: []uint32{0}, Colors: true,
		parts: func(dir string) (map[string]Files, error) { return divided(dir, "_labels", "_L") },
	},
	{
		// As SegNet's tutorial has it: merged to 11 classes, 360 by 480 pixels.
		Name: "camvid", masks: "camvid indices", Needs: []string{"train", "trainannot", "val", "valannot", "test", "testannot"},
		Ignored: []uint32{11}, // void
		parts:   func(dir string) (map[string]Files, error) { return divided(dir, "annot", "") },
	},
	{Name: "folders", parts: folders},
}

func counting(first, last uint32) (list []uint32) {
	for v := first; v <= last; v++ {
		list = append(list, v)
	}
	return list
}

// FindLayout recognises how a data set lies in a folder, or returns the layout
// of a name other than "auto". It is an error if the folder lacks what that
// needs. In a folder that Copy has written masks mean what they did before.
func FindLayout(dir, name string) (*Layout, error) {
	var lacks []string // of each form
	for _, l := range layouts {
		var missing []string
		for _, need := range l.Needs {
			if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(need))); err != nil {
				missing = append(missing, need)
			}
		}
		switch {
		case name != "auto" && name != l.Name:
		case len(missing) == 0:
			return l.copied(dir)
		case name == l.Name:
			lacks = append(lacks, strings.Join(missing, ", "))
		}
	}
	if len(lacks) > 0 {
		return nil, fmt.Errorf("%s is not laid out as %s: it lacks %s", dir, name, strings.Join(lacks, "; or "))
	}
	return nil, fmt.Errorf("there is no layout %q of data sets", name)
}

// copied is l, with the values of the layout that a copy in dir was made of.
func (l *Layout) copied(dir string) (*Layout, error) {
	origin, err := ReadOrigin(dir)
	if err != nil || l.Needs != nil {
		return l, err
	}
	for _, of := range layouts {
		if of.Masks() == origin.Layout {
			c := *l
			c.Legends, c.Ignored, c.Colors, c.masks = of.Legends, of.Ignored, of.Colors, origin.Layout
			return &c, nil
		}
	}
	return l, nil
}

// Masks is the layout whose masks hold such values: its own, or, of a copy, that
// of its source.
func (l *Layout) Masks() string { return cmp.Or(l.masks, l.Name) }

// Label completes the classes of mask values, which count from 0: if as many
// classes are named as the data set is scored on, they are those. What belongs
// to no class by design is ignored (-1). It is an error that masks hold colors
// and the classes are none that the data set is scored on.
func (l *Layout) Label(values map[uint32]int32, classes int) (map[uint32]int32, error) {
	out := maps.Clone(values)
	legend := slices.IndexFunc(l.Legends, func(g Legend) bool { return len(g) == classes })
	if legend >= 0 {
		for value := range uint32(classes) {
			delete(out, value)
		}
		for i, stand := range l.Legends[legend] {
			for _, value := range stand {
				out[value] = values[uint32(i)]
			}
		}
	} else if l.Colors {
		var scored []string
		for _, g := range l.Legends {
			scored = append(scored, fmt.Sprint(len(g)))
		}
		return nil, fmt.Errorf("the masks of %s hold the colors of %s classes, but %d are named", l.Name, strings.Join(scored, " or "), classes)
	}
	for _, value := range l.Ignored {
		if _, ok := out[value]; !ok {
			out[value] = -1
		}
	}
	return out, nil
}

// Parts finds the files of a data set by role, those that are there; of one
// that is not divided they are the part All. What does not pair up in any part
// is told in one ScanError, beside which the pairs are returned all the same.
func (l *Layout) Parts(dir string) (map[string]Files, error) { return l.parts(dir) }

// partNames are what folders of parts are called.
var partNames = map[string][]string{
	"train": {"train", "training"},
	"val":   {"val", "valid", "validation", "dev"},
	"test":  {"test", "testing"},
}

// partOf is the part that a folder is called after, in upper or lower case; ""
// if it is none.
func partOf(folder string) string {
	for _, role := range Roles {
		if slices.Contains(partNames[role], strings.ToLower(folder)) {
			return role
		}
	}
	return ""
}

// partFolders are the folders in a folder that are called after parts. One that is
// called in another way than Roles has to hold a folder, as it may be something
// else. Two of one part are an error, since one of them would not be used.
func partFolders(dir, holds string) (map[string]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("listing %w", at(dir, err))
	}
	found := map[string]string{}
	for _, e := range entries {
		role := partOf(e.Name())
		if role == "" || !isDir(dir, e.Name()) || role != e.Name() && !isDir(dir, e.Name(), holds) {
			continue
		}
		if other, twice := found[role]; twice {
			return nil, fmt.Errorf("%s has %s/ and %s/, which both are %s: put them together, or rename one", dir, other, e.Name(), role)
		}
		found[role] = e.Name()
	}
	return found, nil
}

// folders are images/ and masks/, or train/, val/ and test/ with these, or these
// with train/, val/ and test/ in them.
func folders(dir string) (map[string]Files, error) {
	named, err := partFolders(dir, "images")
	if err != nil {
		return nil, err
	}
	if named["train"] != "" || named["test"] != "" {
		return eachPart(dir, named, func(folder string) (Files, string, error) {
			f, err := Scan(filepath.Join(dir, folder))
			return f, folder + "/", err
		})
	}
	if isDir(dir, "images") {
		if named, err = partFolders(filepath.Join(dir, "images"), "."); err != nil {
			return nil, err
		}
	}
	if named["train"] != "" || named["test"] != "" {
		return eachPart(dir, named, func(folder string) (Files, string, error) {
			f, err := scan(dir, "images/"+folder, maskFolder(dir)+"/"+folder)
			return f, "", err
		})
	}
	f, err := Scan(dir)
	return map[string]Files{All: f}, err
}

// eachPart finds the files of parts, by the names of their folders.
func eachPart(dir string, named map[string]string, find func(folder string) (f Files, before string, err error)) (map[string]Files, error) {
	parts := map[string]Files{}
	var faults []string
	for _, role := range Roles {
		folder, ok := named[role]
		if !ok {
			continue
		}
		f, before, err := find(folder)
		var scan *ScanError
		if errors.As(err, &scan) {
			for _, fault := range scan.Faults {
				faults = append(faults, before+fault)
			}
		} else if err != nil {
			return nil, err
		}
		parts[role] = f
	}
	return parts, faulty(dir, faults)
}

// beside pairs the pictures of two folders, images and masks, for each part, by
// their stems without the ending of the masks.
func beside(dir string, pairs map[string][2]string, maskEnd string) (map[string]Files, error) {
	parts := map[string]Files{}
	var faults []string
	for _, role := range append(slices.Clone(Roles), All) {
		pair, ok := pairs[role]
		if !ok {
			continue
		}
		f, wrong, err := pairedBelow(dir, pair[0], "", pair[1], maskEnd)
		if err != nil {
			return nil, err
		}
		parts[role], faults = f, append(faults, wrong...)
	}
	return parts, faulty(dir, faults)
}

// pairedBelow pairs all pictures of two folders by their stems without endings.
func pairedBelow(dir, images, imageEnd, masks, maskEnd string) (Files, []string, error) {
	ours, err := list(dir, images)
	if err != nil {
		return Files{}, nil, err
	}
	theirs, err := list(dir, masks)
	if err != nil {
		return Files{}, nil, err
	}
	image, twice := keyed(ours.pictures, imageEnd)
	mask, twiceMask := keyed(theirs.pictures, maskEnd)
	unread, _ := keyed(ours.foreign, imageEnd)
	for stem := range unread { // whose masks are not at fault
		if image[stem] == "" {
			delete(mask, stem)
		}
	}
	all := slices.Concat(slices.Collect(maps.Keys(image)), slices.Collect(maps.Keys(mask)))
	f, faults := paired(dir, all, image, mask, images+" or "+masks)
	return f, slices.Concat(ours.faults(), theirs.faults(), twice, twiceMask, faults), nil
}

// divided are train/, val/ and test/, with masks in folders of the same names and
// an ending.
func divided(dir, folderEnd, maskEnd string) (map[string]Files, error) {
	pairs := map[string][2]string{}
	for _, role := range Roles {
		pairs[role] = [2]string{role, role + folderEnd}
	}
	return beside(dir, pairs, maskEnd)
}

// listed pairs the pictures of two folders that stand in lists by role, one a
// line; behind a stem and a space, lists may say more.
func listed(dir, images, masks string, lists map[string]string) (map[string]Files, error) {
	ours, err := list(dir, images)
	if err != nil {
		return nil, err
	}
	theirs, err := list(dir, masks)
	if err != nil {
		return nil, err
	}
	image, twice := keyed(ours.pictures, "")
	mask, twiceMask := keyed(theirs.pictures, "")
	parts := map[string]Files{}
	faults := append(twice, twiceMask...)
	for _, role := range Roles {
		file, ok := lists[role]
		if !ok {
			continue
		}
		stems, err := stems(filepath.Join(dir, filepath.FromSlash(file)))
		if err != nil {
			return nil, err
		}
		f, wrong := paired(dir, stems, image, mask, file)
		parts[role], faults = f, append(faults, wrong...)
	}
	return parts, faulty(dir, faults)
}

// stems reads a list.
func stems(file string) ([]string, error) {
	content, err := regular.Read(file, mostList)
	if err != nil {
		return nil, fmt.Errorf("reading a list of images: %w", err)
	}
	var list []string
	for line := range strings.Lines(string(withoutBOM(content))) {
		if words := strings.Fields(line); len(words) > 0 && !strings.HasPrefix(words[0], "#") {
			list = append(list, composed(words[0]))
		}
	}
	return list, nil
}

// foldered pairs the pictures of folders by role, and of the folders in these,
// by their stems without the endings.
func foldered(dir string, roles map[string]string, images, imageEnd, masks, maskEnd string) (map[string]Files, error) {
	parts := map[string]Files{}
	var faults []string
	for _, role := range Roles {
		folder, ok := roles[role]
		if !ok {
			continue
		}
		f, wrong, err := pairedBelow(dir, images+folder, imageEnd, masks+folder, maskEnd)
		if err != nil {
			return nil, err
		}
		parts[role], faults = f, append(faults, wrong...)
	}
	return parts, faulty(dir, faults)
}

// keyed are paths by their stems without an ending, which others lack. Of two
// with the same stem the second is a fault.
func keyed(paths []string, end string) (byStem map[string]string, faults []string) {
	byStem = make(map[string]string, len(paths))
	for _, p := range paths {
		key, ok := strings.CutSuffix(composed(stem(p)), end)
		if !ok {
			continue
		}
		if other, twice := byStem[key]; twice {
			faults = append(faults, sameStem(p, other))
			continue
		}
		byStem[key] = p
	}
	return byStem, faults
}

// paired are the images and masks of keys, in the order of the image names, and
// what is wrong with them.
func paired(dir string, keys []string, image, mask map[string]string, where string) (Files, []string) {
	f := Files{Root: dir}
	var faults []string
	slices.Sort(keys)
	maskOf := map[string]string{}
	for _, key := range slices.Compact(keys) {
		i, hasImage := image[key]
		m, hasMask := mask[key]
		switch {
		case !hasImage && !hasMask:
			faults = append(faults, fmt.Sprintf("%s: has %s, of which there is no picture", where, key))
		case !hasImage:
			faults = append(faults, m+": no image for this mask")
		case !hasMask:
			faults = append(faults, i+": no mask for this image")
		case !readable[strings.ToLower(path.Ext(m))]:
			faults = append(faults, m+": a mask must be PNG, TIFF or BMP, as others change class indices")
		default:
			f.Images = append(f.Images, i)
			maskOf[i] = m
		}
	}
	slices.Sort(f.Images)
	for _, i := range f.Images {
		f.Masks = append(f.Masks, maskOf[i])
	}
	return f, faults
}

func faulty(dir string, faults []string) error {
	if len(faults) == 0 {
		return nil
	}
	return &ScanError{Root: dir, Faults: faults}
}
