package spec_test

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	"github.com/loralab/loralab/core/spec"
	"github.com/loralab/loralab/plugins/protocol"
)

func example() *spec.RunSpec {
	return &spec.RunSpec{
		Revision: spec.Revision,
		Seed:     math.MaxUint64,
		Backbone: &spec.Backbone{Digest: "ab", Arch: &spec.Architecture{Family: "vit", Dim: 384, Eps: 1e-6}, Depth: 10, Freeze: &spec.Freeze{Kind: spec.Freeze_ALL}},
		Adapter: &spec.Adapter{
			Programs:   []*protocol.Program{{Version: 1, Params: []*protocol.Param{{Name: "lora_A", Shape: []int64{8, 384}}}, Nodes: []*protocol.Node{{Op: protocol.Op_X, Name: "x"}}}},
			Placements: []*spec.Placement{{Site: &protocol.Site{Name: "query", Block: 6}}},
		},
		Data: &spec.Data{Classes: []string{"background", "nucleus"}, Values: map[uint32]int32{0: 0, 1: 1, 255: -1}, Mean: []float64{0.5, 0, 1}},
		Loss: []*spec.Loss{{Kind: "cross_entropy", Weight: 1}},
	}
}

func TestCanonicalForm(t *testing.T) {
	const want = `{"adapter":{"placements":[{"site":{"block":6,"name":"query"}}],` +
		`"programs":[{"nodes":[{"op":"X"}],"params":[{"name":"lora_A","shape":[8,384]}],"version":1}]},` +
		`"backbone":{"arch":{"dim":384,"eps":1e-06,"family":"vit"},"depth":10,"digest":"ab","freeze":{"kind":"ALL"}},` +
		`"data":{"classes":["background","nucleus"],"mean":[0.5,0,1],"values":{"0":0,"1":1,"255":-1}},` +
		`"loss":[{"kind":"cross_entropy","weight":1}],"revision":3,"seed":18446744073709551615}`
	if got := string(spec.Canonical(example())); got != want {
		t.Errorf("canonical form\n got %s\nwant %s", got, want)
	}
	// Recorded results are found by this value: it may only move together
	// with Revision.
	const id = "053f00ab"
	if got := spec.Identity(example()); len(got) != 64 || got[:8] != id {
		t.Errorf("identity = %s, want %s…", got, id)
	}
}

func TestLabelsDoNotCount(t *testing.T) {
	a, b := example(), example()
	b.Adapter.Programs[0].Nodes[0].Name = "renamed"
	if spec.Identity(a) != spec.Identity(b) {
		t.Error("the name of a node moved the identity")
	}
	e := &spec.Evaluation{Domain: "histology", Checkpoint: "best", Data: &spec.Data{Splits: map[string]*spec.Split{"test": {Digest: "1"}, "train": {Digest: "2"}}}}
	f := proto.CloneOf(e)
	f.Domain = "tissue"
	f.Data.Splits["train"].Digest = "3"
	if spec.EvaluationIdentity("r", e) != spec.EvaluationIdentity("r", f) {
		t.Error("the name of a domain, or a split that is not scored, moved the identity of an evaluation")
	}
	if e.Domain != "histology" || len(e.Data.Splits) != 2 {
		t.Error("EvaluationIdentity changed its argument")
	}
	f.Data.Splits["test"].Digest = "9"
	if spec.EvaluationIdentity("r", e) == spec.EvaluationIdentity("r", f) {
		t.Error("other test files, same identity")
	}
	if spec.EvaluationIdentity("r", e) == spec.EvaluationIdentity("q", e) {
		t.Error("another run, same identity of its evaluation")
	}
}

