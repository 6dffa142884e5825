package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/loralab/loralab/core/regular"
)

// File is an open file. It may be read from several goroutines at once.
type File struct {
	whole    []byte // the file
	mapped   []byte // nil if it was not mapped
	tensors  map[string]Tensor
	names    []string // sorted
	metadata map[string]string
}

// metadataKey is the entry of the header that is no tensor.
const metadataKey = "__metadata__"

// Open maps a file and checks its header. The file must not be truncated or
// written in place while it is open; replacing it by renaming another over it
// is harmless.
func Open(path string) (*File, error) {
	f, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("opening weights %s: %w", path, err)
	}
	return f, nil
}

func open(path string) (*File, error) {
	fd, err := regular.Open(path)
	if err != nil {
		return nil, err
	}
	defer fd.Close() // the mapping outlives the descriptor
	return mapped(fd)
}

// Map is Open for a file that is open already, which stays the caller's.
func Map(fd *os.File) (*File, error) {
	f, err := mapped(fd)
	if err != nil {
		return nil, fmt.Errorf("opening weights %s: %w", fd.Name(), err)
	}
	return f, nil
}

// Parse reads a whole file from memory, which the tensors alias.
func Parse(content []byte) (*File, error) {
	f, err := parse(content)
	if err != nil {
		return nil, &FormatError{err}
	}
	f.whole = content
	return f, nil
}

func mapped(fd *os.File) (*File, error) {
	info, err := fd.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < 8 {
		return nil, &FormatError{fmt.Errorf("not a safetensors file: it has %d bytes, its header alone takes more", info.Size())}
	}
	mapped, err := unix.Mmap(int(fd.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping into memory: %w", err)
	}
	f, err := parse(mapped)
	if err != nil {
		if e := unix.Munmap(mapped); e != nil {
			return nil, e
		}
		return nil, &FormatError{err}
	}
	f.whole, f.mapped = mapped, mapped
	return f, nil
}

// FormatError tells of a file that could be read and is none of the format, or a
// damaged one.
type FormatError struct{ err error }

func (e *FormatError) Error() string { return e.err.Error() }
func (e *FormatError) Unwrap() error { return e.err }

// parse reads the header of a whole file; the tensors alias it.
func parse(file []byte) (*File, error) {
	if len(file) < 8 {
		return nil, errors.New("not a safetensors file: no header")
	}
	size := binary.LittleEndian.Uint64(file)
	if size > MaxHeader {
		return nil, fmt.Errorf("not a safetensors file: a header of %d bytes, above the limit of %d", size, MaxHeader)
	}
	if size > uint64(len(file)-8) {
		return nil, fmt.Errorf("file is cut short: its header takes %d bytes, %d are there", size, len(file)-8)
	}
	header, data := file[8:8+size], file[8+size:]
	if len(header) == 0 || header[0] != '{' {
		return nil, errors.New("not a safetensors file: the header does not start with {")
	}

	f := &File{tensors: map[string]Tensor{}, metadata: map[string]string{}}
	spans, err := f.readHeader(header)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	// In the order of the data each tensor must begin where the one before it
	// ended. That excludes overlaps, holes and offsets out of bounds in one go.
	slices.SortFunc(spans, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end))
	})
	end := uint64(0)
	for _, s := range spans {
		t := f.tensors[s.name]
		n, err := byteLen(t.DType, t.Shape)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", s.name, err)
		}
		switch {
		case s.end < s.begin || s.end > uint64(len(data)):
			return nil, fmt.Errorf("tensor %q: bytes %d to %d, of %d that the file has; it is cut short or damaged",
				s.name, s.begin, s.end, len(data))
		case s.begin != end:
			return nil, fmt.Errorf("tensor %q: begins at byte %d where %d was expected: tensors overlap or leave a hole",
				s.name, s.begin, end)
		case s.end-s.begin != uint64(n):
			return nil, fmt.Errorf("tensor %q: %s %v takes %d bytes, the file gives it %d",
				s.name, t.DType, t.Shape, n, s.end-s.begin)
		}
		t.Data = data[s.begin:s.end:s.end]
		f.tensors[s.name] = t
		end = s.end
	}
	if end != uint64(len(data)) {
		return nil, fmt.Errorf("%d bytes after the last tensor belong to none", uint64(len(data))-end)
	}
	f.names = slices.Sorted(maps.Keys(f.tensors))
	return f, nil
}

// span is where the data of a tensor lies.
type span struct {
	name       string
	begin, end uint64
}

// readHeader fills in all but the data. It goes through the object key by key
// because encoding/json silently takes the last of two equal keys.
func (f *File) readHeader(header []byte) ([]span, error) {
	var spans []span
	dec := json.NewDecoder(bytes.NewReader(header))
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	seenMetadata := false
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := key.(string)
		if name == metadataKey {
			if seenMetadata {
				return nil, errors.New(metadataKey + " occurs twice")
			}
			seenMetadata = true
			if err := dec.Decode(&f.metadata); err != nil {
				return nil, fmt.Errorf("%s: %w", metadataKey, err)
			}
			if f.metadata == nil { // null
				f.metadata = map[string]string{}
			}
			continue
		}
		if _, twice := f.tensors[name]; twice {
			return nil, fmt.Errorf("tensor %q occurs twice", name)
		}
		// A struct would take "DType" for "dtype", which the format does not.
		var entry map[string]json.RawMessage
		if err := dec.Decode(&entry); err != nil {
			return nil, fmt.Errorf("tensor %q: %w", name, err)
		}
		var dtype *DType
		var shape *[]int64
		var offsets *[]uint64
		for key, into := range map[string]any{"dtype": &dtype, "shape": &shape, "data_offsets": &offsets} {
			if text, ok := entry[key]; ok {
				if err := json.Unmarshal(text, into); err != nil {
					return nil, fmt.Errorf("tensor %q: %s: %w", name, key, err)
				}
			}
		}
		if dtype == nil || shape == nil || offsets == nil || len(*offsets) != 2 {
			return nil, fmt.Errorf("tensor %q: needs dtype, shape and two data_offsets", name)
		}
		f.tensors[name] = Tensor{Name: name, DType: *dtype, Shape: *shape}
		spans = append(spans, span{name, (*offsets)[0], (*offsets)[1]})
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the closing brace")
	}
	return spans, nil
}

// Names of all tensors, sorted. The caller may keep and change the slice.
func (f *File) Names() []string { return slices.Clone(f.names) }

// Get returns a tensor. Its data aliases the file.
func (f *File) Get(name string) (Tensor, bool) {
	t, ok := f.tensors[name]
	return t, ok
}

// Metadata is the free text of the header, never nil.
func (f *File) Metadata() map[string]string { return maps.Clone(f.metadata) }

// Close unmaps the file. Data of its tensors must not be touched afterwards:
// the process would die.
func (f *File) Close() error {
	mapped := f.mapped
	f.whole, f.mapped, f.tensors, f.names = nil, nil, nil, nil
	if mapped == nil {
		return nil
	}
	return unix.Munmap(mapped)
}
