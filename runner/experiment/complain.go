package experiment

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"

	"github.com/loralab/loralab/runner/diagnostic"
	"github.com/loralab/loralab/schema"
)

// What CUE says, said so that a researcher understands it. CUE reports each
// attempt of a disjunction as an error of its own, with positions in the
// schema; a user wants one sentence at the line that has to change.

// complain reports what CUE found wrong with a value, one diagnostic for each
// path.
func (d *document) complain(err error, s scope) {
	if s.rebase == nil {
		s.rebase = func(path []string) []string { return path }
	}
	var order []string
	groups := map[string][]errors.Error{}
	all := errors.Errors(err)
	for _, e := range all {
		path := e.Path()
		if ofBrokenList(all, path) {
			continue
		}
		key := strings.Join(path, "\x00")
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], e)
	}
	for _, key := range order {
		d.complainAt(groups[key], s)
	}
}

// ofBrokenList reports whether a path leads to an element of a list that is at
// fault itself: what CUE says of it comes from trying other values of the list.
func ofBrokenList(all []errors.Error, path []string) bool {
	for i := 1; i < len(path); i++ {
		if _, err := strconv.Atoi(path[i]); err != nil {
			continue
		}
		if slices.ContainsFunc(all, func(e errors.Error) bool { return slices.Equal(e.Path(), path[:i]) }) {
			return true
		}
	}
	return false
}

