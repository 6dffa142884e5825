package experiment

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
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
	all := d.causes(errors.Errors(err), s)
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
	left := order[min(len(order), mostListed):]
	for _, key := range order[:len(order)-len(left)] {
		d.complainAt(groups[key], s)
	}
	if len(left) > 0 {
		d.report(diagnostic.Diagnostic{
			Message: fmt.Sprintf("%d more mistakes are not listed", len(left)), Hint: "correct those that are, then the rest is",
			At: diagnostic.Position{File: d.display(d.file)},
		})
	}
}

// mostListed bounds the mistakes of one value: finding the place of each takes time that
// grows with the file.
const mostListed = 1000

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

// A complaint is what CUE reports at one path, from which one sentence is made.
type complaint struct {
	*document
	in      scope
	group   []errors.Error // of the user's values alone where own
	err     errors.Error   // of the group that says most, see readGiven
	path    []string       // of the file
	below   []string       // of the experiment
	subject string         // below, in messages

	given string    // what the user wrote there, if that is short
	is    string    // "subject is given", or the subject alone
	value cue.Value // the same, however long
	own   bool      // the user's values disagree with each other

	out diagnostic.Diagnostic
	pos token.Pos
}

// A cause is one thing that can be wrong.
type cause struct {
	name string
	find func(*complaint) (is bool, say func())
}

// when is a cause that matches; say completes the diagnostic. A nil one reports nothing.
func when(name string, matches func(*complaint) bool, say func(*complaint)) cause {
	return cause{name, func(c *complaint) (bool, func()) {
		if say == nil {
			return matches(c), nil
		}
		return matches(c), func() { say(c) }
	}}
}

// whenFound is a cause of which something is found, which say needs to complete the
// diagnostic.
func whenFound[T any](name string, find func(*complaint) (T, bool), say func(*complaint, T)) cause {
	return cause{name, func(c *complaint) (bool, func()) {
		found, is := find(c)
		return is, func() { say(c, found) }
	}}
}

// The first cause that matches is the one that is reported, and one alone, because CUE
// reports each attempt of a disjunction and all that follows from a mistake.
//
// First whether there is such a field: a field that nothing knows breaks the struct
// that it is in, and one that is missing is not of its type either. These need no
// value.
var causesOfFields = []cause{
	when("unknown field", has(notAllowed), (*complaint).sayUnknownField),
	when("missing and reported", (*complaint).isReportedMissing, nil), // before what follows from it
	whenFound("other variant", (*complaint).otherVariant, (*complaint).sayOtherVariant),
	when("missing", has(missingField), (*complaint).sayMissing),
}

// Then what is wrong with the value.
//   - What a preset contradicts is sound by itself, so nothing else is said of it.
//   - Two values that the user gives agree with each other first, and with the schema
//     then.
//   - A sentence of the schema is written for the user, and CUE's own words are not.
//   - The errors of a choice contain a wrong type or a second value for each
//     alternative, so the choice comes before these.
//   - A wrong type is reported in the words for two values and some more, so it comes
//     before two values.
//   - What is matched by parts of CUE's text comes after what is matched by its
//     format: values of the user are in the text.
//   - The last cause matches always.
var causesOfValues = []cause{
	when("contradicts a preset", (*complaint).isContradicted, (*complaint).sayContradicted),
	whenFound("given twice", (*complaint).twice, (*complaint).sayTwice),
	whenFound("within a struct", (*complaint).withinStruct, (*complaint).sayWithinStruct),
	whenFound("axis of structs", (*complaint).nestedAxis, (*complaint).sayNestedAxis),
	when("sentence of the schema", (*complaint).hasSentence, (*complaint).saySentence),
	when("not among the choices", (*complaint).hasChoices, (*complaint).sayChoices),
	when("refused by CUE", (*complaint).isOfFile, (*complaint).sayOfFile),
	when("two types", both(mismatched, isOwn), (*complaint).sayTwoTypes),
	when("wrong type", mismatched, (*complaint).sayWrongType),
	when("cannot vary", both(conflicting, (*complaint).isVaried), (*complaint).sayCannotVary),
	when("cannot be set", both(conflicting, (*complaint).isSet), (*complaint).sayCannotBeSet),
	when("two values", conflicting, (*complaint).sayGivenTwice),
	when("out of bounds", outOfBounds, (*complaint).sayBound),
	when("unknown name", unresolved, (*complaint).sayUnknownName),
	when("two defaults", both(indefinite, (*complaint).hasTwoDefaults), (*complaint).sayTwoDefaults),
	when("no definite value", indefinite, (*complaint).sayIndefinite),
	when("circle", circular, (*complaint).sayCircle),
	when("unused import", texted(notUsed), (*complaint).sayUnusedImport),
	when("unused name", texted(unreferenced), (*complaint).sayUnusedName),
	when("anything else", func(*complaint) bool { return true }, (*complaint).sayAsItIs),
}

