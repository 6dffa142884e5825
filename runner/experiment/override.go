package experiment

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/token"
)

// Values that take the place of those of the base: of cells, and of the command
// line.

// scope says how the errors of a value are reported.
type scope struct {
	// prefix is cut off the paths in messages: the name of the experiment.
	prefix []string
	// overlay is what a cell puts in place of the base's values.
	overlay []*override
	cells   []string
	of      int // cells of the experiment
	// schema is where known fields are looked up, at the paths of the value
	// without prefix and skip more elements; without it nothing is suggested.
	schema cue.Value
	skip   int
	// rebase turns a path of the errors into one of the file.
	rebase func([]string) []string
	// unknown begins the message about an unknown field, `variant "lora" has
	// no parameter`; empty: that of a field.
	unknown string
}

// An override is one value of the base that cells replace.
type override struct {
	path  []string // below the experiment
	value cue.Value
	at    token.Pos
	label token.Pos
	from  []string // where the file has it: the case's field
	text  string   // in the names of cells

	id    int
	bound bool  // other values may depend on it, see bind
	bad   bool  // it is not valid at its place
	tree  *tree // its resolved value there, unless it is bound or bad
}

// place is where the file gives the override: its value, or the label if CUE
// does not know that.
func (o *override) place(d *document) token.Pos {
	if d.inUserFile(o.at) {
		return o.at
	}
	return o.label
}

func covering(overlay []*override, path []string) *override {
	for _, o := range overlay {
		if len(o.path) <= len(path) && slices.Equal(o.path, path[:len(o.path)]) {
			return o
		}
	}
	return nil
}

// newOverride is a value of an axis; label is the place of its path.
func newOverride(path []string, v cue.Value, label token.Pos) *override {
	return &override{path: path, value: v, at: position(v), label: label, text: valueText(v)}
}

func (o *override) goValue() any { return goValue(o.value) }

// goValue is a value of an axis as Go knows it: float64, string, bool, or what
// JSON gives.
func goValue(v cue.Value) any {
	var out any
	if text, err := v.MarshalJSON(); err == nil {
		_ = json.Unmarshal(text, &out) // what CUE writes is JSON
	}
	return out
}

// valueText is a value in the name of a cell: 0.001 however it was written.
func valueText(v cue.Value) string {
	if text, err := v.MarshalJSON(); err == nil && v.IncompleteKind() == cue.IntKind && !isExact(string(text)) {
		return string(text)
	}
	switch x := goValue(v).(type) {
	case string:
		return x
	case float64:
		return strconv.FormatFloat(x, 'g', -1, 64)
	case nil:
		return fmt.Sprint(v)
	default:
		text, _ := json.Marshal(x)
		return string(text)
	}
}

// related reports whether one path leads to or through the other.
func related(a, b []string) bool {
	for i := range min(len(a), len(b)) {
		if label(a[i]) != label(b[i]) {
			return false
		}
	}
	return true
}
