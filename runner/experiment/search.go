package experiment

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/token"

	"github.com/loralab/loralab/core/metric"
	names "github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/params"
	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/runner/search/space"
	"github.com/loralab/loralab/runner/variant"
)

// What an experiment searches: a study for each of its cells.

// A Study is the search of one cell.
type Study struct {
	Experiment string
	Cell       string
	// Space is what is searched, in the order of the file. The names of its
	// parameters are paths.
	Space *space.Space
	Share Share // of the space that can be trained
	// Objective is a metric of validation, of which the lowest is the best if Minimize
	// is set.
	Objective string
	Minimize  bool
	// Trainable is how many parameters of adapter and head a trial may train; 0: any.
	Trainable int64
	Sampler   string
	Pruner    Pruner
	// The budget: trials, and updates of all trials together. 0 is no limit; one of
	// them is given.
	Trials int
	Steps  uint64
	// Seeds are those of a trial, RetestSeeds those that the best Top are trained on
	// again.
	Seeds, RetestSeeds []uint64
	Top                int
	// Seed decides which points are drawn.
	Seed uint64
	// Start are points to try first.
	Start [][]Setting
	// Untuned are the runs of the cell as the file has it, for each of RetestSeeds.
	Untuned []*Run

	of     *Experiment
	cell   *cell
	params []*parameter
	fixed  []*override // of the cell, less what is searched
}

// A parameter is one of a space, and where the file has it.
type parameter struct {
	space.Param
	label token.Pos
	at    []string
}

// A Pruner says which trials end early; see #Pruner of the schema. Min and Every are
// 0 where they follow from the length of the training.
type Pruner struct {
	Kind       string  `json:"kind"`
	Min        uint64  `json:"min"`
	Eta        int     `json:"eta"`
	Every      uint64  `json:"every"`
	Startup    int     `json:"startup"`
	Warmup     uint64  `json:"warmup"`
	Percentile float64 `json:"percentile"`
}

// searchConfig is the search of an experiment as the schema has it, without its
// space.
type searchConfig struct {
	Objective  string `json:"objective"`
	Constraint *struct {
		Trainable int64 `json:"trainable"`
	} `json:"constraint"`
	Sampler string   `json:"sampler"`
	Pruner  Pruner   `json:"pruner"`
	Trials  int      `json:"trials"`
	Steps   uint64   `json:"steps"`
	Seeds   []uint64 `json:"seeds"`
	Seed    uint64   `json:"seed"`
	Retest  struct {
		Top int `json:"top"`
	} `json:"retest"`
}

// budget is the trials of a study; 0 without a limit.
func (g *searchConfig) budget() int {
	if g.Trials == 0 && g.Steps == 0 {
		return defaultTrials
	}
	return g.Trials
}

const (
	searchField = "search"
	spaceField  = "space"
	// defaultTrials is the budget of a study that gives none.
	defaultTrials = 20
)

