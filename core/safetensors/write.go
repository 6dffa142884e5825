package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/loralab/loralab/core/replacefile"
)

// Write replaces the file at path by these tensors, in one step: after a crash
// there is either the old file or the new one. Equal tensors and metadata give
// equal bytes, whatever their order.
func Write(path string, tensors []Tensor, metadata map[string]string) error {
	sorted := slices.Clone(tensors)
	slices.SortStableFunc(sorted, order)
	header, err := encodeHeader(sorted, metadata)
	if err != nil {
		return fmt.Errorf("writing weights %s: %w", path, err)
	}
	return replacefile.WriteFunc(path, func(w io.Writer) error { return encode(w, header, sorted) })
}

// encode writes a file from its parts.
func encode(w io.Writer, header []byte, sorted []Tensor) error {
	if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))); err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	for _, t := range sorted {
		if _, err := w.Write(t.Data); err != nil {
			return err
		}
	}
	return nil
}

// encodeHeader checks the tensors and says where each will lie. The header is
// padded with spaces to a multiple of eight, so that the data is aligned.
func encodeHeader(sorted []Tensor, metadata map[string]string) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	if len(metadata) > 0 {
		text, err := json.Marshal(metadata) // sorts the keys
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%q:%s", metadataKey, text)
	}
	seen := make(map[string]bool, len(sorted))
	offset := 0
	for _, t := range sorted {
		switch n, err := byteLen(t.DType, t.Shape); {
		case err != nil:
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		case n != len(t.Data):
			return nil, fmt.Errorf("tensor %q: %s %v takes %d bytes, it has %d", t.Name, t.DType, t.Shape, n, len(t.Data))
		case t.Name == metadataKey:
			return nil, fmt.Errorf("tensor %q: the name is reserved", t.Name)
		case seen[t.Name]:
			return nil, fmt.Errorf("tensor %q: the name occurs twice", t.Name)
		}
		seen[t.Name] = true
		shape := t.Shape
		if shape == nil {
			shape = []int64{}
		}
		name, err := json.Marshal(t.Name)
		if err != nil {
			return nil, err
		}
		entry, err := json.Marshal(struct {
			DType   DType   `json:"dtype"`
			Shape   []int64 `json:"shape"`
			Offsets [2]int  `json:"data_offsets"`
		}{t.DType, shape, [2]int{offset, offset + len(t.Data)}})
		if err != nil {
			return nil, err
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(entry)
		offset += len(t.Data)
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	if b.Len() > MaxHeader {
		return nil, fmt.Errorf("a header of %d bytes, above the limit of %d", b.Len(), MaxHeader)
	}
	return b.Bytes(), nil
}
