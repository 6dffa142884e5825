package data

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/loralab/loralab/core/spec"
)

// ColourName is a colour 0xRRGGBB as "#rrggbb".
func ColourName(packed uint32) string { return fmt.Sprintf("#%06x", packed) }

// mostStrange is how many colours without a class are told of one mask. One that
// was resized smoothly or compressed with losses has thousands.
const mostStrange = 3

// strangeColours are the colours of a mask that have no class, the most frequent
// first, each with the nearest that has one.
func strangeColours(path string, m fact, d *spec.Data) (problems []Problem) {
	type strange struct {
		colour uint32
		pixels uint64
	}
	var list []strange
	for i, v := range m.values {
		if _, ok := d.GetValues()[v]; !ok {
			list = append(list, strange{v, m.pixels[i]})
		}
	}
	slices.SortFunc(list, func(a, b strange) int {
		return cmp.Or(cmp.Compare(b.pixels, a.pixels), cmp.Compare(a.colour, b.colour))
	})
	for i, s := range list {
		if i == mostStrange {
			rest := uint64(0)
			for _, other := range list[i:] {
				rest += other.pixels
			}
			return append(problems, Problem{path, 1 << 24, fmt.Sprintf(
				"and %d more colours without a class, in %s; smooth resizing and lossy compression mix colours", len(list)-i, pixelCount(rest))})
		}
		nearest, class := nearestColour(s.colour, d)
		problems = append(problems, Problem{path, int(s.colour), fmt.Sprintf(
			"the colour %s, in %s, belongs to no class; the nearest is %s, %s", ColourName(s.colour), pixelCount(s.pixels), ColourName(nearest), class)})
	}
	return problems
}

func pixelCount(n uint64) string {
	if n == 1 {
		return "1 pixel"
	}
	return fmt.Sprintf("%d pixels", n)
}

// nearestColour is the colour with a class that is nearest to another in RGB,
// the lower of two alike, and the name of its class.
func nearestColour(c uint32, d *spec.Data) (nearest uint32, class string) {
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

// Coloured reports whether masks hold colours, told by the first that can be
// read.
func (f Files) Coloured() bool {
	for _, name := range f.Masks {
		if _, err := readMask(f.path(name), asIndices); err == nil {
			return false
		} else if errors.Is(err, errColours) {
			return true
		}
	}
	return false
}
