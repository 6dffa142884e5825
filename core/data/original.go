package data

import (
	"cmp"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/data/pyrandom"
)

// SplitOriginal divides the files as the original project does: all of them, in
// the order of their names, are shuffled by Python's random with a seed; the
// first of them, a fraction of all, are kept; of these val and test are fractions,
// rounded down, and what is left is trained on. So every part depends on keep,
// the tests too.
func (f Files) SplitOriginal(seed uint64, keep, val, test float64) (parts [3]Files) {
	order := make([]int, f.Len())
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(path.Base(f.Images[a]), path.Base(f.Images[b]))
	})
	kept := pyrandom.New(seed).Shuffled(f.Len())[:int(float64(f.Len())*keep)]
	for i, k := range kept {
		kept[i] = order[k]
	}
	n := float64(len(kept))
	ofVal, ofTest := int(val*n), int(test*n)
	train := len(kept) - ofVal - ofTest
	parts[0], parts[1], parts[2] = f.pick(kept[:train]), f.pick(kept[train:train+ofVal]), f.pick(kept[train+ofVal:])
	return parts
}

// Pool puts parts below one folder together, in the bytewise order of the paths
// of their images.
func Pool(root string, parts map[string]Files) Files {
	all := Files{Root: root}
	for _, f := range parts {
		rel, err := filepath.Rel(root, f.Root)
		if err != nil || strings.HasPrefix(rel, "..") {
			panic("data: " + f.Root + " is not below " + root)
		}
		for i := range f.Images {
			all.Images = append(all.Images, path.Join(filepath.ToSlash(rel), f.Images[i]))
			all.Masks = append(all.Masks, path.Join(filepath.ToSlash(rel), f.Masks[i]))
		}
	}
	order := make([]int, all.Len())
	for i := range order {
		order[i] = i
	}
	return all.pick(order)
}
