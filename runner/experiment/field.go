package experiment

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/cuecontext"
	"cuelang.org/go/cue/format"
	"cuelang.org/go/cue/load"
	"cuelang.org/go/cue/token"

	"github.com/loralab/loralab/runner/diagnostic"
)

// Field is what the schema, or the schema of a variant, says of one field.
type Field struct {
	Path string `json:"path"` // "optim.lr.adapter"; "adapter.params.rank"
	// By is who defines it: "schema", or "variant lora".
	By string `json:"by"`
	// Doc is the whole comment above it.
	Doc string `json:"doc,omitempty"`
	// Type is the CUE that bounds it, without default and sentence:
	// "number & >0 & <=1". Empty for a struct with Fields.
	Type string `json:"type,omitempty"`
	// Rule is the sentence that is shown when it is broken: "must be above 0,
	// at most 1".
	Rule string `json:"rule,omitempty"`
	// Default as CUE: "0.001", "\"cosine\"", "[\"query\",\"value\"]"; empty if
	// there is none.
	Default  string `json:"default,omitempty"`
	Required bool   `json:"required,omitempty"`
	// Fields are the names below it, in the order of the schema.
	Fields []string `json:"fields,omitempty"`
	// At is its line in the schema, "schema/optim.cue" or "variant lora".
	At diagnostic.Position `json:"at"`
	// Source is its text in the schema with the comment.
	Source string `json:"source"`
}

// Schema answers what experiments may say: for explain, completion and
// documents. It needs no experiment.
type Schema struct {
	loader  *loader
	pkg     cue.Value
	root    cue.Value // #Experiment
	presets cue.Value // by name
}

// OpenSchema reads the embedded schema. The variants of env, if any, answer
// for adapter.params.
func OpenSchema(ctx context.Context, env Env) (*Schema, error) {
	l := &loader{env: env, resolve: newResolver(ctx, env), cue: cuecontext.New()}
	dir := filepath.Join(string(filepath.Separator), "loralab", "schema")
	files := map[string]load.Source{filepath.Join(filepath.Dir(dir), "cue.mod", "module.cue"): load.FromString("module: \"schema.local\"\nlanguage: version: \"v0.17.0\"\n")}
	if err := embedded(dir, files, func(data []byte) ([]byte, error) { return data, nil }); err != nil {
		return nil, err
	}
	inst := load.Instances([]string{"."}, &load.Config{Dir: dir, ModuleRoot: filepath.Dir(dir), Overlay: files})[0]
	if inst.Err != nil {
		return nil, fmt.Errorf("reading the embedded schema: %w", inst.Err)
	}
	v := l.cue.BuildInstance(inst)
	if err := v.Err(); err != nil {
		return nil, fmt.Errorf("reading the embedded schema: %w", err)
	}
	return &Schema{
		loader: l, pkg: v, root: v.LookupPath(cue.ParsePath("#Experiment")),
		presets: v.LookupPath(cue.MakePath(cue.Hid("_presets", inst.ImportPath))),
	}, nil
}

// Field finds a field by its path below an experiment. Parameters of a variant
// need its name; "" leaves them unknown. A path leads into a list with the number of
// an element or for all of them: data.augment.0.kind, data.augment[].kind. In a case it
// leads to the field that the case replaces. If there is no such field, the error is a
// Diagnostic with the nearest one as its hint.
func (s *Schema) Field(path, variant string) (*Field, error) {
	steps, ok := steps(path)
	if !ok {
		return nil, unknownField{diagnostic.Diagnostic{Path: path, Message: fmt.Sprintf("%q is no path of an experiment", path), Hint: "write the names of the fields with dots, optim.lr.head"}}
	}
	_, below := inCase(steps)
	v, by := s.root, "schema"
	above := steps[:len(steps)-len(below)]
	for i, step := range below {
		if i == 2 && strings.Join(below[:i], ".") == "adapter.params" && variant != "" {
			params, err := s.loader.resolve.params(s.loader.cue, variant)
			if err != nil {
				return nil, fmt.Errorf("asking variant %s for its parameters: %w", variant, err)
			}
			v, by = params, "variant "+variant
		}
		next := lookup(v, []string{step})
		if isElement(step) && v.IncompleteKind()&cue.ListKind != 0 {
			next = v // all elements are alike, and described with the list
		}
		if name := label(step); !next.Exists() {
			next = within(v, name)
		}
		if !next.Exists() {
			return nil, unknownField{s.unknown(path, above, step, v)}
		}
		v = next
		above = steps[:len(above)+1]
	}
	return s.describe(path, by, v), nil
}

