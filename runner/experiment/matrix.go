package experiment

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/token"

	"github.com/loralab/loralab/core/name"
	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/runner/diagnostic"
)

// An axis is one path of vary, or several of zip that move together.
type axis struct {
	labels []string // the paths as written
	shorts []string // their names in the names of cells
	steps  [][]*override
	texts  [][]string // of each path, the different values in their order
}

// longest is the number of bytes of a value in the name of a cell. A longer one
// is called by its number.
const longest = 40

// part is one value in the name of a cell: "rank=8", or "augment#2" for the
// second value of a path whose text is long or cannot be printed.
func (a *axis) part(path int, o *override) string {
	if len(o.text) <= longest && utf8.ValidString(o.text) && strings.IndexFunc(o.text, func(r rune) bool { return !name.Printable(r) }) < 0 {
		return a.shorts[path] + "=" + o.text
	}
	if a.texts == nil {
		a.texts = make([][]string, len(a.labels))
		for _, step := range a.steps {
			for j, o := range step {
				if !slices.Contains(a.texts[j], o.text) {
					a.texts[j] = append(a.texts[j], o.text)
				}
			}
		}
	}
	i := slices.Index(a.texts[path], o.text)
	if i < 0 { // of include
		i = len(a.texts[path])
		a.texts[path] = append(a.texts[path], o.text)
	}
	return a.shorts[path] + "#" + strconv.Itoa(i+1)
}

// cells are the points of the matrix: the product of vary and zip, less
// exclude, with include; then ablate; then the cases. Without any of them it is
// the base alone. Axes are the paths that tell cells apart.
func (x *expansion) cells(whole *cell) (cells []*cell, axes []string) {
	before := x.errorCount()
	vary := x.axes("vary")
	zip := x.zipped()
	ablate := x.axes("ablate")
	all := slices.Concat(vary, zip)
	x.shorten(slices.Concat(all, ablate))
	for _, a := range slices.Concat(all, ablate) {
		axes = append(axes, a.labels...)
	}
	if !x.checkAxes(all, ablate) || !x.checkSize(whole, all, ablate) {
		return nil, axes
	}

	cells = x.product(all)
	cells = x.exclude(cells, all)
	cells = x.include(cells, all)
	cells = append(cells, x.ablations(whole, ablate)...)
	cells = append(cells, x.cases(whole.value)...)
	if len(cells) == 0 && x.errorCount() == before {
		cells = []*cell{whole}
	}
	names := map[string]bool{}
	for _, c := range cells {
		if names[c.name] && x.errorCount() == before {
			x.failLabel(x.name, c.label, fmt.Sprintf("two cells are called %q", c.name), "give the case another name, or leave one out")
		}
		names[c.name] = true
	}
	return cells, axes
}

// mostRuns is how many runs an experiment has at most. A plan of 100,000 runs
// takes 2.5 GB of memory.
const mostRuns = 100_000

// checkSize counts the runs before any is made.
func (x *expansion) checkSize(whole *cell, all, ablate []*axis) (ok bool) {
	count := func(field string) int {
		v := whole.value.LookupPath(cue.ParsePath(field))
		if list := v.Len(); list.Exists() && v.IncompleteKind() == cue.ListKind {
			n, _ := list.Int64()
			return int(n)
		}
		return len(fieldNames(v))
	}
	product := 1.0
	for _, a := range all {
		product *= float64(len(a.steps))
	}
	if len(all) == 0 {
		product = 0
	}
	cells := product + float64(count("include")+count("cases"))
	for _, a := range ablate {
		cells += float64(len(a.steps))
	}
	repeats := len(x.baseCell.config.Data.repeats(x.seeds))
	runs := max(cells, 1) * float64(repeats)
	if runs <= mostRuns {
		return true
	}
	at := x.labelAt([]string{x.name, "seeds"})
	for _, a := range slices.Concat(all, ablate) {
		if cells > float64(repeats) && len(a.steps) > 0 {
			at = a.steps[0][0].label
			break
		}
	}
	each := "seed"
	if repeats > len(x.seeds) {
		each = "fold and seed"
	}
	x.failLabel(x.name, at,
		fmt.Sprintf("the experiment has %.0f runs, %.0f for each %s; at most %d are allowed", runs, max(cells, 1), each, mostRuns), "leave values out, move paths together with zip, one at a time with ablate, or make several experiments")
	return false
}

