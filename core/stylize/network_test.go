package stylize

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/safetensors"
)

// published are the tensors of a network with the widths of published weights,
// and what files of old versions of PyTorch have besides.
func published(old bool) (list []safetensors.Tensor) {
	for _, l := range NetworkLayers([5]int64{32, 64, 128, 64, 32}) {
		for _, t := range l.tensors() {
			n := int64(1)
			for _, s := range t.Shape {
				n *= s
			}
			list = append(list, safetensors.FromFloat32(t.Name, make([]float32, n), t.Shape...))
		}
		if old && l.Norm != "" {
			list = append(list,
				safetensors.FromFloat32(l.Norm+".running_mean", make([]float32, l.Out), l.Out),
				safetensors.FromFloat32(l.Norm+".running_var", make([]float32, l.Out), l.Out))
		}
	}
	return list
}

func TestNetworkOfPublishedWeights(t *testing.T) {
	path := filepath.Join(t.TempDir(), "candy.safetensors")
	if err := safetensors.Write(path, published(true), nil); err != nil {
		t.Fatal(err)
	}
	n, err := OpenNetwork(path)
	if err != nil {
		t.Fatal(err)
	}
	if n.Params() != 1_679_235 {
		t.Errorf("%d parameters, published weights have 1,679,235", n.Params())
	}
	if _, shape, err := n.Values("res5.conv2.conv2d.weight"); err != nil || len(shape) != 4 || shape[0] != 128 {
		t.Errorf("a weight of the last residual block: %v, %v", shape, err)
	}
}

func TestNetworkNamesWhatIsWrong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "candy.safetensors")
	list := published(false)
	list[0].Name = "conv0.conv2d.weight"
	list[2] = safetensors.FromFloat32(list[2].Name, make([]float32, 31), 31)
	if err := safetensors.Write(path, list, nil); err != nil {
		t.Fatal(err)
	}
	_, err := OpenNetwork(path)
	if err == nil {
		t.Fatal("a network that lacks a weight was read")
	}
	for _, want := range []string{"fast_neural_style", "conv1.conv2d.weight [32 3 9 9]", "conv0.conv2d.weight", "in1.weight is [31], want [32]"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

func TestNetworkOfTorchSave(t *testing.T) {
	for _, head := range []string{"PK\x03\x04zip", "\x80\x02pickle"} {
		path := filepath.Join(t.TempDir(), "candy.pth")
		if err := os.WriteFile(path, []byte(head), 0o666); err != nil {
			t.Fatal(err)
		}
		_, err := OpenNetwork(path)
		var pickled *PickledError
		if !errors.As(err, &pickled) || !strings.Contains(pickled.Cure(), "candy.safetensors") {
			t.Errorf("a file of torch.save: %v", err)
		}
	}
}
