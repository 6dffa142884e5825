package design

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/loralab/loralab/core/exactjson"
	"github.com/loralab/loralab/core/spec"
)

// size is a number or a pair [height, width] in JSON.
type size struct{ h, w uint32 }

func (s *size) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, &s.h); err == nil {
		s.w = s.h
		return nil
	}
	var pair []uint32
	if err := json.Unmarshal(b, &pair); err != nil || len(pair) != 2 {
		return fmt.Errorf("%s is neither a size nor a pair of them", b)
	}
	s.h, s.w = pair[0], pair[1]
	return nil
}

// Parse reads the config.json of a model. Hugging Face leaves out what has its
// default value, so the defaults here are those of transformers.
func Parse(text []byte) (*spec.Architecture, error) {
	var kind struct {
		ModelType string `json:"model_type"`
	}
	if err := exactjson.Unmarshal(text, &kind); err != nil {
		return nil, fmt.Errorf("is not JSON of a model: %w", err)
	}
	if kind.ModelType == "" {
		return nil, fmt.Errorf("has no model_type: it should be the config.json of a Hugging Face %s model", Titles())
	}
	row, ok := Find(kind.ModelType)
	if !ok {
		return nil, fmt.Errorf("model_type %q is not supported: it must be %s", kind.ModelType, either(Types()))
	}
	c := struct {
		Hidden       uint32  `json:"hidden_size"`
		Layers       uint32  `json:"num_hidden_layers"`
		Heads        uint32  `json:"num_attention_heads"`
		Intermediate uint32  `json:"intermediate_size"`
		Ratio        float64 `json:"mlp_ratio"`
		Act          string  `json:"hidden_act"`
		Eps          float64 `json:"layer_norm_eps"`
		Image        size    `json:"image_size"`
		Patch        size    `json:"patch_size"`
		Channels     uint32  `json:"num_channels"`
		QKVBias      bool    `json:"qkv_bias"`
		SwiGLU       bool    `json:"use_swiglu_ffn"`
		Registers    uint32  `json:"num_register_tokens"`
	}{
		Hidden: 768, Layers: 12, Heads: 12, Intermediate: 3072, Ratio: 4, Act: row.MLP.Activation,
		Image: size{224, 224}, Channels: 3, QKVBias: true,
		Patch: size{row.Config.Patch, row.Config.Patch}, Eps: row.Config.Eps, Registers: row.Config.Registers,
	}
	if err := exactjson.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("is not the configuration of a model: %w", err)
	}
	for _, n := range []struct {
		name  string
		value uint32
		most  uint32
	}{
		{"num_hidden_layers", c.Layers, 1000},
		{"hidden_size", c.Hidden, 1 << 16},
		{"intermediate_size", c.Intermediate, 1 << 20},
		{"num_register_tokens", c.Registers, 10_000},
		{"image_size", max(c.Image.h, c.Image.w), 1 << 16},
		{"patch_size", max(c.Patch.h, c.Patch.w), 1 << 12},
	} {
		if n.value > n.most {
			return nil, fmt.Errorf("%s is %d, and at most %d is read: no model is as large", n.name, n.value, n.most)
		}
	}
	mlp := float64(c.Intermediate)
	if row.Config.Ratio {
		mlp = math.Floor(float64(c.Hidden) * c.Ratio)
	}
	switch {
	case c.SwiGLU:
		return nil, errors.New("use_swiglu_ffn is not supported")
	case c.Act != row.MLP.Activation:
		return nil, fmt.Errorf("hidden_act %q is not supported: it must be %s", c.Act, row.MLP.Activation)
	case c.Channels != 3:
		return nil, fmt.Errorf("num_channels is %d: images have 3", c.Channels)
	case c.Patch.h != c.Patch.w || c.Patch.h == 0:
		return nil, fmt.Errorf("patch_size %d×%d is not supported: patches must be square", c.Patch.h, c.Patch.w)
	case c.Image.h < c.Patch.h || c.Image.w < c.Patch.w:
		return nil, fmt.Errorf("image_size %d×%d is smaller than a patch", c.Image.h, c.Image.w)
	case c.Layers == 0 || c.Hidden == 0 || !(mlp >= 1 && mlp <= 1<<20):
		return nil, fmt.Errorf("hidden_size %d, num_hidden_layers %d and a hidden layer of %g cannot be", c.Hidden, c.Layers, mlp)
	case row.Registers == "" && c.Registers != 0:
		return nil, fmt.Errorf("num_register_tokens is %d: %s has none", c.Registers, row.Type)
	case c.Heads == 0 || c.Hidden%c.Heads != 0:
		return nil, fmt.Errorf("hidden_size %d cannot be shared among %d heads", c.Hidden, c.Heads)
	case !(c.Eps > 0):
		return nil, fmt.Errorf("layer_norm_eps is %g", c.Eps)
	}
	return &spec.Architecture{
		Family: row.Family, Dim: c.Hidden, Depth: c.Layers, Heads: c.Heads, Mlp: uint32(mlp), Patch: c.Patch.h,
		GridH: c.Image.h / c.Patch.h, GridW: c.Image.w / c.Patch.w, Eps: c.Eps, QkvBias: c.QKVBias,
		Registers: c.Registers,
	}, nil
}
