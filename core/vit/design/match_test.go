package design_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/design"
)

// What segmentation has no use for is left out, and anything else is named.
func TestMatch(t *testing.T) {
	arch := &spec.Architecture{Family: "vit", Dim: 4, Depth: 1, Heads: 2, Mlp: 8, Patch: 16, GridH: 2, GridW: 2, Eps: 1e-6, QkvBias: true}
	shapes, err := design.Shapes(arch)
	if err != nil {
		t.Fatal(err)
	}
	match := func(more ...safetensors.Tensor) error {
		var all []safetensors.Tensor
		for name, shape := range shapes {
			all = append(all, zeros("vit."+name, shape))
		}
		path := filepath.Join(t.TempDir(), "model.safetensors")
		if err := safetensors.Write(path, append(all, more...), nil); err != nil {
			t.Fatal(err)
		}
		f, err := safetensors.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_, err = design.Match(path, f, arch)
		return err
	}
	// ViTForMaskedImageModeling has a decoder.
	if err := match(safetensors.FromFloat32("decoder.0.bias", []float32{1}, 1)); err != nil {
		t.Error(err)
	}
	if err := match(safetensors.FromFloat32("decoder.1.bias", []float32{1}, 1)); err == nil || !strings.Contains(err.Error(), "1 unexpected:\n    decoder.1.bias") {
		t.Errorf("got %v", err)
	}
}

func zeros(name string, shape []int64) safetensors.Tensor {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	return safetensors.FromFloat32(name, make([]float32, n), shape...)
}
