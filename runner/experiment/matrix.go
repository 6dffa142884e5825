package experiment

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/token"

	"github.com/loralab/loralab/runner/diagnostic"
)

// A cell is one point of the matrix of an experiment.
type cell struct {
	name    string
	values  []AxisValue
	overlay []override
	config  *config
	value   cue.Value
}

// An axis is one path of vary.
type axis struct {
	path   []string
	label  string // as written
	short  string // last element of the path
	values []cue.Value
	at     token.Pos // of the label
}

// sections are the parts of an experiment that cells may replace.
var sections = []string{"backbone", "adapter", "head", "data", "loss", "optim", "train"}

// experiment checks and expands one experiment.
func (d *document) experiment(name string) *Experiment {
	before := d.errorCount()
	if d = d.settled(name); d == nil {
		return nil
	}
	x := &expansion{document: d, name: name, errorsBefore: before}
	v := d.value.LookupPath(cue.MakePath(cue.Str(name)))
	if err := v.Validate(cue.Concrete(true), cue.Final()); err != nil {
		s := scope{prefix: []string{name}, schema: d.schema}
		d.complain(err, s)
		// Take out what is wrong, so that the rest can be looked at.
		if x.document = d.repair(name, err, s); x.document == nil {
			return nil
		}
	}
	return x.expand()
}

func (l *loader) errorCount() int {
	n := 0
	for _, d := range l.found {
		if !d.Warning {
			n++
		}
	}
	return n
}

// repair is the document without the fields of an experiment that err is
// about, and with something harmless where a field is missing; nil if that
// does not make it valid. CUE may see further mistakes only then: they are
// reported too, unless they are about what was taken out.
func (d *document) repair(name string, err error, s scope) *document {
	r := *d
	var gone [][]string
	for round := range 4 {
		var further errors.Error
		for _, e := range errors.Errors(err) {
			path := e.Path()
			if len(path) < 2 || path[0] != name {
				return nil
			}
			if !slices.ContainsFunc(gone, func(g []string) bool { return related(g, path) }) {
				further = errors.Append(further, e)
			}
			if format, _ := e.Msg(); format != "field is required but not present" {
				gone = append(gone, path)
				r.fill = slices.DeleteFunc(slices.Clone(r.fill), func(o override) bool { return related(o.path, path) })
				continue
			}
			var value any = ""
			switch path[len(path)-1] {
			case "variant":
				value = "none"
			case "classes":
				value = []string{"", ""}
			case "mean", "std":
				value = []float64{0.5, 0.5, 0.5}
			}
			r.fill = append(r.fill, override{path: path, value: d.cue.Encode(value)})
		}
		if round > 0 && further != nil {
			d.complain(further, s)
		}
		r.gone = gone
		e := r.edited(d.with(nil, gone))
		if e == nil {
			return nil
		}
		err = e.value.LookupPath(cue.MakePath(cue.Str(name))).Validate(cue.Concrete(true), cue.Final())
		if err == nil {
			return e
		}
	}
	return nil
}

// expansion is the work on one experiment.
type expansion struct {
	*document
	name         string
	errorsBefore int
}

// base is the experiment as a value.
func (x *expansion) base() cue.Value {
	return x.value.LookupPath(cue.MakePath(cue.Str(x.name)))
}

func (x *expansion) expand() *Experiment {
	base := x.base()
	c, err := decode(base)
	if err != nil {
		x.report(x.mark(diagnostic.Diagnostic{Path: x.name, Message: "cannot be read: " + err.Error()}, x.labelAt([]string{x.name})))
		return nil
	}
	e := &Experiment{
		Name:    x.name,
		File:    x.file,
		About:   c.About,
		Metric:  c.Report.Metric,
		Domains: []string{"test"},
	}
	for _, d := range c.Evaluate.Domains {
		e.Domains = append(e.Domains, d.name)
	}
	x.checkSeeds(c.Seeds)

	axes := x.axes(base)
	for _, a := range axes {
		e.Axes = append(e.Axes, a.label)
	}
	whole := &cell{name: "base", config: c, value: base}
	x.check(whole)
	asked := slices.Concat(x.product(axes), x.cases(base))
	var cells []*cell
	for _, cl := range asked {
		if x.checkCell(cl) {
			x.check(cl)
			cells = append(cells, cl)
		}
	}
	if len(asked) == 0 {
		cells = []*cell{whole}
	}
	if x.errorCount() > x.errorsBefore || x.document.resolve.partial() {
		return nil
	}
	e.expansion, e.cells = x, cells
	for _, cl := range cells {
		for _, seed := range c.Seeds {
			run, err := x.run(cl, seed)
			if err != nil {
				x.report(x.mark(diagnostic.Diagnostic{Path: x.name, Message: err.Error(), Cells: []string{cl.name}}, x.labelAt([]string{x.name})))
				return nil
			}
			e.Runs = append(e.Runs, run)
		}
	}
	return e
}