// unknown is the mistake of a path whose step leads nowhere from v.
func (s *Schema) unknown(path string, above []string, step string, v cue.Value) diagnostic.Diagnostic {
	name := label(step)
	d := diagnostic.Diagnostic{Path: path, Message: fmt.Sprintf("there is no field %q", path)}
	if len(above) > 0 {
		d.Message = fmt.Sprintf("%s has no field %q", strings.Join(above, "."), name)
	}
	known := slices.Concat(fieldNames(v), namesWithin(v))
	if isElement(step) {
		d.Message = fmt.Sprintf("%s is no list, so it has no element %s", strings.Join(above, "."), name)
		if len(known) > 0 {
			d.Hint = "it knows: " + strings.Join(known, ", ")
		}
		return d
	}
	at := placeOf(name, s.root, cue.Value{})
	// Of a name alone, a parameter that is called so is meant, and not a section that is
	// called nearly so: rank, and not track.
	if at == "" && (len(above) == 0 || diagnostic.DidYouMean(name, known) == "") {
		at = placeOf(name, s.root, s.paramsWith(name))
	}
	meant := []string{at}
	if at == "" {
		meant = placesOf(name, s.root, cue.Value{})
	}
	if at = ""; len(meant) <= 3 { // of a name that is nearly everywhere none is meant
		at = didYouMean(meant)
	}
	sibling := ""
	if len(above) > 0 {
		sibling = near(name, known)
	}
	d.Hint = cmp.Or(renamed(above, name), sibling, s.isValue(name, strings.Join(above, ".")), at, s.isValue(name, ""), diagnostic.Suggest(name, "it knows", known))
	return d
}

// didYouMean asks for one of some paths; "" for none.
func didYouMean(paths []string) string {
	var all []string
	for _, path := range paths {
		if path != "" {
			all = append(all, fmt.Sprintf("%q", strings.ReplaceAll(path, ofElements, "")))
		}
	}
	if len(all) == 0 {
		return ""
	}
	return "did you mean " + orInWords(all) + "?"
}

// isValue is the hint for a word that is no field but a value of one, below a path; "" if
// it is none there.
func (s *Schema) isValue(word, below string) string {
	all := valuePlaces(word, s.root)
	if slices.Contains(s.Presets(), word) && below == "" {
		return fmt.Sprintf("%q is a preset; see: runner explain --preset %s", word, word)
	}
	if v := s.loader.env.Variants; v != nil && slices.Contains(v.Names(), word) {
		all = append(all, "adapter.variant")
	}
	if all = slices.DeleteFunc(all, func(path string) bool { return below != "" && !strings.HasPrefix(path, below) }); len(all) == 0 {
		return ""
	}
	for i := range all {
		all[i] = strings.ReplaceAll(all[i], ofElements, "")
	}
	if len(all) == 1 {
		return fmt.Sprintf("%q is a value of %s; see: runner explain %s", word, all[0], all[0])
	}
	return fmt.Sprintf("%q is a value of %s", word, strings.Join(all, ", "))
}

// paramsWith are the parameters of the first variant that has one of a name.
func (s *Schema) paramsWith(name string) (params cue.Value) {
	if s.loader.env.Variants == nil {
		return params
	}
	param := cmp.Or(strings.TrimPrefix(otherNames[name], "adapter.params."), name)
	for _, variant := range s.loader.env.Variants.Names() {
		if params, err := s.loader.resolve.params(s.loader.cue, variant); err == nil && slices.Contains(fieldNames(params), param) {
			return params
		}
	}
	return params
}

