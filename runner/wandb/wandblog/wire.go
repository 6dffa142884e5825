package wandblog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"sync"
)

// The types of record.go are protobuf messages: the tag of a field has its number.
// Both directions go by these tags, so each number is in one place. Values of
// these kinds occur:
//
//	string, bool, int32, int64   as in proto3: zero is not written
//	uint64                       a varint without sign
//	float64                      8 bytes
//	*T                           a message; nil is not written
//	[]string, []*T               repeated
//	map[string]string            a repeated message {1: key, 2: value}, sorted by key
const (
	wireVarint = 0
	wire64     = 1
	wireBytes  = 2
	wire32     = 5
)

var numbersOf sync.Map // reflect.Type → []int

// fieldsOf lists the numbers of the fields of a message.
func fieldsOf(t reflect.Type) []int {
	if known, ok := numbersOf.Load(t); ok {
		return known.([]int)
	}
	numbers := make([]int, t.NumField())
	for i := range numbers {
		n, err := strconv.Atoi(t.Field(i).Tag.Get("pb"))
		if err != nil {
			panic("wandblog: " + t.String() + "." + t.Field(i).Name + " has no number")
		}
		numbers[i] = n
	}
	numbersOf.Store(t, numbers)
	return numbers
}

// marshal appends the message that m points at. Fields are written in the order of the
// type, which is that of their numbers.
func marshal(out []byte, m reflect.Value) []byte {
	m = m.Elem()
	for i, number := range fieldsOf(m.Type()) {
		out = marshalField(out, number, m.Field(i))
	}
	return out
}

func marshalField(out []byte, number int, v reflect.Value) []byte {
	tag := func(wire uint64) []byte { return binary.AppendUvarint(out, uint64(number)<<3|wire) }
	bytes := func(content []byte) []byte {
		return append(binary.AppendUvarint(tag(wireBytes), uint64(len(content))), content...)
	}
	switch v.Kind() {
	case reflect.String:
		if v.Len() > 0 {
			out = bytes([]byte(v.String()))
		}
	case reflect.Bool:
		if v.Bool() {
			out = append(tag(wireVarint), 1)
		}
	case reflect.Int32, reflect.Int64:
		if v.Int() != 0 {
			out = binary.AppendUvarint(tag(wireVarint), uint64(v.Int()))
		}
	case reflect.Uint64:
		if v.Uint() != 0 {
			out = binary.AppendUvarint(tag(wireVarint), v.Uint())
		}
	case reflect.Float64:
		if v.Float() != 0 {
			out = binary.LittleEndian.AppendUint64(tag(wire64), math.Float64bits(v.Float()))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			out = bytes(marshal(nil, v))
		}
	case reflect.Slice:
		for i := range v.Len() {
			if e := v.Index(i); e.Kind() == reflect.String { // an empty text of a list is written
				out = binary.AppendUvarint(out, uint64(number)<<3|wireBytes)
				out = append(binary.AppendUvarint(out, uint64(e.Len())), e.String()...)
			} else {
				out = marshalField(out, number, e)
			}
		}
	case reflect.Map:
		entries := v.Interface().(map[string]string)
		keys := make([]string, 0, len(entries))
		for k := range entries {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			out = marshalField(out, number, reflect.ValueOf(&entry{k, entries[k]}))
		}
	default:
		panic("wandblog: no form for " + v.Type().String())
	}
	return out
}

// entry is a key of a map with its value.
type entry struct {
	Key   string `pb:"1"`
	Value string `pb:"2"`
}

var errCut = errors.New("a message is cut off")

// unmarshal reads a message into what m points at. Fields without a number in the type
// are skipped; their numbers are returned.
func unmarshal(in []byte, m reflect.Value) (unknown []int, err error) {
	m = m.Elem()
	numbers := fieldsOf(m.Type())
	for len(in) > 0 {
		tag, n := binary.Uvarint(in)
		if n <= 0 {
			return nil, errCut
		}
		in = in[n:]
		var value uint64
		var content []byte
		switch tag & 7 {
		case wireVarint:
			if value, n = binary.Uvarint(in); n <= 0 {
				return nil, errCut
			}
			in = in[n:]
		case wire64:
			if len(in) < 8 {
				return nil, errCut
			}
			value, in = binary.LittleEndian.Uint64(in), in[8:]
		case wire32:
			if len(in) < 4 {
				return nil, errCut
			}
			value, in = uint64(binary.LittleEndian.Uint32(in)), in[4:]
		case wireBytes:
			length, n := binary.Uvarint(in)
			if n <= 0 || uint64(len(in)-n) < length {
				return nil, errCut
			}
			content, in = in[n:n+int(length)], in[n+int(length):]
		default:
			return nil, fmt.Errorf("a field has the unknown wire type %d", tag&7)
		}
		i := slices.Index(numbers, int(tag>>3))
		if i < 0 {
			unknown = append(unknown, int(tag>>3))
			continue
		}
		if err := set(m.Field(i), tag&7, value, content); err != nil {
			return nil, fmt.Errorf("%s: %w", m.Type().Field(i).Name, err)
		}
	}
	return unknown, nil
}

// set gives a field the value that was read for it.
func set(f reflect.Value, wire, value uint64, content []byte) error {
	want := uint64(wireBytes)
	switch f.Kind() {
	case reflect.Bool, reflect.Int32, reflect.Int64, reflect.Uint64:
		want = wireVarint
	case reflect.Float64:
		want = wire64
	}
	if wire != want {
		return fmt.Errorf("the wire type is %d, not %d", wire, want)
	}
	switch f.Kind() {
	case reflect.String:
		f.SetString(string(content))
	case reflect.Bool:
		f.SetBool(value != 0)
	case reflect.Int32, reflect.Int64:
		f.SetInt(int64(value))
	case reflect.Uint64:
		f.SetUint(value)
	case reflect.Float64:
		f.SetFloat(math.Float64frombits(value))
	case reflect.Pointer:
		if f.IsNil() { // a message in two parts is merged
			f.Set(reflect.New(f.Type().Elem()))
		}
		_, err := unmarshal(content, f)
		return err
	case reflect.Slice:
		e := reflect.New(f.Type().Elem()).Elem()
		if err := set(e, wire, value, content); err != nil {
			return err
		}
		f.Set(reflect.Append(f, e))
	case reflect.Map:
		var e entry
		if _, err := unmarshal(content, reflect.ValueOf(&e)); err != nil {
			return err
		}
		if f.IsNil() {
			f.Set(reflect.ValueOf(map[string]string{}))
		}
		f.SetMapIndex(reflect.ValueOf(e.Key), reflect.ValueOf(e.Value))
	}
	return nil
}