func (d *document) complainAt(group []errors.Error, s scope) {
	path := s.rebase(group[0].Path())
	below := path[min(len(s.prefix), len(path)):]
	subject := strings.Join(below, ".")
	if subject == "" {
		subject = strings.Join(path, ".")
	}
	dg := diagnostic.Diagnostic{Path: strings.Join(path, "."), Cells: s.cells, Of: s.of}

	if e := find(group, notAllowed); e != nil {
		// Of a struct that the schema does not have, CUE reports the fields too.
		if n := unknownAt(s, below); n < len(below) {
			path = path[:len(path)-len(below)+n]
			below = below[:n]
			dg.Path = strings.Join(path, ".")
			e = nil
		}
		name := label(path[len(path)-1])
		pos := d.labelAt(path)
		if e != nil {
			for _, p := range errors.Positions(e) {
				if d.mine(p) {
					pos = p
					break
				}
			}
		}
		if o := covering(s.overlay, below); o != nil {
			pos = o.label
			if f := d.fields(append(slices.Clone(o.from), below[len(o.path):]...)); len(f) > 0 {
				pos = f[0].Label.Pos()
			}
		}
		switch parent := below[:len(below)-1]; {
		case s.unknown != "":
			dg.Message = fmt.Sprintf("%s %q", s.unknown, name)
		case len(parent) > 0:
			dg.Message = fmt.Sprintf("%s has no field %q", strings.Join(parent, "."), name)
		default:
			dg.Message = fmt.Sprintf("an experiment has no field %q", name)
		}
		dg.Hint = cmp.Or(renamed(below[:len(below)-1], name), diagnostic.Suggest(name, "it knows", fieldNames(lookup(s.schema, below[min(s.skip, len(below)-1):len(below)-1]))))
		d.report(d.mark(dg, pos))
		return
	}
	missing := subject + " is missing"
	if slices.ContainsFunc(d.found, func(f diagnostic.Diagnostic) bool { return f.Path == dg.Path && f.Message == missing }) {
		return // that nothing is not of its type follows
	}
	if e := find(group, "field is required but not present"); e != nil {
		dg.Message = missing
		if text := doc(lookup(s.schema, below[min(s.skip, len(below)):])); text != "" {
			dg.Hint = path[len(path)-1] + ": " + text
		}
		d.report(d.mark(dg, d.labelAt(path[:len(path)-1])))
		return
	}

	// What the user wrote at this path, alone.
	var given string
	var pos token.Pos
	own := false
	if o := covering(s.overlay, below); o != nil {
		v := o.value.LookupPath(selectors(below[len(o.path):]))
		given, pos = short(v), position(v)
		if !d.mine(pos) {
			pos = o.place(d)
		}
	} else if o := d.setting(path); o != nil {
		given, pos = short(o.value.LookupPath(selectors(path[1+len(o.path):]))), d.valueAt(path)
	} else {
		v := d.user().LookupPath(rooted(path))
		given, pos = short(v), d.valueAt(path)
		if err := v.Err(); v.Exists() && err != nil && v.IncompleteKind() == cue.BottomKind {
			if mine := d.relevant(v, path); len(mine) > 0 {
				group, own = mine, true
			}
		}
	}
	if given == "" {
		given = d.literal(path, pos)
	}
	is := subject
	if given != "" {
		is = fmt.Sprintf("%s is %s", subject, given)
	}

	if preset, p, ok := d.contradicted(path, s); ok {
		if n := len(p.path); n < len(below) && below[0] != "cases" || n+2 < len(below) { // in a list
			path = path[:len(path)-1]
			if pos = d.valueAt(path); covering(s.overlay, below) != nil {
				pos = covering(s.overlay, below).place(d)
			}
			dg.Path = strings.Join(path, ".")
		}
		if !d.mine(pos) {
			pos = d.labelAt(path)
		}
		dg.Message = fmt.Sprintf("preset %q sets %s to %s", preset, strings.Join(p.path, "."), inCUE(p.value))
		dg.Hint = "leave one of them out"
		d.report(d.mark(dg, pos))
		return
	}

	// A sentence of the schema.
	if !own {
		for _, e := range group {
			if format, args := e.Msg(); format == "%s" && len(args) == 1 {
				text := fmt.Sprint(args[0])
				if rest, ok := strings.CutPrefix(text, "must be "); ok && given != "" {
					text = "it must be " + rest
				}
				if given != "" {
					dg.Message = is + ": " + text
				} else {
					dg.Message = subject + " " + text
				}
				dg.Hint = cmp.Or(renamed(below, label(given)), choice(given, text))
				d.report(d.mark(dg, d.elementIn(pos, s, path)))
				return
			}
		}
	}
	if choices, got := disjuncts(group); len(choices) > 0 {
		last := len(choices) - 1
		list := choices[last]
		if last > 0 {
			list = strings.Join(choices[:last], ", ") + " or " + list
		}
		dg.Message = fmt.Sprintf("%s is %s: it must be %s", subject, got, list)
		dg.Hint = cmp.Or(renamed(below, label(got)), choice(got, strings.Join(choices, " ")))
		d.report(d.mark(dg, pos))
		return
	}
	e := telling(group)
	format, args := e.Msg()
	switch {
	case strings.HasPrefix(format, "conflicting values %s and %s (mismatched types"):
		if own {
			dg.Message = fmt.Sprintf("%s is given twice: as a %s and as a %s", subject, noun(fmt.Sprint(args[2])), noun(fmt.Sprint(args[3])))
			dg.Hint = d.other(e, pos)
		} else {
			have, want := fmt.Sprint(args[2]), fmt.Sprint(args[3])
			if v := d.user().LookupPath(rooted(path)); v.Exists() && v.IncompleteKind().String() == want {
				have, want = want, have
			}
			dg.Message = fmt.Sprintf("%s: it must be a %s, not a %s", is, noun(want), noun(have))
		}
	case strings.HasPrefix(format, "conflicting values"):
		dg.Message = fmt.Sprintf("%s is given twice: as %v and as %v", subject, args[0], args[1])
		dg.Hint = d.other(e, pos)
		if !own && covering(s.overlay, below) != nil {
			dg.Message = fmt.Sprintf("%s cannot vary: its value comes from elsewhere and stays %v", subject, args[0])
			dg.Hint = "give the base's value as a plain field of the experiment"
		} else if d.setting(path) != nil {
			dg.Message = fmt.Sprintf("%s cannot be set: its value comes from elsewhere and stays %v", subject, args[0])
			dg.Hint = "give it as a plain field of the experiment"
		}
	case strings.HasPrefix(format, "invalid value %") && strings.Contains(format, "out of bound"):
		dg.Message = fmt.Sprintf("%s: it must be %v", is, bound(fmt.Sprint(args[len(args)-1])))
	case strings.HasPrefix(format, "reference %q not found"), strings.HasPrefix(format, "undefined field"):
		name := strings.Trim(fmt.Sprint(args[0]), `"`)
		if e.Position().IsValid() && d.mine(e.Position()) {
			pos = e.Position()
		}
		if strings.HasPrefix(name, "#") && len(d.marker.Selectors()) == 0 {
			dg.Message = fmt.Sprintf("unknown name %q", name)
			dg.Hint = fmt.Sprintf("import %q, and write schema.%s", schema.ImportPath, name)
		} else if strings.HasPrefix(name, "#") {
			dg.Message = fmt.Sprintf("the schema has no %s", name)
			dg.Hint = diagnostic.Suggest(name, "definitions", d.definitions())
		} else {
			dg.Message = fmt.Sprintf("unknown name %q", name)
			dg.Hint = diagnostic.Suggest(name, "names in this file", d.names())
			if now := written(name); now != name {
				dg.Hint = spelled(name, now)
			} else if !strings.Contains(dg.Hint, "mean") {
				dg.Hint = "a text needs quotes: \"" + name + "\""
			}
		}
	case strings.Contains(e.Error(), "incomplete") || strings.Contains(e.Error(), "non-concrete") || strings.Contains(e.Error(), "unresolved disjunction"):
		dg.Message = fmt.Sprintf("%s has no definite value", subject)
		if given != "" {
			dg.Message = fmt.Sprintf("%s is %s, not one value", subject, given)
		}
		dg.Hint = "give it a value"
		if own, theirs, ok := d.twoDefaults(path, below, s); ok {
			dg.Message = fmt.Sprintf("%s has two defaults, %s here and %s in the schema, so none of them counts", subject, own, theirs)
			dg.Hint = fmt.Sprintf("write one value, %s: %s; the command line may give another with --set %s=…", path[len(path)-1], own, strings.Join(below, "."))
			if e, ok := d.referenceAt(path); ok {
				dg.Hint += fmt.Sprintf("; %s + 0 is one number", e)
			}
		}
	case notUsed.MatchString(e.Error()):
		dg.Message = notUsed.FindStringSubmatch(e.Error())[1] + " is imported and not used"
		if strings.Contains(dg.Message, schema.ImportPath) {
			dg.Hint = "write my_ablation: schema.#Experiment & {…}"
		}
		pos = e.Position()
	case unreferenced.MatchString(e.Error()):
		name := unreferenced.FindStringSubmatch(e.Error())[1]
		dg.Message = fmt.Sprintf("%s = … names a value that nothing uses", name)
		dg.Hint = fmt.Sprintf("a field takes its value after a colon, %s: …", name)
		pos = e.Position()
	default:
		dg.Message = fmt.Sprintf(format, args...)
		if internal.MatchString(dg.Message) {
			dg.Message = "this is not what the schema allows"
			if rule := sentenceOf(lookup(s.schema, below[min(s.skip, len(below)):])); rule != "" {
				dg.Message = "it " + rule
			}
		}
		if subject != "" {
			dg.Message = subject + ": " + dg.Message
		}
		if e.Position().IsValid() && d.mine(e.Position()) {
			pos = e.Position()
		}
	}
	d.report(d.mark(dg, pos))
}

