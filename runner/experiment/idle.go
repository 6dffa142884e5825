package experiment

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/token"

	"github.com/loralab/loralab/core/head/design"
	vit "github.com/loralab/loralab/core/vit/design"
	"github.com/loralab/loralab/runner/diagnostic"
)

// A value without an effect is not wrong, and moves no result; but the user who
// wrote it believes that it does something.

// idleRule is a value that counts only with others.
type idleRule struct {
	path   string
	counts func(*config) bool
	why    string
	hint   string
}

var idle = append(ofHeads(), []idleRule{
	{"optim.lr.backbone", func(c *config) bool { return grouped(c) || c.Backbone.Freeze.kind != "all" }, "the backbone is frozen", "leave it out, or free some of the backbone with backbone.freeze"},
	{"optim.lr.adapter", func(c *config) bool { return grouped(c) || adapted(c) }, "there is no adapter", "leave it out, or name a variant"},
	{"backbone.dropPath", func(c *config) bool {
		return grouped(c) || adapted(c) || c.Backbone.Freeze.kind != "all" || c.Backbone.DropPath == 0
	}, "no block trains or has an adapter", "leave it out, or free some of the backbone with backbone.freeze"},
	{"optim.lr.backbone", ungrouped, "optim.groups gives the rates", "leave it out"},
	{"optim.lr.adapter", ungrouped, "optim.groups gives the rates", "leave it out"},
	{"optim.lr.head", ungrouped, "optim.groups gives the rates", "leave it out"},
	{"adapter.params", adapted, "there is no adapter", "leave them out, or name a variant"},
	{"adapter.targets", adapted, "there is no adapter", "leave them out, or name a variant"},
	{"adapter.blocks", adapted, "there is no adapter", "leave them out, or name a variant"},
	{"adapter.blocks", func(c *config) bool {
		return !adapted(c) || slices.ContainsFunc(c.Adapter.Targets, func(t string) bool { return t != vit.SitePatch })
	}, "the patch embedding, the only target, is in no block", "leave it out, or adapt layers of blocks too"},
	{"optim.schedule.floor", func(c *config) bool { return c.Optim.Schedule.Kind != "constant" }, "the rates are constant", "leave it out"},
	{"optim.schedule.lagging", func(c *config) bool { return c.Optim.Schedule.Kind == "trapezoid" || !c.Optim.Schedule.Lagging }, `only schedule "trapezoid" lags`, "leave it out"},
	{"optim.schedule.floor", func(c *config) bool { return c.Optim.Schedule.Kind != "trapezoid" || !c.Optim.Schedule.Lagging }, "a lagging trapezoid ends at 0", "leave it out"},
	{"optim.forgetAtUnfreezing", func(c *config) bool { return c.thaws() || !c.Optim.Forget }, "nothing is frozen up to an epoch", "leave it out, or say backbone: freeze: until: 5"},
	{"data.views", func(c *config) bool { return c.Data.Views == nil || len(c.Data.Augment) > 0 }, "data.augment changes nothing", "leave it out"},
	{"train.validate", func(c *config) bool { return c.Train.Validate != "test" || c.Train.asTested(c.Evaluate) }, "evaluate scores images at the model's size too", `leave it out, or write evaluate: resolution: "original"`},
	{"evaluate.ensemble", func(c *config) bool { return c.Evaluate.Ensemble != "seeds" || len(c.Seeds) > 1 }, "there is one seed", "leave it out, or list more seeds"},
	{"evaluate.ensemble", func(c *config) bool {
		return c.Evaluate.Ensemble != "seeds" || !c.Data.Split.Seed.run || len(c.Evaluate.Domains) > 0
	}, "each seed divides the data in its own way, so the seeds share no test images", "leave it out, or give data.split.seed a number"},
	{
		"evaluate.ensemble", func(c *config) bool { return c.Evaluate.Ensemble != "folds" || len(c.Evaluate.Domains) > 0 },
		"each fold has test images of its own, and there is no further domain", "leave it out, or add a domain: evaluate: domains: …",
	},
	{"evaluate.ensemble", func(c *config) bool { return c.Evaluate.Ensemble != "folds" || len(c.Data.Split.folds()) != 1 }, "one fold is trained", "leave it out, or leave data.split.fold out to train all"},
	{"evaluate.strength", func(c *config) bool { return c.Evaluate.Strength == nil || adapted(c) }, "there is no adapter", "leave it out, or name a variant"},
	{"evaluate.tta", func(c *config) bool { return c.Evaluate.TTA == nil || c.Evaluate.scoring().TestTime != nil }, "every image is seen in one way", "leave it out, or write flip: true or scales"},
	{"data.split.group", func(c *config) bool { return !c.Data.Split.likeOriginal() }, `split.method "original" divides by chance alone`, "leave it out"},
	{"data.split.stratify", func(c *config) bool { return !c.Data.Split.likeOriginal() }, `split.method "original" divides by chance alone`, "leave it out"},
	{"data.split.train", func(c *config) bool { return !c.Data.Split.likeOriginal() }, `split.method "original" trains on what val and test leave`, "leave it out"},
	{"data.split.test", func(c *config) bool { return c.Data.Split.Folds == 0 }, "each fold is tested on", "leave it out"},
	{"data.procedural", func(c *config) bool {
		return c.Data.Source == procedural || slices.ContainsFunc(c.Evaluate.Domains, func(d domain) bool { return d.Source == procedural })
	}, "the data is not drawn", `leave it out, or write source: "procedural"`},
}...)