// Names of classes are labels: trial-language, identity.
func TestNamesOfClassesDoNotCount(t *testing.T) {
	named := func(monitor string, classes ...string) *spec.RunSpec {
		s := example()
		s.Data.Classes, s.Train = classes, &spec.Train{Monitor: monitor}
		return s
	}
	same := [][2]*spec.RunSpec{
		{named("loss", "a", "b"), named("loss", "x", "y")},
		{named("dice/b", "a", "b"), named("dice/y", "x", "y")},
		{named("iou/a/b", "c", "a/b"), named("iou/c", "a", "c")},
		{named("dice/b", "a", "b"), named("dice/a", "b", "a")}, // the values mean the same indices
	}
	for _, p := range same {
		if a, b := spec.Identity(p[0]), spec.Identity(p[1]); a != b {
			t.Errorf("%v and %v are two runs", p[0].Data.Classes, p[1].Data.Classes)
		}
		if d := spec.Diff(p[0], p[1]); len(d) != 0 {
			t.Errorf("equal identities differ in %v", d)
		}
	}
	swapped := named("loss", "b", "a")
	swapped.Data.Values = map[uint32]int32{0: 1, 1: 0, 255: -1}
	for _, c := range []struct {
		a, b *spec.RunSpec
		want spec.Change
	}{
		{named("loss", "a", "b"), named("loss", "a", "b", "c"), spec.Change{Path: "data.classes", From: `["a","b"]`, To: `["a","b","c"]`}},
		{named("dice/a", "a", "b"), named("dice/y", "x", "y"), spec.Change{Path: "train.monitor", From: "dice/a", To: "dice/y"}},
		{named("dice/a", "a", "b"), named("dice/mean", "a", "b"), spec.Change{Path: "train.monitor", From: "dice/a", To: "dice/mean"}},
		{named("original/dice", "original", "dice"), named("original/iou", "original", "dice"), spec.Change{Path: "train.monitor", From: "original/dice", To: "original/iou"}},
		{named("loss", "a", "b"), swapped, spec.Change{Path: "data.values.0", From: "0", To: "1"}},
	} {
		if spec.Identity(c.a) == spec.Identity(c.b) {
			t.Errorf("%v: the identity did not move", c.want)
		}
		if d := spec.Diff(c.a, c.b); len(d) == 0 || d[0] != c.want {
			t.Errorf("got %v, want %v", d, c.want)
		}
	}
	// Runs of before keep their identity.
	old := example()
	old.Revision = 2
	if id := spec.Identity(old); id[:8] != "c0561b2d" {
		t.Errorf("a run of revision 2 has become %s", id)
	}
	if d := spec.Diff(old, named("loss", "x", "y")); len(d) == 0 {
		t.Error("two revisions do not differ")
	}
	evaluation := func(classes ...string) string {
		return spec.EvaluationIdentity("r", &spec.Evaluation{Data: &spec.Data{Classes: classes, Values: map[uint32]int32{0: 1}}})
	}
	if evaluation("a", "b") != evaluation("x", "y") || evaluation("a", "b") == evaluation("a", "b", "c") {
		t.Error("names of classes count in evaluations, or their number does not")
	}
}

func TestDiffNamesWhatMoved(t *testing.T) {
	a, b := example(), example()
	b.Seed = 3
	b.Backbone.Freeze.Kind = spec.Freeze_NONE
	b.Adapter.Programs[0].Params[0].Shape = []int64{4, 384}
	b.Adapter.Placements = append(b.Adapter.Placements, b.Adapter.Placements[0])
	b.Data.Values[255] = 1
	b.Optim = &spec.Optim{Kind: "adamw", LrHead: 1e-3}
	want := []spec.Change{
		{Path: "adapter.placements", From: "1 entry", To: "2 entries"},
		{Path: "adapter.programs[0].params[0].shape", From: "[8,384]", To: "[4,384]"},
		{Path: "backbone.freeze.kind", From: "ALL", To: "NONE"},
		{Path: "data.values.255", From: "-1", To: "1"},
		{Path: "optim", From: "unset", To: "set"},
		{Path: "seed", From: "18446744073709551615", To: "3"},
	}
	if got := spec.Diff(a, b); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// Any specification, through any encoding, keeps its identity.
func TestIdentitySurvivesMarshalling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &spec.RunSpec{}
		fill(t, s.ProtoReflect(), 0)
		id := spec.Identity(s)
		if !json.Valid(spec.Canonical(s)) {
			t.Fatalf("not JSON: %s", spec.Canonical(s))
		}
		wire, err := proto.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		fromWire := &spec.RunSpec{}
		if err := proto.Unmarshal(wire, fromWire); err != nil {
			t.Fatal(err)
		}
		text, err := protojson.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		fromJSON := &spec.RunSpec{}
		if err := protojson.Unmarshal(text, fromJSON); err != nil {
			t.Fatal(err)
		}
		for name, back := range map[string]*spec.RunSpec{"wire": fromWire, "json": fromJSON} {
			if got := spec.Identity(back); got != id {
				t.Fatalf("%s: identity moved: %v", name, spec.Diff(s, back))
			}
			if d := spec.Diff(s, back); len(d) != 0 {
				t.Fatalf("%s: equal identities differ in %v", name, d)
			}
		}
	})
}

// Whatever single field changes, the identity moves, and Diff names one place.
func TestAnyChangeMovesIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := &spec.RunSpec{}
		fill(t, a.ProtoReflect(), 0)
		b := proto.CloneOf(a)
		mutate(t, b.ProtoReflect())
		if proto.Equal(a, b) {
			return // the draw gave the old value
		}
		d := spec.Diff(a, b)
		if spec.Identity(a) == spec.Identity(b) {
			t.Fatalf("identity did not move\na: %v\nb: %v", a, b)
		}
		if len(d) != 1 {
			t.Fatalf("one change, reported as %v", d)
		}
	})
}

