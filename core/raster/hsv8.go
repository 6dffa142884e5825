package raster

import "math"

// Colors in bytes as OpenCV 4 and 5 convert them for 8-bit images: the hue is 0 to
// 179, two degrees each, and little is left of dark colors. Recipes that were tuned
// with it see these roundings.

// divisors are 255/i and 30/i in fixed point, for saturation and hue.
var divisors = func() (d struct{ saturation, hue [256]int32 }) {
	for i := 1; i < 256; i++ {
		d.saturation[i] = int32(math.RoundToEven((255 << hsvShift) / float64(i)))
		d.hue[i] = int32(math.RoundToEven((180 << hsvShift) / (6 * float64(i))))
	}
	return d
}()

const (
	hsvShift = 12
	// Hues is how many there are.
	Hues = 180
)

// ToHSV8 converts a color.
func ToHSV8(r, g, b byte) (h, s, v byte) {
	v = max(r, g, b)
	d := int32(v - min(r, g, b))
	s = byte((d*divisors.saturation[v] + 1<<(hsvShift-1)) >> hsvShift)
	red, green, blue := int32(r), int32(g), int32(b)
	var hue int32
	switch v {
	case r:
		hue = green - blue
	case g:
		hue = blue - red + 2*d
	default:
		hue = red - green + 4*d
	}
	hue = (hue*divisors.hue[d] + 1<<(hsvShift-1)) >> hsvShift
	if hue < 0 {
		hue += Hues
	}
	return byte(hue), s, v
}

// FromHSV8 converts a color back.
func FromHSV8(h, s, v byte) (r, g, b byte) {
	if s == 0 {
		return v, v, v
	}
	hue, saturation, value := float32(h)*float32(6./Hues), float32(s)*float32(1./255), float32(v)*float32(1./255)
	sector := int(hue)
	f := hue - float32(sector)
	// OpenCV's vectors have 1 - s·f in one rounding, and cut fractions off. (What is
	// left over of an image's pixels it rounds; most have no such rest.)
	less := func(f float32) float32 { return float32(1 - float64(saturation)*float64(f)) }
	back := func(x float32) byte { return byte(x * 255) }
	full, p, q, t := v, back(value*less(1)), back(value*less(f)), back(value*less(1-f))
	switch sector % 6 {
	case 0:
		return full, t, p
	case 1:
		return q, full, p
	case 2:
		return p, full, t
	case 3:
		return p, q, full
	case 4:
		return t, p, full
	default:
		return full, p, q
	}
}