// unknownAt is the length of the path to the first field that the schema does not
// have, and that of the whole path without a schema.
func unknownAt(s scope, path []string) int {
	if s.unknown == "" && s.schema.Exists() {
		for n := s.skip + 1; n < len(path); n++ {
			if !lookup(s.schema, path[s.skip:n]).Exists() {
				return n
			}
		}
	}
	return len(path)
}

// twoDefaults are the defaults that the user and the schema give to a path.
func (d *document) twoDefaults(path, below []string, s scope) (own, theirs string, ok bool) {
	given, has := d.user().LookupPath(rooted(path)).Default()
	known, should := lookup(s.schema, below[min(s.skip, len(below)):]).Default()
	if !has || !should {
		return "", "", false
	}
	own, theirs = inCUE(given), inCUE(known)
	return own, theirs, own != theirs && own != "" && theirs != ""
}

// referenceAt is what the user's value at a path refers to, if it is a number.
func (d *document) referenceAt(path []string) (string, bool) {
	if d.user().LookupPath(rooted(path)).IncompleteKind()&^cue.NumberKind != 0 {
		return "", false
	}
	for _, f := range d.fields(path) {
		if isReference(f.Value) {
			return referenceText(f.Value), true
		}
	}
	return "", false
}

// literal is the number, text, true or false that the user writes at a place;
// "" for anything else.
func (d *document) literal(path []string, pos token.Pos) string {
	for _, f := range d.fields(path) {
		if at := f.Value.Pos(); at.Filename() != pos.Filename() || at.Offset() != pos.Offset() {
			continue
		}
		switch x := f.Value.(type) {
		case *ast.BasicLit:
			return x.Value
		case *ast.UnaryExpr:
			if lit, ok := x.X.(*ast.BasicLit); ok {
				return x.Op.String() + lit.Value
			}
		}
	}
	return ""
}

