package data

import (
	"fmt"
	"sync"

	"github.com/loralab/loralab/core/corrupt"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/stylize"
)

// Network gives an image the look that it was trained for. It is called from
// several goroutines.
type Network func(raster.Image) (raster.Image, error)

// shift takes pictures out of their domain: styled, then damaged.
type shift struct {
	style      *spec.Style // nil: none
	styles     []*styleImage
	network    Network
	corruption *spec.Corruption // nil: none
}

// newShift is what style and corruption, either of which may be nil, do; styles
// are the images of the style.
func newShift(style *spec.Style, styles Contents, corruption *spec.Corruption) (*shift, error) {
	s := &shift{style: style, corruption: corruption}
	if corruption != nil {
		if err := corrupt.Check(corruption.Kind, int(corruption.Severity)); err != nil {
			return nil, err
		}
	}
	if style == nil {
		return s, nil
	}
	if err := stylize.Check(style.Kind, style.Strength); err != nil {
		return nil, err
	}
	for i := range styles.Images {
		s.styles = append(s.styles, &styleImage{read: func() (pixels, error) { return styles.pixels(i) }})
	}
	if len(s.styles) == 0 && style.Kind != stylize.Network {
		return nil, fmt.Errorf("style %s has no images", style.Kind)
	}
	return s, nil
}

// moves reports whether images are changed at all.
func (s *shift) moves() bool { return s.style != nil || s.corruption != nil }

// apply shifts an image with its labels, which may be none. What it returns may be
// what it was given; that itself is not changed. Random numbers are drawn by key;
// name is for errors.
func (s *shift) apply(l raster.Labelled, name, key string) (raster.Labelled, error) {
	if !s.moves() {
		return l, nil
	}
	if s.style.GetKind() == stylize.Network {
		if s.network == nil {
			return l, fmt.Errorf("the look of %s is computed by a network, for which there is no engine here; runner data stylize has one", name)
		}
		var err error
		if l.Image, err = s.network(l.Image); err != nil {
			return l, fmt.Errorf("styling %s: %w", name, err)
		}
	}
	p := raster.Floats(l)
	if len(s.styles) > 0 {
		style, err := s.styles[rng.New(s.style.Seed, "style", key).IntN(len(s.styles))].resized(p.Size)
		if err != nil {
			return l, err
		}
		stylize.Apply(p, raster.Floats(raster.Labelled{Image: style}), s.style.Kind, s.style.Strength)
	}
	if c := s.corruption; c != nil {
		corrupt.Apply(p, c.Kind, int(c.Severity), c.Seed, key)
	}
	return p.Labelled(), nil
}

// styleImage is an image that others take the look of, read when it is first
// needed and kept in the size that was asked for last.
type styleImage struct {
	read func() (pixels, error)
	mu   sync.Mutex
	kept raster.Image
}

func (s *styleImage) resized(to raster.Size) (raster.Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept.RGB == nil || s.kept.Size != to {
		p, err := s.read()
		if err != nil {
			return raster.Image{}, fmt.Errorf("reading style: %w", err)
		}
		s.kept = p.Resized(to)
	}
	return s.kept, nil
}
