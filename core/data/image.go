package data

import (
	"image"
	"image/color"
)

// Image is a picture without a mask, upright and of its own size.
type Image struct {
	H, W int
	p    pixels
}

// ReadImage reads a picture of any kind that a data set may hold.
func ReadImage(path string) (*Image, error) {
	p, err := readImage(path)
	if err != nil {
		return nil, err
	}
	return &Image{H: p.h, W: p.w, p: p}, nil
}

// Resized is the picture at another size, as a Set has it: 3×h×w bytes RGB.
func (im *Image) Resized(h, w int) []byte { return im.p.resized(h, w) }

// Overlay is the picture with the class of every pixel in colour over it, half
// and half. It panics unless there are H×W classes.
func (im *Image) Overlay(classes []byte) *image.RGBA {
	n := im.H * im.W
	if len(classes) != n {
		panic("data: classes of another size than the picture")
	}
	out := image.NewRGBA(image.Rect(0, 0, im.W, im.H))
	half := func(a, b byte) byte { return byte((int(a) + int(b) + 1) / 2) }
	for i, class := range classes {
		c := ClassColour(class)
		p := out.Pix[4*i:]
		p[0], p[1], p[2], p[3] = half(im.p.planes[i], c.R), half(im.p.planes[n+i], c.G), half(im.p.planes[2*n+i], c.B), 0xff
	}
	return out
}

// MaskImage is h×w classes as a picture whose pixels are the indices and whose
// palette shows them in colour: a mask that can be read again.
func MaskImage(classes []byte, h, w, of int) *image.Paletted {
	palette := make(color.Palette, of)
	for c := range palette {
		palette[c] = ClassColour(byte(c))
	}
	return &image.Paletted{Pix: classes, Stride: w, Rect: image.Rect(0, 0, w, h), Palette: palette}
}
