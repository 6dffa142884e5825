package vit

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/rng"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/vit/design"
)

// WriteRandom writes model.safetensors and config.json of a ViT with random
// weights, as transformers loads it, and returns the path of the weights. A
// plug-in is compared with PEFT over one.
func WriteRandom(dir string, a *spec.Architecture, seed uint64) (string, error) {
	row, ok := design.Find("vit")
	if !ok || a.GetFamily() != row.Family || a.GetGridH() != a.GetGridW() {
		return "", errors.New("only a ViT for square images is written")
	}
	list, err := design.Tensors(a, int(a.GetDepth()))
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return "", err
	}
	var parts []design.Part
	for _, t := range list {
		parts = append(parts, t.Parts...)
	}
	slices.SortFunc(parts, func(p, q design.Part) int { return strings.Compare(p.Name, q.Name) })
	var written []safetensors.Tensor
	for _, p := range parts {
		name, shape := p.Name, p.Shape
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
		"model_type": row.Type, "architectures": []string{row.Class}, "hidden_act": row.MLP.Activation, "num_channels": 3,
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
