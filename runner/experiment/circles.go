package experiment

import (
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/token"

	"github.com/loralab/loralab/runner/diagnostic"
)

// Values that refer to each other. CUE reports some of the fields of a circle, the values
// that are computed from them, and bounds that none of them satisfies. The syntax says
// which fields a circle has.

// A linked field is one that may be part of a circle.
type linked struct {
	path  []string
	field *ast.Field
	to    []*linked // that its value refers to

	order, low int // of the search, from 1
	open       bool
}

// circles reports values that refer to each other, each circle once, and drops what
// follows: errors of values that are computed from them (trial-language M9).
func (d *document) circles(all []errors.Error, s scope) []errors.Error {
	isCircle := func(e errors.Error) bool {
		format, _ := e.Msg()
		return strings.HasPrefix(format, inCircle)
	}
	if !slices.ContainsFunc(all, isCircle) {
		return all
	}
	var members []*linked
	var names []string
	for _, circle := range d.linkedCircles() {
		contains := func(e errors.Error) bool {
			return isCircle(e) && slices.ContainsFunc(circle, func(f *linked) bool { return encloses(f.field.Value, e.Position()) })
		}
		if !slices.ContainsFunc(all, contains) {
			continue
		}
		members = append(members, circle...)
		var shown []string
		for _, f := range circle {
			path := f.path
			if len(s.prefix) > 0 && len(path) > len(s.prefix) && path[0] == label(s.prefix[0]) {
				path = path[len(s.prefix):]
			}
			shown = append(shown, strings.Join(path, "."))
			names = append(names, f.path[len(f.path)-1]) // as the fields next to it refer to it
		}
		d.report(d.mark(diagnostic.Diagnostic{
			Path:    strings.Join(circle[0].path, "."),
			Message: fmt.Sprintf("%s refer to each other, so none of them has a value", inWords(shown)),
			Hint:    "give one of them a value of its own",
		}, circle[0].field.Value.Pos()))
	}
	if len(members) == 0 {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(e errors.Error) bool {
		if isCircle(e) {
			return true
		}
		for _, f := range d.fields(e.Path()) {
			if refersTo(f.Value, names) || slices.ContainsFunc(members, func(m *linked) bool { return m.field.Pos() == f.Pos() }) {
				return true
			}
		}
		return slices.ContainsFunc(errors.Positions(e), func(p token.Pos) bool {
			return slices.ContainsFunc(members, func(m *linked) bool { return encloses(m.field.Value, p) })
		})
	})
}

// linkedCircles are the sets of two fields or more that refer to each other, in the order
// of the files: the strongly connected components of references, as Tarjan finds them.
func (d *document) linkedCircles() [][]*linked {
	var found [][]*linked
	var stack []*linked
	n := 0
	var visit func(f *linked)
	visit = func(f *linked) {
		n++
		f.order, f.low, f.open = n, n, true
		stack = append(stack, f)
		for _, to := range f.to {
			if to.order == 0 {
				visit(to)
				f.low = min(f.low, to.low)
			} else if to.open {
				f.low = min(f.low, to.order)
			}
		}
		if f.low < f.order {
			return
		}
		i := slices.Index(stack, f)
		circle := slices.Clone(stack[i:])
		stack = stack[:i]
		for _, member := range circle {
			member.open = false
		}
		if len(circle) > 1 {
			slices.SortStableFunc(circle, func(a, b *linked) int { return a.field.Pos().Compare(b.field.Pos()) })
			found = append(found, circle)
		}
	}
	for _, f := range d.linkedFields() {
		if f.order == 0 {
			visit(f)
		}
	}
	return found
}

// linkedFields are the fields of the user's files whose values are no structs, with what
// they refer to.
func (d *document) linkedFields() []*linked {
	var all []*linked
	byValue := map[ast.Node]*linked{}
	for _, f := range append([]*ast.File{d.syntax}, d.imported...) {
		if f == nil {
			continue
		}
		var above []string
		var walk func(n ast.Node) bool
		walk = func(n ast.Node) bool {
			x, ok := n.(*ast.Field)
			if !ok {
				return true
			}
			name, _, err := ast.LabelName(x.Label)
			if err != nil {
				return false // a pattern or a computed name
			}
			above = append(above, name)
			if _, ok := x.Value.(*ast.StructLit); !ok {
				link := &linked{path: slices.Clone(above), field: x}
				all = append(all, link)
				byValue[x.Value] = link
			}
			ast.Walk(x.Value, walk, nil)
			above = above[:len(above)-1]
			return false
		}
		ast.Walk(f, walk, nil)
	}
	for _, f := range all {
		ast.Walk(f.field.Value, func(n ast.Node) bool {
			switch n.(type) {
			case *ast.SelectorExpr, *ast.IndexExpr, *ast.Ident:
				selected, base, _ := selection(n.(ast.Expr))
				if ident, ok := base.(*ast.Ident); ok {
					if to := byValue[member(ident.Node, selected)]; to != nil {
						f.to = append(f.to, to)
					}
				}
			}
			return true
		}, nil)
	}
	return all
}

// member is the value that names select of a struct; the struct itself without names.
func member(n ast.Node, names []string) ast.Node {
	for _, name := range names {
		x, ok := n.(*ast.StructLit)
		if !ok {
			return nil
		}
		i := slices.IndexFunc(x.Elts, func(decl ast.Decl) bool {
			f, ok := decl.(*ast.Field)
			if !ok {
				return false
			}
			of, _, err := ast.LabelName(f.Label)
			return err == nil && of == name
		})
		if i < 0 {
			return nil
		}
		n = x.Elts[i].(*ast.Field).Value
	}
	return n
}

// encloses reports whether a place is in a node.
func encloses(n ast.Node, at token.Pos) bool {
	return at.IsValid() && at.Filename() == n.Pos().Filename() && n.Pos().Offset() <= at.Offset() && at.Offset() < n.End().Offset()
}

// refersTo reports whether an expression refers to one of some names.
func refersTo(e ast.Expr, names []string) bool {
	found := false
	ast.Walk(e, func(n ast.Node) bool {
		if x, ok := n.(*ast.Ident); ok && slices.Contains(names, x.Name) {
			found = true
		}
		return !found
	}, nil)
	return found
}

// inWords is names as a sentence has them: "a, b and c".
func inWords(names []string) string {
	last := len(names) - 1
	if last < 1 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