func (d *document) complainAt(group []errors.Error, s scope) {
	path := s.rebase(group[0].Path())
	below := path[min(len(s.prefix), len(path)):]
	subject := strings.Join(below, ".")
	if subject == "" {
		subject = strings.Join(path, ".")
	}
	c := &complaint{
		document: d, in: s, group: group, path: path, below: below, subject: subject,
		out: diagnostic.Diagnostic{Path: strings.Join(path, "."), Cells: s.cells, Of: s.of},
	}
	if c.sayFirst(causesOfFields) {
		return
	}
	c.readGiven()
	c.sayFirst(causesOfValues)
}

// sayFirst reports the first cause that matches.
func (c *complaint) sayFirst(causes []cause) bool {
	for _, why := range causes {
		is, say := why.find(c)
		if !is {
			continue
		}
		if say != nil {
			say()
			c.report(c.mark(c.out, c.pos))
		}
		return true
	}
	return false
}

// readGiven finds what the user wrote at the path, alone.
func (c *complaint) readGiven() {
	if o := covering(c.in.overlay, c.below); o != nil {
		c.value = o.value.LookupPath(selectors(c.below[len(o.path):]))
		c.given, c.pos = short(c.value), position(c.value)
		if !c.inUserFile(c.pos) {
			c.pos = o.place(c.document)
		}
	} else if o := c.settingBelow(c.path); o != nil {
		c.pos, c.value = o.label, o.value
		for i := len(o.path); i >= len(c.path); i-- {
			c.value = c.nothing().FillPath(selectors(o.path[i-1:i]), c.value)
		}
	} else if o := c.setting(c.path); o != nil {
		c.value = o.value.LookupPath(selectors(c.path[1+len(o.path):]))
		c.given, c.pos = short(c.value), c.valueAt(c.path)
	} else {
		v := c.withoutSchema().LookupPath(rooted(c.path))
		c.value = v
		c.given, c.pos = short(v), c.valueAt(c.path)
		if err := v.Err(); v.Exists() && err != nil && v.IncompleteKind() == cue.BottomKind {
			if mine := c.relevant(v, c.path); len(mine) > 0 {
				c.group, c.own = mine, true
			}
		}
	}
	if c.given == "" {
		c.given = c.literal(c.path, c.pos)
	}
	if c.given == "" && len(c.path) == 1 {
		c.given = c.tagGives(label(c.path[0]))
	}
	c.is = c.subject
	if c.given != "" {
		c.is = fmt.Sprintf("%s is %s", c.subject, c.given)
	}
	c.err = telling(c.group)
}

// known is the schema of the value.
func (c *complaint) known() cue.Value {
	return lookup(c.in.schema, c.below[min(c.in.skip, len(c.below)):])
}

func has(format string) func(*complaint) bool {
	return func(c *complaint) bool { return find(c.group, format) != nil }
}

func both(a, b func(*complaint) bool) func(*complaint) bool {
	return func(c *complaint) bool { return a(c) && b(c) }
}

func texted(pattern *regexp.Regexp) func(*complaint) bool {
	return func(c *complaint) bool { return pattern.MatchString(c.err.Error()) }
}

func isOwn(c *complaint) bool { return c.own }

func (c *complaint) format() string {
	format, _ := c.err.Msg()
	return format
}

func (c *complaint) args() []any {
	_, args := c.err.Msg()
	return args
}

func mismatched(c *complaint) bool {
	return strings.HasPrefix(c.format(), "conflicting values %s and %s (mismatched types")
}

func conflicting(c *complaint) bool { return strings.HasPrefix(c.format(), "conflicting values") }

func outOfBounds(c *complaint) bool {
	return strings.HasPrefix(c.format(), "invalid value %") && strings.Contains(c.format(), "out of bound")
}

func unresolved(c *complaint) bool {
	return strings.HasPrefix(c.format(), "reference %q not found") || strings.HasPrefix(c.format(), "undefined field")
}

