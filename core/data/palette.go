package data

import "image/color"

// classColours are those of Okabe and Ito, told apart with every common kind of
// colour vision; class 0, mostly background, is nearly black.
var classColours = []color.RGBA{
	{0x1c, 0x1c, 0x22, 0xff}, // background
	{0x56, 0xb4, 0xe9, 0xff}, // sky blue
	{0xe6, 0x9f, 0x00, 0xff}, // orange
	{0x00, 0x9e, 0x73, 0xff}, // green
	{0xf0, 0xe4, 0x42, 0xff}, // yellow
	{0xcc, 0x79, 0xa7, 0xff}, // purple
	{0xd5, 0x5e, 0x00, 0xff}, // vermilion
	{0x00, 0x72, 0xb2, 0xff}, // blue
}

var ignoredColour = color.RGBA{0x80, 0x80, 0x80, 0xff}

// ClassColour is the colour of a class index in pictures of masks. Beyond the
// eighth class the colours return, darker each time.
func ClassColour(class byte) color.RGBA {
	if class == Ignored {
		return ignoredColour
	}
	c := classColours[int(class)%len(classColours)]
	for range int(class) / len(classColours) {
		c.R, c.G, c.B = c.R/4*3, c.G/4*3, c.B/4*3
	}
	return c
}
