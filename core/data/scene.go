package data

import (
	"fmt"

	"github.com/loralab/loralab/core/corrupt"
	"github.com/loralab/loralab/core/raster"
)

// Truth is what an image is scored against where its size is its own: the labels
// as its mask has them.
type Truth struct {
	Name string
	raster.Labels
}

// Scene is an image too large for the model, which sees it by windows. Its labels
// have the size of its mask.
type Scene struct {
	Name string
	raster.Labelled
	whole raster.Image // what other sizes are resized from
}

// At is the image of the scene at another size, as Set.Scaled has it.
func (s *Scene) At(size raster.Size) raster.Image {
	if size == s.Image.Size {
		return s.Image
	}
	return s.whole.Resized(size)
}

// Truth is what the scene is scored against.
func (s *Scene) Truth() *Truth { return &Truth{s.Name, s.Labels} }

// Truth reads the labels of image i. A corruption of the set that moves labels
// moves these.
func (s *Set) Truth(i int) (*Truth, error) {
	m, err := s.readMask(i)
	if err != nil {
		return nil, err
	}
	labels, err := s.truth(i, m, s.size)
	if err != nil {
		return nil, err
	}
	return &Truth{s.names[i], labels}, nil
}

// truth is that of an image which is damaged at a size.
func (s *Set) truth(i int, m mask, at raster.Size) (raster.Labels, error) {
	labels, err := s.labels(i, m)
	if err != nil {
		return raster.Labels{}, err
	}
	if c := s.shift.corruption; c != nil {
		labels = corrupt.MoveLabels(labels, at, c.Kind, int(c.Severity), c.Seed, s.keys[i])
	}
	return labels, nil
}

// Scene reads image i and resizes it to what size makes of its own; at that size
// it is styled and damaged, before anything is cut from it. Nothing is kept.
func (s *Set) Scene(i int, size func(raster.Size) raster.Size) (*Scene, error) {
	if i < 0 || i >= s.Len() {
		return nil, fmt.Errorf("picture %d of a set of %d", i, s.Len())
	}
	p, m, err := s.read(i)
	if err != nil {
		return nil, err
	}
	seen := size(p.Size)
	labels, err := s.truth(i, m, seen)
	if err != nil {
		return nil, err
	}
	shifted, err := s.shift.apply(raster.Labelled{Image: p.Resized(seen)}, s.names[i], s.keys[i])
	if err != nil {
		return nil, err
	}
	scene := &Scene{Name: s.names[i], Labelled: raster.Labelled{Image: shifted.Image, Labels: labels}, whole: p.Image}
	if s.shift.moves() {
		scene.whole = shifted.Image
	}
	return scene, nil
}
