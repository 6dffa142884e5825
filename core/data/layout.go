package data

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/regular"
	"github.com/loralab/loralab/core/spec"
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
	// Ignored are values of no class, and Void what they are.
	Ignored []uint32
	Void    string
	// Colors: masks hold colors, and these are the values.
	Colors bool

	masks string // of a copy: the layout of its source; of a form whose masks are others: its own
	parts func(dir string) (map[string]Files, error)
	// wrong says what is wrong with masks of the data set, by the values that occur in
	// them; "" if nothing is known to be.
	wrong func(occur func(value uint32) bool) string
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
			return listed(dir, "images", []string{"annotations/trimaps"}, map[string][]string{"train": {"annotations/trainval.txt"}, "test": {"annotations/test.txt"}})
		},
	},
	{
		// Resized once, with all values one less: as the project of the original
		// variants keeps it.
		Name: "pets", masks: "pets resized", Needs: []string{"resized_images", "resized_masks"},
		Legends: []Legend{each(0, 1, 2)},
		parts: func(dir string) (map[string]Files, error) {
			return beside(dir, map[string][2]string{All: {"resized_images", "resized_masks"}}, "")
		},
	},
	{
		Name: "voc", Needs: []string{"JPEGImages", "SegmentationClass", "ImageSets/Segmentation/train.txt", "ImageSets/Segmentation/val.txt"},
		Legends: voc, Ignored: []uint32{255}, Void: vocVoid,
		parts: func(dir string) (map[string]Files, error) {
			return listed(dir, "JPEGImages", []string{"SegmentationClass"}, map[string][]string{"train": {vocLists + "train.txt"}, "test": {vocLists + "val.txt"}})
		},
	},
	// The same with the masks of the Semantic Boundaries Dataset (Hariharan et al.,
	// 2011), which make 10,582 images to train on of 1,464. Where both have a mask, VOC's
	// counts. The list of both is called in one of two ways; mmsegmentation has one of
	// those that are added, too.
	vocAugmented(vocLists + "trainaug.txt"), vocAugmented(vocLists + "train_aug.txt"), vocAugmented(vocLists+"train.txt", vocLists+"aug.txt"),
	{
		Name: "cityscapes", Needs: []string{"leftImg8bit/train", "leftImg8bit/val", "gtFine/train", "gtFine/val"},
		// Of road, sidewalk, building, wall, fence, pole, traffic light, traffic
		// sign, vegetation, terrain, sky, person, rider, car, truck, bus, train,
		// motorcycle, bicycle.
		Legends: []Legend{each(7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)},
		Ignored: []uint32{0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30, 255}, Void: "what is not scored",
		wrong: func(occur func(uint32) bool) string {
			// Every image shows the car with the camera, which has label id 1 and train id 255.
			if !occur(255) || slices.ContainsFunc(counting(19, 33), occur) {
				return ""
			}
			return "masks hold train ids, 0 to 18 and 255, but _gtFine_labelIds.png are label ids, 0 to 33: unpack gtFine_trainvaltest.zip again"
		},
		parts: func(dir string) (map[string]Files, error) {
			return foldered(dir, map[string]string{"train": "train", "test": "val"}, "leftImg8bit/", "_leftImg8bit", "gtFine/", "_gtFine_labelIds")
		},
	},
	{
		Name: "ade20k", Needs: []string{"images/training", "images/validation", "annotations/training", "annotations/validation"},
		Legends: []Legend{each(counting(1, 150)...)}, Ignored: []uint32{0}, Void: "other",
		wrong: func(occur func(uint32) bool) string {
			if !occur(255) {
				return ""
			}
			return "masks are reduced already: they hold 255, but the published ones hold 0 for other and 1 to 150 for the classes, of which one is subtracted here: unpack ADEChallengeData2016.zip again"
		},
		parts: func(dir string) (map[string]Files, error) {
			return foldered(dir, map[string]string{"train": "training", "test": "validation"}, "images/", "", "annotations/", "")
		},
	},
	{
		// As its authors publish it, undivided.
		Name: "camvid", Needs: []string{"701_StillsRaw_full", "LabeledApproved_full"},
		Legends: camVid, Ignored: []uint32{0}, Void: "void", Colors: true,
		parts: func(dir string) (map[string]Files, error) {
			return beside(dir, map[string][2]string{All: {"701_StillsRaw_full", "LabeledApproved_full"}}, "_L")
		},
	},
	{
		// The same divided, as it is often passed on.
		Name: "camvid", Needs: []string{"train", "train_labels", "val", "val_labels", "test", "test_labels"},
		Legends: camVid, Ignored: []uint32{0}, Void: "void", Colors: true,
		parts: func(dir string) (map[string]Files, error) { return divided(dir, "_labels", "_L") },
	},
	{
		// As SegNet's tutorial has it: merged to 11 classes, 360 by 480 pixels.
		Name: "camvid", masks: "camvid indices", Needs: []string{"train", "trainannot", "val", "valannot", "test", "testannot"},
		Legends: []Legend{each(counting(0, 10)...)}, Ignored: []uint32{11}, Void: "void",
		parts: func(dir string) (map[string]Files, error) { return divided(dir, "annot", "") },
	},
	{Name: "folders", parts: folders},
}

