package experiment

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/loralab/loralab/runner/diagnostic"
)

// Who gives a value.
const (
	FromFile        = "file"         // the base, as the file has it
	FromCell        = "cell"         // a value of vary, or of a case
	FromCommandLine = "command line" // --set
	FromPreset      = "preset"       // of the file or of the cell
	FromVariant     = "variant"      // a default of the variant's schema
	FromSchema      = "schema"       // a default of the schema
	FromAdapter     = "adapter"      // the file that adapter.from names
	FromSearch      = "search"       // a trial of a search
)

// Value is one value of a resolved configuration, and where it comes from.
type Value struct {
	Path  string          `json:"path"`  // "optim.lr.adapter"
	Value json.RawMessage `json:"value"` // 0.001
	From  string          `json:"from"`
	// Preset is the name of the preset that sets it; empty unless one does.
	Preset string              `json:"preset,omitempty"`
	At     diagnostic.Position `json:"at"` // of a default: in the schema
	// Remark says that the value is information, and no field of an experiment.
	Remark bool `json:"remark,omitempty"`
}

// matrix are the fields that make cells, and are in none.
var matrix = []string{"vary", "zip", "exclude", "include", "ablate", "cases", searchField}

// Values is the resolved configuration of a cell: every value but those that
// make the cells, in the order of the file and then of the schema. Lists are
// one value.
func (e *Experiment) Values(cell string) ([]Value, error) {
	release, err := e.expansion.turn.take(context.Background())
	if err != nil {
		return nil, err
	}
	defer release()
	for _, c := range e.cells {
		if c.name == cell {
			return e.expansion.values(c)
		}
	}
	var known []string
	for _, c := range e.cells {
		known = append(known, c.name)
	}
	return nil, fmt.Errorf("experiment %s has no cell %q; %s", e.Name, cell, diagnostic.Suggest(cell, "cells", known))
}

