package window

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/raster"
)

// Every pixel is seen, as often as is counted; windows keep to the image, and to
// the stride but for the last.
func TestWindowsCoverTheImage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		side := func(name string, most int) int { return rapid.IntRange(1, most).Draw(t, name) }
		h, w, height, width := side("h", 40), side("w", 40), side("height", 20), side("width", 20)
		strideH, strideW := side("strideH", height), side("strideW", width)
		g := Over(raster.Size{H: h, W: w}, raster.Size{H: height, W: width}, raster.Size{H: strideH, W: strideW})
		seen := make([]int, h*w)
		for i := range g.Len() {
			top, left := g.At(i)
			if top < 0 || left < 0 || top > 0 && top+height > h || left > 0 && left+width > w {
				t.Fatalf("window %d of %v at %d, %d", i, g, top, left)
			}
			for y := top; y < min(top+height, h); y++ {
				for x := left; x < min(left+width, w); x++ {
					seen[y*w+x]++
				}
			}
		}
		rows, columns := g.Rows(), g.Columns()
		for i, n := range seen {
			if n == 0 || n != rows[i/w]*columns[i%w] {
				t.Fatalf("pixel %d of %v lies in %d windows, counted %d·%d", i, g, n, rows[i/w], columns[i%w])
			}
		}
		for i := range len(g.Tops) - 1 {
			step, last := g.Tops[i+1]-g.Tops[i], i == len(g.Tops)-2
			if step != strideH && !(last && step < strideH && g.Tops[i+1] == h-height) {
				t.Fatalf("rows of windows at %v, stride %d", g.Tops, strideH)
			}
		}
	})
}

// As large as it takes, and no larger.
func TestFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		side := func(name string) int { return rapid.IntRange(1, 5000).Draw(t, name) }
		image, window := raster.Size{H: side("h"), W: side("w")}, raster.Size{H: side("height"), W: side("width")}
		at := Scaled(image, window, 0)
		if at.H < window.H || at.W < window.W || at.H != window.H && at.W != window.W {
			t.Errorf("%v is cut at %v by windows of %v", image, at, window)
		}
	})
	image, window := raster.Size{H: 300, W: 400}, raster.Size{H: 126, W: 126}
	if at := Scaled(image, window, 0.5); at != (raster.Size{H: 150, W: 200}) {
		t.Errorf("half of %v is %v", image, at)
	}
	if at := Scaled(image, window, 0); at != (raster.Size{H: 126, W: 168}) {
		t.Errorf("%v is fitted to %v", image, at)
	}
}
