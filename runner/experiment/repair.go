package experiment

import (
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/errors"
)

// An experiment with mistakes, and what remains of it without them.

// errorCount is how many errors were reported, those that were there already included:
// two experiments with one base have its mistakes in common.
func (l *loader) errorCount() int {
	n := l.repeated
	for _, d := range l.found {
		if !d.Warning {
			n++
		}
	}
	return n
}

// mostRepaired is how many fields are taken out to look for further mistakes. Values of
// lists that are taken out take CUE time that grows with their square, and who has so
// many mistakes at once has one that is repeated.
const mostRepaired = 50

// repair is the document without the fields of an experiment that err is
// about, and with something harmless where a field is missing; nil if that
// does not make it valid. CUE may see further mistakes only then: they are
// reported too, unless they are about what was taken out.
func (d *document) repair(name string, err error, s scope) *document {
	paths := map[string]bool{}
	for _, e := range errors.Errors(err) {
		paths[strings.Join(e.Path(), "\x00")] = true
	}
	if len(paths) > mostRepaired {
		return nil
	}
	r := *d
	var gone [][]string
	for round := range 4 {
		var further errors.Error
		for _, e := range errors.Errors(err) {
			path := e.Path()
			if len(path) < 2 || label(path[0]) != name {
				return nil
			}
			if !slices.ContainsFunc(gone, func(g []string) bool { return related(g, path) }) {
				further = errors.Append(further, e)
			}
			if format, _ := e.Msg(); format != missingField {
				gone = append(gone, path)
				r.fill = slices.DeleteFunc(slices.Clone(r.fill), func(o *override) bool { return related(o.path, path) })
				continue
			}
			var value any = ""
			switch path[len(path)-1] {
			case "variant":
				value = "none"
			case "classes":
				value = []string{"", ""}
			case "mean", "std":
				value = []float64{0.5, 0.5, 0.5}
			}
			r.fill = append(r.fill, &override{path: path, value: d.cue.Encode(value)})
		}
		if round > 0 && further != nil {
			d.complain(further, s)
		}
		r.gone = gone
		e := r.edited(d.blankFields(nil, gone))
		if e == nil {
			return nil
		}
		v := e.value.LookupPath(cue.MakePath(cue.Str(name)))
		if !d.isExperiment(v) {
			return nil
		}
		if err = e.validate(name, v); err == nil {
			return e
		}
	}
	return nil
}

// validate is what is wrong with a value of an experiment, as errors whose paths
// begin with its name. CUE names a value that several fields share by the first
// of them.
func (d *document) validate(name string, v cue.Value) error {
	err := v.Validate(cue.Concrete(true), cue.Final())
	if err == nil {
		t, err := treeOf(v)
		if err != nil {
			return nil // reported where it is read
		}
		for _, field := range matrix { // whose values are looked at in their cells
			t = t.without([]string{field})
		}
		t = t.without([]string{"adapter", "params"}) // see checkVariant
		if bad := numberErrors(t, d.schema, []string{quoteLabel(name)}); bad != nil {
			return bad
		}
		return nil
	}
	var all errors.Error
	for _, e := range errors.Errors(err) {
		if path := e.Path(); len(path) > 1 && label(path[0]) != name {
			i := 1
			for i < len(path)-1 && !v.LookupPath(selectors(path[i:len(path)-1])).Exists() {
				i++
			}
			e = &movedError{e, append([]string{quoteLabel(name)}, path[i:]...)}
		}
		all = errors.Append(all, e)
	}
	return all
}

// movedError is an error at another path. It is used as a pointer: package errors
// compares errors with ==, which panics for a struct with a slice.
type movedError struct {
	cueError
	path []string
}

type cueError = errors.Error

func (e *movedError) Path() []string { return e.path }
