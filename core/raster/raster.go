// Package raster is an image with its labels, and the operations on both that
// data sets, augmentation, corruption and stylization are made of: resizing, warps
// that move pixels and labels alike, blurs, color spaces.
//
// An image has three planes, red, green and blue: of bytes (Image), or of float32
// from 0 to 1 while it is changed (Float). Labels are class indices, 255 is
// ignored. Everything is computed in a fixed order on one goroutine: the same
// input gives the same bytes on every machine.
package raster

import (
	"math"
)

// Float is an image while it is changed, with its labels.
type Float struct {
	Size
	RGB    []float32 // 3×H×W, 0 to 1
	Labels []byte    // H×W; nil: none
}

// Floats takes an image and labels of the same size, or none. It keeps the labels.
func Floats(l Labelled) *Float {
	p := &Float{Size: l.Image.Size, RGB: make([]float32, len(l.Image.RGB)), Labels: l.Labels.Pix}
	for i, v := range l.Image.RGB {
		p.RGB[i] = float32(v) / 255
	}
	return p
}

// Labelled is the image in bytes, rounded, values outside 0 to 1 cut off, with its
// labels.
func (p *Float) Labelled() Labelled {
	return Labelled{p.Image(), Labels{p.Size, p.Labels}}
}

// Image is the image alone, as Labelled has it.
func (p *Float) Image() Image {
	out := NewImage(p.Size)
	for i, v := range p.RGB {
		out.RGB[i] = byte(clamp(v)*255 + 0.5)
	}
	return out
}

// Clamp cuts off what is outside 0 to 1.
func (p *Float) Clamp() {
	for i, v := range p.RGB {
		p.RGB[i] = clamp(v)
	}
}

func clamp(v float32) float32 { return min(max(v, 0), 1) }

// Plane is one channel, 0 to 2.
func (p *Float) Plane(c int) []float32 { return p.RGB[c*p.H*p.W : (c+1)*p.H*p.W] }

// Luma is the brightness of every pixel by ITU-R BT.601.
func (p *Float) Luma() []float32 {
	r, g, b := p.Plane(0), p.Plane(1), p.Plane(2)
	out := make([]float32, len(r))
	for i := range out {
		out[i] = 0.299*r[i] + 0.587*g[i] + 0.114*b[i]
	}
	return out
}

// Outside says what lies beyond the edge of an image.
type Outside int

const (
	Reflect Outside = iota // the image mirrored at its edge
	Nothing                // black, ignored
)

// Warp moves pixels: that at (y, x) becomes what lies at from(y, x), in pixels
// whose centres are whole numbers. Colors are interpolated linearly, labels
// taken from the nearest pixel.
func (p *Float) Warp(outside Outside, from func(y, x int) (fy, fx float64)) {
	n := p.H * p.W
	rgb := make([]float32, len(p.RGB))
	var labels []byte
	if p.Labels != nil {
		labels = make([]byte, n)
	}
	for y := range p.H {
		for x := range p.W {
			i := y*p.W + x
			fy, fx := from(y, x)
			beyond := fy < -0.5 || fx < -0.5 || fy > float64(p.H)-0.5 || fx > float64(p.W)-0.5
			if beyond && outside == Nothing {
				if labels != nil {
					labels[i] = Ignored
				}
				continue
			}
			y0, x0 := math.Floor(fy), math.Floor(fx)
			dy, dx := float32(fy-y0), float32(fx-x0)
			top, bottom := mirror(int(y0), p.H)*p.W, mirror(int(y0)+1, p.H)*p.W
			left, right := mirror(int(x0), p.W), mirror(int(x0)+1, p.W)
			for c := range 3 {
				plane := p.RGB[c*n:]
				above := plane[top+left]*(1-dx) + plane[top+right]*dx
				below := plane[bottom+left]*(1-dx) + plane[bottom+right]*dx
				rgb[c*n+i] = above*(1-dy) + below*dy
			}
			if labels != nil {
				labels[i] = p.Labels[mirror(int(math.Round(fy)), p.H)*p.W+mirror(int(math.Round(fx)), p.W)]
			}
		}
	}
	p.RGB, p.Labels = rgb, labels
}

