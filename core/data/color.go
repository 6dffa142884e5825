package data

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/core/spec"
)

// ColorName is a color 0xRRGGBB as "#rrggbb".
func ColorName(packed uint32) string { return fmt.Sprintf("#%06x", packed) }

// mostStrange is how many colors without a class are reported of one mask. One that
// was resized smoothly or compressed with losses has thousands.
const mostStrange = 3

// strangeColors are the colors of a mask that have no class, the most frequent
// first, each with the nearest that has one.
func strangeColors(path string, m fact, d *spec.Data) (problems []Problem) {
	type strange struct {
		color  uint32
		pixels uint64
	}
	var list []strange
	for i, v := range m.values {
		if _, ok := d.GetValues()[v]; !ok {
			list = append(list, strange{v, m.pixels[i]})
		}
	}
	slices.SortFunc(list, func(a, b strange) int {
		return cmp.Or(cmp.Compare(b.pixels, a.pixels), cmp.Compare(a.color, b.color))
	})
	for i, s := range list {
		if i == mostStrange {
			rest := uint64(0)
			for _, other := range list[i:] {
				rest += other.pixels
			}
			return append(problems, Problem{path, 1 << 24, fmt.Sprintf(
				"and %d more colors without a class, in %s; smooth resizing and lossy compression mix colors", len(list)-i, pixelCount(rest))})
		}
		nearest, class := nearestColor(s.color, d)
		problems = append(problems, Problem{path, int(s.color), fmt.Sprintf(
			"the color %s, in %s, belongs to no class; the nearest is %s, %s", ColorName(s.color), pixelCount(s.pixels), ColorName(nearest), class)})
	}
	return problems
}

func pixelCount(n uint64) string { return plural.Of(n, "pixel") }

// nearestColor is the color with a class that is nearest to another in RGB,
// the lower of two alike, and the name of its class.
func nearestColor(c uint32, d *spec.Data) (nearest uint32, class string) {
	best := -1
	for v := range d.GetValues() {
		far := 0
		for shift := 0; shift < 24; shift += 8 {
			by := int(c>>shift&0xff) - int(v>>shift&0xff)
			far += by * by
		}
		if best < 0 || far < best || far == best && v < nearest {
			best, nearest = far, v
		}
	}
	class = "ignored"
	if i := d.GetValues()[nearest]; i >= 0 && int(i) < len(d.GetClasses()) {
		class = d.GetClasses()[i]
	}
	return nearest, class
}

// Colored reports whether masks hold colors, told by the first that can be
// read.
func (f Files) Colored() bool {
	for _, name := range f.Masks {
		if _, err := readMask(f.path(name), asIndices); err == nil {
			return false
		} else if errors.Is(err, errColors) {
			return true
		}
	}
	return false
}
