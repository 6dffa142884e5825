// Package stylenet runs the style network of PyTorch's fast_neural_style example
// (Johnson, Alahi and Fei-Fei, arXiv:1603.08155, with instance norm), the one
// that the original project made its domains with. It takes pictures of 0 to 255
// as they are and gives pictures of 0 to 255, cut off:
//
//	conv 9×9, conv 3×3 stride 2, conv 3×3 stride 2     each norm, ReLU
//	5 × x + norm(conv 3×3(ReLU(norm(conv 3×3(x)))))
//	2 × twice the size, conv 3×3                       each norm, ReLU
//	conv 9×9
//
// Convolutions see their input mirrored at the edge, norms are per picture and
// channel. All is computed in float32, a picture at a time, so that what a
// picture becomes depends on it and the weights alone.
//
// What a file of weights holds, and what is wrong with one, is known to
// core/stylize, which needs no libtorch.
package stylenet

import (
	"context"
	"errors"
	"fmt"

	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/engine/torch"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/stylize"
)

// eps of instance norm, PyTorch's default.
const eps = 1e-5

// smallest is the side of a picture that all mirroring fits into: the first
// convolution reaches 4 pixels beyond the edge, and residual blocks 1 pixel at a
// quarter of the size.
const smallest = 5

// Net is a style network on a device.
type Net struct {
	dev      *torch.Device
	strength float32
	layers   []layer
}

type layer struct {
	w, b         *torch.Tensor
	scale, shift *torch.Tensor // of the norm; nil: none
}

// Open loads the weights of a style. It is an error if the file is not the one
// that the style names. Close gives them back.
func Open(dev *torch.Device, style *spec.Style, path string) (*Net, error) {
	if err := stylize.Check(style.GetKind(), style.GetStrength()); err != nil {
		return nil, err
	}
	file, err := stylize.OpenNetwork(path)
	if err != nil {
		return nil, err
	}
	if file.Sum() != style.Weights {
		return nil, fmt.Errorf("the style network %s is no longer that of the plan; plan again", path)
	}
	n := &Net{dev: dev, strength: float32(style.Strength)}
	return n, dev.Do(func() error {
		for _, l := range file.Layers {
			var made layer
			tensors := map[string]**torch.Tensor{l.Conv + ".conv2d.weight": &made.w, l.Conv + ".conv2d.bias": &made.b}
			if l.Norm != "" {
				tensors[l.Norm+".weight"], tensors[l.Norm+".bias"] = &made.scale, &made.shift
			}
			for name, to := range tensors {
				values, shape, err := file.Values(name)
				if err != nil {
					n.free()
					return fmt.Errorf("reading the style network %s: %w", path, err)
				}
				*to = torch.Of(dev, values, shape...).Keep()
			}
			n.layers = append(n.layers, made)
		}
		return nil
	})
}

// Close gives the weights back.
func (n *Net) Close() error {
	return n.dev.Do(func() error { n.free(); return nil })
}

func (n *Net) free() {
	for _, l := range n.layers {
		for _, t := range []*torch.Tensor{l.w, l.b, l.scale, l.shift} {
			t.Free()
		}
	}
	n.layers = nil
}

// Apply gives an image the style, by its strength: the mean of image and network's
// output, weighed. It may be called from any goroutine,
// outside Device.Do.
func (n *Net) Apply(image raster.Image) (raster.Image, error) {
	out := raster.Image{Size: image.Size}
	if min(image.H, image.W) < smallest {
		return out, fmt.Errorf("an image of %v pixels is too small for a style network, which needs %d", image.Size, smallest)
	}
	err := n.dev.Do(func() error {
		n.dev.NoGrad(func() {
			x := torch.Of(n.dev, image.RGB, 1, 3, int64(image.H), int64(image.W)).To(torch.Float32)
			// Rounded, not cut: the nearest byte.
			y := n.forward(x).Scale(float64(n.strength)).Add(x.Scale(1 - float64(n.strength)))
			out.RGB = y.AddScalar(0.5).To(torch.Uint8).Bytes()
		})
		return nil
	})
	return out, err
}

// Write passes pictures through the style network of a request and writes what
// they become. A picture that cannot be read, or is too large for the memory, is
// told like any other and the rest goes on; an error ends it all.
func Write(ctx context.Context, dev *torch.Device, req *spec.StylizeRequest, emit func(*spec.Stylized) error) (err error) {
	n, err := Open(dev, req.GetStyle(), req.GetWeights())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	for i, p := range req.Pictures {
		if err := ctx.Err(); err != nil {
			return err
		}
		said := &spec.Stylized{Picture: uint32(i)}
		if err := n.write(p); err != nil {
			said.Failure = err.Error()
		}
		if err := emit(said); err != nil {
			return err
		}
	}
	return nil
}

func (n *Net) write(p *spec.Restyled) error {
	im, err := data.ReadImage(p.Image)
	if err != nil {
		return err
	}
	size := raster.Size{H: int(p.Height), W: int(p.Width)}
	if size.Area() == 0 {
		size = im.Size
	}
	styled, err := n.Apply(im.Resized(size))
	if torch.OutOfMemory(err) {
		return fmt.Errorf("there is not memory enough for %v pixels", size)
	}
	if err != nil {
		return err
	}
	return data.WriteImage(p.Out, styled)
}

// forward is the network on [1, 3, H, W], 0 to 255, and gives the same. It is
// called on the device's thread, without gradients.
func (n *Net) forward(x *torch.Tensor) *torch.Tensor {
	h, w := x.Dim(2), x.Dim(3)
	at := 0
	next := func(x *torch.Tensor, stride int64) *torch.Tensor {
		l := n.layers[at]
		at++
		return n.dev.Yield(func() *torch.Tensor {
			y := torch.Conv2d(x.PadReflected(l.w.Dim(-1)/2), l.w, l.b, stride, 0)
			if l.scale != nil {
				y = torch.InstanceNorm(y, l.scale, l.shift, eps)
			}
			return y
		})
	}
	twice := func(x *torch.Tensor) *torch.Tensor { return x.UpsampleNearest(2*x.Dim(2), 2*x.Dim(3)) }
	return n.dev.Yield(func() *torch.Tensor {
		x := next(x, 1).ReLU()
		x = next(x, 2).ReLU()
		x = next(x, 2).ReLU()
		for len(n.layers)-at > 3 {
			x = x.Add(next(next(x, 1).ReLU(), 1))
		}
		x = next(twice(x), 1).ReLU()
		x = next(twice(x), 1).ReLU()
		// Sides that 4 does not divide come out longer; pixels of the beginning
		// stay where they were.
		return next(x, 1).Narrow(2, 0, h).Narrow(3, 0, w).Clamp(0, 255)
	})
}
