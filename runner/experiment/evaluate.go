package experiment

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/errors"

	"github.com/loralab/loralab/runner/diagnostic"
)

// What the cells come to. CUE decides what is valid, yet not once for each of
// thousands of cells: a value that nothing refers to (see references) is held
// against its place once and then put into all cells that have it. Only where
// values depend on each other is each of their combinations evaluated. Slow
// evaluates every cell in full; a test holds both ways against each other.

func treeOf(v cue.Value) (*tree, error) {
	text, err := v.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return parseTree(text)
}

// A group is the cells that agree in all values that others may depend on, and
// in the paths of those on which nothing depends.
type group struct {
	bound bool
	cells []*cell
	tree  *tree // what the first of its cells comes to; nil if it has a mistake
}

// evaluate finds what every cell comes to, and reports what is wrong with it.
func (x *expansion) evaluate(whole *cell, cells []*cell) {
	x.bind(cells)
	x.checkFree(cells)
	var groups []*group
	known := map[string]*group{}
	for _, c := range cells {
		if c.config != nil {
			continue // the base
		}
		key, bound := "", false
		for _, o := range c.overlay {
			if o.bound {
				bound = true
				key += fmt.Sprintf("%d ", o.id)
			} else {
				key += fmt.Sprintf("%q ", o.path)
			}
		}
		if !bound {
			key = ""
		}
		g := known[key]
		if g == nil {
			g = &group{bound: bound}
			known[key] = g
			groups = append(groups, g)
		}
		g.cells = append(g.cells, c)
	}
	for _, g := range groups {
		x.evaluateGroup(whole, g)
	}
}

// bind marks the values that others may depend on, or that lie within each
// other.
func (x *expansion) bind(cells []*cell) {
	if x.refs == nil {
		x.refs = x.references(x.name)
	}
	refs := x.refs
	seen := map[*override]bool{}
	base := x.base()
	for _, c := range cells {
		for i, o := range c.overlay {
			for _, other := range c.overlay[:i] {
				if related(o.path, other.path) {
					o.bound, other.bound = true, true
				}
			}
			if seen[o] {
				continue
			}
			seen[o] = true
			o.id = len(seen)
			isStruct := o.value.IncompleteKind() == cue.StructKind || base.LookupPath(selectors(o.path)).IncompleteKind() == cue.StructKind
			o.bound = o.bound || x.env.slow || refs.touches(o.path, isStruct)
		}
	}
	// What stands beside a preset may contradict it.
	for _, c := range cells {
		if _, own := x.presetOf(c.overlay); own {
			for _, o := range c.overlay {
				o.bound = true
			}
		}
	}
}

// checkFree holds every value that nothing depends on against its place.
func (x *expansion) checkFree(cells []*cell) {
	var free []*override
	of := map[*override][]*cell{}
	for _, c := range cells {
		for _, o := range c.overlay {
			if !o.bound {
				if of[o] == nil {
					free = append(free, o)
				}
				of[o] = append(of[o], c)
			}
		}
	}
	if len(free) == 0 {
		return
	}
	name := cue.MakePath(cue.Str(x.name))
	root := x.without(free).LookupPath(name)
	for _, o := range free {
		if x.cannotVary(o, of[o]) {
			continue
		}
		if x.validateAlone(root, o) {
			continue
		}
		// In full, for what is wrong with it.
		v := x.filled(x.without([]*override{o}), []*override{o})
		if err := x.validate(x.name, v); err != nil {
			x.complain(err, scope{prefix: []string{x.name}, schema: x.schema, overlay: []*override{o}, cells: namesOf(of[o]), of: x.total})
			o.bad = true
			continue
		}
		var err error
		if o.tree, err = treeOf(v.LookupPath(selectors(o.path))); err != nil {
			x.failRead(of[o], err)
			o.bad = true
		}
	}
}