// axes reads vary or ablate: one axis for each path.
func (x *expansion) axes(field string) []*axis {
	var axes []*axis
	it, err := x.base().LookupPath(cue.ParsePath(field)).Fields()
	if err != nil {
		return nil
	}
	for it.Next() {
		if a := x.axis(field, it.Selector().Unquoted(), it.Value()); a != nil {
			axes = append(axes, a)
		}
	}
	return axes
}

// zipped reads zip: one axis, of which each step sets all paths.
func (x *expansion) zipped() []*axis {
	var whole *axis
	for _, a := range x.axes("zip") {
		if whole == nil {
			whole = a
			continue
		}
		if len(a.steps) != len(whole.steps) {
			x.failLabel(x.name+".zip", x.labelAt([]string{x.name, "zip", strconv.Quote(a.labels[0])}),
				fmt.Sprintf("%q has %s, %q has %d", whole.labels[0], plural.Of(len(whole.steps), "value"), a.labels[0], len(a.steps)),
				"values of zip move together: give each path as many; values of vary are combined freely")
			continue
		}
		whole.labels = append(whole.labels, a.labels...)
		for i := range whole.steps {
			whole.steps[i] = append(whole.steps[i], a.steps[i]...)
		}
	}
	if whole == nil {
		return nil
	}
	seen := map[string]bool{}
	for _, step := range whole.steps {
		var key []string
		for _, o := range step {
			key = append(key, o.text)
		}
		if text := strings.Join(key, ", "); seen[text] {
			x.failLabel(x.name+".zip", step[0].place(x.document),
				fmt.Sprintf("%s is listed twice in zip", text), "leave one out: seeds repeat a cell")
		} else {
			seen[text] = true
		}
	}
	return []*axis{whole}
}

// axis reads one path and its values; nil if it cannot be used.
func (x *expansion) axis(field, path string, values cue.Value) *axis {
	at := []string{x.name, field, strconv.Quote(path)}
	pos := x.labelAt(at)
	parsed, ok := x.varying(path, strings.Join(at, "."), pos)
	if !ok {
		return nil
	}
	if i := slices.IndexFunc(x.set, func(o *override) bool { return related(o.path, parsed) }); i >= 0 {
		x.failLabel(strings.Join(at, "."), x.set[i].label,
			fmt.Sprintf("%q varies, so setting it changes no cell", path), fmt.Sprintf("set the values it takes: --set '%s.%q=[…]'", field, path))
		return nil
	}
	list, err := values.List()
	if err != nil {
		return nil // reported as not being a list
	}
	a := &axis{labels: []string{path}}
	seen := map[string]bool{}
	for list.Next() {
		o := newOverride(parsed, list.Value(), pos)
		if seen[o.text] && field != "zip" {
			x.failLabel(strings.Join(at, "."), o.place(x.document),
				fmt.Sprintf("%s is listed twice in %q", o.text, path), "leave one out: seeds repeat a cell")
			continue
		}
		seen[o.text] = true
		a.steps = append(a.steps, []*override{o})
	}
	return a
}

// varying parses a path that cells may replace; what is wrong with it is
// reported at pos.
func (x *expansion) varying(path, at string, pos token.Pos) ([]string, bool) {
	fail := func(message, hint string) ([]string, bool) {
		x.failLabel(at, pos, message, hint)
		return nil, false
	}
	parsed := cue.ParsePath(path)
	if parsed.Err() != nil {
		return fail(fmt.Sprintf("%q is no path of an experiment", path), `write the names of the fields with dots, "optim.lr.head"`)
	}
	var names []string
	for _, s := range parsed.Selectors() {
		names = append(names, s.String())
	}
	if len(names) == 0 {
		return fail("\"\" is no path of an experiment", `write the names of the fields with dots, "optim.lr.head"`)
	}
	if can := append(slices.Clone(sections), presetField); !slices.Contains(can, names[0]) {
		return fail(fmt.Sprintf("%q cannot vary", path), cmp.Or(x.variesElsewhere(label(names[len(names)-1])), diagnostic.Suggest(names[0], "what can", can)))
	}
	if !lookup(x.schema, names).Exists() && !(len(names) > 2 && names[0] == "adapter" && names[1] == "params") {
		return fail(fmt.Sprintf("an experiment has no field %q", path), cmp.Or(renamedIn(names), x.nearby(names), x.variesElsewhere(label(names[len(names)-1])), diagnostic.Suggest(path, "known", x.paths())))
	}
	return names, true
}

