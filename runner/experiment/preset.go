package experiment

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue"

	"github.com/loralab/loralab/runner/diagnostic"
)

// What presets set, read from the schema, where each value stands with its
// reason. The schema itself applies them; here is what CUE leaves open: that a
// cell with a preset takes none of its settings from the base, which message a
// contradiction gets, and what a preset does differently.

// A pin is one value that a preset sets: a number, a text or a list.
type pin struct {
	path  []string
	value cue.Value
}

// pins are what a preset sets, in the order of the schema; none for "".
func (d *document) pins(preset string) []pin { return pinsOf(d.schema, d.presets, preset) }

func pinsOf(schema, presets cue.Value, preset string) (list []pin) {
	var walk func(path []string, v cue.Value)
	walk = func(path []string, v cue.Value) {
		if it, err := v.Fields(); err == nil && v.IncompleteKind() == cue.StructKind {
			for it.Next() {
				walk(append(slices.Clone(path), it.Selector().String()), it.Value())
			}
		} else if len(path) > 0 {
			list = append(list, pin{path, v})
		}
	}
	if preset != "" {
		walk(nil, presets.LookupPath(cue.MakePath(cue.Str(preset))))
	}
	// In the order of the schema: that in which CUE has put things together is of
	// no use to readers.
	line := func(p pin) int {
		if f, ok := fieldOf(lookup(schema, p.path)); ok {
			return f.Label.Pos().Line()
		}
		return 0
	}
	slices.SortStableFunc(list, func(a, b pin) int {
		return cmp.Or(slices.Index(configSections, a.path[0])-slices.Index(configSections, b.path[0]), line(a)-line(b))
	})
	return list
}

// pinned finds what a preset sets at a path, or at the list that it leads into.
func (d *document) pinned(preset string, path []string) (pin, bool) {
	for _, p := range d.pins(preset) {
		if len(p.path) <= len(path) && related(p.path, path) {
			return p, true
		}
	}
	return pin{}, false
}

// allPinned reports whether a preset sets all that v, at a path, has.
func (d *document) allPinned(preset string, path []string, v cue.Value) bool {
	it, err := v.Fields()
	if err != nil {
		_, ok := d.pinned(preset, path)
		return ok
	}
	any := false
	for it.Next() {
		any = true
		if !d.allPinned(preset, append(slices.Clone(path), it.Selector().String()), it.Value()) {
			return false
		}
	}
	return any
}

const presetField = "preset"

// PresetsOfOriginal are the presets that train as the original project, whose tables
// are written for comparison.
var PresetsOfOriginal = []string{"original", "originalSearch"}

// presetIn is the preset of an experiment or a case; "" without.
func presetIn(v cue.Value) (name string, given bool) {
	v = v.LookupPath(cue.ParsePath(presetField))
	name, err := v.String()
	return name, v.Exists() && err == nil
}

// presetOf is the preset that cells with an overlay have.
func (x *expansion) presetOf(overlay []*override) (name string, own bool) {
	for _, o := range overlay {
		if len(o.path) == 1 && o.path[0] == presetField {
			name, _ = o.value.String()
			return name, true
		}
	}
	name, _ = presetIn(x.base())
	return name, false
}

// contradicted finds the preset that sets another value than the user gives at
// a path below an experiment.
func (d *document) contradicted(path []string, s scope) (preset string, p pin, ok bool) {
	below := path[min(len(s.prefix), len(path)):]
	if len(s.prefix) != 1 || len(below) == 0 {
		return "", pin{}, false
	}
	given := func(below []string) cue.Value {
		if o := covering(s.overlay, below); o != nil {
			return o.value.LookupPath(selectors(below[len(o.path):]))
		}
		if o := covering(d.set, below); o != nil {
			return o.value.LookupPath(selectors(below[len(o.path):]))
		}
		return d.withoutSchema().LookupPath(rooted(append(slices.Clone(s.prefix), below...)))
	}
	inCase := below[:0]
	if below[0] == "cases" && len(below) > 2 {
		inCase = below[:2]
	}
	preset, err := given(append(slices.Clone(inCase), presetField)).String()
	if err != nil && len(inCase) > 0 {
		preset, err = given([]string{presetField}).String()
	}
	if err != nil {
		return "", pin{}, false
	}
	if p, ok = d.pinned(preset, below[len(inCase):]); !ok {
		return "", pin{}, false
	}
	v := given(append(slices.Clone(inCase), p.path...))
	return preset, p, v.Exists() && p.value.Unify(v).Validate(cue.Concrete(true)) != nil
}

