package experiment

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/token"

	"github.com/loralab/loralab/runner/diagnostic"
)

// Where things stand in the user's files.

// report keeps a diagnostic, completed with its source line. The same message
// at the same place is kept once, with all cells that it hits.
func (l *loader) report(d diagnostic.Diagnostic) {
	if l.record != nil {
		*l.record = append(*l.record, d)
	}
	key := d.At.String() + "\x00" + d.Message
	i, ok := l.seen[key]
	if !ok {
		l.seen[key] = len(l.found)
		d.Cells = slices.Clone(d.Cells) // it grows
		l.found = append(l.found, d)
		return
	}
	have := &l.found[i]
	if len(have.Cells) == 0 || len(d.Cells) == 0 {
		return
	}
	if len(d.Cells) == 1 && have.Cells[len(have.Cells)-1] == d.Cells[0] {
		return // cells come in their order, so nearly always
	}
	known := map[string]bool{}
	for _, c := range have.Cells {
		known[c] = true
	}
	for _, c := range d.Cells {
		if !known[c] {
			have.Cells = append(have.Cells, c)
		}
	}
}

// recorded are the diagnostics that do reports.
func (l *loader) recorded(do func()) (found diagnostic.List) {
	before := l.record
	l.record = &found
	do()
	l.record = before
	if before != nil {
		*before = append(*before, found...)
	}
	return found
}

// display is a file as the user names it: as given, or relative to the current
// directory.
func (l *loader) display(abs string) string {
	if abs == commandLine {
		return abs
	}
	if s, ok := l.shown[abs]; ok {
		return s
	}
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, abs); err == nil && !strings.HasPrefix(rel, "..") {
			return rel
		}
	}
	return abs
}

// mark puts a diagnostic at a place and adds the source line there.
func (l *loader) mark(d diagnostic.Diagnostic, pos token.Pos) diagnostic.Diagnostic {
	d.At, d.Source = l.place(pos)
	return d
}

func (l *loader) at(pos token.Pos) diagnostic.Position {
	at, _ := l.place(pos)
	return at
}

func (l *loader) place(pos token.Pos) (diagnostic.Position, string) {
	if !pos.IsValid() {
		return diagnostic.Position{}, ""
	}
	file := pos.Filename()
	lines, ok := l.lines[file]
	if !ok {
		if data, err := os.ReadFile(file); err == nil {
			lines = strings.Split(string(data), "\n")
		}
		l.lines[file] = lines
	}
	at := diagnostic.Position{File: l.display(file), Line: pos.Line(), Column: pos.Column(), Width: 1}
	if at.Line > len(lines) {
		return at, ""
	}
	line := strings.TrimRight(lines[at.Line-1], "\r")
	// CUE counts bytes.
	if before := min(at.Column-1, len(line)); before >= 0 {
		at.Width = max(1, utf8.RuneCountInString(tokenAt(line[before:])))
		at.Column = utf8.RuneCountInString(line[:before]) + 1
	}
	return at, line
}

// tokenAt is the token, or the bracketed list, that a piece of CUE starts with.
func tokenAt(s string) string {
	if s == "" {
		return ""
	}
	switch s[0] {
	case '"', '\'':
		for i := 1; i < len(s); i++ {
			if s[i] == '\\' {
				i++
			} else if s[i] == s[0] {
				return s[:i+1]
			}
		}
		return s
	case '[':
		depth := 0
		for i := range len(s) {
			switch s[i] {
			case '[':
				depth++
			case ']':
				if depth--; depth == 0 {
					return s[:i+1]
				}
			}
		}
		return s[:1]
	case '{', '(':
		return s[:1]
	}
	if i := strings.IndexAny(s, " \t,:={}[]()&|\""); i > 0 {
		return s[:i]
	} else if i == 0 {
		return s[:1]
	}
	return s
}

// mine reports whether a position is in a file of the user: not in the schema,
// not in what the program compiled.
func (d *document) mine(pos token.Pos) bool {
	if pos.IsValid() && pos.Filename() == commandLine {
		return true
	}
	if !pos.IsValid() || !filepath.IsAbs(pos.Filename()) {
		return false
	}
	return filepath.Dir(pos.Filename()) != d.dir || pos.Filename() == d.file
}

// selectors turns the path of a CUE error into a path for lookups.
func selectors(path []string) cue.Path {
	var s []cue.Selector
	for _, p := range path {
		if n, err := strconv.Atoi(p); err == nil {
			s = append(s, cue.Index(n))
		} else if parsed := cue.ParsePath(p); parsed.Err() == nil {
			s = append(s, parsed.Selectors()...)
		} else {
			s = append(s, cue.Str(p))
		}
	}
	return cue.MakePath(s...)
}

// label is the text of a path element without quotes.
func label(p string) string {
	if s, err := strconv.Unquote(p); err == nil {
		return s
	}
	return p
}

// position is where a value is written. CUE answers with the label where only
// one field gives the value.
func position(v cue.Value) token.Pos {
	if f, ok := v.Source().(*ast.Field); ok {
		return f.Value.Pos()
	}
	return v.Pos()
}