// searched reads the search of the experiment: a study for each cell that has
// something to search. What is wrong with it is reported.
func (x *expansion) searched(e *Experiment, whole *cell, cells []*cell) []*Study {
	v := x.base().LookupPath(cue.ParsePath(searchField))
	if !v.Exists() {
		for _, c := range cells {
			if at := []string{x.name, "cases", quoteLabel(c.name), searchField}; len(x.fields(at)) > 0 {
				x.failLabel(strings.Join(at, "."), x.labelAt(at), "the experiment has no search, so a case cannot add to it", "write search next to cases")
			}
		}
		return nil
	}
	text, err := v.MarshalJSON()
	g := &searchConfig{}
	if err == nil {
		err = json.Unmarshal(text, g)
	}
	if err != nil {
		x.failLabel(x.name+".search", x.labelAt([]string{x.name, searchField}), "cannot be read: "+err.Error(), "")
		return nil
	}
	before := x.errorCount()
	if whole.config.Data.Split.Folds > 0 {
		x.failLabel(x.name+".search", x.labelAt([]string{x.name, searchField}), "a search does not go over folds: what is validated on in one is tested on in another",
			"search without data.split.folds, and compare the best values over folds in an experiment of its own")
	}
	x.checkSearch(e, g)
	shared := x.space([]string{x.name, searchField, spaceField}, v.LookupPath(cue.ParsePath(spaceField)))
	if of := v.LookupPath(cue.ParsePath(spaceField)); len(fieldNames(of)) == 0 && !x.isRefused(x.name+".search.space") && x.errorCount() == before {
		x.failLabel(x.name+".search.space", x.labelAt([]string{x.name, searchField, spaceField}), "nothing is searched", `write a path and its values, for instance space: "optim.lr.adapter": {low: 1e-5, high: 1e-2, log: true}`)
	}
	studies := make([]*Study, len(cells))
	held := map[string]bool{} // conditions that hold somewhere
	for i, c := range cells {
		all := shared
		at := []string{x.name, "cases", quoteLabel(c.name), searchField, spaceField}
		if own := x.base().LookupPath(cue.ParsePath("cases")).LookupPath(cue.MakePath(cue.Str(c.name), cue.Str(searchField), cue.Str(spaceField))); c.values == nil && own.Exists() {
			mine := x.space(at, own)
			all = slices.Concat(slices.DeleteFunc(slices.Clone(shared), func(p *parameter) bool {
				return slices.ContainsFunc(mine, func(q *parameter) bool { return q.Name == p.Name })
			}), mine)
		}
		s := &Study{
			Experiment: e.Name, Cell: c.name,
			Objective: metric.Canonical(cmp.Or(g.Objective, whole.config.Train.Monitor)),
			Sampler:   g.Sampler, Pruner: g.Pruner, Trials: g.budget(), Steps: g.Steps,
			Seeds: g.Seeds, RetestSeeds: x.seeds, Top: g.Retest.Top, Seed: g.Seed, of: e, cell: c,
		}
		if g.Objective == "" && c.config != nil {
			s.Objective = metric.Canonical(c.config.Train.Monitor)
		}
		s.Minimize = metric.Better(s.Objective, 0, 1)
		if g.Constraint != nil {
			s.Trainable = g.Constraint.Trainable
		}
		if s.params = x.there(c, all, held); len(s.params) == 0 || !x.made(s) {
			continue
		}
		x.checkSampler(s)
		s.fixed = x.fixedOf(c, s.Space)
		studies[i] = s
	}
	for _, p := range shared {
		for _, w := range p.When {
			if key := p.Name + "\x00" + w.Param; x.errorCount() == before && !held[key] {
				x.failLabel(strings.Join(p.at, "."), x.labelAt(append(slices.Clone(p.at), "when", quoteLabel(w.Param))),
					fmt.Sprintf("no cell has %s at one of these values, so %q is never searched", w.Param, p.Name), x.haveThere(cells, w.Param))
			}
		}
	}
	if x.errorCount() == before {
		x.checkIdleSearch(g, studies)
		x.starts(v.LookupPath(cue.ParsePath("start")), studies)
	}
	return slices.DeleteFunc(studies, func(s *Study) bool { return s == nil })
}

// haveThere is the hint that lists the values of cells at a path.
func (x *expansion) haveThere(cells []*cell, path string) string {
	var texts []string
	for _, c := range cells {
		if c.config == nil {
			continue
		}
		if v, ok := x.valueIn(c, path); ok {
			if text, err := settingText(v); err == nil && !slices.Contains(texts, string(text)) {
				texts = append(texts, string(text))
			}
		}
	}
	if len(texts) == 0 {
		return ""
	}
	return "cells have " + diagnostic.Some(texts, 8, ", ")
}

// checkSearch looks at what all studies have in common.
func (x *expansion) checkSearch(e *Experiment, g *searchConfig) {
	at := func(field string) token.Pos { return x.valueAt([]string{x.name, searchField, field}) }
	for i, seed := range g.Seeds {
		pos := x.elementAt([]string{x.name, searchField, "seeds"}, i)
		path := x.name + ".search.seeds"
		switch {
		case slices.Contains(g.Seeds[:i], seed):
			x.failLabel(path, pos, fmt.Sprintf("seed %d is listed twice", seed), "a trial is trained once for each seed: leave one out")
		case slices.Contains(x.seeds, seed):
			x.failLabel(path, pos, fmt.Sprintf("seed %d is also one of the experiment", seed),
				"what the search has chosen is compared on seeds that it has not seen: give other numbers here or in seeds")
		}
	}
	if g.Objective != "" {
		classes := mergeClasses(x.baseCell.config.Data.Classes, x.baseCell.config.Data.Remap, x.baseCell.config.Data.Ignore).classes
		domain, _, of := strings.Cut(g.Objective, "/")
		if of && !slices.Contains(metric.Names(classes), metric.Canonical(g.Objective)) && slices.ContainsFunc(e.Domains, func(d string) bool { return d == domain || strings.HasPrefix(d, domain+"@") }) {
			x.failLabel(x.name+".search.objective", at("objective"),
				fmt.Sprintf("%q is a domain that is reported; a search reads validation alone", domain), "write the metric without the domain")
		} else {
			x.checkMetric(&x.baseCell.subject, "search.objective", g.Objective, classes)
		}
	}
}

