package safetensors

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// A changed bit is noticed wherever it lies: in the metadata, a name, a shape, the
// data (trial-reliability 3, trial-data U7).
func TestSealNoticesEveryByte(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	seal, err := WriteSealed(path, []Tensor{
		FromFloat32("b", []float32{1, 2, 3}, 3), FromFloat32("a", []float32{4, 5}, 1, 2),
	}, map[string]string{"step": "12"})
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(content)
	if err != nil || f.Verify() != nil || f.Seal() != seal || f.Metadata()["step"] != "12" {
		t.Fatalf("%v, %v, %q", err, f.Verify(), f.Seal())
	}
	for at := range content {
		for bit := range 8 {
			damaged := append([]byte(nil), content...)
			damaged[at] ^= 1 << bit
			// White space in the header, and an escape in its place, say nothing.
			if g, err := Parse(damaged); err == nil && g.Verify() == nil && !(reflect.DeepEqual(f.tensors, g.tensors) && reflect.DeepEqual(f.metadata, g.metadata)) {
				t.Fatalf("byte %d, bit %d: %q became %q, which is not noticed", at, bit, content[at], damaged[at])
			}
		}
	}
}

func TestSealOfOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := Write(path, []Tensor{FromFloat32("a", []float32{1}, 1)}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Verify(); !errors.Is(err, ErrNoSeal) {
		t.Errorf("got %v", err)
	}
}

func BenchmarkSeal(b *testing.B) {
	data := make([]byte, 350<<20) // the weights of a ViT-B
	ts := []Tensor{{Name: "a", DType: U8, Shape: []int64{int64(len(data))}, Data: data}}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		sealOf(ts, nil)
	}
}
