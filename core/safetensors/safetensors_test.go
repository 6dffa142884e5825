package safetensors

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func tensors(t *rapid.T) []Tensor {
	types := []DType{F64, F32, F16, BF16, I64, I32, I16, I8, U8, Bool}
	names := rapid.SliceOfNDistinct(rapid.String().Filter(func(s string) bool {
		// JSON text is Unicode; a name that is not cannot come back.
		return s != metadataKey && strings.ToValidUTF8(s, "") == s
	}), 0, 8, rapid.ID[string]).Draw(t, "names")
	out := make([]Tensor, 0, len(names))
	for _, name := range names {
		d := rapid.SampledFrom(types).Draw(t, "dtype")
		shape := rapid.SliceOfN(rapid.Int64Range(0, 4), 0, 4).Draw(t, "shape")
		n, err := byteLen(d, shape)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, Tensor{name, d, shape, rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "data")})
	}
	return out
}

// What is written comes back, whatever the names, types and shapes, and the
// bytes do not depend on the order of the tensors.
func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		in := tensors(t)
		metadata := rapid.MapOfN(rapid.StringN(0, 8, 32), rapid.StringN(0, 8, 32), 0, 3).Draw(t, "metadata")
		path := filepath.Join(dir, "a.safetensors")
		if err := Write(path, in, metadata); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if len(f.Names()) != len(in) || !slices.IsSorted(f.Names()) {
			t.Fatalf("names %q of %d tensors", f.Names(), len(in))
		}
		for _, want := range in {
			got, ok := f.Get(want.Name)
			if !ok || got.Name != want.Name || got.DType != want.DType || !slices.Equal(got.Shape, want.Shape) || !bytes.Equal(got.Data, want.Data) {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
		if len(metadata) != len(f.Metadata()) {
			t.Fatalf("metadata %v, want %v", f.Metadata(), metadata)
		}
		for k, v := range metadata {
			if f.Metadata()[k] != v {
				t.Fatalf("metadata %q is %q, want %q", k, f.Metadata()[k], v)
			}
		}

		again := filepath.Join(dir, "b.safetensors")
		if err := Write(again, rapid.Permutation(in).Draw(t, "order"), metadata); err != nil {
			t.Fatal(err)
		}
		a, errA := os.ReadFile(path)
		b, errB := os.ReadFile(again)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Fatalf("another order gave other bytes (%v, %v)", errA, errB)
		}
	})
	left, err := filepath.Glob(filepath.Join(dir, "*.tmp-*"))
	if err != nil || len(left) > 0 {
		t.Fatalf("temporary files left: %v %v", left, err)
	}
}

// No file, however damaged, brings the process down or opens with a tensor
// whose data does not fit its shape.
func TestDamagedFilesAreSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := tensors(t)
		slices.SortStableFunc(in, order)
		header, err := encodeHeader(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := encode(&b, header, in); err != nil {
			t.Fatal(err)
		}
		file := b.Bytes()
		for range rapid.IntRange(1, 4).Draw(t, "damages") {
			at := rapid.IntRange(0, len(file)-1).Draw(t, "at")
			file[at] = rapid.Byte().Draw(t, "byte")
		}
		file = file[:rapid.IntRange(0, len(file)).Draw(t, "length")]
		f, err := parse(file)
		if err != nil {
			return
		}
		for _, name := range f.Names() {
			got, _ := f.Get(name)
			if n, err := byteLen(got.DType, got.Shape); err != nil || n != len(got.Data) {
				t.Fatalf("%q: %s %v with %d bytes (%v)", name, got.DType, got.Shape, len(got.Data), err)
			}
		}
	})
}

func TestRefused(t *testing.T) {
	entry := func(dtype, shape string, begin, end int) string {
		return fmt.Sprintf(`{"dtype":%q,"shape":%s,"data_offsets":[%d,%d]}`, dtype, shape, begin, end)
	}
	for _, c := range []struct{ name, header, data, want string }{
		{"other type", `{"a":` + entry("F8_E4M3", "[4]", 0, 4) + `}`, "1234", "F8_E4M3"},
		{"negative", `{"a":` + entry("U8", "[-1,-4]", 0, 4) + `}`, "1234", "negative"},
		{"overflow", `{"a":` + entry("F32", "[4611686018427387904,4]", 0, 4) + `}`, "1234", "too large"},
		{"out of bounds", `{"a":` + entry("U8", "[8]", 0, 8) + `}`, "1234", "cut short"},
		{"backwards", `{"a":` + entry("U8", "[4]", 4, 0) + `}`, "1234", "cut short or damaged"},
		{"overlap", `{"a":` + entry("U8", "[3]", 0, 3) + `,"b":` + entry("U8", "[2]", 2, 4) + `}`, "1234", "overlap"},
		{"hole", `{"a":` + entry("U8", "[1]", 0, 1) + `,"b":` + entry("U8", "[2]", 2, 4) + `}`, "1234", "hole"},
		{"rest", `{"a":` + entry("U8", "[1]", 0, 1) + `}`, "1234", "belong to none"},
		{"wrong length", `{"a":` + entry("F32", "[2]", 0, 4) + `}`, "1234", "takes 8 bytes"},
		{"twice", `{"a":` + entry("U8", "[4]", 0, 4) + `,"a":` + entry("U8", "[4]", 0, 4) + `}`, "1234", "twice"},
		{"fields missing", `{"a":{"dtype":"U8"}}`, "", "needs dtype"},
		{"offset negative", `{"a":` + entry("U8", "[4]", -4, 0) + `}`, "1234", `tensor "a"`},
		{"metadata not text", `{"__metadata__":{"a":1}}`, "", "__metadata__"},
		{"two values", `{} {}`, "", "after the closing brace"},
		{"array", `[]`, "", "does not start with {"},
		{"no JSON", `{"a"`, "", "header"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := binary.LittleEndian.AppendUint64(nil, uint64(len(c.header)))
			path := filepath.Join(t.TempDir(), "x.safetensors")
			if err := os.WriteFile(path, append(append(file, c.header...), c.data...), 0o666); err != nil {
				t.Fatal(err)
			}
			_, err := Open(path)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Fatalf("got %v, want an error with %q and the path", err, c.want)
			}
		})
	}
	for name, content := range map[string][]byte{
		"empty":       nil,
		"short":       []byte("1234567"),
		"huge header": binary.LittleEndian.AppendUint64(nil, 1<<60),
		"cut header":  binary.LittleEndian.AppendUint64(nil, 100),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.safetensors")
			if err := os.WriteFile(path, content, 0o666); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(path); err == nil {
				t.Fatal("opened")
			}
		})
	}
}

