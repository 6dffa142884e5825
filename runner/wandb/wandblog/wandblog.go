// Package wandblog writes and reads the log of a Weights & Biases run, the file
// run-ID.wandb. The official client writes the same file and `wandb sync` sends it.
//
// A log is a sequence of records. Each record is a protobuf message (record.go),
// which is cut into chunks that lie in blocks of 32 KiB, as in the logs of LevelDB
// (frame.go). The checksum of a chunk is CRC-32 with the polynomial of IEEE; LevelDB
// uses Castagnoli's.
//
// The numbers of fields are those of wandb_internal.proto of the client 0.31.0. The
// types here have the fields that loralab writes and those that describe a run;
// reading skips all others.
package wandblog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// ErrIncomplete says that a log ends before its last record does: its process was
// killed, or is still writing. The reader keeps its place, so that the record can be
// read later.
var ErrIncomplete = errors.New("the log ends within a record")

// Writer appends records to a new log. Its methods can be called at the same time.
type Writer struct {
	mu    sync.Mutex
	file  *os.File
	size  int64 // of what is written
	num   int64 // of the last record
	fault error // the first error of a write; no record can follow it
}

// Create makes a new log. It fails if the file exists.
func Create(path string) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(fileHeader); err != nil {
		f.Close()
		os.Remove(path)
		return nil, err
	}
	return &Writer{file: f, size: int64(len(fileHeader))}, nil
}

// File is the open file of the log.
func (w *Writer) File() *os.File { return w.file }

// Append numbers a record and writes it, in one write. What a killed process
// has appended is in the file; nothing waits in a buffer.
func (w *Writer) Append(r *Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fault != nil {
		return w.fault
	}
	r.Num = w.num + 1
	message, err := r.Marshal()
	if err != nil {
		return err
	}
	framed := appendFrame(nil, message, w.size)
	if n, err := w.file.Write(framed); err != nil {
		// A part of a record is in the file. Nothing can follow it.
		w.size += int64(n)
		w.fault = fmt.Errorf("writing the log: %w", err)
		return w.fault
	}
	w.size += int64(len(framed))
	w.num++
	return nil
}

// Close closes the file. Records that are appended afterwards are errors.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fault == nil {
		w.fault = os.ErrClosed
	}
	return w.file.Close()
}

// Reader reads the records of a log, also of one that is still being written.
type Reader struct {
	file   io.ReaderAt
	offset int64 // of the next chunk
}

// NewReader checks the header of a log.
func NewReader(file io.ReaderAt) (*Reader, error) {
	header := make([]byte, len(fileHeader))
	if n, err := file.ReadAt(header, 0); n < len(header) {
		if err == io.EOF {
			return nil, ErrIncomplete
		}
		return nil, err
	}
	if string(header) != string(fileHeader) {
		return nil, errors.New("the file is no log of W&B: it does not start with :W&B")
	}
	return &Reader{file: file, offset: int64(len(header))}, nil
}

// Next returns the next record. The error is io.EOF at the end of the log,
// ErrIncomplete if the log ends within a record, and a *DamagedError for a record
// that cannot be read. After any of these Next can be called again: it continues at the
// same place, or after the damage.
func (r *Reader) Next() (*Record, error) {
	message, next, err := readFrame(r.file, r.offset)
	if err != nil {
		if damaged := new(DamagedError); errors.As(err, &damaged) {
			r.offset = next
		}
		return nil, err
	}
	at := r.offset
	r.offset = next
	record := new(Record)
	if err := record.Unmarshal(message); err != nil {
		return nil, &DamagedError{At: at, What: err.Error()}
	}
	return record, nil
}

// Offset is where the next record starts, in bytes.
func (r *Reader) Offset() int64 { return r.offset }

// ReadRun reads what the log at a path says first of its run.
func ReadRun(path string) (*Run, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := NewReader(f)
	for err == nil {
		var record *Record
		if record, err = r.Next(); err == nil && record.Run != nil {
			return record.Run, nil
		}
	}
	return nil, fmt.Errorf("reading the run of a log: %w", err)
}

// ReadFile returns all records of a log. If the log ends within a record, the records
// before it come with ErrIncomplete.
func ReadFile(path string) (records []*Record, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for {
		record, err := r.Next()
		if err == io.EOF {
			return records, nil
		} else if err != nil {
			return records, fmt.Errorf("%s: %w", path, err)
		}
		records = append(records, record)
	}
}
