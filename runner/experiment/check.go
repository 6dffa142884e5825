package experiment

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"

	"github.com/loralab/loralab/core/augment"
	"github.com/loralab/loralab/core/data"
	"github.com/loralab/loralab/core/head/design"
	"github.com/loralab/loralab/core/metric"
	names "github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/core/raster"
	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/core/stylize"
	"github.com/loralab/loralab/runner/backbone"
	"github.com/loralab/loralab/runner/diagnostic"
)

// What the schema cannot know: rules across fields, names that plug-ins,
// backbones and data define.

// fail reports a mistake of a cell at the value that the cell gives to path,
// or else at the base's.
func (x *expansion) fail(c *subject, path, message, hint string) {
	x.failAt(c, strings.Split(path, "."), message, hint)
}

func (x *expansion) failAt(c *subject, path []string, message, hint string) {
	x.failAs(c, "", path, message, hint)
}

// failAs is failAt for a mistake that a program knows what to do about.
func (x *expansion) failAs(c *subject, kind diagnostic.Kind, path []string, message, hint string) {
	d := diagnostic.Diagnostic{Kind: kind, Path: x.name + "." + strings.Join(path, "."), Message: message, Hint: hint, Cells: x.cellOf(c), Of: x.total}
	x.report(x.mark(d, x.placeIn(c, path)))
}

// failLabel reports a mistake of what makes cells, at a place.
func (x *expansion) failLabel(path string, pos token.Pos, message, hint string) {
	x.report(x.mark(diagnostic.Diagnostic{Path: path, Message: message, Hint: hint}, pos))
}

// warn is fail for what stops nothing.
func (x *expansion) warn(c *subject, path, message, hint string) {
	at := strings.Split(path, ".")
	if slices.ContainsFunc(x.gone, func(g []string) bool { return related(g[1:], at) }) {
		return // what is there has a mistake, so the value that is warned of is no one's
	}
	d := diagnostic.Diagnostic{Path: x.name + "." + path, Warning: true, Message: message, Hint: hint, Cells: x.cellOf(c), Of: x.total}
	x.report(x.mark(d, x.placeIn(c, at)))
}

// failKey reports a mistake in the name of a field, at that name.
func (x *expansion) failKey(c *subject, path []string, message, hint string) {
	d := diagnostic.Diagnostic{Path: x.name + "." + strings.Join(path, "."), Message: message, Hint: hint, Cells: x.cellOf(c), Of: x.total}
	pos := x.labelAt(append([]string{x.name}, path...))
	if o := covering(c.overlay, path); o != nil {
		pos = x.placeIn(c, path)
		if f, ok := fieldOf(o.value.LookupPath(selectors(path[len(o.path):]))); ok && x.inUserFile(f.Label.Pos()) {
			pos = f.Label.Pos()
		}
	}
	x.report(x.mark(d, pos))
}

// placeIn is where the value of a cell at path is written: the cell's own, or
// else the base's.
func (x *expansion) placeIn(c *subject, path []string) token.Pos {
	if o := covering(c.overlay, path); o != nil {
		v := o.value.LookupPath(selectors(path[len(o.path):]))
		pos := position(v)
		if !v.Exists() || !x.inUserFile(pos) {
			pos = o.place(x.document)
		}
		if x.inUserFile(pos) {
			return pos
		}
	}
	return x.valueAt(append([]string{x.name}, path...))
}

// cellOf names a cell as what a mistake hits; the base, which all build on,
// goes without saying.
func (x *expansion) cellOf(c *subject) []string {
	if len(c.overlay) == 0 && c.name == "base" {
		return nil
	}
	return []string{c.name}
}

func (x *expansion) checkSeeds(seeds []uint64) {
	seen := map[uint64]bool{}
	for i, s := range seeds {
		if seen[s] {
			x.fail(&subject{name: "base"}, fmt.Sprintf("seeds.%d", i), fmt.Sprintf("seed %d is listed twice", s), "every seed is one run: leave one out")
		}
		seen[s] = true
	}
}

// The sections that checks look at, a type for each check. A check gets these and
// no other, so that what it has found holds wherever they are the same.
type (
	classesInput struct {
		data     *dataConfig
		evaluate *evaluateConfig
		train    *trainConfig
		report   *reportConfig
	}
	lossInput struct {
		loss *lossConfig
		data *dataConfig
	}
	augmentInput struct{ data *dataConfig }
	groupsInput  struct {
		optim    *optimConfig
		backbone *backboneConfig
	}
	domainsInput struct{ evaluate *evaluateConfig }
	shiftsInput  struct{ evaluate *evaluateConfig }
	windowInput  struct {
		evaluate *evaluateConfig
		data     *dataConfig
	}
	strengthInput struct{ evaluate *evaluateConfig }
	testTimeInput struct {
		evaluate *evaluateConfig
		data     *dataConfig
		backbone *backboneConfig
	}
	validateInput struct {
		evaluate *evaluateConfig
		train    *trainConfig
	}
	splitInput struct {
		evaluate *evaluateConfig
		data     *dataConfig
	}
	backboneInput struct {
		backbone *backboneConfig
		adapter  *adapterConfig
		head     *headConfig
		data     *dataConfig
	}
	variantInput struct{ adapter *adapterConfig }
	adapterInput struct{ adapterOn }
	epochsInput  struct {
		adapterOn
		train *trainConfig
	}
	filesInput struct {
		data     *dataConfig
		evaluate *evaluateConfig
		train    *trainConfig
	}
	stepsInput struct {
		data  *dataConfig
		train *trainConfig
		optim *optimConfig
	}
	thawInput struct {
		backbone *backboneConfig
		optim    *optimConfig
		train    *trainConfig
		data     *dataConfig
	}
	budgetInput struct {
		train *trainConfig
		optim *optimConfig
	}
	normInput struct {
		backbone *backboneConfig
		head     *headConfig
		data     *dataConfig
		train    *trainConfig
	}
)

