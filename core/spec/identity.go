// Package spec is what runner and engine say to each other: the specification
// of a run, the requests and events around it, and the identity of a run.
//
// A run is identified by what determines its weights. Identity writes the
// specification in one canonical form (see Canonical) and hashes it, so that
// two ways of writing the same thing are one run, and a run is done once.
package spec

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Revision is the revision of the engine's arithmetic: RunSpec.revision of
// every new run. Raise it when the same specification would train to other
// weights than before; old results then count as stale instead of as equal.
const Revision = 3

// oldest is the first revision whose weights mean what they do now: the forward
// pass has not moved since.
const oldest = 2

// unnamedSince is the first revision whose identities leave out the names of
// classes. sealedSince is the first whose files carry digests of themselves.
const (
	unnamedSince = 3
	sealedSince  = 3
)

// Readable reports whether this engine predicts, scores and exports with the
// weights of a run of a revision. It trains those of Revision alone.
func Readable(revision uint32) bool { return revision >= oldest && revision <= Revision }

// Sealed reports whether checkpoints and results of a revision carry digests of
// their content: one without is damaged.
func Sealed(revision uint32) bool { return revision >= sealedSince }

// Identity is the identity of a run: the SHA-256 of the canonical form of its
// specification, 64 hex digits. Classes count by number and order, not by name.
func Identity(s *RunSpec) string {
	sum := sha256.Sum256(Canonical(unnamed(s)))
	return hex.EncodeToString(sum[:])
}

// unnamed is a specification with indices in place of the names of classes. It
// shares with s what it does not change.
func unnamed(s *RunSpec) *RunSpec {
	if s.GetRevision() < unnamedSince || len(s.GetData().GetClasses()) == 0 {
		return s
	}
	from := s.ProtoReflect()
	out := &RunSpec{}
	to := out.ProtoReflect()
	from.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		to.Set(fd, v)
		return true
	})
	to.SetUnknown(from.GetUnknown())
	out.Data = proto.CloneOf(s.Data)
	out.Data.Classes = indices(len(s.Data.Classes))
	if s.Train != nil {
		out.Train = proto.CloneOf(s.Train)
		out.Train.Monitor = unnamedMetric(s.Train.Monitor, s.Data.Classes)
	}
	return out
}

func indices(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = strconv.Itoa(i)
	}
	return list
}

// MetricsOfClasses are the kinds of metrics that single classes have, "dice" of
// "dice/nucleus". MeanMetric in place of a class is the mean over all.
var MetricsOfClasses = []string{"dice", "iou", "accuracy", "boundary"}

// MeanMetric is no class: see MetricsOfClasses.
const MeanMetric = "mean"

// ClassOf is the class that a metric is of, "" for one of all classes.
func ClassOf(metric string) string {
	kind, class, _ := strings.Cut(metric, "/")
	if class == MeanMetric || !slices.Contains(MetricsOfClasses, kind) {
		return ""
	}
	return class
}

// unnamedMetric has "#1" for the second of the classes.
func unnamedMetric(metric string, classes []string) string {
	class := ClassOf(metric)
	i := slices.Index(classes, class)
	if class == "" || i < 0 {
		return metric
	}
	return strings.TrimSuffix(metric, class) + "#" + strconv.Itoa(i)
}

