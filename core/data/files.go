package data

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

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

// readable are the pictures that are images; of them those with a true value
// keep numbers as they are and can be masks.
var readable = map[string]bool{
	".jpg": false, ".jpeg": false, ".webp": false, ".png": true, ".tif": true, ".tiff": true, ".bmp": true,
}

// foreign are pictures that this package does not read. Everything else in the
// folders (lists, .mat files, hidden files) is none of ours and passed over.
var foreign = map[string]bool{
	".gif": true, ".heic": true, ".avif": true, ".jxl": true, ".npy": true,
}

// Scan finds the pairs below root: images/<stem> as JPEG, PNG, WebP, TIFF or BMP
// with masks/<stem> (or annotations/trimaps/<stem>) as PNG, TIFF or BMP.
// Everything that does not pair up is told in one ScanError, beside which the
// pairs are returned all the same.
func Scan(root string) (Files, error) {
	f := Files{Root: root}
	images, unreadable, err := pictures(root, "images")
	if err != nil {
		return Files{}, err
	}
	folder := maskFolders[0]
	for _, m := range maskFolders {
		if info, err := os.Stat(filepath.Join(root, filepath.FromSlash(m))); err == nil && info.IsDir() {
			folder = m
			break
		}
	}
	masks, unreadableMasks, err := pictures(root, folder)
	if err != nil {
		return Files{}, err
	}

	var faults []string
	for _, p := range slices.Concat(unreadable, unreadableMasks) {
		faults = append(faults, fmt.Sprintf("%s: pictures of this kind are not read; convert it to PNG", p))
	}
	byStem := make(map[string]string, len(masks))
	for _, m := range masks {
		if !readable[strings.ToLower(path.Ext(m))] {
			faults = append(faults, fmt.Sprintf("%s: a mask must be PNG, TIFF or BMP, as others change class indices", m))
		}
		if other, twice := byStem[stem(m)]; twice {
			faults = append(faults, fmt.Sprintf("%s: the same stem as %s", m, other))
			continue
		}
		byStem[stem(m)] = m
	}
	seen := make(map[string]string, len(images))
	for _, i := range images {
		s := stem(i)
		if other, twice := seen[s]; twice {
			faults = append(faults, fmt.Sprintf("%s: the same stem as %s", i, other))
			continue
		}
		seen[s] = i
		m, ok := byStem[s]
		if !ok {
			faults = append(faults, fmt.Sprintf("%s: no mask %s/%s.png", i, folder, s))
			continue
		}
		f.Images = append(f.Images, i)
		f.Masks = append(f.Masks, m)
	}
	for _, m := range masks {
		if _, ok := seen[stem(m)]; !ok {
			faults = append(faults, fmt.Sprintf("%s: no image images/%s.jpg or another picture", m, stem(m)))
		}
	}
	if len(faults) > 0 {
		return f, &ScanError{Root: root, Faults: faults}
	}
	if len(f.Images) == 0 {
		return Files{}, noPictures(filepath.Join(root, "images"))
	}
	return f, nil
}

// ScanImages finds the pictures of a folder, its own or in images/, without
// masks: images to take a style from.
func ScanImages(root string) (Files, error) {
	images, unreadable, err := pictures(root, imageFolder(root))
	if err != nil {
		return Files{}, err
	}
	if len(unreadable) > 0 {
		return Files{}, &ScanError{Root: root, Faults: unreadable}
	}
	if len(images) == 0 {
		return Files{}, noPictures(root)
	}
	return Files{Root: root, Images: images}, nil
}

// Pictures lists the pictures of a folder, its own or in images/, by their
// paths and in the order of their names. Those of kinds that are not read are
// among them.
func Pictures(root string) ([]string, error) {
	images, others, err := pictures(root, imageFolder(root))
	if err != nil {
		return nil, err
	}
	all := slices.Sorted(slices.Values(slices.Concat(images, others)))
	if len(all) == 0 {
		return nil, noPictures(root)
	}
	for i, name := range all {
		all[i] = filepath.Join(root, filepath.FromSlash(name))
	}
	return all, nil
}

// imageFolder is where below root its images lie.
func imageFolder(root string) string {
	if info, err := os.Stat(filepath.Join(root, "images")); err != nil || !info.IsDir() {
		return "."
	}
	return "images"
}

func noPictures(root string) error {
	return fmt.Errorf("no pictures in %s: expected JPEG, PNG, WebP, TIFF or BMP files", root)
}

// ScanError lists everything that does not pair up below a root.
type ScanError struct {
	Root   string
	Faults []string // one line each, the file first
}

func (e *ScanError) Error() string {
	const shown = 20
	list := e.Faults[:min(shown, len(e.Faults))]
	text := fmt.Sprintf("%s: %d files do not pair up:\n  %s", e.Root, len(e.Faults), strings.Join(list, "\n  "))
	if more := len(e.Faults) - len(list); more > 0 {
		text += fmt.Sprintf("\n  and %d more", more)
	}
	return text
}

// pictures lists the pictures of a folder that are read and those that are not.
func pictures(root, folder string) (ours, others []string, err error) {
	dir := filepath.Join(root, filepath.FromSlash(folder))
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, fmt.Errorf("no folder %s: a data set has images/ and masks/ with files of the same stem: %w", dir, fs.ErrNotExist)
	case err != nil:
		return nil, nil, fmt.Errorf("listing %s: %w", dir, err)
	}
	for _, e := range entries {
		// Hidden files are left by archives and file managers ("._cat.jpg").
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		ext := strings.ToLower(filepath.Ext(e.Name()))
		switch _, ok := readable[ext]; {
		case ok:
			ours = append(ours, folder+"/"+e.Name())
		case foreign[ext]:
			others = append(others, folder+"/"+e.Name())
		}
	}
	return ours, others, nil
}

func stem(p string) string {
	base := path.Base(p)
	return strings.TrimSuffix(base, path.Ext(base))
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
	name := stem(f.Images[i])
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

// rank orders the pairs by SHA-256 of purpose, seed and stem. The purpose keeps
// a sample of a split from following the ranks that made the split.
func (f Files) rank(purpose string, seed uint64) []int {
	sums := make([][sha256.Size]byte, f.Len())
	for i, name := range f.Images {
		b := append([]byte(purpose), 0)
		b = binary.LittleEndian.AppendUint64(b, seed)
		sums[i] = sha256.Sum256(append(b, stem(name)...))
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
