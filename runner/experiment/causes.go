package experiment

import (
	"cmp"
	"fmt"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/token"

	"github.com/loralab/loralab/runner/diagnostic"
)

// One mistake of the user's may be many errors of CUE, each at a path of its own. What
// follows finds the mistake, so that it is reported once and at its place.

// causes reports the mistakes that several errors follow from. What is left has to be
// reported path by path.
func (d *document) causes(all []errors.Error, s scope) []errors.Error {
	all = d.circles(all, s)
	all = d.closed(all, s)
	all = withoutAxisFields(all)
	return withoutFollowing(all)
}

// closed reports definitions of the user's that are closed: they have no room for the
// other fields of the schema, and CUE reports each of these (trial-language M3).
func (d *document) closed(all []errors.Error, s scope) []errors.Error {
	if s.unknown != "" {
		return all // parameters of a variant
	}
	var reported [][]string
	for _, e := range all {
		path := e.Path()
		below := path[min(len(s.prefix), len(path)):]
		if len(below) < 1 || !lookup(s.schema, below[min(s.skip, len(below)):]).Exists() {
			continue
		}
		// Lists of the schema have no values then, either.
		switch format, _ := e.Msg(); {
		case format == missingField, format != notAllowed && len(d.fields(path)) > 0:
			continue
		}
		parent := path[:len(path)-1]
		name, at := d.definitionAt(parent)
		if format, _ := e.Msg(); format == notAllowed {
			for name == "" && len(parent) > 1 {
				parent = parent[:len(parent)-1]
				name, at = d.definitionAt(parent)
			}
		}
		if name == "" || slices.ContainsFunc(reported, func(r []string) bool { return slices.Equal(r, parent) }) {
			continue
		}
		reported = append(reported, parent)
		dg := diagnostic.Diagnostic{
			Path:    strings.Join(parent, "."),
			Message: fmt.Sprintf("%s: the definition %s is closed, so the schema's other fields are not allowed in it", strings.Join(parent[min(len(s.prefix), len(parent)-1):], "."), name),
			Hint:    fmt.Sprintf("end the fields of %s with \"...\"", name),
			Cells:   s.cells, Of: s.of,
		}
		if strings.HasPrefix(name, "close") {
			dg.Message = strings.Replace(dg.Message, "the definition "+name, name, 1)
			dg.Hint = "leave close out"
		}
		d.report(d.mark(dg, at))
	}
	return slices.DeleteFunc(slices.Clone(all), func(e errors.Error) bool {
		path := e.Path()
		return slices.ContainsFunc(reported, func(r []string) bool { return len(path) > len(r) && slices.Equal(path[:len(r)], r) })
	})
}

// definitionAt is what closes the user's value at path, a definition or a call of close,
// and where it is referred to.
func (d *document) definitionAt(path []string) (name string, at token.Pos) {
	seen := map[ast.Node]bool{}
	var walk func(n ast.Node) bool
	walk = func(n ast.Node) bool {
		if n == nil || name != "" || seen[n] {
			return false
		}
		seen[n] = true
		switch x := n.(type) {
		case *ast.Field: // which is closed by itself
			return false
		case *ast.CallExpr:
			if ident, ok := x.Fun.(*ast.Ident); ok && ident.Name == "close" {
				name, at = "close(…)", x.Pos()
			}
			return false
		case *ast.Ident:
			switch node := x.Node.(type) {
			case *ast.ImportSpec:
			case nil:
			default:
				if isDefinition(x.Name) {
					name, at = x.Name, x.Pos()
				} else {
					ast.Walk(node, walk, nil)
					if name != "" {
						at = x.Pos()
					}
				}
			}
			return false
		case *ast.SelectorExpr:
			sel, _, err := ast.LabelName(x.Sel)
			ident, ok := x.X.(*ast.Ident)
			switch {
			case ok && isSchemaName(ident):
			case err == nil && isDefinition(sel):
				name, at = sel, x.Pos()
			case ok && isDefinition(ident.Name):
				name, at = ident.Name, x.Pos()
			}
			return false
		}
		return true
	}
	for _, f := range d.fields(path) {
		ast.Walk(f.Value, walk, nil)
	}
	return name, at
}

func isDefinition(name string) bool {
	return strings.HasPrefix(name, "#") || strings.HasPrefix(name, "_#")
}

