package plugintest

import (
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/errors"

	"github.com/loralab/loralab/runner/variant"
)

// What a variant says of itself.

func (t *trial) start() {
	var err error
	if t.about, err = t.first.Describe(t.ctx, t.Name); err != nil {
		t.fault("info "+t.Path, "an answer to Describe", "%s", said(err))
		t.end("the plug-in does not answer")
	}
}

// semantic is a version as semver.org has it.
var semantic = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

func (t *trial) description() {
	if v := t.about.GetVersion(); !semantic.MatchString(v) {
		t.fault("info "+t.Path, "a semantic version such as 1.0.0", "%q", v)
	}
	for _, text := range []struct{ what, value string }{
		{"a paper, or where else the method is described", t.about.GetPaper()},
		{"one line about the variant", t.about.GetAbout()},
		{"a formula of the adapted layer", t.about.GetFormula()},
	} {
		if strings.TrimSpace(text.value) == "" {
			t.fault("info "+t.Path, text.what, "nothing")
		}
	}
	if strings.Contains(strings.TrimSpace(t.about.GetAbout()), "\n") {
		t.fault("info "+t.Path, "one line about the variant", "several")
	}
}

func (t *trial) schemaCompiles() {
	var err error
	if t.schema, err = variant.ReadSchema(t.about); err != nil {
		t.fault("schema "+t.Path, "CUE with a definition #Params", "%s", said(err))
		t.end("the schema does not compile")
		return
	}
	if t.schema.Params.IncompleteKind() != cue.StructKind {
		t.fault("schema "+t.Path, "#Params to be a struct", "%v", t.schema.Params.IncompleteKind())
		t.end("the schema has no parameters")
	}
}

// field is a parameter in the schema, or one within another.
type field struct {
	path  cue.Path
	value cue.Value
}

// fields of the schema, those of structs after the struct.
func (t *trial) fields() []field {
	var all []field
	var walk func(v cue.Value, at []cue.Selector)
	walk = func(v cue.Value, at []cue.Selector) {
		list, err := v.Fields(cue.Optional(true))
		if err != nil {
			return
		}
		for list.Next() {
			sel := list.Selector()
			if sel.Type().ConstraintType() != 0 {
				sel = cue.Str(sel.Unquoted())
			}
			here := append(slices.Clone(at), sel)
			all = append(all, field{cue.MakePath(here...), list.Value()})
			if list.Value().IncompleteKind() == cue.StructKind {
				walk(list.Value(), here)
			}
		}
	}
	walk(t.schema.Params, nil)
	return all
}

func (t *trial) closed() {
	structs := []cue.Path{cue.MakePath()}
	for _, f := range t.fields() {
		if f.value.IncompleteKind() == cue.StructKind {
			structs = append(structs, f.path)
		}
	}
	for _, p := range structs {
		const stranger = "surely_not_a_parameter"
		path := cue.MakePath(append(p.Selectors(), cue.Str(stranger))...)
		err := t.schema.Params.FillPath(path, 1).Validate()
		if err == nil || !slices.ContainsFunc(errors.Errors(err), func(e errors.Error) bool {
			format, _ := e.Msg()
			return strings.Contains(format, "field not allowed")
		}) {
			t.fault("schema "+t.Path, "an error for a parameter that does not exist",
				"%s: 1 is accepted; take the ... out of %s", path, name(p))
		}
	}
}

func name(p cue.Path) string {
	if len(p.Selectors()) == 0 {
		return "#Params"
	}
	return p.String()
}

func (t *trial) documented() {
	for _, f := range t.fields() {
		if len(f.value.Doc()) == 0 {
			t.fault("schema "+t.Path, "a comment above every parameter", "none above %s", f.path)
		}
	}
}

// bounded: a whole number, which sizes and counts are, has a least or a most.
// Without one a mistyped exponent is accepted, and fails as an allocation in the
// middle of a plan. A factor may be any number.
func (t *trial) bounded() {
	far := new(big.Int).Exp(big.NewInt(10), big.NewInt(30), nil)
	accepts := func(f field, n *big.Int) bool {
		v := t.schema.Params.FillPath(f.path, n)
		_, err := v.LookupPath(f.path).Int(nil) // may wait for another parameter
		return v.Validate() == nil && err == nil
	}
	for _, f := range t.fields() {
		if kind := f.value.IncompleteKind(); kind&cue.NumberKind != cue.IntKind {
			continue
		}
		if accepts(f, new(big.Int).Neg(far)) && accepts(f, far) {
			t.fault("schema "+t.Path, fmt.Sprintf(`a bound of %s: %s: int & >=1 & <=1024 | error("must be …")`, f.path, f.path),
				"every whole number is accepted, 1e30 too")
		}
	}
}

// strangers are values of every kind that hardly any parameter takes.
var strangers = []any{"surely not a value", -987654321, 1e300, 0.123456789, true, []string{"surely not"}}

// messages: what a bound refuses is told in a sentence of the schema, given
// with error("…"). That a number is no text CUE and runner say well enough.
func (t *trial) messages() {
	for _, f := range t.fields() {
		if f.value.IncompleteKind() == cue.StructKind {
			continue
		}
		for _, s := range strangers {
			err := t.schema.Params.FillPath(f.path, s).Validate()
			if err == nil {
				continue
			}
			if raw := unworded(err, f.path); raw != "" {
				t.fault("schema "+t.Path, fmt.Sprintf(`a sentence about %s: … | error("must be …")`, f.path),
					"for %s: %v CUE says %q", f.path, s, raw)
				break
			}
		}
	}
}

// unworded is what CUE says where the schema has no sentence; "" if it has one
// or if only the type is wrong.
func unworded(err error, path cue.Path) string {
	raw := ""
	for _, e := range errors.Errors(err) {
		if !strings.HasSuffix(strings.Join(e.Path(), "."), path.String()) {
			continue
		}
		format, args := e.Msg()
		switch {
		case format == "%s" && len(args) == 1:
			return ""
		case strings.Contains(format, "mismatched types"), strings.Contains(format, "empty disjunction"):
		default:
			raw = fmt.Sprintf(format, args...)
		}
	}
	return raw
}
