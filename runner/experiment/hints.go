package experiment

import (
	"fmt"
	"slices"
	"strings"

	"cuelang.org/go/cue"

	"github.com/loralab/loralab/runner/diagnostic"
)

// Hints that the schema has: where a field is that is given elsewhere, and how a struct is
// written of which only a value is given.

// ofElements follows the path of a list where a field of its elements is meant.
const ofElements = "[]"

// placeOf is the path of the field of an experiment that has a name, or that another
// program calls so: a field of the schema, also of the elements of a list
// (optim.groups[].layerDecay), or a parameter. Of several fields it is the one that is
// higher than the others; of names that mean nothing by themselves, such as kind, it is "".
func placeOf(name string, schema, params cue.Value) string {
	found := placesOf(name, schema, params)
	depth := func(path string) int { return strings.Count(path, ".") }
	one := len(found) == 1 || len(found) > 1 && depth(found[0]) < depth(found[1])
	switch {
	case !one && otherNames[name] != "":
		at := otherNames[name]
		if param, ok := strings.CutPrefix(at, "adapter.params."); ok && !slices.Contains(fieldNames(params), param) {
			return ""
		}
		return at
	case !one:
		return ""
	}
	return found[0]
}

// placesOf are the paths of all fields of a name, the highest first.
func placesOf(name string, schema, params cue.Value) (found []string) {
	look := func(in []string) {
		walkFields(schema, in, func(path string, _ cue.Value) {
			if strings.HasSuffix(path, "."+name) {
				found = append(found, path)
			}
		})
	}
	if look(configSections); len(found) == 0 && otherNames[name] == "" {
		look([]string{searchField})
	}
	if slices.Contains(fieldNames(params), name) {
		found = append(found, "adapter.params."+name)
	}
	slices.SortStableFunc(found, func(a, b string) int { return strings.Count(a, ".") - strings.Count(b, ".") })
	return found
}

// walkFields visits the fields below some of the fields of an experiment, and those of
// elements of lists, whose paths have "[]" after the list.
func walkFields(schema cue.Value, in []string, visit func(path string, v cue.Value)) {
	var walk func(v cue.Value, path string)
	walk = func(v cue.Value, path string) {
		for _, field := range fieldNames(v) {
			at := path + "." + field
			next := lookup(v, []string{field})
			visit(at, next)
			if next.IncompleteKind() == cue.StructKind {
				walk(next, at)
				continue
			}
			for _, of := range alternatives(next) {
				if next.IncompleteKind()&cue.ListKind != 0 {
					walk(of, at+ofElements)
				} else {
					walk(of, at)
				}
			}
		}
	}
	for _, section := range in {
		walk(lookup(schema, []string{section}), section)
	}
}

// valuePlaces are the fields of which a word is one of the values that the schema lists,
// also where they are fields of the elements of a list: "data.augment[].kind" of "invert".
func valuePlaces(word string, schema cue.Value) (paths []string) {
	walkFields(schema, append(slices.Clone(configSections), searchField), func(path string, v cue.Value) {
		if v.IncompleteKind()&cue.StringKind != 0 && slices.Contains(listedWords(v), word) && !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	})
	return paths
}

// listedWords are the texts that a value may be, where the schema lists them.
func listedWords(v cue.Value) (list []string) {
	if op, terms := v.Expr(); op == cue.OrOp && len(terms) > 1 {
		for _, term := range terms {
			list = append(list, listedWords(term)...)
		}
		return list
	}
	if text, err := v.String(); err == nil {
		list = append(list, text)
	}
	return list
}

// near is the hint for a name that is nearly one of those next to it; "" for none.
func near(name string, siblings []string) string {
	if is := diagnostic.DidYouMean(name, siblings); is != "" {
		return fmt.Sprintf("did you mean %q?", is)
	}
	return ""
}

// places are the path that placeOf finds, or in place of a small struct those of its
// fields.
func (d *document) places(name, variant string) []string {
	params, _ := d.resolve.params(d.cue, variant) // without fields where there is no such variant
	at := placeOf(name, d.schema, params)
	if at == "" {
		return nil
	}
	return small(lookup(d.schema, strings.Split(at, ".")), at)
}

// small are the paths of the fields of a struct of few fields; the path itself of anything
// else.
func small(v cue.Value, path string) []string {
	names := fieldNames(v)
	if v.IncompleteKind() != cue.StructKind || len(names) == 0 || len(names) > 4 {
		return []string{path}
	}
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = path + "." + name
	}
	return all
}

// variantOf is the variant of the base of an experiment; "" if that is not known.
func (d *document) variantOf(experiment string) string {
	name, _ := d.value.LookupPath(rooted([]string{experiment, "adapter", "variant"})).String()
	return name
}