func isSchemaName(x *ast.Ident) bool {
	spec, ok := x.Node.(*ast.ImportSpec)
	return ok && isSchema(label(spec.Path.Value))
}

// withoutFollowing drops errors of fields that have no value because another field of
// the same struct is missing (trial-language M4).
func withoutFollowing(all []errors.Error) []errors.Error {
	var missing [][]string
	for _, e := range all {
		if path := e.Path(); len(path) > 0 && find([]errors.Error{e}, missingField) != nil {
			missing = append(missing, path[:len(path)-1])
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(e errors.Error) bool {
		path := e.Path()
		return len(path) > 0 && incomplete.MatchString(e.Error()) && find([]errors.Error{e}, missingField) == nil &&
			slices.ContainsFunc(missing, func(m []string) bool { return slices.Equal(m, path[:len(path)-1]) })
	})
}

// withoutAxisFields drops what CUE says of the fields of an axis, which is a list
// (trial-language M19).
func withoutAxisFields(all []errors.Error) []errors.Error {
	return slices.DeleteFunc(slices.Clone(all), func(e errors.Error) bool {
		path := e.Path()
		return len(path) > 3 && slices.Contains([]string{"vary", "zip", "ablate"}, path[1]) && find([]errors.Error{e}, notAllowed) != nil &&
			slices.ContainsFunc(all, func(other errors.Error) bool { return slices.Equal(other.Path(), path[:3]) })
	})
}

// A cellVariant is the variant of a cell, and where it has it.
type cellVariant struct {
	name string
	at   token.Pos
}

// otherVariant is the variant of a cell of which a parameter is missing, where the cell
// names another one than the base and none of its parameters (trial-language M4).
func (c *complaint) otherVariant() (v cellVariant, ok bool) {
	if find(c.group, missingField) == nil || len(c.below) < 3 || c.below[0] != "adapter" || c.below[1] != "params" {
		return v, false
	}
	for _, o := range c.in.overlay {
		var given cue.Value
		switch strings.Join(o.path, ".") {
		case "adapter":
			if o.value.LookupPath(cue.ParsePath("params")).Exists() {
				return v, false
			}
			given = o.value.LookupPath(cue.ParsePath("variant"))
		case "adapter.variant":
			given = o.value
		case "adapter.params":
			if c.inUserFile(o.at) {
				return v, false
			}
			continue
		default:
			continue
		}
		v.name, _ = given.String()
		if v.at = position(given); !c.inUserFile(v.at) {
			v.at = o.place(c.document)
		}
	}
	return v, v.name != ""
}

func (c *complaint) sayOtherVariant(v cellVariant) {
	missing := c.path[len(c.path)-1]
	c.pos = v.at
	c.out.Message = fmt.Sprintf("variant %q needs params of its own: %s is missing", v.name, missing)
	c.out.Hint = fmt.Sprintf("write params: %s: … next to it", missing)
	if base, _ := c.document.value.LookupPath(rooted([]string{c.path[0], "adapter", "variant"})).String(); base != "" {
		c.out.Hint += fmt.Sprintf("; those of the base are of %q", base)
	}
}

// twice are two places of the user's files that give the value, or the list that it is
// in, and do not agree (trial-language M2). The syntax may not tell.
func (c *complaint) twice() (two disagreement, ok bool) {
	path := c.path
	for n := len(path); n > 1; n-- { // elements of a list are given with it
		if _, err := strconv.Atoi(path[n-1]); err == nil {
			path = path[:n-1]
		}
	}
	if covering(c.in.overlay, path[min(len(c.in.prefix), len(path)):]) != nil || c.setting(path) != nil {
		return two, false
	}
	var all []writtenValue
	for _, f := range c.fields(path) {
		g := writtenValue{at: f.Value.Pos(), text: c.sourceText(f.Value), path: path}
		if !isLiteral(f.Value) || g.text == "" {
			continue
		}
		for _, top := range c.syntax.Decls {
			field, ok := top.(*ast.Field)
			if !ok || g.at.Filename() != c.file {
				continue
			}
			if name, _, err := ast.LabelName(field.Label); err == nil && name == label(path[0]) {
				g.own = g.own || field.Pos().Offset() <= g.at.Offset() && g.at.Offset() < field.End().Offset()
			}
		}
		all = append(all, g)
	}
	slices.SortStableFunc(all, func(a, b writtenValue) int {
		switch {
		case a.own == b.own:
			return 0
		case a.own:
			return -1
		}
		return 1
	})
	for i, g := range all {
		for _, h := range all[i+1:] {
			a, b := c.cue.CompileString(g.text), c.cue.CompileString(h.text)
			if a.Err() == nil && b.Err() == nil && a.Unify(b).Validate() != nil {
				return disagreement{g, h}, true
			}
		}
	}
	return two, false
}

// A disagreement is two values of one field: first the experiment's own, then another.
type disagreement struct{ own, other writtenValue }

// A writtenValue is a value as a file has it.
type writtenValue struct {
	path []string
	at   token.Pos
	text string
	own  bool // in the field of the experiment, not in what that refers to
}

// isLiteral reports whether an expression refers to nothing.
func isLiteral(e ast.Expr) bool {
	literal := true
	ast.Walk(e, func(n ast.Node) bool {
		switch n.(type) {
		case *ast.Ident, *ast.SelectorExpr, *ast.CallExpr, *ast.BinaryExpr, *ast.Interpolation, *ast.StructLit:
			literal = false
			if ident, ok := n.(*ast.Ident); ok && slices.Contains([]string{"true", "false", "null"}, ident.Name) {
				literal = true
			}
		}
		return literal
	}, nil)
	return literal
}

func (c *complaint) sayTwice(two disagreement) {
	own, other := two.own, two.other
	subject := strings.Join(own.path[min(len(c.in.prefix), len(own.path)):], ".")
	c.pos, c.out.Path = own.at, strings.Join(own.path, ".")
	c.out.Message = fmt.Sprintf("%s is given twice: as %s here and as %s at %s", subject, own.text, other.text, c.at(other.at))
	switch {
	case own.own == other.own, !slices.Contains(sections, c.below[0]), strings.ContainsAny(subject, `"0123456789`), subject == "adapter.variant":
		c.out.Hint = "leave one of them out"
	default:
		c.out.Hint = fmt.Sprintf("values add up in CUE, none replaces another: leave it out there, or replace it in a case, cases: mine: %s: %s, or with --set %s=%s",
			strings.ReplaceAll(subject, ".", ": "), own.text, subject, own.text)
	}
}

// sourceText is a value as the file has it, if that is short.
func (d *document) sourceText(e ast.Expr) string {
	file := e.Pos().Filename()
	text, ok := d.text[file]
	if !ok {
		text, _ = os.ReadFile(file)
	}
	from, to := e.Pos().Offset(), e.End().Offset()
	if from < 0 || to > len(text) || from >= to || to-from > 40 || strings.Contains(string(text[from:to]), "\n") {
		return ""
	}
	return string(text[from:to])
}

// dotted is the hint for a path that is written as one label or below vary as structs:
// the form that it has to have (trial-language M19). It is "" if the schema has no such
// field.
func dotted(s scope, below []string) string {
	last := label(below[len(below)-1])
	if !strings.Contains(last, ".") || s.unknown != "" {
		return ""
	}
	names := append(slices.Clone(below[:len(below)-1]), strings.Split(last, ".")...)
	if !lookup(s.schema, names[min(s.skip, len(names)):]).Exists() && !(len(names) > 2 && names[0] == "adapter" && names[1] == "params") {
		return ""
	}
	return "write " + strings.Join(strings.Split(last, "."), ": ") + ": …; paths with dots are for vary and --set"
}

// nestedAxis is the path of an axis that is written as structs (trial-language M19).
func (c *complaint) nestedAxis() (path string, ok bool) {
	if len(c.below) != 2 || !slices.Contains([]string{"vary", "zip", "ablate"}, c.below[0]) || kindOf(c.value) != cue.StructKind {
		return "", false
	}
	names := []string{label(c.below[1])}
	for v := c.value; v.IncompleteKind() == cue.StructKind; {
		it, err := v.Fields()
		if err != nil || !it.Next() {
			return "", false
		}
		names = append(names, it.Selector().Unquoted())
		v = it.Value()
	}
	return strings.Join(names, "."), true
}

func (c *complaint) sayNestedAxis(path string) {
	c.out.Message = fmt.Sprintf("%s takes paths with dots, not structs", c.below[0])
	c.out.Hint = fmt.Sprintf("write %s: %q: […]", c.below[0], path)
	if c.settingBelow(c.path) != nil {
		c.out.Hint = fmt.Sprintf("write --set '%s.%q=[…]'", c.below[0], path)
	}
}

// unknownName is what is wrong with a name that leads nowhere, and what may be meant
// (trial-language M5, M10).
func (d *document) unknownName(name string, pos token.Pos) (message, hint string) {
	now := written(name)
	if x := d.selectorAt(pos); x != nil {
		of, known := referenceText(x.X), d.selectable(x.X)
		message = fmt.Sprintf("%s has no field %q", of, name)
		if ident, ok := x.X.(*ast.Ident); ok {
			if spec, ok := ident.Node.(*ast.ImportSpec); ok {
				message = fmt.Sprintf("the package %s has no %s", label(spec.Path.Value), name)
				if isSchema(label(spec.Path.Value)) {
					message = fmt.Sprintf("the schema has no %s", name)
				}
			}
		}
		switch {
		case now != name:
			return message, spelled(name, now)
		case slices.Contains(known, "#"+name):
			return message, fmt.Sprintf("did you mean %s.#%s?", of, name)
		}
		return message, diagnostic.Suggest(name, "it has", known)
	}
	message = fmt.Sprintf("unknown name %q", name)
	if at, line := d.place(pos); line != "" && strings.HasPrefix(string([]rune(line)[min(max(at.Column-1, 0), len([]rune(line))):]), `"`) {
		return fmt.Sprintf("there is no field %q", name), "" // of an index, in quotes already
	}
	if file, at := d.neighbor(name); file != "" {
		return message, fmt.Sprintf("it is at %s, and experiment files are read one by one: move it to a package of its own, as %s in lib/%s, and import that", at, exported(name), filepath.Base(file))
	}
	hint = diagnostic.Suggest(name, "names in this file", d.names())
	if now != name {
		hint = spelled(name, now)
	} else if meant := d.meant(name); meant != "" {
		hint = meant
	} else if !strings.Contains(hint, "mean") && !strings.HasPrefix(name, "_") {
		hint = "a text needs quotes: \"" + name + "\""
	}
	return message, hint
}

// selectorAt is the selection whose name is at a position.
func (d *document) selectorAt(pos token.Pos) (found *ast.SelectorExpr) {
	for _, f := range append([]*ast.File{d.syntax}, d.imported...) {
		if f == nil || f.Filename != pos.Filename() {
			continue
		}
		ast.Walk(f, func(n ast.Node) bool {
			if x, ok := n.(*ast.SelectorExpr); ok && x.Sel.Pos().Offset() == pos.Offset() {
				found = x
			}
			return found == nil
		}, nil)
	}
	return found
}

// selectable are the names that can be selected of what an expression refers to.
func (d *document) selectable(e ast.Expr) []string {
	var names []string
	add := func(decls []ast.Decl) {
		for _, decl := range decls {
			if f, ok := decl.(*ast.Field); ok {
				if name, _, err := ast.LabelName(f.Label); err == nil && !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
	}
	switch x := e.(type) {
	case *ast.Ident:
		switch node := x.Node.(type) {
		case *ast.ImportSpec:
			path := label(node.Path.Value)
			if isSchema(path) {
				return d.definitions()
			}
			for _, f := range d.imported {
				if dir := filepath.Base(filepath.Dir(f.Filename)); dir == filepath.Base(strings.SplitN(path, ":", 2)[0]) {
					add(f.Decls)
				}
			}
			// Of another package, names with an underscore cannot be selected.
			names = slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, "_") })
		case *ast.StructLit:
			add(node.Elts)
		}
	case *ast.ParenExpr:
		return d.selectable(x.X)
	}
	return names
}

