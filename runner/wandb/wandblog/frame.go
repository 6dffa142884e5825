package wandblog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	blockSize   = 32768
	chunkHeader = 7 // checksum (4 bytes), length (2), kind (1), little-endian
)

// fileHeader starts every log. It counts as a part of the first block.
var fileHeader = []byte{':', 'W', '&', 'B', 0xE1, 0xBE, 0}

// Kinds of chunks: a whole record, or the first, an inner and the last part of one.
const (
	full   = 1
	first  = 2
	middle = 3
	last   = 4
)

// DamagedError says that a part of a log cannot be read.
type DamagedError struct {
	At   int64 // bytes from the start of the file
	What string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the log is damaged at byte %d: %s", e.At, e.What)
}

// appendFrame appends a record as chunks, of which the first starts at a place in the
// file, in bytes.
func appendFrame(out, message []byte, at int64) []byte {
	start := true
	for {
		room := blockSize - int(at%blockSize)
		if room < chunkHeader {
			out = append(out, make([]byte, room)...)
			at, room = at+int64(room), blockSize
		}
		part := min(len(message), room-chunkHeader)
		kind := byte(middle)
		switch end := part == len(message); {
		case start && end:
			kind = full
		case start:
			kind = first
		case end:
			kind = last
		}
		out = binary.LittleEndian.AppendUint32(out, checksum(kind, message[:part]))
		out = binary.LittleEndian.AppendUint16(out, uint16(part))
		out = append(out, kind)
		out = append(out, message[:part]...)
		at += int64(chunkHeader + part)
		message, start = message[part:], false
		if kind == full || kind == last {
			return out
		}
	}
}

func checksum(kind byte, part []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE([]byte{kind}), crc32.IEEETable, part)
}

// readFrame reads the record whose chunks start at a place in the file, and returns
// where the next one starts. With a DamagedError, next is where reading can continue:
// at the next chunk, or at the next block if the place of the next chunk is not known.
func readFrame(file io.ReaderAt, at int64) (message []byte, next int64, err error) {
	begin, started := at, false
	damaged := func(next int64, format string, values ...any) ([]byte, int64, error) {
		return nil, next, &DamagedError{At: at, What: fmt.Sprintf(format, values...)}
	}
	// end is the error where the file ends.
	end := func(n int, err error) error {
		switch {
		case err != nil && err != io.EOF:
			return err
		case n == 0 && !started:
			return io.EOF
		}
		return ErrIncomplete
	}
	for {
		if room := blockSize - at%blockSize; room < chunkHeader {
			at += room
		}
		var header [chunkHeader]byte
		if n, err := file.ReadAt(header[:], at); n < len(header) {
			return nil, begin, end(n, err)
		}
		block := at - at%blockSize + blockSize // the next one
		sum, length, kind := binary.LittleEndian.Uint32(header[:]), int64(binary.LittleEndian.Uint16(header[4:])), header[6]
		if at%blockSize+chunkHeader+length > blockSize {
			return damaged(block, "a chunk of %d bytes is longer than its block", length)
		}
		if kind < full || kind > last {
			return damaged(block, "a chunk of unknown kind %d", kind)
		}
		if inner := kind == middle || kind == last; inner != started {
			if !started { // the rest of a record whose start was damaged
				return damaged(at+chunkHeader+length, "a part of a record without its start")
			}
			return damaged(at, "a record without its end")
		}
		part := make([]byte, length)
		if n, err := file.ReadAt(part, at+chunkHeader); n < len(part) {
			started = true
			return nil, begin, end(n, err)
		}
		if checksum(kind, part) != sum {
			return damaged(block, "a checksum does not match")
		}
		at += chunkHeader + length
		message, started = append(message, part...), true
		if kind == full || kind == last {
			return message, at, nil
		}
	}
}
