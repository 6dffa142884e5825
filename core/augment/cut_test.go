package augment

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/spec"
)

// pixel is one of a slow image: its color, and its label.
type pixel struct {
	rgb   [3]byte
	label byte
}

type slow [][]pixel

func slowly(l raster.Labelled) slow {
	out := make(slow, l.Image.H)
	for y := range out {
		out[y] = make([]pixel, l.Image.W)
		for x := range out[y] {
			at := y*l.Image.W + x
			out[y][x] = pixel{[3]byte{l.Image.Plane(0)[at], l.Image.Plane(1)[at], l.Image.Plane(2)[at]}, l.Labels.Pix[at]}
		}
	}
	return out
}

func (s slow) transposed() slow {
	out := make(slow, len(s[0]))
	for y := range out {
		for x := range s {
			out[y] = append(out[y], s[x][y])
		}
	}
	return out
}

// wide resizes rows by Pillow's definition: a triangle as wide as the pixels of the
// smaller side, weights of 22 bits; labels are those of the nearest pixel.
func (s slow) wide(to int) slow {
	in := len(s[0])
	if in == to {
		return s
	}
	scale := float64(in) / float64(to)
	reach := max(scale, 1)
	out := make(slow, len(s))
	nearest := scale * 0.5
	for x := range to {
		center := (float64(x) + 0.5) * scale
		var weights []float64
		var sum float64
		first, last := max(int(center-reach+0.5), 0), min(int(center+reach+0.5), in)
		for i := first; i < last; i++ {
			w := max(0, 1-math.Abs(float64(i)+0.5-center)/reach)
			weights = append(weights, w)
			sum += w
		}
		for y := range s {
			var p pixel
			for c := range 3 {
				v := int64(1 << 21)
				for i, w := range weights {
					v += int64(s[y][first+i].rgb[c]) * int64(w/sum*(1<<22)+0.5)
				}
				p.rgb[c] = byte(min(v>>22, 255))
			}
			p.label = s[y][min(int(nearest), in-1)].label
			out[y] = append(out[y], p)
		}
		nearest += scale
	}
	return out
}

func (s slow) each(change func(rgb [3]byte) [3]byte) {
	for y := range s {
		for x := range s[y] {
			s[y][x].rgb = change(s[y][x].rgb)
		}
	}
}

// cut is what a window shows, clipped to the image.
func (s slow) cut(top, left int, of raster.Size) slow {
	var out slow
	for y := top; y < min(top+of.H, len(s)); y++ {
		out = append(out, slices.Clone(s[y][left:min(left+of.W, len(s[0]))]))
	}
	return out
}

// mostly reports whether one class fills a part of a window, or is alone in it.
func (s slow) mostly(part float64) bool {
	of := map[byte]int{}
	all, most := 0, 0
	for y := range s {
		for x := range s[y] {
			if l := s[y][x].label; l != raster.Ignored {
				of[l]++
				all++
				most = max(most, of[l])
			}
		}
	}
	return len(of) < 2 || float64(most)/float64(all) >= part
}

// augmented is the whole list, one pixel after another.
func (s slow) augmented(list []*spec.Augment, size raster.Size, fill [3]byte, seed uint64, epoch int, key string) slow {
	for i, a := range list {
		r := rng.New(seed, "augment", strconv.Itoa(epoch), key, strconv.Itoa(i), a.Kind)
		if r.Float64() >= a.P {
			continue
		}
		switch a.Kind {
		case "resize":
			f := a.Low + (a.High-a.Low)*r.Float64()
			if a.ShortSide {
				f = float64(int(f)) / float64(min(len(s), len(s[0])))
			}
			h, w := max(1, int(float64(len(s))*f+0.5)), max(1, int(float64(len(s[0]))*f+0.5))
			s = s.wide(w).transposed().wide(h).transposed()
		case "window":
			draw := func() slow {
				top := r.IntN(max(len(s)-size.H, 0) + 1)
				return s.cut(top, r.IntN(max(len(s[0])-size.W, 0)+1), size)
			}
			window := draw()
			for try := 0; a.MaxClass > 0 && a.MaxClass < 1 && try < 10 && window.mostly(a.MaxClass); try++ {
				window = draw()
			}
			s = window
		case "flip":
			for y := range s {
				slices.Reverse(s[y])
			}
		case "invert":
			s.each(func(v [3]byte) [3]byte { return [3]byte{255 - v[0], 255 - v[1], 255 - v[2]} })
		case "photometric":
			s.distort(r)
		}
	}
	for y := range s {
		for len(s[y]) < size.W {
			s[y] = append(s[y], pixel{fill, raster.Ignored})
		}
	}
	for len(s) < size.H {
		s = append(s, slices.Repeat([]pixel{{fill, raster.Ignored}}, size.W))
	}
	return s
}