// elsewhere is the hint for an unknown field whose name another place of an experiment
// has; "" if none has.
func (c *complaint) elsewhere() string {
	if len(c.below) == 0 {
		return ""
	}
	name := label(c.below[len(c.below)-1])
	all := c.places(name, c.variantOf(label(c.path[0])))
	value := "…"
	if len(all) == 0 {
		if all = valuePlaces(name, c.schema); len(all) > 1 { // which of them is not known
			return ""
		}
		value = fmt.Sprintf("%q", name)
	}
	if c.in.unknown != "" { // a parameter: only a field of the adapter is mistaken for one
		all = slices.DeleteFunc(all, func(path string) bool { return !strings.HasPrefix(path, "adapter.") })
	}
	if len(all) == 0 {
		return ""
	}
	if c.pos.IsValid() && c.pos.Filename() == commandLine {
		for i := range all {
			all[i] = "--set " + asCUE(all[i], value, "=")
		}
		return "write " + orInWords(all)
	}
	for i := range all {
		all[i] = asCUE(all[i], value, ": ")
	}
	return "write " + orInWords(all)
}

// asCUE is a value at a path, which may lead into a list, as a file has it, or the command
// line, where the path stays one and is has the sign behind it.
func asCUE(path, value, sign string) string {
	list, below, in := strings.Cut(path, "[].")
	if in {
		path, value = list, "[{"+strings.ReplaceAll(below, ".", ": ")+": "+value+"}]"
	}
	if sign == ": " {
		path = strings.ReplaceAll(path, ".", ": ")
	}
	return path + sign + value
}

// nearby is the hint for a path whose last name is nearly one of those next to it; "" for
// none.
func (x *expansion) nearby(names []string) string {
	last := len(names) - 1
	siblings := fieldNames(lookup(x.schema, names[:last]))
	if last == 0 {
		siblings = sections
	}
	is := diagnostic.DidYouMean(label(names[last]), siblings)
	if is == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", strings.Join(append(slices.Clone(names[:last]), is), "."))
}

// variesElsewhere is the same of a path that cells may replace.
func (x *expansion) variesElsewhere(name string) string {
	all := slices.DeleteFunc(x.places(name, x.baseVariant()), func(path string) bool {
		section, _, _ := strings.Cut(path, ".")
		return !slices.Contains(sections, section)
	})
	if len(all) == 0 {
		return ""
	}
	for i := range all {
		list, _, _ := strings.Cut(all[i], ofElements) // cells replace it as a whole
		all[i] = fmt.Sprintf("%q", list)
	}
	return "did you mean " + orInWords(all) + "?"
}

// orInWords is names as a sentence has a choice of them: "a, b or c".
func orInWords(names []string) string {
	last := len(names) - 1
	if last < 1 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// asStruct is the hint for a value that is given in place of a struct: the field of it
// that the value fits, or all of its fields.
func (c *complaint) asStruct() string {
	known := c.known()
	if len(c.below) > 2 && c.below[0] == "cases" {
		known = lookup(c.in.schema, c.below[2:])
	}
	if all := alternatives(known); len(all) > 0 {
		known = all[0]
	}
	names := fieldNames(known)
	if len(names) == 0 {
		if known.LookupPath(cue.MakePath(cue.AnyString)).Exists() {
			return "write " + c.nested("NAME") + ": …, with a name of your own"
		}
		return ""
	}
	var fit []string
	text, _ := c.value.String()
	for _, name := range names {
		field := lookup(known, []string{name})
		if name == text || field.IncompleteKind()&c.value.IncompleteKind() != 0 && field.Unify(c.value).Validate(cue.Concrete(true)) == nil {
			fit = append(fit, name)
		}
	}
	switch {
	case len(fit) == 0, kindOf(c.value) != cue.StringKind: // any number fits somewhere
		return "its fields are: " + strings.Join(names[:min(len(names), 16)], ", ")
	case fit[0] == text:
		return fmt.Sprintf("write %s: …", c.nested(text))
	case c.pos.IsValid() && c.pos.Filename() == commandLine:
		return fmt.Sprintf("write --set %s.%s=%s", strings.Join(c.below, "."), fit[0], strings.Trim(c.given, `"`))
	case slices.ContainsFunc(c.below, isElement):
		return fmt.Sprintf("write {%s: %s}", fit[0], c.given)
	}
	return fmt.Sprintf("write %s: %s", c.nested(fit[0]), c.given)
}

// inList is the hint for a value that is given in place of a list of it.
func (c *complaint) inList() string {
	if c.given == "" || kindOf(c.value)&(cue.ListKind|cue.StructKind) != 0 || kindOf(c.known())&cue.ListKind == 0 {
		return ""
	}
	if text, err := c.value.String(); err == nil && strings.Contains(text, ",") { // which is a list as text
		return fmt.Sprintf("write [%s]", text)
	}
	list := c.cue.NewList(c.value)
	if list.Err() != nil || c.known().Unify(list).Validate(cue.Concrete(true)) != nil {
		return ""
	}
	return fmt.Sprintf("write [%s]", c.given)
}

// nested is a field below the path as a file has it: "head: kind".
func (c *complaint) nested(name string) string { return strings.Join(c.below, ": ") + ": " + name }
