package augment

import (
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/rng"
)

// distortion is what PhotoMetricDistortion of mmsegmentation does to an image. What
// is nil is not done.
type distortion struct {
	brightness *float32 // added, white is 255
	contrast   *float32 // a factor
	early      bool     // contrast comes before the changes of colors
	saturation *float32 // a factor
	hue        *int     // added, a circle is 180
}

// draw draws each change with a probability of one half, as mmsegmentation does,
// from a stream of its own kind.
func draw(r rng.Stream) (d distortion) {
	half := func() bool { return r.IntN(2) == 1 }
	from := func(low, high float64) *float32 {
		if !half() {
			return nil
		}
		v := float32(low + (high-low)*r.Float64())
		return &v
	}
	d.brightness = from(-32, 32)
	d.early = half()
	d.contrast = from(0.5, 1.5)
	d.saturation = from(0.5, 1.5)
	if half() {
		turn := r.IntN(36) - 18 // to 17
		d.hue = &turn
	}
	return d
}

// apply changes an image in place. Each change ends in bytes with the fraction cut
// off, as there.
func (d distortion) apply(m raster.Image) {
	var table [256]byte
	each := func(value func(v float32) float32) {
		for v := range table {
			table[v] = byte(min(max(value(float32(v)), 0), 255))
		}
		for i, v := range m.RGB {
			m.RGB[i] = table[v]
		}
	}
	contrast := func() {
		if d.contrast != nil {
			each(func(v float32) float32 { return v * *d.contrast })
		}
	}
	if d.brightness != nil {
		each(func(v float32) float32 { return v + *d.brightness })
	}
	if d.early {
		contrast()
	}
	if d.saturation != nil {
		inHSV(m, func(h, s byte) (byte, byte) { return h, byte(min(float32(s)**d.saturation, 255)) })
	}
	if d.hue != nil {
		inHSV(m, func(h, s byte) (byte, byte) { return byte((int(h) + *d.hue + raster.Hues) % raster.Hues), s })
	}
	if !d.early {
		contrast()
	}
}

func inHSV(m raster.Image, change func(h, s byte) (byte, byte)) {
	r, g, b := m.Plane(0), m.Plane(1), m.Plane(2)
	for i := range r {
		h, s, v := raster.ToHSV8(r[i], g[i], b[i])
		h, s = change(h, s)
		r[i], g[i], b[i] = raster.FromHSV8(h, s, v)
	}
}

// photometric distorts an image, whose colors become bytes for it.
func photometric(p *raster.Float, r rng.Stream) {
	m := p.Image()
	draw(r).apply(m)
	for i, v := range m.RGB {
		p.RGB[i] = float32(v) / 255
	}
}
