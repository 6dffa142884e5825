package tensorboard

import (
	"bufio"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// mostBytes of an event are believed; a longer one is damage.
const mostBytes = 1 << 30

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// masked is the CRC of a TFRecord: rotated and moved, so that the CRC of data which
// contains CRCs says something.
func masked(data []byte) uint32 {
	c := crc32.Checksum(data, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// appendFrame appends data as a TFRecord.
func appendFrame(to, data []byte) []byte {
	start := len(to)
	to = binary.LittleEndian.AppendUint64(to, uint64(len(data)))
	to = binary.LittleEndian.AppendUint32(to, masked(to[start:start+8]))
	to = append(to, data...)
	return binary.LittleEndian.AppendUint32(to, masked(data))
}

// readFrames calls see with the data of each whole frame, which is valid during the
// call, until see returns false, a CRC is wrong or the file ends. The error is of
// reading.
func readFrames(from io.Reader, see func(data []byte) bool) error {
	r := bufio.NewReaderSize(from, 1<<16)
	var head [12]byte
	var buf []byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return ofReading(err)
		}
		n := binary.LittleEndian.Uint64(head[:8])
		if binary.LittleEndian.Uint32(head[8:]) != masked(head[:8]) || n > mostBytes {
			return nil
		}
		if uint64(cap(buf)) < n+4 {
			buf = make([]byte, n+4)
		}
		buf = buf[:n+4]
		if _, err := io.ReadFull(r, buf); err != nil {
			return ofReading(err)
		}
		if binary.LittleEndian.Uint32(buf[n:]) != masked(buf[:n]) || !see(buf[:n]) {
			return nil
		}
	}
}

// ofReading leaves out the end of a file.
func ofReading(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
