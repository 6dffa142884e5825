package design

import "slices"

// The rows, with the names, sizes and defaults of the library: ViTModel, DeiTModel
// (Touvron et al., arXiv:2012.12877), Dinov2Model (Oquab et al., arXiv:2304.07193)
// and Dinov2WithRegistersModel (Darcet et al., arXiv:2309.16588). Of two rows of a
// family the one without registers comes first.
var table = []Row{
	{
		Type: "vit", Family: "vit", Title: "ViT", Class: "ViTModel",
		Embeddings: "embeddings", Placed: []string{cls}, Positions: positions, Patches: patches,
		Blocks: Name{"encoder.layer", "layers"}, Attention: attention("layernorm_before", ""),
		MLP:  MLP{Norm: "layernorm_after", FC1: Name{"intermediate.dense", "mlp.fc1"}, FC2: Name{"output.dense", "mlp.fc2"}, Activation: "gelu"},
		Norm: "layernorm", Unused: slices.Concat(pooler, classifier, pretraining),
		Config: Config{Patch: 16, Eps: 1e-12},
		Images: Images{"ViTImageProcessor", []float64{.5, .5, .5}, []float64{.5, .5, .5}},
	},
	{
		Type: "deit", Family: "deit", Title: "DeiT", Class: "DeiTModel",
		Embeddings: "embeddings", Placed: []string{cls, "embeddings.distillation_token"}, Positions: positions, Patches: patches,
		Blocks: Name{"encoder.layer", "layers"}, Attention: attention("layernorm_before", ""),
		MLP:  MLP{Norm: "layernorm_after", FC1: Name{"intermediate.dense", "mlp.fc1"}, FC2: Name{"output.dense", "mlp.fc2"}, Activation: "gelu"},
		Norm: "layernorm", Unused: slices.Concat(pooler, classifier, pretraining, []string{
			"cls_classifier.weight", "cls_classifier.bias", "distillation_classifier.weight", "distillation_classifier.bias",
		}),
		Config: Config{Patch: 16, Eps: 1e-12},
		Images: Images{"DeiTImageProcessor", imageNetMean, imageNetStd},
	},
	{
		Type: "dinov2", Family: "dinov2", Title: "DINOv2", Class: "Dinov2Model",
		Embeddings: "embeddings", Placed: []string{cls}, Positions: positions, Patches: patches,
		Blocks: Name{"encoder.layer", "encoder.layer"}, Attention: attention("norm1", "layer_scale1.lambda1"),
		MLP:  MLP{Norm: "norm2", FC1: Name{"mlp.fc1", "mlp.fc1"}, FC2: Name{"mlp.fc2", "mlp.fc2"}, Activation: "gelu", Scale: "layer_scale2.lambda1"},
		Norm: "layernorm", Unused: slices.Concat(classifier, masks),
		Config: Config{Patch: 14, Eps: 1e-6, Ratio: true},
		Images: Images{"BitImageProcessor", imageNetMean, imageNetStd},
	},
	{
		Type: "dinov2_with_registers", Family: "dinov2", Title: "DINOv2", Class: "Dinov2WithRegistersModel",
		Embeddings: "embeddings", Placed: []string{cls}, Registers: "embeddings.register_tokens", Positions: positions, Patches: patches, Resize: Antialiased,
		Blocks: Name{"encoder.layer", "encoder.layer"}, Attention: attention("norm1", "layer_scale1.lambda1"),
		MLP:  MLP{Norm: "norm2", FC1: Name{"mlp.fc1", "mlp.fc1"}, FC2: Name{"mlp.fc2", "mlp.fc2"}, Activation: "gelu", Scale: "layer_scale2.lambda1"},
		Norm: "layernorm", Unused: slices.Concat(classifier, masks),
		Config: Config{Patch: 16, Eps: 1e-6, Registers: 4, Ratio: true},
		Images: Images{"BitImageProcessor", imageNetMean, imageNetStd},
	},
}

const (
	cls       = "embeddings.cls_token"
	positions = "embeddings.position_embeddings"
	patches   = "embeddings.patch_embeddings.projection"
)

func attention(norm, scale string) Attention {
	return Attention{
		Norm:   norm,
		Query:  Name{"attention.attention.query", "attention.q_proj"},
		Key:    Name{"attention.attention.key", "attention.k_proj"},
		Value:  Name{"attention.attention.value", "attention.v_proj"},
		Output: Name{"attention.output.dense", "attention.o_proj"},
		Joined: "attention.attention.qkv", Scale: scale,
	}
}

// Parts of published files: the pooler behind the CLS token, the classifier, the
// token and the decoder of masked pretraining.
var (
	pooler      = []string{"pooler.dense.weight", "pooler.dense.bias"}
	classifier  = []string{"classifier.weight", "classifier.bias"}
	masks       = []string{"embeddings.mask_token"}
	pretraining = []string{"embeddings.mask_token", "decoder.0.weight", "decoder.0.bias"}

	imageNetMean, imageNetStd = []float64{0.485, 0.456, 0.406}, []float64{0.229, 0.224, 0.225}
)
