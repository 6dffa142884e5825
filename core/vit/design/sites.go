package design

import (
	"slices"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
)

// The places of adapters, by the names that experiments use.
const (
	SiteQuery  = "query"
	SiteKey    = "key"
	SiteValue  = "value"
	SiteOutput = "output"
	SiteFC1    = "fc1"
	SiteFC2    = "fc2"
	SitePatch  = "patch" // of the model: its patch embedding, as a linear layer
	// Streams: what several layers of a block read, after the norm.
	SiteAttnIn = "attn_in" // query, key and value
	SiteMLPIn  = "mlp_in"  // fc1
)

// Sites are the linear layers of a block that can be adapted, in the order in which
// it computes them.
var Sites = []string{SiteQuery, SiteKey, SiteValue, SiteOutput, SiteFC1, SiteFC2}

// Targets are all places that can be adapted, in the order in which a model computes
// them: that of the model, then those of a block.
var Targets = []string{SitePatch, SiteAttnIn, SiteQuery, SiteKey, SiteValue, SiteOutput, SiteMLPIn, SiteFC1, SiteFC2}

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

// Site is one of Targets as variants see it; false if the architecture has none of
// this name. The patch embedding is in no block, and its block is 0.
func Site(a *spec.Architecture, block uint32, name string) (*protocol.Site, bool) {
	r, err := Of(a)
	if err != nil {
		return nil, false
	}
	d, p := a.GetDim(), a.GetPatch()
	switch name {
	case SitePatch:
		return &protocol.Site{Name: name, Kind: protocol.Site_PATCH, In: 3 * p * p, Out: d, Bias: true}, true
	case SiteAttnIn, SiteMLPIn:
		return &protocol.Site{Name: name, Block: block, Kind: protocol.Site_STREAM, In: d, Out: d}, true
	}
	l, ok := r.layer(a, name)
	return &protocol.Site{Name: name, Block: block, Kind: protocol.Site_LINEAR, In: l.in, Out: l.out, Bias: l.bias}, ok
}
