package samplesheet

import (
	"image"
	"image/color"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/raster"
)

// Parts are an image, its truth and a prediction as images of their own. In masks the
// index of a pixel is its class, or raster.Ignored, and its color that of the class.
type Parts struct {
	Image             image.Image
	Truth, Prediction *image.Paletted
}

// Picture is the image of a row.
func (r *Row) Picture() *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, r.Image.W, r.Image.H))
	red, green, blue := r.Image.Plane(0), r.Image.Plane(1), r.Image.Plane(2)
	for i := range r.Image.Area() {
		copy(m.Pix[4*i:], []byte{red[i], green[i], blue[i], 0xff})
	}
	return m
}

// Mask is labels as an image.
func Mask(l raster.Labels) *image.Paletted {
	m := image.NewPaletted(image.Rect(0, 0, l.W, l.H), nil)
	copy(m.Pix, l.Pix)
	highest := byte(0)
	for _, class := range l.Pix {
		highest = max(highest, class)
	}
	for class := range int(highest) + 1 {
		m.Palette = append(m.Palette, data.ClassColor(byte(class)))
	}
	return m
}

// Row is the row that parts are of. It reports false where they are not of one size.
func (p Parts) Row(caption string) (Row, bool) {
	bounds := p.Image.Bounds()
	size := raster.Size{H: bounds.Dy(), W: bounds.Dx()}
	if p.Truth.Bounds().Size() != bounds.Size() || p.Prediction.Bounds().Size() != bounds.Size() {
		return Row{}, false
	}
	r := Row{Predicted: indices(p.Prediction), Caption: caption}
	r.Image, r.Labels = raster.NewImage(size), indices(p.Truth)
	for i := range size.Area() {
		c := color.RGBAModel.Convert(p.Image.At(bounds.Min.X+i%size.W, bounds.Min.Y+i/size.W)).(color.RGBA)
		r.Image.Plane(0)[i], r.Image.Plane(1)[i], r.Image.Plane(2)[i] = c.R, c.G, c.B
	}
	return r, true
}

func indices(m *image.Paletted) raster.Labels {
	l := raster.NewLabels(raster.Size{H: m.Rect.Dy(), W: m.Rect.Dx()})
	for y := range l.H {
		copy(l.Pix[y*l.W:(y+1)*l.W], m.Pix[y*m.Stride:])
	}
	return l
}

// Parts takes a row of a sheet of samples, of a number of classes, apart. It reports
// false where colors of the masks do not tell the classes.
func (s *Sheet) Parts(m image.Image, row, classes int) (Parts, bool) {
	class := map[color.RGBA]byte{{0xff, 0xff, 0xff, 0xff}: raster.Ignored, data.ClassColor(raster.Ignored): raster.Ignored}
	for i := range min(classes, raster.Ignored) {
		c := data.ClassColor(byte(i))
		if _, taken := class[c]; taken {
			return Parts{}, false
		}
		class[c] = byte(i)
	}
	at := func(column, i int) color.RGBA {
		p := s.Panel(row, column).Add(m.Bounds().Min)
		return color.RGBAModel.Convert(m.At(p.Min.X+i%s.size.W*s.scale, p.Min.Y+i/s.size.W*s.scale)).(color.RGBA)
	}
	picture := image.NewRGBA(image.Rect(0, 0, s.size.W, s.size.H))
	truth, prediction := raster.NewLabels(s.size), raster.NewLabels(s.size)
	for i := range s.size.Area() {
		picture.SetRGBA(i%s.size.W, i/s.size.W, at(Image, i))
		var known, alsoKnown bool
		truth.Pix[i], known = class[at(Truth, i)]
		prediction.Pix[i], alsoKnown = class[at(Prediction, i)]
		if !known || !alsoKnown {
			return Parts{}, false
		}
	}
	return Parts{picture, Mask(truth), Mask(prediction)}, true
}
