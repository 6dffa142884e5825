package data

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/core/rng"
)

// Files are pairs of an image and its mask, in the bytewise order of the image
// names. Paths are relative to Root, with forward slashes.
type Files struct {
	Root   string
	Images []string
	Masks  []string
}

// maskFolders are where Scan looks for masks; the second is how Oxford-IIIT Pet
// unpacks.
var maskFolders = []string{"masks", "annotations/trimaps"}

// Scan finds the pairs below root: images/<name> as JPEG, PNG, WebP, TIFF, BMP or GIF
// with masks/<name> (or annotations/trimaps/<name>) as PNG, TIFF or BMP. Folders
// in these are read as well, and belong to the name. One ScanError lists
// everything that does not pair up, and the pairs are returned with it.
func Scan(root string) (Files, error) {
	return scan(root, "images", maskFolder(root))
}

// maskFolder is where below root its masks lie.
func maskFolder(root string) string {
	for _, m := range maskFolders {
		if isDir(root, filepath.FromSlash(m)) {
			return m
		}
	}
	return maskFolders[0]
}

// scan finds the pairs of two folders below root.
func scan(root, imageFolder, maskFolder string) (Files, error) {
	f := Files{Root: root}
	images, err := list(root, imageFolder)
	if err != nil {
		return Files{}, err
	}
	masks, err := list(root, maskFolder)
	if err != nil {
		return Files{}, err
	}
	key := func(folder, p string) string {
		return composed(withoutEnding(strings.TrimPrefix(p, folder+"/")))
	}
	faults := slices.Concat(images.faults(), masks.faults())
	byKey := make(map[string]string, len(masks.pictures))
	unfit := map[string]bool{} // masks, whose images are not at fault
	for _, m := range masks.pictures {
		if !readable[strings.ToLower(path.Ext(m))] {
			faults = append(faults, fmt.Sprintf("%s: a mask must be PNG, TIFF or BMP, as others change class indices", m))
			unfit[m] = true
		}
		if other, twice := byKey[key(maskFolder, m)]; twice {
			faults = append(faults, sameStem(m, other))
			continue
		}
		byKey[key(maskFolder, m)] = m
	}
	seen, named := make(map[string]string, len(images.pictures)), make(map[string]string, len(images.pictures))
	for _, i := range images.pictures {
		k := key(imageFolder, i)
		if other, twice := seen[k]; twice {
			faults = append(faults, sameStem(i, other))
			continue
		}
		seen[k] = i
		m, ok := byKey[k]
		if !ok {
			faults = append(faults, fmt.Sprintf("%s: no mask %s/%s.png", i, maskFolder, k))
			continue
		}
		if unfit[m] {
			continue
		}
		if other, twice := named[nameOf(i)]; twice {
			faults = append(faults, fmt.Sprintf("%s: the same name as %s, as folders that are called like parts do not count", i, other))
			continue
		}
		named[nameOf(i)] = i
		f.Images = append(f.Images, i)
		f.Masks = append(f.Masks, m)
	}
	for _, i := range images.foreign { // whose masks are not at fault
		seen[key(imageFolder, i)] = i
	}
	for _, m := range masks.pictures {
		if k := key(maskFolder, m); seen[k] == "" {
			faults = append(faults, fmt.Sprintf("%s: no image %s/%s.jpg or another picture", m, imageFolder, k))
		}
	}
	if len(faults) > 0 {
		return f, &ScanError{Root: root, Faults: faults}
	}
	if len(f.Images) == 0 {
		return Files{}, noPictures(filepath.Join(root, filepath.FromSlash(imageFolder)))
	}
	return f, nil
}

// ScanImages finds the pictures of a folder, its own or in images/, and of the
// folders in it, without masks: images to take a style from.
func ScanImages(root string) (Files, error) {
	images, err := list(root, imageFolder(root))
	if err != nil {
		return Files{}, err
	}
	if faults := images.faults(); len(faults) > 0 {
		return Files{}, &ScanError{Root: root, Faults: faults}
	}
	if len(images.pictures) == 0 {
		return Files{}, noPictures(root)
	}
	return Files{Root: root, Images: images.pictures}, nil
}

