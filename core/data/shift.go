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

// Network gives a picture of 3×h×w bytes RGB the look that it was trained for.
// It is called from several goroutines.
type Network func(image []byte, h, w int) ([]byte, error)

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

// apply shifts a picture of 3×h×w bytes RGB and h×w labels. What it returns may
// be what it was given; that itself is not changed. Random numbers are drawn by
// key; name is for errors.
func (s *shift) apply(image, labels []byte, h, w int, name, key string) ([]byte, []byte, error) {
	if s.style == nil && s.corruption == nil {
		return image, labels, nil
	}
	if s.style.GetKind() == stylize.Network {
		if s.network == nil {
			return nil, nil, fmt.Errorf("the look of %s is computed by a network, for which there is no engine here; runner data stylize has one", name)
		}
		var err error
		if image, err = s.network(image, h, w); err != nil {
			return nil, nil, fmt.Errorf("styling %s: %w", name, err)
		}
	}
	p := raster.From(image, labels, h, w)
	if len(s.styles) > 0 {
		style, err := s.styles[rng.New(s.style.Seed, "style", key).IntN(len(s.styles))].resized(h, w)
		if err != nil {
			return nil, nil, err
		}
		stylize.Apply(p, raster.From(style, nil, h, w), s.style.Kind, s.style.Strength)
	}
	if c := s.corruption; c != nil {
		corrupt.Apply(p, c.Kind, int(c.Severity), c.Seed, key)
	}
	return p.Bytes(), p.Labels, nil
}

// styleImage is a picture that others take the look of, read when it is first
// needed and kept in the size that was asked for last.
type styleImage struct {
	read func() (pixels, error)
	mu   sync.Mutex
	h, w int
	rgb  []byte
}

func (s *styleImage) resized(h, w int) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rgb == nil || s.h != h || s.w != w {
		p, err := s.read()
		if err != nil {
			return nil, fmt.Errorf("reading style: %w", err)
		}
		s.rgb, s.h, s.w = p.resized(h, w), h, w
	}
	return s.rgb, nil
}
