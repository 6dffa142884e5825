// Package corrupt damages pictures the way that ImageNet-C does (Hendrycks and
// Dietterich, "Benchmarking neural network robustness to common corruptions and
// perturbations", arXiv:1903.12261): noise, blur, weather and digital faults in
// five severities, with the paper's constants.
//
// Corruptions are made for 224 pixels or so; they are applied to the picture as
// the model sees it. They follow the paper's formulas, not its random numbers:
// each picture draws from a stream of its own, so that a picture is always
// damaged in the same way, whatever comes before it. Frost lays drawn crystals
// over the picture where the original has photographs of frost. Zoom blur and
// the elastic transform move pixels: the latter moves the labels with them.
package corrupt

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/rng"
)

// Severities are 1 to 5.
const Severities = 5

// corruption changes a picture at a level 0 to 4.
type corruption struct {
	family string
	apply  func(p *raster.Float, level int, r rng.Stream)
}

// moves are the corruptions that move labels: of an image of a size, where each
// pixel's comes from.
var moves = map[string]func(size raster.Size, level int, r rng.Stream) func(y, x int) (fy, fx float64){
	"elastic_transform": elasticMap,
}

// MoveLabels moves labels as Apply moves those of the same image at another size;
// most corruptions move none.
func MoveLabels(labels raster.Labels, at raster.Size, kind string, severity int, seed uint64, key string) raster.Labels {
	move := moves[kind]
	if move == nil {
		return labels
	}
	return labels.Warped(at, move(at, severity-1, stream(kind, seed, key)))
}

func stream(kind string, seed uint64, key string) rng.Stream {
	// The severity is no part of the stream's name: a picture gets the same noise, only
	// more of it.
	return rng.New(seed, "corrupt", kind, key)
}

var corruptions = map[string]corruption{
	"gaussian_noise":    {"noise", gaussianNoise},
	"shot_noise":        {"noise", shotNoise},
	"impulse_noise":     {"noise", impulseNoise},
	"speckle_noise":     {"noise", speckleNoise},
	"gaussian_blur":     {"blur", gaussianBlur},
	"defocus_blur":      {"blur", defocusBlur},
	"glass_blur":        {"blur", glassBlur},
	"motion_blur":       {"blur", motionBlur},
	"zoom_blur":         {"blur", zoomBlur},
	"snow":              {"weather", snow},
	"frost":             {"weather", frost},
	"fog":               {"weather", fog},
	"brightness":        {"weather", brightness},
	"spatter":           {"weather", spatter},
	"contrast":          {"digital", contrast},
	"elastic_transform": {"digital", elastic},
	"pixelate":          {"digital", pixelate},
	"jpeg_compression":  {"digital", jpegCompression},
	"saturate":          {"digital", saturate},
}