// distort follows PhotoMetricDistortion of mmsegmentation line by line, with uint8
// arrays between the steps.
func (s slow) distort(r rng.Stream) {
	convert := func(v byte, alpha, beta float32) byte {
		return byte(min(max(float32(float32(v)*alpha)+beta, 0), 255))
	}
	type drawn struct {
		is    bool
		value float64
	}
	uniform := func(low, high float64) drawn {
		if r.IntN(2) == 0 {
			return drawn{}
		}
		return drawn{true, low + (high-low)*r.Float64()}
	}
	brightness, mode := uniform(-32, 32), r.IntN(2)
	contrast, saturation := uniform(0.5, 1.5), uniform(0.5, 1.5)
	hue := drawn{is: r.IntN(2) == 1}
	if hue.is {
		hue.value = float64(r.IntN(36) - 18)
	}
	s.each(func(v [3]byte) [3]byte {
		all := func(of drawn, alpha, beta float32) {
			for c := range v {
				if of.is {
					v[c] = convert(v[c], alpha, beta)
				}
			}
		}
		all(brightness, 1, float32(brightness.value))
		if mode == 1 {
			all(contrast, float32(contrast.value), 0)
		}
		if saturation.is {
			h, s, b := raster.ToHSV8(v[0], v[1], v[2])
			v[0], v[1], v[2] = raster.FromHSV8(h, convert(s, float32(saturation.value), 0), b)
		}
		if hue.is {
			h, s, b := raster.ToHSV8(v[0], v[1], v[2])
			turned := (int(h) + int(hue.value)) % 180
			if turned < 0 {
				turned += 180 // as Python has it
			}
			v[0], v[1], v[2] = raster.FromHSV8(byte(turned), s, b)
		}
		if mode == 0 {
			all(contrast, float32(contrast.value), 0)
		}
		return v
	})
}

// Images and masks are those of a slow reference, pixel for pixel, for 1,000 draws
// of sizes, lists and seeds.
func TestCutIsThatOfTheSlowReference(t *testing.T) {
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		side := rapid.IntRange(1, 24)
		for i := range 10 {
			size := raster.Size{H: side.Draw(t, "h"), W: side.Draw(t, "w")}
			window := raster.Size{H: rapid.IntRange(1, 12).Draw(t, "wh"), W: rapid.IntRange(1, 12).Draw(t, "ww")}
			l := raster.Labelled{Image: raster.NewImage(size), Labels: raster.NewLabels(size)}
			noise := rng.New(rapid.Uint64().Draw(t, "image"), "noise")
			classes := rapid.IntRange(1, 4).Draw(t, "classes")
			for i := range l.Image.RGB {
				l.Image.RGB[i] = byte(noise.IntN(256))
			}
			for i := range l.Labels.Pix {
				if l.Labels.Pix[i] = byte(noise.IntN(classes)); noise.IntN(5) == 0 {
					l.Labels.Pix[i] = raster.Ignored
				}
			}
			low := rapid.Float64Range(0.1, 3).Draw(t, "low")
			resize := &spec.Augment{Kind: "resize", P: 0.8, Low: low, High: low * 1.5}
			if resize.ShortSide = rapid.Bool().Draw(t, "short side"); resize.ShortSide {
				resize.Low, resize.High = 1+low*6, 1+low*9
			}
			list := []*spec.Augment{
				resize,
				{Kind: "window", P: 1, MaxClass: rapid.SampledFrom([]float64{0, 0.3, 0.5, 0.75, 1}).Draw(t, "max class")},
			}
			list = list[rapid.IntRange(0, 1).Draw(t, "without resize"):]
			list = append(list, &spec.Augment{Kind: "flip", P: 0.5}, &spec.Augment{Kind: "photometric", P: 0.7}, &spec.Augment{Kind: "invert", P: 0.5})
			seed, epoch, fill := rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 3).Draw(t, "epoch"), [3]byte{124, 116, 104}

			key := strconv.Itoa(i)
			want := slowly(l).augmented(list, window, fill, seed, epoch, key)
			p := raster.Floats(Cut(l, window, list, seed, epoch, key))
			Apply(p, list, seed, epoch, key)
			got := slowly(p.Labelled().Padded(window, fill))
			for y := range want {
				if !slices.Equal(got[y], want[y]) {
					t.Fatalf("image %v, window %v, %v: row %d is %v, want %v", size, window, list, y, got[y], want[y])
				}
			}
			seen["draws"]++
			if want[window.H-1][window.W-1] == (pixel{fill, raster.Ignored}) {
				seen["padded"]++
			}
		}
	})
	if t.Logf("%v", seen); seen["draws"] < 1000 || seen["padded"] < 100 || seen["padded"] > seen["draws"]-100 {
		t.Errorf("the draws are not what they should be: %v", seen)
	}
}

