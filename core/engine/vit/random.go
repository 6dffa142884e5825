package vit

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/tensors"
)

// WriteRandom writes model.safetensors and config.json of a ViT with random
// weights, as transformers loads it, and returns the path of the weights. A
// plug-in is compared with PEFT over one.
func WriteRandom(dir string, a *spec.Architecture, seed uint64) (string, error) {
	if a.GetFamily() != "vit" || a.GetGridH() != a.GetGridW() {
		return "", errors.New("only a ViT for square images is written")
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	shapes := tensors.Expected(a)
	var written []safetensors.Tensor
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		shape := shapes[name]
		n, in := int64(1), int64(1)
		for i, d := range shape {
			n *= d
			if i > 0 {
				in *= d
			}
		}
		v := make([]float32, n)
		std := 0.5
		if strings.HasSuffix(name, ".weight") && len(shape) > 1 {
			std = 1 / math.Sqrt(float64(in))
		}
		rng.New(seed, "vit", name).Normal(v, std)
		if strings.Contains(name, "norm") && strings.HasSuffix(name, ".weight") {
			for i := range v {
				v[i] = 1 + v[i]/5
			}
		}
		written = append(written, safetensors.FromFloat32(name, v, shape...))
	}
	config, err := json.MarshalIndent(map[string]any{
		"model_type": "vit", "architectures": []string{"ViTModel"}, "hidden_act": "gelu", "num_channels": 3,
		"hidden_size": a.Dim, "num_hidden_layers": a.Depth, "num_attention_heads": a.Heads, "intermediate_size": a.Mlp,
		"image_size": a.GridH * a.Patch, "patch_size": a.Patch, "layer_norm_eps": a.Eps, "qkv_bias": a.QkvBias, "dtype": "float32",
	}, "", "  ")
	if err != nil {
		return "", fmt.Errorf("writing config.json: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o666); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "model.safetensors")
	return path, safetensors.Write(path, written, map[string]string{"format": "pt"})
}