// Kinds lists the corruptions by name.
func Kinds() []string {
	names := make([]string, 0, len(corruptions))
	for name := range corruptions {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Families are noise, blur, weather and digital.
func Families() []string { return []string{"noise", "blur", "weather", "digital"} }

// Family lists the corruptions of a family by name.
func Family(family string) []string {
	var names []string
	for _, name := range Kinds() {
		if corruptions[name].family == family {
			names = append(names, name)
		}
	}
	return names
}

// Check reports what is wrong with a kind and a severity.
func Check(kind string, severity int) error {
	if _, ok := corruptions[kind]; !ok {
		return fmt.Errorf("unknown corruption %q, want one of %s", kind, strings.Join(Kinds(), ", "))
	}
	if severity < 1 || severity > Severities {
		return fmt.Errorf("severity %d of %s, want 1 to %d", severity, kind, Severities)
	}
	return nil
}

// Apply damages a picture in place. Seed and key, which names the picture by what
// its identity covers, decide all that is random. It panics on what Check refuses.
func Apply(p *raster.Float, kind string, severity int, seed uint64, key string) {
	if err := Check(kind, severity); err != nil {
		panic("corrupt: " + err.Error())
	}
	corruptions[kind].apply(p, severity-1, stream(kind, seed, key))
	p.Clamp()
}

func normal(r rng.Stream, n int) []float32 {
	v := make([]float32, n)
	r.Normal(v, 1)
	return v
}

func gaussianNoise(p *raster.Float, level int, r rng.Stream) {
	std := [...]float32{.08, .12, .18, .26, .38}[level]
	for i, v := range normal(r, len(p.RGB)) {
		p.RGB[i] += std * v
	}
}

func shotNoise(p *raster.Float, level int, r rng.Stream) {
	photons := [...]float64{60, 25, 12, 5, 3}[level]
	for i, v := range p.RGB {
		p.RGB[i] = float32(poisson(r, float64(v)*photons) / photons)
	}
}

// poisson draws by Knuth's product of uniforms; means here are below 61.
func poisson(r rng.Stream, mean float64) float64 {
	limit, product, n := math.Exp(-mean), r.Float64(), 0.0
	for product > limit {
		product *= r.Float64()
		n++
	}
	return n
}

func impulseNoise(p *raster.Float, level int, r rng.Stream) {
	amount := [...]float64{.03, .06, .09, .17, .27}[level]
	for i := range p.RGB {
		hit, salt := r.Float64() < amount, r.Float64() < .5
		switch {
		case hit && salt:
			p.RGB[i] = 1
		case hit:
			p.RGB[i] = 0
		}
	}
}

func speckleNoise(p *raster.Float, level int, r rng.Stream) {
	std := [...]float32{.15, .2, .35, .45, .6}[level]
	for i, v := range normal(r, len(p.RGB)) {
		p.RGB[i] += p.RGB[i] * std * v
	}
}

func gaussianBlur(p *raster.Float, level int, _ rng.Stream) {
	p.Blur([...]float64{1, 2, 3, 4, 6}[level])
}

// defocusBlur is a disk, its edge smoothed.
func defocusBlur(p *raster.Float, level int, _ rng.Stream) {
	c := [...]struct{ radius, alias float64 }{{3, .1}, {4, .5}, {6, .5}, {8, .5}, {10, .5}}[level]
	reach := int(c.radius)
	if c.radius <= 8 {
		reach = max(reach, 8)
	}
	side := 2*reach + 1
	disk := make([]float32, side*side)
	for y := range side {
		for x := range side {
			dy, dx := float64(y-reach), float64(x-reach)
			if dy*dy+dx*dx <= c.radius*c.radius {
				disk[y*side+x] = 1
			}
		}
	}
	raster.BlurPlane(disk, raster.Size{H: side, W: side}, c.alias)
	p.Filter(taps(disk, side, reach))
}

// taps is a square of weights as a filter of sum 1.
func taps(weights []float32, side, reach int) []raster.Tap {
	var sum float32
	for _, w := range weights {
		sum += w
	}
	var list []raster.Tap
	for i, w := range weights {
		if w/sum > 1e-6 {
			list = append(list, raster.Tap{DY: i/side - reach, DX: i%side - reach, Weight: w / sum})
		}
	}
	return list
}

// glassBlur swaps pixels with neighbours between two blurs.
func glassBlur(p *raster.Float, level int, r rng.Stream) {
	c := [...]struct {
		sigma        float64
		delta, times int
	}{{.7, 1, 2}, {.9, 2, 1}, {1, 2, 3}, {1.1, 3, 2}, {1.5, 4, 2}}[level]
	p.Blur(c.sigma)
	n := p.H * p.W
	for range c.times {
		for y := p.H - c.delta - 1; y >= c.delta; y-- {
			for x := p.W - c.delta - 1; x >= c.delta; x-- {
				i := y*p.W + x
				j := (y+r.IntN(2*c.delta)-c.delta)*p.W + x + r.IntN(2*c.delta) - c.delta
				for k := 0; k < 3*n; k += n {
					p.RGB[k+i], p.RGB[k+j] = p.RGB[k+j], p.RGB[k+i]
				}
			}
		}
	}
	p.Blur(c.sigma)
}

func motionBlur(p *raster.Float, level int, r rng.Stream) {
	c := [...]struct{ radius, sigma float64 }{{10, 3}, {15, 5}, {15, 8}, {15, 12}, {20, 15}}[level]
	p.Filter(motion(c.radius, c.sigma, -45+90*r.Float64()))
}

// motion is a line of Gaussian weights to one side, at an angle in degrees.
func motion(radius, sigma, angle float64) []raster.Tap {
	sin, cos := math.Sincos(angle * math.Pi / 180)
	var list []raster.Tap
	var sum float32
	for i := range int(2*radius) + 1 {
		d := float64(i)
		w := float32(math.Exp(-d * d / (2 * sigma * sigma)))
		t := raster.Tap{DY: int(math.Round(d * sin)), DX: int(math.Round(d * cos)), Weight: w}
		sum += w
		if n := len(list); n > 0 && list[n-1].DY == t.DY && list[n-1].DX == t.DX {
			list[n-1].Weight += w
			continue
		}
		list = append(list, t)
	}
	for i := range list {
		list[i].Weight /= sum
	}
	return list
}

// zoomBlur is the mean over growing zooms. Labels stay: the picture's centre of
// weight does.
func zoomBlur(p *raster.Float, level int, _ rng.Stream) {
	c := [...]struct{ most, step float64 }{{1.11, .01}, {1.16, .01}, {1.21, .02}, {1.26, .02}, {1.31, .03}}[level]
	sum := slices.Clone(p.RGB)
	n := float32(1)
	for zoom := 1.0; zoom < c.most-1e-9; zoom += c.step {
		z := scaled(p, zoom)
		for i, v := range z.RGB {
			sum[i] += v
		}
		n++
	}
	for i := range sum {
		p.RGB[i] = sum[i] / n
	}
}

// scaled is the middle of a picture, enlarged, without labels.
func scaled(p *raster.Float, zoom float64) *raster.Float {
	z := &raster.Float{Size: p.Size, RGB: slices.Clone(p.RGB)}
	cy, cx := float64(p.H-1)/2, float64(p.W-1)/2
	z.Warp(raster.Reflect, func(y, x int) (float64, float64) {
		return cy + (float64(y)-cy)/zoom, cx + (float64(x)-cx)/zoom
	})
	return z
}

// snow lays streaks of flakes over a picture that is paler than it was.
func snow(p *raster.Float, level int, r rng.Stream) {
	c := [...]struct{ mean, std, zoom, threshold, radius, sigma, mix float64 }{
		{.1, .3, 3, .5, 10, 4, .8},
		{.2, .3, 2, .5, 12, 4, .7},
		{.55, .3, 4, .9, 12, 8, .7},
		{.55, .3, 4.5, .85, 12, 8, .65},
		{.55, .3, 2.5, .85, 12, 12, .55},
	}[level]
	n := p.H * p.W
	layer := &raster.Float{Size: p.Size, RGB: make([]float32, 3*n)}
	for i, v := range normal(r, n) {
		layer.RGB[i] = float32(c.mean) + float32(c.std)*v
	}
	layer = scaled(layer, c.zoom)
	for i, v := range layer.RGB[:n] {
		if float64(v) < c.threshold {
			v = 0
		}
		layer.RGB[i] = min(v, 1)
	}
	layer.Filter(motion(c.radius, c.sigma, -135+90*r.Float64()))
	flakes, luma := layer.Plane(0), p.Luma()
	for i := range n {
		pale := luma[i]*1.5 + .5
		// The same flakes once more, turned by half a circle.
		fall := flakes[i] + flakes[n-1-i]
		for k := 0; k < 3*n; k += n {
			v := p.RGB[k+i]
			p.RGB[k+i] = float32(c.mix)*v + float32(1-c.mix)*max(v, pale) + fall
		}
	}
}

// frost lays crystals over the picture: ridges of plasma, bluish white.
func frost(p *raster.Float, level int, r rng.Stream) {
	c := [...]struct{ keep, ice float32 }{{1, .4}, {.8, .6}, {.7, .7}, {.65, .7}, {.6, .75}}[level]
	n := p.H * p.W
	ridges, spread := plasma(p.Size, 2, r), plasma(p.Size, 3, r)
	for i := range n {
		crystal := 1 - 2*float32(math.Abs(float64(ridges[i])-.5))
		crystal = crystal * crystal * crystal * spread[i]
		for k, tint := range [3]float32{.85, .95, 1} {
			p.RGB[k*n+i] = c.keep*p.RGB[k*n+i] + c.ice*tint*crystal
		}
	}
}

// fog is plasma over the picture, scaled so that white stays white.
func fog(p *raster.Float, level int, r rng.Stream) {
	c := [...]struct {
		amount float32
		decay  float64
	}{{1.5, 2}, {2, 2}, {2.5, 1.7}, {2.5, 1.5}, {3, 1.4}}[level]
	n := p.H * p.W
	most := slices.Max(p.RGB)
	haze := plasma(p.Size, c.decay, r)
	for i := range n {
		for k := 0; k < 3*n; k += n {
			p.RGB[k+i] = (p.RGB[k+i] + c.amount*haze[i]) * most / (most + c.amount)
		}
	}
}

// plasma is a fractal from 0 to 1 by the diamond-square algorithm; a larger
// decay makes it smoother.
func plasma(of raster.Size, decay float64, r rng.Stream) []float32 {
	h, w, side := of.H, of.W, 1
	for side < max(h, w) {
		side *= 2
	}
	m := make([]float64, side*side)
	at := func(y, x int) *float64 { return &m[(y&(side-1))*side+x&(side-1)] } // wraps around
	wibble := 100.0
	for step := side; step >= 2; step /= 2 {
		half := step / 2
		shake := func(v float64) float64 { return v/4 + wibble*(2*r.Float64()-1) }
		for y := 0; y < side; y += step {
			for x := 0; x < side; x += step {
				*at(y+half, x+half) = shake(*at(y, x) + *at(y+step, x) + *at(y, x+step) + *at(y+step, x+step))
			}
		}
		for y := 0; y < side; y += step {
			for x := 0; x < side; x += step {
				*at(y, x+half) = shake(*at(y, x) + *at(y, x+step) + *at(y-half, x+half) + *at(y+half, x+half))
				*at(y+half, x) = shake(*at(y, x) + *at(y+step, x) + *at(y+half, x-half) + *at(y+half, x+half))
			}
		}
		wibble /= decay
	}
	low, high := slices.Min(m), slices.Max(m)
	out := make([]float32, h*w)
	for y := range h {
		for x := range w {
			out[y*w+x] = float32((m[y*side+x] - low) / max(high-low, 1e-12))
		}
	}
	return out
}

func brightness(p *raster.Float, level int, _ rng.Stream) {
	add := [...]float64{.1, .2, .3, .4, .5}[level]
	p.HSV(func(h, s, v float64) (float64, float64, float64) { return h, s, v + add })
}

func saturate(p *raster.Float, level int, _ rng.Stream) {
	c := [...]struct{ by, add float64 }{{.3, 0}, {.1, 0}, {2, 0}, {5, .1}, {20, .2}}[level]
	p.HSV(func(h, s, v float64) (float64, float64, float64) { return h, s*c.by + c.add, v })
}

// spatter throws drops of water (severities 1 to 3) or mud (4, 5).
func spatter(p *raster.Float, level int, r rng.Stream) {
	c := [...]struct{ mean, std, sigma, threshold, mix float64 }{
		{.65, .3, 4, .69, .6}, {.65, .3, 3, .68, .6}, {.65, .3, 2, .68, .5}, {.65, .3, 1, .65, 1.5}, {.67, .4, 1, .65, 1.5},
	}[level]
	n := p.H * p.W
	drops := normal(r, n)
	for i, v := range drops {
		drops[i] = float32(c.mean) + float32(c.std)*v
	}
	raster.BlurPlane(drops, p.Size, c.sigma)
	for i, v := range drops {
		if float64(v) < c.threshold {
			drops[i] = 0
		}
	}
	if level >= 3 {
		// Mud: opaque where it lies, soft at the edge.
		mud := make([]float32, n)
		for i, v := range drops {
			if float64(v) > c.threshold {
				mud[i] = 1
			}
		}
		raster.BlurPlane(mud, p.Size, c.mix)
		for i, m := range mud {
			if m < .8 {
				m = 0
			}
			for k, tint := range [3]float32{63. / 255, 42. / 255, 20. / 255} {
				p.RGB[k*n+i] = p.RGB[k*n+i]*(1-m) + tint*m
			}
		}
		return
	}
	// Water: light at the rim of each drop.
	rim := slices.Clone(drops)
	raster.BlurPlane(rim, p.Size, 1.5)
	most := max(slices.Max(rim), 1e-6)
	for i, d := range drops {
		m := float32(c.mix) * d * rim[i] / most
		for k, tint := range [3]float32{175. / 255, 238. / 255, 238. / 255} {
			p.RGB[k*n+i] += m * (tint - p.RGB[k*n+i]*.5)
		}
	}
}

func contrast(p *raster.Float, level int, _ rng.Stream) {
	by := [...]float32{.4, .3, .2, .1, .05}[level]
	for c := range 3 {
		plane := p.Plane(c)
		var sum float64
		for _, v := range plane {
			sum += float64(v)
		}
		mean := float32(sum / float64(len(plane)))
		for i, v := range plane {
			plane[i] = (v-mean)*by + mean
		}
	}
}

// elastic shifts by a random affine map and a smooth random field, labels too.
func elastic(p *raster.Float, level int, r rng.Stream) {
	p.Warp(raster.Reflect, elasticMap(p.Size, level, r))
}

func elasticMap(of raster.Size, level int, r rng.Stream) func(y, x int) (fy, fx float64) {
	h, w := of.H, of.W
	c := [...]struct{ alpha, sigma, affine float64 }{
		{488, 170.8, 24.4}, {488, 19.52, 48.8}, {12.2, 2.44, 4.88}, {17.08, 2.44, 4.88}, {29.28, 2.44, 4.88},
	}[level]
	// The constants are for 244 pixels.
	size := float64(min(h, w)) / 244
	alpha, sigma, affine := c.alpha*size, c.sigma*size, c.affine*size
	field := func() []float32 {
		v := make([]float32, h*w)
		r.Uniform(v, -1, 1)
		raster.BlurPlane(v, of, sigma)
		return v
	}
	// Three points of the middle, each moved a little, make the affine map.
	cy, cx, s := float64(h)/2, float64(w)/2, float64(min(h, w))/3
	at := [3][2]float64{{cx + s, cy + s}, {cx + s, cy - s}, {cx - s, cy - s}}
	var to [3][2]float64
	for i := range at {
		for j := range 2 {
			to[i][j] = at[i][j] + affine*(2*r.Float64()-1)
		}
	}
	m := affineMap(to, at) // from the new place back to the old
	dx, dy := field(), field()
	return func(y, x int) (float64, float64) {
		i := y*w + x
		fx, fy := float64(x)+alpha*float64(dx[i]), float64(y)+alpha*float64(dy[i])
		return m[1][0]*fx + m[1][1]*fy + m[1][2], m[0][0]*fx + m[0][1]*fy + m[0][2]
	}
}

// affineMap takes three points to three others: [x', y'] = m · [x, y, 1].
func affineMap(from, to [3][2]float64) (m [2][3]float64) {
	x0, y0 := from[0][0], from[0][1]
	ux, uy, vx, vy := from[1][0]-x0, from[1][1]-y0, from[2][0]-x0, from[2][1]-y0
	det := ux*vy - uy*vx
	for j := range 2 {
		u, v := to[1][j]-to[0][j], to[2][j]-to[0][j]
		m[j][0] = (u*vy - v*uy) / det
		m[j][1] = (v*ux - u*vx) / det
		m[j][2] = to[0][j] - m[j][0]*x0 - m[j][1]*y0
	}
	return m
}

// pixelate keeps so much of the resolution: boxes, each of its mean color.
func pixelate(p *raster.Float, level int, _ rng.Stream) {
	keep := [...]float64{.6, .5, .4, .3, .25}[level]
	rows, cols := max(int(float64(p.H)*keep), 1), max(int(float64(p.W)*keep), 1)
	for c := range 3 {
		plane := p.Plane(c)
		// Along rows, then along columns: the mean over a box is the product.
		narrow := make([]float32, p.H*cols)
		for y := range p.H {
			boxes(plane[y*p.W:], 1, p.W, narrow[y*cols:], 1, cols)
		}
		small := make([]float32, rows*cols)
		for x := range cols {
			boxes(narrow[x:], cols, p.H, small[x:], cols, rows)
		}
		for y := range p.H {
			for x := range p.W {
				plane[y*p.W+x] = small[(2*y+1)*rows/(2*p.H)*cols+(2*x+1)*cols/(2*p.W)]
			}
		}
	}
}

// boxes are the means over n equal parts of a line of so many values, whose
// ends may lie within a value.
func boxes(src []float32, step, values int, dst []float32, to, n int) {
	width := float64(values) / float64(n)
	for i := range n {
		from, end := float64(i)*width, float64(i+1)*width
		var sum float64
		for j := int(from); j < values && float64(j) < end; j++ {
			sum += float64(src[j*step]) * (min(float64(j+1), end) - max(float64(j), from))
		}
		dst[i*to] = float32(sum / width)
	}
}

func jpegCompression(p *raster.Float, level int, _ rng.Stream) {
	quality := [...]int{25, 18, 15, 10, 7}[level]
	n := p.H * p.W
	img := image.NewRGBA(image.Rect(0, 0, p.W, p.H))
	b := p.Image().RGB
	for i := range n {
		img.Pix[4*i], img.Pix[4*i+1], img.Pix[4*i+2], img.Pix[4*i+3] = b[i], b[n+i], b[2*n+i], 255
	}
	var file bytes.Buffer
	if err := jpeg.Encode(&file, img, &jpeg.Options{Quality: quality}); err != nil {
		panic("corrupt: " + strconv.Itoa(p.W) + "×" + strconv.Itoa(p.H) + ": " + err.Error()) // only of sizes above 65535
	}
	back, err := jpeg.Decode(&file)
	if err != nil {
		panic("corrupt: reading back a JPEG: " + err.Error())
	}
	for i := range n {
		r, g, b, _ := back.At(i%p.W, i/p.W).RGBA()
		p.RGB[i], p.RGB[n+i], p.RGB[2*n+i] = float32(r>>8)/255, float32(g>>8)/255, float32(b>>8)/255
	}
}