func decode(v cue.Value) (*config, error) {
	text, err := v.MarshalJSON()
	if err != nil {
		return nil, err
	}
	c := &config{}
	return c, json.Unmarshal(text, c)
}

// axes reads vary.
func (x *expansion) axes(base cue.Value) []axis {
	var axes []axis
	it, err := base.LookupPath(cue.ParsePath("vary")).Fields()
	if err != nil {
		return nil
	}
	for it.Next() {
		a := axis{label: it.Selector().Unquoted()}
		at := []string{x.name, "vary", strconv.Quote(a.label)}
		a.at = x.labelAt(at)
		fail := func(message, hint string) {
			x.report(x.mark(diagnostic.Diagnostic{Path: strings.Join(at, "."), Message: message, Hint: hint}, a.at))
		}
		parsed := cue.ParsePath(a.label)
		if parsed.Err() != nil {
			fail(fmt.Sprintf("%q is no path of an experiment", a.label), `write the names of the fields with dots, "optim.lr.head"`)
			continue
		}
		for _, s := range parsed.Selectors() {
			a.path = append(a.path, s.String())
		}
		a.short = label(a.path[len(a.path)-1])
		if !slices.Contains(sections, a.path[0]) {
			fail(fmt.Sprintf("%q cannot vary", a.label), diagnostic.Suggest(a.path[0], "what can", sections))
			continue
		}
		if !lookup(x.schema, a.path).Exists() && !(len(a.path) > 2 && a.path[0] == "adapter" && a.path[1] == "params") {
			fail(fmt.Sprintf("an experiment has no field %q", a.label), diagnostic.Suggest(a.label, "known", x.paths()))
			continue
		}
		if i := slices.IndexFunc(x.set, func(o override) bool { return related(o.path, a.path) }); i >= 0 {
			x.report(x.mark(diagnostic.Diagnostic{
				Path: strings.Join(at, "."), Message: fmt.Sprintf("%q varies, so setting it changes no cell", a.label),
				Hint: fmt.Sprintf("set the values it takes: --set 'vary.%q=[…]'", a.label),
			}, x.set[i].label))
			continue
		}
		list, err := it.Value().List()
		if err != nil {
			continue // reported as not being a list
		}
		seen := map[string]bool{}
		for list.Next() {
			v := list.Value()
			text := valueText(v)
			if seen[text] {
				x.report(x.mark(diagnostic.Diagnostic{Path: strings.Join(at, "."), Message: fmt.Sprintf("%s stands twice in %q", text, a.label), Hint: "leave one out: seeds repeat a cell"}, position(v)))
				continue
			}
			seen[text] = true
			a.values = append(a.values, v)
		}
		axes = append(axes, a)
	}
	for i := range axes {
		for j := range axes {
			if i != j && axes[i].short == axes[j].short {
				axes[i].short = label(axes[i].path[max(0, len(axes[i].path)-2)]) + "." + label(axes[i].path[len(axes[i].path)-1])
			}
		}
	}
	return axes
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
	for _, p := range fieldNames(x.params(x.baseVariant())) {
		paths = append(paths, "adapter.params."+p)
	}
	return paths
}

// product are the cells of vary: the last axis moves fastest.
func (x *expansion) product(axes []axis) []*cell {
	if len(axes) == 0 {
		return nil
	}
	paths := make([][]string, len(axes))
	for i, a := range axes {
		paths[i] = a.path
		if len(a.values) == 0 {
			return nil
		}
	}
	root := x.without(paths)
	var cells []*cell
	index := make([]int, len(axes))
	for {
		c := &cell{}
		var name []string
		for i, a := range axes {
			v := a.values[index[i]]
			c.overlay = append(c.overlay, override{path: a.path, value: v, at: position(v), label: a.at})
			c.values = append(c.values, AxisValue{Path: a.label, Value: goValue(v)})
			name = append(name, a.short+"="+valueText(v))
		}
		c.name = strings.Join(name, ",")
		c.value = x.filled(root, c.overlay)
		cells = append(cells, c)
		i := len(axes) - 1
		for ; i >= 0; i-- {
			if index[i]++; index[i] < len(axes[i].values) {
				break
			}
			index[i] = 0
		}
		if i < 0 {
			return cells
		}
	}
}

// cases are the named cells.
func (x *expansion) cases(base cue.Value) []*cell {
	it, err := base.LookupPath(cue.ParsePath("cases")).Fields()
	if err != nil {
		return nil
	}
	var cells []*cell
	for it.Next() {
		c := &cell{name: it.Selector().Unquoted()}
		x.leaves(nil, it.Value(), base, c)
		for i, o := range c.overlay {
			c.overlay[i].from = append([]string{x.name, "cases", it.Selector().String()}, o.path...)
			c.overlay[i].label = x.labelAt(c.overlay[i].from)
		}
		c.value = x.filled(x.without(holes(c.overlay)), c.overlay)
		cells = append(cells, c)
	}
	return cells
}