// ValuesOf is the resolved configuration of a run of a search. The values of its point
// are where the file has the space.
func (e *Experiment) ValuesOf(ctx context.Context, run *Run) ([]Value, error) {
	name, _, ok := CutTrial(run.Cell)
	if !ok {
		name = e.CellOf(run)
	}
	i := slices.IndexFunc(e.Studies, func(s *Study) bool { return s.Cell == name })
	if i < 0 {
		return nil, fmt.Errorf("%s is of no search", run.Name())
	}
	s, x := e.Studies[i], e.expansion
	release, err := x.turn.take(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	y, done := x.apart(ctx, s.Seeds)
	defer done()
	var c *cell
	c, ok = y.pointCell(s, run.Point)
	if ok {
		y.evaluate(y.baseCell, []*cell{c})
	}
	if c.config == nil {
		return nil, fmt.Errorf("%s has values that the experiment refuses", run.Name())
	}
	y.prepare([]*cell{c})
	list, err := y.values(c)
	for i := range list {
		for _, p := range s.params {
			if related(cuePath(list[i].Path), cuePath(p.Name)) && list[i].From == FromCell {
				list[i].From, list[i].At = FromSearch, x.at(p.label)
			}
		}
	}
	return list, err
}

// Within are the values of a cell, as Values has them, that are at a path or below it.
// Of a list that the path leads into they are the elements: data.augment.0.kind has one
// value, data.augment[].kind that of each element. In a case, cases.NAME.PATH, they are
// the values of the cell of that name.
func (e *Experiment) Within(path, cellName string, values []Value) ([]Value, error) {
	steps, ok := steps(path)
	if !ok {
		return nil, nil
	}
	name, steps := inCase(steps)
	if name != "" && name != cellName {
		return nil, nil
	}
	i := slices.IndexFunc(e.cells, func(c *cell) bool { return c.name == cellName })
	var list []Value
	for _, v := range values {
		of := cuePath(v.Path)
		switch {
		case !related(of, steps):
		case len(of) >= len(steps):
			list = append(list, v)
		case i >= 0:
			release, err := e.expansion.turn.take(context.Background())
			if err != nil {
				return nil, err
			}
			list = append(list, e.expansion.elements(e.cells[i], of, steps[len(of):], v)...)
			release()
		}
	}
	return list, nil
}

// elements are the values that the rest of a path leads to in a list that a cell has at
// path, or in a struct of the list.
func (x *expansion) elements(c *cell, path, rest []string, v Value) []Value {
	var list []Value
	take := func(step string, text json.RawMessage) {
		at := append(slices.Clone(path), step)
		of := x.origin(c, at, text)
		if of.At == (diagnostic.Position{}) {
			of.At = v.At
		}
		list = append(list, x.elements(c, at, rest[min(1, len(rest)):], of)...)
	}
	var elements []json.RawMessage
	switch isList := json.Unmarshal(v.Value, &elements) == nil; {
	case len(rest) > 0 && isList:
		for i, text := range elements {
			if step := strconv.Itoa(i); rest[0] == step || rest[0] == "[]" {
				take(step, text)
			}
		}
	case v.Value[0] == '{':
		_ = eachMember(v.Value, func(name string, text json.RawMessage) error { // which CUE has written
			if len(rest) == 0 || name == label(rest[0]) {
				take(quoteLabel(name), text)
			}
			return nil
		})
	case len(rest) == 0:
		list = append(list, v)
	}
	return list
}

// values lists what a cell is made of.
func (x *expansion) values(c *cell) ([]Value, error) {
	text := c.resolved().append(nil)
	var list []Value
	var walk func(path []string, text json.RawMessage) error
	walk = func(path []string, text json.RawMessage) error {
		switch a := x.adaptation(c); {
		case a == nil || a.err != nil:
		case len(path) == 1 && path[0] == "adapter" && a.from != nil:
			text = x.read(c, a, text)
		case strings.Join(path, ".") == "adapter.params":
			text = a.params // with the variant's defaults
		}
		if text[0] != '{' || len(path) > 0 && string(text) == "{}" {
			list = append(list, x.origin(c, path, text))
			return nil
		}
		return eachMember(text, func(name string, value json.RawMessage) error {
			if len(path) == 0 && slices.Contains(matrix, name) {
				return nil
			}
			return walk(append(slices.Clone(path), quoteLabel(name)), value)
		})
	}
	if err := walk(nil, text); err != nil {
		return nil, fmt.Errorf("reading the values of %s: %w", c.name, err)
	}
	return list, nil
}

// origin finds where a value of a cell comes from.
func (x *expansion) origin(c *cell, path []string, text json.RawMessage) Value {
	v := Value{Path: strings.Join(path, "."), Value: text}
	replaced := false // by a cell's struct that does not have it
	if o := covering(c.overlay, path); o != nil {
		replaced = true
		given := o.value.LookupPath(selectors(path[len(o.path):]))
		if given.Exists() {
			v.From, v.At = FromCell, x.at(o.place(x.document))
			if pos := position(given); x.inUserFile(pos) {
				v.At = x.at(pos)
			}
			return v
		}
	}
	preset, _ := x.presetOf(c.overlay)
	// The same of all cells that leave the path to the base.
	key := originKey{v.Path, preset, c.config.Adapter.Variant, replaced}
	known, ok := x.origins[key]
	if !ok {
		known = x.baseOrigin(c, path, preset, replaced)
		x.origins[key] = known
	}
	v.From, v.Preset, v.At = known.From, known.Preset, known.At
	return v
}

// originKey is what the origin of a value of the base depends on.
type originKey struct {
	path, preset, variant string
	replaced              bool
}

// baseOrigin finds who gives a value that is not of the cell.
func (x *expansion) baseOrigin(c *cell, path []string, preset string, replaced bool) (v Value) {
	if p, ok := x.pinned(preset, path); ok {
		v.From, v.Preset = FromPreset, preset
		if f, ok := fieldOf(p.value); ok {
			v.At = schemaPosition(f.Label.Pos())
		}
		return v
	}
	full := append([]string{x.name}, path...)
	if o := covering(x.set, path); !replaced && o != nil && o.value.LookupPath(selectors(path[len(o.path):])).Exists() {
		v.From, v.At = FromCommandLine, x.at(x.valueAt(full))
		return v
	}
	if given := x.withoutSchema().LookupPath(rooted(full)); !replaced && given.Exists() && x.inUserFile(position(given)) {
		v.From, v.At = FromFile, x.at(position(given))
		return v
	}
	if a := x.adaptation(c); a != nil && a.from != nil && path[0] == "adapter" {
		v.From, v.At = FromAdapter, diagnostic.Position{File: filepath.ToSlash(filepath.Join(c.config.Adapter.From, "adapter_config.json"))}
		v.Remark = len(path) > 1 && path[1] == layersRemark
		return v
	}
	v.From = FromSchema
	at := lookup(x.schema, path)
	if len(path) > 2 && path[0] == "adapter" && path[1] == "params" {
		v.From = FromVariant
		at = lookup(x.paramSchema(c.config.Adapter.Variant), path[2:])
	}
	if f, ok := fieldOf(at); ok {
		v.At = schemaPosition(f.Label.Pos())
	}
	return v
}