// Warped moves labels as a Warp with Reflect moves those of the same image at
// another size, where from says where each comes from.
func (l Labels) Warped(at Size, from func(y, x int) (fy, fx float64)) Labels {
	sy, sx := float64(l.H)/float64(at.H), float64(l.W)/float64(at.W)
	out := NewLabels(l.Size)
	for y := range l.H {
		ay := (float64(y)+0.5)/sy - 0.5 // in the image of the other size
		ny := min(max(int(math.Round(ay)), 0), at.H-1)
		for x := range l.W {
			ax := (float64(x)+0.5)/sx - 0.5
			nx := min(max(int(math.Round(ax)), 0), at.W-1)
			fy, fx := from(ny, nx)
			fy, fx = (ay+fy-float64(ny)+0.5)*sy-0.5, (ax+fx-float64(nx)+0.5)*sx-0.5
			out.Pix[y*l.W+x] = l.Pix[mirror(int(math.Round(fy)), l.H)*l.W+mirror(int(math.Round(fx)), l.W)]
		}
	}
	return out
}

// mirror brings an index into 0…n-1 by reflection at the edges: -1 is 0, n is
// n-1.
func mirror(i, n int) int {
	if i >= 0 && i < n {
		return i
	}
	if i %= 2 * n; i < 0 {
		i += 2 * n
	}
	if i >= n {
		i = 2*n - 1 - i
	}
	return i
}

// Blur smooths the colors with a Gaussian of sigma pixels, cut off at four of
// them.
func (p *Float) Blur(sigma float64) {
	if sigma <= 0 {
		return
	}
	for c := range 3 {
		BlurPlane(p.Plane(c), p.Size, sigma)
	}
}

// BlurPlane smooths one plane in place.
func BlurPlane(plane []float32, s Size, sigma float64) {
	k := gaussian(sigma)
	reach := len(k) / 2
	line := make([]float32, max(s.H, s.W))
	blur := func(n, start, step int) {
		for i := range n {
			var sum float32
			for j, weight := range k {
				sum += weight * plane[start+mirror(i+j-reach, n)*step]
			}
			line[i] = sum
		}
		for i := range n {
			plane[start+i*step] = line[i]
		}
	}
	for y := range s.H {
		blur(s.W, y*s.W, 1)
	}
	for x := range s.W {
		blur(s.H, x, s.W)
	}
}

func gaussian(sigma float64) []float32 {
	reach := max(int(4*sigma+0.5), 1)
	k := make([]float64, 2*reach+1)
	var sum float64
	for i := range k {
		d := float64(i-reach) / sigma
		k[i] = math.Exp(-d * d / 2)
		sum += k[i]
	}
	out := make([]float32, len(k))
	for i, v := range k {
		out[i] = float32(v / sum)
	}
	return out
}

// Tap is one weight of a filter, at an offset in pixels.
type Tap struct {
	DY, DX int
	Weight float32
}

// Filter convolves the colors with taps.
func (p *Float) Filter(taps []Tap) {
	for c := range 3 {
		plane := p.Plane(c)
		out := make([]float32, len(plane))
		for y := range p.H {
			for x := range p.W {
				var sum float32
				for _, t := range taps {
					sum += t.Weight * plane[mirror(y+t.DY, p.H)*p.W+mirror(x+t.DX, p.W)]
				}
				out[y*p.W+x] = sum
			}
		}
		copy(plane, out)
	}
}

// HSV changes every pixel in hue (0 to 1, a circle), saturation and value.
func (p *Float) HSV(change func(h, s, v float64) (float64, float64, float64)) {
	r, g, b := p.Plane(0), p.Plane(1), p.Plane(2)
	for i := range r {
		h, s, v := toHSV(float64(clamp(r[i])), float64(clamp(g[i])), float64(clamp(b[i])))
		h, s, v = change(h, s, v)
		red, green, blue := fromHSV(h-math.Floor(h), min(max(s, 0), 1), min(max(v, 0), 1))
		r[i], g[i], b[i] = float32(red), float32(green), float32(blue)
	}
}

func toHSV(r, g, b float64) (h, s, v float64) {
	v = max(r, g, b)
	d := v - min(r, g, b)
	if d == 0 {
		return 0, 0, v
	}
	switch v {
	case r:
		h = (g - b) / d
	case g:
		h = 2 + (b-r)/d
	default:
		h = 4 + (r-g)/d
	}
	h /= 6
	return h - math.Floor(h), d / v, v
}

func fromHSV(h, s, v float64) (r, g, b float64) {
	sector := math.Floor(h * 6)
	f := h*6 - sector
	p, q, t := v*(1-s), v*(1-s*f), v*(1-s*(1-f))
	switch int(sector) % 6 {
	case 0:
		return v, t, p
	case 1:
		return q, v, p
	case 2:
		return p, v, t
	case 3:
		return p, q, v
	case 4:
		return t, p, v
	default:
		return v, p, q
	}
}
