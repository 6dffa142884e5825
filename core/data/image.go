package data

import (
	"image"
	"image/color"

	"github.com/loralab/loralab/core/raster"
)

// ReadImage reads an image of any kind that a data set may hold, upright, in its
// own size.
func ReadImage(path string) (raster.Image, error) {
	p, err := readImage(path)
	return p.Image, err
}

// Overlay is an image with the class of every pixel in color over it, half and
// half. It panics unless both have the same size.
func Overlay(im raster.Image, classes raster.Labels) *image.RGBA {
	if im.Size != classes.Size {
		panic("data: classes of another size than the image")
	}
	out := image.NewRGBA(image.Rect(0, 0, im.W, im.H))
	red, green, blue := im.Plane(0), im.Plane(1), im.Plane(2)
	half := func(a, b byte) byte { return byte((int(a) + int(b) + 1) / 2) }
	for i, class := range classes.Pix {
		c := ClassColor(class)
		p := out.Pix[4*i:]
		p[0], p[1], p[2], p[3] = half(red[i], c.R), half(green[i], c.G), half(blue[i], c.B), 0xff
	}
	return out
}

// MaskImage is an image whose pixels are the indices of classes and whose palette,
// of a number of classes, shows them in color: a mask that can be read again.
func MaskImage(classes raster.Labels, of int) *image.Paletted {
	palette := make(color.Palette, of)
	for c := range palette {
		palette[c] = ClassColor(byte(c))
	}
	return &image.Paletted{Pix: classes.Pix, Stride: classes.W, Rect: image.Rect(0, 0, classes.W, classes.H), Palette: palette}
}