// Difference is a setting of a preset, of an experiment one that differs from the
// default.
type Difference struct {
	Preset string   `json:"preset"`
	Cells  []string `json:"cells,omitempty"` // that have the preset
	Path   string   `json:"path"`
	// Value is the preset's, Default the schema's as CUE; empty if there is none.
	Value   string `json:"value"`
	Default string `json:"default,omitempty"`
	Why     string `json:"why"`
}

// differences finds them in cells.
func (x *expansion) differences(all []*cell) (list []Difference) {
	var presets []string
	cells := map[string][]string{}
	for _, c := range all {
		var preset string
		if leaf := c.resolved().members[presetField]; leaf != nil {
			_ = json.Unmarshal(leaf.leaf, &preset) // a text, or there is none
		}
		if preset == "" || x.broken[c.config.Adapter] {
			continue
		}
		if cells[preset] == nil {
			presets = append(presets, preset)
		}
		cells[preset] = append(cells[preset], c.name)
	}
	for _, preset := range presets {
		for _, p := range x.pins(preset) {
			d := p.difference(x.schema, x.presets.LookupPath(cue.MakePath(cue.Str(preset))))
			d.Preset, d.Cells = preset, cells[preset]
			if d.Value != d.Default {
				list = append(list, d)
			}
		}
	}
	return list
}

// difference is what a pin of a preset sets, next to the default of the schema. That
// may depend on the kind that the preset sets in the same section.
func (p pin) difference(schema, preset cue.Value) Difference {
	d := Difference{Path: strings.Join(p.path, "."), Value: inCUE(p.value)}
	section, kind := lookup(schema, p.path[:1]), cue.MakePath(cue.Str("kind"))
	if k := lookup(preset, []string{p.path[0], "kind"}); k.Exists() && p.path[len(p.path)-1] != "kind" {
		section = section.FillPath(kind, k)
	}
	if v, ok := lookup(section, p.path[1:]).Default(); ok || v.IsConcrete() {
		d.Default = inCUE(v)
	}
	for _, group := range p.value.Doc() {
		d.Why = strings.Join(strings.Fields(d.Why+" "+group.Text()), " ")
	}
	return d
}

// Presets are the names of presets, in the order of the schema.
func (s *Schema) Presets() (names []string) {
	_, terms := s.pkg.LookupPath(cue.ParsePath("#Preset")).Expr()
	for _, term := range terms {
		if name, err := term.String(); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// Preset is all that a preset sets, and why.
func (s *Schema) Preset(name string) (list []Difference, err error) {
	if names := s.Presets(); !slices.Contains(names, name) {
		return nil, fmt.Errorf("there is no preset %q; %s", name, diagnostic.Suggest(name, "presets", names))
	}
	for _, p := range pinsOf(s.root, s.presets, name) {
		d := p.difference(s.root, s.presets.LookupPath(cue.MakePath(cue.Str(name))))
		d.Preset = name
		list = append(list, d)
	}
	return list, nil
}

// inCUE is a value on one line; "" if it is none.
func inCUE(v cue.Value) string {
	switch x := goValue(v).(type) {
	case nil:
		return ""
	case string:
		return strconv.Quote(x)
	case []any:
		parts := []string{}
		for it, err := v.List(); err == nil && it.Next(); {
			parts = append(parts, inCUE(it.Value()))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		parts := []string{}
		for it, err := v.Fields(); err == nil && it.Next(); {
			parts = append(parts, it.Selector().String()+": "+inCUE(it.Value()))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	default:
		return valueText(v)
	}
}
