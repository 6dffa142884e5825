package data

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Folds deals the pairs out into n disjoint folds that hold all of them. Which fold a
// pair falls into depends on the seed, the names and n.
//
// Pairs whose names are alike up to the last separator group stay together; if group
// is "", each pair is on its own. Every fold has its share of each stratum: pairs
// alike up to the last separator stratify. At most one of the two is given.
//
// Sizes of folds differ by 1 at most, and with groups by the size of the largest
// group at most. So do, by 1, the numbers that a stratum has in them.
func (f Files) Folds(n int, seed uint64, group, stratify string) ([]Files, error) {
	units, what := f.units(group), "images"
	if group != "" {
		what = "groups"
	}
	if n < 1 || n > len(units) {
		return nil, fmt.Errorf("%d folds are asked for and there are %d %s", n, len(units), what)
	}
	names := Files{Images: slices.Sorted(maps.Keys(units))}
	order := names.rank("fold", seed)
	members := func(k int) []int { return units[names.Images[k]] }
	if stratify == "" {
		// The largest first, each into the smallest fold: what comes last evens out.
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(members(b)), len(members(a))) })
	} else {
		// One stratum after the other is dealt out, and each begins where the one before
		// has ended.
		slices.SortStableFunc(order, func(a, b int) int {
			return cmp.Compare(f.group(members(a)[0], stratify), f.group(members(b)[0], stratify))
		})
	}
	dealt := make([][]int, n)
	for i, k := range order {
		to := i % n
		if stratify == "" {
			to = smallest(dealt)
		}
		dealt[to] = append(dealt[to], members(k)...)
	}
	folds := make([]Files, n)
	for i, indices := range dealt {
		folds[i] = f.pick(indices)
	}
	return folds, nil
}

// Units is how many groups there are, or images if group is "": what Folds deals out.
func (f Files) Units(group string) int { return len(f.units(group)) }

// units are the pairs that stay together, by the name of their group, or by their
// image where each is on its own.
func (f Files) units(group string) map[string][]int {
	units := map[string][]int{}
	for i, image := range f.Images {
		if group != "" {
			image = f.group(i, group)
		}
		units[image] = append(units[image], i)
	}
	return units
}

// smallest is the first of the lists that no other is shorter than.
func smallest(lists [][]int) (at int) {
	for i := range lists {
		if len(lists[i]) < len(lists[at]) {
			at = i
		}
	}
	return at
}
