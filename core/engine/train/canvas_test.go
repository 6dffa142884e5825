package train

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/window"
)

// What a canvas makes of windows row by row is what averaging over the whole
// image and resizing it at once makes.
func TestCanvasIsTheWholeImageAtOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		side := func(name string, most int) int { return rapid.IntRange(1, most).Draw(t, name) }
		const c = 2
		h, w, height, width, outH, outW := side("h", 30), side("w", 30), side("height", 12), side("width", 12), side("outH", 50), side("outW", 50)
		g := window.Over(raster.Size{H: h, W: w}, raster.Size{H: height, W: width}, raster.Size{H: side("strideH", height), W: side("strideW", width)})
		alike := rapid.Bool().Draw(t, "alike") // every window says the same of every pixel
		sum, seen := make([]float32, c*h*w), make([]float32, h*w)
		var got, want []float32
		if err := cpu.Do(func() error {
			live := cpu.Live()
			got = make([]float32, c*outH*outW)
			at := 0
			cv := newCanvas(cpu, g, raster.Size{H: outH, W: outW}, func(y int, logits *torch.Tensor) {
				n := int(logits.Dim(2))
				if y != at || !slices.Equal(logits.Shape(), []int64{1, c, int64(n), int64(outW)}) {
					t.Fatalf("rows %d to %d of shape %v, want from %d on", y, y+n, logits.Shape(), at)
				}
				at += n
				for k, v := range logits.Floats() {
					got[k/(n*outW)*outH*outW+y*outW+k%(n*outW)] = v
				}
			})
			for i := range g.Len() {
				v := make([]float32, c*height*width)
				top, left := g.At(i)
				for k := range v {
					channel, y, x := k/(height*width), top+k/width%height, left+k%width
					v[k] = float32(math.Sin(float64(k + 31*i)))
					if alike {
						v[k] = float32(channel) - 0.25
					}
					if y < h && x < w {
						sum[channel*h*w+y*w+x] += v[k]
						if channel == 0 {
							seen[y*w+x]++
						}
					}
				}
				cpu.Scope(func() { cv.add(torch.Of(cpu, v, c, int64(height), int64(width))) })
			}
			if now := cpu.Live(); at != outH || now != live {
				t.Fatalf("%d of %d rows, %d tensors are left over", at, outH, now-live)
			}
			want = torch.Of(cpu, sum, 1, c, int64(h), int64(w)).Div(torch.Of(cpu, seen, int64(h), int64(w))).UpsampleBilinear(int64(outH), int64(outW)).Floats()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			// libtorch computes positions in fp32.
			if d := math.Abs(float64(got[i] - want[i])); d > 2e-5 || alike && d > 1e-6 {
				t.Fatalf("%v at %d of %d×%d: %v, want %v", g, i, outH, outW, got[i], want[i])
			}
		}
	})
}