// space reads parameters; those with mistakes are reported and left out.
func (x *expansion) space(at []string, v cue.Value) (all []*parameter) {
	it, err := v.Fields()
	if err != nil {
		return nil
	}
	for it.Next() {
		p, ok := x.parameter(append(slices.Clone(at), it.Selector().String()), it.Selector().Unquoted(), it.Value())
		if !ok {
			continue
		}
		if i := slices.IndexFunc(all, func(q *parameter) bool { return related(cuePath(p.Name), cuePath(q.Name)) }); i >= 0 {
			x.failLabel(strings.Join(p.at, "."), p.label, fmt.Sprintf("%q and %q have values in common", p.Name, all[i].Name), "leave one out")
			continue
		}
		all = append(all, p)
	}
	return all
}

// parameter reads one parameter.
func (x *expansion) parameter(at []string, path string, v cue.Value) (p *parameter, ok bool) {
	p = &parameter{Param: space.Param{Name: path}, label: x.labelAt(at), at: at}
	name := strings.Join(at, ".")
	parsed, ok := x.varying(path, name, p.label)
	if !ok {
		return p, false
	}
	if i := slices.IndexFunc(x.set, func(o *override) bool { return related(o.path, parsed) }); i >= 0 {
		x.failLabel(name, x.set[i].label, fmt.Sprintf("%q is searched, so setting it changes no trial", path), "set the values that it may have: --set 'search.space."+quoteLabel(path)+".choice=[…]'")
		return p, false
	}
	for _, field := range []string{"vary", "zip", "ablate"} {
		for _, axis := range fieldNames(x.base().LookupPath(cue.ParsePath(field))) {
			if related(cuePath(axis), parsed) {
				x.failLabel(name, p.label, fmt.Sprintf("%q is searched here and listed in %s", path, field), "each cell is searched with its own value of what varies: leave one out")
				return p, false
			}
		}
	}
	if x.isRefused(name) {
		return p, false
	}
	fail := func(field, message, hint string) {
		ok = false
		pos := p.label
		if field != "" {
			pos = x.labelAt(append(slices.Clone(at), field))
		}
		x.failLabel(name, pos, message, hint)
	}
	var given struct {
		Choice    []any `json:"choice"`
		Low, High *float64
		Log       bool             `json:"log"`
		Step      *float64         `json:"step"`
		When      map[string][]any `json:"when"`
	}
	text, err := v.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(text, &given)
	}
	if large := (*json.UnmarshalTypeError)(nil); errors.As(err, &large) {
		fail(strings.ToLower(large.Field), fmt.Sprintf("%q: the %s is too large", path, large.Value), "")
		return p, false
	}
	if err != nil {
		fail("", "cannot be read: "+err.Error(), "")
		return p, false
	}
	numbers := given.Low != nil || given.High != nil
	switch {
	case given.Choice != nil && (numbers || given.Step != nil || given.Log):
		fail("choice", fmt.Sprintf("%q has choice and a range", path), "give choice, or low and high")
	case given.Choice == nil && !numbers:
		fail("", fmt.Sprintf("%q has no values", path), "give choice: […], or low and high")
	case given.Choice == nil && given.Low == nil:
		fail("high", fmt.Sprintf("%q has high and no low", path), "write low: …")
	case given.Choice == nil && given.High == nil:
		fail("low", fmt.Sprintf("%q has low and no high", path), "write high: …")
	case given.Choice != nil:
		p.Kind, p.Choices = space.Choice, given.Choice
		for i, value := range given.Choice {
			if slices.ContainsFunc(given.Choice[:i], func(other any) bool { return reflect.DeepEqual(value, other) }) {
				text, _ := json.Marshal(value)
				x.failLabel(name, x.elementAt(append(slices.Clone(at), "choice"), i), fmt.Sprintf("%s is listed twice in %q", text, path), "leave one out")
				ok = false
			}
		}
	default:
		p.Low, p.High, p.Log = *given.Low, *given.High, given.Log
		if given.Step != nil {
			p.Step = *given.Step
		}
		x.setKind(p, x.baseVariant())
		ok = x.sound(p) && ok
	}
	for _, path := range fieldNames(v.LookupPath(cue.ParsePath("when"))) {
		at := append(slices.Clone(at), "when", quoteLabel(path))
		if _, can := x.varying(path, strings.Join(at, "."), x.labelAt(at)); !can {
			ok = false
			continue
		}
		for i, value := range given.When[path] {
			if message, hint := x.neverIs(path, value); message != "" {
				x.failLabel(strings.Join(at, "."), x.elementAt(at, i), message, hint)
				ok = false
			}
		}
		p.When = append(p.When, space.Condition{Param: path, Values: given.When[path]})
	}
	return p, ok
}