// leaves collects what a case replaces: where the base has a struct too, its
// fields one by one. With another variant, the parameters are another
// variant's too and are replaced as a whole.
func (x *expansion) leaves(path []string, v, base cue.Value, c *cell) {
	it, err := v.Fields()
	if err != nil || len(path) > 0 && base.IncompleteKind() != cue.StructKind {
		c.overlay = append(c.overlay, override{path: slices.Clone(path), value: v, at: position(v)})
		return
	}
	for it.Next() {
		name := it.Selector().String()
		x.leaves(append(path, name), it.Value(), base.LookupPath(cue.MakePath(it.Selector())), c)
	}
	if len(path) == 1 && path[0] == "adapter" {
		variant, _ := v.LookupPath(cue.ParsePath("variant")).String()
		if old, _ := base.LookupPath(cue.ParsePath("variant")).String(); variant != "" && variant != old {
			c.overlay = slices.DeleteFunc(c.overlay, func(o override) bool {
				return len(o.path) > 1 && o.path[0] == "adapter" && o.path[1] == "params"
			})
			params := v.LookupPath(cue.ParsePath("params"))
			if !params.Exists() {
				params = x.cue.CompileString("{}")
			}
			c.overlay = append(c.overlay, override{path: []string{"adapter", "params"}, value: params, at: position(params)})
		}
	}
}

func holes(overlay []override) [][]string {
	var paths [][]string
	for _, o := range overlay {
		paths = append(paths, o.path)
	}
	return paths
}

// without is the document with the base's values at the paths taken out.
func (x *expansion) without(paths [][]string) cue.Value {
	found := false
	full := make([][]string, len(paths))
	for i, p := range paths {
		full[i] = append([]string{x.name}, p...)
		found = found || len(x.fields(full[i])) > 0
	}
	if found {
		if e := x.edited(x.with(full, nil)); e != nil {
			return e.value
		}
	}
	return x.value
}

// filled is the experiment with a cell's values in place. They are filled in
// at the root, so that what the file computes from them follows; and all at
// once, as each time evaluates the file.
func (x *expansion) filled(root cue.Value, overlay []override) cue.Value {
	all := x.cue.CompileString("{}")
	for _, o := range overlay {
		all = all.FillPath(selectors(o.path), o.value)
	}
	name := cue.MakePath(cue.Str(x.name))
	return root.FillPath(name, all).LookupPath(name)
}

// checkCell validates and decodes a cell.
func (x *expansion) checkCell(c *cell) bool {
	if err := c.value.Validate(cue.Concrete(true), cue.Final()); err != nil {
		x.complain(err, scope{prefix: []string{x.name}, schema: x.schema, overlay: c.overlay, cells: []string{c.name}})
		x.checkRest(c, err)
		return false
	}
	config, err := decode(c.value)
	if err != nil {
		x.report(x.mark(diagnostic.Diagnostic{Path: x.name, Message: "cannot be read: " + err.Error(), Cells: []string{c.name}}, x.labelAt([]string{x.name})))
		return false
	}
	c.config = config
	return true
}

// checkRest looks at what is sound in a case that has mistakes. Values of vary
// are each looked at beside sound values of the other axes anyway.
func (x *expansion) checkRest(c *cell, err error) {
	if c.values != nil {
		return
	}
	rest := slices.Clone(c.overlay)
	for _, e := range errors.Errors(err) {
		path := e.Path()
		rest = slices.DeleteFunc(rest, func(o override) bool {
			return len(path) > len(o.path) && slices.Equal(path[1:1+len(o.path)], o.path)
		})
	}
	if len(rest) == len(c.overlay) {
		return
	}
	r := &cell{name: c.name, overlay: rest}
	r.value = x.filled(x.without(holes(rest)), rest)
	if r.value.Validate(cue.Concrete(true), cue.Final()) != nil {
		return
	}
	if r.config, err = decode(r.value); err == nil {
		x.check(r)
	}
}

// goValue is a value of an axis as Go knows it: float64, string, bool, or what
// JSON gives.
func goValue(v cue.Value) any {
	var out any
	if text, err := v.MarshalJSON(); err == nil {
		_ = json.Unmarshal(text, &out) // what CUE writes is JSON
	}
	return out
}

// valueText is a value in the name of a cell: 0.001 however it was written.
func valueText(v cue.Value) string {
	switch x := goValue(v).(type) {
	case string:
		return x
	case float64:
		return strconv.FormatFloat(x, 'g', -1, 64)
	case nil:
		return fmt.Sprint(v)
	default:
		text, _ := json.Marshal(x)
		return string(text)
	}
}
