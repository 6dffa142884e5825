package stylenet

import (
	"fmt"
	"math"
	"testing"

	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
)

const weights = "testdata/network.safetensors"

func open(t *testing.T, strength float64) *Net {
	t.Helper()
	dev, err := torch.CPU(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dev.Close)
	sum, err := filehash.Of(weights)
	if err != nil {
		t.Fatal(err)
	}
	n, err := Open(dev, &spec.Style{Kind: "network", Strength: strength, Weights: sum}, weights)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		_ = dev.Do(func() error {
			if live := dev.Live(); live > 0 {
				t.Errorf("%d tensors are left", live)
			}
			return nil
		})
	})
	return n
}

type example struct {
	h, w   int
	image  []byte
	styled []float32 // cut to h×w, 0 to 255
}

// examples are what PyTorch made; see testdata/make_fixture.py.
func examples(t *testing.T) (list []example) {
	t.Helper()
	f, err := safetensors.Open("testdata/cases.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for k := range 3 {
		in, _ := f.Get(fmt.Sprintf("image.%d", k))
		out, _ := f.Get(fmt.Sprintf("styled.%d", k))
		values, err := out.Float32()
		if err != nil {
			t.Fatal(err)
		}
		e := example{h: int(in.Shape[1]), w: int(in.Shape[2]), image: append([]byte(nil), in.Data...)}
		for c := range 3 {
			for y := range e.h {
				row := values[(c*int(out.Shape[1])+y)*int(out.Shape[2]):]
				for _, v := range row[:e.w] {
					e.styled = append(e.styled, min(max(v, 0), 255))
				}
			}
		}
		list = append(list, e)
	}
	return list
}

// A ten-thousandth of the range, sizes that 4 does not divide among them.
func TestParityWithPyTorch(t *testing.T) {
	n := open(t, 1)
	for _, e := range examples(t) {
		var got []float32
		err := n.dev.Do(func() error {
			n.dev.NoGrad(func() {
				x := torch.Of(n.dev, e.image, 1, 3, int64(e.h), int64(e.w)).To(torch.Float32)
				got = n.forward(x).Floats()
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(e.styled) {
			t.Fatalf("%d×%d: %d values, PyTorch has %d", e.h, e.w, len(got), len(e.styled))
		}
		var worst float64
		for i, v := range got {
			worst = max(worst, math.Abs(float64(v-e.styled[i])))
		}
		if worst > 1e-4*255 {
			t.Errorf("%d×%d: %g of 255 from PyTorch", e.h, e.w, worst)
		}
		t.Logf("%d×%d: %.2g of 255 from PyTorch", e.h, e.w, worst)
	}
}

// Bytes are the nearest, and the strength is the share of the network.
func TestApply(t *testing.T) {
	for _, strength := range []float64{1, 0.25} {
		n := open(t, strength)
		for _, e := range examples(t) {
			got, err := n.Apply(raster.Image{Size: raster.Size{H: e.h, W: e.w}, RGB: e.image})
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range got.RGB {
				want := strength*float64(e.styled[i]) + (1-strength)*float64(e.image[i])
				if d := math.Abs(float64(v) - want); d > 0.51 {
					t.Fatalf("%d×%d at strength %g, value %d is %d, want %g", e.h, e.w, strength, i, v, want)
				}
			}
		}
	}
}

func TestRefused(t *testing.T) {
	n := open(t, 1)
	if _, err := n.Apply(raster.NewImage(raster.Size{H: 4, W: 20})); err == nil {
		t.Error("a picture of 4 pixels was accepted")
	}
	if _, err := n.Apply(raster.NewImage(raster.Size{H: 5, W: 5})); err != nil {
		t.Errorf("the smallest picture: %v", err)
	}
	if _, err := Open(n.dev, &spec.Style{Kind: "network", Strength: 1, Weights: "other"}, weights); err == nil {
		t.Error("another file than that of the plan was accepted")
	}
}