func TestWriteRefuses(t *testing.T) {
	ok := FromFloat32("a", []float32{1}, 1)
	for name, c := range map[string][]Tensor{
		"twice":    {ok, ok},
		"reserved": {FromFloat32(metadataKey, []float32{1}, 1)},
		"size":     {FromFloat32("a", []float32{1}, 2)},
	} {
		path := filepath.Join(t.TempDir(), "x.safetensors")
		if err := Write(path, c, nil); err == nil {
			t.Errorf("%s: written", name)
		}
		if files, _ := os.ReadDir(filepath.Dir(path)); len(files) > 0 {
			t.Errorf("%s: left %v", name, files)
		}
	}
}

// The layout that the Python library writes, byte by byte: wide types first,
// header padded to eight.
func TestLayout(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	err := Write(path, []Tensor{
		{Name: "b", DType: U8, Shape: []int64{3}, Data: []byte{1, 2, 3}},
		FromFloat32("z", []float32{1.5}),
		FromFloat32("a", []float32{-2}, 1, 1),
	}, map[string]string{"format": "pt"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	header := `{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},` +
		`"z":{"dtype":"F32","shape":[],"data_offsets":[4,8]},"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}}`
	for len(header)%8 != 0 {
		header += " "
	}
	want := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	want = append(want, 0, 0, 0, 0xc0, 0, 0, 0xc0, 0x3f, 1, 2, 3)
	if !bytes.Equal(got, want) {
		t.Fatalf("got  %q\nwant %q", got, want)
	}
}

func TestFloat32(t *testing.T) {
	for _, c := range []struct {
		d    DType
		bits uint64
		want float32
	}{
		{F64, math.Float64bits(-0.1), -0.1},
		{F32, uint64(math.Float32bits(3.25)), 3.25},
		{BF16, 0x3fc0, 1.5},
		{BF16, 0xff80, float32(math.Inf(-1))},
		{F16, 0x3c00, 1},
		{F16, 0xc000, -2},
		{F16, 0x7bff, 65504},
		{F16, 0x0001, 0x1p-24},
		{F16, 0x83ff, -1023 * 0x1p-24},
		{F16, 0x7c00, float32(math.Inf(1))},
		{F16, 0x8000, float32(math.Copysign(0, -1))},
	} {
		data := binary.LittleEndian.AppendUint64(nil, c.bits)[:c.d.Size()]
		got, err := Tensor{Name: "x", DType: c.d, Data: data}.Float32()
		if err != nil || len(got) != 1 || math.Float32bits(got[0]) != math.Float32bits(c.want) {
			t.Errorf("%s %#x: got %v (%v), want %v", c.d, c.bits, got, err, c.want)
		}
	}
	if got, err := (Tensor{DType: F16, Data: []byte{1, 0x7e}}).Float32(); err != nil || got[0] == got[0] {
		t.Errorf("NaN became %v (%v)", got, err)
	}
	if _, err := (Tensor{Name: "x", DType: I32, Data: make([]byte, 4)}).Float32(); err == nil {
		t.Error("integers converted")
	}
}

func TestFinite(t *testing.T) {
	for _, c := range []struct {
		d    DType
		bits uint64
		want bool
	}{
		{F64, math.Float64bits(1e308), true},
		{F64, math.Float64bits(math.Inf(-1)), false},
		{F32, uint64(math.Float32bits(math.MaxFloat32)), true},
		{F32, uint64(math.Float32bits(float32(math.NaN()))), false},
		{F32, uint64(math.Float32bits(float32(math.Inf(1)))), false},
		{BF16, 0x7f7f, true},
		{BF16, 0xff80, false},
		{F16, 0x7bff, true},
		{F16, 0xfe00, false},
		{I64, math.MaxUint64, true},
		{U8, 0xff, true},
	} {
		data := binary.LittleEndian.AppendUint64(nil, c.bits)[:c.d.Size()]
		ones := make([]byte, 2*c.d.Size())
		if got := (Tensor{DType: c.d, Data: append(ones, data...)}).Finite(); got != c.want {
			t.Errorf("%s %#x: finite %v", c.d, c.bits, got)
		}
	}
}
