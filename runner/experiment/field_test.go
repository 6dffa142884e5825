package experiment

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/loralab/loralab/core/head/design"
)

// Every field says what it means, what it may be and where it is defined.
func TestFields(t *testing.T) {
	s, err := OpenSchema(context.Background(), Env{})
	if err != nil {
		t.Fatal(err)
	}
	s.loader.resolve = world()
	var b strings.Builder
	for _, path := range append(s.Fields("lora"), "optim", "data.remap.NAME", "evaluate.domains.NAME.source") {
		f, err := s.Field(path, "lora")
		if err != nil {
			t.Error(err)
			continue
		}
		if f.At.Line == 0 || f.Source == "" {
			t.Errorf("%s has no place in the schema", path)
		}
		if f.By == "schema" && f.Doc == "" && !strings.HasSuffix(path, "NAME") {
			t.Errorf("%s has no comment", path)
		}
		fmt.Fprintf(&b, "%s  %s\n", path, f.At.File)
		for _, line := range []string{f.Type, f.Rule, strings.Join(f.Fields, " ")} {
			if line != "" {
				fmt.Fprintf(&b, "    %s\n", strings.ReplaceAll(line, "\n", "\n    "))
			}
		}
		if f.Default != "" {
			fmt.Fprintf(&b, "    default %s\n", f.Default)
		}
		if f.Required {
			b.WriteString("    required\n")
		}
	}
	for _, path := range []string{"optim.lr.haed", "adapter.params.rnak", "hed", "1x"} {
		_, err := s.Field(path, "lora")
		fmt.Fprintf(&b, "%v\n", err)
	}
	golden(t, "testdata/fields.txt", b.String())
}

// Every value of a cell says who gives it.
func TestValues(t *testing.T) {
	text := insert(sound, `	vary: "optim.lr.adapter": [1e-3, 1e-4]
	evaluate: domains: far: {source: "procedural", seed: 3}
	_drop: 0.2
	adapter: params: dropout: _drop / 2
	cases: {
		freed: backbone: freeze: blocks: "0..3"
		other: adapter: variant: "scale"
	}`)
	file := write(t, text)
	e, found := loadWith([]string{file}, Env{Set: []string{"head={kind: \"linear\"}"}}, world())
	if len(found) > 0 {
		t.Fatal(rendered(t, found))
	}
	var b strings.Builder
	for _, cell := range []string{"adapter=0.0001", "freed", "other"} {
		values, err := e[0].Values(cell)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n", cell)
		for _, v := range values {
			if cell != "adapter=0.0001" && v.From == FromSchema {
				continue
			}
			if strings.HasPrefix(v.At.File, "schema/") {
				v.At.Line, v.At.Column = 0, 0
			}
			fmt.Fprintf(&b, "    %-35s %-30s %-12s %s\n", v.Path, v.Value, v.From, strings.ReplaceAll(v.At.String(), file, "e.cue"))
		}
	}
	_, err := e[0].Values("fred")
	fmt.Fprintf(&b, "%v\n", err)
	golden(t, "testdata/values.txt", b.String())
}

// The schema has the heads of core/head/design and their settings, no more and
// no fewer.
func TestHeadsOfTheSchema(t *testing.T) {
	s, err := OpenSchema(context.Background(), Env{})
	if err != nil {
		t.Fatal(err)
	}
	kind, err := s.Field("head.kind", "")
	if err != nil {
		t.Fatal(err)
	}
	kinds := regexp.MustCompile(`"(\w+)"`).FindAllStringSubmatch(kind.Type, -1)
	var got []string
	for _, m := range kinds {
		got = append(got, m[1])
	}
	if want := design.Kinds(); !slices.Equal(slices.Compact(got), want) {
		t.Errorf("head.kind is %s, the heads are %q", kind.Type, want)
	}
	settings := []string{"head.kind", "head.taps"}
	for _, name := range design.Settings() {
		settings = append(settings, "head."+name)
	}
	var fields []string
	for _, f := range s.Fields("") {
		if strings.HasPrefix(f, "head.") {
			fields = append(fields, f)
		}
	}
	slices.Sort(settings)
	slices.Sort(fields)
	if !slices.Equal(fields, settings) {
		t.Errorf("the schema has %q, heads take %q", fields, settings)
	}
}