// Pictures lists the pictures of a folder, its own or in images/, and of the
// folders in it, by their paths below folder and in the order of these. Those of
// kinds that are not read are among them.
func Pictures(root string) (folder string, names []string, err error) {
	images, err := list(root, imageFolder(root))
	if err != nil {
		return "", nil, err
	}
	all := slices.Concat(images.pictures, images.foreign)
	if len(all) == 0 {
		return "", nil, noPictures(root)
	}
	for i, name := range all {
		all[i] = strings.TrimPrefix(name, imageFolder(root)+"/")
	}
	slices.Sort(all)
	return filepath.Join(root, imageFolder(root)), all, nil
}

// imageFolder is where below root its images lie.
func imageFolder(root string) string {
	if isDir(root, "images") {
		return "images"
	}
	return "."
}

func noPictures(root string) error {
	return fmt.Errorf("no pictures in %s: expected JPEG, PNG, WebP, TIFF, BMP or GIF files", root)
}

// ScanError lists everything that does not pair up below a root.
type ScanError struct {
	Root   string
	Faults []string // one line each, the file first
}

func (e *ScanError) Error() string {
	const shown = 20
	list := e.Faults[:min(shown, len(e.Faults))]
	text := fmt.Sprintf("%s: %s not pair up:\n  %s", e.Root, plural.Form(len(e.Faults), "1 file does", fmt.Sprintf("%d files do", len(e.Faults))), strings.Join(list, "\n  "))
	if more := len(e.Faults) - len(list); more > 0 {
		text += fmt.Sprintf("\n  and %d more", more)
	}
	return text
}

// composed is a name in the one form of Unicode in which names are compared: a
// letter with an accent may be one character or two, and file systems and archives
// change one into the other.
func composed(name string) string { return norm.NFC.String(name) }

// sameStem is the fault of two files that pair with the same file. Names that look the
// same are shown by their characters.
func sameStem(file, other string) string {
	if file != other && composed(file) == composed(other) {
		return fmt.Sprintf("%s: the same name as another file there, in another form of Unicode: %+q and %+q; remove or rename one", file, path.Base(other), path.Base(file))
	}
	return fmt.Sprintf("%s: the same stem as %s", file, other)
}

func stem(p string) string { return withoutEnding(path.Base(p)) }

func withoutEnding(p string) string { return strings.TrimSuffix(p, path.Ext(p)) }

// nameOf is what a picture is called: its stem, and before it the folders below
// images/. A folder that is called like a part of a data set does not count.
func nameOf(p string) string {
	for rest, dir := p, ""; ; {
		var ok bool
		if dir, rest, ok = strings.Cut(rest, "/"); !ok {
			return stem(p)
		} else if dir == "images" {
			if part, below, ok := strings.Cut(rest, "/"); ok && partOf(part) != "" {
				rest = below
			}
			return withoutEnding(rest)
		}
	}
}

// Len is the number of pairs.
func (f Files) Len() int { return len(f.Images) }

// Split cuts the files into disjoint parts of the given fractions, whose sum is
// at most 1; what is left over belongs to none. Which part a pair falls into
// depends on the seed, its name and the names around it, not on their order.
// It panics on fractions that are no fractions.
func (f Files) Split(seed uint64, fractions ...float64) []Files {
	return f.cut(f.rank("split", seed), fractions)
}

// SplitStrata is Split with each part holding every stratum in the proportion of
// the whole, as nearly as it divides. A stratum is what names are alike in, up to
// the last separator.
func (f Files) SplitStrata(seed uint64, separator string, fractions ...float64) []Files {
	strata := map[string][]int{}
	order := f.rank("split", seed)
	for _, i := range order {
		name := f.group(i, separator)
		strata[name] = append(strata[name], i)
	}
	// Each stratum is spread evenly over 0 to 1, from a start of its own: with the
	// same start, all strata of one picture would fall into one part.
	at := make([]float64, f.Len())
	for name, members := range strata {
		start := rng.New(seed, "split", name).Float64()
		for k, i := range members {
			at[i] = (float64(k) + start) / float64(len(members))
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(at[a], at[b]) })
	return f.cut(order, fractions)
}

