package data

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/spec"
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
// image, and values of masks that d gives no class. What was decoded once costs a
// stat. An ended context leaves the rest unchecked.
func Check(ctx context.Context, x *Index, f Files, d *spec.Data) []Problem {
	facts, faults, err := x.look(ctx, f, f.pairs(), pairKind(d.GetColours()))
	if err != nil { // an ended context is told by ctx itself
		return nil
	}
	var problems []Problem
	for i := range f.Images {
		problems = append(problems, f.checkPair(i, facts[2*i:2*i+2], faults[2*i:2*i+2], d)...)
	}
	slices.SortFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Value, b.Value))
	})
	return problems
}

// pairKind is how the files of Files.pairs are read.
func pairKind(colors bool) func(i int) kind {
	return func(i int) kind {
		if i%2 == 0 {
			return asImage
		}
		return maskKind(colors)
	}
}

func maskKind(colors bool) kind {
	if colors {
		return asColors
	}
	return asIndices
}

// checkPair is what is wrong with an image and its mask.
func (f Files) checkPair(i int, facts []fact, faults []error, d *spec.Data) (problems []Problem) {
	imagePath, maskPath := f.path(f.Images[i]), f.path(f.Masks[i])
	img, msk := facts[0], facts[1]
	if faults[0] != nil {
		problems = append(problems, problem(imagePath, faults[0]))
	}
	if faults[1] != nil {
		return append(problems, problem(maskPath, faults[1]))
	}
	if faults[0] == nil && (img.width != msk.width || img.height != msk.height) {
		problems = append(problems, Problem{maskPath, -1, "the mask is " + mismatch(raster.Size{H: msk.height, W: msk.width}, raster.Size{H: img.height, W: img.width})})
	}
	if d.GetColours() {
		return append(problems, strangeColors(maskPath, msk, d)...)
	}
	for _, v := range msk.values {
		if _, ok := d.GetValues()[v]; !ok {
			problems = append(problems, Problem{maskPath, int(v), fmt.Sprintf("the mask holds the value %d, which belongs to no class", v)})
		}
	}
	return problems
}

// darkest is the brightest value below which a whole set of images counts as dark.
const darkest = 64

// Remarks are what stops no training but may not be meant; "" if there is nothing
// to say. Several is of files with several pictures, of which the first is used,
// dark of images that are all dark, as those are that keep 12 bits in the lower
// part of 16. What was decoded once, by Check too, costs a stat.
func Remarks(ctx context.Context, x *Index, f Files, d *spec.Data) (several, dark string) {
	facts, faults, err := x.look(ctx, f, f.pairs(), pairKind(d.GetColours()))
	if err != nil {
		return "", ""
	}
	var names []string
	peak, images := byte(0), 0
	for i, name := range f.pairs() {
		if faults[i] != nil {
			continue
		}
		if facts[i].pages > 1 {
			names = append(names, name)
		}
		if facts[i].as == asImage {
			images++
			peak = max(peak, facts[i].peak)
		}
	}
	if n := len(names); n > 0 {
		const shown = 3
		if n > shown {
			names = append(names[:shown], "…")
		}
		several = fmt.Sprintf("only the first picture is used of %s several: %s", plural.Form(n, "1 file that holds", fmt.Sprintf("%d files that hold", n)), strings.Join(names, ", "))
	}
	if images > 0 && peak < darkest {
		dark = fmt.Sprintf("no image is brighter than %d of 255: values of less than 16 bits in 16-bit files have to be scaled to the full range first", peak)
	}
	return several, dark
}

// Occurring counts the masks in which each value occurs; values are colors if
// the masks are read so. What was decoded once, by Check too, costs a stat; a
// mask that cannot be read counts for nothing.
func Occurring(ctx context.Context, x *Index, f Files, colors bool) map[uint32]int {
	facts, _, err := x.look(ctx, f, f.Masks, func(int) kind { return maskKind(colors) })
	count := map[uint32]int{}
	if err != nil {
		return count
	}
	for _, mask := range facts {
		for _, v := range mask.values {
			count[v]++
		}
	}
	return count
}

// mismatch tells the size of a mask, upright, and that of its image.
func mismatch(mask, image raster.Size) string {
	text := fmt.Sprintf("%v pixels, but its image is %v", mask, image)
	if mask.W == image.H && mask.H == image.W {
		text += "; one of them was turned, for instance by the EXIF orientation of the image: bake it into both"
	}
	return text
}
