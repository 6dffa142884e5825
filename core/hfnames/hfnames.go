// Package hfnames knows the names under which Hugging Face's transformers
// keeps the parts of a backbone: PEFT's files are keyed by them, and so are
// published weights.
//
// Version 5 renamed the layers of the attention and, of ViTModel, the list of
// blocks. Files of weights keep the names of version 4, also those that version
// 5 writes.
package hfnames

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/loralab/loralab/core/spec"
)

// Versions whose names are known, newest first.
var Versions = []int{5, 4}

// Newest is the version whose names are written unless another is asked for.
const Newest = 5

// layout is the names of one family in one version: of the list of blocks, and
// of the layers within a block by site.
type layout struct {
	blocks         string
	attention, mlp map[string]string
}

func (l layout) module(block uint32, site string) (string, bool) {
	name, ok := l.attention[site]
	if !ok {
		name, ok = l.mlp[site]
	}
	return l.blocks + "." + strconv.Itoa(int(block)) + "." + name, ok
}

var (
	attention4 = map[string]string{
		"query": "attention.attention.query", "key": "attention.attention.key", "value": "attention.attention.value",
		"output": "attention.output.dense",
	}
	attention5 = map[string]string{
		"query": "attention.q_proj", "key": "attention.k_proj", "value": "attention.v_proj", "output": "attention.o_proj",
	}
	oldMLP = map[string]string{"fc1": "intermediate.dense", "fc2": "output.dense"}
	newMLP = map[string]string{"fc1": "mlp.fc1", "fc2": "mlp.fc2"}

	vit = map[int]layout{
		4: {"encoder.layer", attention4, oldMLP},
		5: {"layers", attention5, newMLP},
	}
	layouts = map[string]map[int]layout{
		"vit":  vit,
		"deit": vit,
		"dinov2": {
			4: {"encoder.layer", attention4, newMLP},
			5: {"encoder.layer", attention5, newMLP},
		},
	}
)

// patch is the module of the patch embedding, a convolution.
const patch = "embeddings.patch_embeddings.projection"

// order of sites as a model computes them.
var order = []string{"patch", "query", "key", "value", "output", "fc1", "fc2"}

// ModelType is how config.json calls an architecture, and the name under which
// models with a task hold it: "vit", "deit", "dinov2", "dinov2_with_registers".
func ModelType(a *spec.Architecture) string {
	if a.GetFamily() == "dinov2" && a.GetRegisters() > 0 {
		return "dinov2_with_registers"
	}
	return a.GetFamily()
}

// Class is the model that transformers builds for an architecture, and where
// its code is: "ViTModel", "transformers.models.vit.modeling_vit".
func Class(a *spec.Architecture) (class, library string) {
	kind := ModelType(a)
	class = map[string]string{
		"vit": "ViTModel", "deit": "DeiTModel", "dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel",
	}[kind]
	return class, "transformers.models." + kind + ".modeling_" + kind
}

// Module is the name of the module at a site, in a version of transformers:
// "layers.3.attention.q_proj". A stream is no module, which is an error.
func Module(a *spec.Architecture, version int, block uint32, site string) (string, error) {
	l, ok := layouts[a.GetFamily()][version]
	if !ok {
		return "", fmt.Errorf("the modules of %s in transformers %d are not known", a.GetFamily(), version)
	}
	if site == "patch" {
		return patch, nil
	}
	name, ok := l.module(block, site)
	if !ok {
		return "", fmt.Errorf("%s is no module of transformers", site)
	}
	return name, nil
}

// Place is where a module is.
type Place struct {
	Block uint32
	Site  string
}

// Compare orders places as the model computes them.
func (p Place) Compare(q Place) int {
	first := func(p Place) int { return min(1, slices.Index(order, p.Site)) } // the patch embedding
	return cmp.Or(
		cmp.Compare(first(p), first(q)), cmp.Compare(p.Block, q.Block),
		cmp.Compare(slices.Index(order, p.Site), slices.Index(order, q.Site)),
	)
}

// Modules are the linear layers in the blocks of an architecture and the patch
// embedding, by their names in a version of transformers.
func Modules(a *spec.Architecture, version int) map[string]Place {
	l := layouts[a.GetFamily()][version]
	all := map[string]Place{patch: {Site: "patch"}}
	for block := range a.GetDepth() {
		for _, site := range order {
			if name, ok := l.module(block, site); ok {
				all[name] = Place{block, site}
			}
		}
	}
	return all
}
