package experiment

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"

	"github.com/loralab/loralab/runner/diagnostic"
)

// References that give no value. CUE takes a field that refers to itself for one
// that may have any value, so the schema's default counts, and nothing says that
// the value that was meant does not.

// checkSelves reports fields that refer to themselves, or to a struct that they
// are part of.
func (d *document) checkSelves() {
	for _, f := range append([]*ast.File{d.syntax}, d.imported...) {
		if f != nil {
			(&selves{document: d, file: f}).decls(f.Decls)
		}
	}
}

// selves is the search in one file: where it is, and in which scopes.
type selves struct {
	*document
	file   *ast.File
	above  []*ast.Field // around the place
	scopes [][]ast.Decl
}

func (s *selves) decls(decls []ast.Decl) {
	s.scopes = append(s.scopes, decls)
	for _, decl := range decls {
		s.node(decl)
	}
	s.scopes = s.scopes[:len(s.scopes)-1]
}

func (s *selves) node(n ast.Node) {
	ast.Walk(n, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.ImportDecl:
			return false
		case *ast.StructLit:
			s.decls(x.Elts)
			return false
		case *ast.Field:
			if _, _, err := ast.LabelName(x.Label); err != nil {
				s.node(x.Label)
			}
			s.above = append(s.above, x)
			if inner, ok := x.Value.(*ast.StructLit); !ok || inner.Lbrace.IsValid() {
				s.scopes = append(s.scopes, []ast.Decl{x})
				s.node(x.Value)
				s.scopes = s.scopes[:len(s.scopes)-1]
			} else {
				s.node(x.Value)
			}
			s.above = s.above[:len(s.above)-1]
			return false
		case *ast.SelectorExpr, *ast.IndexExpr:
			selected, base, indices := selection(x.(ast.Expr))
			for _, e := range indices {
				s.node(e)
			}
			if ident, ok := base.(*ast.Ident); ok {
				s.refers(ident, selected)
			} else {
				s.node(base)
			}
			return false
		case *ast.Ident:
			s.refers(x, nil)
		}
		return true
	}, nil)
}

// refers looks at a reference: does it lead to a field around it.
func (s *selves) refers(x *ast.Ident, selected []string) {
	if x.Node == nil {
		return
	}
	i := slices.IndexFunc(s.above, func(f *ast.Field) bool { return f.Value == x.Node })
	if i < 0 {
		return
	}
	var names []string
	for j, f := range s.above {
		name, _, err := ast.LabelName(f.Label)
		// A definition may refer to itself, in what is optional.
		if j >= i && (err != nil || strings.HasPrefix(name, "#") || f.Constraint != token.ILLEGAL) {
			return
		}
		names = append(names, name)
	}
	to := append(slices.Clone(names[:i+1]), selected...)
	if len(to) > len(names) || !slices.Equal(to, names[:len(to)]) {
		return
	}
	shown := func(path []string) string { return strings.Join(path[min(1, len(path)-1):], ".") }
	dg := diagnostic.Diagnostic{
		Path:    strings.Join(names, "."),
		Message: shown(names) + " refers to itself, so it has no value",
		Hint:    "write the value",
	}
	if len(to) < len(names) {
		dg.Message = fmt.Sprintf("%s refers to %s, which it is part of", shown(names), shown(to))
	}
	if other, top := s.hidden(x.Name, s.above[i]); top {
		dg.Hint = fmt.Sprintf("the %s of line %d is hidden by it: call that one _%[1]s, and write _%[1]s here", x.Name, other.Line())
	} else if other.IsValid() {
		from := strings.Join(slices.Concat(names[:1], []string{x.Name}, selected), ".")
		dg.Hint = fmt.Sprintf("the %s of line %d is hidden by it: name that one from the top of the file, %s", x.Name, other.Line(), from)
	}
	dg = s.mark(dg, x.Pos())
	s.report(dg)
	s.only[dg.At.String()] = dg.Message
}

