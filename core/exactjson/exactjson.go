// Package exactjson decodes JSON that Python programs have written, such as the
// config.json of a model or of an adapter, as Python reads it: names of fields are
// exact, and of a name that is given twice the last counts. Package encoding/json
// takes "Layer_Norm_Eps" for "layer_norm_eps" too, and "layer_norm_epſ".
package exactjson

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"
)

// Unmarshal decodes text into v, a pointer to a struct whose fields have lower-case
// names, at every depth. Other names are left out, so v has no maps with names of
// its own.
func Unmarshal(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var all any
	if err := d.Decode(&all); err != nil {
		return json.Unmarshal(text, v) // says where
	}
	exact, err := json.Marshal(lower(all))
	if err != nil {
		return err
	}
	if d.More() {
		return json.Unmarshal(text, v) // says what follows
	}
	return json.Unmarshal(exact, v)
}

// other reports whether a letter may be taken for another one, which names of fields
// have.
func other(r rune) bool { return r > unicode.MaxASCII || unicode.IsUpper(r) }

// lower is a value without the fields that have another case.
func lower(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, field := range v {
			if strings.ContainsFunc(name, other) {
				delete(v, name)
				continue
			}
			v[name] = lower(field)
		}
	case []any:
		for i := range v {
			v[i] = lower(v[i])
		}
	}
	return v
}
