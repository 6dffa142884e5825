package window

import (
	"testing"

	"pgregory.net/rapid"
)

// Every pixel is seen, as often as is counted; windows keep to the image, and to
// the stride but for the last.
func TestWindowsCoverTheImage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		side := func(name string, most int) int { return rapid.IntRange(1, most).Draw(t, name) }
		h, w, height, width := side("h", 40), side("w", 40), side("height", 20), side("width", 20)
		strideH, strideW := side("strideH", height), side("strideW", width)
		g := Over(h, w, height, width, strideH, strideW)
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
		h, w, height, width := side("h"), side("w"), side("height"), side("width")
		y, x := Size(h, w, height, width, 0)
		if y < height || x < width || y != height && x != width {
			t.Errorf("%d×%d is cut at %d×%d by windows of %d×%d", h, w, y, x, height, width)
		}
	})
	if h, w := Size(300, 400, 126, 126, 0.5); h != 150 || w != 200 {
		t.Errorf("half of 300×400 is %d×%d", h, w)
	}
	if h, w := Size(300, 400, 126, 126, 0); h != 126 || w != 168 {
		t.Errorf("300×400 is fitted to %d×%d", h, w)
	}
}
