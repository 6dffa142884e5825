package experiment

import (
	"cmp"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"
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
	if text, is := l.only[d.At.String()]; is && text != d.Message {
		if !d.Warning {
			l.repeated++
		}
		return
	}
	key := seenKey(d)
	i, ok := l.seen[key]
	if !ok {
		l.seen[key] = len(l.found)
		d.Cells = slices.Clone(d.Cells) // it grows
		l.found = append(l.found, d)
		return
	}
	if !d.Warning {
		l.repeated++
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

// seenKey tells diagnostics apart.
func seenKey(d diagnostic.Diagnostic) string { return d.At.String() + "\x00" + d.Message }

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
	if abs == commandLine || abs == pointFile {
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

// mark is that of the loader; what has no place is a matter of the file.
func (d *document) mark(dg diagnostic.Diagnostic, pos token.Pos) diagnostic.Diagnostic {
	if dg = d.loader.mark(dg, pos); dg.At.File == "" {
		dg.At.File = d.display(d.file)
	}
	return dg
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

// inUserFile reports whether a position is in a file of the user: not in the schema,
// not in what the program compiled.
func (d *document) inUserFile(pos token.Pos) bool {
	if pos.IsValid() && (pos.Filename() == commandLine || pos.Filename() == pointFile) {
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

// rooted turns a path of a file into a path for lookups: its first element is
// the name of a field, also where that is a number.
func rooted(path []string) cue.Path {
	if len(path) == 0 {
		return cue.MakePath()
	}
	return cue.MakePath(append([]cue.Selector{cue.Str(label(path[0]))}, selectors(path[1:]).Selectors()...)...)
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
		if v := o.value.LookupPath(selectors(path[1+len(o.path):])); v.Exists() && d.inUserFile(position(v)) {
			return position(v)
		}
		return o.at
	}
	if v := d.withoutSchema().LookupPath(rooted(path)); v.Exists() && d.inUserFile(position(v)) {
		return position(v)
	}
	if f := d.fields(path); len(f) > 0 {
		return f[len(f)-1].Value.Pos()
	}
	for n := len(path) - 1; n > 0; n-- {
		if v := d.withoutSchema().LookupPath(rooted(path[:n])); v.Exists() && d.inUserFile(position(v)) {
			return d.labelAt(path[:n])
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
		// The command line may be what makes a struct.
		for _, o := range d.set {
			if n > 1 && len(o.path) >= n && related(o.path, path[1:n]) {
				return o.label
			}
		}
	}
	return token.NoPos
}

// fields finds the fields of the user's files that define path: through
// conjunctions, embeddings, comprehensions and references within the file. Where
// the syntax alone does not tell, CUE says which fields a value is made of.
func (d *document) fields(path []string) []*ast.Field {
	found, all := d.syntaxFields(path)
	if !all {
		d.conjuncts(d.value.LookupPath(rooted(path)), func(f *ast.Field) {
			if !slices.Contains(found, f) {
				found = append(found, f)
			}
		})
	}
	return found
}

// syntaxFields are the fields that define path as far as the syntax of the file
// tells; all says that there are no others.
func (d *document) syntaxFields(path []string) (found []*ast.Field, all bool) {
	if len(path) == 0 {
		return nil, true
	}
	all = true
	labels := make([]string, len(path))
	for i, p := range path {
		labels[i] = label(p)
	}
	seen := map[string]bool{} // what was referred to, of a circle or of many
	var expr func(e ast.Expr, path []string)
	decls := func(list []ast.Decl, path []string) {
		for _, decl := range list {
			switch x := decl.(type) {
			case *ast.Field:
				name, _, err := ast.LabelName(x.Label)
				if err != nil {
					all = false // a pattern, or a name that is computed
				}
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
			switch node := x.Node.(type) {
			case nil: // predeclared
			case *ast.ImportSpec:
				all = all && isSchema(label(node.Path.Value))
			default:
				// A name means a field that is written out, yet what else makes fields
				// may add to it.
				plain, top := d.fieldsAtTop(x.Name, node)
				all = all && top
				whole := append([]string{x.Name}, path...)
				key := strings.Join(whole, "\x00")
				if seen[key] || len(path) > 100 {
					all = all && len(path) <= 100
					return
				}
				seen[key] = true
				decls(plain, whole)
			}
		case *ast.SelectorExpr:
			if name, _, err := ast.LabelName(x.Sel); err == nil {
				expr(x.X, append([]string{name}, path...))
			}
		case *ast.ListLit:
			if i, err := strconv.Atoi(path[0]); err == nil && i < len(x.Elts) && len(path) > 1 {
				expr(x.Elts[i], path[1:])
			}
		case *ast.BasicLit:
		default:
			all = false
		}
	}
	decls(d.syntax.Decls, labels)
	return found, all
}

// fieldsAtTop are the fields of a name at the top of the file; all says that node
// is the value of one of them, and that nothing else makes fields there.
func (d *document) fieldsAtTop(name string, node ast.Node) (fields []ast.Decl, all bool) {
	plain := true
	for _, decl := range d.syntax.Decls {
		switch x := decl.(type) {
		case *ast.Field:
			label, _, err := ast.LabelName(x.Label)
			plain = plain && err == nil
			if err == nil && label == name {
				fields = append(fields, decl)
				all = all || x.Value == node
			}
		case *ast.EmbedDecl, *ast.Comprehension:
			plain = false
		}
	}
	return fields, all && plain
}

// conjuncts calls do for the fields of the user's files that a value is made of.
func (d *document) conjuncts(v cue.Value, do func(*ast.Field)) {
	if f, ok := v.Source().(*ast.Field); ok && d.inUserFile(f.Label.Pos()) {
		do(f)
	}
	if op, parts := v.Expr(); op == cue.AndOp {
		for _, part := range parts {
			d.conjuncts(part, do)
		}
	}
}

// firstLabel is the first place where a field at the top of the file is named.
func (d *document) firstLabel(name string) token.Pos {
	first := token.NoPos
	for _, f := range d.fields([]string{quoteLabel(name)}) {
		if pos := f.Label.Pos(); !first.IsValid() || pos.Filename() == d.file && (first.Filename() != d.file || pos.Offset() < first.Offset()) {
			first = pos
		}
	}
	return first
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

// blankFields are the texts with the values of all fields at the paths taken out, so
// that any value may take their place (hole), or with the fields themselves
// taken out (gone). Lengths and lines stay, so everything else keeps its
// position.
func (d *document) blankFields(hole, gone [][]string) map[string][]byte {
	e := d.editor()
	var holes []*ast.Field
	for _, path := range hole {
		holes = append(holes, d.fields(path)...)
	}
	// What lies within another first, or it would write into its blanks.
	slices.SortStableFunc(holes, func(a, b *ast.Field) int {
		return cmp.Compare(a.Value.End().Offset()-a.Value.Pos().Offset(), b.Value.End().Offset()-b.Value.Pos().Offset())
	})
	for _, f := range holes {
		e.blank(f.Value, "_")
	}
	for _, path := range gone {
		for _, f := range d.fields(path) {
			e.blank(f, "{}")
		}
	}
	return e.text
}

// withoutUnused are the texts without the imports and let clauses that errors
// say are not used; nil if there are none.
func (d *document) withoutUnused(errs []errors.Error) map[string][]byte {
	e := d.editor()
	changed := false
	for _, err := range errs {
		if text := err.Error(); !notUsed.MatchString(text) && !unreferenced.MatchString(text) {
			continue
		}
		contains := func(n ast.Node) bool {
			return n.Pos().Offset() <= err.Position().Offset() && err.Position().Offset() < n.End().Offset()
		}
		for _, f := range append([]*ast.File{d.syntax}, d.imported...) {
			if f == nil || f.Filename != err.Position().Filename() {
				continue
			}
			ast.Walk(f, func(n ast.Node) bool {
				switch x := n.(type) {
				case *ast.ImportDecl:
					for _, spec := range x.Specs {
						if !contains(spec) {
							continue
						}
						if x.Lparen.IsValid() {
							changed = e.blank(spec, "") || changed
						} else {
							changed = e.blank(x, "") || changed
						}
					}
				case *ast.LetClause:
					if contains(x) {
						changed = e.blank(x, "_") || changed
					}
				}
				return true
			}, nil)
		}
	}
	if !changed {
		return nil
	}
	return e.text
}

// An editor changes copies of texts.
type editor struct {
	text   map[string][]byte
	copied map[string]bool
}

func (d *document) editor() *editor {
	return &editor{text: maps.Clone(d.text), copied: map[string]bool{}}
}

// blank takes a node out and puts something in its place.
func (e *editor) blank(n ast.Node, instead string) bool {
	file, from, to := n.Pos().Filename(), n.Pos().Offset(), n.End().Offset()
	if !e.copied[file] {
		text, ok := e.text[file]
		if !ok {
			var err error
			if text, err = os.ReadFile(file); err != nil {
				return false // then the value stays, and is reported as one that does
			}
		}
		e.text[file], e.copied[file] = slices.Clone(text), true
	}
	text := e.text[file]
	if from < 0 || to > len(text) || to-from < len(instead) {
		return false
	}
	for i := from; i < to; i++ {
		if text[i] != '\n' {
			text[i] = ' '
		}
	}
	// At the end: a line break after it would end the field early.
	copy(text[to-len(instead):], instead)
	return true
}
