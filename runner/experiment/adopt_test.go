package experiment

import (
	"context"
	"strings"
	"testing"

	"github.com/loralab/loralab/plugins/protocol"
	"github.com/loralab/loralab/runner/peft"
)

// A case with the variant "none" has no adapter, also where that of the base is read from
// files.
func TestNoAdapterInPlaceOfOneOfFiles(t *testing.T) {
	r := world()
	r.adopt = func(context.Context, peft.Source) (*peft.Adapter, error) {
		return &peft.Adapter{
			Variant: "lora", Params: `{"rank":4}`, Groups: []peft.Group{{Params: `{"rank":4}`, Of: []int{0}}}, Digest: "digest of the values",
			Sites: []*protocol.Site{{Name: "query"}}, Build: &protocol.BuildReply{Programs: []*protocol.Program{{}}, ProgramOfSite: []uint32{0}},
		}, nil
	}
	from := func(fields string) string {
		adapter := sound[strings.Index(sound, "\tadapter:"):strings.Index(sound, "\tdata:")]
		return insert(strings.Replace(sound, adapter, "\tadapter: from: \"exported\"\n", 1), fields)
	}
	e, found := loadWith([]string{write(t, from("\tcases: {plain: adapter: variant: \"none\", trained: {}}"))}, Env{}, r)
	if len(found) > 0 {
		t.Fatal(rendered(t, found))
	}
	for _, run := range e[0].Runs {
		if has := run.Spec.Adapter != nil; has != (run.Cell == "trained") {
			t.Errorf("%s has an adapter: %v", run.Cell, has)
		}
	}
	_, found = loadWith([]string{write(t, from("\tadapter: variant: \"none\""))}, Env{}, r)
	if len(found) != 1 || found[0].Message != `adapter.variant is "none", and adapter.from names an adapter` {
		t.Error(rendered(t, found))
	}
}

// A mistake of the base that no cell has is none: each has another value in its place.
func TestBaseThatIsNoCell(t *testing.T) {
	for fields, want := range map[string]string{
		"\ttrain: epochs: 0\n\tvary: \"train.epochs\": [1, 2]":                       "",
		"\ttrain: epochs: 0\n\tcases: a: train: epochs: 1":                           "",
		"\ttrain: epochs: 0\n\tvary: \"train.epochs\": [0, 1]":                       "epochs=0",
		"\ttrain: epochs: 0\n\tablate: \"train.epochs\": [1, 2]":                     "all",
		"\ttrain: epochs: 0\n\tvary: \"optim.clip\": [1, 2]":                         "all",
		"\tadapter: params: rank: 99\n\tvary: \"adapter.params.rank\": [2, 4]":       "all",
		"\tadapter: params: rank: 99\n\tcases: {a: adapter: params: rank: 2, b: {}}": "all",
	} {
		text := strings.NewReplacer("epochs: 2, ", "", "rank: 4, ", "").Replace(sound)
		if !strings.Contains(fields, "rank: 99") {
			text = strings.Replace(sound, "epochs: 2, ", "", 1)
		}
		_, found := loadWith([]string{write(t, insert(text, fields))}, Env{}, world())
		got := ""
		if len(found) > 0 {
			got = "all"
			if len(found[0].Cells) > 0 {
				got = strings.Join(found[0].Cells, ";")
			}
		}
		if got != want || len(found) > 1 {
			t.Errorf("%s: a mistake of %q, want %q\n%s", fields, got, want, rendered(t, found))
		}
	}
}