var scalars = map[protoreflect.Kind]func(t *rapid.T) protoreflect.Value{
	protoreflect.BoolKind:   func(t *rapid.T) protoreflect.Value { return protoreflect.ValueOf(rapid.Bool().Draw(t, "bool")) },
	protoreflect.StringKind: func(t *rapid.T) protoreflect.Value { return protoreflect.ValueOf(rapid.String().Draw(t, "string")) },
	protoreflect.Uint32Kind: func(t *rapid.T) protoreflect.Value { return protoreflect.ValueOf(rapid.Uint32().Draw(t, "uint32")) },
	protoreflect.Uint64Kind: func(t *rapid.T) protoreflect.Value { return protoreflect.ValueOf(rapid.Uint64().Draw(t, "uint64")) },
	protoreflect.Int32Kind:  func(t *rapid.T) protoreflect.Value { return protoreflect.ValueOf(rapid.Int32().Draw(t, "int32")) },
	protoreflect.Int64Kind:  func(t *rapid.T) protoreflect.Value { return protoreflect.ValueOf(rapid.Int64().Draw(t, "int64")) },
	protoreflect.DoubleKind: func(t *rapid.T) protoreflect.Value {
		return protoreflect.ValueOf(rapid.Float64().Draw(t, "double") + 0)
	},
}

func draw(t *rapid.T, fd protoreflect.FieldDescriptor) protoreflect.Value {
	if fd.Kind() == protoreflect.EnumKind {
		values := fd.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(rapid.IntRange(0, values.Len()-1).Draw(t, "enum")).Number())
	}
	return scalars[fd.Kind()](t)
}

// fill sets random fields to random values, at most 6 messages deep.
func fill(t *rapid.T, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		if !rapid.Bool().Draw(t, "set") {
			continue
		}
		isMessage := fd.Kind() == protoreflect.MessageKind
		switch {
		case isMessage && depth == 6:
		case fd.IsMap():
			mp := m.Mutable(fd).Map()
			for range rapid.IntRange(1, 2).Draw(t, "entries") {
				key := draw(t, fd.MapKey()).MapKey()
				if fd.MapValue().Kind() == protoreflect.MessageKind {
					v := mp.NewValue()
					fill(t, v.Message(), depth+1)
					mp.Set(key, v)
				} else {
					mp.Set(key, draw(t, fd.MapValue()))
				}
			}
		case fd.IsList():
			list := m.Mutable(fd).List()
			for range rapid.IntRange(1, 2).Draw(t, "length") {
				if isMessage {
					fill(t, list.AppendMutable().Message(), depth+1)
				} else {
					list.Append(draw(t, fd))
				}
			}
		case isMessage:
			fill(t, m.Mutable(fd).Message(), depth+1)
		default:
			m.Set(fd, draw(t, fd))
		}
	}
}

// mutate changes one field somewhere below m.
func mutate(t *rapid.T, m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	var candidates []protoreflect.FieldDescriptor
	for i := range fields.Len() {
		if name := fields.Get(i).FullName(); name != "loralab.variant.v1.Node.name" && name != "loralab.variant.v1.Aux.name" {
			candidates = append(candidates, fields.Get(i))
		}
	}
	fd := candidates[rapid.IntRange(0, len(candidates)-1).Draw(t, "field")]
	isMessage := fd.Kind() == protoreflect.MessageKind
	switch {
	case fd.IsMap():
		key := draw(t, fd.MapKey()).MapKey()
		mp := m.Mutable(fd).Map()
		if mp.Has(key) {
			mp.Clear(key)
		} else {
			mp.Set(key, mp.NewValue())
		}
	case fd.IsList():
		list := m.Mutable(fd).List()
		if n := list.Len(); n > 0 && isMessage && rapid.Bool().Draw(t, "inside") {
			mutate(t, list.Get(rapid.IntRange(0, n-1).Draw(t, "index")).Message())
		} else {
			list.Append(list.NewElement())
		}
	case isMessage:
		if m.Has(fd) && rapid.Bool().Draw(t, "inside") {
			mutate(t, m.Mutable(fd).Message())
		} else if m.Has(fd) {
			m.Clear(fd)
		} else {
			m.Mutable(fd)
		}
	case m.Has(fd) && rapid.Bool().Draw(t, "clear"):
		m.Clear(fd)
	default:
		m.Set(fd, draw(t, fd))
	}
}