// steps are the elements of a path as CUE has them; an element of a list is a number, or
// "[]" for all.
func steps(path string) (steps []string, ok bool) {
	parsed := cue.ParsePath(inLists.ReplaceAllStringFunc(path, func(index string) string {
		number := strings.Trim(index, "[].")
		return "[" + cmp.Or(number, allElements) + "]"
	}))
	if parsed.Err() != nil {
		return nil, false
	}
	for _, sel := range parsed.Selectors() {
		step := sel.String()
		if sel.LabelType() == cue.IndexLabel {
			if step = strconv.Itoa(sel.Index()); step == allElements {
				step = "[]"
			}
		}
		steps = append(steps, step)
	}
	return steps, len(steps) > 0
}

// allElements is the number that paths have for all elements while they are parsed.
const allElements = "134217728"

func isElement(step string) bool {
	_, err := strconv.Atoi(step)
	return err == nil || step == "[]"
}

// inCase is the name of the case that a path leads into, and the path of the field
// that the case replaces; "" and the path itself if it leads into none.
func inCase(steps []string) (name string, below []string) {
	if len(steps) < 3 || steps[0] != "cases" {
		return "", steps
	}
	return label(steps[1]), steps[2:]
}

var inLists = regexp.MustCompile(`\[[0-9]*\]|\.[0-9]+\b`)

// alternatives are the structs that a value may be or have as elements: those of
// #Group for a list of groups.
func alternatives(v cue.Value) []cue.Value {
	if op, terms := v.Expr(); op == cue.OrOp && len(terms) > 1 {
		var all []cue.Value
		for _, term := range terms {
			all = append(all, alternatives(term)...)
		}
		return all
	}
	switch v.IncompleteKind() {
	case cue.StructKind:
		return []cue.Value{v}
	case cue.ListKind:
		if element := v.LookupPath(cue.MakePath(cue.AnyIndex)); element.Exists() {
			return alternatives(element)
		}
		if element := v.LookupPath(cue.MakePath(cue.Index(0))); element.Exists() {
			return alternatives(element)
		}
	}
	return nil
}

// within is the field of a name in the first alternative that has it.
func within(v cue.Value, name string) cue.Value {
	for _, a := range alternatives(v) {
		if next := a.LookupPath(cue.MakePath(cue.Str(name).Optional())); next.Exists() {
			return next
		}
	}
	return cue.Value{}
}