// ofHeads are the settings that count for some kinds of head alone.
func ofHeads() (rules []idleRule) {
	for _, setting := range design.Settings() {
		kinds := design.TakenBy(setting)
		rules = append(rules, idleRule{
			"head." + setting, func(c *config) bool { return slices.Contains(kinds, c.Head.Kind) },
			`it belongs to head "` + strings.Join(kinds, `" or "`) + `"`, "leave it out",
		})
	}
	return rules
}

func grouped(c *config) bool { return len(c.Optim.Groups) > 0 }

func ungrouped(c *config) bool { return !grouped(c) }

func adapted(c *config) bool { return c.Adapter.Variant != none }

// idleWindow is of one element of data.augment, so it names what has no effect.
const idleWindow = "the window of data.augment"

// checkIdle warns of values that count in none of the cells that have them.
func (x *expansion) checkIdle(cells []*cell) {
	for _, rule := range idle {
		x.warnIdle(cells, rule, "", func(c *cell) bool { return rule.counts(c.config) })
	}
	x.warnIdle(cells, idleRule{
		path: "data.augment", why: "the images are drawn as large as the window, or smaller",
		hint: "leave it out, or draw larger images with data: procedural: size",
	}, idleWindow, func(c *cell) bool {
		d := c.config.Data
		first := d.Augment[:min(1, len(d.Augment))]
		return d.Source != procedural || len(first) == 0 || first[0].Kind != "window" || d.Procedural.Size > min(d.Size[0], d.Size[1])
	})
}

// checkIdleSteps warns of validations after more steps than a training has. Steps are
// known of cells that have runs.
func (x *expansion) checkIdleSteps(cells []*cell, steps map[*cell]uint64) {
	most := uint64(0)
	for _, n := range steps {
		most = max(most, n)
	}
	x.warnIdle(cells, idleRule{
		path: "train.evalSteps", why: fmt.Sprintf("a training has %d steps, and the last step is always validated", most),
		hint: "give fewer steps, or leave it out",
	}, "", func(c *cell) bool { return steps[c] == 0 || uint64(c.config.Train.EvalSteps) <= steps[c] })
}

// idleSearch are values of a search that count only with others.
var idleSearch = slices.Concat(
	ofPruners("min", "asha", "hyperband"),
	ofPruners("eta", "asha", "hyperband"),
	ofPruners("every", "median", "percentile"),
	ofPruners("startup", "median", "percentile"),
	ofPruners("warmup", "median", "percentile"),
	ofPruners("percentile", "percentile"),
	[]idleSearchRule{
		{"pruner.startup", func(g *searchConfig) (string, bool) {
			return fmt.Sprintf("no trial is judged before %d have ended, and there are %d", g.Pruner.Startup, g.budget()),
				g.budget() == 0 || g.Pruner.Startup < g.budget()
		}, "give fewer trials, or leave the pruner out"},
		{"retest.top", func(g *searchConfig) (string, bool) {
			return fmt.Sprintf("there are %d trials", g.budget()), g.budget() == 0 || g.Retest.Top <= g.budget()
		}, "give at most as many as search.trials"},
	},
)

// idleSearchRule says of a field of a search whether it counts, and why it does not.
type idleSearchRule struct {
	path   string
	counts func(*searchConfig) (why string, counts bool)
	hint   string
}

