package raster

import (
	"fmt"
	"math"
	"slices"
)

// Ignored is the label of pixels that neither train nor score; what a warp
// brings in from outside the image has it.
const Ignored = 255

// Size is that of an image in pixels.
type Size struct{ H, W int }

// Area is the number of pixels.
func (s Size) Area() int { return s.H * s.W }

// String is the size as people write it, the width first.
func (s Size) String() string { return fmt.Sprintf("%d×%d", s.W, s.H) }

// Times is the size multiplied by a factor, both sides rounded to multiples of a
// number of pixels, at least one of them.
func (s Size) Times(factor float64, of int) Size {
	side := func(n int) int { return of * max(1, int(math.Round(factor*float64(n)/float64(of)))) }
	return Size{side(s.H), side(s.W)}
}

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
	return m.resizedPart(to, whole(to))
}

// Mirrored is the image with left and right exchanged.
func (m Image) Mirrored() Image {
	out := Image{m.Size, slices.Clone(m.RGB)}
	for row := range slices.Chunk(out.RGB, max(1, m.W)) {
		slices.Reverse(row)
	}
	return out
}

func (m Image) resizedPart(to Size, at rect) Image {
	out := NewImage(at.Size)
	for c := range 3 {
		copy(out.Plane(c), bilinear(m.Plane(c), m.Size, to, at))
	}
	return out
}

// Resized are the labels at another size, each that of the nearest pixel; l itself
// if that is its own.
func (l Labels) Resized(to Size) Labels { return Labels{to, Nearest(l.Pix, l.Size, to)} }

// rect is a part of an image.
type rect struct {
	Top, Left int
	Size
}

func whole(s Size) rect { return rect{Size: s} }

// window is what lies in an image of a window of a size with its corner at top,
// left.
func window(image Size, top, left int, of Size) rect {
	return rect{top, left, Size{min(of.H, image.H-top), min(of.W, image.W-left)}}
}

// ResizedCut is the part of Resized that a window of a size shows whose corner is
// at top, left; it is smaller than the window where that reaches beyond the image.
// Nothing else of the resized image is computed.
func (m Image) ResizedCut(to Size, top, left int, of Size) Image {
	return m.resizedPart(to, window(to, top, left, of))
}

// ResizedCut is the part of Resized that a window shows, as that of an image.
func (l Labels) ResizedCut(to Size, top, left int, of Size) Labels {
	at := window(to, top, left, of)
	return Labels{at.Size, nearestPart(l.Pix, l.Size, to, at)}
}

// Padded is an image with its labels at a size that is not smaller: what is added
// at the right and below has a color and is ignored.
func (l Labelled) Padded(to Size, fill [3]byte) Labelled {
	if l.Image.Size == to {
		return l
	}
	out := Labelled{NewImage(to), NewLabels(to)}
	l.Image.Cut(out.Image, 0, 0, fill)
	for i := range out.Labels.Pix {
		out.Labels.Pix[i] = Ignored
	}
	for y := range l.Labels.H {
		copy(out.Labels.Pix[y*to.W:], l.Labels.Pix[y*l.Labels.W:][:l.Labels.W])
	}
	return out
}

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
