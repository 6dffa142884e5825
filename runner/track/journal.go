package track

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
)

// journal reads a journal that grows, and that is cut back when a run continues.
type journal struct {
	path   string
	offset int64  // behind the last whole line that was read
	last   []byte // that line
	buf    []byte // kept from look to look
}

// chunk is how much is read at once: more than a run writes from look to look.
const chunk = 1 << 16

// read calls see with each whole line that was not read yet. It calls again first,
// and begins with the first line, where what was read is not there any more. A journal
// that is not there has no lines.
func (j *journal) read(again func(), see func(line []byte) error) error {
	file, err := os.Open(j.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if j.buf == nil {
		j.buf = make([]byte, chunk)
	}
	for {
		// The line read last is read again with what follows it: where it is not at its
		// place, the journal was cut, and what follows belongs to other steps.
		from := j.offset - int64(len(j.last))
		for len(j.buf) < len(j.last)+chunk/2 {
			j.buf = make([]byte, 2*len(j.buf))
		}
		n, err := file.ReadAt(j.buf, from)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if !bytes.HasPrefix(j.buf[:n], j.last) {
			again()
			j.offset, j.last = 0, nil
			continue
		}
		text := j.buf[len(j.last):n]
		end := bytes.LastIndexByte(text, '\n') + 1
		if end == 0 && n == len(j.buf) { // one line that is longer
			j.buf = make([]byte, 2*len(j.buf))
			continue
		}
		for line := range bytes.Lines(text[:end]) {
			if err := see(line); err != nil {
				return err
			}
			j.offset += int64(len(line))
			j.last = append(j.last[:0], line...)
		}
		if n < len(j.buf) {
			return nil
		}
	}
}