// voc are Pascal VOC's classes, from background on.
var voc = []Legend{each(counting(0, 20)...)}

const (
	vocVoid  = "borders of objects"
	vocLists = "ImageSets/Segmentation/"
)

func vocAugmented(lists ...string) *Layout {
	return &Layout{
		Name: "vocAug", Needs: append([]string{"JPEGImages", "SegmentationClassAug", vocLists + "val.txt"}, lists...),
		Legends: voc, Ignored: []uint32{255}, Void: vocVoid,
		parts: func(dir string) (map[string]Files, error) {
			masks := []string{"SegmentationClassAug"}
			if isDir(dir, "SegmentationClass") {
				masks = []string{"SegmentationClass", "SegmentationClassAug"}
			}
			return listed(dir, "JPEGImages", masks, map[string][]string{"train": lists, "test": {vocLists + "val.txt"}})
		},
	}
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
		missing := l.missing(dir)
		switch {
		case name != "auto" && name != l.Name:
		case len(missing) == 0:
			if err := nearMiss(dir); name == "auto" && l.Needs == nil && err != nil {
				return nil, err
			}
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

// nearMiss is what a folder that is laid out in no way lacks to one of the published
// layouts, or which folder in it has such a layout; nil if it is like none.
func nearMiss(dir string) error {
	named, err := partFolders(dir, "images")
	if err != nil || named["train"] != "" || named["test"] != "" || isDir(dir, "images") && isDir(dir, maskFolder(dir)) {
		return nil // what is wrong with folders is theirs to say
	}
	nearest, lacks := "", []string(nil)
	for _, l := range layouts {
		if missing := l.missing(dir); 2*len(missing) <= len(l.Needs) && l.Needs != nil && (lacks == nil || len(missing) < len(lacks)) {
			nearest, lacks = l.Name, missing
		}
	}
	if nearest != "" {
		return fmt.Errorf("%s is like %s, but lacks %s", dir, nearest, strings.Join(lacks, ", "))
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // an error of Parts
	}
	for _, e := range entries {
		for _, l := range layouts {
			if l.Needs != nil && isDir(dir, e.Name()) && len(l.missing(filepath.Join(dir, e.Name()))) == 0 {
				return fmt.Errorf("%s is no data set, but %s/ in it is laid out as %s: name that folder", dir, e.Name(), l.Name)
			}
		}
	}
	return nil
}

// missing is what a folder lacks of what the layout is recognized by.
func (l *Layout) missing(dir string) (list []string) {
	for _, need := range l.Needs {
		if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(need))); err != nil {
			list = append(list, need)
		}
	}
	return list
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
			c.Legends, c.Ignored, c.Void, c.Colors, c.masks = of.Legends, of.Ignored, of.Void, of.Colors, origin.Layout
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

// Mistake is what is wrong with the masks of a part as a whole, "" if nothing is known
// to be: another form of the data set, of which every mask would be at fault, or
// none though all mean something else. Masks are read as colors or as indices; with
// another number of classes than the data set is scored on they may hold anything.
func (l *Layout) Mistake(ctx context.Context, x *Index, f Files, colors bool, classes int) string {
	if l.Needs == nil {
		return ""
	}
	if !colors && f.Colored() {
		return fmt.Sprintf("masks hold colors, but those of %s are published as indices of classes: unpack them again, or give the class of each color in data.colors", l.Name)
	}
	scored := slices.ContainsFunc(l.Legends, func(g Legend) bool { return len(g) == classes })
	if l.wrong == nil || !scored || colors {
		return ""
	}
	occurring := Occurring(ctx, x, f, false)
	return l.wrong(func(value uint32) bool { return occurring[value] > 0 })
}

// Scored is how masks of a published data set are read for all classes that it is
// scored on, which are called by their numbers; nil of another layout.
func (l *Layout) Scored() *spec.Data {
	if l.Needs == nil || len(l.Legends) == 0 {
		return nil
	}
	t := struct {
		classes []string
		values  map[uint32]int32
		colors  bool
	}{values: map[uint32]int32{}, colors: l.Colors}
	for _, value := range l.Ignored {
		t.values[value] = -1
	}
	for i, values := range l.Legends[0] {
		t.classes = append(t.classes, fmt.Sprint(i))
		for _, value := range values {
			t.values[value] = int32(i)
		}
	}
	return &spec.Data{Classes: t.classes, Values: t.values, Colours: t.colors}
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
	if len(image) > 1 && len(mask) == 0 {
		faults = []string{unmasked(images, masks, maskEnd, len(image), theirs.pictures)}
	}
	return f, slices.Concat(ours.faults(), theirs.faults(), twice, twiceMask, faults), nil
}

// unmasked says that a folder has no mask for any image, and what is there instead.
func unmasked(images, masks, maskEnd string, n int, others []string) string {
	text := fmt.Sprintf("%s: none of its %d images has a mask in %s", images, n, masks)
	if maskEnd != "" {
		text += fmt.Sprintf(", a file that ends in %s.png", maskEnd)
	}
	if len(others) > 0 {
		text += "; other files are not read, such as " + others[0]
	}
	return text
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

// listed pairs the pictures of a folder that lists by role name, one a line, with
// those of folders of masks, of which the first that has a mask counts; behind a stem
// and a space, lists may say more.
func listed(dir, images string, masks []string, lists map[string][]string) (map[string]Files, error) {
	ours, err := list(dir, images)
	if err != nil {
		return nil, err
	}
	image, faults := keyed(ours.pictures, "")
	mask := map[string]string{}
	for _, folder := range masks {
		theirs, err := list(dir, folder)
		if err != nil {
			return nil, err
		}
		of, twice := keyed(theirs.pictures, "")
		for key, p := range of {
			if mask[key] == "" {
				mask[key] = p
			}
		}
		faults = append(faults, twice...)
	}
	parts := map[string]Files{}
	for _, role := range Roles {
		files, ok := lists[role]
		if !ok {
			continue
		}
		var names []string
		for _, file := range files {
			more, err := stems(filepath.Join(dir, filepath.FromSlash(file)))
			if err != nil {
				return nil, err
			}
			names = append(names, more...)
		}
		f, wrong := paired(dir, names, image, mask, strings.Join(files, " or "))
		if n := len(names); n > 1 && f.Len() == 0 && len(wrong) >= n {
			wrong = []string{fmt.Sprintf("%s: none of its %d images is in %s with a mask of the same stem in %s", strings.Join(files, " or "), n, images, strings.Join(masks, " or "))}
		}
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
