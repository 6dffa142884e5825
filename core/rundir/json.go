package rundir

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/loralab/loralab/core/spec"
)

// Marshal writes a message as JSON without white space. Fields have the names of the
// .proto file, as in all JSON that users read.
func Marshal(m proto.Message) ([]byte, error) {
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = json.Compact(&out, text) // protojson varies its white space
	return out.Bytes(), err
}

// MarshalFile writes a message as the files of a run directory have it.
func MarshalFile(m proto.Message) ([]byte, error) {
	text, err := Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, text, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// Unmarshal reads a message from JSON, with either names of fields. Fields that are
// not known are left out: a newer loralab has written them, and what this one needs
// is in the others. What a run is does not depend on it, because identities and
// digests are compared.
func Unmarshal(text []byte, m proto.Message) error {
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(text, m)
}

// Intact compares a result of a run of some revision, read from text, with its
// digest. A field more does no harm, unless the digest was made with it.
func Intact[R spec.Result](text []byte, r R, revision uint32) error {
	err := spec.Intact(r, revision)
	if err == nil {
		return nil
	}
	if unknown := protojson.Unmarshal(text, r.ProtoReflect().New().Interface()); unknown != nil {
		return fmt.Errorf("%w; it has fields that this loralab does not know, so a newer one may have written it", err)
	}
	return err
}

// MarshalEvent writes an event as a line of the journal, with its end:
// {"type": "step", …fields of spec.Step}.
func MarshalEvent(e *spec.Event) ([]byte, error) {
	m := e.ProtoReflect()
	kind := m.WhichOneof(m.Descriptor().Oneofs().ByName("event"))
	if kind == nil {
		return nil, errors.New("an event without a kind")
	}
	fields, err := Marshal(m.Get(kind).Message().Interface())
	if err != nil {
		return nil, err
	}
	line := fmt.Appendf(nil, `{"type":%q`, kind.Name())
	if len(fields) > len("{}") {
		line = append(line, ',')
	}
	return append(append(line, fields[1:]...), '\n'), nil
}

// UnmarshalEvent reads a line of the journal. An event of a kind that is not known
// has none.
func UnmarshalEvent(line []byte) (*spec.Event, error) {
	e := &spec.Event{}
	m := e.ProtoReflect()
	kinds := m.Descriptor().Fields()
	var kind protoreflect.FieldDescriptor
	// MarshalEvent writes the type first, which saves reading a line twice.
	if rest, found := bytes.CutPrefix(line, []byte(`{"type":"`)); found {
		if name, _, found := bytes.Cut(rest, []byte{'"'}); found {
			kind = kinds.ByName(protoreflect.Name(name))
		}
	}
	if kind == nil {
		var head struct{ Type string }
		if err := json.Unmarshal(line, &head); err != nil {
			return nil, fmt.Errorf("reading an event: %w", err)
		}
		kind = kinds.ByName(protoreflect.Name(head.Type))
	}
	if kind == nil {
		return e, nil
	}
	if err := Unmarshal(line, m.Mutable(kind).Message().Interface()); err != nil {
		return nil, fmt.Errorf("reading an event: %w", err)
	}
	return e, nil
}