// hidden is the place of another value of a name, in a scope around the field
// that hides it; top says that it can have another name.
func (s *selves) hidden(name string, by *ast.Field) (at token.Pos, top bool) {
	for i, scope := range slices.Backward(s.scopes) {
		for _, decl := range scope {
			switch x := decl.(type) {
			case *ast.Field:
				if label, _, err := ast.LabelName(x.Label); err == nil && label == name && x != by {
					return x.Pos(), i == 0
				}
			case *ast.LetClause:
				if x.Ident.Name == name {
					return x.Pos(), true
				}
			}
		}
	}
	return token.NoPos, false
}

// checkReferences reports values of the base that are references to what has no
// value: the schema's default counts in their place.
func (x *expansion) checkReferences(t *tree) {
	var walk func(t *tree, path []string)
	walk = func(t *tree, path []string) {
		for _, name := range t.names {
			if len(path) == 0 && slices.Contains(matrix, name) {
				continue
			}
			walk(t.members[name], append(slices.Clone(path), quoteLabel(name)))
		}
		if t.members == nil {
			x.checkReference(path)
		}
	}
	walk(t, nil)
}

func (x *expansion) checkReference(path []string) {
	whole := append([]string{x.name}, path...)
	if x.setting(whole) != nil {
		return
	}
	fields := x.fields(whole)
	x.checkDefaults(path, fields)
	i := slices.IndexFunc(fields, func(f *ast.Field) bool { return isReference(f.Value) })
	if i < 0 {
		return
	}
	given := x.withoutSchema().LookupPath(rooted(whole))
	circle := given.IncompleteKind() == cue.BottomKind && !slices.ContainsFunc(x.gone, func(g []string) bool { return related(g, whole) })
	if value, _ := given.Default(); !given.Exists() || value.IsConcrete() || given.IncompleteKind() == cue.BottomKind && !circle {
		return
	}
	what := referenceText(fields[i].Value)
	d := diagnostic.Diagnostic{
		Path: strings.Join(whole, "."), Warning: true,
		Message: fmt.Sprintf("%s has the default of the schema, as %s has no value", strings.Join(path, "."), what),
		Hint:    fmt.Sprintf("give %s a value, or leave the field out", what),
	}
	if key := x.tagOf(fields[i].Value); key != "" {
		d.Hint = fmt.Sprintf("give it one with -t %s=…, or leave the field out", key)
	}
	if given.IncompleteKind() == cue.TopKind || circle { // all that is said is in a circle
		d.Warning = false
		d.Message = fmt.Sprintf("%s has no value: %s has none", strings.Join(path, "."), what)
	}
	x.report(x.mark(d, fields[i].Value.Pos()))
}

// checkDefaults warns of defaults that the user gives on top of a value: CUE takes the
// value, so the default is lost.
func (x *expansion) checkDefaults(path []string, fields []*ast.Field) {
	value := x.base().LookupPath(selectors(path))
	for _, f := range fields {
		for _, term := range disjunction(f.Value) {
			u, ok := term.(*ast.UnaryExpr)
			if !ok || u.Op != token.MUL || !isLiteral(u.X) {
				continue
			}
			text := x.sourceText(u.X)
			v := x.cue.CompileString(text)
			if text == "" || v.Err() != nil || !value.IsConcrete() || value.Unify(v).Validate() == nil {
				continue
			}
			x.report(x.mark(diagnostic.Diagnostic{
				Path: strings.Join(append([]string{x.name}, path...), "."), Warning: true,
				Message: fmt.Sprintf("%s is %s, and the default %s does not count: another place gives the value", strings.Join(path, "."), short(value), text),
				Hint:    "a default is for a value that nobody gives: leave it out there, or replace it with vary, cases or --set",
			}, u.Pos()))
		}
	}
}

// isReference reports whether an expression only names another value.
func isReference(e ast.Expr) bool {
	switch x := e.(type) {
	case *ast.Ident:
		return x.Node != nil
	case *ast.SelectorExpr:
		return isReference(x.X)
	case *ast.IndexExpr:
		return isReference(x.X)
	case *ast.ParenExpr:
		return isReference(x.X)
	}
	return false
}

func referenceText(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.SelectorExpr:
		if name, _, err := ast.LabelName(x.Sel); err == nil {
			return referenceText(x.X) + "." + name
		}
	case *ast.IndexExpr:
		return referenceText(x.X) + "[…]"
	case *ast.ParenExpr:
		return referenceText(x.X)
	}
	return "what it refers to"
}