// neverIs says why a field never has a value, with a hint; "" if it may.
func (x *expansion) neverIs(path string, value any) (message, hint string) {
	raw, err := settingText(value)
	if err != nil {
		return "", ""
	}
	text := string(raw)
	if name, is := value.(string); is && path == "adapter.variant" && name != none {
		var unknown *variant.UnknownError
		if _, err := x.resolve.params(x.cue, name); errors.As(err, &unknown) {
			return fmt.Sprintf("unknown variant %q", name), diagnostic.Suggest(name, "variants", append(slices.Clone(unknown.Known), none))
		}
		return "", ""
	}
	names := cuePath(path)
	known := lookup(x.schema, names)
	if len(names) > 2 && names[0] == "adapter" && names[1] == "params" || !known.Exists() || known.IncompleteKind() == cue.StructKind {
		return "", ""
	}
	if known.Unify(x.cue.CompileBytes(raw)).Validate(cue.Concrete(true)) == nil {
		return "", ""
	}
	rule := sentenceOf(known)
	message = fmt.Sprintf("%s never is %s", path, text)
	if rule != "" {
		message += ": it " + rule
	}
	return message, choice(text, rule)
}

// isRefused reports whether the schema has refused something at a path or below it,
// which is left out of the values then.
func (x *expansion) isRefused(path string) bool {
	return slices.ContainsFunc(x.found, func(d diagnostic.Diagnostic) bool {
		return !d.Warning && (d.Path == path || strings.HasPrefix(d.Path, path+"."))
	})
}

// sound reports whether the values of a parameter are, whatever its conditions.
func (x *expansion) sound(p *parameter) bool {
	alone := *p
	alone.When = nil
	return x.spaceOf([]*parameter{&alone}) != nil
}

// spaceOf makes a space of parameters; nil, reported at their places, if it cannot.
func (x *expansion) spaceOf(all []*parameter) *space.Space {
	var list []space.Param
	for _, p := range all {
		list = append(list, p.Param)
	}
	made, err := space.New(list...)
	if err == nil {
		return made
	}
	faults := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		faults = joined.Unwrap()
	}
	for _, err := range faults {
		var fault *space.Error
		if !errors.As(err, &fault) {
			continue
		}
		p := all[slices.IndexFunc(all, func(p *parameter) bool { return p.Name == fault.Param })]
		at := p.at
		if fault.Field != "name" {
			at = append(slices.Clone(at), fault.Field)
		}
		x.failLabel(strings.Join(p.at, "."), x.labelAt(at), fmt.Sprintf("%q: %s", p.Name, fault.Message), hintOf(&p.Param, fault))
	}
	return nil
}