// validateAlone reports whether a value is valid at its place, whatever is
// elsewhere, and sets its tree.
func (x *expansion) validateAlone(root cue.Value, o *override) bool {
	at := lookup(root, o.path)
	v := o.value
	if at.Exists() {
		v = at.Unify(v)
	} else {
		last := len(o.path) - 1
		above := lookup(root, o.path[:last])
		if !above.Exists() || !above.Allows(cue.Str(label(o.path[last]))) {
			return false
		}
	}
	if v.Validate(cue.Concrete(true), cue.Final()) != nil {
		return false
	}
	t, err := treeOf(v)
	o.tree = t
	return err == nil && numberErrors(t, lookup(x.schema, o.path), nil) == nil
}

func (x *expansion) failRead(cells []*cell, err error) {
	x.report(x.mark(diagnostic.Diagnostic{Path: x.name, Message: "cannot be read: " + err.Error(), Cells: namesOf(cells), Of: x.total}, x.labelAt([]string{x.name})))
}

// evaluateGroup evaluates one of its cells in full and puts the values of the
// others in place.
func (x *expansion) evaluateGroup(whole *cell, g *group) {
	g.tree = whole.tree
	if g.bound {
		bad := func(o *override) bool { return o.bad }
		overlay := g.cells[0].overlay
		if i := slices.IndexFunc(g.cells, func(c *cell) bool { return !slices.ContainsFunc(c.overlay, bad) }); i >= 0 {
			overlay = g.cells[i].overlay
		}
		overlay = slices.DeleteFunc(slices.Clone(overlay), bad)
		root := x.without(overlay)
		kept := false
		for _, o := range overlay {
			kept = x.cannotVary(o, g.cells) || kept
		}
		if kept {
			return
		}
		v := x.filled(root, overlay)
		if err := x.validate(x.name, v); err != nil {
			in := scope{prefix: []string{x.name}, schema: x.schema, overlay: overlay, cells: namesOf(g.cells), of: x.total}
			x.complain(err, in)
			x.complainOfUnknown(overlay, in)
			for _, c := range g.cells {
				x.checkRest(c, err)
			}
			return
		}
		var err error
		if g.tree, err = treeOf(v); err != nil {
			x.failRead(g.cells, err)
			return
		}
		g.tree = x.intern(g.tree, overlay)
	}
	for _, c := range g.cells {
		if slices.ContainsFunc(c.overlay, func(o *override) bool { return o.bad }) {
			x.checkRest(c, nil)
			continue
		}
		c.tree = g.tree
		if err := x.assemble(c); err != nil {
			x.failRead([]*cell{c}, err)
		}
	}
}

// complainOfUnknown reports fields that nothing knows: beside some other
// mistakes CUE does not come to them.
func (x *expansion) complainOfUnknown(overlay []*override, in scope) {
	for _, o := range overlay {
		one := []*override{o}
		var unknown errors.Error
		for _, e := range errors.Errors(x.validate(x.name, x.filled(x.without(one), one))) {
			if find([]errors.Error{e}, notAllowed) != nil {
				unknown = errors.Append(unknown, e)
			}
		}
		if unknown != nil {
			x.complain(unknown, in)
		}
	}
}

// A partKey names a part of a configuration: one section of what a group comes
// to, with the values of a cell in it.
type partKey struct {
	section string
	tree    *tree
	values  string
}

// A keptKey is a section by its content, and by the values of cells in it.
type keptKey struct{ section, values, content string }

// intern gives sections that are alike, in content and in where their values
// come from, one tree, so that cells of several groups share what is read from
// them and checked about them.
func (x *expansion) intern(t *tree, bound []*override) *tree {
	for _, name := range configSections {
		section := t.members[name]
		if section == nil {
			continue
		}
		key := keptKey{name, keyOf(bound, name), string(section.append(nil))}
		if x.kept[key] == nil {
			x.kept[key] = section
		}
		t = t.with([]string{name}, x.kept[key])
	}
	return t
}