// untagged is the hint for a value that is computed from a field whose tag the command
// line does not give; "" if none is (trial-language M11).
func (d *document) untagged(path []string) string {
	for _, f := range d.fields(path) {
		var key, name string
		ast.Walk(f.Value, func(n ast.Node) bool {
			if x, ok := n.(*ast.Ident); ok && key == "" {
				if k := d.tagOf(x); k != "" && !slices.ContainsFunc(d.env.Tags, func(t string) bool { return strings.HasPrefix(t, k+"=") }) {
					key, name = k, x.Name
				}
			}
			return key == ""
		}, nil)
		if key != "" {
			return fmt.Sprintf("%s has no value: give it one with -t %s=…, or a default in the file", name, key)
		}
	}
	return ""
}

// asNumber is the hint for a number in quotes, for one that is written with an exponent
// where a whole number is asked for (trial-language M23), or for a percentage where the
// rule has a fraction.
func asNumber(given, rule string, kind cue.Kind) string {
	text, err := strconv.Unquote(given)
	if err == nil && kind == cue.StringKind {
		if _, err := strconv.ParseFloat(text, 64); err == nil {
			return "leave out the quotes: " + text
		}
		return ""
	}
	if f, err := strconv.ParseFloat(given, 64); err == nil && f >= 5 && f <= 100 && strings.Contains(rule, "fraction") {
		return fmt.Sprintf("%s %% is %g", given, f/100)
	}
	if f, err := strconv.ParseFloat(given, 64); err == nil && strings.ContainsAny(given, "eE") && f == float64(int64(f)) && f >= 0 && f < 1e15 {
		return fmt.Sprintf("write %d", int64(f))
	}
	return ""
}