func indefinite(c *complaint) bool {
	text := c.err.Error()
	return strings.Contains(text, "incomplete") || strings.Contains(text, "non-concrete") || strings.Contains(text, "unresolved disjunction")
}

func circular(c *complaint) bool { return strings.HasPrefix(c.format(), inCircle) }

// sayCircle is of a circle whose fields the syntax does not tell, see circles.
func (c *complaint) sayCircle() {
	c.out.Message = c.subject + " refers to itself by way of other fields, so it has no value"
	c.out.Hint = "give one of them a value of its own"
	c.atError()
}

func (c *complaint) sayUnknownField() {
	e := find(c.group, notAllowed)
	// Of a struct that the schema does not have, CUE reports the fields too.
	if n := unknownAt(c.in, c.below); n < len(c.below) {
		c.path = c.path[:len(c.path)-len(c.below)+n]
		c.below = c.below[:n]
		c.out.Path = strings.Join(c.path, ".")
		e = nil
	}
	name := label(c.path[len(c.path)-1])
	c.pos = c.labelAt(c.path)
	if e != nil {
		for _, p := range errors.Positions(e) {
			if c.inUserFile(p) {
				c.pos = p
				break
			}
		}
	}
	if o := covering(c.in.overlay, c.below); o != nil {
		c.pos = o.label
		if f := c.fields(append(slices.Clone(o.from), c.below[len(o.path):]...)); len(f) > 0 {
			c.pos = f[0].Label.Pos()
		}
	}
	parent := c.below[:len(c.below)-1]
	switch {
	case c.in.unknown != "":
		c.out.Message = fmt.Sprintf("%s %q", c.in.unknown, name)
	case len(parent) > 0:
		c.out.Message = fmt.Sprintf("%s has no field %q", strings.Join(parent, "."), name)
	default:
		c.out.Message = fmt.Sprintf("an experiment has no field %q", name)
	}
	siblings := fieldNames(lookup(c.in.schema, c.below[min(c.in.skip, len(c.below)-1):len(c.below)-1]))
	c.out.Hint = cmp.Or(renamed(parent, name), dotted(c.in, c.below), c.setPerExperiment(c.path, name),
		near(name, siblings), c.elsewhere(), diagnostic.Suggest(name, "it knows", siblings))
}

func (c *complaint) missing() string { return c.subject + " is missing" }

func (c *complaint) isReportedMissing() bool {
	return find(c.group, missingField) == nil && slices.ContainsFunc(c.found, func(f diagnostic.Diagnostic) bool {
		return f.Path == c.out.Path && f.Message == c.missing() && sameCell(f.Cells, c.out.Cells)
	})
}

// sameCell reports whether two mistakes are in one cell; without cells one is in all.
func sameCell(a, b []string) bool {
	return len(a) == 0 || len(b) == 0 || slices.ContainsFunc(a, func(c string) bool { return slices.Contains(b, c) })
}

func (c *complaint) sayMissing() {
	c.out.Message = c.missing()
	if text := doc(c.known()); text != "" {
		c.out.Hint = c.path[len(c.path)-1] + ": " + text
	}
	c.pos = c.labelAt(c.path[:len(c.path)-1])
	if o := covering(c.in.overlay, c.below[:len(c.below)-1]); o != nil { // a case gives all of it
		c.pos = o.place(c.document)
	}
}

func (c *complaint) isContradicted() bool {
	_, _, ok := c.contradicted(c.path, c.in)
	return ok
}

func (c *complaint) sayContradicted() {
	preset, p, _ := c.contradicted(c.path, c.in)
	if n := len(p.path); n < len(c.below) && c.below[0] != "cases" || n+2 < len(c.below) { // in a list
		c.path = c.path[:len(c.path)-1]
		if c.pos = c.valueAt(c.path); covering(c.in.overlay, c.below) != nil {
			c.pos = covering(c.in.overlay, c.below).place(c.document)
		}
		c.out.Path = strings.Join(c.path, ".")
	}
	if !c.inUserFile(c.pos) {
		c.pos = c.labelAt(c.path)
	}
	c.out.Message = fmt.Sprintf("preset %q sets %s to %s", preset, strings.Join(p.path, "."), inCUE(p.value))
	c.out.Hint = "leave one of them out"
}

// sentence is what the schema says of the value; "" if it says nothing.
func (c *complaint) sentence() string {
	for _, e := range c.group {
		if format, args := e.Msg(); format == "%s" && len(args) == 1 {
			return fmt.Sprint(args[0])
		}
	}
	return ""
}

