package data_test

import (
	"fmt"
	"image"
	"image/color"
	"math/rand"
	"path/filepath"
	"testing"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/spec"
)

// open makes a set of 4 images of 640×480 pixels as PNG.
func open(b *testing.B, d *spec.Data) *data.Set {
	b.Helper()
	root := b.TempDir()
	r := rand.New(rand.NewSource(1))
	files := data.Files{Root: root}
	for i := range 4 {
		im, mask := image.NewRGBA(image.Rect(0, 0, 640, 480)), image.NewGray(image.Rect(0, 0, 640, 480))
		for at := range 640 * 480 {
			v := byte(at/640/2) + byte(r.Intn(16))
			im.SetRGBA(at%640, at/640, color.RGBA{v, v + 40, 200 - v, 0xff})
			mask.Pix[at] = byte(at / 640 / 200)
		}
		files.Images = append(files.Images, fmt.Sprintf("image%d.png", i))
		files.Masks = append(files.Masks, fmt.Sprintf("mask%d.png", i))
		writePNG(b, filepath.Join(root, files.Images[i]), im)
		writePNG(b, filepath.Join(root, files.Masks[i]), mask)
	}
	contents, err := files.Contents(b.Context(), data.NewIndex(data.Look{}))
	if err != nil {
		b.Fatal(err)
	}
	set, err := data.Open(contents, d, data.Contents{})
	if err != nil {
		b.Fatal(err)
	}
	return set
}

// BenchmarkDecodeAndAugment is the work for a training image that is in no cache:
// 640×480 as PNG, to 224×224, then moved and painted.
func BenchmarkDecodeAndAugment(b *testing.B) {
	set := open(b, &spec.Data{
		Classes: []string{"a", "b", "c"}, Values: map[uint32]int32{0: 0, 1: 1, 2: 2}, Height: 224, Width: 224,
		Augment: []*spec.Augment{
			{Kind: "flip", P: 1},
			{Kind: "rotate", P: 1, Low: -10, High: 10},
			{Kind: "colour", P: 1, Brightness: 0.2, Hue: 0.02},
			{Kind: "noise", P: 1, High: 0.05},
		},
	})
	for _, c := range []struct {
		name  string
		bytes int64
	}{{"uncached", 0}, {"cached", data.CacheBytes}} {
		b.Run(c.name, func(b *testing.B) {
			set.LimitCache(c.bytes)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := set.Augmented(b.Context(), []int{0, 1, 2, 3}, 1, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkWindows is the work for a training image of which a window is cut at the
// size of its file, resized by 0.5 to 2 and distorted: of 640×480 pixels, to 512×512.
func BenchmarkWindows(b *testing.B) {
	set := open(b, &spec.Data{
		Classes: []string{"a", "b", "c"}, Values: map[uint32]int32{0: 0, 1: 1, 2: 2}, Height: 512, Width: 512,
		Augment: []*spec.Augment{
			{Kind: "resize", P: 1, Low: 0.5, High: 2},
			{Kind: "window", P: 1, MaxClass: 0.75},
			{Kind: "flip", P: 0.5},
			{Kind: "photometric", P: 1},
		},
	})
	for _, c := range []struct {
		name  string
		bytes int64
	}{{"uncached", 0}, {"cached", data.CacheBytes}} {
		b.Run(c.name, func(b *testing.B) {
			set.LimitCache(c.bytes)
			b.ReportAllocs()
			for epoch := 0; b.Loop(); epoch++ {
				if _, err := set.Augmented(b.Context(), []int{0, 1, 2, 3}, 1, epoch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(4*b.N), "ms/image")
		})
	}
}