// hintOf is what to write in place of what a space refuses; "" if that cannot be told.
func hintOf(p *space.Param, fault *space.Error) string {
	whole := p.Kind == space.Int
	switch {
	case fault.Field == "low" && whole && p.Low != math.Trunc(p.Low):
		return fmt.Sprintf("write low: %v", math.Ceil(p.Low))
	case fault.Field == "high" && whole && p.High != math.Trunc(p.High):
		return fmt.Sprintf("write high: %v", math.Floor(p.High))
	case fault.Field == "step" && whole && p.Step > 0 && p.Step != math.Trunc(p.Step):
		return fmt.Sprintf("write step: %v", max(1, math.Round(p.Step)))
	case fault.Field == "low" && p.Log && p.Low <= 0:
		return "give low a number above 0, or leave log out"
	case fault.Field == "high" && p.High < p.Low:
		return fmt.Sprintf("write {low: %v, high: %v}", p.High, p.Low)
	case fault.Field == "high" && p.High == p.Low:
		return "give a higher number, or write the value in the experiment and leave the parameter out"
	}
	return ""
}

// made gives a study its space.
func (x *expansion) made(s *Study) bool {
	s.Space = x.spaceOf(s.params)
	return s.Space != nil
}

// setKind sets the type of a number: whole where its field takes only these.
func (x *expansion) setKind(p *parameter, variant string) {
	if p.Kind == space.Choice {
		return
	}
	p.Kind = space.Float
	if x.takesInts(cuePath(p.Name), variant) {
		p.Kind = space.Int
	}
}

// takesInts reports whether a field takes whole numbers alone, parameters as those
// of a variant.
func (x *expansion) takesInts(path []string, variant string) bool {
	at := lookup(x.schema, path)
	if len(path) == 3 && path[0] == "adapter" && path[1] == "params" { // the schema leaves these to the plug-in
		at = lookup(x.paramSchema(variant), path[2:])
	}
	return at.Exists() && at.IncompleteKind()&(cue.IntKind|cue.FloatKind) == cue.IntKind
}

// there is the part of a space that a cell has: without the parameters whose
// conditions on the cell do not hold, and without these conditions. Conditions on
// parameters stay.
func (x *expansion) there(c *cell, all []*parameter, held map[string]bool) (own []*parameter) {
	if c.config == nil {
		return nil
	}
	for _, p := range all {
		mine := *p
		mine.When = nil
		is := true
		for _, w := range p.When {
			key := p.Name + "\x00" + w.Param
			if slices.ContainsFunc(all, func(q *parameter) bool { return q.Name == w.Param }) {
				held[key] = true
				mine.When = append(mine.When, w)
				continue
			}
			value, ok := x.valueIn(c, w.Param)
			if !ok || !slices.ContainsFunc(w.Values, func(v any) bool { return reflect.DeepEqual(v, value) }) {
				is = false
				continue
			}
			held[key] = true
		}
		if is {
			x.setKind(&mine, c.config.Adapter.Variant)
			own = append(own, &mine)
		}
	}
	return own
}

// valueIn is the value of a cell at a path.
func (x *expansion) valueIn(c *cell, path string) (any, bool) {
	t := c.resolved()
	for _, name := range cuePath(path) {
		if t = t.members[label(name)]; t == nil {
			return nil, false
		}
	}
	var v any
	return v, json.Unmarshal(t.append(nil), &v) == nil
}

// fixedOf are the values of a cell that stay where a point replaces the searched
// ones.
func (x *expansion) fixedOf(c *cell, in *space.Space) (fixed []*override) {
	for _, o := range c.overlay {
		var drop [][]string
		gone := false
		for i := range in.Len() {
			path := cuePath(in.Param(i).Name)
			switch {
			case len(path) <= len(o.path) && related(o.path, path):
				gone = true
			case related(o.path, path):
				drop = append(drop, path[len(o.path):])
			}
		}
		if gone {
			continue
		}
		if len(drop) > 0 {
			o = x.less(o, drop)
		}
		fixed = append(fixed, o)
	}
	return fixed
}

// less is an override with a struct without some of its fields.
func (x *expansion) less(o *override, drop [][]string) *override {
	all := x.nothing()
	var walk func(path []string, v cue.Value)
	walk = func(path []string, v cue.Value) {
		if slices.ContainsFunc(drop, func(d []string) bool { return slices.Equal(d, path) }) {
			return
		}
		it, err := v.Fields()
		if err != nil || v.IncompleteKind() != cue.StructKind {
			all = all.FillPath(selectors(path), v)
			return
		}
		for it.Next() {
			walk(append(slices.Clone(path), it.Selector().String()), it.Value())
		}
	}
	walk(nil, o.value)
	less := *o
	less.value, less.text = all, valueText(all)
	return &less
}