// tagOf is the key of the tag that gives the field a reference names its value;
// "" if none does.
func (d *document) tagOf(reference ast.Expr) string {
	for _, t := range d.tagged() {
		if t.field == nil {
			continue
		}
		if name, _, err := ast.LabelName(t.field.Label); err == nil && name == referenceText(reference) {
			return t.key
		}
	}
	return ""
}

// A tagged field takes its value from the command line.
type tagged struct {
	key   string
	at    *ast.Attribute
	field *ast.Field // nil: the attribute is of no plain field at the top
}

// tagged are the @tag attributes of the file.
func (d *document) tagged() (list []tagged) {
	var field *ast.Field
	ast.Walk(d.syntax, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.Field:
			if slices.Contains(d.syntax.Decls, ast.Decl(x)) {
				field = x
			}
		case *ast.Attribute:
			if m := tagAttribute.FindStringSubmatch(x.Text); m != nil {
				t := tagged{key: m[1], at: x}
				if field != nil && slices.Contains(field.Attrs, x) {
					t.field = field
				}
				list = append(list, t)
			}
		}
		return true
	}, nil)
	return list
}

// checkTagValues reports tags of the command line whose value the field that takes it
// does not allow, also where nothing refers to the field; ok says that there are none.
// Other mistakes follow from one.
func (d *document) checkTagValues() (ok bool) {
	ok = true
	for _, t := range d.tagged() {
		if t.field == nil || !slices.ContainsFunc(d.env.Tags, func(tag string) bool { return tag == t.key || strings.HasPrefix(tag, t.key+"=") }) {
			continue
		}
		name, _, err := ast.LabelName(t.field.Label)
		if err != nil {
			continue
		}
		if v := field(d.value, name); v.Exists() && v.IncompleteKind() == cue.BottomKind {
			ok = false
			d.complain(v.Validate(), scope{})
		}
	}
	return ok
}

// tagGives is the value that the command line gives to a field at the top of the file by
// a tag; "" if it gives none.
func (d *document) tagGives(field string) string {
	for _, t := range d.tagged() {
		if t.field == nil {
			continue
		}
		if name, _, err := ast.LabelName(t.field.Label); err != nil || name != field {
			continue
		}
		for _, tag := range d.env.Tags {
			if value, ok := strings.CutPrefix(tag, t.key+"="); ok {
				return value
			}
		}
	}
	return ""
}

// checkTags warns of tags that the command line gives and that change no
// experiment: the value of the field that takes one is not used. A tag that
// gives what its field has anyway is not meant.
func (d *document) checkTags(names []string) {
	for i, tag := range d.env.Tags {
		key, _, _ := strings.Cut(tag, "=")
		all := d.tagged()
		at := slices.IndexFunc(all, func(t tagged) bool { return t.key == key })
		if at < 0 {
			continue
		}
		other := *d
		l := *d.loader
		l.env.Tags = slices.Delete(slices.Clone(d.env.Tags), i, i+1)
		other.loader = &l
		without := other.edited(d.text)
		if without == nil {
			continue // the tag is needed
		}
		same := func(name string) bool {
			a, errA := field(d.value, name).MarshalJSON()
			b, errB := field(without.value, name).MarshalJSON()
			return errA == nil && errB == nil && bytes.Equal(a, b)
		}
		if f := all[at].field; f != nil {
			if name, _, err := ast.LabelName(f.Label); err == nil && same(name) {
				continue
			}
		}
		if slices.ContainsFunc(names, func(name string) bool { return !same(name) }) {
			continue
		}
		d.report(d.mark(diagnostic.Diagnostic{
			Warning: true,
			Message: fmt.Sprintf("-t %s changes nothing: no value of an experiment depends on it", tag),
			Hint:    "refer to the field where its value is to count, as in train: epochs: _epochs",
		}, all[at].at.Pos()))
	}
}

// field is the field of a name, hidden or not.
func field(v cue.Value, name string) cue.Value {
	it, err := v.Fields(cue.All())
	for err == nil && it.Next() {
		if label(it.Selector().String()) == name {
			return it.Value()
		}
	}
	return cue.Value{}
}
