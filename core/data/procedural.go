package data

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/spec"
)

// ProceduralClasses are the classes of the procedural set in order of their
// mask values.
var ProceduralClasses = []string{"background", "animal", "boundary"}

// ProceduralStyles are the styles in which the procedural set can be drawn. A
// style changes colors and texture, never a shape, so that the same masks
// serve as a domain of their own.
var ProceduralStyles = []string{"", "inverted", "textured", "noisy"}

// proceduralRevision moves when the drawing moves.
const proceduralRevision = 1

// ProceduralDigest is the identity of a procedural split: what determines its
// pictures.
func ProceduralDigest(p *spec.Procedural) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "loralab procedural %d\nseed %d\ncount %d\nstyle %q\nsize %d\n",
		proceduralRevision, p.GetSeed(), p.GetCount(), p.GetStyle(), p.GetSize()))
	return hex.EncodeToString(sum[:])
}

// OpenProcedural serves drawn pictures: shapes like animals (an ellipse for the
// body, a head, limbs, a tail) on a mottled ground, with a boundary class 1 or
// 2 pixels wide. A picture is a function of seed, style, size and its index. styles are as in Open.
func OpenProcedural(p *spec.Procedural, d *spec.Data, styles Contents) (*Set, error) {
	if !slices.Contains(ProceduralStyles, p.GetStyle()) {
		return nil, fmt.Errorf("the procedural set has no style %q; it has %s", p.GetStyle(), strings.Join(ProceduralStyles[1:], ", "))
	}
	if p.GetSize() < 16 || p.GetSize() > 4096 {
		return nil, fmt.Errorf("the procedural set is drawn at 16 to 4096 pixels, not %d", p.GetSize())
	}
	names, keys := make([]string, p.GetCount()), make([]string, p.GetCount())
	for i := range names {
		keys[i] = strconv.Itoa(i)
		names[i] = fmt.Sprintf("procedural-%05d", i)
	}
	s, err := newSet(names, keys, d, styles)
	if err != nil {
		return nil, fmt.Errorf("opening the procedural set: %w", err)
	}
	s.maskName = func(i int) string { return names[i] }
	s.read = func(i int) (pixels, mask, error) {
		px, m := drawAnimal(p.GetSeed(), uint64(i), p.GetStyle(), int(p.GetSize()))
		return px, m, nil
	}
	s.readMask = func(i int) (mask, error) {
		_, m, err := s.read(i)
		return m, err
	}
	return s, nil
}

// ellipse is a filled, turned ellipse; positions and radii in pixels.
type ellipse struct{ x, y, rx, ry, cos, sin float64 }

func (e ellipse) holds(x, y float64) bool {
	dx, dy := x-e.x, y-e.y
	u, v := (dx*e.cos+dy*e.sin)/e.rx, (dy*e.cos-dx*e.sin)/e.ry
	return u*u+v*v <= 1
}