// checkPruner looks at the steps of a pruner, which lie within the training.
func (x *expansion) checkPruner(s *Study) {
	last := params.Steps(s.Untuned[0].Spec)
	for _, f := range []struct {
		name  string
		value uint64
		kinds []string
	}{
		{"min", s.Pruner.Min, []string{"asha", "hyperband"}},
		{"every", s.Pruner.Every, []string{"median", "percentile"}},
		{"warmup", s.Pruner.Warmup, []string{"median", "percentile"}},
	} {
		if f.value >= last && slices.Contains(f.kinds, s.Pruner.Kind) {
			x.failLabel(x.name+".search.pruner."+f.name, x.valueAt([]string{x.name, searchField, "pruner", f.name}),
				fmt.Sprintf("no trial pauses before step %d, and a training of %s has %d steps", f.value, s.Cell, last), "give fewer steps, or no pruner")
			return
		}
	}
}

// checkSampler looks at what a sampler asks of a space.
func (x *expansion) checkSampler(s *Study) {
	at := x.valueAt([]string{x.name, searchField, "sampler"})
	fail := func(message, hint string) { x.failLabel(x.name+".search.sampler", at, message, hint) }
	numbers := 0
	for i := range s.Space.Len() {
		if s.Space.Param(i).Kind != space.Choice {
			numbers++
		}
	}
	if i := s.Space.Endless(); s.Sampler == "grid" && i >= 0 {
		p := s.Space.Param(i)
		fail(fmt.Sprintf("a grid has no end with %q, any number from %v to %v", p.Name, p.Low, p.High), "give it a step or choice, or take another sampler")
	}
	if s.Sampler == "cmaes" && numbers < 2 {
		fail(fmt.Sprintf("cmaes moves in two numbers at least, and %s has %d", s.Cell, numbers), `take "tpe"`)
	}
}

// starts reads the points that are tried first. A point counts in each study that
// has its paths.
func (x *expansion) starts(v cue.Value, studies []*Study) {
	list, err := v.List()
	if err != nil {
		return
	}
	for i := 0; list.Next(); i++ {
		at := []string{x.name, searchField, "start", fmt.Sprint(i)}
		name := x.name + ".search.start"
		var point []Setting
		ok := true
		it, err := list.Value().Fields()
		if err != nil {
			continue // reported as no struct
		}
		for it.Next() {
			path := it.Selector().Unquoted()
			pos := x.labelAt(append(slices.Clone(at), it.Selector().String()))
			value := goValue(it.Value())
			known, has := []string{}, false
			var p *space.Param
			for _, s := range studies {
				if s == nil {
					continue
				}
				for j := range s.Space.Len() {
					q := s.Space.Param(j)
					if !slices.Contains(known, q.Name) {
						known = append(known, q.Name)
					}
					if q.Name == path {
						p = &q
						has = has || can(q, value)
					}
				}
			}
			switch {
			case p == nil:
				ok = false
				x.failLabel(name, pos, fmt.Sprintf("%q is not searched", path), diagnostic.Suggest(path, "searched are", known))
			case !has:
				ok = false
				x.failLabel(name, cmpPos(position(it.Value()), pos), fmt.Sprintf("%q never is %s", path, valueText(it.Value())), "it has "+values(*p))
			}
			point = append(point, Setting{Path: path, Value: value})
		}
		if !ok {
			continue
		}
		taken := false
		var missing []*lack
		for _, s := range studies {
			if s == nil {
				continue
			}
			whole, lacks := x.completed(s, point)
			if whole != nil {
				s.Start, taken = append(s.Start, whole), true
			}
			for _, l := range lacks {
				if i := slices.IndexFunc(missing, l.alike); i >= 0 {
					missing[i].cells = append(missing[i].cells, s.Cell)
				} else {
					missing = append(missing, l)
				}
			}
		}
		pos := x.elementAt([]string{x.name, searchField, "start"}, i)
		for _, l := range missing {
			d := diagnostic.Diagnostic{Path: name, Warning: taken, Message: l.message(), Hint: l.hint(), Cells: l.cells, Of: x.total}
			if taken {
				d.Message += ", so the search does not begin there"
			}
			x.report(x.mark(d, pos))
		}
		if !taken && len(missing) == 0 {
			x.failLabel(name, pos, "no cell is searched at this point: conditions of its parameters do not hold together", "")
		}
	}
}

