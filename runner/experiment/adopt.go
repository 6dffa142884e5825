package experiment

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/peft"
)

// Adapters that are read from files (adapter.from): the files say what variant,
// parameters and layers are; what an experiment says beside has to agree.

// adopt reads the adapter of a cell.
func (x *expansion) adopt(c adapterOn, arch *spec.Architecture) *adaptation {
	dir := c.adapter.From
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(x.root, dir)
	}
	s := peft.Source{
		Dir: dir, Arch: arch, Depth: c.backbone.depth(arch), Variant: c.adapter.Variant,
		Head: c.head.spec(c.backbone.depth(arch)), Classes: mergeClasses(c.data.Classes, c.data.Remap, c.data.Ignore).classes,
	}
	from, err := x.resolve.adopt(x.resolve.ctx, s)
	if err != nil {
		return &adaptation{err: err}
	}
	return &adaptation{params: json.RawMessage(from.Params), model: c.backbone.model(arch), sites: from.Sites, reply: from.Build, from: from}
}

// checkAdopted reports why an adapter cannot be read, and in what it is not
// what the experiment says.
func (x *expansion) checkAdopted(c *subject, cfg *adapterConfig, a *adaptation) {
	if cfg.Variant == none {
		x.fail(c, "adapter.variant", fmt.Sprintf("adapter.variant is %q, and adapter.from names an adapter", none), "leave one of them out")
		return
	}
	if a.err != nil {
		if cfg.Variant == "" || !x.failVariant(c, cfg, a.err) {
			x.fail(c, "adapter.from", a.err.Error(), "")
		}
		return
	}
	if len(a.from.PassedOver) > 0 {
		x.warn(c, "adapter.from", fmt.Sprintf("of the adapter of %s, %s is passed over: no token of the backbone depends on it", cfg.From, strings.Join(a.from.PassedOver, ", ")), "")
	}
	var has, given map[string]any // of the first layers: all have the same names
	if json.Unmarshal([]byte(a.from.Groups[0].Params), &has) != nil || json.Unmarshal(cfg.Params.append(nil), &given) != nil {
		x.fail(c, "adapter.params", "the parameters cannot be compared with those of the adapter", "leave them out")
		return
	}
	var known []string
	for name := range has {
		known = append(known, name)
	}
	slices.Sort(known)
	for name, want := range given {
		path := []string{"adapter", "params", quoteLabel(name)}
		if _, ok := has[name]; !ok {
			x.failAt(c, path, fmt.Sprintf("variant %q has no parameter %q", a.from.Variant, name), diagnostic.Suggest(name, "it knows", known))
			continue
		}
		for _, g := range a.from.Groups { // each may have its own
			var has map[string]any
			if json.Unmarshal([]byte(g.Params), &has) == nil && !reflect.DeepEqual(has[name], want) {
				x.failAt(c, path, fmt.Sprintf("%s is %v here, and %v in the adapter of %s", name, want, has[name], cfg.From), "leave it out: the adapter says it")
				break
			}
		}
	}
	sites, on := places(a.sites)
	if x.given(c, "adapter.targets") && !slices.Equal(slices.Sorted(slices.Values(cfg.Targets)), slices.Sorted(slices.Values(sites))) {
		x.fail(c, "adapter.targets", fmt.Sprintf("the adapter of %s is on %s", cfg.From, strings.Join(sites, ", ")), "leave targets out: the adapter says them")
	}
	blocks, _, _ := cfg.Blocks.of(a.model.GetDepth())
	if x.given(c, "adapter.blocks") && !slices.Equal(blocks, on) {
		x.fail(c, "adapter.blocks", fmt.Sprintf("the adapter of %s is on the blocks %s", cfg.From, strings.Trim(fmt.Sprint(on), "[]")), "leave blocks out: the adapter says them")
	}
}

// places are the layers of a block and the blocks that have an adapter.
func places(all []*protocol.Site) (sites []string, blocks []uint32) {
	for _, s := range all {
		if !slices.Contains(sites, s.GetName()) {
			sites = append(sites, s.GetName())
		}
		if !slices.Contains(blocks, s.GetBlock()) {
			blocks = append(blocks, s.GetBlock())
		}
	}
	return sites, blocks
}

