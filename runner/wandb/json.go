package wandb

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
)

// W&B's JSON is that of Python: NaN, Infinity and -Infinity may occur bare, which
// encoding/json refuses. Keys of objects are sorted, so equal values have equal texts.

// encode is a value as JSON. Numbers have the shortest text that gives the same
// number: a float32 0.1 is 0.1.
func encode(v any) (string, error) {
	out, err := appendJSON(nil, reflect.ValueOf(v))
	return string(out), err
}

var marshaler = reflect.TypeFor[json.Marshaler]()

func appendJSON(out []byte, v reflect.Value) ([]byte, error) {
	if !v.IsValid() {
		return append(out, "null"...), nil
	}
	if v.Type().Implements(marshaler) || v.Kind() == reflect.Struct || v.Type() == reflect.TypeFor[json.Number]() {
		return appendMarshaled(out, v.Interface())
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return append(out, "null"...), nil
		}
		return appendJSON(out, v.Elem())
	case reflect.Bool:
		return strconv.AppendBool(out, v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(out, v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(out, v.Uint(), 10), nil
	case reflect.Float32, reflect.Float64:
		return appendNumber(out, v.Float(), v.Type().Bits()), nil
	case reflect.String:
		return appendMarshaled(out, v.String())
	case reflect.Slice, reflect.Array:
		out = append(out, '[')
		var err error
		for i := range v.Len() {
			if i > 0 {
				out = append(out, ',')
			}
			if out, err = appendJSON(out, v.Index(i)); err != nil {
				return nil, err
			}
		}
		return append(out, ']'), nil
	case reflect.Map:
		if v.Type().Key().Kind() != reflect.String {
			return appendMarshaled(out, v.Interface()) // keys that are numbers
		}
		values := map[string]reflect.Value{}
		for _, k := range v.MapKeys() {
			values[k.String()] = v.MapIndex(k)
		}
		out = append(out, '{')
		for i, k := range slices.Sorted(maps.Keys(values)) {
			if i > 0 {
				out = append(out, ',')
			}
			var err error
			if out, err = appendMarshaled(out, k); err != nil {
				return nil, err
			}
			if out, err = appendJSON(append(out, ':'), values[k]); err != nil {
				return nil, err
			}
		}
		return append(out, '}'), nil
	}
	return nil, fmt.Errorf("a value of type %s has no form in JSON", v.Type())
}

func appendNumber(out []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(out, "NaN"...)
	case math.IsInf(f, 1):
		return append(out, "Infinity"...)
	case math.IsInf(f, -1):
		return append(out, "-Infinity"...)
	}
	return strconv.AppendFloat(out, f, 'g', -1, bits)
}

// appendMarshaled uses encoding/json, but keeps <, > and & as they are.
func appendMarshaled(out []byte, v any) ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return append(out, bytes.TrimSuffix(text.Bytes(), []byte("\n"))...), nil
}

// tree is an object whose values are objects, as trees, or JSON texts, of type raw. It is
// what the items of a log add up to.
type tree map[string]any

type raw string

// set puts a JSON text at a path.
func (t tree) set(path []string, value string) {
	key := path[0]
	if len(path) == 1 {
		t[key] = raw(value)
		return
	}
	t.inner(key).set(path[1:], value)
}

// inner is the object at a key. It is made if there is none; an object that is there as a
// text is parsed.
func (t tree) inner(key string) tree {
	switch at := t[key].(type) {
	case tree:
		return at
	case raw:
		t[key] = parseTree(string(at))
	default:
		t[key] = tree{}
	}
	return t[key].(tree)
}

// parseTree is a JSON object as a tree of one level; empty if the text is none.
func parseTree(text string) tree {
	t := tree{}
	var fields map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &fields) == nil {
		for k, v := range fields {
			t[k] = raw(v)
		}
	}
	return t
}

// remove deletes what is at a path.
func (t tree) remove(path []string) {
	if len(path) == 1 {
		delete(t, path[0])
	} else if _, there := t[path[0]]; there {
		t.inner(path[0]).remove(path[1:])
	}
}

// under adds what another tree has and this one lacks.
func (t tree) under(old tree) {
	for k, v := range old {
		if _, there := t[k]; !there {
			t[k] = v
		}
	}
}

func (t tree) String() string { return string(t.append(nil)) }

func (t tree) append(out []byte) []byte {
	out = append(out, '{')
	for i, k := range slices.Sorted(maps.Keys(t)) {
		if i > 0 {
			out = append(out, ',')
		}
		out, _ = appendMarshaled(out, k)
		out = append(out, ':')
		switch v := t[k].(type) {
		case tree:
			out = v.append(out)
		case raw:
			out = append(out, v...)
		}
	}
	return append(out, '}')
}