// EvaluationIdentity identifies the result of one evaluation of a run: a hash
// over the run's identity, the data of split "test", the checkpoint, the precision
// and the Revision that scores, which may be a later one than that of the run. What the domain and the classes are called is left out: renaming
// costs nothing.
func EvaluationIdentity(runID string, e *Evaluation) string {
	e = proto.CloneOf(e)
	e.Domain = ""
	if n := len(e.GetData().GetClasses()); n > 0 {
		e.Data.Classes = indices(n)
	}
	for role := range e.GetData().GetSplits() {
		if role != "test" {
			delete(e.Data.Splits, role)
		}
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\nrevision %d\n", runID, Revision)
	h.Write(Canonical(e))
	return hex.EncodeToString(h.Sum(nil))
}

// EnsembleIdentity is the identity of an ensemble of runs: a hash over their
// identities, in whatever order. Its evaluations have the identities that
// EvaluationIdentity gives those of a run with this one.
func EnsembleIdentity(members []string) string {
	members = slices.Sorted(slices.Values(members))
	sum := sha256.Sum256([]byte("ensemble\n" + strings.Join(members, "\n")))
	return hex.EncodeToString(sum[:])
}

// Canonical writes a message as JSON in the one form that is hashed:
//
//   - fields by their name in the .proto file, sorted; maps sorted by key
//   - fields that are unset or hold their zero value are left out; optional
//     fields are kept whenever they are set
//   - floats in the shortest form that reads back equal, so 1.0 is 1 and
//     1e-3 is 0.001; negative zero is zero
//   - 64-bit integers as decimal numbers, enums by name, bytes as hex
//   - labels that only serve messages (see labels) are left out
//
// The form is for hashing and comparing; protojson is what is stored.
func Canonical(m proto.Message) []byte {
	var b bytes.Buffer
	write(&b, message(m.ProtoReflect()))
	return b.Bytes()
}

// labels are fields that name things for people and move no arithmetic.
var labels = map[protoreflect.FullName]bool{
	"loralab.variant.v1.Node.name": true,
	"loralab.variant.v1.Aux.name":  true,
}

// The canonical form as a tree: object, []any, or scalar.
type (
	object []member
	member struct {
		key   string
		value any
	}
	scalar string // as JSON
)

func message(m protoreflect.Message) object {
	o := unknown(m)
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		o = field(o, fd, v, true)
		return true
	})
	sortMembers(o)
	return o
}

// unknown begins an object with the fields of a newer version: they are not
// understood, but they count.
func unknown(m protoreflect.Message) object {
	if u := m.GetUnknown(); len(u) > 0 {
		return object{{"?", quote(hex.EncodeToString(u))}}
	}
	return object{}
}

// field adds a field to an object, if it has a value that counts.
func field(o object, fd protoreflect.FieldDescriptor, v protoreflect.Value, has bool) object {
	if !has || labels[fd.FullName()] {
		return o
	}
	var value any
	switch {
	case fd.IsMap():
		entries := object{}
		v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
			entries = append(entries, member{k.String(), singular(fd.MapValue(), v)})
			return true
		})
		sortMembers(entries)
		value = entries
	case fd.IsList():
		list := make([]any, v.List().Len())
		for i := range list {
			list[i] = singular(fd, v.List().Get(i))
		}
		value = list
	default:
		value = singular(fd, v)
		// -0 is reported as set; it is not the zero value, yet equal to it.
		if !fd.HasPresence() && value == scalar("0") {
			return o
		}
	}
	return append(o, member{string(fd.Name()), value})
}

func sortMembers(o object) {
	slices.SortFunc(o, func(a, b member) int { return cmp.Compare(a.key, b.key) })
}

func singular(fd protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch fd.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return message(v.Message())
	case protoreflect.BoolKind:
		return scalar(strconv.FormatBool(v.Bool()))
	case protoreflect.StringKind:
		return quote(v.String())
	case protoreflect.BytesKind:
		return quote(hex.EncodeToString(v.Bytes()))
	case protoreflect.FloatKind:
		return float(v.Float(), 32)
	case protoreflect.DoubleKind:
		return float(v.Float(), 64)
	case protoreflect.EnumKind:
		if d := fd.Enum().Values().ByNumber(v.Enum()); d != nil {
			return quote(string(d.Name()))
		}
		return scalar(strconv.Itoa(int(v.Enum())))
	default: // integers of every width
		return scalar(v.String())
	}
}

func quote(s string) scalar {
	// Marshal cannot fail on a string; invalid UTF-8 cannot be in one that
	// protobuf accepts.
	b, _ := json.Marshal(s)
	return scalar(b)
}

func float(f float64, bits int) scalar {
	switch {
	case f == 0:
		return "0"
	case math.IsNaN(f) || math.IsInf(f, 0):
		return quote(strconv.FormatFloat(f, 'g', -1, bits))
	}
	return scalar(strconv.FormatFloat(f, 'g', -1, bits))
}

func write(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case scalar:
		b.WriteString(string(v))
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			write(b, e)
		}
		b.WriteByte(']')
	case object:
		b.WriteByte('{')
		for i, m := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(string(quote(m.key)))
			b.WriteByte(':')
			write(b, m.value)
		}
		b.WriteByte('}')
	}
}

// Change is one difference between two specifications.
type Change struct {
	Path string `json:"path"` // "optim.lr_head", "data.splits.train.digest"
	From string `json:"from"` // "unset" where there was nothing
	To   string `json:"to"`
}

