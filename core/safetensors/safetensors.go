// Package safetensors reads and writes the file format of that name: a JSON
// header that says where each tensor lies, then the bytes of all tensors.
//
// Files are mapped into memory, not read: opening 350 MB of weights costs the
// header, and pages come in as they are used. What is written is the same
// bytes for the same tensors, replaces the file in one step, and opens with
// the Python library of Hugging Face. What is read is checked as strictly as
// that library does, because weight files come from elsewhere: header size,
// types, shapes, and that the tensors cover the data exactly once.
package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
)

// MaxHeader is the largest header that is accepted, in bytes; the limit of the
// reference implementation.
const MaxHeader = 25_000_000

// DType is the type of a tensor's elements by its name in the file.
type DType string

// Types of elements. All are little endian.
const (
	F64  DType = "F64"
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
	I64  DType = "I64"
	I32  DType = "I32"
	I16  DType = "I16"
	I8   DType = "I8"
	U8   DType = "U8"
	Bool DType = "BOOL"
)

// Size is the bytes of one element, 0 for a type that is not supported.
func (d DType) Size() int {
	switch d {
	case F64, I64:
		return 8
	case F32, I32:
		return 4
	case F16, BF16, I16:
		return 2
	case I8, U8, Bool:
		return 1
	}
	return 0
}

// Tensor is a named array, row major, with its elements as bytes in little
// endian. A shape without dimensions is a scalar.
type Tensor struct {
	Name  string
	DType DType
	Shape []int64
	// Data of a tensor from a File aliases the mapping: read only, and invalid
	// once the file is closed.
	Data []byte
}

// Len is the number of elements.
func (t Tensor) Len() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// FromFloat32 makes an F32 tensor of a copy of values.
func FromFloat32(name string, values []float32, shape ...int64) Tensor {
	data := make([]byte, 4*len(values))
	for i, v := range values {
		b := math.Float32bits(v)
		data[4*i], data[4*i+1], data[4*i+2], data[4*i+3] = byte(b), byte(b>>8), byte(b>>16), byte(b>>24)
	}
	return Tensor{Name: name, DType: F32, Shape: slices.Clone(shape), Data: data}
}

// Float32 converts the elements of a floating point tensor; F64 is rounded,
// the others are exact.
func (t Tensor) Float32() ([]float32, error) {
	size := t.DType.Size()
	if size == 0 || len(t.Data)%size != 0 {
		return nil, fmt.Errorf("tensor %s: %d bytes are no %s elements", t.Name, len(t.Data), t.DType)
	}
	out := make([]float32, len(t.Data)/size)
	d := t.Data
	switch t.DType {
	case F64:
		for i := range out {
			lo, hi := le32(d[8*i:]), le32(d[8*i+4:])
			out[i] = float32(math.Float64frombits(uint64(hi)<<32 | uint64(lo)))
		}
	case F32:
		for i := range out {
			out[i] = math.Float32frombits(le32(d[4*i:]))
		}
	case BF16:
		for i := range out {
			out[i] = math.Float32frombits(uint32(le16(d[2*i:])) << 16)
		}
	case F16:
		for i := range out {
			out[i] = half(le16(d[2*i:]))
		}
	default:
		return nil, fmt.Errorf("tensor %s: type %s is not floating point", t.Name, t.DType)
	}
	return out, nil
}

// Finite reports whether no element is infinite or NaN. Integers are finite.
func (t Tensor) Finite() bool {
	var exponent uint64
	switch t.DType {
	case F64:
		exponent = 0x7ff << 52
	case F32:
		exponent = 0xff << 23
	case BF16:
		exponent = 0xff << 7
	case F16:
		exponent = 0x1f << 10
	default:
		return true
	}
	d := t.Data
	switch t.DType.Size() {
	case 8:
		for ; len(d) >= 8; d = d[8:] {
			if binary.LittleEndian.Uint64(d)&exponent == exponent {
				return false
			}
		}
	case 4:
		for ; len(d) >= 4; d = d[4:] {
			if binary.LittleEndian.Uint32(d)&uint32(exponent) == uint32(exponent) {
				return false
			}
		}
	default:
		for ; len(d) >= 2; d = d[2:] {
			if binary.LittleEndian.Uint16(d)&uint16(exponent) == uint16(exponent) {
				return false
			}
		}
	}
	return true
}

func le16(b []byte) uint16 { return uint16(b[0]) | uint16(b[1])<<8 }

func le32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

// half widens an IEEE 754 binary16: 1 sign, 5 exponent, 10 mantissa bits.
func half(h uint16) float32 {
	sign := uint32(h>>15) << 31
	exponent := uint32(h>>10) & 0x1f
	mantissa := uint32(h) & 0x3ff
	switch exponent {
	case 0: // zero and subnormals: mantissa × 2⁻²⁴
		f := float32(mantissa) * 0x1p-24
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 0x1f: // infinities and NaN, payload kept
		return math.Float32frombits(sign | 0xff<<23 | mantissa<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | mantissa<<13)
}

// byteLen is how many bytes a tensor of this type and shape takes. It refuses
// negative dimensions and sizes beyond what an int can index.
func byteLen(d DType, shape []int64) (int, error) {
	size := d.Size()
	if size == 0 {
		return 0, fmt.Errorf("type %q is not one of F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL", d)
	}
	n := int64(size)
	empty := false
	for _, v := range shape {
		if v < 0 {
			return 0, fmt.Errorf("shape %v has a negative dimension", shape)
		}
		if v == 0 {
			empty = true
			continue
		}
		if n > math.MaxInt/v {
			return 0, fmt.Errorf("shape %v is too large", shape)
		}
		n *= v
	}
	if empty {
		return 0, nil
	}
	return int(n), nil
}

// order is how tensors lie in a file: wide types first, so that every element
// is aligned, then by name.
func order(a, b Tensor) int {
	if d := b.DType.Size() - a.DType.Size(); d != 0 {
		return d
	}
	return strings.Compare(a.Name, b.Name)
}