// check compares a cell with everything outside of the schema. What it looks at in
// two cells alike is looked at once.
func (x *expansion) check(c *cell) {
	g := c.config
	memoize(x, c, classesInput{g.Data, g.Evaluate, g.Train, g.Report}, x.checkClasses)
	memoize(x, c, lossInput{g.Loss, g.Data}, x.checkLoss)
	memoize(x, c, augmentInput{g.Data}, x.checkAugment)
	memoize(x, c, groupsInput{g.Optim, g.Backbone}, x.checkGroups)
	memoize(x, c, domainsInput{g.Evaluate}, x.checkDomains)
	memoize(x, c, shiftsInput{g.Evaluate}, x.checkShifts)
	memoize(x, c, windowInput{g.Evaluate, g.Data}, x.checkWindow)
	memoize(x, c, strengthInput{g.Evaluate}, x.checkStrength)
	memoize(x, c, testTimeInput{g.Evaluate, g.Data, g.Backbone}, x.checkTestTime)
	memoize(x, c, validateInput{g.Evaluate, g.Train}, x.checkValidate)
	memoize(x, c, splitInput{g.Evaluate, g.Data}, x.checkSplit)
	memoize(x, c, backboneInput{g.Backbone, g.Adapter, g.Head, g.Data}, x.checkBackbone)
	memoize(x, c, adapterInput{g.adapterOn()}, x.checkAdapter)
	memoize(x, c, epochsInput{g.adapterOn(), g.Train}, x.checkEpochs)
	memoize(x, c, filesInput{g.Data, g.Evaluate, g.Train}, x.checkData)
	memoize(x, c, budgetInput{g.Train, g.Optim}, x.checkBudget)
	memoize(x, c, stepsInput{g.Data, g.Train, g.Optim}, x.checkSteps)
	memoize(x, c, thawInput{g.Backbone, g.Optim, g.Train, g.Data}, x.checkThaw)
	memoize(x, c, normInput{g.Backbone, g.Head, g.Data, g.Train}, x.checkNorm)
}

