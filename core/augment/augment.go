// Package augment changes training pictures at random: an ordered list of
// operations, each done with a probability.
//
// What happens to a picture depends on seed, epoch, its key and the list, and
// on nothing else: not on the order of the pictures, the batch they come in, or
// how many goroutines read them. A run that is resumed sees the same pictures.
//
// Operations that move pixels and follow each other are joined to one map, so
// that colors are interpolated once; labels move with them, and what comes in
// from outside the picture is ignored by loss and metrics.
//
// A list may begin with what is done to a picture as it lies in its file: see Cut.
package augment

import (
	"fmt"
	"math"
	"strconv"

	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/spec"
)

// operation is one kind of augmentation.
type operation struct {
	// check reports what is wrong with the numbers.
	check func(a *spec.Augment) error
	// moves gives the map from a pixel to where it comes from; nil: it does not
	// move pixels.
	moves func(a *spec.Augment, p *raster.Float, r rng.Stream) affine
	// paints changes colors. Without moves and paints it is done by Cut.
	paints func(a *spec.Augment, p *raster.Float, r rng.Stream)
}

// operations by kind; the list in the schema is held to it by a test.
var operations = map[string]operation{
	"flip": {
		check: func(*spec.Augment) error { return nil },
		moves: func(_ *spec.Augment, p *raster.Float, _ rng.Stream) affine {
			return affine{-1, 0, float64(p.W - 1), 0, 1, 0}
		},
	},
	"flip_vertical": {
		check: func(*spec.Augment) error { return nil },
		moves: func(_ *spec.Augment, p *raster.Float, _ rng.Stream) affine {
			return affine{1, 0, 0, 0, -1, float64(p.H - 1)}
		},
	},
	"rotate": {
		check: within("degrees", -180, 180),
		moves: func(a *spec.Augment, p *raster.Float, r rng.Stream) affine {
			sin, cos := math.Sincos(between(a, r) * math.Pi / 180)
			return about(float64(p.W-1)/2, float64(p.H-1)/2, cos, -sin, sin, cos)
		},
	},
	"scale": {
		check: within("factor", 0.05, 20),
		moves: func(a *spec.Augment, p *raster.Float, r rng.Stream) affine {
			f := between(a, r)
			return about(float64(p.W-1)/2, float64(p.H-1)/2, 1/f, 0, 0, 1/f)
		},
	},
	"crop": {
		check: within("fraction of the side", 0.05, 1),
		moves: func(a *spec.Augment, p *raster.Float, r rng.Stream) affine {
			f := between(a, r)
			// The window's pixels are spread over the whole picture, edge to edge.
			x, y := r.Float64()*(1-f)*float64(p.W), r.Float64()*(1-f)*float64(p.H)
			return affine{f, 0, x + (f-1)/2, 0, f, y + (f-1)/2}
		},
	},
	"colour": {
		check: func(a *spec.Augment) error {
			if a.Brightness < 0 || a.Brightness > 1 || a.Contrast < 0 || a.Contrast > 1 || a.Saturation < 0 || a.Saturation > 1 || a.Hue < 0 || a.Hue > 0.5 {
				return fmt.Errorf("brightness %g, contrast %g, saturation %g and hue %g: want 0 to 1, hue 0 to 0.5", a.Brightness, a.Contrast, a.Saturation, a.Hue)
			}
			return nil
		},
		paints: jitter,
	},
	"blur": {
		check: within("sigma", 0, 20),
		paints: func(a *spec.Augment, p *raster.Float, r rng.Stream) {
			p.Blur(between(a, r))
		},
	},
	"noise": {
		check: within("standard deviation", 0, 1),
		paints: func(a *spec.Augment, p *raster.Float, r rng.Stream) {
			noise := make([]float32, len(p.RGB))
			r.Normal(noise, between(a, r))
			for i, v := range noise {
				p.RGB[i] += v
			}
			p.Clamp()
		},
	},
	"photometric": {
		check:  func(*spec.Augment) error { return nil },
		paints: func(_ *spec.Augment, p *raster.Float, r rng.Stream) { photometric(p, r) },
	},
	"grayscale": {
		check: func(*spec.Augment) error { return nil },
		paints: func(_ *spec.Augment, p *raster.Float, _ rng.Stream) {
			luma := p.Luma()
			for c := range 3 {
				copy(p.Plane(c), luma)
			}
		},
	},
	"invert": {
		check: func(*spec.Augment) error { return nil },
		paints: func(_ *spec.Augment, p *raster.Float, _ rng.Stream) {
			for i, v := range p.RGB {
				p.RGB[i] = 1 - v
			}
		},
	},
	Resize: {
		check: func(a *spec.Augment) error {
			if a.ShortSide {
				return within("short side in pixels", 1, 8192)(a)
			}
			return within("factor", 0.05, 20)(a)
		},
	},
	Window: {
		check: func(a *spec.Augment) error {
			switch {
			case a.P != 1:
				return fmt.Errorf("probability %g: images have sizes of their own, so each needs its window", a.P)
			case !(a.MaxClass >= 0 && a.MaxClass <= 1):
				return fmt.Errorf("part %g of one class, want 0 to 1", a.MaxClass)
			}
			return nil
		},
	},
}

