package data

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
)

// SheetGap is the width in pixels of the white lines between the tiles of a
// sample sheet.
const SheetGap = 4

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

// SampleSheet draws n pictures as rows of image | truth | prediction, with
// white lines of SheetGap between the tiles of h×w pixels. Images are n×3×h×w
// bytes RGB, truth and pred n×h×w class indices. It panics where lengths
// disagree.
func SampleSheet(images, truth, pred []byte, n, h, w int) *image.RGBA {
	area := h * w
	if len(images) != 3*n*area || len(truth) != n*area || len(pred) != n*area {
		panic(fmt.Sprintf("data: a sheet of %d pictures of %d×%d from %d, %d and %d bytes", n, w, h, len(images), len(truth), len(pred)))
	}
	colours := palette()
	return sheet(images, n, h, w, func(i int, _ color.RGBA) (color.RGBA, color.RGBA) {
		return colours[truth[i]], colours[pred[i]]
	})
}

// OverlaySheet draws n pictures like SampleSheet, as rows of image | mask | mask
// over the image. Labels are n×h×w class indices.
func OverlaySheet(images, labels []byte, n, h, w int) *image.RGBA {
	if area := h * w; len(images) != 3*n*area || len(labels) != n*area {
		panic(fmt.Sprintf("data: a sheet of %d pictures of %d×%d from %d and %d bytes", n, w, h, len(images), len(labels)))
	}
	colours := palette()
	return sheet(images, n, h, w, func(i int, pixel color.RGBA) (color.RGBA, color.RGBA) {
		c := colours[labels[i]]
		half := func(a, b byte) byte { return byte((int(a) + int(b)) / 2) }
		return c, color.RGBA{half(c.R, pixel.R), half(c.G, pixel.G), half(c.B, pixel.B), 0xff}
	})
}

func palette() (colours [256]color.RGBA) {
	for c := range colours {
		colours[c] = ClassColour(byte(c))
	}
	return colours
}

// sheet draws rows of an image and two tiles, whose colours at a pixel, counted
// over all pictures, beside says.
func sheet(images []byte, n, h, w int, beside func(i int, pixel color.RGBA) (color.RGBA, color.RGBA)) *image.RGBA {
	area := h * w
	sheet := image.NewRGBA(image.Rect(0, 0, 3*w+2*SheetGap, max(0, n*(h+SheetGap)-SheetGap)))
	draw.Draw(sheet, sheet.Bounds(), image.White, image.Point{}, draw.Src)
	for k := range n {
		planes := images[3*k*area:]
		for i := range area {
			x, y := i%w, k*(h+SheetGap)+i/w
			pixel := color.RGBA{planes[i], planes[area+i], planes[2*area+i], 0xff}
			second, third := beside(k*area+i, pixel)
			sheet.SetRGBA(x, y, pixel)
			sheet.SetRGBA(x+w+SheetGap, y, second)
			sheet.SetRGBA(x+2*(w+SheetGap), y, third)
		}
	}
	return sheet
}

// SheetRows is how many pictures of h pixels height a sample sheet holds.
func SheetRows(sheet image.Image, h int) int {
	return (sheet.Bounds().Dy() + SheetGap) / (h + SheetGap)
}

// SheetTile is the place of a tile of h×w pixels in a sample sheet; column 0 is
// the image, 1 the truth, 2 the prediction.
func SheetTile(sheet image.Image, row, column, h, w int) image.Rectangle {
	at := sheet.Bounds().Min.Add(image.Pt(column*(w+SheetGap), row*(h+SheetGap)))
	return image.Rectangle{Min: at, Max: at.Add(image.Pt(w, h))}
}