// usual is the hint for a number that is out of bounds: one that the schema names for
// instance, or the default; "" if it has none.
func (c *complaint) usual() string {
	if kindOf(c.value)&^cue.NumberKind != 0 || kindOf(c.known())&cue.NumberKind == 0 {
		return ""
	}
	for _, group := range c.known().Doc() {
		if m := instance.FindStringSubmatch(strings.Join(strings.Fields(group.Text()), " ")); m != nil {
			return "for instance " + m[1]
		}
	}
	if v, ok := c.known().Default(); ok && kindOf(v)&^cue.NumberKind == 0 {
		if f, err := v.Float64(); err == nil && f != 0 {
			return "the default is " + inCUE(v)
		}
	}
	return ""
}

var instance = regexp.MustCompile(`for instance (-?[0-9][0-9.]*[0-9]|[0-9])\b`)

// beyond is the hint for a number with an exponent that stays out of bounds when it is
// written as a whole number; "" for any other (trial-plugins F9).
func beyond(given string, schema cue.Value) string {
	f, err := strconv.ParseFloat(given, 64)
	if err != nil || !strings.ContainsAny(given, "eE") || math.IsInf(f, 0) || kindOf(schema) != cue.IntKind {
		return ""
	}
	whole, _ := big.NewFloat(f).Int(nil)
	if schema.Unify(cuecontext.New().Encode(whole)).Validate(cue.Concrete(true)) == nil {
		return ""
	}
	var most *big.Int
	var walk func(v cue.Value)
	walk = func(v cue.Value) {
		op, terms := v.Expr()
		switch op {
		case cue.AndOp, cue.OrOp:
			for _, term := range terms {
				walk(term)
			}
		case cue.LessThanOp, cue.LessThanEqualOp:
			n, err := terms[0].Int(nil)
			if err != nil {
				return
			}
			if op == cue.LessThanOp {
				n = new(big.Int).Sub(n, big.NewInt(1))
			}
			if whole.Cmp(n) > 0 && (most == nil || n.Cmp(most) > 0) {
				most = n
			}
		}
	}
	if walk(schema); most == nil {
		return ""
	}
	return "the most is " + most.String()
}