func TestGrayscale(t *testing.T) {
	p := apply(scene(2, 3), &spec.Augment{Kind: "grayscale", P: 1})
	q := scene(2, 3)
	for i, want := range q.Luma() {
		for c := range 3 {
			if got := p.Plane(c)[i]; got != want {
				t.Errorf("pixel %d, channel %d: %g, want %g", i, c, got, want)
			}
		}
	}
	if !slices.Equal(p.Labels, q.Labels) {
		t.Error("labels changed")
	}
}

// A window that one class fills is drawn again, ten times, as long as there is one
// that it does not fill.
func TestMaxClass(t *testing.T) {
	size := raster.Size{H: 8, W: 40}
	l := raster.Labelled{Image: raster.NewImage(size), Labels: raster.NewLabels(size)}
	for i := range l.Labels.Pix {
		if i%size.W >= 20 {
			l.Labels.Pix[i] = 1
		}
	}
	alone := func(part float64) (n int) {
		for i := range 500 {
			cut := Cut(l, raster.Size{H: 8, W: 8}, []*spec.Augment{{Kind: "window", P: 1, MaxClass: part}}, 1, 0, strconv.Itoa(i))
			if !mixed(cut.Labels, 0.9) {
				n++
			}
		}
		return n
	}
	// 7 of 33 places show both classes.
	if free, bound := alone(0), alone(0.9); free < 350 || bound > 80 {
		t.Errorf("%d of 500 windows show one class, with a bound %d", free, bound)
	}
}

func TestOrder(t *testing.T) {
	kinds := func(kinds ...string) (list []*spec.Augment) {
		for _, k := range kinds {
			list = append(list, &spec.Augment{Kind: k, P: 1, Low: 0.5, High: 0.5})
		}
		return list
	}
	for _, list := range [][]*spec.Augment{nil, kinds("flip"), kinds("window"), kinds("resize", "window", "flip", "crop"), kinds("window", "photometric")} {
		if err := Check(list); err != nil {
			t.Errorf("%v: %v", list, err)
		}
	}
	for _, c := range []struct {
		at   int
		list []*spec.Augment
	}{
		{0, kinds("resize")},
		{0, kinds("resize", "flip", "window")},
		{1, kinds("window", "resize")},
		{1, kinds("flip", "window")},
		{1, kinds("flip", "resize", "window")},
		{2, kinds("window", "flip", "window")},
		{1, kinds("window", "window")},
		{2, kinds("resize", "window", "resize")},
	} {
		var err *OrderError
		if !errors.As(Check(c.list), &err) || err.At != c.at {
			t.Errorf("%v: %v, want an error at %d", c.list, err, c.at)
		}
	}
	if err := Check([]*spec.Augment{{Kind: "window", P: 0.5}}); err == nil {
		t.Error("a window that some images lack is allowed")
	}
}
