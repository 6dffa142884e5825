package design

import (
	"slices"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
)

// The linear layers that adapters are placed at, by the names that experiments use.
const (
	SiteQuery  = "query"
	SiteKey    = "key"
	SiteValue  = "value"
	SiteOutput = "output"
	SiteFC1    = "fc1"
	SiteFC2    = "fc2"
	SitePatch  = "patch" // of the model
)

// Sites are the layers of a block that can be adapted, in the order in which it
// computes them.
var Sites = []string{SiteQuery, SiteKey, SiteValue, SiteOutput, SiteFC1, SiteFC2}

// layer is a linear layer of a block.
type layer struct {
	site    string
	name    Name
	out, in uint32
	bias    bool
}

// layers of a block, in the order of Sites.
func (r *Row) layers(a *spec.Architecture) []layer {
	d, hidden := a.GetDim(), a.GetMlp()
	return []layer{
		{SiteQuery, r.Attention.Query, d, d, a.GetQkvBias()},
		{SiteKey, r.Attention.Key, d, d, a.GetQkvBias()},
		{SiteValue, r.Attention.Value, d, d, a.GetQkvBias()},
		{SiteOutput, r.Attention.Output, d, d, true},
		{SiteFC1, r.MLP.FC1, hidden, d, true},
		{SiteFC2, r.MLP.FC2, d, hidden, true},
	}
}

func (r *Row) layer(a *spec.Architecture, site string) (layer, bool) {
	layers := r.layers(a)
	i := slices.IndexFunc(layers, func(l layer) bool { return l.site == site })
	if i < 0 {
		return layer{}, false
	}
	return layers[i], true
}

// Site is a layer of a block as variants see it; false if the architecture has none
// of this name.
func Site(a *spec.Architecture, block uint32, name string) (*protocol.Site, bool) {
	r, err := Of(a)
	if err != nil {
		return nil, false
	}
	l, ok := r.layer(a, name)
	return &protocol.Site{Name: name, Block: block, Kind: protocol.Site_LINEAR, In: l.in, Out: l.out, Bias: l.bias}, ok
}