// Check reports what is wrong with a list.
func Check(list []*spec.Augment) error {
	if err := CheckEach(list); err != nil {
		return err
	}
	return order(list)
}

// CheckEach reports what is wrong with an entry of a list, whatever the others are.
func CheckEach(list []*spec.Augment) error {
	for i, a := range list {
		op, ok := operations[a.GetKind()]
		if !ok {
			return fmt.Errorf("augmentation %d: unknown kind %q", i+1, a.GetKind())
		}
		if !(a.P >= 0 && a.P <= 1) {
			return fmt.Errorf("augmentation %d, %s: probability %g, want 0 to 1", i+1, a.Kind, a.P)
		}
		if err := op.check(a); err != nil {
			return fmt.Errorf("augmentation %d, %s: %w", i+1, a.Kind, err)
		}
	}
	return nil
}

func within(what string, low, high float64) func(*spec.Augment) error {
	return func(a *spec.Augment) error {
		if !(a.Low >= low && a.High <= high && a.Low <= a.High) {
			return fmt.Errorf("%s from %g to %g, want a range within %g to %g", what, a.Low, a.High, low, high)
		}
		return nil
	}
}

func between(a *spec.Augment, r rng.Stream) float64 { return a.Low + (a.High-a.Low)*r.Float64() }

// stream is that of an entry: what one draws moves none of the others.
func stream(seed uint64, epoch int, key string, i int, a *spec.Augment) rng.Stream {
	return rng.New(seed, "augment", strconv.Itoa(epoch), key, strconv.Itoa(i), a.Kind)
}

// Apply changes a picture in place. Key names the picture by what its identity
// covers. What Cut does is done already. It panics on a list that Check refuses.
func Apply(p *raster.Float, list []*spec.Augment, seed uint64, epoch int, key string) {
	if err := Check(list); err != nil {
		panic("augment: " + err.Error())
	}
	var move *affine // of the operations since the last that paints
	flush := func() {
		if move == nil {
			return
		}
		m := *move
		p.Warp(raster.Nothing, func(y, x int) (float64, float64) { return m.y(float64(x), float64(y)), m.x(float64(x), float64(y)) })
		move = nil
	}
	for i, a := range list {
		op := operations[a.Kind]
		if op.moves == nil && op.paints == nil {
			continue
		}
		r := stream(seed, epoch, key, i, a)
		if r.Float64() >= a.P {
			continue
		}
		if op.moves == nil {
			flush()
			op.paints(a, p, r)
			continue
		}
		m := op.moves(a, p, r)
		if move != nil {
			m = move.after(m)
		}
		move = &m
	}
	flush()
	p.Clamp() // interpolation and blur round beyond 1
}

// affine maps a pixel to where it comes from:
// x' = m[0] x + m[1] y + m[2], y' = m[3] x + m[4] y + m[5].
type affine [6]float64

func (m affine) x(x, y float64) float64 { return m[0]*x + m[1]*y + m[2] }
func (m affine) y(x, y float64) float64 { return m[3]*x + m[4]*y + m[5] }

// after is the map of doing m first and then next: the pixel of the end result
// is looked up in what m made.
func (m affine) after(next affine) affine {
	return affine{
		m[0]*next[0] + m[1]*next[3], m[0]*next[1] + m[1]*next[4], m.x(next[2], next[5]),
		m[3]*next[0] + m[4]*next[3], m[3]*next[1] + m[4]*next[4], m.y(next[2], next[5]),
	}
}

// about is the linear map [a b; c d] around a fixed point.
func about(cx, cy, a, b, c, d float64) affine {
	return affine{a, b, cx - a*cx - b*cy, c, d, cy - c*cx - d*cy}
}

// jitter is torchvision's ColorJitter in the order brightness, contrast,
// saturation, hue.
func jitter(a *spec.Augment, p *raster.Float, r rng.Stream) {
	factor := func(by float64) float32 { return float32(1 + by*(2*r.Float64()-1)) }
	brightness, contrast, saturation := factor(a.Brightness), factor(a.Contrast), factor(a.Saturation)
	turn := a.Hue * (2*r.Float64() - 1)
	for i := range p.RGB {
		p.RGB[i] *= brightness
	}
	p.Clamp()
	luma := p.Luma()
	var mean float64
	for _, v := range luma {
		mean += float64(v)
	}
	mean /= float64(max(len(luma), 1))
	for i := range p.RGB {
		p.RGB[i] = (p.RGB[i]-float32(mean))*contrast + float32(mean)
	}
	p.Clamp()
	luma = p.Luma()
	for c := range 3 {
		for i, v := range p.Plane(c) {
			p.Plane(c)[i] = (v-luma[i])*saturation + luma[i]
		}
	}
	p.Clamp()
	if turn != 0 {
		p.HSV(func(h, s, v float64) (float64, float64, float64) { return h + turn, s, v })
	}
}