// kindOf is the kind of a value, also of one that does not exist.
func kindOf(v cue.Value) cue.Kind {
	if !v.Exists() {
		return cue.BottomKind
	}
	return v.IncompleteKind()
}

// ofFile is what CUE refuses of a file as a whole, in the words of a user.
func ofFile(text string) (message, hint string, ok bool) {
	if strings.Contains(text, "embed") && strings.Contains(text, "not in a module") {
		return "an experiment cannot take values from other files with @embed",
			"write the values into the file, or into a CUE package of the project and import it", true
	}
	if m := noPackage.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("there is no package %q", m[1]), diagnostic.Suggest(m[1], "packages of CUE", builtins), true
	}
	return "", "", false
}

func (c *complaint) isOfFile() bool {
	_, _, ok := ofFile(c.err.Error())
	return ok
}

func (c *complaint) sayOfFile() {
	c.out.Message, c.out.Hint, _ = ofFile(c.err.Error())
	c.pos = c.err.Position()
}

// tagMistake completes the mistake of a tag of the command line whose value does not
// suit the field that takes it, or that has none (trial-language M11).
func (d *document) tagMistake(dg diagnostic.Diagnostic, text string) (diagnostic.Diagnostic, token.Pos) {
	kind, key := "", ""
	if m := tagValue.FindStringSubmatch(text); m != nil {
		kind, key = m[1], m[2]
	} else {
		key = tagAlone.FindStringSubmatch(text)[1]
	}
	at := token.NoPos
	d.tagAttributes(func(k string, a *ast.Attribute) {
		if k != key {
			return
		}
		at = a.Pos()
		if strings.Contains(a.Text, "type=int") {
			kind = "int"
		}
	})
	i := slices.IndexFunc(d.env.Tags, func(t string) bool { return t == key || strings.HasPrefix(t, key+"=") })
	switch _, value, given := strings.Cut(d.env.Tags[max(i, 0)], "="); {
	case !at.IsValid():
		dg.Message = fmt.Sprintf("nothing in the file takes -t %s", key)
		dg.Hint = diagnostic.Suggest(key, "it takes", d.tags())
	case !given:
		dg.Message = fmt.Sprintf("-t %s gives no value", key)
		dg.Hint = fmt.Sprintf("write -t %s=…", key)
	case value == "":
		dg.Message = fmt.Sprintf("-t %s= gives no value", key)
		dg.Hint = fmt.Sprintf("write a %s after it, -t %s=…", noun(kind), key)
	default:
		dg.Message = fmt.Sprintf("-t %s=%s: the field takes a %s", key, value, noun(kind))
	}
	return dg, at
}