// checkAxes finds paths that are given twice.
func (x *expansion) checkAxes(all, ablate []*axis) (ok bool) {
	ok = true
	type named struct {
		label string
		at    token.Pos
	}
	var seen []named
	for i, a := range slices.Concat(all, ablate) {
		for j, label := range a.labels {
			if len(a.steps) == 0 || j >= len(a.steps[0]) {
				continue
			}
			at := a.steps[0][j].label
			k := slices.IndexFunc(seen, func(n named) bool { return n.label == label })
			if k >= 0 {
				ok = false
				what := "vary, zip or ablate"
				if i < len(all) {
					what = "vary and zip"
				}
				x.failLabel(x.name, at, fmt.Sprintf("%q is listed twice in %s", label, what), "the other is at "+x.at(seen[k].at).String())
			}
			seen = append(seen, named{label, at})
		}
	}
	return ok
}

// shorten names the axes in the names of cells: by the last element of the
// path, by the last two where that is not enough.
func (x *expansion) shorten(axes []*axis) {
	short := func(path string, n int) string {
		var names []string
		for _, s := range cue.ParsePath(path).Selectors() {
			names = append(names, label(s.String()))
		}
		return strings.Join(names[max(0, len(names)-n):], ".")
	}
	count := map[string]int{}
	for _, a := range axes {
		for _, path := range a.labels {
			count[short(path, 1)]++
		}
	}
	for _, a := range axes {
		for _, path := range a.labels {
			n := 1
			if count[short(path, 1)] > 1 {
				n = 2
			}
			a.shorts = append(a.shorts, short(path, n))
		}
	}
}

// product are the cells of vary and zip: the last axis moves fastest.
func (x *expansion) product(axes []*axis) []*cell {
	if len(axes) == 0 {
		return nil
	}
	for _, a := range axes {
		if len(a.steps) == 0 {
			return nil
		}
	}
	var cells []*cell
	index := make([]int, len(axes))
	for {
		var taken []*override
		for i, a := range axes {
			taken = append(taken, a.steps[index[i]]...)
		}
		cells = append(cells, point(axes, taken))
		i := len(axes) - 1
		for ; i >= 0; i-- {
			if index[i]++; index[i] < len(axes[i].steps) {
				break
			}
			index[i] = 0
		}
		if i < 0 {
			return cells
		}
	}
}

// point is the cell with one value for each path of the axes.
func point(axes []*axis, taken []*override) *cell {
	c := &cell{subject: subject{overlay: taken}, label: taken[0].label}
	var parts []string
	i := 0
	for _, a := range axes {
		for j, path := range a.labels {
			c.values = append(c.values, AxisValue{Path: path, Value: taken[i].goValue()})
			parts = append(parts, a.part(j, taken[i]))
			i++
		}
	}
	c.name = strings.Join(parts, ",")
	return c
}

// paths of the axes in their order.
func pathsOf(axes []*axis) []string {
	var paths []string
	for _, a := range axes {
		paths = append(paths, a.labels...)
	}
	return paths
}

// entries reads exclude or include: lists of points, each with values for
// paths of the axes, in their order; nil where it has none.
func (x *expansion) entries(field string, axes []*axis) (entries [][]*override, at []token.Pos) {
	list, err := x.base().LookupPath(cue.ParsePath(field)).List()
	if err != nil {
		return nil, nil
	}
	known := pathsOf(axes)
	for i := 0; list.Next(); i++ {
		place := []string{x.name, field, strconv.Itoa(i)}
		pos := x.elementAt([]string{x.name, field}, i)
		entry := make([]*override, len(known))
		ok, empty := true, true
		it, err := list.Value().Fields()
		if err != nil {
			continue // reported as not being a struct
		}
		for it.Next() {
			path := it.Selector().Unquoted()
			empty = false
			label := x.labelAt(append(slices.Clone(place), it.Selector().String()))
			j := slices.Index(known, path)
			if j < 0 {
				ok = false
				if slices.ContainsFunc(x.set, func(o *override) bool { return related(o.path, cuePath(path)) }) {
					continue // reported where it is set
				}
				x.failLabel(strings.Join(place, "."), label,
					fmt.Sprintf("%q does not vary", path), cmp.Or(renamedIn(cuePath(path)), diagnostic.Suggest(path, "vary and zip have", known)))
				continue
			}
			entry[j] = newOverride(cuePath(path), it.Value(), label)
		}
		if empty {
			x.failLabel(strings.Join(place, "."), pos,
				"this names no path", fmt.Sprintf("write %s: [{%q: …}]", field, slices.Concat(known, []string{"adapter.params.rank"})[0]))
		} else if ok {
			entries, at = append(entries, entry), append(at, pos)
		}
	}
	return entries, at
}

