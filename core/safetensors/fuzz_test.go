package safetensors

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"slices"
	"testing"
)

// FuzzParse reads files from elsewhere. What opens has tensors that fill the data
// exactly once, and is the same after it was written and read again.
func FuzzParse(f *testing.F) {
	framed := func(header, data string) []byte {
		return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...), data...)
	}
	f.Add(framed(`{}`, ""))
	f.Add(framed(`{"__metadata__":{"format":"pt","sha256":"00"},"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}`, "1234"))
	f.Add(framed(`{"__metadata__":null,"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}`, "1"))
	f.Add(framed(`{"a":{"dtype":"BF16","shape":[2,0,9223372036854775807],"data_offsets":[0,0]}}`, ""))
	f.Add(framed(`{"a":{"DType":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"I64","shape":[-1],"data_offsets":[1,0]}}`, "1"))
	f.Add(framed(`{"a":[[[[[[[[`, ""))
	f.Add(binary.LittleEndian.AppendUint64(nil, 1<<63))
	f.Fuzz(func(t *testing.T, content []byte) {
		file, err := Parse(content)
		if err != nil {
			return
		}
		var all []Tensor
		bytesOf := 0
		for _, name := range file.Names() {
			got, ok := file.Get(name)
			n, err := byteLen(got.DType, got.Shape)
			if !ok || err != nil || n != len(got.Data) {
				t.Fatalf("%q: %s %v with %d bytes (%v)", name, got.DType, got.Shape, len(got.Data), err)
			}
			all, bytesOf = append(all, got), bytesOf+n
		}
		if header := int(binary.LittleEndian.Uint64(content)); 8+header+bytesOf != len(content) {
			t.Fatalf("tensors of %d bytes in a file of %d with a header of %d", bytesOf, len(content), header)
		}
		if file.Metadata() == nil {
			t.Fatal("the metadata is nil")
		}
		_ = file.Verify() // whatever the seal, it does not panic

		slices.SortStableFunc(all, order)
		header, err := encodeHeader(all, file.Metadata())
		if err != nil {
			return // names that JSON cannot hold
		}
		var b bytes.Buffer
		if err := encode(&b, header, all); err != nil {
			t.Fatal(err)
		}
		again, err := Parse(b.Bytes())
		if err != nil {
			t.Fatalf("written again it does not open: %v", err)
		}
		if !reflect.DeepEqual(again.tensors, file.tensors) || !reflect.DeepEqual(again.Metadata(), file.Metadata()) {
			t.Fatal("written again it is another file")
		}
	})
}