// ofPruners is a setting that counts for some kinds of pruner alone.
func ofPruners(setting string, kinds ...string) []idleSearchRule {
	return []idleSearchRule{{"pruner." + setting, func(g *searchConfig) (string, bool) {
		return `it belongs to pruner "` + strings.Join(kinds, `" or "`) + `"`, slices.Contains(kinds, g.Pruner.Kind)
	}, "leave it out"}}
}

// checkIdleSearch warns of values of the search without an effect, and of parameters that
// have none in a cell.
func (x *expansion) checkIdleSearch(g *searchConfig, studies []*Study) {
	for _, rule := range idle {
		d := diagnostic.Diagnostic{Warning: true, Of: x.total, Hint: "tie it to the cells where it counts, with when"}
		var at token.Pos
		for _, s := range studies {
			if s == nil || rule.counts(s.cell.config) {
				continue
			}
			words := func(p *parameter) bool { // which may decide whether a value counts
				return slices.ContainsFunc(p.Choices, func(v any) bool { _, number := v.(float64); return !number })
			}
			i := slices.IndexFunc(s.params, func(p *parameter) bool { return p.Name == rule.path })
			if i < 0 || slices.ContainsFunc(s.params, words) {
				continue
			}
			at = s.params[i].label
			d.Cells = append(d.Cells, s.Cell)
			d.Path = strings.Join(s.params[i].at, ".")
			d.Message = fmt.Sprintf("%q is searched without an effect: %s", rule.path, rule.why)
		}
		if len(d.Cells) > 0 {
			x.report(x.mark(d, at))
		}
	}
	for _, rule := range idleSearch {
		path := append([]string{x.name, searchField}, strings.Split(rule.path, ".")...)
		why, counts := rule.counts(g)
		if counts {
			continue
		}
		at := x.labelAt(path)
		if o := x.setting(path); o != nil {
			at = o.label
		} else if !x.isWritten(path) || !x.inUserFile(at) {
			continue
		}
		if name := strings.Join(path, "."); !slices.ContainsFunc(x.found, func(d diagnostic.Diagnostic) bool { return d.Path == name }) {
			x.report(x.mark(diagnostic.Diagnostic{
				Path: name, Warning: true, Message: fmt.Sprintf("%s has no effect: %s", strings.Join(path[1:], "."), why), Hint: rule.hint,
			}, at))
		}
	}
}

// isWritten reports whether the file gives a value at a path: a field of a condition that
// does not hold gives none.
func (x *expansion) isWritten(path []string) bool {
	return len(x.fields(path)) > 0 && x.withoutSchema().LookupPath(rooted(path)).Exists()
}

// warnIdle warns of a value that counts in none of the cells that have it. What names
// what has no effect, "" the path.
func (x *expansion) warnIdle(cells []*cell, rule idleRule, what string, isUsed func(*cell) bool) {
	path := strings.Split(rule.path, ".")
	var places []token.Pos
	counts := map[token.Pos]bool{}
	of := map[token.Pos][]*cell{}
	given := map[token.Pos]string{}
	note := func(c *cell, at token.Pos, path []string) {
		if of[at] == nil {
			places, given[at] = append(places, at), cmp.Or(what, strings.Join(path, "."))
		}
		of[at] = append(of[at], c)
		counts[at] = counts[at] || isUsed(c)
	}
	base := token.NoPos
	full := append([]string{x.name}, path...)
	if o := x.setting(full); o != nil {
		if o.value.LookupPath(selectors(path[len(o.path):])).Exists() {
			base = o.label
		}
	} else if len(x.fields(full)) > 0 {
		base = x.labelAt(full)
	}
	for _, c := range cells {
		if c.config == nil {
			continue
		}
		covered := false
		for _, o := range c.overlay {
			if !related(o.path, path) {
				continue
			}
			covered = covered || len(o.path) <= len(path)
			below := len(o.path) >= len(path) || o.value.LookupPath(selectors(path[len(o.path):])).Exists()
			if below && x.inUserFile(o.at) && o.value.IncompleteKind() != cue.BottomKind {
				note(c, o.label, o.path)
			}
		}
		if !covered && x.inUserFile(base) {
			note(c, base, path)
		}
	}
	for _, at := range places {
		if counts[at] || at == base && x.setting(full) == nil && !x.isWritten(full) {
			continue
		}
		d := diagnostic.Diagnostic{
			Path: x.name + "." + rule.path, Warning: true,
			Message: fmt.Sprintf("%s has no effect: %s", given[at], rule.why), Hint: rule.hint,
		}
		if len(of[at]) < x.total {
			d.Cells, d.Of = namesOf(of[at]), x.total
		}
		x.report(x.mark(d, at))
	}
}
