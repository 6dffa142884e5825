package plan

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/runner/experiment"
	"github.com/loralab/loralab/runner/store"
)

func TestMoved(t *testing.T) {
	change := func(path, from, to string) spec.Change { return spec.Change{Path: path, From: from, To: to} }
	digest := strings.Repeat("0123456789abcdef", 4)
	for want, changes := range map[string][]spec.Change{
		"optim.lr.head moved from 0.001 to 0.002": {change("optim.lr_head", "0.001", "0.002")},
		"the training images moved from 01234567 to unset": {
			change("data.splits.train.digest", digest, "unset"), change("data.splits.train.count", "40", "80"),
		},
		"the adapter's program moved from [2,16] to [8,16]": {
			change("adapter.programs[0].params[0].shape", "[2,16]", "[8,16]"), change("adapter.programs[0].params[1].shape", "[16,2]", "[16,8]"),
		},
		"data.size moved from 224 to 448, train.epochs moved from 3 to 4 and 1 more": {
			change("data.height", "224", "448"), change("data.width", "224", "448"), change("train.epochs", "3", "4"), change("train.batch", "8", "4"),
		},
	} {
		if got := moved(changes); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Whatever field of a specification moves, people are told so in the words of
// experiment files, or in plain ones.
func TestEveryFieldHasAName(t *testing.T) {
	schema, err := experiment.OpenSchema(t.Context(), experiment.Env{})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	var walk func(m protoreflect.MessageDescriptor, path string)
	walk = func(m protoreflect.MessageDescriptor, path string) {
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			at := path + string(f.Name())
			if f.Message() != nil && !f.IsList() && !f.IsMap() {
				walk(f.Message(), at+".")
				continue
			}
			// As in a change: of a list an element, of a map the value of a key.
			paths := map[bool][]string{false: {at}, true: {at, at + "[0].name"}}[f.IsList()]
			if f.IsMap() {
				paths = []string{at + ".1.count"}
			}
			for _, p := range paths {
				seen++
				name := field(p)
				if strings.Contains(name, " ") {
					continue
				}
				if _, err := schema.Field(name, ""); err != nil && p != at+"[0].name" || strings.Contains(name, "_") {
					t.Errorf("%s is called %s, which no experiment file says: %v", p, name, err)
				}
			}
		}
	}
	walk((&spec.RunSpec{}).ProtoReflect().Descriptor(), "")
	if seen < 80 {
		t.Errorf("%d fields were looked at", seen)
	}
	for _, f := range fields {
		if got := field(f.path); got != f.name {
			t.Errorf("%s is called %s, not %s: another name stands before it", f.path, got, f.name)
		}
	}
}

// What moved an adapter's program is said in the words of the file, as far as
// the request of the old run tells.
func TestMovedOfTheVariant(t *testing.T) {
	label := func(variant, version, params string) *spec.Label {
		return &spec.Label{Variant: variant, VariantVersion: version, VariantParams: params}
	}
	for want, now := range map[string]*spec.Label{
		"adapter.params.alpha moved from 8 to 4":         label("lora", "1.0.0", `{"rank":2,"alpha":4}`),
		"adapter.params.dropout moved from unset to 0.1": label("lora", "1.0.0", `{"rank":2,"alpha":8,"dropout":0.1}`),
		"adapter.variant moved from lora to dora":        label("dora", "1.0.0", `{"rank":9}`),
		"variant lora moved from 1.0.0 to 1.1.0":         label("lora", "1.1.0", `{"rank":2,"alpha":8}`),
	} {
		root := t.TempDir()
		was := whole("c", 1, 2, 1, 4)
		had := &store.Run{ID: was.ID, Experiment: "e", Cell: "c", Seed: 1, Dir: store.DirOf("e", was.ID), State: store.Done, Summary: &spec.Summary{}}
		if err := had.SetSpec(was.Spec); err != nil {
			t.Fatal(err)
		}
		known := snapshot(had)
		known.Root = root
		run := whole("c", 1, 4, 1, 4)
		run.Label = now
		reason := func() string {
			p, err := Make(experiments(run), known, Selection{})
			if err != nil {
				t.Fatal(err)
			}
			return p.Actions[0].Reason
		}
		if got := reason(); got != "the adapter's program moved from [2,16] to [4,16]" {
			t.Errorf("without a request: %s", got)
		}
		text, err := protojson.Marshal(&spec.RunRequest{Id: was.ID, Spec: was.Spec, Label: label("lora", "1.0.0", `{"rank":2,"alpha":8}`)})
		dir := filepath.Join(root, filepath.FromSlash(had.Dir))
		if err == nil {
			err = os.MkdirAll(dir, 0o777)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "request.json"), text, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := reason(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
