package data

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing about a file that would stop a training.
type Problem struct {
	File    string // where it lies
	Value   int    // the value of a mask that has no class; -1 if it is about something else
	Message string
}

func (p Problem) String() string { return p.File + ": " + p.Message }

// Check reads every file and returns all that is wrong, ordered by file and
// value: pictures that cannot be decoded, masks of another size than their
// image, and values of masks that values gives no class. What was decoded once
// is remembered like the sums of Digest, so that checking again costs a stat for
// each file. An ended context leaves the rest unchecked.
func Check(ctx context.Context, f Files, values map[uint32]int32) []Problem {
	ix := openIndex(f.Root)
	found := make([][]Problem, f.Len())
	_ = parallel(ctx, f.Len(), func(i int) error { // do returns no error; an ended context is told by ctx itself
		found[i] = checkPair(ix, f, i, values)
		return nil
	})
	ix.save()
	problems := slices.Concat(found...)
	slices.SortFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Value, b.Value))
	})
	return problems
}

func checkPair(ix *index, f Files, i int, values map[uint32]int32) []Problem {
	img, problem := inspect(ix, f, f.Images[i], false)
	var problems []Problem
	if problem != nil {
		problems = append(problems, *problem)
	}
	msk, problem := inspect(ix, f, f.Masks[i], true)
	if problem != nil {
		return append(problems, *problem)
	}
	if img.Checked && (img.Width != msk.Width || img.Height != msk.Height) {
		problems = append(problems, Problem{
			f.path(f.Masks[i]), -1,
			"the mask is " + mismatch(msk.Width, msk.Height, img.Width, img.Height),
		})
	}
	for _, v := range msk.Values {
		if _, ok := values[v]; !ok {
			problems = append(problems, Problem{
				f.path(f.Masks[i]), int(v),
				fmt.Sprintf("the mask holds the value %d, which belongs to no class", v),
			})
		}
	}
	return problems
}

// Occurring counts the masks in which each value occurs. What was decoded once,
// by Check too, costs a stat; a mask that cannot be read counts for nothing.
func Occurring(ctx context.Context, f Files) map[uint32]int {
	ix := openIndex(f.Root)
	found := make([]fact, f.Len())
	_ = parallel(ctx, f.Len(), func(i int) error {
		found[i], _ = inspect(ix, f, f.Masks[i], true)
		return nil
	})
	ix.save()
	count := map[uint32]int{}
	for _, mask := range found {
		for _, v := range mask.Values {
			count[v]++
		}
	}
	return count
}

// mismatch tells the size of a mask, upright, and that of its image.
func mismatch(w, h, imageW, imageH int) string {
	text := fmt.Sprintf("%d×%d pixels, but its image is %d×%d", w, h, imageW, imageH)
	if w == imageH && h == imageW {
		text += "; one of them was turned, for instance by the EXIF orientation of the image: bake it into both"
	}
	return text
}

// inspect decodes a file unless that is known to work.
func inspect(ix *index, f Files, name string, isMask bool) (fact, *Problem) {
	known, err := ix.lookup(f, name)
	if err == nil && known.Checked && (len(known.Values) > 0) == isMask && len(known.Pixels) == len(known.Values) {
		return known, nil
	}
	path := f.path(name)
	if err == nil {
		if isMask {
			var m mask
			if m, err = readMask(path); err == nil {
				known.Width, known.Height = m.w, m.h
				known.Values, known.Pixels = m.counted()
			}
		} else {
			var p pixels
			if p, err = readImage(path); err == nil {
				known.Width, known.Height, known.Values, known.Pixels = p.w, p.h, nil, nil
			}
		}
	}
	if err != nil {
		message := strings.ReplaceAll(err.Error(), " "+path, "") // File names it already
		return fact{}, &Problem{path, -1, message}
	}
	known.Checked = true
	ix.store(name, known)
	return known, nil
}
