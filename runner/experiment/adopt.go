package experiment

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/peft"
)

// Adapters that are read from files (adapter.from): the files say what variant,
// parameters and layers are; what an experiment says beside has to agree.

// adopt reads the adapter of a cell.
func (x *expansion) adopt(c *config, arch *spec.Architecture) *adaptation {
	dir := c.Adapter.From
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(x.root, dir)
	}
	s := peft.Source{
		Dir: dir, Arch: arch, Depth: c.depth(arch), Variant: c.Adapter.Variant,
		Head: c.headSpec(arch), Classes: mergeClasses(c.Data.Classes, c.Data.Remap, c.Data.Ignore).classes,
	}
	from, err := x.resolve.adopt(x.resolve.ctx, s)
	if err != nil {
		return &adaptation{err: err}
	}
	return &adaptation{params: json.RawMessage(from.Params), model: c.model(arch), sites: from.Sites, reply: from.Build, from: from}
}

// checkAdopted reports why an adapter cannot be read, and in what it is not
// what the experiment says.
func (x *expansion) checkAdopted(c *cell, a *adaptation) {
	if a.err != nil {
		x.fail(c, "adapter.from", a.err.Error(), "")
		return
	}
	cfg := c.config.Adapter
	if len(a.from.PassedOver) > 0 {
		x.warn(c, "adapter.from", fmt.Sprintf("of the adapter of %s, %s is passed over: no token of the backbone depends on it", cfg.From, strings.Join(a.from.PassedOver, ", ")), "")
	}
	var has, given map[string]any
	if json.Unmarshal(a.params, &has) != nil || json.Unmarshal(cfg.Params, &given) != nil {
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
		got, ok := has[name]
		switch {
		case !ok:
			x.failAt(c, path, fmt.Sprintf("variant %q has no parameter %q", a.from.Variant, name), diagnostic.Suggest(name, "it knows", known))
		case !reflect.DeepEqual(got, want):
			x.failAt(c, path, fmt.Sprintf("%s is %v here, and %v in the adapter of %s", name, want, got, cfg.From), "leave it out: the adapter says it")
		}
	}
	var sites []string
	var on []uint32
	for _, s := range a.sites {
		if !slices.Contains(sites, s.GetName()) {
			sites = append(sites, s.GetName())
		}
		if !slices.Contains(on, s.GetBlock()) {
			on = append(on, s.GetBlock())
		}
	}
	if x.given(c, "targets") && !slices.Equal(slices.Sorted(slices.Values(cfg.Targets)), slices.Sorted(slices.Values(sites))) {
		x.fail(c, "adapter.targets", fmt.Sprintf("the adapter of %s is on %s", cfg.From, strings.Join(sites, ", ")), "leave targets out: the adapter says them")
	}
	blocks, _, _ := cfg.Blocks.of(a.model.GetDepth())
	if x.given(c, "blocks") && !slices.Equal(blocks, on) {
		x.fail(c, "adapter.blocks", fmt.Sprintf("the adapter of %s is on the blocks %s", cfg.From, strings.Trim(fmt.Sprint(on), "[]")), "leave blocks out: the adapter says them")
	}
}

// given reports whether a file gives a field of the adapter, or a cell does: a
// default agrees with everything.
func (x *expansion) given(c *cell, field string) bool {
	path := []string{"adapter", field}
	return covering(c.overlay, path) != nil || len(x.fields(append([]string{x.name}, path...))) > 0
}

// checkEpochs allows no epochs where there is something to score.
func (x *expansion) checkEpochs(c *cell) {
	if c.config.Train.Epochs > 0 {
		return
	}
	if c.config.Adapter.From == "" {
		x.fail(c, "train.epochs", "with no epochs nothing is trained", "only an adapter that is read from files, adapter.from, can be scored as it is")
		return
	}
	if a := x.adaptation(c); a != nil && a.from != nil && !a.from.Head {
		x.fail(c, "train.epochs", fmt.Sprintf("with no epochs the head stays random: there is none beside the adapter of %s that fits this one and its classes", c.config.Adapter.From),
			"an adapter from runner export has its head with it; otherwise train for an epoch at least")
	}
}
