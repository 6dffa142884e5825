package experiment

import (
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/errors"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/parser"
	"cuelang.org/go/cue/token"

	"github.com/loralab/loralab/runner/diagnostic"
)

// What the command line sets: --set optim.lr.adapter=1e-3 takes the place of
// what a file gives there, in each of its experiments, and is checked like it.

// commandLine is the file that mistakes in settings are in: one line for each
// option, as it was written.
const (
	commandLine = diagnostic.CommandLine
	setOption   = "--set "
)

// settings reads Env.Set. What cannot be read is reported; ok says that
// nothing was.
func (l *loader) settings(texts []string) (list []*override, ok bool) {
	ok = true
	for _, text := range texts {
		l.lines[commandLine] = append(l.lines[commandLine], setOption+text)
	}
	for i, text := range texts {
		path, value, found := strings.Cut(text, "=")
		above := strings.Repeat("\n", i)
		file := token.NewFile(commandLine, -1, len(above)+len(setOption)+len(text))
		file.SetLinesForContent([]byte(above + setOption + text))
		place := func(column int) token.Pos { return file.Pos(len(above)+column, token.NoRelPos) }
		atValue := len(setOption) + len(path) + len("=")
		fail := func(column int, message, hint string) {
			ok = false
			l.report(l.mark(diagnostic.Diagnostic{Message: message, Hint: hint}, place(column)))
		}
		s := &override{label: place(len(setOption)), at: place(atValue)}
		parsed := cue.ParsePath(path)
		switch {
		case !found || value == "":
			fail(len(setOption), fmt.Sprintf("%q sets no value", text), "write --set PATH=VALUE, for instance --set optim.lr.adapter=1e-3")
			continue
		case !isFieldPath(parsed):
			fail(len(setOption), fmt.Sprintf("%q is no path of an experiment", path), "write the names of the fields with dots, optim.lr.head; a list is set as a whole")
			continue
		}
		for _, sel := range parsed.Selectors() {
			s.path = append(s.path, sel.String())
		}
		if j := slices.IndexFunc(list, func(o *override) bool { return related(o.path, s.path) }); j >= 0 {
			fail(len(setOption), fmt.Sprintf("%s is set twice", path), "the other is at "+l.at(list[j].label).String())
			continue
		}
		var err error
		if s.value, err = l.settingValue(above+strings.Repeat(" ", atValue), value); err != nil {
			column := atValue
			if pos := errors.Positions(err); len(pos) > 0 && pos[0].Filename() == commandLine {
				column = min(max(pos[0].Column()-1, atValue), len(setOption)+len(text)-1)
			}
			fail(column, fmt.Sprintf("%s cannot be read: %s", value, firstMessage(err)), "it has to be a value as in a file, or a word")
			continue
		}
		// A default is the value that is meant; the schema has one, too.
		s.value, _ = s.value.Default()
		if err := s.value.Validate(cue.Concrete(true)); err != nil {
			fail(atValue, fmt.Sprintf("%s is not one value", value), "a setting takes the place of what the file gives, so it is a number, a text, a list or a struct")
			continue
		}
		list = append(list, s)
	}
	return list, ok
}

// isFieldPath reports whether a path leads from an experiment to a field.
func isFieldPath(path cue.Path) bool {
	s := path.Selectors()
	return path.Err() == nil && len(s) > 0 && !slices.ContainsFunc(s, func(s cue.Selector) bool { return s.LabelType() != cue.StringLabel })
}

// settingValue reads a value as CUE. A bare word is a text, so that names need
// no quotes within the quotes of a shell.
func (l *loader) settingValue(before, text string) (cue.Value, error) {
	at := cue.Filename(commandLine)
	expr, err := parser.ParseExpr(commandLine, before+text)
	switch {
	case err != nil && strings.ContainsAny(text[:1], `[{("'`):
		return cue.Value{}, err
	case err != nil || refers(expr):
		return l.cue.CompileString(before+literal.String.Quote(text), at), nil
	}
	if lit := misreadIn(expr); lit != nil {
		return cue.Value{}, errors.Newf(lit.Pos(), "%s is no number that can be computed with", lit.Value)
	}
	v := l.cue.CompileString(before+text, at)
	return v, v.Err()
}

// refers reports whether an expression has names in it that are no labels.
func refers(e ast.Expr) bool {
	found := false
	ast.Walk(e, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.Field:
			found = found || refers(x.Value)
			return false
		case *ast.Ident:
			found = true
		}
		return !found
	}, nil)
	return found
}

func firstMessage(err error) string {
	format, args := errors.Errors(err)[0].Msg()
	if format == "" { // not an error of CUE
		return err.Error()
	}
	return fmt.Sprintf(format, args...)
}

// applySettings is the document with the settings in place of what the file gives
// to an experiment; nil, reported, if they do not fit in.
func (d *document) applySettings(name string) *document {
	if len(d.set) == 0 {
		return d
	}
	var full [][]string
	var fill []*override
	for _, s := range d.set {
		path := append([]string{cue.Str(name).String()}, s.path...)
		full = append(full, path)
		fill = append(fill, &override{path: path, value: s.value})
	}
	open := d.edited(d.blankFields(full, nil))
	if open == nil {
		d.report(d.mark(diagnostic.Diagnostic{
			Path: name, Message: fmt.Sprintf("%q cannot be read without the values that settings take the place of", name),
			Hint: "give them as plain fields of the experiment",
		}, d.set[0].label))
		return nil
	}
	stuck := false
	for i, s := range d.set {
		if v, stays := open.stays(full[i]); stays {
			stuck = true
			d.report(d.mark(d.stuckAt(s.path, v, "be set", nil), s.label))
		}
	}
	if stuck {
		return nil
	}
	return open.withFill(fill)
}