// namesWithin are the fields of all alternatives of a value that is no struct itself.
func namesWithin(v cue.Value) []string {
	if v.IncompleteKind() == cue.StructKind {
		return nil
	}
	var names []string
	for _, a := range alternatives(v) {
		for _, name := range fieldNames(a) {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// unknownField is a path that leads nowhere, as an error.
type unknownField struct{ diagnostic.Diagnostic }

func (e unknownField) Error() string {
	if e.Hint != "" {
		return e.Message + "; " + e.Hint
	}
	return e.Message
}

// Fields are the paths of all fields that hold a value, in the order of the
// schema; those of a variant's parameters follow adapter.params.
func (s *Schema) Fields(variant string) []string {
	var paths []string
	var walk func(v cue.Value, path string)
	walk = func(v cue.Value, path string) {
		if path == "adapter.params." && variant != "" {
			if params, err := s.loader.resolve.params(s.loader.cue, variant); err == nil {
				v = params
			}
		}
		for _, name := range fieldNames(v) {
			next := lookup(v, []string{cue.Str(name).String()})
			if next.IncompleteKind() == cue.StructKind && (len(fieldNames(next)) > 0 || path+name == "adapter.params") {
				walk(next, path+name+".")
				continue
			}
			paths = append(paths, path+cue.Str(name).String())
		}
	}
	walk(s.root, "")
	return paths
}

func (s *Schema) describe(path, by string, v cue.Value) *Field {
	f := &Field{Path: path, By: by}
	for _, group := range v.Doc() {
		f.Doc = strings.TrimSpace(strings.TrimSpace(group.Text()) + "\n\n" + f.Doc)
	}
	f.Fields = namesWithin(v)
	if v.IncompleteKind() == cue.StructKind {
		f.Fields = fieldNames(v)
	}
	field, ok := fieldOf(v)
	if !ok {
		f.At = schemaPosition(v.Pos())
		return f
	}
	f.At = schemaPosition(field.Label.Pos())
	f.Required = field.Constraint == token.NOT
	if text, err := format.Node(field); err == nil {
		f.Source = string(text)
	}
	var types []string
	for _, e := range disjunction(field.Value) {
		if u, ok := e.(*ast.UnaryExpr); ok && u.Op == token.MUL {
			if text, err := format.Node(u.X); err == nil {
				f.Default = string(text)
			}
			if slices.Contains([]string{"true", "false"}, f.Default) || strings.HasPrefix(f.Default, `"`) {
				types = append(types, f.Default)
			}
			continue
		}
		if text, ok := errorText(e); ok {
			f.Rule = text
			continue
		}
		if text, err := format.Node(e); err == nil {
			types = append(types, sentence.ReplaceAllString(string(text), ""))
		}
	}
	// A default that is one of the type's values says nothing about it.
	if len(types) > 1 && types[0] == f.Default && !strings.HasPrefix(types[1], `"`) {
		types = types[1:]
	}
	if len(f.Fields) == 0 || v.IncompleteKind() != cue.StructKind {
		f.Type = strings.Join(types, " | ")
	}
	return f
}

// sentence is what a bound inside a type says when it is broken.
var sentence = regexp.MustCompile(` \| error\("(\\.|[^"\\])*"\)`)

// fieldOf is the field of the schema that a value is defined by.
func fieldOf(v cue.Value) (*ast.Field, bool) {
	f, ok := v.Source().(*ast.Field)
	return f, ok
}

// sentenceOf is what the schema says when a field is not as it should be; ""
// if it says nothing.
func sentenceOf(v cue.Value) string {
	field, ok := fieldOf(v)
	if !ok {
		return ""
	}
	for _, e := range disjunction(field.Value) {
		if text, ok := errorText(e); ok {
			return text
		}
	}
	return ""
}

// errorText is the text of a call of error().
func errorText(e ast.Expr) (string, bool) {
	call, ok := e.(*ast.CallExpr)
	if !ok || len(call.Args) != 1 {
		return "", false
	}
	name, ok := call.Fun.(*ast.Ident)
	if !ok || name.Name != "error" {
		return "", false
	}
	lit, ok := call.Args[0].(*ast.BasicLit)
	if !ok {
		return "", true
	}
	return label(lit.Value), true
}

// disjunction lists the terms of a | b | c.
func disjunction(e ast.Expr) []ast.Expr {
	switch x := e.(type) {
	case *ast.BinaryExpr:
		if x.Op == token.OR {
			return append(disjunction(x.X), disjunction(x.Y)...)
		}
	case *ast.ParenExpr:
		return disjunction(x.X)
	}
	return []ast.Expr{e}
}

// schemaPosition names a place in the schema, or in that of a variant, which
// are no files that a user could open.
func schemaPosition(pos token.Pos) diagnostic.Position {
	if !pos.IsValid() {
		return diagnostic.Position{}
	}
	at := diagnostic.Position{Line: pos.Line(), Column: pos.Column()}
	if name, ok := strings.CutPrefix(pos.Filename(), "variant:"); ok {
		at.File = "variant " + strings.TrimSuffix(name, "/schema.cue")
	} else {
		at.File = "schema/" + filepath.Base(pos.Filename())
	}
	return at
}

// Top are the names of the fields of an experiment, in the order of the schema.
func (s *Schema) Top() []string { return fieldNames(s.root) }

// Definitions are those of the schema that a type names, "#Blocks".
func (s *Schema) Definitions(kind string) []*Field {
	var found []*Field
	for _, name := range definition.FindAllString(kind, -1) {
		v := s.pkg.LookupPath(cue.ParsePath(name))
		if v.Exists() && !slices.ContainsFunc(found, func(f *Field) bool { return f.Path == name }) {
			found = append(found, s.describe(name, "schema", v))
		}
	}
	return found
}

var definition = regexp.MustCompile(`#[A-Z]\w*`)
