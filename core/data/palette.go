package data

import (
	"image/color"
	"math"
	"slices"
	"sync"

	"github.com/loralab/loralab/core/raster"
)

// classColors are those of Okabe and Ito, told apart with every common kind of
// color vision; class 0, mostly background, is nearly black.
var classColors = []color.RGBA{
	{0x1c, 0x1c, 0x22, 0xff}, // background
	{0x56, 0xb4, 0xe9, 0xff}, // sky blue
	{0xe6, 0x9f, 0x00, 0xff}, // orange
	{0x00, 0x9e, 0x73, 0xff}, // green
	{0xf0, 0xe4, 0x42, 0xff}, // yellow
	{0xcc, 0x79, 0xa7, 0xff}, // purple
	{0xd5, 0x5e, 0x00, 0xff}, // vermilion
	{0x00, 0x72, 0xb2, 0xff}, // blue
}

var ignoredColor = color.RGBA{0x80, 0x80, 0x80, 0xff}

// reserved are colors that no class is near to: of ignored pixels, and of
// errors, which core/samplesheet draws.
var reserved = []color.RGBA{ignoredColor, {0xff, 0x00, 0x66, 0xff}, {0xff, 0xff, 0xff, 0xff}}

// manyColors are classColors and, for every further class, the color that is
// farthest from all before it.
var manyColors = sync.OnceValue(func() []color.RGBA {
	colors := slices.Clone(classColors)
	var candidates []color.RGBA
	levels := []uint8{0x20, 0x50, 0x80, 0xb0, 0xe0, 0xff}
	for _, r := range levels {
		for _, g := range levels {
			for _, b := range levels {
				candidates = append(candidates, color.RGBA{r, g, b, 0xff})
			}
		}
	}
	nearest := make([]int, len(candidates)) // squared distance to what is taken
	for i := range nearest {
		nearest[i] = math.MaxInt
	}
	take := func(taken color.RGBA) {
		for i, c := range candidates {
			nearest[i] = min(nearest[i], distance(c, taken))
		}
	}
	for _, c := range append(colors, reserved...) {
		take(c)
	}
	for len(colors) < len(candidates) {
		best := 0
		for i := range candidates {
			if nearest[i] > nearest[best] {
				best = i
			}
		}
		if nearest[best] == 0 {
			break
		}
		colors = append(colors, candidates[best])
		take(candidates[best])
	}
	return colors
})

// distance is the square of how far apart two colors look, after Riemersma's
// weights of red, green and blue.
func distance(a, b color.RGBA) int {
	red := (int(a.R) + int(b.R)) / 2
	r, g, u := int(a.R)-int(b.R), int(a.G)-int(b.G), int(a.B)-int(b.B)
	return ((512+red)*r*r + 1024*g*g + (767-red)*u*u) / 256
}

// ClassColor is the color of a class index in pictures of masks. The first
// eight are made to be told apart, the others are as far apart as there is room;
// beyond some 200 classes they return.
func ClassColor(class byte) color.RGBA {
	if class == raster.Ignored {
		return ignoredColor
	}
	if int(class) < len(classColors) {
		return classColors[class]
	}
	many := manyColors()
	return many[int(class)%len(many)]
}