func drawAnimal(seed, index uint64, style string, size int) (pixels, mask) {
	rng := rand.New(rand.NewPCG(seed, index))
	between := func(lo, hi float64) float64 { return lo + (hi-lo)*rng.Float64() }
	s := float64(size)

	// The body lies roughly across the picture; everything else hangs on it.
	length, height := between(0.17, 0.27)*s, between(0.09, 0.15)*s
	cx, cy := between(0.38, 0.62)*s, between(0.38, 0.58)*s
	turn, facing := between(-0.35, 0.35), 1.0
	if rng.IntN(2) == 0 {
		facing = -1
	}
	at := func(along, down, rx, ry, angle float64) ellipse {
		c, sn := math.Cos(turn), math.Sin(turn)
		dx, dy := along*facing, down
		a := turn + angle*facing
		return ellipse{cx + dx*c - dy*sn, cy + dx*sn + dy*c, rx, ry, math.Cos(a), math.Sin(a)}
	}
	body := []ellipse{at(0, 0, length, height, 0)}
	head := between(0.5, 0.75) * height
	body = append(body, at(length*0.95, -height*between(0.4, 1), head*1.2, head, 0.2))
	for range 2 {
		body = append(body, at(length*between(0.75, 1.05), -height*between(1.2, 1.7), head*0.35, head*0.7, between(-0.5, 0.5)))
	}
	for i := range 4 {
		along := (-0.75 + 0.5*float64(i)) * length
		body = append(body, at(along, height*between(0.9, 1.3), length*0.11, height*between(0.7, 1.0), between(-0.3, 0.3)))
	}
	body = append(body, at(-length*1.15, -height*between(0, 0.8), length*0.4, height*0.16, between(-0.8, 0.3)))

	n := size * size
	animal := make([]bool, n)
	for y := range size {
		for x := range size {
			for _, e := range body {
				if e.holds(float64(x)+0.5, float64(y)+0.5) {
					animal[y*size+x] = true
					break
				}
			}
		}
	}
	m := mask{Size: raster.Size{H: size, W: size}, values: make([]uint32, n)}
	border := 1
	if size >= 128 {
		border = 2
	}
	for y := range size {
		for x := range size {
			if !animal[y*size+x] {
				continue
			}
			m.values[y*size+x] = 1
			// Boundary: animal within `border` pixels of what is not.
			for d := 1; d <= border; d++ {
				if (x >= d && !animal[y*size+x-d]) || (x+d < size && !animal[y*size+x+d]) ||
					(y >= d && !animal[(y-d)*size+x]) || (y+d < size && !animal[(y+d)*size+x]) {
					m.values[y*size+x] = 2
					break
				}
			}
		}
	}

	// Ground in greens and blues, fur in browns and greys: close enough in
	// brightness that the shade alone does not tell them apart.
	ground := [3]float64{between(50, 120), between(100, 170), between(80, 160)}
	fur := [3]float64{between(120, 200), between(90, 140), between(50, 110)}
	if rng.IntN(3) == 0 {
		grey := between(80, 180)
		fur = [3]float64{grey + 10, grey, grey - 10}
	}
	mottle, coat := newWaves(rng, 3, 1.5, 5), newWaves(rng, 3, 6, 14)
	grain := make([]float64, n)
	for i := range grain {
		grain[i] = rng.NormFloat64() * 6
	}
	// Styles draw from a stream of their own, so that they share all shapes.
	after := rand.New(rand.NewPCG(seed^0x5354594c45, index))
	pattern := newWaves(after, 4, 8, 20)

	p := pixels{Image: raster.NewImage(m.Size)}
	for y := range size {
		for x := range size {
			i := y*size + x
			u, v := float64(x)/s, float64(y)/s
			base, shade := ground, 22*mottle.at(u, v)+25*(v-0.5)
			if animal[i] {
				base, shade = fur, 28*coat.at(u, v)
			}
			var noise [3]float64
			switch style {
			case "textured":
				shade += 55 * pattern.at(u, v)
			case "noisy":
				noise = [3]float64{after.NormFloat64(), after.NormFloat64(), after.NormFloat64()}
			}
			for c := range 3 {
				value := base[c] + shade + grain[i] + 40*noise[c]
				if style == "inverted" {
					value = 255 - value
				}
				p.RGB[c*n+i] = byte(min(max(math.Round(value), 0), 255))
			}
		}
	}
	return p, m
}

// waves is a sum of plane waves with values mostly in -1…1.
type waves []struct{ fx, fy, phase float64 }

// newWaves draws count waves of low to high periods over the picture.
func newWaves(rng *rand.Rand, count int, low, high float64) waves {
	w := make(waves, count)
	for i := range w {
		angle, f := rng.Float64()*math.Pi, low+(high-low)*rng.Float64()
		w[i].fx, w[i].fy = 2*math.Pi*f*math.Cos(angle), 2*math.Pi*f*math.Sin(angle)
		w[i].phase = rng.Float64() * 2 * math.Pi
	}
	return w
}

func (w waves) at(u, v float64) float64 {
	var sum float64
	for _, k := range w {
		sum += math.Sin(k.fx*u + k.fy*v + k.phase)
	}
	return sum / math.Sqrt(float64(len(w)))
}