// layersRemark is where the configuration of a cell says what targets, blocks
// and params cannot: which layers have an adapter, and with which parameters,
// if they are not the same everywhere.
const layersRemark = "layers"

// read puts what was read from a file into the adapter of a cell, in the place
// of the defaults: "trial-data F9".
func (x *expansion) read(c *cell, a *adaptation, text json.RawMessage) json.RawMessage {
	sites, blocks := places(a.sites)
	values := map[string]any{"variant": a.from.Variant}
	if !x.given(&c.subject, "adapter.targets") {
		values["targets"] = sites
	}
	if !x.given(&c.subject, "adapter.blocks") {
		values["blocks"] = blocks
	}
	if len(sites)*len(blocks) != len(a.sites) || len(a.from.Groups) > 1 {
		values[layersRemark] = layers(a)
	}
	var names []string
	members := map[string]json.RawMessage{}
	_ = eachMember(text, func(name string, value json.RawMessage) error { // it was read before
		names = append(names, name)
		members[name] = value
		return nil
	})
	for _, name := range []string{"variant", "targets", "blocks", layersRemark} {
		if v, ok := values[name]; ok {
			members[name], _ = json.Marshal(v) // of words and numbers
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	var b strings.Builder
	for i, name := range names {
		label, _ := json.Marshal(name)
		fmt.Fprintf(&b, "%c%s:%s", "{,"[min(i, 1)], label, members[name])
	}
	return json.RawMessage(b.String() + "}")
}

// layerGroup is some layers of an adapter, and the parameters that others have
// otherwise.
type layerGroup struct {
	At     []string                   `json:"at"`
	Params map[string]json.RawMessage `json:"params,omitempty"`
}

func layers(a *adaptation) []layerGroup {
	var common map[string]json.RawMessage
	all := make([]layerGroup, len(a.from.Groups))
	if json.Unmarshal(a.params, &common) != nil {
		return nil // checkAdopted says so
	}
	for i, g := range a.from.Groups {
		on := make([]*protocol.Site, len(g.Of))
		for j, of := range g.Of {
			on[j] = a.sites[of]
		}
		all[i].At = layerRanges(on)
		if json.Unmarshal([]byte(g.Params), &all[i].Params) != nil {
			return nil
		}
		maps.DeleteFunc(all[i].Params, func(name string, _ json.RawMessage) bool { _, same := common[name]; return same })
	}
	return all
}

// layerRanges names layers by site: "query 0..4", "fc1 0 2 3".
func layerRanges(all []*protocol.Site) []string {
	names, _ := places(all)
	list := make([]string, len(names))
	for i, name := range names {
		var blocks []uint32
		for _, s := range all {
			if s.GetName() == name {
				blocks = append(blocks, s.GetBlock())
			}
		}
		slices.Sort(blocks)
		first, last := blocks[0], blocks[len(blocks)-1]
		list[i] = fmt.Sprintf("%s %d..%d", name, first, last)
		if int(last-first) != len(blocks)-1 || first == last {
			list[i] = name + " " + strings.Trim(fmt.Sprint(blocks), "[]")
		}
	}
	return list
}

// checkEpochs allows no epochs where there is something to score.
func (x *expansion) checkEpochs(c *subject, in epochsInput) {
	if in.train.trains() {
		return
	}
	if in.adapter.From == "" {
		x.fail(c, "train.epochs", "with no epochs nothing is trained", "only an adapter that is read from files, adapter.from, can be scored as it is")
		return
	}
	if x.headStaysRandom(in) {
		x.warn(c, "train.epochs", fmt.Sprintf("with no epochs the head stays random, and its scores mean nothing: there is none next to the adapter of %s that fits this one and its classes", in.adapter.From),
			"export and merge the adapter, which is whole; for scores, train for an epoch at least, or take an adapter from runner export, which has its head with it")
	}
}

// headStaysRandom reports whether the head is neither trained nor read from files.
func (x *expansion) headStaysRandom(in epochsInput) bool {
	if in.train.trains() || in.adapter.From == "" {
		return false
	}
	a := x.adaptationOn(in.adapterOn)
	return a != nil && a.from != nil && !a.from.Head
}
