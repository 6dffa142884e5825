package stylize

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/regular"
	"github.com/loralab/loralab/core/safetensors"
)

// Network is the kind of style whose look is in the weights of a network. The
// package core/engine/stylenet computes it; here is what its file has to hold.
const Network = "network"

// residuals is how many residual blocks a style network has.
const residuals = 5

// NetworkLayer is a convolution of a style network, and the norm behind it.
type NetworkLayer struct {
	Conv string // its weight is Conv + ".conv2d.weight"
	Norm string // "": none
	In   int64  // channels
	Out  int64
	Side int64 // of the kernel
}

// NetworkLayers are the layers of the network of PyTorch's fast_neural_style
// example (Johnson, Alahi and Fei-Fei, arXiv:1603.08155, with instance norm), in
// the order in which they compute, for the widths of its five inner stages.
// Published weights have 32, 64, 128, 64 and 32 channels: 1,679,235 numbers.
func NetworkLayers(widths [5]int64) []NetworkLayer {
	a, b, c, d, e := widths[0], widths[1], widths[2], widths[3], widths[4]
	layers := []NetworkLayer{{"conv1", "in1", 3, a, 9}, {"conv2", "in2", a, b, 3}, {"conv3", "in3", b, c, 3}}
	for i := range residuals {
		for j := range 2 {
			at := fmt.Sprintf("res%d.", i+1)
			layers = append(layers, NetworkLayer{at + fmt.Sprintf("conv%d", j+1), at + fmt.Sprintf("in%d", j+1), c, c, 3})
		}
	}
	return append(layers, NetworkLayer{"deconv1", "in4", c, d, 3}, NetworkLayer{"deconv2", "in5", d, e, 3}, NetworkLayer{"deconv3", "", e, 3, 9})
}

// tensors of a layer, without their values.
func (l NetworkLayer) tensors() []safetensors.Tensor {
	list := []safetensors.Tensor{
		{Name: l.Conv + ".conv2d.weight", Shape: []int64{l.Out, l.In, l.Side, l.Side}},
		{Name: l.Conv + ".conv2d.bias", Shape: []int64{l.Out}},
	}
	if l.Norm != "" {
		list = append(list, safetensors.Tensor{Name: l.Norm + ".weight", Shape: []int64{l.Out}}, safetensors.Tensor{Name: l.Norm + ".bias", Shape: []int64{l.Out}})
	}
	return list
}

// NetworkFile is the weights of a style network, in memory.
type NetworkFile struct {
	Layers []NetworkLayer
	file   *safetensors.File
}

// OpenNetwork reads the weights of a style network, whose widths it reads from
// their shapes. A file that lacks something, or has what no style network has, is
// an error that lists it. The running means and variances that files of old
// versions of PyTorch carry are not looked at: an instance norm has none.
func OpenNetwork(path string) (*NetworkFile, error) {
	f, err := readWeights(path)
	if err != nil {
		if pickled(path) {
			return nil, &PickledError{path}
		}
		return nil, fmt.Errorf("reading the style network %s: %w", path, err)
	}
	n := &NetworkFile{file: f}
	if err := n.read(); err != nil {
		return nil, fmt.Errorf("%s is no style network as in PyTorch's fast_neural_style: %w", path, err)
	}
	return n, nil
}

// mostNetwork bounds the file of a style network; published ones have 7 MB.
const mostNetwork = 1 << 30

// readWeights reads a file into memory, where it cannot change.
func readWeights(path string) (*safetensors.File, error) {
	content, err := regular.Read(path, mostNetwork)
	if err != nil {
		return nil, err
	}
	return safetensors.Parse(content)
}

// Sum is the SHA-256 of the file as it was read, in hex.
func (n *NetworkFile) Sum() string { return n.file.Sum() }

func (n *NetworkFile) read() error {
	widths := [...]int64{32, 64, 128, 64, 32} // as published, where the file does not tell
	for i, name := range []string{"conv1", "conv2", "conv3", "deconv1", "deconv2"} {
		if t, ok := n.file.Get(name + ".conv2d.weight"); ok && len(t.Shape) == 4 {
			widths[i] = t.Shape[0]
		}
	}
	n.Layers = NetworkLayers(widths)
	var want, got []safetensors.Tensor
	for _, l := range n.Layers {
		want = append(want, l.tensors()...)
	}
	for _, name := range n.file.Names() {
		if strings.HasSuffix(name, ".running_mean") || strings.HasSuffix(name, ".running_var") || strings.HasSuffix(name, ".num_batches_tracked") {
			continue
		}
		t, _ := n.file.Get(name)
		got = append(got, t)
	}
	return safetensors.Match(want, got)
}

// Params is how many numbers the network has.
func (n *NetworkFile) Params() (sum int64) {
	for _, l := range n.Layers {
		for _, t := range l.tensors() {
			numel := int64(1)
			for _, s := range t.Shape {
				numel *= s
			}
			sum += numel
		}
	}
	return sum
}

// Values are those of a tensor that OpenNetwork has found.
func (n *NetworkFile) Values(name string) (values []float32, shape []int64, err error) {
	t, ok := n.file.Get(name)
	if !ok {
		return nil, nil, fmt.Errorf("there is no tensor %s", name)
	}
	values, err = t.Float32()
	return values, slices.Clone(t.Shape), err
}

// PickledError is a file in the form that torch.save writes, which can hold any
// program and is not read.
type PickledError struct{ Path string }

func (e *PickledError) Error() string {
	return fmt.Sprintf("%s is a file of torch.save, not safetensors", e.Path)
}

// Cure is the command that converts the file.
func (e *PickledError) Cure() string {
	to := e.Path
	if i := strings.LastIndexByte(to, '.'); i > strings.LastIndexByte(to, '/') {
		to = to[:i]
	}
	return fmt.Sprintf(`convert it to safetensors, like this: python3 -c 'import torch; from safetensors.torch import save_file; save_file(torch.load(%q, "cpu", weights_only=True), %q)'`, e.Path, to+".safetensors")
}

// pickled reports whether a file begins as those of torch.save do: a zip, or
// before version 1.6 a pickle.
func pickled(path string) bool {
	f, err := regular.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var head [4]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return false
	}
	return bytes.HasPrefix(head[:], []byte("PK\x03\x04")) || head[0] == 0x80 && head[1] >= 2 && head[1] <= 5
}