// elementIn is the place of the first element at fault, if the value at path is
// a list and the schema has something to say of each; else pos.
func (d *document) elementIn(pos token.Pos, s scope, path []string) token.Pos {
	below := path[min(len(s.prefix), len(path)):]
	given := d.user().LookupPath(rooted(path))
	if o := covering(s.overlay, below); o != nil {
		given = o.value.LookupPath(selectors(below[len(o.path):]))
	} else if o := d.setting(path); o != nil {
		given = o.value.LookupPath(selectors(below[len(o.path):]))
	}
	if given.IncompleteKind() != cue.ListKind {
		return pos
	}
	_, terms := lookup(s.schema, below[min(s.skip, len(below)):]).Expr()
	list, err := given.List()
	if err != nil {
		return pos
	}
	for i := 0; list.Next(); i++ {
		known, fits := false, false
		for _, term := range terms {
			want := term.LookupPath(cue.MakePath(cue.Index(i)))
			if !want.Exists() {
				want = term.LookupPath(cue.MakePath(cue.AnyIndex))
			}
			if want.Exists() {
				known = true
				fits = fits || want.Unify(list.Value()).Validate(cue.Concrete(true)) == nil
			}
		}
		if at := position(list.Value()); known && !fits && d.mine(at) {
			return at
		}
	}
	return pos
}

// relevant are the errors of v, a value of the user alone, at path itself.
func (d *document) relevant(v cue.Value, path []string) []errors.Error {
	var mine []errors.Error
	for _, e := range errors.Errors(v.Err()) {
		// A definition of the user's is closed, without the fields of the schema.
		if format, _ := e.Msg(); format != "" && format != notAllowed && slices.Equal(e.Path(), path) {
			mine = append(mine, e)
		}
	}
	return mine
}

// other names the second of two places that disagree.
func (d *document) other(e errors.Error, first token.Pos) string {
	for _, p := range errors.Positions(e) {
		if d.mine(p) && p.Offset() != first.Offset() {
			return "the other is at " + d.at(p).String()
		}
	}
	return ""
}