func cuePath(path string) []string {
	var names []string
	for _, s := range cue.ParsePath(path).Selectors() {
		names = append(names, s.String())
	}
	return names
}

// exclude leaves points out. An entry that takes nothing is a mistake.
func (x *expansion) exclude(cells []*cell, axes []*axis) []*cell {
	entries, at := x.entries("exclude", axes)
	for i, entry := range entries {
		n := len(cells)
		kept := slices.DeleteFunc(slices.Clone(cells), func(c *cell) bool {
			for j, o := range entry {
				if o != nil && o.text != c.overlay[j].text {
					return false
				}
			}
			return true
		})
		path := fmt.Sprintf("%s.exclude.%d", x.name, i)
		switch {
		case n == 0: // something else is wrong
		case len(kept) == n:
			hint := ""
			for j, path := range pathsOf(axes) {
				var values []string
				for _, c := range cells {
					if !slices.Contains(values, c.overlay[j].text) {
						values = append(values, c.overlay[j].text)
					}
				}
				if o := entry[j]; o != nil && !slices.Contains(values, o.text) {
					hint = fmt.Sprintf("%q takes %s", path, strings.Join(values, ", "))
				}
			}
			x.failLabel(path, at[i], "this excludes nothing", hint)
		case len(kept) == 0:
			x.failLabel(path, at[i], "this excludes the last cell", "leave out vary, or this")
		}
		cells = kept
	}
	return cells
}

// include adds points.
func (x *expansion) include(cells []*cell, axes []*axis) []*cell {
	entries, at := x.entries("include", axes)
	for i, entry := range entries {
		path := fmt.Sprintf("%s.include.%d", x.name, i)
		var missing []string
		for j, path := range pathsOf(axes) {
			if entry[j] == nil {
				missing = append(missing, strconv.Quote(path))
			}
		}
		if len(missing) > 0 {
			x.failLabel(path, at[i], "this point has no value for "+strings.Join(missing, ", "), "a point that is on no axis is a case: cases: NAME: …")
			continue
		}
		c := point(axes, entry)
		c.label = at[i]
		if slices.ContainsFunc(cells, func(other *cell) bool { return other.name == c.name }) {
			x.failLabel(path, at[i], fmt.Sprintf("the matrix has %s already", c.name), "leave it out")
			continue
		}
		cells = append(cells, c)
	}
	return cells
}

// ablations are the base and the cells that differ from it in one value. Each
// has the values of all its axes, so that a figure finds the base on each.
func (x *expansion) ablations(whole *cell, axes []*axis) []*cell {
	if len(axes) == 0 {
		return nil
	}
	base := make([]AxisValue, len(axes))
	for i, a := range axes {
		base[i].Path = a.labels[0]
		if len(a.steps) > 0 {
			if v := whole.value.LookupPath(selectors(a.steps[0][0].path)); v.Exists() {
				base[i].Value = goValue(v)
			}
		}
	}
	known := func(values []AxisValue) []AxisValue {
		return slices.DeleteFunc(slices.Clone(values), func(v AxisValue) bool { return v.Value == nil })
	}
	cells := []*cell{{subject: subject{name: "base"}, values: known(base), config: whole.config, tree: whole.tree, label: x.labelAt([]string{x.name, "ablate"})}}
	for i, a := range axes {
		for _, step := range a.steps {
			o := step[0]
			values := slices.Clone(base)
			values[i].Value = o.goValue()
			if reflect.DeepEqual(values[i], base[i]) {
				continue // the base has it
			}
			cells = append(cells, &cell{subject: subject{a.part(0, o), step}, values: known(values), label: o.label})
		}
	}
	return cells
}