// A lack is a parameter that a point leaves out and that has no value in some cells, or
// one that is not searched.
type lack struct {
	param space.Param
	text  string // the value of the cells; "" for none
	value any
	cells []string
}

func (l *lack) alike(other *lack) bool {
	return l.param.Name == other.param.Name && l.text == other.text
}

func (l *lack) message() string {
	if l.text == "" {
		return fmt.Sprintf("%q is left out here, and the cell has no value for it", l.param.Name)
	}
	return fmt.Sprintf("%q is left out here, and %s, which the cell has, is not searched: it has %s", l.param.Name, l.text, values(l.param))
}

// hint says which value the point may have, and how the space has that of the cell.
func (l *lack) hint() string {
	write := func(value any) string {
		text, _ := json.Marshal(value)
		return fmt.Sprintf("write {%q: %s} in this point", l.param.Name, text)
	}
	if l.param.Kind == space.Choice {
		hint := write(l.param.Choices[0])
		if l.text != "" {
			hint += fmt.Sprintf(", or add %s to choice", l.text)
		}
		return hint
	}
	number, ok := l.value.(float64)
	switch {
	case !ok:
		return write(l.param.Low)
	case number < l.param.Low:
		return write(l.param.Low) + fmt.Sprintf(", or widen the space with low: %s", l.text)
	case number > l.param.High:
		return write(l.param.High) + fmt.Sprintf(", or widen the space with high: %s", l.text)
	case l.param.Step > 0:
		return write(l.param.Low + l.param.Step*math.Round((number-l.param.Low)/l.param.Step))
	}
	return write(l.param.Low)
}

// completed is a point with the values of the cell where it has none, in the order of
// the space; lacks are the parameters because of which there is none.
func (x *expansion) completed(s *Study, point []Setting) (whole []Setting, lacks []*lack) {
	given := map[string]any{}
	for _, g := range point {
		if s.Space.Index(g.Path) < 0 {
			return nil, nil
		}
		given[g.Path] = g.Value
	}
	p := make(space.Point, s.Space.Len())
	for i := range p {
		p[i] = space.Inactive
	}
	for _, i := range s.Space.Order() {
		if !s.Space.Exists(p, i) {
			continue
		}
		q := s.Space.Param(i)
		v, ok := given[q.Name]
		if !ok {
			if v, ok = x.valueIn(s.cell, q.Name); !ok {
				lacks = append(lacks, &lack{param: q, cells: []string{s.Cell}})
				continue
			}
		}
		at, err := q.Encode(v)
		if err != nil {
			text, _ := settingText(v)
			lacks = append(lacks, &lack{q, string(text), v, []string{s.Cell}})
			continue
		}
		p[i] = at
	}
	if len(lacks) > 0 {
		return nil, lacks
	}
	for i, v := range p {
		if space.Active(v) {
			whole = append(whole, Setting{s.Space.Param(i).Name, s.Space.Param(i).Decode(v)})
		} else if _, ok := given[s.Space.Param(i).Name]; ok {
			return nil, nil // its conditions do not hold
		}
	}
	return whole, nil
}

// can reports whether a parameter can have a value.
func can(p space.Param, value any) bool {
	_, err := p.Encode(value)
	return err == nil
}

// values says in words what a parameter can have.
func values(p space.Param) string {
	if p.Kind != space.Choice {
		text := fmt.Sprintf("numbers from %v to %v", p.Low, p.High)
		if p.Step != 0 && p.Step != 1 {
			text += fmt.Sprintf(", a step of %v apart", p.Step)
		}
		return text
	}
	var texts []string
	for _, v := range p.Choices {
		text, _ := json.Marshal(v)
		texts = append(texts, string(text))
	}
	return strings.Join(texts, ", ")
}

