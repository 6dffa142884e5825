package data

import (
	"fmt"
	"slices"

	"github.com/loralab/loralab/core/corrupt"
)

// Truth is what a picture is scored against where its size is its own.
type Truth struct {
	Name   string
	H, W   int
	Labels []byte // H×W, as the mask lies in its file
}

// Scene is a picture too large for the model, which sees it by windows.
type Scene struct {
	Truth
	// Image is 3×ImageH×ImageW bytes RGB, not normalised.
	Image          []byte
	ImageH, ImageW int
}

// Truth reads the labels of picture i. A corruption of the set that moves labels
// moves these.
func (s *Set) Truth(i int) (*Truth, error) {
	m, err := s.readMask(i)
	if err != nil {
		return nil, err
	}
	return s.truth(i, m, s.h, s.w)
}

// truth is that of a picture which is damaged at h×w.
func (s *Set) truth(i int, m mask, h, w int) (*Truth, error) {
	labels, err := s.labels(i, m)
	if err != nil {
		return nil, err
	}
	if c := s.shift.corruption; c != nil {
		labels = corrupt.MoveLabels(labels, m.h, m.w, h, w, c.Kind, int(c.Severity), c.Seed, s.keys[i])
	}
	return &Truth{Name: s.names[i], H: m.h, W: m.w, Labels: labels}, nil
}

// Scene reads picture i and resizes it to what size makes of its own; at that
// size it is styled and damaged, before anything is cut from it. Nothing is kept.
func (s *Set) Scene(i int, size func(h, w int) (int, int)) (*Scene, error) {
	if i < 0 || i >= s.Len() {
		return nil, fmt.Errorf("picture %d of a set of %d", i, s.Len())
	}
	p, m, err := s.read(i)
	if err != nil {
		return nil, err
	}
	h, w := size(p.h, p.w)
	t, err := s.truth(i, m, h, w)
	if err != nil {
		return nil, err
	}
	image, _, err := s.shift.apply(p.resized(h, w), nil, h, w, s.names[i], s.keys[i])
	if err != nil {
		return nil, err
	}
	return &Scene{Truth: *t, Image: image, ImageH: h, ImageW: w}, nil
}

// Cut copies the window of h×w pixels at top, left of planes of imageH×imageW
// into a third of 3×h×w bytes each; what lies beyond the image is filled with a
// colour.
func Cut(into, planes []byte, imageH, imageW, top, left, h, w int, fill [3]byte) {
	rows, columns := min(h, imageH-top), min(w, imageW-left)
	for c := range 3 {
		to, from := into[c*h*w:][:h*w], planes[c*imageH*imageW:]
		if rows < h || columns < w {
			for i := range to {
				to[i] = fill[c]
			}
		}
		for y := range rows {
			copy(to[y*w:][:columns], from[(top+y)*imageW+left:])
		}
	}
}

// ResizeImage brings planes of 3×h×w bytes to another size, as a Set does.
func ResizeImage(image []byte, h, w, toH, toW int) []byte {
	return pixels{h: h, w: w, planes: image}.resized(toH, toW)
}

// ResizeLabels brings labels to another size: each pixel shows its nearest.
func ResizeLabels(labels []byte, h, w, toH, toW int) []byte {
	return slices.Clone(resizeNearest(labels, h, w, toH, toW))
}