// keyOf tells the overrides in a section from others.
func keyOf(overlay []*override, section string) string {
	var key []byte
	for _, o := range overlay {
		if label(o.path[0]) == section {
			key = strconv.AppendInt(append(key, ' '), int64(o.id), 10)
		}
	}
	return string(key)
}

// assemble reads the configuration of a cell: that of its group, with the
// values that nothing depends on in their places.
func (x *expansion) assemble(c *cell) error {
	whole := &config{About: x.about, Seeds: x.seeds}
	var free []*override
	for _, o := range c.overlay {
		if !o.bound {
			free = append(free, o)
		}
	}
	for _, name := range configSections {
		key := partKey{name, c.tree.members[name], keyOf(free, name)}
		part := x.parts[key]
		if part == nil && x.outer != nil && key.values == "" {
			part = x.outer.parts[key]
		}
		if part == nil {
			section := c.resolved().members[name]
			text := append(strconv.AppendQuote([]byte("{"), name), ':')
			text = append(section.append(text), '}')
			part = &config{}
			if err := json.Unmarshal(text, part); err != nil {
				return err
			}
			if part.Adapter != nil {
				part.Adapter.Params = section.members["params"]
				if part.Adapter.Variant == none && c.gives("adapter", "variant") && !c.gives("adapter", "from") {
					part.Adapter.From = "" // of the base
				}
			}
			x.parts[key] = part
		}
		whole.shareSection(name, part)
	}
	c.config = whole
	return nil
}

// gives reports whether a cell has a value of its own at a path.
func (c *cell) gives(path ...string) bool {
	o := covering(c.overlay, path)
	return o != nil && o.value.LookupPath(selectors(path[len(o.path):])).Exists()
}

// resolved is all that a cell says.
func (c *cell) resolved() *tree {
	t := c.tree
	for _, o := range c.overlay {
		if !o.bound {
			t = t.with(o.path, o.tree)
		}
	}
	return t
}

// checkRest looks at what is sound in a case that has mistakes. Values of vary
// are each looked at beside sound values of the other axes anyway.
func (x *expansion) checkRest(c *cell, err error) {
	if c.values != nil {
		return
	}
	rest := slices.Clone(c.overlay)
	rest = slices.DeleteFunc(rest, func(o *override) bool { return o.bad })
	for _, e := range errors.Errors(err) {
		path := e.Path()
		rest = slices.DeleteFunc(rest, func(o *override) bool {
			return len(path) > len(o.path) && slices.Equal(path[1:1+len(o.path)], o.path)
		})
	}
	if len(rest) == len(c.overlay) {
		return
	}
	v := x.filled(x.without(rest), rest)
	if v.Validate(cue.Concrete(true), cue.Final()) != nil {
		return
	}
	r := &cell{subject: subject{name: c.name}}
	if r.tree, err = treeOf(v); err != nil {
		return
	}
	r.tree = x.intern(r.tree, rest)
	if x.assemble(r) == nil {
		r.overlay = rest // all bound
		x.prepare([]*cell{r})
		x.check(r)
	}
}

// without is the experiment with the base's values at the paths of an overlay
// taken out, and at those that a preset in it sets.
func (x *expansion) without(overlay []*override) cue.Value {
	var paths [][]string
	for _, o := range overlay {
		paths = append(paths, o.path)
	}
	from := x.document
	if preset, own := x.presetOf(overlay); own {
		pins := x.pins(preset)
		for _, p := range pins {
			paths = append(paths, p.path)
		}
		paths = append(paths, []string{"cases"}) // which are held to the base's preset
		own := *from
		own.fill = slices.DeleteFunc(slices.Clone(from.fill), func(o *override) bool {
			return slices.ContainsFunc(pins, func(p pin) bool { return slices.Equal(o.path[1:], p.path) })
		})
		from = &own
	}
	var full [][]string
	key := ""
	found := len(from.fill) < len(x.fill)
	for _, below := range paths {
		path := append([]string{x.name}, below...)
		if !slices.ContainsFunc(full, func(p []string) bool { return slices.Equal(p, path) }) {
			key += fmt.Sprintf("%q\n", path)
			full = append(full, path)
			found = found || len(x.fields(path)) > 0
		}
	}
	root, ok := x.roots[key]
	if !ok {
		open := x.document
		if found {
			if e := from.edited(x.blankFields(full, nil)); e != nil && e.isOpen(x.name) {
				open = e
			}
		}
		x.noteStuck(open, full)
		root = open.value
		x.roots[key] = root
	}
	return root
}

