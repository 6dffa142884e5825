package design

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/loralab/loralab/core/spec"
)

// Versions of transformers whose names of modules are known, newest first. PEFT's
// files are keyed by them. Version 5 renamed the layers of the attention and, of
// ViTModel, the list of blocks.
var Versions = []int{5, 4}

const (
	// Newest is the version whose names are written unless another is asked for.
	Newest = 5
	// FileVersion is the one whose names are those of files of weights.
	FileVersion = 4
)

func (n Name) in(version int) string {
	if version == FileVersion {
		return n.V4
	}
	return n.V5
}

// Library is where the code of the class is: "transformers.models.vit.modeling_vit".
func (r *Row) Library() string { return "transformers.models." + r.Type + ".modeling_" + r.Type }

// Module is the name of the module at a site, in a version of transformers:
// "layers.3.attention.q_proj". A stream is no module, which is an error.
func Module(a *spec.Architecture, version int, block uint32, site string) (string, error) {
	r, err := Of(a)
	switch {
	case err != nil:
		return "", err
	case !slices.Contains(Versions, version):
		return "", fmt.Errorf("the modules of %s in transformers %d are not known", r.Type, version)
	case site == SitePatch:
		return r.Patches, nil
	}
	l, ok := r.layer(a, site)
	if !ok {
		return "", fmt.Errorf("%s is no module of transformers", site)
	}
	return r.module(version, block, l), nil
}

func (r *Row) module(version int, block uint32, l layer) string {
	return fmt.Sprintf("%s.%d.%s", r.Blocks.in(version), block, l.name.in(version))
}

// Place is where a module is.
type Place struct {
	Block uint32
	Site  string
}

// Compare orders places as the model computes them.
func (p Place) Compare(q Place) int {
	first := func(p Place) int { return min(0, slices.Index(Sites, p.Site)) } // the patch embedding
	return cmp.Or(
		cmp.Compare(first(p), first(q)), cmp.Compare(p.Block, q.Block),
		cmp.Compare(slices.Index(Sites, p.Site), slices.Index(Sites, q.Site)),
	)
}

// Modules are the linear layers in the blocks of an architecture and the patch
// embedding, by their names in a version of transformers.
func Modules(a *spec.Architecture, version int) (map[string]Place, error) {
	r, err := Of(a)
	if err != nil {
		return nil, err
	}
	all := map[string]Place{r.Patches: {Site: SitePatch}}
	for block := range a.GetDepth() {
		for _, l := range r.layers(a) {
			all[r.module(version, block, l)] = Place{block, l.site}
		}
	}
	return all, nil
}