func (c *complaint) hasSentence() bool { return !c.own && c.sentence() != "" }

func (c *complaint) saySentence() {
	text := c.sentence()
	if rest, ok := strings.CutPrefix(text, "must be "); ok && c.given != "" {
		text = "it must be " + rest
	}
	if c.given != "" {
		c.out.Message = c.is + ": " + text
	} else {
		c.out.Message = c.subject + " " + text
	}
	number := ""
	// A number may be one of several things: a fraction, or the word "test".
	if known := kindOf(c.known()); known&^cue.NumberKind == 0 || known&cue.NumberKind != 0 && kindOf(c.value)&^cue.NumberKind == 0 {
		number = cmp.Or(beyond(c.given, c.known()), asNumber(c.given, text, kindOf(c.value)))
	}
	if key := c.tagAt(); number != "" && key != "" {
		number = fmt.Sprintf("a tag gives a text: write @tag(%s,type=int) for a whole number, or type=number", key)
	} else if number != "" && kindOf(c.value) == cue.StringKind {
		c.out.Message = fmt.Sprintf("%s is the text %s: %s", c.subject, c.given, text)
	}
	c.out.Hint = cmp.Or(renamed(c.below, label(c.given)), otherWord(c.below, c.given), choice(c.given, text), c.inList(), number, c.usual())
	c.pos = c.elementIn(c.pos, c.in, c.path)
}

func (c *complaint) hasChoices() bool {
	choices, _ := disjuncts(c.group)
	return len(choices) > 0
}

func (c *complaint) sayChoices() {
	choices, got := disjuncts(c.group)
	last := len(choices) - 1
	list := choices[last]
	if last > 0 {
		list = strings.Join(choices[:last], ", ") + " or " + list
	}
	c.out.Message = fmt.Sprintf("%s is %s: it must be %s", c.subject, got, list)
	c.out.Hint = cmp.Or(renamed(c.below, label(got)), otherWord(c.below, got), choice(got, strings.Join(choices, " ")))
}

func (c *complaint) sayTwoTypes() {
	args := c.args()
	c.out.Message = fmt.Sprintf("%s is given twice: as a %s and as a %s", c.subject, noun(fmt.Sprint(args[2])), noun(fmt.Sprint(args[3])))
	c.out.Hint = c.other(c.err, c.pos)
}

func (c *complaint) sayWrongType() {
	args := c.args()
	have, want := fmt.Sprint(args[2]), fmt.Sprint(args[3])
	if kindOf(c.value).String() == want {
		have, want = want, have
	}
	c.out.Message = fmt.Sprintf("%s: it must be a %s, not a %s", c.is, noun(want), noun(have))
	if want == "struct" && c.given != "" {
		c.out.Hint = c.asStruct()
	}
}

func (c *complaint) isVaried() bool { return !c.own && covering(c.in.overlay, c.below) != nil }

func (c *complaint) sayCannotVary() {
	c.out.Message = fmt.Sprintf("%s cannot vary: its value comes from elsewhere and stays %v", c.subject, c.args()[0])
	c.out.Hint = "give the base's value as a plain field of the experiment"
}

func (c *complaint) isSet() bool { return c.setting(c.path) != nil }

func (c *complaint) sayCannotBeSet() {
	c.out.Message = fmt.Sprintf("%s cannot be set: its value comes from elsewhere and stays %v", c.subject, c.args()[0])
	c.out.Hint = "give it as a plain field of the experiment"
}

func (c *complaint) sayGivenTwice() {
	args := c.args()
	c.out.Message = fmt.Sprintf("%s is given twice: as %v and as %v", c.subject, args[0], args[1])
	c.out.Hint = c.other(c.err, c.pos)
}

func (c *complaint) sayBound() {
	args := c.args()
	c.out.Message = fmt.Sprintf("%s: it must be %v", c.is, bound(fmt.Sprint(args[len(args)-1])))
}

func (c *complaint) sayUnknownName() {
	c.atError()
	name := strings.Trim(fmt.Sprint(c.args()[0]), `"`)
	if strings.HasPrefix(name, "#") && len(c.marker.Selectors()) == 0 {
		c.out.Message = fmt.Sprintf("unknown name %q", name)
		c.out.Hint = fmt.Sprintf("import %q, and write schema.%s", schema.ImportPath, name)
		return
	}
	c.out.Message, c.out.Hint = c.unknownName(name, c.pos)
}

