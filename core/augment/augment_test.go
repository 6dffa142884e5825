package augment

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/spec"
)

// scene is a picture whose red channel says where a pixel was.
func scene(h, w int) *raster.Float {
	size := raster.Size{H: h, W: w}
	of := raster.Labelled{Image: raster.NewImage(size), Labels: raster.NewLabels(size)}
	image, labels := of.Image.RGB, of.Labels.Pix
	for i := range labels {
		image[i], image[h*w+i], image[2*h*w+i] = byte(i*7), byte(i*3), byte(255-i)
		labels[i] = byte(i % 5)
	}
	return raster.Floats(of)
}

func apply(p *raster.Float, list ...*spec.Augment) *raster.Float {
	Apply(p, list, 1, 0, "a")
	return p
}

func TestFlips(t *testing.T) {
	p := apply(scene(2, 3), &spec.Augment{Kind: "flip", P: 1})
	if !slices.Equal(p.Labels, []byte{2, 1, 0, 0, 4, 3}) || !slices.Equal(p.Image().RGB[:6], []byte{14, 7, 0, 35, 28, 21}) {
		t.Errorf("flip: %v %v", p.Labels, p.Image().RGB[:6])
	}
	p = apply(scene(2, 3), &spec.Augment{Kind: "flip_vertical", P: 1})
	if !slices.Equal(p.Labels, []byte{3, 4, 0, 0, 1, 2}) {
		t.Errorf("flip_vertical: %v", p.Labels)
	}
	p = apply(scene(3, 3), &spec.Augment{Kind: "rotate", P: 1, Low: 90, High: 90})
	if want := []byte{2, 0, 3, 1, 4, 2, 0, 3, 1}; !slices.Equal(p.Labels, want) {
		t.Errorf("rotate by 90: %v, want %v", p.Labels, want)
	}
	// Half the size: the outer ring comes from nowhere.
	p = apply(scene(4, 4), &spec.Augment{Kind: "scale", P: 1, Low: .5, High: .5})
	if n := count(p.Labels, raster.Ignored); n != 12 {
		t.Errorf("scale by half ignores %d of 16: %v", n, p.Labels)
	}
	p = apply(scene(8, 8), &spec.Augment{Kind: "crop", P: 1, Low: .5, High: .9})
	if n := count(p.Labels, raster.Ignored); n != 0 {
		t.Errorf("crop ignores %d: %v", n, p.Labels)
	}
}

func count(list []byte, v byte) (n int) {
	for _, x := range list {
		if x == v {
			n++
		}
	}
	return n
}

// Moves in a row are one move: there and back again is where it was, to the
// byte, which two interpolations would not give.
func TestMovesAreJoined(t *testing.T) {
	p := apply(scene(7, 9),
		&spec.Augment{Kind: "rotate", P: 1, Low: 13, High: 13}, &spec.Augment{Kind: "scale", P: 1, Low: 1.25, High: 1.25},
		&spec.Augment{Kind: "scale", P: 1, Low: .8, High: .8}, &spec.Augment{Kind: "rotate", P: 1, Low: -13, High: -13})
	if q := scene(7, 9); !slices.Equal(p.Image().RGB, q.Image().RGB) || !slices.Equal(p.Labels, q.Labels) {
		t.Errorf("got %v", p.Labels)
	}
}

var list = []*spec.Augment{
	{Kind: "flip", P: .5},
	{Kind: "crop", P: .8, Low: .5, High: 1},
	{Kind: "rotate", P: .5, Low: -10, High: 10},
	{Kind: "colour", P: .8, Brightness: .3, Contrast: .3, Saturation: .3, Hue: .05},
	{Kind: "blur", P: .3, Low: .1, High: 1},
	{Kind: "noise", P: .3, Low: .01, High: .05},
}

// What happens to a picture depends on its name, the epoch and the seed only.
func TestOrderDoesNotMatter(t *testing.T) {
	make := func(seed uint64, epoch int, name string) []byte {
		p := scene(12, 10)
		Apply(p, list, seed, epoch, name)
		return append(p.Image().RGB, p.Labels...)
	}
	first := make(1, 0, "a")
	others := map[string][]byte{"name": make(1, 0, "b"), "epoch": make(1, 1, "a"), "seed": make(2, 0, "a")}
	for what, o := range others {
		if slices.Equal(o, first) {
			t.Errorf("another %s, and the same picture", what)
		}
	}
	if !slices.Equal(make(1, 0, "a"), first) {
		t.Error("not the same twice")
	}
}

// Probabilities are what they say, and an entry's draws move no other's.
func TestProbabilities(t *testing.T) {
	flips, both := 0, 0
	for i := range 2000 {
		name := string(rune('a'+i%26)) + strings.Repeat("x", i/26)
		alone, listed := scene(1, 2), scene(1, 2)
		Apply(alone, []*spec.Augment{{Kind: "flip", P: .3}}, 1, 0, name)
		Apply(listed, []*spec.Augment{{Kind: "flip", P: .3}, {Kind: "blur", P: .5, Low: .01, High: .02}}, 1, 0, name)
		if alone.Labels[0] == 1 {
			flips++
		}
		if listed.Labels[0] == alone.Labels[0] {
			both++
		}
	}
	if flips < 520 || flips > 680 {
		t.Errorf("%d flips of 2000 at 0.3", flips)
	}
	if both != 2000 {
		t.Errorf("a later entry moves an earlier one in %d cases", 2000-both)
	}
}

// Whatever the list, colors stay within 0 to 1 and labels are those that were
// there, or ignored.
func TestStaysWithin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := scene(rapid.IntRange(1, 9).Draw(t, "h"), rapid.IntRange(1, 9).Draw(t, "w"))
		order := rapid.Permutation(list).Draw(t, "order")
		Apply(p, order, rapid.Uint64().Draw(t, "seed"), 0, "a")
		for _, v := range p.RGB {
			if v < 0 || v > 1 {
				t.Fatalf("value %g", v)
			}
		}
		for _, l := range p.Labels {
			if l > 4 && l != raster.Ignored {
				t.Fatalf("label %d", l)
			}
		}
	})
}

func TestCheck(t *testing.T) {
	if err := Check(list); err != nil {
		t.Error(err)
	}
	for want, a := range map[string]*spec.Augment{
		`unknown kind "mirror"`:       {Kind: "mirror", P: 1},
		"probability 2":               {Kind: "flip", P: 2},
		"within 0.05 to 1":            {Kind: "crop", P: 1, Low: .5, High: 1.5},
		"degrees from 10 to -10":      {Kind: "rotate", P: 1, Low: 10, High: -10},
		"want 0 to 1, hue 0 to 0.5":   {Kind: "colour", P: 1, Hue: 1},
		"augmentation 1, blur: sigma": {Kind: "blur", P: 1, High: 30},
	} {
		if err := Check([]*spec.Augment{a}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