// isOpen reports whether an experiment is still one, whatever is wrong elsewhere
// in the file. Conditions on what is taken out are open.
func (d *document) isOpen(name string) bool {
	v := d.value.LookupPath(cue.MakePath(cue.Str(name)))
	return v.Err() == nil || v.Exists() && v.Validate() == nil
}

// noteStuck notes the paths at which a document has a value though their fields
// are taken out: a value that no field of the user's files gives, but a function,
// or one that another value is equal to.
func (x *expansion) noteStuck(d *document, paths [][]string) {
	for _, path := range paths {
		if v, ok := d.stays(path); ok {
			x.stuck[strings.Join(path[1:], ".")] = v
		}
	}
}

// stays is the value that the user gives at a path other than in a field of that
// path.
func (d *document) stays(path []string) (cue.Value, bool) {
	if _, all := d.syntaxFields(path); all {
		return cue.Value{}, false
	}
	v := d.withoutSchema().LookupPath(rooted(path))
	// A definition of a package has no room for a field that the schema gives it.
	return v, v.Exists() && v.IncompleteKind() != cue.TopKind && v.IncompleteKind() != cue.BottomKind
}

// cannotVary reports a value of the base that an override cannot take the place
// of.
func (x *expansion) cannotVary(o *override, cells []*cell) bool {
	v, stuck := x.stuck[strings.Join(o.path, ".")]
	if stuck {
		o.bad = true
		x.report(x.mark(x.stuckAt(o.path, v, "vary", namesOf(cells)), o.place(x.document)))
	}
	return stuck
}

// stuckAt is the mistake of a value that cannot be replaced.
func (d *document) stuckAt(path []string, v cue.Value, what string, cells []string) diagnostic.Diagnostic {
	stays := "what it is"
	if text := short(v); text != "" {
		stays = text
	}
	dg := diagnostic.Diagnostic{
		Path: strings.Join(path, "."), Message: fmt.Sprintf("%s cannot %s: its value comes from elsewhere and stays %s", strings.Join(path, "."), what, stays),
		Hint: "give the base's value as a field of its own: " + strings.Join(path, ": ") + ": …", Cells: cells,
	}
	if pos := position(v); d.inUserFile(pos) {
		dg.Hint += ", in place of " + d.at(pos).String()
	}
	return dg
}

// filled is the experiment with the values of an overlay in place. They are
// filled in at the root, so that what the file computes from them follows; and
// all at once, as each time evaluates the file.
func (x *expansion) filled(root cue.Value, overlay []*override) cue.Value {
	all := x.nothing()
	for _, o := range overlay {
		all = all.FillPath(selectors(o.path), o.value)
	}
	name := cue.MakePath(cue.Str(x.name))
	return root.FillPath(name, all).LookupPath(name)
}

// memoize does a check for the first of the cells that agree in its input, which is
// all that the check looks at; the others get what it has reported.
func memoize[K comparable](x *expansion, c *cell, in K, check func(*subject, K)) {
	found, done := x.memory[in]
	if !done && x.outerHolds(c) {
		found, done = x.outer.memory[in]
	}
	if !done {
		x.memory[in] = x.recorded(func() { check(&c.subject, in) })
		return
	}
	for _, d := range found {
		d.Cells, d.Of = x.cellOf(&c.subject), x.total
		x.report(d)
	}
}