// atError is the place that CUE names, if it is in a file of the user.
func (c *complaint) atError() {
	if at := c.err.Position(); at.IsValid() && c.inUserFile(at) {
		c.pos = at
	}
}

func (c *complaint) hasTwoDefaults() bool {
	_, _, ok := c.twoDefaults(c.path, c.below, c.in)
	return ok
}

func (c *complaint) sayTwoDefaults() {
	own, theirs, _ := c.twoDefaults(c.path, c.below, c.in)
	c.out.Message = fmt.Sprintf("%s has two defaults, %s here and %s in the schema, so none of them counts", c.subject, own, theirs)
	c.out.Hint = fmt.Sprintf("write one value, %s: %s; the command line may give another with --set %s=…", c.path[len(c.path)-1], own, strings.Join(c.below, "."))
	if e, ok := c.referenceAt(c.path); ok {
		c.out.Hint += fmt.Sprintf("; %s + 0 is one number", e)
	}
}

func (c *complaint) sayIndefinite() {
	c.out.Message = fmt.Sprintf("%s has no definite value", c.subject)
	if c.given != "" && c.given != "_" {
		c.out.Message = fmt.Sprintf("%s is %s, not one value", c.subject, c.given)
	}
	c.out.Hint = cmp.Or(c.untagged(c.path), "give it a value")
}

func (c *complaint) sayUnusedImport() {
	c.out.Message = notUsed.FindStringSubmatch(c.err.Error())[1] + " is imported and not used"
	if strings.Contains(c.out.Message, schema.ImportPath) {
		c.out.Hint = "write my_ablation: schema.#Experiment & {…}"
	}
	c.pos = c.err.Position()
}

func (c *complaint) sayUnusedName() {
	name := unreferenced.FindStringSubmatch(c.err.Error())[1]
	c.out.Message = fmt.Sprintf("%s = … names a value that nothing uses", name)
	c.out.Hint = fmt.Sprintf("a field takes its value after a colon, %s: …", name)
	c.pos = c.err.Position()
	if _, line := c.place(c.pos); strings.HasPrefix(strings.TrimSpace(line), "let ") {
		c.out.Message, c.out.Hint = fmt.Sprintf("let %s names a value that nothing uses", name), "refer to it, or leave it out"
	}
}

func (c *complaint) sayAsItIs() {
	c.out.Message = fmt.Sprintf(c.format(), c.args()...)
	if internal.MatchString(c.out.Message) {
		c.out.Message = "this is not what the schema allows"
		if rule := sentenceOf(c.known()); rule != "" {
			c.out.Message = "it " + rule
		}
	}
	if c.subject != "" {
		c.out.Message = c.subject + ": " + c.out.Message
	}
	c.atError()
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
	given, has := d.withoutSchema().LookupPath(rooted(path)).Default()
	known, should := lookup(s.schema, below[min(s.skip, len(below)):]).Default()
	if !has || !should {
		return "", "", false
	}
	own, theirs = inCUE(given), inCUE(known)
	return own, theirs, own != theirs && own != "" && theirs != ""
}