func (c Change) String() string { return fmt.Sprintf("%s: %s → %s", c.Path, c.From, c.To) }

// Diff lists what differs between two specifications, sorted by path: what
// made a stale run stale. It is empty exactly when the identities are equal.
// Lists of numbers and strings are compared as a whole; of lists of messages
// with different lengths only the lengths are reported.
func Diff(a, b *RunSpec) []Change {
	if a.GetRevision() < unnamedSince || b.GetRevision() < unnamedSince {
		x, y := differing(a.ProtoReflect(), b.ProtoReflect())
		return diff(nil, "", x, y)
	}
	x, y := differing(unnamed(a).ProtoReflect(), unnamed(b).ProtoReflect())
	changes := diff(nil, "", x, y)
	for i, c := range changes {
		switch c.Path { // people know classes by their names
		case "data.classes":
			changes[i].From, changes[i].To = named(a.GetData().GetClasses()), named(b.GetData().GetClasses())
		case "train.monitor":
			changes[i].From, changes[i].To = cmp.Or(a.GetTrain().GetMonitor(), "unset"), cmp.Or(b.GetTrain().GetMonitor(), "unset")
		}
	}
	return changes
}

func named(classes []string) string {
	if len(classes) == 0 {
		return "unset"
	}
	list := make([]any, len(classes))
	for i, c := range classes {
		list[i] = quote(c)
	}
	return text(list)
}

// differing is the canonical form of two messages without the fields that are
// plainly equal: nearly all of them, of a run that one edit made stale.
func differing(a, b protoreflect.Message) (x, y object) {
	fields := a.Descriptor().Fields()
	x, y = unknown(a), unknown(b)
	for i := range fields.Len() {
		fd := fields.Get(i)
		va, vb := a.Get(fd), b.Get(fd)
		hasA, hasB := a.Has(fd), b.Has(fd)
		switch {
		case hasA == hasB && (!hasA || va.Equal(vb)):
		case hasA && hasB && fd.Kind() == protoreflect.MessageKind && !fd.IsList() && !fd.IsMap():
			p, q := differing(va.Message(), vb.Message())
			x, y = append(x, member{string(fd.Name()), p}), append(y, member{string(fd.Name()), q})
		default:
			x, y = field(x, fd, va, hasA), field(y, fd, vb, hasB)
		}
	}
	sortMembers(x)
	sortMembers(y)
	return x, y
}

func diff(changes []Change, path string, a, b any) []Change {
	if ao, ok := a.(object); ok {
		if bo, ok := b.(object); ok {
			return diffObjects(changes, path, ao, bo)
		}
	}
	al, aok := a.([]any)
	bl, bok := b.([]any)
	if aok && bok && len(al) == len(bl) && slices.ContainsFunc(al, isObject) {
		for i := range al {
			changes = diff(changes, fmt.Sprintf("%s[%d]", path, i), al[i], bl[i])
		}
		return changes
	}
	if text(a) == text(b) {
		return changes
	}
	return append(changes, Change{path, summary(a), summary(b)})
}

func diffObjects(changes []Change, path string, a, b object) []Change {
	join := func(key string) string {
		if path == "" {
			return key
		}
		return path + "." + key
	}
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].key < b[0].key:
			changes = diff(changes, join(a[0].key), a[0].value, nil)
			a = a[1:]
		case len(a) == 0 || b[0].key < a[0].key:
			changes = diff(changes, join(b[0].key), nil, b[0].value)
			b = b[1:]
		default:
			changes = diff(changes, join(a[0].key), a[0].value, b[0].value)
			a, b = a[1:], b[1:]
		}
	}
	return changes
}

func isObject(v any) bool { _, ok := v.(object); return ok }

func text(v any) string {
	var b bytes.Buffer
	write(&b, v)
	return b.String()
}

func summary(v any) string {
	switch v := v.(type) {
	case nil:
		return "unset"
	case object:
		return "set"
	case []any:
		if slices.ContainsFunc(v, isObject) {
			if len(v) == 1 {
				return "1 entry"
			}
			return fmt.Sprintf("%d entries", len(v))
		}
	case scalar:
		var s string
		if json.Unmarshal([]byte(v), &s) == nil {
			return s
		}
	}
	return text(v)
}