// cases are the named cells.
func (x *expansion) cases(base cue.Value) []*cell {
	it, err := base.LookupPath(cue.ParsePath("cases")).Fields()
	if err != nil {
		return nil
	}
	var cells []*cell
	for it.Next() {
		at := []string{x.name, "cases", it.Selector().String()}
		c := &cell{subject: subject{name: it.Selector().Unquoted()}, label: x.labelAt(at)}
		x.named(name.Case(c.name), strings.Join(append([]string{x.name}, at[1:]...), "."), c.label)
		x.leaves(nil, it.Value(), base, c)
		preset, given := presetIn(it.Value())
		if !given {
			preset, _ = presetIn(base)
		}
		c.overlay = slices.DeleteFunc(c.overlay, func(o *override) bool { return x.allPinned(preset, o.path, o.value) })
		for _, o := range c.overlay {
			o.from = append(slices.Clone(at), o.path...)
			o.label = x.labelAt(o.from)
		}
		x.setAway(c)
		cells = append(cells, c)
	}
	return cells
}

// setAway reports settings of the command line that a case takes the place of, and
// leaves them to the settings, so that each is one mistake.
func (x *expansion) setAway(c *cell) {
	for _, s := range x.set {
		at := slices.IndexFunc(c.overlay, func(o *override) bool {
			whole := len(o.path) == 2 && o.path[1] == "params" // of another variant
			return !whole && related(o.path, s.path)
		})
		own := append([]string{"cases", cue.Str(c.name).String()}, s.path...)
		if at < 0 || slices.ContainsFunc(x.set, func(o *override) bool { return slices.Equal(o.path, own) }) {
			continue
		}
		x.failLabel(x.name+".cases."+c.name, s.label,
			fmt.Sprintf("the case %q gives %s, so setting it does not change every cell", c.name, strings.Join(c.overlay[at].path, ".")), fmt.Sprintf("set it there too: --set 'cases.%s.%s=…'", cue.Str(c.name), strings.Join(s.path, ".")))
		c.overlay = slices.DeleteFunc(c.overlay, func(o *override) bool { return related(o.path, s.path) })
	}
}

// paths are all paths of the schema that cells may replace.
func (x *expansion) paths() []string {
	var paths []string
	var walk func(v cue.Value, path string)
	walk = func(v cue.Value, path string) {
		if v.IncompleteKind() != cue.StructKind {
			paths = append(paths, path)
			return
		}
		it, err := v.Fields(cue.Optional(true))
		if err != nil {
			return
		}
		for it.Next() {
			walk(it.Value(), path+"."+it.Selector().Unquoted())
		}
	}
	for _, s := range sections {
		walk(lookup(x.schema, []string{s}), s)
	}
	for _, p := range fieldNames(x.paramSchema(x.baseVariant())) {
		paths = append(paths, "adapter.params."+p)
	}
	return paths
}

// leaves collects what a case replaces: where the base has a struct too, its
// fields one by one. With another variant, the parameters are another
// variant's too and are replaced as a whole.
func (x *expansion) leaves(path []string, v, base cue.Value, c *cell) {
	it, err := v.Fields()
	if err != nil || len(path) > 0 && base.IncompleteKind() != cue.StructKind {
		c.overlay = append(c.overlay, &override{path: slices.Clone(path), value: v, at: position(v)})
		return
	}
	for it.Next() {
		name := it.Selector().String()
		if len(path) == 0 && name == searchField {
			continue // what is searched is no value
		}
		x.leaves(append(path, name), it.Value(), base.LookupPath(cue.MakePath(it.Selector())), c)
	}
	if len(path) == 1 && path[0] == "adapter" {
		variant, _ := v.LookupPath(cue.ParsePath("variant")).String()
		from := v.LookupPath(cue.ParsePath("from")).Exists()
		if old, _ := base.LookupPath(cue.ParsePath("variant")).String(); from || variant != "" && variant != old {
			c.overlay = slices.DeleteFunc(c.overlay, func(o *override) bool {
				return len(o.path) > 1 && o.path[0] == "adapter" && o.path[1] == "params"
			})
			params := v.LookupPath(cue.ParsePath("params"))
			if !params.Exists() {
				params = x.nothing()
			}
			c.overlay = append(c.overlay, &override{path: []string{"adapter", "params"}, value: params, at: position(params)})
		}
	}
}
