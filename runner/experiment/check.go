package experiment

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue"

	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/hub"
	"github.com/loralab/loralab/runner/variant"
)

// What the schema cannot know: rules across fields, names that plug-ins,
// backbones and data define.

// fail reports a mistake of a cell at the value that the cell gives to path,
// or else at the base's.
func (x *expansion) fail(c *cell, path, message, hint string) {
	x.failAt(c, strings.Split(path, "."), message, hint)
}

func (x *expansion) failAt(c *cell, path []string, message, hint string) {
	d := diagnostic.Diagnostic{Path: x.name + "." + strings.Join(path, "."), Message: message, Hint: hint}
	if len(c.overlay) > 0 || c.name != "base" {
		d.Cells = []string{c.name}
	}
	if o := covering(c.overlay, path); o != nil {
		v := o.value.LookupPath(selectors(path[len(o.path):]))
		pos := position(v)
		if !v.Exists() || !x.mine(pos) {
			pos = o.place(x.document)
		}
		if x.mine(pos) {
			x.report(x.mark(d, pos))
			return
		}
	}
	x.report(x.mark(d, x.valueAt(append([]string{x.name}, path...))))
}

func (x *expansion) checkSeeds(seeds []uint64) {
	for i, s := range seeds {
		if slices.Contains(seeds[:i], s) {
			x.fail(&cell{name: "base"}, fmt.Sprintf("seeds.%d", i), fmt.Sprintf("seed %d stands twice", s), "every seed is one run: leave one out")
		}
	}
}

// check holds a cell against everything outside of the schema.
func (x *expansion) check(c *cell) {
	x.checkClasses(c)
	x.checkLoss(c)
	x.checkSplit(c)
	x.checkBackbone(c)
	x.checkVariant(c)
	x.checkData(c)
}

func (x *expansion) checkClasses(c *cell) {
	data := &c.config.Data
	if slices.Contains(data.Classes, "") && data.Classes[0] == "" && data.Classes[1] == "" {
		return // missing, and reported as that
	}
	if !x.checkNames(c, []string{"data"}, data.Classes, data.Remap, data.Ignore) {
		return
	}
	trained := mergeClasses(data.Classes, data.Remap, data.Ignore).classes
	if len(trained) < 2 {
		x.fail(c, "data.remap", fmt.Sprintf("only %d class is left to train: %s", len(trained), strings.Join(trained, ", ")), "a segmentation needs two classes at least")
		return
	}
	x.checkMetric(c, "train.monitor", c.config.Train.Monitor, trained)
	x.checkMetric(c, "report.metric", c.config.Report.Metric, trained)
	for _, d := range c.config.Evaluate.Domains {
		path := []string{"evaluate", "domains", quoteLabel(d.name)}
		if d.name == "test" {
			x.failAt(c, path, `the domain "test" is there already`, "it is the test split of data: give this one another name")
		}
		m := d.merged(data)
		if !x.checkNames(c, path, m.Classes, m.Remap, m.Ignore) {
			continue
		}
		if got := mergeClasses(m.Classes, m.Remap, m.Ignore).classes; !slices.Equal(got, trained) {
			x.failAt(c, path, fmt.Sprintf("domain %q has the classes %s, trained are %s", d.name, strings.Join(got, ", "), strings.Join(trained, ", ")),
				"name and remap its classes so that they are the same, in the same order")
		}
	}
}

// merged is a domain with what it leaves to the data filled in.
func (d *domainConfig) merged(data *dataConfig) dataConfig {
	m := *data
	if d.Classes != nil {
		m.Classes, m.Remap = d.Classes, nil
	}
	if d.Remap != nil {
		m.Remap = d.Remap
	}
	if d.Ignore != nil {
		m.Ignore = d.Ignore
	}
	return m
}