// Retest makes the runs of the comparison, one for each of RetestSeeds: the cell of the
// study at a point that the search has found. Rank counts from 0, the best.
func (s *Study) Retest(ctx context.Context, rank int, point []Setting) ([]*Run, diagnostic.List) {
	var repeats []names.Repeat
	for _, seed := range s.RetestSeeds {
		repeats = append(repeats, names.Repeat{Seed: seed})
	}
	runs, found := s.of.resolve(ctx, s, point, repeats...)
	for _, run := range runs {
		run.Cell, run.Values, run.Point = s.RetestCell(rank), s.cell.values, point
		run.Label.Cell = run.Cell
	}
	return runs, found
}

// BaseCell is the name of the cell of an experiment without a matrix, and BestCell that of
// the best that its search has found.
const BaseCell, BestCell = "base", "best"

// RetestCell is the name of the cell of a retest.
func (s *Study) RetestCell(rank int) string {
	name := s.Cell
	if name == BaseCell {
		name = BestCell
	}
	if rank > 0 {
		name += fmt.Sprintf(",top=%d", rank+1)
	}
	return name
}

// Add puts the runs of retests among those of the experiment, in the order of its
// cells and in place of any that a search had before.
func (e *Experiment) Add(s *Study, runs []*Run) {
	e.Runs = slices.DeleteFunc(slices.Clone(e.Runs), func(r *Run) bool { return e.CellOf(r) == s.Cell })
	place := func(name string) int {
		return slices.IndexFunc(e.cells, func(c *cell) bool {
			return c.name == name || c == s.cell && slices.ContainsFunc(runs, func(r *Run) bool { return r.Cell == name })
		})
	}
	at := len(e.Runs)
	for i, run := range e.Runs {
		if p := place(run.Cell); p > slices.Index(e.cells, s.cell) {
			at = i
			break
		}
	}
	e.Runs = slices.Insert(slices.Clone(e.Runs), at, runs...)
}

// cmpPos is the first place that is known.
func cmpPos(a, b token.Pos) token.Pos {
	if a.IsValid() {
		return a
	}
	return b
}

// Encode is a point as one of the space; the error says why it is none.
func (s *Study) Encode(point []Setting) (space.Point, error) {
	values := map[string]any{}
	for _, g := range point {
		values[g.Path] = g.Value
	}
	return s.Space.Encode(values)
}

// Decode is a point of the space as settings, in the order of the space.
func (s *Study) Decode(p space.Point) (point []Setting) {
	for i, v := range p {
		if space.Active(v) {
			point = append(point, Setting{s.Space.Param(i).Name, s.Space.Param(i).Decode(v)})
		}
	}
	return point
}

// Key tells the cell of the study, as the file has it, from others: where two files
// have the same, a point makes the same runs of both.
func (s *Study) Key() string {
	h := sha256.New()
	all := s.cell.resolved()
	for _, name := range sections {
		fmt.Fprintf(h, "%s\n", all.members[name].append(nil))
	}
	for _, run := range s.Untuned {
		fmt.Fprintf(h, "\n%s", run.ID)
	}
	fmt.Fprintf(h, "\n%v %s", s.Seeds, s.Experiment)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

const trialMark = ",trial="

// TrialCell is the name of the cell of a trial of a study.
func TrialCell(cell string, number int) string { return cell + trialMark + strconv.Itoa(number) }

// CutTrial splits the name of the cell of a trial.
func CutTrial(name string) (cell string, number int, ok bool) {
	i := strings.LastIndex(name, trialMark)
	if i < 0 {
		return "", 0, false
	}
	number, err := strconv.Atoi(name[i+len(trialMark):])
	return name[:i], number, err == nil && number >= 0 && TrialCell(name[:i], number) == name
}

// Searches reports whether a name is that of a cell of a search: of a trial, or of
// what is trained after it.
func (e *Experiment) Searches(name string) bool {
	of, _, trial := CutTrial(name)
	return slices.ContainsFunc(e.Studies, func(s *Study) bool {
		if trial {
			return s.Cell == of
		}
		for rank := range s.Top {
			if s.RetestCell(rank) == name {
				return true
			}
		}
		return false
	})
}

// CellOf is the cell of the file that a run is of: of a retest, that which was
// searched.
func (e *Experiment) CellOf(run *Run) string {
	for _, s := range e.Studies {
		for rank := range s.Top {
			if s.RetestCell(rank) == run.Cell {
				return s.Cell
			}
		}
	}
	return run.Cell
}