// SplitGroups is Split with pictures whose names are alike up to the last
// separator in one part, as for the frames of a film or the slices of a patient.
// A group falls into the part that its middle falls into, so fractions are met
// as nearly as groups divide.
func (f Files) SplitGroups(seed uint64, separator string, fractions ...float64) []Files {
	groups := map[string][]int{}
	for i := range f.Images {
		name := f.group(i, separator)
		groups[name] = append(groups[name], i)
	}
	names := Files{Images: slices.Sorted(maps.Keys(groups))}
	parts := make([][]int, len(fractions))
	before := 0
	for _, k := range names.rank("split", seed) {
		members := groups[names.Images[k]]
		middle := (float64(before) + float64(len(members))/2) / float64(f.Len())
		before += len(members)
		sum := 0.0
		for p, x := range fractions {
			if sum += x; middle < sum {
				parts[p] = append(parts[p], members...)
				break
			}
		}
	}
	out := make([]Files, len(fractions))
	for p, members := range parts {
		out[p] = f.pick(members)
	}
	return out
}

// group is the beginning of the name of a pair up to the last separator; all of
// it if there is none.
func (f Files) group(i int, separator string) string {
	name := nameOf(f.Images[i])
	if end := strings.LastIndex(name, separator); end >= 0 {
		return name[:end]
	}
	return name
}

// cut divides the pairs in an order.
func (f Files) cut(order []int, fractions []float64) []Files {
	parts := make([]Files, len(fractions))
	var sum float64
	from := 0
	for i, x := range fractions {
		sum += x
		if !(x >= 0) || sum > 1+1e-9 {
			panic(fmt.Sprintf("data: fractions %v do not split a set", fractions))
		}
		// Bounds of the running sum are rounded, so that fractions that add up
		// to 1 leave no pair out.
		to := min(int(math.Round(sum*float64(len(order)))), len(order))
		parts[i] = f.pick(order[from:to])
		from = to
	}
	return parts
}

// Sample chooses n pairs, all if there are no more. A larger n contains what a
// smaller one chose, so that a curve over the amount of data only adds.
func (f Files) Sample(n int, seed uint64) Files {
	order := f.rank("sample", seed)
	return f.pick(order[:max(0, min(n, len(order)))])
}

// rank orders the pairs by SHA-256 of purpose, seed and name. The purpose keeps
// a sample of a split from following the ranks that made the split.
func (f Files) rank(purpose string, seed uint64) []int {
	sums := make([][sha256.Size]byte, f.Len())
	for i, name := range f.Images {
		b := append([]byte(purpose), 0)
		b = binary.LittleEndian.AppendUint64(b, seed)
		sums[i] = sha256.Sum256(append(b, nameOf(name)...))
	}
	order := make([]int, f.Len())
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(slices.Compare(sums[a][:], sums[b][:]), cmp.Compare(f.Images[a], f.Images[b]))
	})
	return order
}

// pick returns the pairs at the indices in the order of their names.
func (f Files) pick(indices []int) Files {
	indices = slices.Clone(indices)
	slices.SortFunc(indices, func(a, b int) int { return cmp.Compare(f.Images[a], f.Images[b]) })
	p := Files{Root: f.Root, Images: make([]string, len(indices)), Masks: make([]string, len(indices))}
	for i, j := range indices {
		p.Images[i], p.Masks[i] = f.Images[j], f.Masks[j]
	}
	return p
}

// path is where a relative name of the set lies.
func (f Files) path(name string) string {
	return filepath.Join(f.Root, filepath.FromSlash(name))
}