// referenceAt is what the user's value at a path refers to, if it is a number.
func (d *document) referenceAt(path []string) (string, bool) {
	if d.withoutSchema().LookupPath(rooted(path)).IncompleteKind()&^cue.NumberKind != 0 {
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
			if len(x.Value) > 60 {
				return ""
			}
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
	given := d.withoutSchema().LookupPath(rooted(path))
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
		if at := position(list.Value()); known && !fits && d.inUserFile(at) {
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
		if d.inUserFile(p) && p.Offset() != first.Offset() {
			return "the other is at " + d.at(p).String()
		}
	}
	return ""
}

// reportLoad reports what kept a file from being read: syntax, imports, tags.
func (d *document) reportLoad(err error) {
	unread := map[string]bool{} // files with an error of syntax: what is behind it mostly follows
	for _, e := range errors.Errors(err) {
		pos := e.Position()
		for _, p := range errors.Positions(e) {
			if !pos.IsValid() || !d.inUserFile(pos) {
				pos = p
			}
		}
		text := e.Error()
		dg := diagnostic.Diagnostic{At: diagnostic.Position{File: d.display(d.file)}}
		message, hint, known := ofFile(text)
		switch {
		case known:
			dg.Message, dg.Hint = message, hint
		case importFailed.MatchString(text):
			at, line := d.place(pos)
			imported := ""
			if line != "" {
				imported = tokenAt(string([]rune(line)[at.Column-1:]))
			}
			if path := label(imported); path != "" && d.reportPackage(path, pos) {
				continue
			}
			dg.Message = "cannot import " + imported
			dg.Hint = "packages of the project and the schema are found: " + schema.ImportPath
			if path := strings.Trim(imported, `"`); path != "" && path != schema.ImportPath {
				packages := d.packages()
				if near := diagnostic.DidYouMean(path, append([]string{schema.ImportPath}, packages...)); near != "" {
					dg.Hint = fmt.Sprintf("did you mean %q?", near)
				} else if i := slices.IndexFunc(packages, func(p string) bool {
					return p[strings.LastIndex(p, "/")+1:] == strings.TrimSuffix(filepath.Base(path), ".cue") || strings.HasPrefix(path, p+"/") || strings.HasSuffix(p, strings.TrimLeft(path, "./"))
				}); i >= 0 {
					dg.Hint = fmt.Sprintf("did you mean %q?", packages[i])
				} else if len(packages) > 0 {
					dg.Hint += ", " + strings.Join(packages, ", ")
				} else if _, err := os.Stat(filepath.Join(d.root, "cue.mod")); err != nil {
					dg.Hint += "; a project with packages has a cue.mod: runner init --schema makes one"
				}
			}
		case tagValue.MatchString(text), tagAlone.MatchString(text):
			dg, pos = d.tagMistake(dg, text)
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
		case strings.Contains(text, "files excluded in non-cmd mode"):
			dg.Message = "CUE passes over files whose name ends in _tool.cue"
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
			if _, line := d.place(pos); unread[pos.Filename()] {
				if message, _ := habit(line); message == "" {
					continue
				}
			}
			unread[pos.Filename()] = pos.IsValid()
			dg.Message = fmt.Sprintf(format, args...)
			if dg.Message == "" || dg.Message == "load" { // which is all that CUE says of its own
				dg.Message = text
			}
		}
		if pos.IsValid() {
			dg = d.mark(dg, pos)
			if ofParser.MatchString(text) {
				if message, hint := habit(dg.Source); message != "" {
					dg.Message, dg.Hint = message, hint
				}
			}
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
	noPackage    = regexp.MustCompile(`builtin package "([^"]*)" undefined`)
	tagValue     = regexp.MustCompile(`invalid (\w+)(?: "[^"]*")? for injection tag "([^"]*)"`)
	tagAlone     = regexp.MustCompile(`tag "([^"]*)" not used in any file`)
	ofParser     = regexp.MustCompile(`missing ','|expected |illegal character`)
	noTag        = regexp.MustCompile(`no tag for "([^"]*)"`)
	tagAttribute = regexp.MustCompile(`^@tag\(\s*([A-Za-z0-9_]+)`)
	digits       = regexp.MustCompile(`^[0-9]*`)
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

// How CUE says that a closed struct has no such field, that a field is missing, and that
// it refers to itself.
const (
	inCircle     = "cycle with field"
	notAllowed   = "field not allowed"
	missingField = "field is required but not present"
)

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
		// Another number is another value: "0m" is not nearly "90m".
		if near := diagnostic.DidYouMean(m[1], known); near != "" && digits.FindString(near) == digits.FindString(m[1]) {
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
	for _, p := range [][2]string{{"=~", "a text that matches "}, {"!~", "a text that does not match "}, {">=", "at least "}, {"<=", "at most "}, {"!=", "other than "}, {">", "above "}, {"<", "below "}} {
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
		if _, err := strconv.Atoi(name); err == nil && !next.Exists() && v.IncompleteKind()&cue.ListKind != 0 {
			if all := alternatives(v); len(all) > 0 {
				next = all[0]
			}
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
	var tags []string
	d.tagAttributes(func(key string, _ *ast.Attribute) {
		if !slices.Contains(tags, key) {
			tags = append(tags, key)
		}
	})
	return tags
}

// tagAttributes calls do for the @tag attributes of the file, also of one that cannot
// be built.
func (d *document) tagAttributes(do func(key string, a *ast.Attribute)) {
	f, _ := parser.ParseFile(d.file, d.text[d.file])
	if f == nil {
		return
	}
	ast.Walk(f, func(n ast.Node) bool {
		if a, ok := n.(*ast.Attribute); ok {
			if m := tagAttribute.FindStringSubmatch(a.Text); m != nil {
				do(m[1], a)
			}
		}
		return true
	}, nil)
}