// settingBelow is what the command line sets below a path; nil if it sets nothing there,
// or something above it.
func (d *document) settingBelow(path []string) *override {
	if len(path) < 2 {
		return nil
	}
	for _, o := range d.set {
		if len(o.path) > len(path)-1 && related(o.path, path[1:]) {
			return o
		}
	}
	return nil
}

// setPerExperiment is the hint for a setting whose path begins with the name of an
// experiment (trial-language M23).
func (d *document) setPerExperiment(path []string, name string) string {
	if o := d.settingBelow(path); o != nil && name == label(path[0]) && len(path) == 2 {
		if _, rest, ok := strings.Cut(strings.Join(o.path, "."), "."); ok {
			return fmt.Sprintf("what is set holds for each experiment of the files: --set %s=…", rest)
		}
	}
	return ""
}

// ofStruct is what is wrong within a struct that is none of the alternatives of the
// schema: a field that none has, or a value; "" if that cannot be told.
func (c *complaint) ofStruct() (message, hint string) {
	if kindOf(c.value) != cue.StructKind {
		return "", ""
	}
	given := fieldNames(c.value)
	var all []string
	for _, a := range alternatives(c.known()) {
		names := fieldNames(a)
		all = append(all, names...)
		if len(given) == 0 || slices.ContainsFunc(given, func(n string) bool { return !slices.Contains(names, n) }) {
			continue
		}
		for _, name := range given {
			field := a.LookupPath(cue.MakePath(cue.Str(name).Optional()))
			value := c.value.LookupPath(cue.MakePath(cue.Str(name)))
			if field.Unify(value).Validate(cue.Concrete(true)) == nil {
				continue
			}
			rule := cmp.Or(sentenceOf(field), sentenceOf(cue.Dereference(field)))
			return fmt.Sprintf("%s.%s is %s", c.subject, name, short(value)), rule
		}
	}
	for _, name := range given {
		if !slices.Contains(all, name) && len(all) > 0 {
			return fmt.Sprintf("%s has no field %q", c.subject, name), diagnostic.Suggest(name, "it knows", all)
		}
	}
	return "", ""
}

// A mistakeWithin is what is wrong within a struct, and its rule or a hint.
type mistakeWithin struct{ message, rest string }

func (c *complaint) withinStruct() (m mistakeWithin, ok bool) {
	if c.own {
		return m, false
	}
	m.message, m.rest = c.ofStruct()
	return m, m.message != ""
}

func (c *complaint) sayWithinStruct(m mistakeWithin) {
	c.out.Message, c.out.Hint = m.message, m.rest
	if rule, ok := strings.CutPrefix(m.rest, "must be "); ok {
		c.out.Message, c.out.Hint = m.message+": it must be "+rule, ""
	}
}

// tagAt is the key of the tag that gives the value, which refers to the field that takes
// it; "" if none does.
func (c *complaint) tagAt() string {
	for _, f := range c.fields(c.path) {
		if key := c.tagOf(f.Value); key != "" {
			return key
		}
	}
	return ""
}