// checkNames looks at the classes of the data or of a domain.
func (x *expansion) checkNames(c *cell, path []string, classes []string, remap map[string]string, ignore *uint32) bool {
	ok := true
	fail := func(field []string, message, hint string) {
		ok = false
		x.failAt(c, append(slices.Clone(path), field...), message, hint)
	}
	if len(classes) > 255 {
		fail([]string{"classes"}, fmt.Sprintf("there are %d classes; a mask of bytes has 255 at most", len(classes)), "")
	}
	for i, name := range classes {
		at := []string{"classes", fmt.Sprint(i)}
		switch {
		case slices.Contains(classes[:i], name):
			fail(at, fmt.Sprintf("class %q stands twice", name), "every value of the masks has a name of its own; remap merges classes")
		case name == ignored || name == "mean" || name == "":
			fail(at, fmt.Sprintf("a class cannot be called %q", name), `the word means something else; a class is ignored with remap: NAME: "ignore"`)
		}
	}
	for _, from := range sortedKeys(remap) {
		to := remap[from]
		at := []string{"remap", quoteLabel(from)}
		_, chained := remap[to]
		switch {
		case !slices.Contains(classes, from):
			fail(at, fmt.Sprintf("there is no class %q to remap", from), diagnostic.Suggest(from, "classes", classes))
		case to == ignored:
		case !slices.Contains(classes, to):
			fail(at, fmt.Sprintf("there is no class %q to remap %s into", to, from), diagnostic.Suggest(to, "classes", append(slices.Clone(classes), ignored)))
		case chained && to != from:
			fail(at, fmt.Sprintf("%s is remapped into %s, which is remapped itself", from, to), fmt.Sprintf("write %s: %q", from, remap[to]))
		}
	}
	if ignore != nil && int(*ignore) < len(classes) {
		fail([]string{"ignore"}, fmt.Sprintf("value %d is class %q", *ignore, classes[*ignore]), fmt.Sprintf("to ignore a class, write remap: %s: \"ignore\"", classes[*ignore]))
	}
	return ok
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// quoteLabel is a name as an element of a CUE path.
func quoteLabel(name string) string { return cue.Str(name).String() }

func (x *expansion) checkMetric(c *cell, path, metric string, classes []string) {
	known := []string{"loss", "accuracy", "dice/mean", "iou/mean"}
	for _, name := range classes {
		known = append(known, "dice/"+name, "iou/"+name)
	}
	if !slices.Contains(known, metric) {
		x.fail(c, path, fmt.Sprintf("there is no metric %q", metric), diagnostic.Suggest(metric, "metrics", known))
	}
}

func (x *expansion) checkLoss(c *cell) {
	for _, weight := range c.config.Loss {
		if weight > 0 {
			return
		}
	}
	x.fail(c, "loss", "all weights of the loss are 0", "give one term a weight, for instance loss: cross_entropy: 1")
}

func (x *expansion) checkSplit(c *cell) {
	s := c.config.Data.Split
	if sum := s.Train + s.Val + s.Test; sum > 1+1e-9 {
		x.fail(c, "data.split", fmt.Sprintf("the fractions add up to %.6g", sum), "train, val and test may be 1 together, or less to leave images out")
	}
}

// checkBackbone looks at what depends on the backbone's dimensions.
func (x *expansion) checkBackbone(c *cell) {
	b := c.config.Backbone
	if b.Model == "" || x.resolve.backbone == nil {
		return
	}
	bb, err := x.resolve.backbone(b.Model)
	if err != nil {
		message, hint := err.Error(), ""
		var missing *hub.MissingError
		if errors.As(err, &missing) {
			message = fmt.Sprintf("backbone %q %s", missing.Name, missing.Reason)
			hint = missing.Cure
			if near := diagnostic.DidYouMean(b.Model, hub.Known()); near != "" {
				hint = fmt.Sprintf("did you mean %q? Or %s", near, hint)
			}
		}
		x.fail(c, "backbone.model", message, hint)
		return
	}
	arch := bb.Arch
	depth := arch.GetDepth()
	if b.Depth > depth {
		x.fail(c, "backbone.depth", fmt.Sprintf("%s has %d blocks, not %d", b.Model, depth, b.Depth), "leave depth out to use all")
	} else if b.Depth > 0 {
		depth = b.Depth
	}
	if b.Freeze.kind == "blocks" {
		if _, message, hint := b.Freeze.blocks.of(depth); message != "" {
			x.fail(c, "backbone.freeze.blocks", message, hint)
		}
	}
	if c.config.Adapter.Variant != none {
		if _, message, hint := c.config.Adapter.Blocks.of(depth); message != "" {
			x.fail(c, "adapter.blocks", message, hint)
		}
	}
	size, patch := c.config.Data.Size, arch.GetPatch()
	if patch > 0 && (size[0]%patch != 0 || size[1]%patch != 0) {
		wrong := size[0]
		if wrong%patch == 0 {
			wrong = size[1]
		}
		below, above := wrong/patch*patch, (wrong/patch+1)*patch
		hint := fmt.Sprintf("the nearest sizes that fit are %d and %d", below, above)
		if below == 0 {
			hint = fmt.Sprintf("the smallest size that fits is %d", above)
		}
		x.fail(c, "data.size", fmt.Sprintf("%d pixels are not a multiple of the patch of %s, %d pixels", wrong, b.Model, patch), hint)
	}
}

const none = "none" // the variant that adds nothing

func (x *expansion) baseVariant() string {
	name, _ := x.base().LookupPath(cue.ParsePath("adapter.variant")).String()
	return name
}

// params is the schema of a variant's parameters; it does not exist for an
// unknown variant.
func (x *expansion) params(name string) cue.Value {
	v, _ := x.resolve.params(x.cue, name)
	return v
}

// checkVariant looks at the adapter: is there such a variant, does it know the
// parameters, does it accept them for these sites.
func (x *expansion) checkVariant(c *cell) {
	a := &c.config.Adapter
	if dup := duplicate(a.Targets); dup >= 0 {
		x.fail(c, fmt.Sprintf("adapter.targets.%d", dup), fmt.Sprintf("target %q stands twice", a.Targets[dup]), "")
	}
	if a.Variant == none || a.Variant == "" || x.resolve.describe == nil {
		return
	}
	schema, err := x.resolve.params(x.cue, a.Variant)
	if err != nil {
		message, hint := err.Error(), ""
		var unknown *variant.UnknownError
		var broken *variant.Error
		switch {
		case errors.As(err, &unknown):
			known := append(slices.Clone(unknown.Known), none)
			message, hint = fmt.Sprintf("unknown variant %q", a.Variant), diagnostic.Suggest(a.Variant, "variants", known)
			if len(unknown.Known) == 0 {
				hint = "no plug-in was found in " + strings.Join(unknown.Dirs, ", ")
			}
		case errors.As(err, &broken):
			message, hint = fmt.Sprintf("variant %q: %s", a.Variant, broken.Message), broken.Hint
			if broken.Err != nil {
				message += ": " + broken.Err.Error()
			}
		}
		x.fail(c, "adapter.variant", message, hint)
		return
	}
	if slices.ContainsFunc(x.gone, func(path []string) bool {
		return len(path) > 2 && path[1] == "adapter" && path[2] == "params"
	}) {
		return // a parameter was taken out, so the rest may be incomplete
	}
	given := c.value.LookupPath(cue.ParsePath("adapter.params"))
	merged := schema.Unify(given)
	if err := merged.Validate(cue.Concrete(true), cue.Final()); err != nil {
		s := scope{
			prefix: []string{x.name}, schema: schema, skip: 2, overlay: c.overlay,
			unknown: fmt.Sprintf("variant %q has no parameter", a.Variant),
			rebase: func(path []string) []string {
				// CUE gives the path of the value or that of the schema.
				for len(path) > 0 && (path[0] == "#Params" || path[0] == x.name || path[0] == "adapter" || path[0] == "params") {
					path = path[1:]
				}
				return append([]string{x.name, "adapter", "params"}, path...)
			},
		}
		if len(c.overlay) > 0 {
			s.cells = []string{c.name}
		}
		x.complain(err, s)
		return
	}
	params, err := merged.MarshalJSON()
	if err != nil {
		x.fail(c, "adapter.params", "the parameters have no definite value: "+err.Error(), "")
		return
	}
	a.Params = params
	x.checkBuild(c)
}

func duplicate(list []string) int {
	for i := range list {
		if slices.Contains(list[:i], list[i]) {
			return i
		}
	}
	return -1
}

// checkBuild has the variant build its programs and reports what it does not
// like.
func (x *expansion) checkBuild(c *cell) {
	if x.resolve.backbone == nil || c.config.Backbone.Model == "" {
		return
	}
	bb, err := x.resolve.backbone(c.config.Backbone.Model)
	if err != nil {
		return // reported at the backbone
	}
	sites, ok := c.config.sites(bb.Arch)
	if !ok {
		return // reported at the blocks
	}
	a := c.config.Adapter
	reply, err := x.resolve.build(x.resolve.ctx, a.Variant, string(a.Params), c.config.model(bb.Arch), sites)
	if err != nil {
		x.fail(c, "adapter.variant", fmt.Sprintf("variant %q cannot build its adapters: %v", a.Variant, err), "")
		return
	}
	for _, p := range reply.GetProblems() {
		path, message := []string{"adapter", "targets"}, p.GetMessage()
		if p.GetParam() != "" {
			path = append([]string{"adapter", "params"}, strings.Split(p.GetParam(), ".")...)
			message = p.GetParam() + ": " + message
		}
		x.failAt(c, path, message, p.GetHint())
	}
}

// checkData looks at the files: are they there, are there enough, and with
// Env.CheckData what is in them.
func (x *expansion) checkData(c *cell) {
	data := &c.config.Data
	if data.Source != "" {
		if message, hint := x.resolve.checkSource(x.root, data, roles); message != "" {
			x.fail(c, "data.source", message, hint)
		}
	}
	for _, d := range c.config.Evaluate.Domains {
		if d.Source == "" {
			continue
		}
		m := d.data(data)
		path := []string{"evaluate", "domains", quoteLabel(d.name), "source"}
		if message, hint := x.resolve.checkSource(x.root, &m, []string{"test"}); message != "" {
			x.failAt(c, path, message, hint)
		} else if n := x.resolve.shared(x.root, data, &m); n > 0 {
			x.failAt(c, path, fmt.Sprintf("domain %q holds %d images that runs are trained on", d.name, n),
				"a score on them says nothing; the images of data that are kept apart are the domain \"test\"")
		}
	}
}

// siteNames are the layers of a block that can be adapted.
var siteNames = []string{"query", "key", "value", "output", "fc1", "fc2"}