func (x *expansion) checkClasses(c *subject, in classesInput) {
	data := in.data
	if slices.Contains(data.Classes, "") && data.Classes[0] == "" && data.Classes[1] == "" {
		return // missing, and reported as that
	}
	if !x.checkNames(c, []string{"data"}, data.Classes, data.Remap, data.Ignore) {
		return
	}
	x.checkColors(c, []string{"data"}, data)
	trained := mergeClasses(data.Classes, data.Remap, data.Ignore).classes
	if len(trained) < 2 {
		x.fail(c, "data.remap", plural.Form(len(trained), "only 1 class is left to train: "+strings.Join(trained, ", "), "no class is left to train"), "a segmentation needs two classes at least")
		return
	}
	x.checkMetric(c, "train.monitor", in.train.Monitor, trained)
	x.checkMetric(c, "report.metric", in.report.Metric, trained)
	for _, d := range in.evaluate.Domains {
		path := []string{"evaluate", "domains", quoteLabel(d.name)}
		m := d.merged(data)
		if !x.checkNames(c, path, m.Classes, m.Remap, m.Ignore) {
			continue
		}
		if d.Colors != nil || d.Ignore != nil {
			x.checkColors(c, path, &m)
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
		m.Classes, m.Remap, m.Colors = d.Classes, nil, nil
	}
	if d.Colors != nil {
		m.Colors = d.Colors
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
func (x *expansion) checkNames(c *subject, path []string, classes []string, remap map[string]string, ignore *uint32) bool {
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
			fail(at, fmt.Sprintf("class %q is listed twice", name), "every value of the masks has a name of its own; remap merges classes")
		case !utf8.ValidString(name) || strings.IndexFunc(name, func(r rune) bool { return !names.Printable(r) }) >= 0:
			fail(at, fmt.Sprintf("%s cannot be the name of a class: it contains characters that do not show", names.Quoted(name)), "")
		case name == ignored || name == "mean" || name == "":
			fail(at, fmt.Sprintf("a class cannot be called %q", name), `the word means something else; a class is ignored with remap: NAME: "ignore"`)
		}
	}
	for _, from := range slices.Sorted(maps.Keys(remap)) {
		to := remap[from]
		at := []string{"remap", quoteLabel(from)}
		_, chained := remap[to]
		switch {
		case !slices.Contains(classes, from):
			ok = false
			x.failKey(c, append(slices.Clone(path), at...), fmt.Sprintf("there is no class %q to remap", from), diagnostic.Suggest(from, "classes", classes))
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

// checkColors looks at the colors of classes: each has one, and none has two
// classes.
func (x *expansion) checkColors(c *subject, path []string, d *dataConfig) {
	if len(d.Colors) == 0 {
		return
	}
	at := func(field ...string) []string { return append(slices.Clone(path), field...) }
	if d.Ignore != nil {
		x.failAt(c, at("ignore"), fmt.Sprintf("masks hold colors, and %d is the index of a class", *d.Ignore), `colors that are ignored are given with colors: ignore: "#rrggbb"`)
	}
	of := map[uint32]string{}
	for _, name := range slices.Sorted(maps.Keys(d.Colors)) {
		if name != ignored && !slices.Contains(d.Classes, name) {
			x.failKey(c, at("colors", quoteLabel(name)), fmt.Sprintf("there is no class %q", name), diagnostic.Suggest(name, "classes", append(slices.Clone(d.Classes), ignored)))
		}
		for _, v := range d.Colors[name] {
			if other, taken := of[v]; taken && other != name {
				x.failAt(c, at("colors", quoteLabel(name)), fmt.Sprintf("%s is the color of %s already", data.ColorName(v), other), "a pixel has one class; remap merges classes")
			}
			of[v] = name
		}
	}
	for i, name := range d.Classes {
		_, ok := d.Colors[name]
		if !ok && len(x.fields(append([]string{x.name}, at("colors", quoteLabel(name))...))) == 0 { // one that is wrong is reported as that
			x.failAt(c, at("classes", fmt.Sprint(i)), fmt.Sprintf("class %q has no color", name), "give it in colors, as all classes of masks in color")
		}
	}
}

// quoteLabel is a name as an element of a CUE path.
func quoteLabel(name string) string { return cue.Str(name).String() }

func (x *expansion) checkMetric(c *subject, path, name string, classes []string) {
	known := metric.Names(classes)
	if slices.Contains(known, metric.Canonical(name)) {
		return
	}
	hint := diagnostic.Suggest(name, "metrics", known)
	if mean := strings.TrimPrefix(strings.ToLower(name), "m") + "/mean"; slices.Contains(known, mean) { // dice, mIoU
		hint = fmt.Sprintf("did you mean %q?", mean)
	}
	x.fail(c, path, fmt.Sprintf("there is no metric %q", name), hint)
}

// checkBaseline looks for the cell that the others are compared with.
func (x *expansion) checkBaseline(whole *cell, cells []*cell) {
	baseline := whole.config.Report.Baseline
	if baseline == "" || len(cells) == 0 || slices.ContainsFunc(cells, func(c *cell) bool { return c.name == baseline }) {
		return
	}
	names := make([]string, len(cells))
	for i, c := range cells {
		names[i] = c.name
	}
	x.fail(&whole.subject, "report.baseline", fmt.Sprintf("there is no cell %q to compare the others with", baseline), diagnostic.Suggest(baseline, "cells", names))
}

func (x *expansion) checkLoss(c *subject, in lossInput) {
	l, d := in.loss, in.data
	classes := mergeClasses(d.Classes, d.Remap, d.Ignore).classes
	if len(l.terms(classes)) == 0 {
		x.fail(c, "loss", "all weights of the loss are 0", "give one term a weight, for instance loss: crossEntropy: 1")
	}
	for _, name := range slices.Sorted(maps.Keys(l.ClassWeights.of)) {
		if !slices.Contains(classes, name) {
			x.failKey(c, []string{"loss", "classWeights", quoteLabel(name)}, fmt.Sprintf("there is no class %q to weigh", name), diagnostic.Suggest(name, "classes", classes))
		}
	}
	x.checkClassWeights(c, l, classes)
}

// checkClassWeights looks for weights that leave a loss nothing to learn from.
func (x *expansion) checkClassWeights(c *subject, l *lossConfig, classes []string) {
	for _, term := range l.terms(classes) {
		if len(term.ClassWeights) > 0 && !slices.ContainsFunc(term.ClassWeights, func(w float64) bool { return w > 0 }) {
			x.fail(c, "loss.classWeights", "all classes weigh 0, so "+written(term.Kind)+" learns nothing", "give a class a weight; those that are left out weigh 1")
			return
		}
	}
}

// checkThaw warns of a freezing that the training does not outlast.
func (x *expansion) checkThaw(c *subject, in thawInput) {
	epochs := in.train.Epochs
	if in.train.Steps > 0 {
		s, ok := x.budget(in.data, in.train)
		if !ok {
			return
		}
		epochs = uint32(params.Epochs(s))
	}
	late := func(path string, until uint32) {
		if until >= epochs && epochs > 0 {
			x.warn(c, path, fmt.Sprintf("the training ends after %s, so what is frozen until epoch %d never trains", plural.Of(epochs, "epoch"), until), "freeze it for all of the training, or train longer")
		}
	}
	if f := in.backbone.Freeze; f.kind == "until" {
		late("backbone.freeze.until", f.until)
	}
	for i, g := range in.optim.Groups {
		if g.Until > 0 {
			late(fmt.Sprintf("optim.groups.%d.until", i), g.Until)
		}
	}
}

// checkSame reports domains that are one and the same to a run: two columns
// would show one evaluation.
func (x *expansion) checkSame(c *cell, run *Run) {
	scoring := c.config.Evaluate.scoring()
	given := map[string][]string{}
	for _, d := range c.config.Evaluate.Domains {
		given[scoring.ColumnName(d.name)] = []string{"evaluate", "domains", quoteLabel(d.name)}
	}
	for _, st := range c.config.Evaluate.Styles {
		given[scoring.ColumnName(st.name)] = []string{"evaluate", "styles", quoteLabel(st.name)}
	}
	known := map[string]string{}
	for _, e := range run.Evaluations {
		name := e.Spec.GetDomain()
		if other, is := known[e.ID]; is && given[name] != nil {
			message := fmt.Sprintf("the domain %q is the same as %q: the same images, seen in the same way", label(given[name][2]), other)
			x.failKey(&c.subject, given[name], message, "leave one of them out")
			continue
		}
		known[e.ID] = name
	}
}

// checkAugment looks at the ranges that augmentations draw from, and at their order.
func (x *expansion) checkAugment(c *subject, in augmentInput) {
	var list []*spec.Augment
	fine := true
	for i := range in.data.Augment {
		a := &in.data.Augment[i]
		list = append(list, a.spec())
		at := fmt.Sprintf("data.augment.%d", i)
		fail := func(field, message, hint string) {
			fine = false
			x.fail(c, at+field, message, hint)
		}
		_, draws := ranges[a.Kind]
		switch {
		case a.Range != nil && !draws:
			fail(".range", a.Kind+" draws from no range", "leave it out")
		case a.ShortSide != nil && a.Kind != augment.Resize:
			fail(".shortSide", a.Kind+" does not resize", `only "resize" has it`)
		case a.MaxClass != 0 && a.Kind != augment.Window:
			fail(".maxClass", a.Kind+" cuts no window", `only "window" has it`)
		case a.Range != nil && a.ShortSide != nil:
			fail(".shortSide", "the image is resized by a factor, range, and to a short side", "leave one of them out")
		default:
			err := augment.CheckEach([]*spec.Augment{a.spec()})
			if err == nil {
				break
			}
			_, message, _ := strings.Cut(err.Error(), ": ")
			switch {
			case a.ShortSide != nil:
				fail(".shortSide", message, "")
			case a.Range != nil:
				fail(".range", message, "")
			case a.P != nil:
				fail(".p", message, "leave it out")
			default:
				fail("", message, "")
			}
		}
		for name, v := range map[string]*float64{"brightness": a.Brightness, "contrast": a.Contrast, "saturation": a.Saturation, "hue": a.Hue} {
			switch {
			case v == nil || a.Kind == "color":
			case a.Kind == "photometric":
				fail("."+name, "photometric draws as mmsegmentation does", `only "color" has it`)
			default:
				fail("."+name, a.Kind+" changes no colors", `only "color" has it`)
			}
		}
	}
	var order *augment.OrderError
	if fine && errors.As(augment.Check(list), &order) {
		x.fail(c, fmt.Sprintf("data.augment.%d", order.At), order.Reason, order.Hint)
	}
}

// checkGroups looks at groups of tensors that contradict what else is said.
func (x *expansion) checkGroups(c *subject, in groupsInput) {
	groups := in.optim.Groups
	if len(groups) > 0 && in.backbone.Freeze.kind != "all" {
		x.fail(c, "backbone.freeze", "optim.groups says what of the backbone trains", `leave freeze out, or say it there: {pattern: "backbone.*", frozen: true}`)
	}
	for i, g := range groups {
		at := fmt.Sprintf("optim.groups.%d", i)
		switch {
		case g.LR == nil && (!g.Frozen || g.Until > 0):
			x.fail(c, at, fmt.Sprintf("the group %q has no learning rate", g.Pattern), "give it lr, or frozen: true")
		case g.LR != nil && g.Frozen && g.Until == 0:
			x.fail(c, at+".lr", fmt.Sprintf("the group %q is frozen", g.Pattern), "leave lr or frozen out, or say until which epoch")
		case g.LayerDecay != nil && g.Pattern != everyBackbone:
			x.fail(c, at+".layerDecay", fmt.Sprintf("layerDecay goes with the pattern %q alone", everyBackbone), "")
		}
	}
	sch := in.optim.Schedule
	if sch.Kind == "step" && !slices.IsSorted(sch.Milestones) {
		x.fail(c, "optim.schedule.milestones", "the milestones do not rise", "")
	}
	if sch.Kind == "trapezoid" && sch.Warmup+sch.Decay > 1 {
		x.fail(c, "optim.schedule.decay", fmt.Sprintf("warm-up and decay add up to %.6g of all steps", sch.Warmup+sch.Decay), "they may be 1 together")
	}
}

// checkTensors holds the patterns of groups against the tensors of a run.
func (x *expansion) checkTensors(c *cell, s *spec.RunSpec) bool {
	_, err := params.Of(s)
	var rules *params.RuleError
	if !errors.As(err, &rules) {
		return true
	}
	at := func(rule int) string { // a group may have made several rules
		for i, g := range c.config.Optim.Groups {
			if rule -= len(g.rules(s.Backbone)); rule < 0 {
				return fmt.Sprintf("optim.groups.%d.pattern", i)
			}
		}
		return "optim.groups"
	}
	for _, i := range rules.Malformed {
		x.fail(&c.subject, at(i), fmt.Sprintf("the pattern %q is malformed", s.Optim.Rules[i].Pattern), `* matches anything, [ab] one of them`)
	}
	for _, i := range rules.Idle {
		x.fail(&c.subject, at(i), fmt.Sprintf("the pattern %q takes no tensor", s.Optim.Rules[i].Pattern), "either none has such a name, or patterns before it have them all; `runner plan --groups` shows names")
	}
	if n := len(rules.Untaken); n > 0 {
		shown := strings.Join(rules.Untaken[:min(n, 4)], ", ")
		if n > 4 {
			shown += fmt.Sprintf(" and %d more", n-4)
		}
		x.fail(&c.subject, "optim.groups", "no pattern takes "+shown, `add one, for instance {pattern: "*", frozen: true} at the end`)
	}
	return false
}

// checkWindow looks at how windows go over images.
func (x *expansion) checkWindow(c *subject, in windowInput) {
	e, size := in.evaluate, in.data.Size
	if e.Window == nil {
		return
	}
	if e.Resolution != spec.Original {
		x.fail(c, "evaluate.window", "windows are scored at the original resolution, and this evaluation is at the model's", `write resolution: "original" next to it, or leave the window out`)
	}
	if s := e.Window.Stride; s[0] > size[0] || s[1] > size[1] {
		x.fail(c, "evaluate.window.stride", fmt.Sprintf("windows of %s at a stride of %s leave pixels out", size, s), fmt.Sprintf("the stride is at most data.size, %s; half of it is usual", size))
	}
}

// checkStrength looks for strengths that are the same.
func (x *expansion) checkStrength(c *subject, in strengthInput) {
	for i, t := range in.evaluate.Strength {
		if slices.Contains(in.evaluate.Strength[:i], t) {
			x.fail(c, fmt.Sprintf("evaluate.strength.%d", i), fmt.Sprintf("strength %g is listed twice", t), "leave one out")
		}
	}
}

// checkTestTime looks for scales that are the same, of which one would count twice.
func (x *expansion) checkTestTime(c *subject, in testTimeInput) {
	e := in.evaluate
	if e.TTA == nil {
		return
	}
	patch := 1
	if e.Window == nil && x.resolve.backbone != nil {
		// What cannot be resolved is reported elsewhere.
		if bb, err := x.resolve.backbone(in.backbone.Model); err == nil {
			patch = int(bb.Arch.Patch)
		}
	}
	size := raster.Size{H: int(in.data.Size[0]), W: int(in.data.Size[1])}
	of := map[raster.Size]float64{}
	for i, scale := range e.TTA.Scales {
		at := size.Times(scale, patch)
		other, is := of[at]
		switch {
		case is && other == scale:
			x.fail(c, fmt.Sprintf("evaluate.tta.scales.%d", i), fmt.Sprintf("scale %g is listed twice", scale), "leave one out")
		case is && e.Window == nil:
			x.fail(c, fmt.Sprintf("evaluate.tta.scales.%d", i), fmt.Sprintf("scales %g and %g are both %v pixels, since sizes are multiples of the patch, %d", other, scale, at, patch), "leave one out")
		}
		of[at] = scale
	}
}

// checkValidate looks for metrics that validations do not compute.
func (x *expansion) checkValidate(c *subject, in validateInput) {
	if m := in.train.Monitor; in.train.asTested(in.evaluate) && slices.Contains(metric.OfBatches, metric.Canonical(m)) {
		x.fail(c, "train.monitor", fmt.Sprintf("%s is of batches at the model's size, and validations score images at their own", m), `monitor another metric, "dice/mean" for instance, or leave train.validate out`)
	}
}

// checkDomains looks at the names of domains: each is a column of tables and a
// file of pictures.
func (x *expansion) checkDomains(c *subject, in domainsInput) {
	e := in.evaluate
	taken := map[string]string{
		"test":       "the test split of data has this name",
		"validation": "the validation split of data has this name in reports",
	}
	for _, name := range e.Corruptions.names() {
		taken[name] = "evaluate.corruptions makes a domain of this name"
	}
	look := func(kind, name, what string) {
		path := []string{"evaluate", kind, quoteLabel(name)}
		var bad *names.Error
		if err := names.Domain(name); errors.As(err, &bad) {
			x.failKey(c, path, bad.Message(), bad.Rule)
		} else if by, is := taken[name]; is {
			x.failKey(c, path, fmt.Sprintf("the domain %q is there already: %s", name, by), "give this one another name")
		}
		taken[name] = what
	}
	for _, d := range e.Domains {
		look("domains", d.name, "evaluate.domains has one of this name")
	}
	for _, st := range e.Styles {
		look("styles", st.name, "")
	}
}

// checkShifts looks at the domains that are made of the test split.
func (x *expansion) checkShifts(c *subject, in shiftsInput) {
	e := in.evaluate
	if e.Corruptions != nil {
		for i, s := range e.Corruptions.Severities {
			if slices.Contains(e.Corruptions.Severities[:i], s) {
				x.fail(c, fmt.Sprintf("evaluate.corruptions.severities.%d", i), fmt.Sprintf("severity %d is listed twice", s), "leave one out")
			}
		}
	}
	for i := range e.Styles {
		st := &e.Styles[i]
		path := []string{"evaluate", "styles", quoteLabel(st.name)}
		has, lacks := "images", "weights"
		if st.Kind == stylize.Network {
			has, lacks = lacks, has
		}
		given := map[string]string{"images": st.Images, "weights": st.Weights}
		if given[lacks] != "" {
			x.failAt(c, append(path, lacks), fmt.Sprintf("a look of kind %q has no %s", st.Kind, lacks), map[string]string{
				"images":  "leave them out: the network has its look from its weights",
				"weights": `write kind: "network", or leave them out`,
			}[lacks])
			continue
		}
		if given[has] == "" {
			x.failAt(c, path, fmt.Sprintf("a look of kind %q needs %s", st.Kind, has), map[string]string{
				"images":  `name the folder of images to take it from, images: "nuclei/histology/test"`,
				"weights": `name the file of the network, weights: "candy.safetensors"`,
			}[has])
			continue
		}
		var err error
		if has == "weights" {
			_, err = x.resolve.network(x.root, st.Weights)
		} else {
			_, _, err = x.resolve.look(x.root, st.Images)
		}
		var known *sourceError
		if errors.As(err, &known) {
			x.failAt(c, append(path, has), known.message, known.hint)
		} else if err != nil {
			x.failAt(c, append(path, has), err.Error(), "")
		}
	}
}

func (x *expansion) checkSplit(c *subject, in splitInput) {
	if d := in.data; d.Fraction < 1 && d.Limit.Train > 0 && !d.Split.likeOriginal() {
		x.fail(c, "data.fraction", "data.fraction and data.limit.train both say how many images to train on", "leave one of them out")
	}
	s := in.data.Split
	if s.Group != "" && s.Stratify != "" {
		x.fail(c, "data.split.stratify", "data.split is grouped and stratified", "groups stay together and kinds are shared out: leave one of them out")
	}
	if base := x.baseCell.config.Data.Split; s.Folds != base.Folds || s.Fold != base.Fold {
		at := "data.split.folds"
		if s.Folds == base.Folds {
			at = "data.split.fold"
		}
		x.fail(c, at, "folds are an axis of their own: all cells have the same", "write data.split.folds and fold outside of the matrix, or make an experiment of its own")
		return
	}
	if s.Folds > 0 || s.Fold != "" {
		x.checkFolds(c, in.data)
		return
	}
	if s.From != "" && (s.Group != "" || s.Stratify != "" || s.likeOriginal()) {
		x.fail(c, "data.split.from", "data.split is listed, and says how to divide as well", "a list says where every image is: leave method, group and stratify out")
	}
	if s.Val == 0 && s.likeOriginal() {
		x.fail(c, "data.split.val", `data.split.val is "test", and data.split.method is "original"`, "that project divides by fractions: give one")
	} else if s.Val == 0 && in.evaluate.Checkpoint == "best" && in.data.Source != procedural {
		x.warn(c, "data.split.val", "the best checkpoint is chosen by the images that it is tested on", `its scores are too good: evaluate: checkpoint: "last" scores the end of the training`)
	}
	sum := s.Train + float64(s.Val) + s.Test
	if s.likeOriginal() { // which trains on what is left
		sum -= s.Train
	}
	if sum > 1+1e-9 {
		x.fail(c, "data.split", fmt.Sprintf("the fractions add up to %.6g", sum), "train, val and test may be 1 together, or less to leave images out")
	}
}

// checkFolds looks at how data is divided into folds.
func (x *expansion) checkFolds(c *subject, d *dataConfig) {
	s := d.Split
	if s.Folds == 0 {
		x.fail(c, "data.split.fold", "there are no folds to choose from", "say how many there are with data.split.folds")
		return
	}
	if d.Source == procedural {
		x.fail(c, "data.split.folds", "drawn images are not divided into folds", "take a source with files")
	}
	if s.likeOriginal() {
		x.fail(c, "data.split.method", `split.method "original" makes no folds`, "leave method out, or folds")
	}
	if s.Val == 0 {
		x.fail(c, "data.split.val", `data.split.val is "test", and each fold is tested on`, "give the fraction of the other folds that is validated on")
	}
	var seen []uint32
	for _, n := range s.Fold.numbers() {
		switch {
		case n >= s.Folds:
			x.fail(c, "data.split.fold", fmt.Sprintf("there is no fold %d of %d", n, s.Folds), fmt.Sprintf("folds are numbered from 0 to %d", s.Folds-1))
		case slices.Contains(seen, n):
			x.fail(c, "data.split.fold", fmt.Sprintf("fold %d is listed twice", n), "leave one out")
		}
		seen = append(seen, n)
	}
}

// checkBackbone looks at what depends on the backbone's dimensions.
func (x *expansion) checkBackbone(c *subject, in backboneInput) {
	b := in.backbone
	if b.Model == "" || x.resolve.backbone == nil {
		return
	}
	bb, err := x.resolve.backbone(b.Model)
	if err != nil {
		message, hint := err.Error(), ""
		var kind diagnostic.Kind
		var missing *backbone.MissingError
		if errors.As(err, &missing) {
			message = fmt.Sprintf("backbone %q %s", missing.Name, missing.Reason)
			hint = missing.Cure
			if !missing.Here {
				kind = diagnostic.MissingBackbone
			}
			if near := diagnostic.DidYouMean(b.Model, backbone.Known()); near != "" && near != b.Model && !missing.Here {
				hint = fmt.Sprintf("did you mean %q? Or %s", near, hint)
			}
		}
		x.failAs(c, kind, []string{"backbone", "model"}, message, hint)
		return
	}
	arch := bb.Arch
	depth := arch.GetDepth()
	if b.Depth > depth {
		x.fail(c, "backbone.depth", fmt.Sprintf("%s has %s, not %d", b.Model, plural.Of(depth, "block"), b.Depth), "leave depth out to use all")
	} else if b.Depth > 0 {
		depth = b.Depth
	}
	if b.Freeze.kind == "blocks" {
		if _, message, hint := b.Freeze.blocks.of(depth); message != "" {
			x.fail(c, "backbone.freeze.blocks", message, hint)
		}
	}
	if in.adapter.Variant != none {
		if _, message, hint := in.adapter.Blocks.of(depth); message != "" {
			x.fail(c, "adapter.blocks", message, hint)
		}
	}
	if taps := in.head.Taps; taps != nil {
		if _, message, hint := taps.of(depth); message != "" {
			x.fail(c, "head.taps", message, hint)
		}
	}
	var unfit *design.Error
	if _, err := design.Of(in.head.spec(b.depth(arch)), int(arch.GetDim()), len(in.data.Classes)); errors.As(err, &unfit) {
		x.fail(c, "head."+unfit.Setting, unfit.Problem, unfit.Hint)
	}
	size, patch := in.data.Size, arch.GetPatch()
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
		x.fail(c, "data.size", fmt.Sprintf("%s not a multiple of the patch of %s, %d pixels", plural.Form(wrong, "1 pixel is", fmt.Sprintf("%d pixels are", wrong)), b.Model, patch), hint)
	}
}

// checkData looks at the files: are they there, are there enough, and with
// Env.CheckData what is in them.
func (x *expansion) checkData(c *subject, in filesInput) {
	for _, data := range in.data.each(x.seeds) {
		x.checkFiles(c, in, data)
	}
}

func (x *expansion) checkFiles(c *subject, in filesInput, data *dataConfig) {
	if data.Source != "" {
		if fault := x.resolve.checkSource(x.root, data, roles); fault != nil {
			x.fail(c, "data."+cmp.Or(fault.field, "source"), fault.message, fault.hint)
		} else {
			x.checkOverlap(c, []string{"data", "source"}, "test", data, data)
			x.checkRemarks(c, []string{"data", "source"}, data, roles)
			if x.resolve.check && data.Source != procedural {
				x.checkPresence(c, data, in.train.Monitor)
			}
		}
		if n := x.resolve.unlisted(x.root, data); n > 0 {
			x.warn(c, "data.split.from", fmt.Sprintf("%d of the images of %q are in no part", n, data.Source), "they are neither trained nor scored on")
		}
	}
	for _, d := range in.evaluate.Domains {
		if d.Source == "" {
			continue
		}
		m := d.data(data)
		path := []string{"evaluate", "domains", quoteLabel(d.name), "source"}
		if fault := x.resolve.checkSource(x.root, &m, []string{"test"}); fault != nil {
			x.failAt(c, path, fault.message, fault.hint)
		} else if n := x.resolve.shared(x.root, data, &m); n > 0 {
			x.failAt(c, path, fmt.Sprintf("domain %q holds %s that runs are trained on", d.name, plural.Of(n, "image")),
				"a score on them says nothing; the images of data that are kept apart are the domain \"test\"")
		} else {
			x.checkOverlap(c, path, d.name, data, &m)
			x.checkRemarks(c, path, &m, []string{"test"})
		}
	}
}

// checkOverlap warns of a domain with images that are trained on as well, by
// their content, or that were made of such.
func (x *expansion) checkOverlap(c *subject, path []string, name string, data, domain *dataConfig) {
	n, of, err := x.resolve.overlap(x.root, data, domain)
	if err != nil || n == 0 {
		return // what cannot be read is reported at the source
	}
	d := diagnostic.Diagnostic{
		Path: x.name + "." + strings.Join(path, "."), Warning: true,
		Message: fmt.Sprintf("%d of %d images of domain %q are in the training split of %q, or were made of images that are", n, of, name, data.Source),
		Hint:    "its scores are better than on images that are new; runner data check lists them", Cells: x.cellOf(c), Of: x.total,
	}
	x.report(x.mark(d, x.placeIn(c, path)))
}

// overlaps are the domains with images that are trained on, over all cells.
func (x *expansion) overlaps(cells []*cell) (list []Overlap) {
	seen := map[[2]any]bool{}
	for _, c := range cells {
		key := [2]any{c.config.Data, c.config.Evaluate}
		if seen[key] {
			continue
		}
		seen[key] = true
		for _, data := range c.config.Data.each(x.seeds) {
			add := func(name string, domain *dataConfig) {
				n, of, err := x.resolve.overlap(x.root, data, domain)
				if err != nil || n == 0 {
					return
				}
				i := slices.IndexFunc(list, func(o Overlap) bool { return o.Domain == name })
				if i < 0 {
					i = len(list)
					list = append(list, Overlap{Domain: name, Images: n, Of: of})
				}
				list[i].Some = list[i].Some || n != list[i].Images
				if n > list[i].Images {
					list[i].Images, list[i].Of = n, of
				}
			}
			add("test", data)
			for _, d := range c.config.Evaluate.Domains {
				m := d.data(data)
				add(d.name, &m)
			}
		}
	}
	return list
}

// checkPresence looks for classes of which a part of the data has no pixel.
// Nothing is learned of a class that no training image shows, and one that is not
// in val or test has no score there. Both are warnings: an experiment over
// data.fraction, or one of 150 classes, has such parts. It is an error where no
// image at all shows the class, and where training would end without the score
// that chooses its weights.
func (x *expansion) checkPresence(c *subject, d *dataConfig, monitor string) {
	t := x.resolve.training(x.root, d)
	shown := map[string]map[int32]bool{} // by role
	number := map[string]int{}
	for _, role := range roles {
		counts, images, err := x.resolve.occurring(x.root, d, role)
		if err != nil {
			return // reported at the source
		}
		of := map[int32]bool{}
		for value, class := range t.values {
			if counts[value] > 0 && class >= 0 {
				of[class] = true
			}
		}
		shown[role], number[role] = of, images
		if len(of) == 0 && role != "test" {
			x.fail(c, "data.source", fmt.Sprintf("%s no pixel that counts: all are ignored", plural.Form(images, fmt.Sprintf("the only image of %s has", role), fmt.Sprintf("the %d images of %s have", images, role))),
				"take other images, or ignore less")
		}
	}
	if len(shown["train"]) == 0 || len(shown["val"]) == 0 {
		return
	}
	var nowhere []string
	for i, name := range t.classes {
		i := int32(i)
		path := fmt.Sprintf("data.classes.%d", slices.Index(d.Classes, name))
		if !shown["train"][i] && !shown["val"][i] && !shown["test"][i] {
			nowhere = append(nowhere, name)
			x.fail(c, path, fmt.Sprintf("none of the images shows class %q", name), "take more images, other ones with another seed of data.split or data.limit, or remap the class")
			continue
		}
		for _, role := range roles {
			hint := "it has no score there: take more images, or other ones with another seed of data.split or data.limit"
			if role == "train" {
				hint = "nothing is learned of it: take more images, other ones with another seed of data.split or data.limit, or remap the class"
			}
			if !shown[role][i] {
				x.warn(c, path, fmt.Sprintf("%s class %q", showsNo(number[role], role), name), hint)
			}
		}
	}
	_, class, _ := strings.Cut(metric.Canonical(monitor), "/")
	if i := slices.Index(t.classes, class); i >= 0 && !shown["val"][int32(i)] && !slices.Contains(nowhere, class) {
		x.fail(c, "train.monitor", fmt.Sprintf("%s class %q, so %s has no value to choose the weights by", showsNo(number["val"], "val"), class, monitor),
			`monitor another class, "dice/mean" or "loss", or take other images for val`)
	}
}

// showsNo begins the sentence about a class that a part of the data does not show.
func showsNo(images int, role string) string {
	return plural.Form(images, fmt.Sprintf("the only image of %s does not show", role), fmt.Sprintf("none of the %d images of %s shows", images, role))
}

// given reports whether a file gives a value, or a cell does, or the command line: a
// default agrees with everything.
func (x *expansion) given(c *subject, path string) bool {
	at := strings.Split(path, ".")
	if o := covering(c.overlay, at); o != nil && o.value.LookupPath(selectors(at[len(o.path):])).Exists() {
		return true
	}
	full := append([]string{x.name}, at...)
	if o := x.setting(full); o != nil && o.value.LookupPath(selectors(at[len(o.path):])).Exists() {
		return true
	}
	// The syntax has more than what counts: what is below a condition that does not hold,
	// such as the budget of another scale.
	given := false
	if len(x.fields(full)) > 0 {
		x.conjuncts(x.value.LookupPath(rooted(full)), func(*ast.Field) { given = true })
	}
	return given
}

// checkBudget refuses two answers to one question: a budget, a distance between
// validations or a warm-up, in steps and in something else.
func (x *expansion) checkBudget(c *subject, in budgetInput) {
	t, sch := in.train, in.optim.Schedule
	if t.Steps > 0 {
		for _, field := range []string{"epochs", "maxSteps"} {
			if x.given(c, "train."+field) && (field == "epochs" || t.MaxSteps > 0) {
				x.fail(c, "train."+field, fmt.Sprintf("train.steps gives the budget already: %s", plural.Of(t.Steps, "step")), "leave one of them out")
			}
		}
	}
	if t.EvalSteps > 0 && x.given(c, "train.evalEvery") {
		x.fail(c, "train.evalEvery", fmt.Sprintf("train.evalSteps says already when to validate: every %s", plural.Of(t.EvalSteps, "step")), "leave one of them out")
	}
	if sch.WarmupSteps > 0 && sch.Warmup > 0 {
		x.fail(c, "optim.schedule.warmup", fmt.Sprintf("optim.schedule.warmupSteps gives the warm-up already: %s", plural.Of(sch.WarmupSteps, "step")), "leave one of them out")
	}
}

// budget is a specification with what the number of steps depends on; false where
// the images are not known, which is reported elsewhere.
func (x *expansion) budget(d *dataConfig, t *trainConfig) (*spec.RunSpec, bool) {
	if d.Source == "" || t.Batch == 0 {
		return nil, false
	}
	s, err := x.resolve.split(x.root, d.each(x.seeds)[0], roles, "train") // others have about as many
	if err != nil {
		return nil, false
	}
	return &spec.RunSpec{Data: &spec.Data{Splits: map[string]*spec.Split{"train": s.split}}, Train: t.spec()}, true
}

// checkSteps compares the steps of a training with its images and its warm-up.
func (x *expansion) checkSteps(c *subject, in stepsInput) {
	train := in.train
	s, ok := x.budget(in.data, train)
	if !ok || !train.trains() {
		return
	}
	images := s.Data.Splits["train"].GetCount()
	if train.Batch > images {
		x.warn(c, "train.batch", fmt.Sprintf("a batch of %d is larger than the training split, which has %s", train.Batch, plural.Of(images, "image")), "every step takes all of them")
	}
	total, sch := params.Steps(s), in.optim.Schedule
	if warm := uint64(math.Round(sch.Warmup * float64(total))); sch.WarmupSteps == 0 && warm > 0 && warm >= total {
		x.fail(c, "optim.schedule.warmup", fmt.Sprintf("the warm-up takes all of the training, %s", plural.Of(total, "step")), "the learning rates would never be reached: make it shorter, or the training longer")
	}
	warm := uint64(sch.WarmupSteps)
	switch decay := uint64(math.Round(sch.Decay * float64(total))); {
	case warm >= total && warm > 0:
		x.fail(c, "optim.schedule.warmupSteps", fmt.Sprintf("the warm-up takes %s, and the training has %d", plural.Of(warm, "step"), total), "the learning rates would never be reached: make it shorter, or the training longer")
	case sch.Kind == "trapezoid" && warm > 0 && warm+decay > total:
		x.fail(c, "optim.schedule.decay", fmt.Sprintf("a warm-up of %s and a decay of %d are more than the training has, %d", plural.Of(warm, "step"), decay, total), "make one of them shorter")
	}
}

// checkNorm refuses BatchNorm over a single value: an image of one patch has one of
// each channel, and a batch of one such image has no variance.
func (x *expansion) checkNorm(c *subject, in normInput) {
	train, size := in.train, in.data.Size
	if x.resolve.backbone == nil || in.data.Source == "" || train.Batch == 0 {
		return
	}
	bb, err := x.resolve.backbone(in.backbone.Model)
	if err != nil || !in.head.spec(in.backbone.depth(bb.Arch)).GetNorm() || size[0] != bb.Arch.GetPatch() || size[1] != bb.Arch.GetPatch() {
		return // the former is reported at the backbone
	}
	for _, data := range in.data.each(x.seeds) {
		s, err := x.resolve.split(x.root, data, roles, "train")
		if err != nil {
			return // reported at the source
		}
		images := s.split.GetCount()
		if images%train.Batch != 1 && train.Batch != 1 && images != 1 {
			continue
		}
		x.fail(c, "data.size", fmt.Sprintf("%d pixels are a single patch, and of %s in batches of %d the last is alone: the BatchNorm of the head has one value of each channel, which has no variance", size[0], plural.Of(images, "image"), train.Batch),
			"make the images larger, set head.norm to false, or choose another train.batch")
		return
	}
}

func duplicate(list []string) int {
	for i := range list {
		if slices.Contains(list[:i], list[i]) {
			return i
		}
	}
	return -1
}