// valueAt is where the user gave the value at path, or the nearest one above
// it.
func (d *document) valueAt(path []string) token.Pos {
	if o := d.setting(path); o != nil {
		if v := o.value.LookupPath(selectors(path[1+len(o.path):])); v.Exists() && d.mine(position(v)) {
			return position(v)
		}
		return o.at
	}
	for n := len(path); n > 0; n-- {
		if v := d.user().LookupPath(selectors(path[:n])); v.Exists() && d.mine(position(v)) {
			if n < len(path) {
				return d.labelAt(path[:n])
			}
			return position(v)
		}
	}
	return d.labelAt(path)
}

// setting is what the command line has set at path, or above it.
func (d *document) setting(path []string) *override {
	if len(path) == 0 {
		return nil
	}
	return covering(d.set, path[1:])
}

// labelAt is where the user wrote the label of path, or the nearest one above
// it.
func (d *document) labelAt(path []string) token.Pos {
	if o := d.setting(path); o != nil {
		return o.label
	}
	for n := len(path); n > 0; n-- {
		if f := d.fields(path[:n]); len(f) > 0 {
			return f[len(f)-1].Label.Pos()
		}
	}
	return token.NoPos
}

// fields finds the fields of the syntax that define path: through
// conjunctions, embeddings, comprehensions and references within the file.
func (d *document) fields(path []string) []*ast.Field {
	if len(path) == 0 {
		return nil
	}
	labels := make([]string, len(path))
	for i, p := range path {
		labels[i] = label(p)
	}
	var found []*ast.Field
	depth := 0
	var expr func(e ast.Expr, path []string)
	decls := func(list []ast.Decl, path []string) {
		for _, decl := range list {
			switch x := decl.(type) {
			case *ast.Field:
				name, _, err := ast.LabelName(x.Label)
				if err != nil || name != path[0] {
					continue
				}
				if len(path) == 1 {
					if !slices.Contains(found, x) {
						found = append(found, x)
					}
					continue
				}
				expr(x.Value, path[1:])
			case *ast.EmbedDecl:
				expr(x.Expr, path)
			case *ast.Comprehension:
				expr(x.Value, path)
			}
		}
	}
	expr = func(e ast.Expr, path []string) {
		if depth++; depth > 200 { // a reference cycle
			depth--
			return
		}
		defer func() { depth-- }()
		switch x := e.(type) {
		case *ast.StructLit:
			decls(x.Elts, path)
		case *ast.ParenExpr:
			expr(x.X, path)
		case *ast.BinaryExpr:
			expr(x.X, path)
			expr(x.Y, path)
		case *ast.UnaryExpr:
			expr(x.X, path)
		case *ast.Ident:
			if x.Node != nil {
				decls(d.syntax.Decls, append([]string{x.Name}, path...))
			}
		case *ast.SelectorExpr:
			if name, _, err := ast.LabelName(x.Sel); err == nil {
				expr(x.X, append([]string{name}, path...))
			}
		case *ast.ListLit:
			if i, err := strconv.Atoi(path[0]); err == nil && i < len(x.Elts) && len(path) > 1 {
				expr(x.Elts[i], path[1:])
			}
		}
	}
	decls(d.syntax.Decls, labels)
	return found
}

// elementAt is where an element of a list is written, or the label of the list
// if it comes from elsewhere.
func (d *document) elementAt(path []string, i int) token.Pos {
	for _, f := range d.fields(path) {
		if list, ok := f.Value.(*ast.ListLit); ok && i < len(list.Elts) {
			return list.Elts[i].Pos()
		}
	}
	return d.labelAt(path)
}

// with is the source text with the values of all fields at the paths taken
// out, so that any value may take their place (hole), or with the fields
// themselves taken out (gone). The length and the lines stay, so everything
// else keeps its position.
func (d *document) with(hole, gone [][]string) []byte {
	source := slices.Clone(d.source)
	blank := func(from, to int, end string) {
		if from < 0 || to > len(source) || to-from < len(end) {
			return
		}
		for i := from; i < to; i++ {
			if source[i] != '\n' {
				source[i] = ' '
			}
		}
		// At the end: a line break after it would end the field early.
		copy(source[to-len(end):], end)
	}
	var holes []*ast.Field
	for _, path := range hole {
		holes = append(holes, d.fields(path)...)
	}
	// What lies within another first, or it would write into its blanks.
	slices.SortStableFunc(holes, func(a, b *ast.Field) int {
		return cmp.Compare(a.Value.End().Offset()-a.Value.Pos().Offset(), b.Value.End().Offset()-b.Value.Pos().Offset())
	})
	for _, f := range holes {
		blank(f.Value.Pos().Offset(), f.Value.End().Offset(), "_")
	}
	for _, path := range gone {
		for _, f := range d.fields(path) {
			blank(f.Pos().Offset(), f.End().Offset(), "{}")
		}
	}
	return source
}
