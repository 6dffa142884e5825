package safetensors

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strconv"
)

// sealKey is the entry of the metadata that holds the seal.
const sealKey = "sha256"

// ErrNoSeal is the result of Verify for a file without a seal.
var ErrNoSeal = errors.New("it has no digest of its content")

// WriteSealed is Write with a digest of all metadata and tensors in the
// metadata, which Verify compares. It returns the digest.
func WriteSealed(path string, tensors []Tensor, metadata map[string]string) (string, error) {
	sorted := slices.Clone(tensors)
	slices.SortStableFunc(sorted, order)
	metadata = maps.Clone(metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	seal := sealOf(sorted, metadata)
	metadata[sealKey] = seal
	return seal, Write(path, sorted, metadata)
}

// Seal is the digest that the file came with, "" if it came without one.
func (f *File) Seal() string { return f.metadata[sealKey] }

// Sum is the SHA-256 of the whole file, in hex, as other tools compute it.
func (f *File) Sum() string {
	sum := sha256.Sum256(f.whole)
	return hex.EncodeToString(sum[:])
}

// Verify compares the content with the digest that the file came with. It reads
// all of the file. The error is ErrNoSeal where there is no digest.
func (f *File) Verify() error {
	if f.Seal() == "" {
		return ErrNoSeal
	}
	var tensors []Tensor
	for _, name := range f.names {
		tensors = append(tensors, f.tensors[name])
	}
	slices.SortStableFunc(tensors, order)
	if now := sealOf(tensors, f.metadata); now != f.Seal() {
		return fmt.Errorf("its content was changed after it was written: the SHA-256 is %.12s, it was %.12s", now, f.Seal())
	}
	return nil
}

// sealOf is SHA-256 over metadata and tensors in the order of the file, each text
// with its length, so that no two contents give the same bytes.
func sealOf(sorted []Tensor, metadata map[string]string) string {
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		if key != sealKey {
			part(h, []byte(key))
			part(h, []byte(metadata[key]))
		}
	}
	for _, t := range sorted {
		part(h, []byte(t.Name))
		part(h, []byte(t.DType))
		shape := make([]byte, 0, 32)
		for _, d := range t.Shape {
			shape = append(strconv.AppendInt(shape, d, 10), ' ')
		}
		part(h, shape)
		part(h, t.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func part(h hash.Hash, b []byte) {
	var size [8]byte
	binary.LittleEndian.PutUint64(size[:], uint64(len(b)))
	h.Write(size[:])
	h.Write(b)
}
