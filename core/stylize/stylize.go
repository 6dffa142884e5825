// Package stylize gives a picture the look of another, without any network: by
// its slow Fourier amplitudes, by its colors, or by its colors and texture.
// Shapes stay where they are, so the labels stay valid: a domain shift that
// needs no download and comes out the same everywhere. Of the look that a network
// was trained for it knows the file alone.
//
//	fourier  the amplitudes of low frequencies are those of the style, phases
//	         stay (FDA; Yang and Soatto, arXiv:2004.05498)
//	colour   mean and spread in lαβ are those of the style (Reinhard et al.,
//	         "Color transfer between images", 2001)
//	texture  each band of a Laplacian pyramid gets the histogram of the style's
//	         (Heeger and Bergen, "Pyramid-based texture analysis/synthesis",
//	         1995, one pass), and so do the colors in the end
package stylize

import (
	"cmp"
	"fmt"
	"math"
	"math/cmplx"
	"slices"
	"strings"

	"gonum.org/v1/gonum/dsp/fourier"

	"github.com/loralab/loralab/core/raster"
)

var kinds = map[string]func(p, style *raster.Float, strength float64){
	"fourier": fourierAmplitude,
	"colour":  colorStatistics,
	"texture": texture,
}

// Kinds lists by name the ways that Apply knows.
func Kinds() []string {
	names := make([]string, 0, len(kinds))
	for name := range kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Check reports what is wrong with a kind, which may be Network, and a strength.
func Check(kind string, strength float64) error {
	if kinds[kind] == nil && kind != Network {
		return fmt.Errorf("unknown style %q, want one of %s", kind, strings.Join(append(Kinds(), Network), ", "))
	}
	if !(strength >= 0 && strength <= 1) {
		return fmt.Errorf("strength %g of a style, want 0 to 1", strength)
	}
	return nil
}

// Apply gives p the look of style, which has the same size. At strength 0 p
// stays, at 1 it takes all that the kind transfers. It panics on what Check
// refuses, on Network and on different sizes.
func Apply(p, style *raster.Float, kind string, strength float64) {
	if err := Check(kind, strength); err != nil {
		panic("stylize: " + err.Error())
	}
	if kind == Network {
		panic("stylize: a network is not applied here")
	}
	if p.Size != style.Size {
		panic(fmt.Sprintf("stylize: an image of %v and a style of %v", p.Size, style.Size))
	}
	if strength == 0 {
		return
	}
	kinds[kind](p, style, strength)
	p.Clamp()
}

// window is half the side of the square of low frequencies that fourier
// transfers, as a fraction of the picture. The paper uses 0.01 to 0.09.
const window = 0.05

func fourierAmplitude(p, style *raster.Float, strength float64) {
	reachY, reachX := int(window*float64(p.H)), int(window*float64(p.W))
	for c := range 3 {
		f, s := transform(p.Plane(c), p.Size), transform(style.Plane(c), p.Size)
		for y := -reachY; y <= reachY; y++ {
			for x := -reachX; x <= reachX; x++ {
				i := (y+p.H)%p.H*p.W + (x+p.W)%p.W
				amplitude := (1-strength)*cmplx.Abs(f[i]) + strength*cmplx.Abs(s[i])
				f[i] = cmplx.Rect(amplitude, cmplx.Phase(f[i]))
			}
		}
		back(f, p.Plane(c), p.Size)
	}
}

// transform is the 2-D Fourier transform of a plane.
func transform(plane []float32, size raster.Size) []complex128 {
	f := make([]complex128, size.Area())
	for i, v := range plane {
		f[i] = complex(float64(v), 0)
	}
	return both(f, size, (*fourier.CmplxFFT).Coefficients)
}

// back is the real part of the inverse, into plane.
func back(f []complex128, plane []float32, size raster.Size) {
	for i, v := range both(f, size, (*fourier.CmplxFFT).Sequence) {
		plane[i] = float32(real(v) / float64(size.Area()))
	}
}

// both transforms rows, then columns, in place.
func both(f []complex128, size raster.Size, do func(t *fourier.CmplxFFT, dst, src []complex128) []complex128) []complex128 {
	h, w := size.H, size.W
	rows, cols := fourier.NewCmplxFFT(w), fourier.NewCmplxFFT(h)
	for y := range h {
		row := f[y*w : (y+1)*w]
		copy(row, do(rows, nil, row))
	}
	line := make([]complex128, h)
	for x := range w {
		for y := range line {
			line[y] = f[y*w+x]
		}
		for y, v := range do(cols, nil, line) {
			f[y*w+x] = v
		}
	}
	return f
}

func colorStatistics(p, style *raster.Float, strength float64) {
	a, b := toLAB(p), toLAB(style)
	for c := range 3 {
		mean, spread := moments(a[c])
		wantMean, wantSpread := moments(b[c])
		by := 1.0
		if spread > 1e-9 {
			by = wantSpread / spread
		}
		for i, v := range a[c] {
			a[c][i] = (1-strength)*v + strength*((v-mean)*by+wantMean)
		}
	}
	fromLAB(a, p)
}

func moments(v []float64) (mean, spread float64) {
	for _, x := range v {
		mean += x
	}
	mean /= float64(len(v))
	for _, x := range v {
		spread += (x - mean) * (x - mean)
	}
	return mean, math.Sqrt(spread / float64(len(v)))
}

// lαβ of Ruderman et al. (1998), as Reinhard et al. give it: cone responses,
// their logarithm, decorrelated.
var (
	toLMS   = [3][3]float64{{0.3811, 0.5783, 0.0402}, {0.1967, 0.7244, 0.0782}, {0.0241, 0.1288, 0.8444}}
	fromLMS = invert(toLMS)
)

func toLAB(p *raster.Float) [3][]float64 {
	n := p.H * p.W
	var out [3][]float64
	for c := range out {
		out[c] = make([]float64, n)
	}
	for i := range n {
		rgb := [3]float64{float64(p.RGB[i]), float64(p.RGB[n+i]), float64(p.RGB[2*n+i])}
		var lms [3]float64
		for j, v := range times(toLMS, rgb) {
			lms[j] = math.Log10(max(v, 1./512)) // black has no logarithm
		}
		out[0][i] = (lms[0] + lms[1] + lms[2]) / math.Sqrt(3)
		out[1][i] = (lms[0] + lms[1] - 2*lms[2]) / math.Sqrt(6)
		out[2][i] = (lms[0] - lms[1]) / math.Sqrt2
	}
	return out
}

func fromLAB(lab [3][]float64, p *raster.Float) {
	n := p.H * p.W
	for i := range n {
		l, a, b := lab[0][i]/math.Sqrt(3), lab[1][i]/math.Sqrt(6), lab[2][i]/math.Sqrt2
		rgb := times(fromLMS, [3]float64{math.Pow(10, l+a+b), math.Pow(10, l+a-b), math.Pow(10, l-2*a)})
		for c, v := range rgb {
			p.RGB[c*n+i] = float32(v)
		}
	}
}

func times(m [3][3]float64, v [3]float64) (out [3]float64) {
	for i := range m {
		for j, x := range v {
			out[i] += m[i][j] * x
		}
	}
	return out
}

func invert(m [3][3]float64) (out [3][3]float64) {
	minor := func(i, j int) float64 {
		a, b, c, d := (i+1)%3, (i+2)%3, (j+1)%3, (j+2)%3
		return m[a][c]*m[b][d] - m[a][d]*m[b][c]
	}
	det := m[0][0]*minor(0, 0) + m[0][1]*minor(0, 1) + m[0][2]*minor(0, 2)
	for i := range 3 {
		for j := range 3 {
			out[j][i] = minor(i, j) / det
		}
	}
	return out
}

// bands of the pyramid, besides what is left below the coarsest.
const bands = 4

func texture(p, style *raster.Float, strength float64) {
	for c := range 3 {
		mine, theirs := pyramid(p.Plane(c), p.Size), pyramid(style.Plane(c), p.Size)
		plane := p.Plane(c)
		clear(plane)
		for b := range mine {
			// Colors at large come from the last step.
			if b < bands {
				match(mine[b], theirs[b], strength)
			}
			for i, v := range mine[b] {
				plane[i] += v
			}
		}
		match(plane, style.Plane(c), strength)
	}
}

// pyramid cuts a plane into bands of an octave each, at full size, whose sum it
// is: differences of Gaussians of 1, 2, 4, 8 pixels, and what is left.
func pyramid(plane []float32, size raster.Size) [][]float32 {
	var out [][]float32
	before := slices.Clone(plane)
	for b := range bands {
		smooth := slices.Clone(plane)
		raster.BlurPlane(smooth, size, math.Exp2(float64(b)))
		for i, v := range smooth {
			before[i] -= v
		}
		out = append(out, before)
		before = slices.Clone(smooth)
	}
	return append(out, before)
}

// match moves values so that the k-th smallest is that of the other, by a
// fraction of the way. Equal values are told apart by their place.
func match(values, other []float32, strength float64) {
	order := make([]int32, len(values))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(values[a], values[b]), cmp.Compare(a, b))
	})
	sorted := slices.Clone(other)
	slices.Sort(sorted)
	for rank, i := range order {
		values[i] += float32(strength) * (sorted[rank] - values[i])
	}
}