// reportLoad reports what kept a file from being read: syntax, imports, tags.
func (d *document) reportLoad(err error) {
	for _, e := range errors.Errors(err) {
		pos := e.Position()
		for _, p := range errors.Positions(e) {
			if !pos.IsValid() || !d.mine(pos) {
				pos = p
			}
		}
		text := e.Error()
		dg := diagnostic.Diagnostic{At: diagnostic.Position{File: d.display(d.file)}}
		switch {
		case importFailed.MatchString(text):
			at, line := d.place(pos)
			imported := ""
			if line != "" {
				imported = tokenAt(string([]rune(line)[at.Column-1:]))
			}
			dg.Message = "cannot import " + imported
			dg.Hint = "packages of the project and the schema are found: " + schema.ImportPath
			if path := strings.Trim(imported, `"`); path != "" && path != schema.ImportPath {
				if near := diagnostic.DidYouMean(path, []string{schema.ImportPath}); near != "" {
					dg.Hint = fmt.Sprintf("did you mean %q?", near)
				}
			}
		case noTag.MatchString(text):
			key := noTag.FindStringSubmatch(text)[1]
			dg.Message = fmt.Sprintf("nothing in the file takes -t %s=…", key)
			tags := d.tags()
			dg.Hint = diagnostic.Suggest(key, "it takes", tags)
			if dg.Hint == "" {
				dg.Hint = fmt.Sprintf("a field takes it with %s: *\"small\" | \"smoke\" @tag(%s)", key, key)
			}
		case strings.Contains(text, "files excluded in non-test mode"):
			dg.Message = "CUE passes over files whose name ends in _test.cue"
			dg.Hint = "give the file another name"
		case strings.Contains(text, "build constraints exclude"):
			_, why, _ := strings.Cut(text, d.file+": ")
			dg.Message = "CUE passes over this file: " + strings.TrimSpace(why)
			dg.Hint = "choose within a file with if and a tag: runner help experiments"
		case strings.HasPrefix(text, "cannot get syntax for "):
			_, dg.Message, _ = strings.Cut(text, d.file+"\": ")
		case strings.HasSuffix(text, "found 'EOF'"):
			if len(errors.Errors(err)) > 1 {
				continue // follows from the other errors
			}
			dg.Message = "the file ends before everything is closed: " + text
		default:
			format, args := e.Msg()
			dg.Message = fmt.Sprintf(format, args...)
			if dg.Message == "" || dg.Message == "load" { // which is all that CUE says of its own
				dg.Message = text
			}
		}
		if pos.IsValid() {
			dg = d.mark(dg, pos)
		}
		d.report(dg)
	}
}

var (
	// What only those understand who know how CUE works.
	internal     = regexp.MustCompile(`disjunction|conflicting values|incompatible|_\|_|bottom|not allowed|mismatched|cue\.mod|non-concrete|unresolved|conjunct|cycle|explicit error`)
	incomplete   = regexp.MustCompile(`incomplete|non-concrete|cannot range over .*incomplete|must be concrete`)
	importFailed = regexp.MustCompile(`import failed|cannot find package|no dependency`)
	notUsed      = regexp.MustCompile(`imported and not used: (\S+)`)
	unreferenced = regexp.MustCompile(`unreferenced alias or let clause (\S+)`)
	noTag        = regexp.MustCompile(`no tag for "([^"]*)"`)
	tagAttribute = regexp.MustCompile(`^@tag\(\s*([A-Za-z0-9_]+)`)
	quoted       = regexp.MustCompile(`"([^"]*)"`)
	words        = regexp.MustCompile(`[A-Za-z][A-Za-z0-9_]+`)
)

// telling is the error of a group that says most: a bound that is broken
// before a choice that was not taken.
func telling(group []errors.Error) errors.Error {
	best, rank := group[0], 0
	for _, e := range group {
		format, _ := e.Msg()
		r := 1
		switch {
		case strings.Contains(format, "empty disjunction"):
			continue
		case strings.Contains(format, "out of bound"):
			r = 3
		case strings.Contains(format, "mismatched types"):
			r = 2
		}
		if r > rank {
			best, rank = e, r
		}
	}
	return best
}

// notAllowed is how CUE says that a closed struct has no such field.
const notAllowed = "field not allowed"

func find(group []errors.Error, format string) errors.Error {
	for _, e := range group {
		if f, _ := e.Msg(); f == format {
			return e
		}
	}
	return nil
}

// disjuncts reads the choices from the errors of a disjunction: each says
// that the given value conflicts with one of them.
func disjuncts(group []errors.Error) (choices []string, got string) {
	empty := false
	count := map[string]int{}
	var pairs [][2]string
	for _, e := range group {
		format, args := e.Msg()
		if strings.Contains(format, "errors in empty disjunction") {
			empty = true
		} else if strings.HasPrefix(format, "conflicting values") && len(args) >= 2 {
			pair := [2]string{fmt.Sprint(args[0]), fmt.Sprint(args[1])}
			pairs = append(pairs, pair)
			count[pair[0]]++
			count[pair[1]]++
		}
	}
	if !empty || len(pairs) < 2 {
		return nil, ""
	}
	for v, n := range count {
		if n == len(pairs) {
			got = v
		}
	}
	for _, p := range pairs {
		for _, v := range p {
			if v != got && !slices.Contains(choices, v) {
				choices = append(choices, v)
			}
		}
	}
	return choices, got
}

