// Package transformers knows the names under which Hugging Face's transformers
// keeps the parts of a backbone: PEFT's files are keyed by them, and so are
// published weights.
//
// Version 5 renamed the layers of the attention and, of ViTModel, the list of
// blocks. Files of weights keep the names of version 4, also those that version
// 5 writes.
package transformers

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/core/spec"
)

// Versions whose names are known, newest first.
var Versions = []int{5, 4}

// Newest is the version whose names are written unless another is asked for.
const Newest = 5

// layout is the names of one family in one version. Sites in the order in which
// the layers of a block compute.
type layout struct {
	blocks string
	sites  map[string]string
}

var dinov2 = map[int]layout{
	4: {"encoder.layer", map[string]string{
		"query": "attention.attention.query", "key": "attention.attention.key", "value": "attention.attention.value",
		"output": "attention.output.dense", "fc1": "mlp.fc1", "fc2": "mlp.fc2",
	}},
	5: {"encoder.layer", map[string]string{
		"query": "attention.q_proj", "key": "attention.k_proj", "value": "attention.v_proj",
		"output": "attention.o_proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2",
	}},
}

var layouts = map[string]map[int]layout{
	"vit": {
		4: {"encoder.layer", map[string]string{
			"query": "attention.attention.query", "key": "attention.attention.key", "value": "attention.attention.value",
			"output": "attention.output.dense", "fc1": "intermediate.dense", "fc2": "output.dense",
		}},
		5: {"layers", map[string]string{
			"query": "attention.q_proj", "key": "attention.k_proj", "value": "attention.v_proj",
			"output": "attention.o_proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2",
		}},
	},
	"dinov2": dinov2,
}

// patch is the module of the patch embedding, a convolution.
const patch = "embeddings.patch_embeddings.projection"

// Class is the model that transformers builds for an architecture, and where
// its code is: "ViTModel", "transformers.models.vit.modeling_vit".
func Class(a *spec.Architecture) (class, library string) {
	switch {
	case a.GetFamily() == "vit":
		return "ViTModel", "transformers.models.vit.modeling_vit"
	case a.GetRegisters() > 0:
		return "Dinov2WithRegistersModel", "transformers.models.dinov2_with_registers.modeling_dinov2_with_registers"
	}
	return "Dinov2Model", "transformers.models.dinov2.modeling_dinov2"
}

// ModelType is how config.json calls an architecture, and the name under which
// models with a task hold it: "vit", "dinov2", "dinov2_with_registers".
func ModelType(a *spec.Architecture) string {
	if a.GetFamily() == "dinov2" && a.GetRegisters() > 0 {
		return "dinov2_with_registers"
	}
	return a.GetFamily()
}

// Module is the name of the module at a site, in a version of transformers:
// "layers.3.attention.q_proj". It is an error for a site that is no module, a
// stream.
func Module(a *spec.Architecture, version int, block uint32, site string) (string, error) {
	l, ok := layouts[a.GetFamily()][version]
	if !ok {
		return "", fmt.Errorf("the modules of %s in transformers %d are not known", a.GetFamily(), version)
	}
	if site == "patch" {
		return patch, nil
	}
	name, ok := l.sites[site]
	if !ok {
		return "", fmt.Errorf("%s is no module of transformers", site)
	}
	return l.blocks + "." + strconv.Itoa(int(block)) + "." + name, nil
}

// Place is where a module is.
type Place struct {
	Block uint32
	Site  string
}

// Modules are all linear layers in the blocks of an architecture, and the patch
// embedding, by their names in a version of transformers.
func Modules(a *spec.Architecture, version int) map[string]Place {
	l := layouts[a.GetFamily()][version]
	all := map[string]Place{patch: {Site: "patch"}}
	for block := range a.GetDepth() {
		for site, name := range l.sites {
			all[l.blocks+"."+strconv.Itoa(int(block))+"."+name] = Place{block, site}
		}
	}
	return all
}

// Prefixes stand before the names of modules in files: PEFT's own, and that of
// the backbone within a model with a task.
func prefixes(a *spec.Architecture) []string {
	task := ModelType(a) + "."
	return []string{"base_model.model." + task, "base_model.model.", task, ""}
}

// Plain is a name in a file without the prefixes of PEFT and of models with a
// task.
func Plain(a *spec.Architecture, name string) string {
	for _, p := range prefixes(a) {
		if rest, ok := strings.CutPrefix(name, p); ok {
			return rest
		}
	}
	return name
}

// ByPlace orders modules as the model computes them.
func ByPlace(a, b Place) int {
	order := []string{"patch", "query", "key", "value", "output", "fc1", "fc2"}
	return cmp.Or(cmp.Compare(a.Block, b.Block), cmp.Compare(slices.Index(order, a.Site), slices.Index(order, b.Site)))
}
