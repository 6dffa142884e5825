package experiment

import (
	"slices"

	"cuelang.org/go/cue/ast"
)

// Which values of an experiment can depend on which. Evaluating a file in CUE
// takes a millisecond, and a matrix of thousands of cells has only some dozens
// of different values: a value that nothing in the file refers to is checked
// once, by itself, whatever stands beside it. What a reference may lead to is
// told from the syntax, and told generously: to take a value for referred to
// costs time, and never a wrong result.

// references are what the expressions of a file, and of what it imports, refer
// to below an experiment.
type references struct {
	// opaque: something defines or constrains fields whose names are not
	// plain, or the experiment itself is no plain field at the top of the file or
	// below a condition there, so anything may depend on anything.
	opaque bool
	// paths that are referred to, ending in what is selected. The beginning of
	// a lexical reference is not known: "…rank".
	paths []reference
}

type reference struct {
	path     []string
	anywhere bool // below any struct, not only at the top of the experiment
}

// touches reports whether a change at path can be seen through a reference.
func (r *references) touches(path []string, isStruct bool) bool {
	if r.opaque {
		return true
	}
	for _, ref := range r.paths {
		if !ref.anywhere {
			if related(ref.path, path) {
				return true
			}
			continue
		}
		if isStruct {
			return true // its fields may be what is referred to
		}
		for i := range path {
			if label(path[i]) == ref.path[0] && related(ref.path, path[i:]) {
				return true
			}
		}
	}
	return false
}

// ofSchema are the fields that defaults of the schema depend on.
var ofSchema = []reference{{path: []string{"head", "kind"}}} // head.norm

// references finds what can be referred to in the experiment of a name.
func (d *document) references(name string) *references {
	r := &references{paths: slices.Clone(ofSchema)}
	r.file(d.syntax, name)
	for _, f := range d.imported {
		r.file(f, "")
	}
	return r
}

// file adds the references of one file; with a name, those to the field of
// that name at its top are to the experiment itself.
func (r *references) file(f *ast.File, name string) {
	if f == nil {
		r.opaque = true
		return
	}
	top := map[ast.Node]string{}
	plain := name == ""
	for _, decl := range f.Decls {
		if field, ok := decl.(*ast.Field); ok {
			if n, _, err := ast.LabelName(field.Label); err == nil {
				top[field.Value] = n
				plain = plain || n == name
			}
			continue
		}
		plain = plain || defines(decl, name)
	}
	r.opaque = r.opaque || !plain
	refer := func(x *ast.Ident, selected []string) {
		switch node := x.Node.(type) {
		case nil:
			// Predeclared. These look at structs as a whole.
			r.opaque = r.opaque || x.Name == "matchN" || x.Name == "matchIf"
		case *ast.ImportSpec:
			// Another package cannot see the experiment, but may look at it.
			r.opaque = r.opaque || label(node.Path.Value) == "struct"
		case *ast.ForClause, *ast.LetClause:
			// A name for an expression that is looked at itself.
		default:
			n, global := top[node]
			// A field of a condition at the top is also one of the file.
			if x.Name == name && (n == name || !global) {
				r.paths = append(r.paths, reference{path: selected})
			}
			if !global {
				r.paths = append(r.paths, reference{path: append([]string{x.Name}, selected...), anywhere: true})
			}
		}
	}
	var walk func(n ast.Node) bool
	walk = func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.ImportDecl:
			return false
		case *ast.Alias:
			r.opaque = true
		case *ast.Ellipsis:
			r.opaque = r.opaque || x.Type != nil
		case *ast.Field:
			if _, _, err := ast.LabelName(x.Label); err != nil || x.Alias != nil {
				r.opaque = true // a pattern, a name that is computed, or two names
				return false
			}
			ast.Walk(x.Value, walk, nil)
			return false
		case *ast.SelectorExpr, *ast.IndexExpr:
			selected, base, indices := selection(x.(ast.Expr))
			for _, e := range indices {
				ast.Walk(e, walk, nil)
			}
			if ident, ok := base.(*ast.Ident); ok {
				refer(ident, selected)
			} else {
				ast.Walk(base, walk, nil)
			}
			return false
		case *ast.Ident:
			refer(x, nil)
		}
		return true
	}
	ast.Walk(f, walk, nil)
}

// defines reports whether a condition at the top of a file has a field of that name in
// its struct, as it is written.
func defines(decl ast.Decl, name string) bool {
	c, ok := decl.(*ast.Comprehension)
	if !ok {
		return false
	}
	value, ok := c.Value.(*ast.StructLit)
	return ok && slices.ContainsFunc(value.Elts, func(decl ast.Decl) bool {
		if field, ok := decl.(*ast.Field); ok {
			n, _, err := ast.LabelName(field.Label)
			return err == nil && n == name
		}
		return defines(decl, name)
	})
}

// selection takes a.b["c"][i] apart: the names selected of base for certain,
// and the expressions of indices.
func selection(e ast.Expr) (selected []string, base ast.Expr, indices []ast.Expr) {
	switch x := e.(type) {
	case *ast.SelectorExpr:
		selected, base, indices = selection(x.X)
		if name, _, err := ast.LabelName(x.Sel); err == nil && len(indices) == 0 {
			selected = append(selected, name)
		}
		return selected, base, indices
	case *ast.IndexExpr:
		selected, base, indices = selection(x.X)
		return selected, base, append(indices, x.Index)
	case *ast.ParenExpr:
		return selection(x.X)
	}
	return nil, e, nil
}
