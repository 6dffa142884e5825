package data

import (
	"cmp"
	"context"
	"image"
	"maps"
	"slices"

	"github.com/loralab/loralab/core/spec"
)

// Stats are what pictures hold, at their own size.
type Stats struct {
	Images int
	// Unread are pairs of which a file cannot be read; they count for nothing
	// below.
	Unread int
	Sizes  []SizeCount // the most frequent first
	// By class: its pixels, and the images that show it.
	Pixels []uint64
	Shown  []int
	// Pixels that are ignored, and those whose value has no class.
	Ignored, Classless uint64
}

// SizeCount is how many images have a size.
type SizeCount struct {
	Width, Height, Images int
}

// Rare is the fraction of the pixels with a class below which a class is rare.
const Rare = 0.01

// Fraction is that of a class in the pixels that have one, 0 if none has.
func (s *Stats) Fraction(class int) float64 {
	var all uint64
	for _, n := range s.Pixels {
		all += n
	}
	return float64(s.Pixels[class]) / float64(max(1, all))
}

// Stats counts what the files hold, with the classes of d. Pictures that were
// decoded once, by Check too, cost a stat.
func (f Files) Stats(ctx context.Context, x *Index, d *spec.Data) (Stats, error) {
	facts, faults, err := x.look(ctx, f, f.pairs(), pairKind(d.GetColours()))
	if err != nil {
		return Stats{}, err
	}
	c := newCounter(d)
	for i := range f.Images {
		// What is wrong with a file is Check's to say.
		if faults[2*i] != nil || faults[2*i+1] != nil {
			c.stats.Images++
			c.stats.Unread++
			continue
		}
		mask := facts[2*i+1]
		c.add(facts[2*i].width, facts[2*i].height, mask.values, mask.pixels)
	}
	return c.done(), nil
}

// Stats is Files.Stats of pictures that are drawn.
func (s *Set) Stats(ctx context.Context, d *spec.Data) (Stats, error) {
	c := newCounter(d)
	for i := range s.Len() {
		if err := ctx.Err(); err != nil {
			return Stats{}, err
		}
		p, m, err := s.read(i)
		if err != nil {
			return Stats{}, err
		}
		values, pixels, err := m.counted()
		if err != nil {
			return Stats{}, err
		}
		c.add(p.W, p.H, values, pixels)
	}
	return c.done(), nil
}

type counter struct {
	stats  Stats
	values map[uint32]int32
	sizes  map[image.Point]int
}

func newCounter(d *spec.Data) *counter {
	n := len(d.GetClasses())
	return &counter{
		stats:  Stats{Pixels: make([]uint64, n), Shown: make([]int, n)},
		values: d.GetValues(), sizes: map[image.Point]int{},
	}
}

func (c *counter) add(w, h int, values []uint32, pixels []uint64) {
	c.stats.Images++
	c.sizes[image.Pt(w, h)]++
	shown := map[int32]bool{}
	for i, v := range values {
		switch class, ok := c.values[v]; {
		case !ok:
			c.stats.Classless += pixels[i]
		case class < 0:
			c.stats.Ignored += pixels[i]
		default:
			c.stats.Pixels[class] += pixels[i]
			shown[class] = true
		}
	}
	for class := range shown {
		c.stats.Shown[class]++
	}
}

func (c *counter) done() Stats {
	for _, p := range slices.Collect(maps.Keys(c.sizes)) {
		c.stats.Sizes = append(c.stats.Sizes, SizeCount{p.X, p.Y, c.sizes[p]})
	}
	slices.SortFunc(c.stats.Sizes, func(a, b SizeCount) int {
		return cmp.Or(cmp.Compare(b.Images, a.Images), cmp.Compare(a.Width, b.Width), cmp.Compare(a.Height, b.Height))
	})
	return c.stats
}
