package raster

import "fmt"

// Ignored is the label of pixels that neither train nor score; what a warp
// brings in from outside the image has it.
const Ignored = 255

// Size is that of an image in pixels.
type Size struct{ H, W int }

// Area is the number of pixels.
func (s Size) Area() int { return s.H * s.W }

// String is the size as people write it, the width first.
func (s Size) String() string { return fmt.Sprintf("%d×%d", s.W, s.H) }

// Image is an image of bytes.
type Image struct {
	Size
	RGB []byte // 3×H×W: a plane of red, one of green, one of blue
}

// NewImage is a black image.
func NewImage(s Size) Image { return Image{s, make([]byte, 3*s.Area())} }

// Labels are the classes of pixels.
type Labels struct {
	Size
	Pix []byte // H×W indices of classes, or Ignored
}

// NewLabels are labels of class 0.
func NewLabels(s Size) Labels { return Labels{s, make([]byte, s.Area())} }

// Labelled is an image with its labels. They may have a size of their own, that of
// a mask; without Pix there are none.
type Labelled struct {
	Image  Image
	Labels Labels
}

// Plane is one channel, 0 to 2.
func (m Image) Plane(c int) []byte { return m.RGB[c*m.Area() : (c+1)*m.Area()] }

// Resized is the image at another size, m itself if that is its own.
func (m Image) Resized(to Size) Image {
	if m.Size == to {
		return m
	}
	out := NewImage(to)
	for c := range 3 {
		copy(out.Plane(c), bilinear(m.Plane(c), m.Size, to))
	}
	return out
}

// Resized are the labels at another size, each that of the nearest pixel; l itself
// if that is its own.
func (l Labels) Resized(to Size) Labels { return Labels{to, Nearest(l.Pix, l.Size, to)} }

// Cut fills into with the window of its size whose corner is at top, left; beyond
// the image, with a color.
func (m Image) Cut(into Image, top, left int, fill [3]byte) {
	rows, columns := min(into.H, m.H-top), min(into.W, m.W-left)
	for c := range 3 {
		to, from := into.Plane(c), m.Plane(c)
		if rows < into.H || columns < into.W {
			for i := range to {
				to[i] = fill[c]
			}
		}
		for y := range rows {
			copy(to[y*into.W:][:columns], from[(top+y)*m.W+left:])
		}
	}
}