// choice suggests one of the quoted words of a sentence for what was given.
func choice(given, sentence string) string {
	var known []string
	for _, m := range quoted.FindAllStringSubmatch(sentence, -1) {
		known = append(known, m[1])
	}
	if len(known) == 0 { // a list of names without quotes
		if _, list, ok := strings.Cut(sentence, ", from "); ok {
			known = words.FindAllString(list, -1)
		}
	}
	for _, m := range quoted.FindAllStringSubmatch(given, -1) {
		if slices.Contains(known, m[1]) {
			continue
		}
		if near := diagnostic.DidYouMean(m[1], known); near != "" {
			return fmt.Sprintf("did you mean %q?", near)
		}
	}
	return ""
}

// short is a value as the user would write it, if that is short.
func short(v cue.Value) string {
	if !v.Exists() {
		return ""
	}
	switch v.IncompleteKind() {
	case cue.StructKind:
		return "a struct"
	case cue.BottomKind:
		return ""
	}
	text := fmt.Sprint(v)
	if strings.Contains(text, "\n") || len(text) > 60 {
		return ""
	}
	return text
}

func noun(kind string) string {
	switch kind {
	case "struct":
		return "struct {…}"
	case "list":
		return "list […]"
	case "string":
		return "text"
	case "int":
		return "whole number"
	case "(int|float)", "float", "number":
		return "number"
	case "bool":
		return "true or false"
	case "null":
		return "null"
	}
	return kind
}

func bound(b string) string {
	for _, p := range [][2]string{{">=", "at least "}, {"<=", "at most "}, {"!=", "other than "}, {">", "above "}, {"<", "below "}} {
		if rest, ok := strings.CutPrefix(b, p[0]); ok {
			return p[1] + rest
		}
	}
	return b
}

// lookup finds the schema of a path: fields, then what pattern constraints say
// of names that are the user's own.
func lookup(v cue.Value, path []string) cue.Value {
	for _, p := range path {
		if !v.Exists() {
			return v
		}
		name := label(p)
		next := v.LookupPath(cue.MakePath(cue.Str(name).Optional()))
		if !next.Exists() {
			next = v.LookupPath(cue.MakePath(cue.AnyString))
		}
		v = next
	}
	return v
}

func fieldNames(v cue.Value) []string {
	if !v.Exists() { // of which CUE cannot list fields
		return nil
	}
	it, err := v.Fields(cue.Optional(true))
	if err != nil {
		return nil
	}
	var names []string
	for it.Next() {
		names = append(names, it.Selector().Unquoted())
	}
	return names
}

// doc is the first sentence of the comment of a field of the schema.
func doc(v cue.Value) string {
	var text string
	if groups := v.Doc(); len(groups) > 0 {
		text = strings.Join(strings.Fields(groups[0].Text()), " ")
	}
	first, _, _ := strings.Cut(text, ". ")
	return strings.TrimSuffix(first, ".")
}

// names are what the file itself defines.
func (d *document) names() []string {
	var names []string
	for _, decl := range d.syntax.Decls {
		if f, ok := decl.(*ast.Field); ok {
			if name, _, err := ast.LabelName(f.Label); err == nil {
				names = append(names, name)
			}
		}
	}
	return names
}

// definitions are what the schema defines.
func (d *document) definitions() []string {
	var names []string
	if it, err := d.schemas.Fields(cue.Definitions(true)); err == nil {
		for it.Next() {
			if it.Selector().IsDefinition() {
				names = append(names, it.Selector().String())
			}
		}
	}
	return names
}

// tags are the names of the @tag attributes of the file.
func (d *document) tags() []string {
	f, _ := parser.ParseFile(d.file, d.text[d.file])
	if f == nil {
		return nil
	}
	var tags []string
	ast.Walk(f, func(n ast.Node) bool {
		if a, ok := n.(*ast.Attribute); ok {
			if m := tagAttribute.FindStringSubmatch(a.Text); m != nil && !slices.Contains(tags, m[1]) {
				tags = append(tags, m[1])
			}
		}
		return true
	}, nil)
	return tags
}
