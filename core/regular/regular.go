// Package regular opens files that hold content of their own, and nothing else.
// Where a user or a data set names a pipe, a device, a socket or a directory,
// opening it can wait for ever or have side effects, and reading it need not end.
package regular

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Open opens a regular file, or a link to one, for reading. It never blocks: it
// opens nothing that Stat does not call regular, and what takes the file's place
// between the two is opened without waiting and refused.
func Open(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if err := Check(path, info); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil {
		err = Check(path, info)
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

// Read returns the content of a regular file of at most limit bytes.
func Read(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var content bytes.Buffer
	content.Grow(int(min(info.Size(), limit)) + bytes.MinRead)
	if _, err := content.ReadFrom(io.LimitReader(f, limit+1)); err != nil {
		return nil, err
	}
	if int64(content.Len()) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes, the most that is read here", path, limit)
	}
	return content.Bytes(), nil
}

// Error is what is no regular file.
type Error struct{ Path, Kind string }

func (e *Error) Error() string { return fmt.Sprintf("%s is %s, not a regular file", e.Path, e.Kind) }

// Check returns an *Error for whatever is no regular file.
func Check(path string, info fs.FileInfo) error {
	if kind := kindOf(info.Mode()); kind != "" {
		return &Error{path, kind}
	}
	return nil
}

// kindOf says what else than a regular file it is; "" of a regular file.
func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return ""
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	case mode&fs.ModeSymlink != 0:
		return "a link"
	}
	return "something else"
}
